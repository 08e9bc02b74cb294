//! A HelmRelease: its release's name and namespace, its values, and what changes its objects after rendering.
//!
//! Source of behaviour: fluxcd/helm-controller (`GetReleaseName`, `ShortenName`, `BuildPostRenderers`) and
//! fluxcd/pkg/chartutil (`ChartValuesFromReferences`).

use std::collections::BTreeSet;
use std::sync::Arc;

use druse_gotemplate::env::Host;
use druse_helm::{Capabilities, Chart, Release, RenderOptions, Values};
use druse_kustomize::tree::MemoryTree;
use druse_object::{Map, Object, Value, json, yaml};
use sha2::{Digest, Sha256};

use crate::api::{HelmRelease, HelmReleaseSpec, KustomizeRenderer, PostRenderer, ValuesRef};
use crate::config::{ANY_ENTRY, ConfigSource, is_placeholder};
use crate::error::FluxError;
use crate::generator::{image_value, json6902, patch_value};
use crate::labels;
use crate::substitute::kustomize_name;

/// The longest release name Helm takes.
const MAX_NAME: usize = 53;
/// How much of a digest stands in for what was cut off.
const SHORT_HASH: usize = 12;

impl HelmRelease {
    /// The release's name: the one given, else `<targetNamespace>-<name>`, else the object's own; shortened with a hash
    /// when Helm would not take it.
    #[must_use]
    pub fn release_name(&self) -> String {
        let given = self.spec.release_name.as_deref().filter(|n| !n.is_empty());
        let name = match (given, self.target_namespace()) {
            (Some(name), _) => name.to_string(),
            (None, Some(ns)) => format!("{ns}-{}", self.name),
            (None, None) => self.name.to_string(),
        };
        shorten_name(&name)
    }

    fn target_namespace(&self) -> Option<&str> {
        self.spec.target_namespace.as_deref().filter(|n| !n.is_empty())
    }

    /// Where the release's objects go.
    #[must_use]
    pub fn release_namespace(&self) -> &str {
        self.target_namespace().unwrap_or(&self.namespace)
    }

    /// Where the release's records are kept.
    #[must_use]
    pub fn storage_namespace(&self) -> &str {
        self.spec.storage_namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(&self.namespace)
    }

    /// The name of the HelmChart the controller makes for it, in the chart source's namespace.
    #[must_use]
    pub fn helm_chart_name(&self) -> String {
        format!("{}-{}", self.namespace, self.name)
    }
}

/// Shortens a release name over 53 characters to its first 40, a hyphen and the first 12 digits of its SHA-256.
#[must_use]
pub fn shorten_name(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return name.to_string();
    }
    let hash = hex::encode(Sha256::digest(name.as_bytes()));
    let mut cut = MAX_NAME - SHORT_HASH - 1;
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    format!("{}-{}", name.get(..cut).unwrap_or_default(), hash.get(..SHORT_HASH).unwrap_or_default())
}

/// What becomes of a chart's `crds/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrdsPolicy {
    /// Nothing.
    Skip,
    /// What is not there is created.
    Create,
    /// What is there is replaced too.
    CreateReplace,
}

impl CrdsPolicy {
    /// The policy on install: `Create` unless said otherwise. `None` when it is not one.
    #[must_use]
    pub fn on_install(spec: &HelmReleaseSpec) -> Option<Self> {
        Self::parse(spec.install.as_ref().and_then(|a| a.crds.as_deref()), Self::Create)
    }

    /// The policy on upgrade: `Create`, too, unless said otherwise (the documentation says `Skip`, helm-controller does
    /// this). `None` when it is not one.
    #[must_use]
    pub fn on_upgrade(spec: &HelmReleaseSpec) -> Option<Self> {
        Self::parse(spec.upgrade.as_ref().and_then(|a| a.crds.as_deref()), Self::Create)
    }

    fn parse(text: Option<&str>, default: Self) -> Option<Self> {
        match text.unwrap_or_default() {
            "" => Some(default),
            "Skip" => Some(Self::Skip),
            "Create" => Some(Self::Create),
            "CreateReplace" => Some(Self::CreateReplace),
            _ => None,
        }
    }
}

