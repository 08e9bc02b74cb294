//! Renders one unit against a state of the plan: the step the fixpoint repeats.

use std::sync::{Arc, Mutex, PoisonError};

use druse_flux::api::{HelmRelease, Kustomization, KustomizationSpec};
use druse_flux::envsubst::EnvsubstError;
use druse_flux::generator::BuildSettings;
use druse_flux::release::{CrdsPolicy, ReleaseHook, compose_values};
use druse_flux::{FluxError, generator, graph, labels, release, substitute};
use druse_gotemplate::env::Host;
use druse_helm::{Capabilities, Release, SeededHost};
use druse_kustomize::tree::FileTree;
use druse_object::{Map, Object, Value};

use crate::charts::FoundChart;
use crate::finish::{Fix, Head};
use crate::kinds::{crd_kind, crd_kinds};
use crate::memo::{Entry, Kept, Memo, Sought};
use crate::model::{ChartInfo, Fault, PlanOptions, ServedKind, SourceInfo, StandIn, UnitError, UnitId, UnitKind};
use crate::remote::Remotes;
use crate::secrets;
use crate::shared::Objects;
use crate::sources::{SourceFailure, SourceTree, Sources};
use crate::trace::{Trace, Watched};
use crate::world::{Name, Reads, Recorder, World};

/// What all renders of a plan share.
pub(crate) struct Context<'a> {
    pub(crate) sources: &'a Sources,
    pub(crate) options: &'a PlanOptions,
}

/// What one render of a unit gave.
#[derive(Clone, Default)]
pub(crate) struct Output {
    pub(crate) definition: Option<Arc<Object>>,
    pub(crate) objects: Objects,
    /// Whether the values of its Secrets are not among its objects: they are never kept on disk.
    pub(crate) withheld: bool,
    /// What its objects, then its hooks, said of themselves when they were rendered.
    pub(crate) heads: Vec<Head>,
    pub(crate) hooks: Vec<ReleaseHook>,
    pub(crate) errors: Vec<UnitError>,
    pub(crate) warnings: Vec<String>,
    pub(crate) unresolved: Vec<String>,
    pub(crate) source: Option<SourceInfo>,
    pub(crate) chart: Option<ChartInfo>,
    pub(crate) stand_in: Option<(StandIn, String)>,
    pub(crate) depends_on: Vec<UnitId>,
    pub(crate) suspended: bool,
    pub(crate) reads: Reads,
    /// The namespace of objects that name none.
    pub(crate) default_namespace: String,
    /// What other units may look up.
    pub(crate) named: Vec<(Name, Arc<Object>)>,
    /// Secrets that operators make of its objects, with placeholders for values.
    pub(crate) made: Vec<(Name, Arc<Object>)>,
    /// The units among its objects.
    pub(crate) units: Vec<(UnitId, Arc<Object>)>,
    /// The kinds its CRDs define.
    pub(crate) kinds: Vec<ServedKind>,
}

/// The unit that an object defines, if it defines one.
pub(crate) fn unit_id(object: &Object, default_namespace: &str) -> Option<UnitId> {
    let kind = if Kustomization::is(object) {
        UnitKind::Kustomization
    } else if HelmRelease::is(object) {
        UnitKind::HelmRelease
    } else {
        return None;
    };
    let namespace = if object.namespace().is_empty() { default_namespace } else { object.namespace() };
    Some(UnitId { kind, namespace: namespace.into(), name: object.name().into() })
}

/// Whether a unit may be given what it rendered to before.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recall {
    /// Yes, even without the values of its Secrets.
    Allowed,
    /// Yes, if the values of its Secrets are there.
    Clear,
    /// No.
    Never,
}

/// A unit as it was rendered, now or before.
#[derive(Default)]
pub(crate) struct Done {
    pub(crate) output: Arc<Output>,
    /// Its source, as it is now: the tree's revision is no part of what was rendered.
    pub(crate) source: Option<SourceInfo>,
    /// What was already changed in its objects, where it was rendered before.
    pub(crate) fixes: Option<Vec<Fix>>,
    /// What it asked of the tree; nothing where it reads another.
    pub(crate) trace: Arc<Trace>,
    /// Under what it can be given out again.
    story: Option<Story>,
}

struct Story {
    definition: Arc<Object>,
    setting: String,
    /// As what it is kept already.
    kept: Option<Arc<Entry>>,
    /// As what it is kept in the folder.
    in_folder: Kept,
}

