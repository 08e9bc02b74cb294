//! What a Flux Operator makes of a FluxInstance that names what to sync: the source, and the Kustomization that is a root.
//!
//! Source of behaviour: controlplaneio-fluxcd/flux-operator (`spec.sync`, its defaults and `spec.kustomize.patches`). The
//! operator's chart `flux-instance` takes the same specification as values.

use druse_flux::api::{HelmRelease, KustomizeRenderer};
use druse_flux::release::run_kustomize;
use druse_object::{Map, Object, Value};

/// The group of the operator's kinds.
pub(crate) const GROUP: &str = "fluxcd.controlplane.io";
/// The label that the operator sets on what it makes.
const MADE: &str = "fluxcd.controlplane.io/name";

/// Whether an object stands for one that the operator makes.
#[must_use]
pub fn is_made(o: &Object) -> bool {
    o.value.at(["metadata", "labels", MADE]).is_some()
}

/// The objects that the operator makes of an instance, or of a release of its chart; none of other objects.
pub(crate) fn made_by(o: &Object) -> Vec<Object> {
    let Some(spec) = spec_of(o) else { return Vec::new() };
    let namespace = Some(o.namespace()).filter(|n| !n.is_empty()).unwrap_or("flux-system");
    let sync = &spec["sync"];
    let text = |key: &str| sync.str_at([key]).filter(|t| !t.is_empty());
    let (Some(kind), Some(url)) = (text("kind"), text("url")) else { return Vec::new() };
    let name = text("name").unwrap_or(namespace);
    let reference = match (kind, text("ref")) {
        ("GitRepository", Some(name)) => Some(("name", name)),
        ("OCIRepository", Some(tag)) => Some(("tag", tag)),
        _ => None,
    };
    let mut source: Map =
        [("interval", Value::from(text("interval").unwrap_or("1m"))), ("url", url.into())].into_iter().collect();
    if let Some((key, value)) = reference {
        source.insert("ref", [(key, value)].into_iter().collect::<Map>());
    }
    if let Some(secret) = text("pullSecret") {
        source.insert("secretRef", [("name", secret)].into_iter().collect::<Map>());
    }
    let from: Map = [("kind", kind), ("name", name)].into_iter().collect();
    let unit: Map = [
        ("interval", Value::from("10m")),
        ("path", text("path").unwrap_or("./").into()),
        ("prune", true.into()),
        ("sourceRef", from.into()),
    ]
    .into_iter()
    .collect();
    let object = |api: &str, kind: &str, spec: Map| {
        let labels: Map = [(MADE, o.name())].into_iter().collect();
        let meta: Map = [("name", Value::from(name)), ("namespace", namespace.into()), ("labels", labels.into())]
            .into_iter()
            .collect();
        let value: Map =
            [("apiVersion", Value::from(api)), ("kind", kind.into()), ("metadata", meta.into()), ("spec", spec.into())]
                .into_iter()
                .collect();
        Object { value: value.into(), provenance: o.provenance.clone() }
    };
    let made = vec![
        object("source.toolkit.fluxcd.io/v1", kind, source),
        object("kustomize.toolkit.fluxcd.io/v1", "Kustomization", unit),
    ];
    patched(&made, &spec["kustomize"]["patches"]).unwrap_or(made)
}

/// The specification of an instance that syncs something.
fn spec_of(o: &Object) -> Option<&Value> {
    let spec = &o.value["spec"];
    let spec = if o.gvk().group == GROUP && o.kind() == "FluxInstance" {
        spec
    } else if HelmRelease::is(o)
        && [spec.str_at(["chart", "spec", "chart"]), spec.str_at(["chartRef", "name"])].contains(&Some("flux-instance"))
    {
        &spec["values"]["instance"]
    } else {
        return None;
    };
    spec.get("sync").map(|_| spec)
}

/// The objects with an instance's patches; none where they do not fit (most are for the controllers, which are not here).
fn patched(made: &[Object], patches: &Value) -> Option<Vec<Object>> {
    let fits = |p: &&Value| {
        matches!(p.str_at(["target", "kind"]), None | Some("Kustomization" | "GitRepository" | "OCIRepository"))
    };
    let fitting = patches.items().iter().filter(fits).map(Value::to_typed);
    let renderer = KustomizeRenderer { patches: fitting.collect::<Result<_, _>>().ok()?, ..Default::default() };
    if renderer.patches.is_empty() {
        return None;
    }
    run_kustomize(&renderer, made.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use druse_object::yaml;

    use super::*;

    fn made(text: &str) -> Vec<Value> {
        let object = Object::new(yaml::parse(text, yaml::Dialect::Sigs).unwrap());
        made_by(&object).into_iter().map(|o| o.value).collect()
    }

    const SYNC: &str = "{kind: GitRepository, url: 'https://example.org/me/home', ref: refs/heads/main, path: clusters/a, \
                        pullSecret: key}";

    #[test]
    fn an_instance_makes_its_source_and_a_root() {
        let head = "apiVersion: fluxcd.controlplane.io/v1\nkind: FluxInstance\nmetadata: {name: flux, namespace: fs}\n";
        let [source, unit] = &*made(&format!("{head}spec:\n  sync: {SYNC}\n")) else { panic!("two objects") };
        assert_eq!(source.str_at(["metadata", "name"]), Some("fs"));
        assert_eq!(source.str_at(["spec", "ref", "name"]), Some("refs/heads/main"));
        assert_eq!(source.str_at(["spec", "secretRef", "name"]), Some("key"));
        assert_eq!(unit.str_at(["kind"]), Some("Kustomization"));
        assert_eq!(unit.str_at(["spec", "path"]), Some("clusters/a"));
        assert_eq!(unit.str_at(["spec", "sourceRef", "kind"]), Some("GitRepository"));
        assert!(made(&format!("{head}spec: {{}}\n")).is_empty());
    }

    #[test]
    fn its_patches_of_the_root_are_heeded_and_those_of_controllers_passed_over() {
        let text = format!(
            "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: i, namespace: flux-system}}\n\
             spec:\n  chartRef: {{kind: OCIRepository, name: flux-instance}}\n  values:\n    instance:\n      \
             sync: {SYNC}\n      kustomize:\n        patches:\n        - target: {{kind: Deployment}}\n          \
             patch: '[{{op: remove, path: /spec}}]'\n        - target: {{kind: Kustomization}}\n          \
             patch: '[{{op: add, path: /spec/decryption, value: {{provider: sops}}}}]'\n"
        );
        let made = made(&text);
        let decryption = |kind: &str| {
            let object = made.iter().find(|o| o.str_at(["kind"]) == Some(kind)).unwrap();
            object.str_at(["spec", "decryption", "provider"])
        };
        assert_eq!(decryption("Kustomization"), Some("sops"));
        assert_eq!(decryption("GitRepository"), None);
    }
}
