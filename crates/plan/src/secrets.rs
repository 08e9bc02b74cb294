//! Secrets whose values are not in the tree: those that operators make in a cluster, those that a person applies by hand
//! when bootstrapping, and the keys that encrypted ones are opened with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use druse_flux::api::KustomizationSpec;
use druse_flux::config::{ANY_ENTRY, ConfigSource};
use druse_flux::decrypt::{self, Decryption};
use druse_kustomize::tree::{FileTree, Kind};
use druse_object::{Gvk, Map, Object, Provenance, Value, yaml};
use druse_sops::{Identities, placeholder};

use crate::world::Name;

/// How deep folders are looked into.
const MAX_DEPTH: usize = 64;

/// Whether objects of a kind may make an operator create a Secret.
pub(crate) fn may_make(gvk: &Gvk) -> bool {
    matches!(
        gvk.group.as_str(),
        "external-secrets.io"
            | "bitnami.com"
            | "secrets.hashicorp.com"
            | "secrets.infisical.com"
            | "onepassword.com"
            | "secretgenerator.mittwald.de"
            | "cert-manager.io"
    )
}

/// The Secret that an object makes an operator create, with placeholders for its values: those of an ExternalSecret, a
/// SealedSecret and their like. Consumers of the Secret then render as far as they can.
pub(crate) fn made_by(object: &Object) -> Option<Object> {
    let spec = object.value.get("spec").unwrap_or(&Value::Null);
    let gvk = object.gvk();
    let own = object.name();
    let or_own = |name: Option<&str>| name.filter(|n| !n.is_empty()).unwrap_or(own).to_string();
    let keys_of = |map: &Value| map.as_map().into_iter().flat_map(|m| m.keys()).map(ToString::to_string).collect();
    let (name, keys, any): (String, BTreeSet<String>, bool) = match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("external-secrets.io", "ExternalSecret") => {
            let target = &spec["target"];
            let mut keys: BTreeSet<String> =
                spec["data"].items().iter().filter_map(|d| d.str_at(["secretKey"])).map(str::to_string).collect();
            let template = &target["template"];
            let own_keys: BTreeSet<String> = keys_of(&template["data"]);
            let from = !template["templateFrom"].items().is_empty();
            let merges = template.str_at(["mergePolicy"]) == Some("Merge");
            let mut any = !spec["dataFrom"].items().is_empty();
            if (!own_keys.is_empty() || from) && !merges {
                keys.clear();
                any = from;
            }
            keys.extend(own_keys);
            (or_own(target.str_at(["name"])), keys, any)
        }
        ("bitnami.com", "SealedSecret") => {
            let mut keys: BTreeSet<String> = keys_of(&spec["encryptedData"]);
            keys.extend::<BTreeSet<String>>(keys_of(&spec["template"]["data"]));
            (or_own(spec.str_at(["template", "metadata", "name"])), keys, false)
        }
        ("secrets.hashicorp.com", "VaultStaticSecret" | "VaultDynamicSecret" | "HCPVaultSecretsApp") => {
            (or_own(spec.str_at(["destination", "name"])), BTreeSet::new(), true)
        }
        ("secrets.infisical.com", "InfisicalSecret") => {
            (or_own(spec.str_at(["managedSecretReference", "secretName"])), BTreeSet::new(), true)
        }
        ("onepassword.com", "OnePasswordItem") => (own.to_string(), BTreeSet::new(), true),
        ("secretgenerator.mittwald.de", "StringSecret") => (own.to_string(), BTreeSet::new(), true),
        ("cert-manager.io", "Certificate") => {
            let keys = ["tls.crt", "tls.key", "ca.crt"].map(str::to_string);
            (spec.str_at(["secretName"])?.to_string(), keys.into(), true)
        }
        _ => return None,
    };
    Some(stand_in("Secret", object.namespace(), &name, keys.iter().map(String::as_str), any, &object.provenance))
}

/// An object whose values are placeholders.
fn stand_in<'k>(
    kind: &str,
    namespace: &str,
    name: &str,
    keys: impl Iterator<Item = &'k str>,
    any: bool,
    provenance: &Provenance,
) -> Object {
    let mut data: Map = keys.map(|k| (k, placeholder(k))).collect();
    if any {
        data.insert(ANY_ENTRY, "");
    }
    let mut value = Map::new();
    value.insert("apiVersion", "v1");
    value.insert("kind", kind);
    value.insert("metadata", [("name", name), ("namespace", namespace)].into_iter().collect::<Map>());
    value.insert(if kind == "Secret" { "stringData" } else { "data" }, data);
    Object { value: value.into(), provenance: provenance.clone() }
}

/// ConfigMaps and Secrets of these names that lie in the tree without any unit applying them, as those that a person
/// applies when bootstrapping: ConfigMaps with their values, Secrets with placeholders. Also those that an operator makes
/// of an object in a folder that only the unit which reads the Secret applies: then a person made the first one.
pub(crate) fn in_files(tree: &dyn FileTree, wanted: &BTreeSet<Name>) -> BTreeMap<Name, Arc<Object>> {
    let mut out = BTreeMap::new();
    walk(tree, "", 0, wanted, &mut out);
    out
}

fn walk(tree: &dyn FileTree, dir: &str, depth: usize, wanted: &BTreeSet<Name>, out: &mut BTreeMap<Name, Arc<Object>>) {
    for name in tree.list(dir).unwrap_or_default() {
        if name.starts_with('.') || name == "node_modules" {
            continue;
        }
        let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
        match tree.kind(&path) {
            Some(Kind::Dir) if depth < MAX_DEPTH && tree.canonical(&path) == path => {
                walk(tree, &path, depth + 1, wanted, out);
            }
            Some(Kind::File) if path.ends_with(".yaml") || path.ends_with(".yml") => read(tree, &path, wanted, out),
            _ => {}
        }
    }
}