impl Done {
    /// As what it is kept in the folder.
    pub(crate) fn kept(&self) -> Kept {
        self.story.as_ref().map(|story| story.in_folder).unwrap_or_default()
    }

    /// Keeps what was rendered for other plans, unless it is kept like this already.
    pub(crate) fn keep(self, memo: &Memo, id: &UnitId, fixes: Option<Vec<Fix>>) {
        let Some(Story { definition, setting, kept, in_folder }) = self.story else { return };
        if kept.as_ref().is_none_or(|kept| !Arc::ptr_eq(&kept.output, &self.output)) {
            let (trace, output) = (self.trace, self.output);
            let entry = Entry { kept: in_folder, definition, setting, trace, output, fixes };
            memo.keep(id, kept.as_ref(), entry);
        }
    }
}

/// What a unit's source reference led to; all that is left is to render.
enum Prepared {
    Kustomization(Box<Kustomization>, SourceTree),
    Release(Box<HelmRelease>, CrdsPolicy, Box<FoundChart>),
}

impl Prepared {
    /// All that rendering depends on besides the definition, the world and the tree; `None` when that is not known.
    fn setting(&self, options: &PlanOptions, out: &Output) -> Option<String> {
        // The tree's own revision changes nothing.
        let source = out.source.as_ref().map(|s| (&s.id, &s.url, (!s.is_tree).then_some(&s.revision)));
        let rest = match self {
            Self::Kustomization(_, source) => format!("{}\n{}", source.prefix, source.identity),
            Self::Release(_, _, chart) => format!("{}\n{:?}\n{:?}", chart.identity.as_ref()?, out.chart, out.kinds),
        };
        let keys = options.keys.fingerprint();
        Some(format!("{}\n{}\n{keys}\n{source:?}\n{rest}", options.kube_version.version, options.strict_substitution))
    }
}

/// Renders a unit.
pub(crate) fn render_unit(
    context: &Context<'_>,
    id: &UnitId,
    definition: &Arc<Object>,
    world: &World,
    recall: Recall,
) -> Done {
    let recorder = Recorder::new(world);
    // A definition that names no namespace lies in that of its id.
    let mut named = (**definition).clone();
    if named.namespace().is_empty()
        && let Some(meta) = named.metadata_mut()
    {
        meta.insert("namespace", id.namespace.clone());
    }
    let mut out = Output::default();
    let prepared = match id.kind {
        UnitKind::Kustomization => prepare_kustomization(context, &named, &recorder, &mut out),
        UnitKind::HelmRelease => prepare_release(context, &named, &recorder, &mut out),
    };
    let memo = context.sources.memo();
    let setting = match &prepared {
        Some(prepared) if memo.keeps_units() => prepared.setting(context.options, &out),
        _ => None,
    };
    let tree = match &prepared {
        Some(Prepared::Kustomization(_, source)) if source.info.is_tree => Some(Arc::clone(&source.tree)),
        _ => None,
    };
    if let Some(setting) = setting.as_deref().filter(|_| recall != Recall::Never) {
        let sought = Sought { id, definition, setting, tree: tree.as_deref(), world, clear: recall == Recall::Clear };
        let revive = |mut kept: Output| {
            // What preparing gave is no part of what is kept.
            kept.definition = Some(Arc::clone(definition));
            kept.depends_on.clone_from(&out.depends_on);
            kept.default_namespace.clone_from(&out.default_namespace);
            let app_version = kept.chart.take().unwrap_or_default().app_version;
            kept.chart = out.chart.clone().map(|info| ChartInfo { app_version, ..info });
            index_named(&mut kept);
            kept
        };
        if let Some(entry) = memo.find(&sought, revive) {
            let story = Story {
                definition: Arc::clone(definition),
                setting: setting.to_string(),
                kept: Some(Arc::clone(&entry)),
                in_folder: entry.kept,
            };
            let (output, trace) = (Arc::clone(&entry.output), Arc::clone(&entry.trace));
            return Done { output, source: out.source, fixes: entry.fixes.clone(), trace, story: Some(story) };
        }
    }
    let watched = tree.as_deref().map(Watched::new);
    if prepared.is_some() {
        memo.note_rendered(id);
    }
    match prepared {
        None => {}
        Some(Prepared::Kustomization(ks, source)) => {
            let tree = watched.as_ref().map_or(&*source.tree, |w| w as &dyn FileTree);
            render_kustomization(context, &ks, &source, tree, &recorder, &mut out);
        }
        Some(Prepared::Release(hr, crds, chart)) => {
            render_release(context, id, &hr, crds, &chart, &recorder, world, &mut out);
        }
    }
    let (api, all_api) = (std::mem::take(&mut out.reads.api), out.reads.all_api.take());
    let secret = out.reads.secret;
    out.reads = Reads { api, all_api, secret, ..recorder.into_reads() };
    out.definition = Some(Arc::clone(definition));
    let errors = std::mem::take(&mut out.errors);
    out.errors = errors.into_iter().map(|e| e.at(&definition.provenance)).collect();
    let name: Arc<str> = id.to_string().into();
    for o in out.objects.make_mut().iter_mut().chain(out.hooks.iter_mut().map(|h| &mut h.object)) {
        o.provenance.unit = Some(Arc::clone(&name));
    }
    index(&mut out);
    let source = out.source.clone();
    let trace = Arc::new(watched.map(Watched::into_trace).unwrap_or_default());
    let story = setting.map(|setting| {
        let in_folder = memo.store(id, definition, &setting, &out, &trace, world);
        Story { definition: Arc::clone(definition), setting, kept: None, in_folder }
    });
    Done { output: Arc::new(out), source, fixes: None, trace, story }
}