/// The values of a release, and what was missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Composed {
    /// The values.
    pub values: Values,
    /// Optional references that led nowhere, as `Kind/name` or `Kind/name key`.
    pub skipped: Vec<String>,
    /// References to values that are not known here, as `Kind/name key`: placeholders stand for single values, whole
    /// values files are left out.
    pub placeholders: Vec<String>,
}

/// Composes a release's values: each `valuesFrom` over the ones before, then the inline values over all. An entry with a
/// target path is put into the inline values where it leads into them, and so wins over them.
///
/// # Errors
/// When something that is not optional is missing, or cannot be read as values.
pub fn compose_values(hr: &HelmRelease, source: &dyn ConfigSource) -> Result<Composed, FluxError> {
    let mut inline = match &hr.spec.values {
        None => Values::default(),
        Some(v) => Values::from_document(v).map_err(|e| FluxError::Shape {
            kind: "HelmRelease".into(),
            namespace: hr.namespace.to_string(),
            name: hr.name.to_string(),
            message: format!("spec.values: {e}"),
        })?,
    };
    let mut out = Composed::default();
    for reference in &hr.spec.values_from {
        let (kind, name) = (reference.kind.as_str(), reference.name.as_str());
        if !matches!(kind, "ConfigMap" | "Secret") {
            return Err(FluxError::ReferenceKind { field: "valuesFrom", kind: kind.to_string() });
        }
        let Some(data) = source.config(kind, &hr.namespace, name) else {
            if reference.optional {
                out.skipped.push(format!("{kind}/{name}"));
                continue;
            }
            return Err(FluxError::ConfigNotFound {
                field: "valuesFrom",
                kind: kind.to_string(),
                namespace: hr.namespace.to_string(),
                name: name.to_string(),
            });
        };
        let Some(entry) = data.get(reference.key()) else {
            if data.contains_key(ANY_ENTRY) {
                out.placeholders.push(format!("{kind}/{name} {}", reference.key()));
                if let Some(path) = reference.target_path.as_deref().filter(|p| !p.is_empty()) {
                    let text = druse_sops::placeholder(reference.key());
                    // A path that is none is not known to be wrong before there is a value.
                    let _ = put_at_path(&mut out.values, path, &text, reference);
                }
                continue;
            }
            if reference.optional {
                out.skipped.push(format!("{kind}/{name} {}", reference.key()));
                continue;
            }
            return Err(FluxError::KeyNotFound {
                kind: kind.to_string(),
                namespace: hr.namespace.to_string(),
                name: name.to_string(),
                key: reference.key().to_string(),
            });
        };
        let text = String::from_utf8_lossy(entry);
        if is_placeholder(entry) {
            out.placeholders.push(format!("{kind}/{name} {}", reference.key()));
            if reference.target_path.as_deref().is_none_or(str::is_empty)
                && Values::from_yaml(&text).map_or(true, |v| v.as_map().is_empty())
            {
                continue;
            }
        }
        let failed = |message: String| FluxError::Values {
            kind: kind.to_string(),
            namespace: hr.namespace.to_string(),
            name: name.to_string(),
            key: reference.key().to_string(),
            message,
        };
        match reference.target_path.as_deref().filter(|p| !p.is_empty()) {
            Some(path) => {
                let shared = reaches_into(out.values.as_map(), inline.as_map(), path);
                out.values.merge(inline.clone());
                put_at_path(&mut out.values, path, &text, reference).map_err(failed)?;
                if shared {
                    put_at_path(&mut inline, path, &text, reference).map_err(failed)?;
                }
            }
            None => out.values.merge(Values::from_yaml(&text).map_err(|e| failed(e.to_string()))?),
        }
    }
    // Flux merges the inline values once more at the end: they win, except where a target path reached into them.
    out.values.merge(inline);
    Ok(out)
}

