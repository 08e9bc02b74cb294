//! From a chart, values and a release to manifests, hooks, CRDs and notes: Helm's install and upgrade up to the point
//! where they talk to a cluster.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use druse_gotemplate::env::Host;
use druse_gotemplate::exec::{Options, TemplateSet};
use druse_gotemplate::{MapRef, Val};
use druse_object::{Str, Value};

use crate::capabilities::{Asked, Capabilities, capabilities_object};
use crate::chart::Chart;
use crate::coalesce;
use crate::dependencies;
use crate::error::HelmError;
use crate::files::Files;
use crate::manifest::{self, Crd, Hook, Manifest};
use crate::metadata::Metadata;
use crate::node::{Node, map_of};
use crate::schema;
use crate::templates;
use crate::values::Values;
use crate::version::is_compatible_range;

/// How long a release's name may be, in bytes.
pub const MAX_RELEASE_NAME: usize = 53;

/// The release a chart is rendered as: `.Release` in templates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its revision, from 1.
    pub revision: i64,
    /// Whether this is an upgrade (or a rollback) and not an install.
    pub is_upgrade: bool,
    /// Who renders; always `Helm` in Helm.
    pub service: String,
}

impl Release {
    /// A first install.
    pub fn install(name: impl Into<String>, namespace: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: namespace.into(), revision: 1, is_upgrade: false, service: "Helm".into() }
    }

    /// An upgrade to a revision.
    pub fn upgrade(name: impl Into<String>, namespace: impl Into<String>, revision: i64) -> Self {
        Self { revision, is_upgrade: true, ..Self::install(name, namespace) }
    }
}

/// Checks a release's name as Helm does.
///
/// # Errors
/// When it is empty, longer than [`MAX_RELEASE_NAME`], or not made of DNS labels.
pub fn validate_release_name(name: &str) -> Result<(), HelmError> {
    const REGEX: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
    let label = |l: &str| {
        !l.is_empty()
            && l.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let problem = if name.is_empty() {
        "no name provided".to_owned()
    } else if name.len() > MAX_RELEASE_NAME || !name.split('.').all(label) {
        format!(
            "invalid release name, must match regex {REGEX} and the length must not be longer than {MAX_RELEASE_NAME}"
        )
    } else {
        return Ok(());
    };
    Err(HelmError::Name(format!("release name check failed: release name {name:?}: {problem}")))
}

/// What a render does besides rendering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenderOptions {
    /// Do not check values against `values.schema.json`.
    pub skip_schema_validation: bool,
    /// Add the notes of subcharts.
    pub sub_notes: bool,
    /// Fail where a template names a value that is missing.
    pub strict: bool,
    /// Helm's lint mode: `required` and `fail` do not fail.
    pub lint: bool,
}

/// What a chart became.
#[derive(Clone, Debug, Default)]
pub struct Rendered {
    /// Objects to install, in install order.
    pub manifests: Vec<Manifest>,
    /// Hooks, in install order of their kinds (not of their weights).
    pub hooks: Vec<Hook>,
    /// Files of `crds/`, of the chart and its enabled subcharts.
    pub crds: Vec<Crd>,
    /// The rendered `NOTES.txt`.
    pub notes: String,
    /// What Helm would warn about.
    pub warnings: Vec<String>,
    /// The API versions templates asked `.Capabilities` for; `*` when one looked at all of them. Nothing else of the
    /// API versions can have changed the output.
    pub asked_api_versions: BTreeSet<String>,
    /// The chart's default values after dependency processing, as a release record stores them.
    pub chart_values: Value,
}

impl Rendered {
    /// All manifests as one text, each headed by `---` and its source: what a release record stores.
    #[must_use]
    pub fn manifest_text(&self) -> String {
        let mut out = String::new();
        for m in &self.manifests {
            push_source(&mut out, &m.template, &m.text);
        }
        out
    }
}

pub(crate) fn push_source(out: &mut String, path: &str, text: &str) {
    for part in ["---\n# Source: ", path, "\n", text, "\n"] {
        out.push_str(part);
    }
}

/// Renders a chart.
///
/// The same arguments give the same result on any thread, as long as the host is deterministic. Runs on a thread of its
/// own with a deep stack (templates recurse); wrap a batch of renders in [`druse_gotemplate::with_stack`] to start only
/// one.
///
/// # Errors
/// As Helm: dependencies that do not resolve, values a schema refuses, a Kubernetes version out of range, templates that
/// do not parse or fail, output that is not YAML.
pub fn render(
    chart: &Arc<Chart>,
    values: &Values,
    release: &Release,
    capabilities: &Capabilities,
    host: &(dyn Host + Sync),
    options: &RenderOptions,
) -> Result<Rendered, HelmError> {
    druse_gotemplate::with_stack(|| render_here(chart, values, release, capabilities, host, options))
}