fn index(out: &mut Output) {
    out.heads = out.objects.iter().chain(out.hooks.iter().map(|h| &h.object)).map(Head::of).collect();
    out.kinds.extend(out.objects.iter().filter_map(crd_kind));
    index_named(out);
}

/// Finds what others look up among a unit's objects.
fn index_named(out: &mut Output) {
    for (at, head) in out.heads.iter().enumerate().take(out.objects.len()) {
        let makes = secrets::may_make(&head.gvk);
        if !makes && !World::may_keep(&head.gvk) && !matches!(head.gvk.kind.as_str(), "Kustomization" | "HelmRelease") {
            continue;
        }
        let Some(object) = out.objects.one(at) else { continue };
        if let Some(secret) = Some(&object).filter(|_| makes).and_then(secrets::made_by) {
            let name = ("Secret".to_string(), secret.namespace().to_string(), secret.name().to_string());
            out.made.push((name, Arc::new(secret)));
        }
        let namespace = if head.namespace.is_empty() { out.default_namespace.as_str() } else { &head.namespace };
        match unit_id(&object, namespace) {
            Some(id) => out.units.push((id, Arc::new(object))),
            None if World::keeps(&object) => {
                let name = (head.gvk.kind.to_string(), namespace.to_string(), head.name.to_string());
                out.named.push((name, Arc::new(object)));
            }
            None => {}
        }
    }
}

fn depends_on(kind: UnitKind, namespace: &str, refs: &[druse_flux::api::DependencyRef]) -> Vec<UnitId> {
    let mut out: Vec<UnitId> = refs
        .iter()
        .map(|r| {
            let (namespace, name) = graph::resolve(r, namespace);
            UnitId { kind, namespace: namespace.into(), name: name.into() }
        })
        .collect();
    out.sort();
    out.dedup();
    out
}

fn flux_error(e: FluxError) -> UnitError {
    let remedy = match &e {
        FluxError::ConfigNotFound { .. } => Some(
            "make it part of the tree, or mark the reference optional; what only a live cluster holds is not invented",
        ),
        FluxError::PathNotFound(_) => {
            Some("correct spec.path, or check that the source's ignore rules leave the folder in")
        }
        FluxError::Version { .. } => Some("use a version that Flux still serves"),
        FluxError::Substitution { .. } => Some(
            "write $${…} where the text is meant literally, or label the object kustomize.toolkit.fluxcd.io/substitute: disabled",
        ),
        _ => None,
    };
    let fault = fault(&e);
    match e {
        FluxError::Build(build) => UnitError {
            fault,
            message: format!("kustomize build failed: {}", build.message),
            file: build.file.clone(),
            line: build.line,
            remedy: build.remedy,
        },
        FluxError::Decode { ref file, line, .. } | FluxError::Kustomization { ref file, line, .. } => {
            UnitError { fault, file: Some(file.clone()), line, ..UnitError::new(&e) }
        }
        other => UnitError { fault, remedy: remedy.map(str::to_string), ..UnitError::new(other) },
    }
}