/// Whether Flux writes an entry with a target path into the inline values themselves. Its merge of maps shares what only
/// one side has as a map, and copies what both have: a path that leads through a shared part changes the inline values
/// too and wins, one that ends in a copied part loses against them in the last merge.
fn reaches_into(merged: &Map, inline: &Map, path: &str) -> bool {
    let (mut merged, mut inline) = (Some(merged), inline);
    let mut segments = split_path(path).into_iter().peekable();
    while let Some((key, indexed)) = segments.next() {
        let Some(mine) = inline.get(&key) else { return false };
        let theirs = merged.and_then(|m| m.get(&key)).and_then(Value::as_map);
        match (theirs, mine.as_map()) {
            (Some(theirs), Some(mine)) if !indexed => {
                merged = Some(theirs);
                inline = mine;
            }
            _ => return indexed || segments.peek().is_some(),
        }
    }
    false
}

/// The keys of a `--set` path, each with whether an index follows it.
fn split_path(path: &str) -> Vec<(String, bool)> {
    let mut out = Vec::new();
    let (mut key, mut indexed) = (String::new(), false);
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.extend(chars.next()),
            '.' => out.push((std::mem::take(&mut key), std::mem::take(&mut indexed))),
            '[' => {
                indexed = true;
                chars.by_ref().find(|c| *c == ']');
            }
            c => key.push(c),
        }
    }
    out.push((key, indexed));
    out
}

fn put_at_path(values: &mut Values, path: &str, text: &str, reference: &ValuesRef) -> Result<(), String> {
    let set = |values: &mut Values, text: &str, as_text: bool| {
        let assignment = format!("{path}={text}");
        if as_text { values.set_string(&assignment) } else { values.set(&assignment) }.map_err(|e| e.to_string())
    };
    if reference.literal {
        let mut escaped = String::with_capacity(text.len());
        for c in text.chars() {
            if matches!(c, '\\' | ',' | '[' | ']' | '{' | '}') {
                escaped.push('\\');
            }
            escaped.push(c);
        }
        return set(values, &escaped, true);
    }
    let quoted = |q: char| text.starts_with(q) && text.ends_with(q);
    if quoted('\'') || quoted('"') {
        return set(values, text.trim_matches(['\'', '"']), true);
    }
    set(values, text, false)
}

/// Runs a release's post-renderers in their order, then its common metadata and origin labels, which come last.
///
/// # Errors
/// When a kustomize step fails.
pub fn post_render(hr: &HelmRelease, mut objects: Vec<Object>) -> Result<Vec<Object>, FluxError> {
    for renderer in &hr.spec.post_renderers {
        if let PostRenderer { kustomize: Some(k) } = renderer {
            objects = run_kustomize(k, objects)?;
        }
    }
    if let Some(common) = &hr.spec.common_metadata {
        labels::set_common_metadata(&mut objects, common);
    }
    labels::set_release_owner(&mut objects, &hr.namespace, &hr.name);
    Ok(objects)
}

/// A hook of a release, with what says when it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ReleaseHook {
    /// The object.
    pub object: Object,
    /// The events: `pre-install`, `post-upgrade`, `test`…
    pub events: Vec<String>,
    /// Lower weights run first.
    pub weight: i64,
    /// When it is deleted: `before-hook-creation`, `hook-succeeded`, `hook-failed`.
    pub delete_policies: Vec<String>,
}

/// What a HelmRelease became.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderedRelease {
    /// Objects to apply, in install order, post-rendered and labelled; namespaces as the chart wrote them.
    pub objects: Vec<Object>,
    /// Hooks.
    pub hooks: Vec<ReleaseHook>,
    /// The CustomResourceDefinitions of the chart's `crds/`, labelled. Whether they are applied is up to the policy.
    pub crds: Vec<Object>,
    /// The rendered notes.
    pub notes: String,
    /// What Helm would warn about.
    pub warnings: Vec<String>,
    /// The API versions templates asked for; `*` when one looked at all.
    pub asked_api_versions: BTreeSet<String>,
    /// The manifest as Helm stores it in the release record: before post-rendering.
    pub manifest: String,
}