fn render_here(
    chart: &Arc<Chart>,
    values: &Values,
    release: &Release,
    capabilities: &Capabilities,
    host: &dyn Host,
    options: &RenderOptions,
) -> Result<Rendered, HelmError> {
    let mut out = Rendered { warnings: chart.warnings.clone(), ..Rendered::default() };
    let mut root = Node::new(chart);
    let user = dependencies::user_map(values);
    dependencies::process(&mut root, &user, &mut out.warnings)?;
    out.chart_values = root.plain_values();
    let all = coalesce::coalesce_values(&root, &user, false, &mut out.warnings)?;
    out.warnings.dedup();
    if !options.skip_schema_validation {
        schema::validate(&root, &Val::Map(all.clone()))?;
    }
    let wanted = &root.meta.kube_version;
    if !wanted.is_empty() && !is_compatible_range(wanted, &capabilities.kube_version.normalized) {
        return Err(HelmError::KubeVersion { wanted: wanted.clone(), have: capabilities.kube_version.version.clone() });
    }

    let compiled = templates::compile(&root)?;
    let asked: Asked = Rc::new(RefCell::new(BTreeSet::new()));
    let mut scopes = HashMap::new();
    let base = Base { release: release_map(release), capabilities: capabilities_object(capabilities, &asked) };
    scope(&root, root.name().to_owned(), &base, Some(all), &mut scopes);
    let run = Options { lint: options.lint, strict: options.strict, ..Options::default() };
    let notes_name = format!("{}/templates/NOTES.txt", root.name());
    let mut notes: BTreeMap<&str, String> = BTreeMap::new();
    let mut files: Vec<(Arc<str>, String)> = Vec::with_capacity(compiled.order.len());
    for entry in &compiled.order {
        let name = &entry.name;
        if name.rsplit('/').next().is_some_and(|n| n.starts_with('_')) {
            continue;
        }
        let Some(data) = scopes.get(entry.chart_path.as_ref()) else { continue };
        let template = MapRef::default();
        template.set("Name", Val::str(name.as_ref()));
        template.set("BasePath", Val::str(format!("{}/templates", entry.chart_path)));
        data.set("Template", Val::Map(template));
        let text = compiled
            .set
            .execute(name, Val::Map(data.clone()), host, run)
            .map_err(|e| HelmError::Template(templates::exec_error(&e)))?;
        if name.ends_with("NOTES.txt") {
            if options.sub_notes || name.as_ref() == notes_name {
                notes.insert(name, text);
            }
        } else {
            files.push((Arc::clone(name), text));
        }
    }
    out.notes = notes.into_values().collect::<Vec<_>>().join("\n");
    files.sort_by(|a, b| a.0.cmp(&b.0));
    (out.hooks, out.manifests) = manifest::sort(&files).map_err(|(path, message)| {
        let mut rendered = String::new();
        for (name, text) in files.iter().filter(|(_, t)| !t.trim().is_empty()) {
            push_source(&mut rendered, name, text);
        }
        HelmError::Yaml { path, message, rendered }
    })?;
    let mut crds = Vec::new();
    root.crds(root.name(), &mut crds);
    out.crds = crds
        .into_iter()
        .filter_map(|(path, chart, i)| {
            let text = chart.files.get(i)?.text().into_owned();
            Some(Crd { path: Arc::from(path), text })
        })
        .collect();
    out.asked_api_versions = asked.borrow().clone();
    Ok(out)
}

/// What all charts of a render share.
struct Base {
    release: Val,
    capabilities: Val,
}