fn fault(e: &FluxError) -> Fault {
    match e {
        FluxError::Build(build) if build.message.contains("MalformedYAMLError") => Fault::Yaml,
        FluxError::Build(_) => Fault::Build,
        FluxError::Decode { .. } | FluxError::Kustomization { .. } => Fault::Yaml,
        FluxError::PathNotFound(_) => Fault::Path,
        FluxError::Substitution { source: EnvsubstError::NotSet(name), .. } => Fault::Variable(name.clone()),
        FluxError::ConfigNotFound { field, name, .. } => Fault::Config { field, name: name.clone() },
        FluxError::KeyNotFound { name, .. } => Fault::Config { field: "valuesFrom", name: name.clone() },
        FluxError::Helm(druse_helm::HelmError::Schema(_)) => Fault::ValuesSchema,
        _ => Fault::Other,
    }
}

fn note_unresolved(out: &mut Output, e: &FluxError) {
    if let FluxError::ConfigNotFound { field, kind, namespace, name } = e {
        out.unresolved.push(format!("{kind} {namespace}/{name} ({field})"));
    }
}

fn prepare_kustomization(
    context: &Context<'_>,
    definition: &Object,
    recorder: &Recorder<'_>,
    out: &mut Output,
) -> Option<Prepared> {
    let ks = match Kustomization::read(definition) {
        Ok(ks) => ks,
        Err(e) => {
            out.errors.push(flux_error(e));
            return None;
        }
    };
    out.depends_on = depends_on(UnitKind::Kustomization, &ks.namespace, &ks.spec.depends_on);
    if ks.spec.suspend {
        out.suspended = true;
        return None;
    }
    let source = match context.sources.tree(recorder, &ks.spec.source_ref, &ks.namespace) {
        Ok(source) => source,
        Err(failure) => {
            let stand_in = failure.source.as_ref().and_then(|s| context.options.stand_ins.for_source(&s.url));
            fail_source(out, failure, stand_in);
            return None;
        }
    };
    // What was encrypted could be anywhere in what it renders to.
    out.reads.secret = ks.spec.decryption.is_some();
    out.source = Some(source.info.clone());
    Some(Prepared::Kustomization(Box::new(ks), source))
}

fn render_kustomization(
    context: &Context<'_>,
    ks: &Kustomization,
    source: &SourceTree,
    tree: &dyn FileTree,
    recorder: &Recorder<'_>,
    out: &mut Output,
) {
    match build_kustomization(context, ks, tree, recorder, out) {
        Ok(objects) => out.objects = objects.into(),
        Err(e) => {
            note_unresolved(out, &e);
            let mut error = flux_error(e);
            error.file = error.file.as_deref().map(|f| source.place(f));
            out.errors.push(error);
        }
    }
    if !source.prefix.is_empty() || source.copied.is_some() {
        for o in &mut out.objects {
            o.provenance.file = o.provenance.file.as_deref().map(|f| source.place(f).into());
        }
    }
}

fn fail_source(out: &mut Output, failure: SourceFailure, stand_in: Option<StandIn>) {
    out.source = failure.source;
    out.chart = failure.chart;
    match stand_in {
        Some(stand_in) if failure.not_at_hand => {
            out.kinds.extend(stand_in.kinds.iter().cloned());
            out.stand_in = Some((stand_in, failure.error.message));
        }
        _ => out.errors.push(failure.error),
    }
}

fn build_kustomization(
    context: &Context<'_>,
    ks: &Kustomization,
    tree: &dyn FileTree,
    recorder: &Recorder<'_>,
    out: &mut Output,
) -> Result<Vec<Object>, FluxError> {
    let remotes = Remotes::new(context.sources.fetcher(), true);
    let mut warnings = Vec::new();
    let decryption = secrets::decryption(&context.options.keys, &ks.spec, &ks.namespace, recorder, &mut warnings);
    let settings = BuildSettings {
        cache: Some(&context.sources.memo().documents),
        as_met: false,
        decryption: Some(&decryption),
        remote: Some(&remotes),
    };
    let built = generator::build_with(tree, &ks.spec, &settings);
    out.reads.secret |= remotes.were_asked();
    let (mut objects, notes) = built?;
    // What keys open is kept nowhere but in memory, and neither is what a later key may open.
    out.reads.secret |= notes.opened || !notes.sealed.is_empty();
    out.warnings.append(&mut warnings);
    out.warnings.extend(notes.changed);
    out.unresolved.extend(notes.sealed.iter().map(ToString::to_string));
    out.unresolved.extend(remotes.missing());
    for o in objects.iter().filter(|o| o.value.get("sops").is_some()) {
        if ks.spec.decryption.is_some() {
            out.unresolved.push(format!("{} is encrypted and its decryption is switched off", o.key()));
        } else if o.kind() == "Secret" && o.annotation("kustomize.toolkit.fluxcd.io/decrypt") != Some("disabled") {
            let message = format!(
                "{} is SOPS encrypted, configuring decryption is required for this secret to be reconciled",
                o.key()
            );
            out.errors.push(
                UnitError::new(message)
                    .at(&o.provenance)
                    .help("set spec.decryption on the Kustomization")
                    .fault(Fault::Encrypted),
            );
        }
    }
    substitute_all(context, &ks.spec, &ks.namespace, recorder, &mut objects, out)?;
    if let Some(common) = &ks.spec.common_metadata {
        labels::set_common_metadata(&mut objects, common);
    }
    labels::set_kustomization_owner(&mut objects, &ks.namespace, &ks.name);
    Ok(objects)
}

