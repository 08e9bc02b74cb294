//! The built-in resources, read from the table that `xtask api-resources` writes from a real server's discovery.

use base64::Engine as _;
use druse_object::{Gvk, Str};
use sha2::{Digest as _, Sha256};

use super::{Resource, ScalePaths, Subresource, Version};

const TABLE: &str = include_str!("../../data/resources.tsv");

/// The shipped resource table is malformed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("built-in resource table, line {line}: {what}")]
pub struct BuiltinError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub what: &'static str,
}

fn words(s: &str) -> Vec<Str> {
    if s == "-" { Vec::new() } else { s.split(',').map(Str::from).collect() }
}

/// The hash that discovery shows for a stored type.
#[must_use]
pub fn storage_hash(group: &str, version: &str, kind: &str) -> Str {
    let sum = Sha256::digest(format!("{group}/{version}/{kind}").as_bytes());
    base64::engine::general_purpose::STANDARD.encode(sum.get(..8).unwrap_or_default()).into()
}

/// All built-in resources.
///
/// # Errors
/// When the shipped table is malformed.
pub fn builtin() -> Result<Vec<Resource>, BuiltinError> {
    let mut out: Vec<Resource> = Vec::new();
    for (i, row) in TABLE.lines().enumerate() {
        let bad = |what| BuiltinError { line: i + 1, what };
        let cells: Vec<&str> = row.split('\t').collect();
        let [group, version, plural, singular, kind, scope, verbs, short, categories, subs] = cells.as_slice() else {
            return Err(bad("ten cells expected"));
        };
        let group = if *group == "-" { "" } else { group };
        let mut subresources = Vec::new();
        for s in subs.split(';').filter(|s| *s != "-") {
            let mut parts = s.split('=');
            let (Some(name), Some(gvk), Some(verbs)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(bad("a subresource is name=kind=verbs"));
            };
            let mut k = gvk.split('/');
            let (Some(g), Some(v), Some(kind)) = (k.next(), k.next(), k.next()) else {
                return Err(bad("a subresource's kind is group/version/kind"));
            };
            subresources.push(Subresource { name: name.into(), kind: Gvk::new(g, v, kind), verbs: words(verbs) });
        }
        let scale = subresources.iter().any(|s| s.name == "scale").then(|| ScalePaths {
            spec_replicas: ".spec.replicas".into(),
            status_replicas: ".status.replicas".into(),
            label_selector: Str::default(),
        });
        // Kinds that upstream warns of whenever they are used.
        let deprecation = match (group, *plural) {
            ("", "endpoints") => {
                Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".into())
            }
            ("", "componentstatuses") => Some("v1 ComponentStatus is deprecated in v1.19+".into()),
            _ => None,
        };
        let version = Version { name: (*version).into(), subresources, scale, deprecation, ..Version::default() };
        if let Some(known) = out.iter_mut().find(|r| r.group == group && r.plural == *plural) {
            known.versions.push(version);
            continue;
        }
        // Objects that two groups serve are stored once, in the form the real server stores them.
        let (stored_as, stored_group, storage_version): (&str, &str, &str) = match (group, *plural) {
            ("events.k8s.io", "events") => ("events", "", "v1"),
            _ => ("", group, version.name.as_str()),
        };
        let mut r = Resource {
            group: group.into(),
            kind: (*kind).into(),
            list_kind: format!("{kind}List").into(),
            plural: (*plural).into(),
            singular: (*singular).into(),
            short_names: words(short),
            categories: words(categories),
            namespaced: *scope == "N",
            verbs: words(verbs),
            storage_version: storage_version.into(),
            // CRDs keep the hash of the version they were once stored in.
            storage_hash: match *kind {
                "CustomResourceDefinition" | "MutatingAdmissionPolicy" | "MutatingAdmissionPolicyBinding" => {
                    storage_hash(stored_group, "v1beta1", kind)
                }
                _ => storage_hash(stored_group, storage_version, kind),
            },
            versions: vec![version],
            ..Resource::default()
        };
        r.stored_as = if stored_as.is_empty() { r.qualified().into() } else { stored_as.into() };
        out.push(r);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_table_reads_and_holds_what_every_cluster_has() {
        let all = builtin().unwrap();
        let pods = all.iter().find(|r| r.plural == "pods").unwrap();
        assert!(pods.namespaced && pods.allows("deletecollection"));
        assert!(pods.versions[0].subresources.iter().any(|s| s.name == "binding" && s.verbs == ["create"]));
        let hpa = all.iter().find(|r| r.plural == "horizontalpodautoscalers").unwrap();
        assert_eq!(hpa.versions.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["v2", "v1"]);
        assert_eq!(all.iter().find(|r| r.plural == "configmaps").unwrap().storage_hash, "qFsyl6wFWjQ=");
    }
}