/// Makes the data of a chart's templates and, below it, of its subcharts'; values are handed down by reference, so what
/// a template sets in them is seen by those that run later, as in Helm.
fn scope(
    node: &Node,
    path: String,
    base: &Base,
    values: Option<MapRef>,
    scopes: &mut HashMap<String, MapRef>,
) -> MapRef {
    let data = MapRef::default();
    let values = values.unwrap_or_default();
    let subcharts = MapRef::default();
    data.set("Chart", chart_map(&node.meta, !path.contains('/')));
    data.set("Files", Val::Object(Rc::new(Files::new(&node.chart))));
    data.set("Release", base.release.clone());
    data.set("Capabilities", base.capabilities.clone());
    data.set("Values", Val::Map(values.clone()));
    data.set("Subcharts", Val::Map(subcharts.clone()));
    for sub in &node.dependencies {
        let own = dependencies::table(&values, sub.name());
        let inner = scope(sub, format!("{path}/charts/{}", sub.name()), base, own, scopes);
        subcharts.set(sub.name(), Val::Map(inner));
    }
    scopes.insert(path, data.clone());
    data
}

fn release_map(r: &Release) -> Val {
    let m = MapRef::default();
    m.set("Name", Val::str(r.name.as_str()));
    m.set("Namespace", Val::str(r.namespace.as_str()));
    m.set("IsUpgrade", Val::Bool(r.is_upgrade));
    m.set("IsInstall", Val::Bool(!r.is_upgrade));
    m.set("Revision", Val::Int(r.revision));
    m.set("Service", Val::str(r.service.as_str()));
    Val::Map(m)
}

fn chart_map(m: &Metadata, is_root: bool) -> Val {
    let text = |s: &str| Val::str(s);
    let texts = |l: &[String]| Val::list(l.iter().map(|s| Val::str(s.as_str())).collect());
    let map = |entries: Vec<(&str, Val)>| {
        Val::Map(MapRef::new(entries.into_iter().map(|(k, v)| (Str::from(k), v)).collect()))
    };
    let maintainers = m
        .maintainers
        .iter()
        .map(|p| map(vec![("Name", text(&p.name)), ("Email", text(&p.email)), ("URL", text(&p.url))]))
        .collect();
    let dependencies = m
        .dependencies
        .iter()
        .flatten()
        .map(|d| {
            map(vec![
                ("Name", text(&d.name)),
                ("Version", text(&d.version)),
                ("Repository", text(&d.repository)),
                ("Condition", text(&d.condition)),
                ("Tags", texts(&d.tags)),
                ("Enabled", Val::Bool(d.enabled)),
                ("ImportValues", Val::list(d.import_values.iter().map(Val::from_values).collect())),
                ("Alias", text(&d.alias)),
            ])
        })
        .collect();
    let annotations = m.annotations.iter().map(|(k, v)| (Str::from(k.as_str()), Val::str(v.as_str()))).collect();
    map(vec![
        ("Name", text(&m.name)),
        ("Home", text(&m.home)),
        ("Sources", texts(&m.sources)),
        ("Version", text(&m.version)),
        ("Description", text(&m.description)),
        ("Keywords", texts(&m.keywords)),
        ("Maintainers", Val::list(maintainers)),
        ("Icon", text(&m.icon)),
        ("APIVersion", text(&m.api_version)),
        ("Condition", text(&m.condition)),
        ("Tags", text(&m.tags)),
        ("AppVersion", text(&m.app_version)),
        ("Deprecated", Val::Bool(m.deprecated)),
        ("Annotations", Val::Map(MapRef::new(annotations))),
        ("KubeVersion", text(&m.kube_version)),
        ("Dependencies", Val::list(dependencies)),
        ("Type", text(&m.chart_type)),
        ("IsRoot", Val::Bool(is_root)),
    ])
}

/// Runs `--name-template`: a template with Helm's functions and no data.
///
/// # Errors
/// When it does not parse or fails.
pub fn name_from_template(template: &str, host: &dyn Host) -> Result<String, HelmError> {
    let fail = |e: druse_gotemplate::exec::TemplateError| HelmError::Name(e.to_string());
    let mut set = TemplateSet::new(templates::functions());
    set.parse("name-template", template).map_err(fail)?;
    set.execute("name-template", Val::Nil, host, Options { keep_no_value: true, ..Options::default() }).map_err(fail)
}

/// The values a release of this chart would have: user values over defaults of the chart and its enabled subcharts, as
/// `helm get values --all` shows them.
///
/// # Errors
/// When dependencies or values do not fit together.
pub fn computed_values(chart: &Arc<Chart>, values: &Values) -> Result<Value, HelmError> {
    let mut warnings = Vec::new();
    let mut root = Node::new(chart);
    let user = dependencies::user_map(values);
    dependencies::process(&mut root, &user, &mut warnings)?;
    let all = coalesce::coalesce_values(&root, &user, false, &mut warnings)?;
    Ok(Val::Map(map_of(Val::Map(all))).to_value())
}