fn substitute_all(
    context: &Context<'_>,
    spec: &KustomizationSpec,
    namespace: &str,
    recorder: &Recorder<'_>,
    objects: &mut [Object],
    out: &mut Output,
) -> Result<(), FluxError> {
    let Some(post_build) = &spec.post_build else { return Ok(()) };
    let collected = substitute::collect(post_build, namespace, recorder)?;
    out.warnings
        .extend(collected.skipped.iter().map(|s| format!("substituteFrom: {s} does not exist and is optional")));
    out.unresolved.extend(collected.placeholders.iter().map(|s| format!("values of {s} (substituteFrom)")));
    let options = substitute::Options {
        open: collected.open,
        strict: context.options.strict_substitution,
        always: spec.substitute_strategy.as_deref() == Some("Always"),
    };
    for o in objects {
        let at = o.provenance.clone();
        if let Err(e) = substitute::substitute(o, &collected.variables, options) {
            // One object's fault is reported at that object; Flux fails the whole unit, and so does this.
            out.errors.push(flux_error(e).at(&at));
        }
    }
    Ok(())
}

/// A host that answers `lookup` with nothing, and remembers what was looked up.
struct PlanHost {
    seeded: Mutex<SeededHost<'static>>,
    looked_up: Mutex<Vec<String>>,
}

impl Host for PlanHost {
    fn random(&self, template: &str, function: &str, count: u32, out: &mut [u8]) {
        self.seeded.lock().unwrap_or_else(PoisonError::into_inner).random(template, function, count, out);
    }
    fn now_unix_nanos(&self) -> i128 {
        SeededHost::DEFAULT_NOW
    }
    fn lookup(&self, api_version: &str, kind: &str, namespace: &str, name: &str) -> Result<Value, String> {
        let what = match (namespace, name) {
            (_, "") => format!("all {kind} ({api_version})"),
            ("", name) => format!("{kind} {name} ({api_version})"),
            (ns, name) => format!("{kind} {ns}/{name} ({api_version})"),
        };
        self.looked_up.lock().unwrap_or_else(PoisonError::into_inner).push(what);
        Ok(Value::Map(Map::new()))
    }
    fn resolve_host(&self, _: &str) -> String {
        String::new()
    }
}

fn prepare_release(
    context: &Context<'_>,
    definition: &Object,
    recorder: &Recorder<'_>,
    out: &mut Output,
) -> Option<Prepared> {
    let hr = match HelmRelease::read(definition) {
        Ok(hr) => hr,
        Err(e) => {
            out.errors.push(flux_error(e));
            return None;
        }
    };
    out.default_namespace = hr.release_namespace().to_string();
    out.depends_on = depends_on(UnitKind::HelmRelease, &hr.namespace, &hr.spec.depends_on);
    if hr.spec.suspend {
        out.suspended = true;
        return None;
    }
    let Some(crds) = CrdsPolicy::on_install(&hr.spec) else {
        out.errors.push(UnitError::new("spec.install.crds is no CRD policy").help("use Skip, Create or CreateReplace"));
        return None;
    };
    let chart = match context.sources.find_chart(recorder, &hr) {
        Ok(chart) => chart,
        Err(failure) => {
            fail_chart(context, out, failure);
            return None;
        }
    };
    out.kinds.extend(context.options.stand_ins.registered_by(&chart.info.name));
    out.source = Some(chart.source.clone());
    out.chart = Some(chart.info.clone());
    out.warnings.extend(chart.notes.iter().cloned());
    Some(Prepared::Release(Box::new(hr), crds, Box::new(chart)))
}