/// Renders a HelmRelease's chart with composed values, then post-renders: what helm-controller would apply.
///
/// `release` says whether this is an install or an upgrade; its name and namespace are normally those of the HelmRelease.
///
/// # Errors
/// When the chart does not render or a post-renderer fails.
pub fn render(
    hr: &HelmRelease,
    chart: &Arc<Chart>,
    values: &Values,
    release: &Release,
    capabilities: &Capabilities,
    host: &(dyn Host + Sync),
) -> Result<RenderedRelease, FluxError> {
    let action = if release.is_upgrade { &hr.spec.upgrade } else { &hr.spec.install };
    let options = RenderOptions {
        skip_schema_validation: action.as_ref().is_some_and(|a| a.disable_schema_validation),
        ..RenderOptions::default()
    };
    let mut unchecked = None;
    let rendered = match druse_helm::render(chart, values, release, capabilities, host, &options) {
        Err(druse_helm::HelmError::Schema(message)) if only_unfetched_schemas(&message) => {
            unchecked = Some(message);
            let options = RenderOptions { skip_schema_validation: true, ..options };
            druse_helm::render(chart, values, release, capabilities, host, &options)?
        }
        other => other?,
    };
    let manifest = rendered.manifest_text();
    let mut crds = Vec::new();
    let mut warnings = rendered.warnings;
    if let Some(message) = unchecked {
        // Which of several schemas is missed first is a matter of chance; where they are is not.
        let hosts: BTreeSet<&str> =
            message.split('"').skip(1).step_by(2).filter_map(|url| url.split('/').nth(2)).collect();
        let hosts: Vec<&str> = hosts.into_iter().collect();
        warnings.push(format!(
            "values were not checked: the chart's schema is at {}, and schemas are not fetched",
            hosts.join(", ")
        ));
    }
    for file in &rendered.crds {
        for object in file.objects()? {
            if object.kind() == "CustomResourceDefinition" {
                crds.push(object);
            } else {
                warnings.push(format!(
                    "{}: {} {} is no CustomResourceDefinition and is left out",
                    file.path,
                    object.kind(),
                    object.name()
                ));
            }
        }
    }
    labels::set_release_owner(&mut crds, &hr.namespace, &hr.name);
    let mut objects: Vec<Object> =
        rendered.manifests.into_iter().flat_map(druse_helm::Manifest::into_objects).collect();
    let mut hooks: Vec<Object> = rendered.hooks.into_iter().flat_map(|h| h.manifest.into_objects()).collect();
    // Everything goes through kustomize, if only for its labels.
    objects.retain(|o| !is_local(o));
    if let Some(twice) = first_twice(&objects) {
        return Err(FluxError::RenderedTwice(twice));
    }
    match hr.spec.post_render_strategy.as_deref() {
        Some("nohooks") => objects = post_render(hr, objects)?,
        Some("separate") => {
            objects = post_render(hr, objects)?;
            hooks = post_render(hr, hooks)?;
        }
        _ => {
            // Helm 4 gives hooks and objects to the post-renderer together and sorts them apart again.
            objects.append(&mut hooks);
            if let Some(twice) = first_twice(&objects) {
                warnings.push(format!(
                    "{twice} is both a hook and an object, or two hooks: Flux 2.8 and later refuse that unless \
                     spec.postRenderStrategy is separate or nohooks"
                ));
            }
            (hooks, objects) = post_render(hr, objects)?
                .into_iter()
                .partition(|o| o.annotation(druse_helm::manifest::HOOK_ANNOTATION).is_some());
        }
    }
    let hooks = if action.as_ref().is_some_and(|a| a.disable_hooks) { Vec::new() } else { hooks };
    Ok(RenderedRelease {
        objects,
        hooks: hooks.into_iter().map(hook).collect(),
        crds,
        notes: rendered.notes,
        warnings,
        manifest,
        asked_api_versions: rendered.asked_api_versions,
    })
}

/// What kustomize takes for its own and drops.
fn is_local(o: &Object) -> bool {
    o.annotation("config.kubernetes.io/local-config").is_some_and(|v| v != "false")
}

/// The first object that is there twice, as kustomize names it.
fn first_twice(objects: &[Object]) -> Option<String> {
    let mut seen = std::collections::HashSet::new();
    let twice = objects.iter().find(|o| {
        let namespace = Some(o.namespace()).filter(|n| !n.is_empty()).unwrap_or("default");
        !o.name().is_empty() && !seen.insert((o.api_version(), o.kind(), namespace, o.name()))
    })?;
    let namespace = if twice.namespace().is_empty() { "[noNs]" } else { twice.namespace() };
    Some(format!("{}.{namespace}", kustomize_name(twice)))
}

