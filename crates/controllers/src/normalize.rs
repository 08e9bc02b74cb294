//! Objects as Flux applies them: read into the API's types and written again, which fills in what those types always
//! write, and encodes what the API would encode, so that drift detection compares like with like.
//!
//! Follows `normalize` of fluxcd/pkg/ssa. Only what shows in managed fields is done: empty structs that the types never
//! leave out, the default protocol of ports, and a Secret's `stringData`.

use base64::Engine as _;
use druse_object::{Map, Object, Value};

/// Normalizes objects in place.
pub(crate) fn all(objects: &mut [Object]) {
    objects.iter_mut().for_each(one);
}

fn one(object: &mut Object) {
    let (group, kind) = (object.gvk().group.to_string(), object.kind().to_owned());
    let v = &mut object.value;
    match (group.as_str(), kind.as_str()) {
        ("", "Secret") => secret(v),
        ("", "Namespace") => empty(Some(v), "spec"),
        ("", "Pod") => pod(v.get_mut("spec")),
        ("", "PersistentVolumeClaim") => empty(v.get_mut("spec"), "resources"),
        ("", "Service") => ports(v.get_mut("spec")),
        ("apps", "Deployment") => {
            empty(v.get_mut("spec"), "strategy");
            template(v.get_mut("spec"));
        }
        ("apps", "StatefulSet" | "DaemonSet") => {
            empty(v.get_mut("spec"), "updateStrategy");
            template(v.get_mut("spec"));
        }
        ("apps", "ReplicaSet") | ("batch", "Job") => template(v.get_mut("spec")),
        ("batch", "CronJob") => {
            template(v.get_mut("spec").and_then(|s| s.get_mut("jobTemplate")).and_then(|j| j.get_mut("spec")));
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => return,
        _ => {}
    }
    if let Some(m) = v.as_map_mut() {
        m.remove("status");
    }
}

/// An empty map where there is nothing.
fn empty(parent: Option<&mut Value>, key: &str) {
    let Some(map) = parent.and_then(Value::as_map_mut) else { return };
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key, Map::new());
    }
}

fn template(spec: Option<&mut Value>) {
    pod(spec.and_then(|s| s.get_mut("template")).and_then(|t| t.get_mut("spec")));
}

fn pod(spec: Option<&mut Value>) {
    let Some(spec) = spec else { return };
    for list in ["containers", "initContainers"] {
        for c in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            ports(Some(c));
            empty(Some(c), "resources");
        }
    }
}

fn ports(owner: Option<&mut Value>) {
    let list = owner.and_then(|o| o.get_mut("ports")).and_then(Value::as_array_mut);
    for port in list.into_iter().flatten().filter_map(Value::as_map_mut) {
        if port.get("protocol").and_then(Value::as_str).is_none_or(str::is_empty) {
            port.insert("protocol", "TCP");
        }
    }
}

fn secret(v: &mut Value) {
    let Some(plain) = v.as_map_mut().and_then(|m| m.remove("stringData")) else { return };
    let (Some(plain), Some(data)) = (plain.as_map(), v.make_map_at(["data"])) else { return };
    for (k, v) in plain.iter() {
        data.insert(k.clone(), base64::engine::general_purpose::STANDARD.encode(v.as_str().unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_types_always_write_is_filled_in() {
        let text = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"status":{},
            "spec":{"template":{"spec":{"containers":[{"name":"c","ports":[{"containerPort":80}]}]}}}}"#;
        let mut objects = [Object::new(serde_json::from_str(text).unwrap())];
        all(&mut objects);
        let v = &objects[0].value;
        assert_eq!(v["spec"]["strategy"], Value::Map(Map::new()));
        let container = &v["spec"]["template"]["spec"]["containers"].items()[0];
        assert_eq!(container["resources"], Value::Map(Map::new()));
        assert_eq!(container["ports"].items()[0]["protocol"].as_str(), Some("TCP"));
        assert!(v["status"].is_null());
    }

    #[test]
    fn plain_secrets_are_encoded() {
        let text = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"stringData":{"k":"v"}}"#;
        let mut objects = [Object::new(serde_json::from_str(text).unwrap())];
        all(&mut objects);
        assert_eq!(objects[0].value["data"]["k"].as_str(), Some("dg=="));
        assert!(objects[0].value["stringData"].is_null());
    }
}