fn read(tree: &dyn FileTree, path: &str, wanted: &BTreeSet<Name>, out: &mut BTreeMap<Name, Arc<Object>>) {
    // Only a file in which something is found is one that units read.
    let Ok(bytes) = tree.search(path) else { return };
    let Ok(text) = std::str::from_utf8(&bytes) else { return };
    if !wanted.iter().any(|(_, _, name)| text.contains(name.as_str())) {
        return;
    }
    for doc in yaml::documents(text, yaml::Dialect::Sigs).into_iter().flatten() {
        let provenance = Provenance { file: Some(path.into()), line: doc.line, ..Provenance::default() };
        let object = Object { value: doc.value, provenance };
        let object = match made_by(&object) {
            Some(secret) => secret,
            None if object.api_version() == "v1" => object,
            None => continue,
        };
        for name in wanted {
            let (kind, namespace, own) = name;
            let fits = object.namespace().is_empty() || object.namespace() == namespace;
            if object.kind() != kind || object.name() != own || !fits || out.contains_key(name) {
                continue;
            }
            let found = if kind == "Secret" || object.value.get("sops").is_some() {
                let mut keys: BTreeSet<&str> = ["data", "stringData"]
                    .iter()
                    .filter_map(|f| object.value[*f].as_map())
                    .flat_map(|m| m.keys().map(|k| k.as_str()))
                    .collect();
                let any = keys.remove(ANY_ENTRY);
                stand_in(kind, namespace, own, keys.into_iter(), any, &object.provenance)
            } else {
                object.clone()
            };
            out.insert(name.clone(), Arc::new(found));
            let _known = tree.read(path);
        }
    }
}

/// The keys of a Kustomization: those given, and those in the Secret that it names, where the tree has it in the clear.
/// What they do not open is masked.
pub(crate) fn decryption(
    given: &Identities,
    spec: &KustomizationSpec,
    namespace: &str,
    configs: &dyn ConfigSource,
    warnings: &mut Vec<String>,
) -> Decryption {
    let mut keys = given.clone();
    let secret = spec.decryption.as_ref().and_then(|d| d.secret_ref.as_ref());
    if let Some(data) = secret.and_then(|s| configs.config("Secret", namespace, &s.name))
        && !data.values().any(|v| druse_flux::config::is_placeholder(v))
    {
        match decrypt::keys_of_secret(&data) {
            Ok(found) => keys.extend(&found),
            Err(e) => warnings.push(e.to_string()),
        }
    }
    Decryption { keys, mask: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(spec: &str) -> (String, Vec<String>) {
        let object = Object::new(yaml::parse(spec, yaml::Dialect::Sigs).unwrap());
        let secret = made_by(&object).unwrap();
        let keys = secret.value["stringData"].as_map().unwrap().keys().map(ToString::to_string).collect();
        (secret.name().to_string(), keys)
    }

    #[test]
    fn an_external_secret_makes_the_entries_that_it_names() {
        let head = "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: a, namespace: b}\n";
        let spec = "spec: {data: [{secretKey: x}], target: {name: t}}\n";
        assert_eq!(made(&format!("{head}{spec}")), ("t".into(), vec!["x".into()]));
        // What a whole item of a store holds is not known…
        let spec = "spec: {dataFrom: [{extract: {key: k}}]}\n";
        assert_eq!(made(&format!("{head}{spec}")), ("a".into(), vec!["*".into()]));
        // …unless a template says what becomes of it.
        let spec = "spec: {dataFrom: [{extract: {key: k}}], target: {template: {data: {k: '{{ .z }}'}}}}\n";
        assert_eq!(made(&format!("{head}{spec}")), ("a".into(), vec!["k".into()]));
    }

    #[test]
    fn what_is_applied_by_hand_is_found_in_the_tree_and_its_secrets_are_not_read() {
        let tree: druse_kustomize::tree::MemoryTree = [(
            "bootstrap/secret.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {token: hunter2}\n---\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: other}\ndata: {a: b}\n",
        )]
        .into_iter()
        .collect();
        let name = |kind: &str, name: &str| (kind.to_string(), "ns".to_string(), name.to_string());
        let found = in_files(&tree, &BTreeSet::from([name("Secret", "s"), name("ConfigMap", "c")]));
        assert_eq!(found.len(), 1);
        let secret = &found[&name("Secret", "s")];
        assert_eq!(secret.value.str_at(["stringData", "token"]), Some("..PLACEHOLDER_token.."));
        assert_eq!(secret.namespace(), "ns");
    }

    #[test]
    fn what_an_operator_makes_of_an_object_that_waits_for_it_was_first_made_by_hand() {
        let tree: druse_kustomize::tree::MemoryTree = [(
            "apps/secret.yaml",
            "apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: e}\n\
             spec: {target: {name: all}, dataFrom: [{extract: {key: k}}]}\n---\n\
             apiVersion: external-secrets.io/v1\nkind: ExternalSecret\nmetadata: {name: some}\n\
             spec: {data: [{secretKey: x}]}\n",
        )]
        .into_iter()
        .collect();
        let name = |name: &str| ("Secret".to_string(), "ns".to_string(), name.to_string());
        let found = in_files(&tree, &BTreeSet::from([name("all"), name("some"), name("e")]));
        assert_eq!(found.keys().map(|n| n.2.as_str()).collect::<Vec<_>>(), ["all", "some"]);
        assert!(found[&name("all")].value.at(["stringData", ANY_ENTRY]).is_some());
        assert_eq!(found[&name("some")].value.str_at(["stringData", "x"]), Some("..PLACEHOLDER_x.."));
        assert_eq!(found[&name("some")].namespace(), "ns");
    }
}