/// Whether all that a schema check has to say is that schemas at URLs were not fetched. Such a chart is rendered
/// unchecked: its values are not known to be wrong.
fn only_unfetched_schemas(message: &str) -> bool {
    message
        .lines()
        .all(|l| l.is_empty() || l.starts_with("failing loading ") || (l.ends_with(':') && !l.starts_with(['-', ' '])))
}

fn hook(object: Object) -> ReleaseHook {
    let list = |key: &str| -> Vec<String> {
        let text = object.annotation(key).unwrap_or_default();
        text.split(',').map(str::trim).filter(|e| !e.is_empty()).map(str::to_string).collect()
    };
    ReleaseHook {
        events: list(druse_helm::manifest::HOOK_ANNOTATION),
        weight: object
            .annotation(druse_helm::manifest::HOOK_WEIGHT_ANNOTATION)
            .and_then(|w| w.parse().ok())
            .unwrap_or(0),
        delete_policies: list(druse_helm::manifest::HOOK_DELETE_ANNOTATION),
        object,
    }
}

/// Changes objects as one post-renderer says; each keeps the place it came from.
///
/// # Errors
/// When kustomize refuses the objects or a change.
pub fn run_kustomize(renderer: &KustomizeRenderer, objects: Vec<Object>) -> Result<Vec<Object>, FluxError> {
    if objects.is_empty() {
        return Ok(objects);
    }
    let mut kus = Map::new();
    kus.insert("apiVersion", "kustomize.config.k8s.io/v1beta1");
    kus.insert("kind", "Kustomization");
    // One file an object, so that results can be traced back to their templates.
    let mut tree = MemoryTree::new();
    let file = |i: usize| format!("{i:06}.yaml");
    for (i, o) in objects.iter().enumerate() {
        tree.insert(&file(i), yaml::to_string_ordered(&o.value).into_bytes());
    }
    kus.insert("resources", (0..objects.len()).map(file).collect::<Value>());
    let lists = [
        ("images", renderer.images.iter().map(image_value).collect::<Vec<_>>()),
        ("patches", renderer.patches.iter().map(patch_value).collect()),
        ("patchesStrategicMerge", renderer.patches_strategic_merge.iter().map(|p| json::to_string(p).into()).collect()),
        ("patchesJson6902", renderer.patches_json6902.iter().map(json6902).collect()),
    ];
    for (field, list) in lists {
        if !list.is_empty() {
            kus.insert(field, list);
        }
    }
    tree.insert("kustomization.yaml", json::to_string(&kus.into()).into_bytes());
    let mut built = druse_kustomize::build(&tree, "", &druse_kustomize::BuildOptions::default())
        .map_err(|e| FluxError::Build(Box::new(e)))?;
    for o in &mut built {
        let origin = o.provenance.file.as_deref().and_then(|f| f.strip_suffix(".yaml")?.parse::<usize>().ok());
        o.provenance = origin.and_then(|i| objects.get(i)).map(|o| o.provenance.clone()).unwrap_or_default();
    }
    Ok(built)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::ConfigData;

    fn release(name: &str, spec: &str) -> HelmRelease {
        let spec = json::parse(spec.as_bytes()).unwrap().to_typed().unwrap();
        HelmRelease { namespace: "ns".into(), name: name.into(), spec }
    }

    #[test]
    fn names_follow_the_target_namespace_and_are_shortened() {
        assert_eq!(release("a", "{}").release_name(), "a");
        assert_eq!(release("a", r#"{"targetNamespace":"t"}"#).release_name(), "t-a");
        assert_eq!(release("a", r#"{"targetNamespace":"t","releaseName":"r"}"#).release_name(), "r");
        let long = "some-front-appended-namespace-release-with-a-very-long-name";
        let short = release(long, "{}").release_name();
        assert_eq!(short.len(), 53);
        assert!(short.starts_with("some-front-appended-namespace-release-wi-"));
        assert_eq!(shorten_name(&"x".repeat(53)).len(), 53);
    }

    #[test]
    fn inline_values_go_over_references_in_order() {
        let entry = |k: &str, v: &str| ConfigData::from([(k.to_string(), v.as_bytes().to_vec())]);
        let source = BTreeMap::from([
            (
                ("ConfigMap".to_string(), "ns".to_string(), "one".to_string()),
                entry("values.yaml", "a: 1\nb: {c: 1, d: 1}\n"),
            ),
            (("Secret".to_string(), "ns".to_string(), "two".to_string()), entry("pw", "s3cret")),
        ]);
        let hr = release(
            "a",
            r#"{"values":{"b":{"d":2},"auth":{"pw":"inline"}},"valuesFrom":[{"kind":"ConfigMap","name":"one"},
            {"kind":"Secret","name":"two","valuesKey":"pw","targetPath":"token.pw"},
            {"kind":"Secret","name":"none","optional":true}]}"#,
        );
        let got = compose_values(&hr, &source).unwrap();
        let v = got.values.to_value();
        assert_eq!(v.at(["b", "c"]).and_then(Value::as_i64), Some(1));
        assert_eq!(v.at(["b", "d"]).and_then(Value::as_i64), Some(2));
        assert_eq!(v.str_at(["token", "pw"]), Some("s3cret"));
        assert_eq!(got.skipped, ["Secret/none"]);
        let hr = release("a", r#"{"valuesFrom":[{"kind":"Secret","name":"two"}]}"#);
        assert_eq!(
            compose_values(&hr, &source).unwrap_err().to_string(),
            "valuesFrom names key 'values.yaml' of Secret ns/two, which has no such key"
        );
    }

    #[test]
    fn a_target_path_into_inline_values_wins_unless_they_were_copied() {
        let entry = |k: &str, v: &str| ConfigData::from([(k.to_string(), v.as_bytes().to_vec())]);
        let source = BTreeMap::from([
            (
                ("ConfigMap".to_string(), "ns".to_string(), "cm".to_string()),
                entry("values.yaml", "m: {l: [a, b, c], x: 0}\n"),
            ),
            (("Secret".to_string(), "ns".to_string(), "s".to_string()), entry("key", "value")),
        ]);
        let path = |path: &str| format!(r#"{{"kind":"Secret","name":"s","valuesKey":"key","targetPath":"{path}"}}"#);
        let file = r#"{"kind":"ConfigMap","name":"cm"}"#;
        let run = |refs: &str| {
            let hr = release("a", &format!(r#"{{"values":{{"m":{{"l":["1","2"],"k":"i"}}}},"valuesFrom":[{refs}]}}"#));
            json::to_string(&compose_values(&hr, &source).unwrap().values.to_value()["m"])
        };
        assert_eq!(run(&format!("{},{file}", path("m.l[0]"))), r#"{"l":["value","2"],"k":"i","x":0}"#);
        assert_eq!(run(&format!("{},{file}", path("m.k"))), r#"{"l":["1","2"],"k":"value","x":0}"#);
        assert_eq!(run(&format!("{file},{}", path("m.k"))), r#"{"l":["1","2"],"x":0,"k":"i"}"#);
    }

    #[test]
    fn an_object_twice_is_named_as_kustomize_does() {
        let object = |text: &str| Object::new(yaml::parse(text, yaml::Dialect::Sigs).unwrap());
        let one = object("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a}\n");
        let same = object("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: default}\n");
        let other = object("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: b}\n");
        assert_eq!(first_twice(&[one.clone(), other.clone()]), None);
        assert_eq!(first_twice(&[other, same, one]).as_deref(), Some("ServiceAccount.v1.[noGrp]/a.[noNs]"));
    }

    #[test]
    fn crds_are_created_on_install_and_on_upgrade() {
        let spec = release("a", "{}").spec;
        assert_eq!(CrdsPolicy::on_install(&spec), Some(CrdsPolicy::Create));
        assert_eq!(CrdsPolicy::on_upgrade(&spec), Some(CrdsPolicy::Create));
        let spec = release("a", r#"{"install":{"crds":"Sometimes"}}"#).spec;
        assert_eq!(CrdsPolicy::on_install(&spec), None);
    }
}