fn fail_chart(context: &Context<'_>, out: &mut Output, failure: SourceFailure) {
    let stand_in = failure.chart.as_ref().and_then(|c| context.options.stand_ins.for_chart(&c.name));
    fail_source(out, failure, stand_in);
}

#[allow(clippy::too_many_arguments, reason = "all that a release is rendered from")]
fn render_release(
    context: &Context<'_>,
    id: &UnitId,
    hr: &HelmRelease,
    crds: CrdsPolicy,
    chart: &FoundChart,
    recorder: &Recorder<'_>,
    world: &World,
    out: &mut Output,
) {
    let chart = match context.sources.load_chart(chart) {
        Ok(chart) => chart,
        Err(failure) => {
            out.kinds.clear();
            fail_chart(context, out, failure);
            return;
        }
    };
    if let Some(info) = &mut out.chart {
        info.app_version.clone_from(&chart.metadata.app_version);
    }
    let composed = match compose_values(hr, recorder) {
        Ok(composed) => composed,
        Err(e) => {
            note_unresolved(out, &e);
            out.errors.push(flux_error(e));
            return;
        }
    };
    out.unresolved.extend(composed.placeholders.iter().map(|s| format!("values of {s} (valuesFrom)")));
    out.warnings.extend(composed.skipped.iter().map(|s| format!("valuesFrom: {s} does not exist and is optional")));
    let host = PlanHost { seeded: Mutex::new(SeededHost::new(id.to_string())), looked_up: Mutex::default() };
    let capabilities = Capabilities {
        kube_version: context.options.kube_version.clone(),
        api_versions: Arc::clone(&world.api_versions),
    };
    let release = Release::install(hr.release_name(), hr.release_namespace());
    match release::render(hr, &chart, &composed.values, &release, &capabilities, &host) {
        Ok(rendered) => {
            let mut objects = if crds == CrdsPolicy::Skip { Vec::new() } else { rendered.crds };
            objects.extend(rendered.objects);
            out.objects = objects.into();
            out.hooks = rendered.hooks;
            out.warnings.extend(rendered.warnings);
            for asked in rendered.asked_api_versions {
                if asked == "*" {
                    out.reads.all_api = Some(Arc::clone(&world.api_versions));
                } else {
                    let served = world.api_versions.has(&asked);
                    out.reads.api.insert(asked, served);
                }
            }
        }
        Err(e) => {
            // What it asked for is not known; any change of what is served may help it.
            out.reads.all_api = Some(Arc::clone(&world.api_versions));
            let chart = out.chart.as_ref().map(|c| format!("chart {} {}: ", c.name, c.version)).unwrap_or_default();
            let mut error = flux_error(e);
            error.message.insert_str(0, &chart);
            out.errors.push(error);
        }
    }
    let mut looked_up = host.looked_up.into_inner().unwrap_or_else(PoisonError::into_inner);
    looked_up.sort();
    looked_up.dedup();
    out.unresolved.extend(looked_up.into_iter().map(|l| format!("lookup of {l}")));
}

/// The kinds that a release's chart defines in `crds/`, as far as they can be known before rendering.
pub(crate) fn chart_kinds(
    context: &Context<'_>,
    id: &UnitId,
    definition: &Arc<Object>,
    world: &World,
) -> Vec<ServedKind> {
    let recorder = Recorder::new(world);
    let mut named = (**definition).clone();
    if named.namespace().is_empty()
        && let Some(meta) = named.metadata_mut()
    {
        meta.insert("namespace", id.namespace.clone());
    }
    let Ok(hr) = HelmRelease::read(&named) else { return Vec::new() };
    if hr.spec.suspend || CrdsPolicy::on_install(&hr.spec) == Some(CrdsPolicy::Skip) {
        return Vec::new();
    }
    let Ok(found) = context.sources.find_chart(&recorder, &hr) else { return Vec::new() };
    let kinds = || {
        let Ok(chart) = context.sources.load_chart(&found) else { return Vec::new() };
        let mut out = Vec::new();
        let mut charts = vec![&*chart];
        while let Some(chart) = charts.pop() {
            charts.extend(chart.dependencies.iter().map(|d| &**d));
            for file in chart.files.iter().filter(|f| f.name.starts_with("crds/")) {
                out.extend(crd_kinds(&file.text()));
            }
        }
        out
    };
    match &found.identity {
        Some(key) => context.sources.memo().kinds_of_chart(key, kinds).to_vec(),
        None => kinds(),
    }
}
