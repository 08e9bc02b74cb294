//! Types as specifications: what is read, dropped, kept and said.

use druse_object::{Gvk, Value, json};

use super::SchemaSet;
use super::openapi;

fn parse(text: &str) -> Value {
    json::parse(text.as_bytes()).unwrap()
}

fn decode(api_version: &str, kind: &str, text: &str) -> Result<(String, Vec<String>), String> {
    let ty = SchemaSet::builtin().for_gvk(&Gvk::from_api_version(api_version, kind)).unwrap();
    let mut v = parse(text);
    let unknown = ty.decode(&mut v).map_err(|e| e.0)?;
    v.sort_keys();
    Ok((json::to_string(&v), unknown))
}

#[test]
fn every_built_in_type_can_be_read() {
    let set = SchemaSet::builtin();
    let mut n = 0;
    for gvk in SchemaSet::builtin_kinds() {
        let ty = set.for_gvk(gvk).unwrap();
        assert!(ty.root().node().is_struct() || ty.root().node().preserve, "{gvk}");
        let _ = ty.empty();
        n += 1;
    }
    assert!(n > 120, "{n}");
}

#[test]
fn objects_are_written_as_their_go_structs_are() {
    let (text, unknown) = decode(
        "v1",
        "Pod",
        r#"{"metadata":{"labels":{},"name":"p"},"spec":{"hostNetwork":false,"nope":1,"containers":[{"name":"c","image":"i","env":[],"resources":{"limits":{"cpu":"1000m","memory":"1024Mi"}}}]}}"#,
    )
    .unwrap();
    assert_eq!(
        text,
        r#"{"metadata":{"name":"p"},"spec":{"containers":[{"image":"i","name":"c","resources":{"limits":{"cpu":"1","memory":"1Gi"}}}]},"status":{}}"#
    );
    assert_eq!(unknown, ["spec.nope"]);
}

#[test]
fn values_of_the_wrong_type_are_refused_in_gos_words() {
    assert_eq!(
        decode("apps/v1", "Deployment", r#"{"spec":{"replicas":"many"}}"#).unwrap_err(),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"
    );
    assert_eq!(
        decode("v1", "ConfigMap", r#"{"data":{"a":1}}"#).unwrap_err(),
        "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"
    );
    assert_eq!(
        decode("v1", "Secret", r#"{"data":{"a":"not base64!"}}"#).unwrap_err(),
        "illegal base64 data at input byte 3"
    );
}

#[test]
fn custom_types_default_prune_and_judge() {
    let crd = parse(
        r#"{"metadata":{"name":"ws.e.org"},"spec":{"group":"e.org","scope":"Namespaced","names":{"plural":"ws","kind":"W"},
        "versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","properties":{"spec":{"type":"object",
        "properties":{"n":{"type":"integer","default":3,"maximum":5},"s":{"type":"array","x-kubernetes-list-type":"set","items":{"type":"string"}},
        "p":{"x-kubernetes-int-or-string":true},"o":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}}}}}]}}"#,
    );
    let set = SchemaSet::builtin();
    set.set_crd(&crd).unwrap();
    let gvk = Gvk::new("e.org", "v1", "W");
    let ty = set.for_gvk(&gvk).unwrap();
    let mut v = parse(r#"{"metadata":{"name":"a","x":1},"spec":{"u":1,"o":{"any":[1]},"s":["a","a"],"p":"x"}}"#);
    assert_eq!(ty.decode(&mut v).unwrap(), ["metadata.x", "spec.u"]);
    ty.default(&mut v);
    assert_eq!(v.at(["spec", "n"]), Some(&Value::Int(3)));
    assert_eq!(v.at(["spec", "o", "any"]), Some(&parse("[1]")));
    let said: Vec<String> = ty.validate(&v, None).iter().map(ToString::to_string).collect();
    assert_eq!(said, [r#"spec.s[1]: Duplicate value: "a""#]);
    // What was stored before a rule came may stay.
    let mut old = v.clone();
    old.make_map_at(["spec"]).unwrap().insert("n", 9);
    let mut new = old.clone();
    new.make_map_at(["spec"]).unwrap().insert("p", 1);
    assert!(ty.validate(&new, Some(&old)).is_empty());
    set.remove_crd("ws.e.org");
    assert!(set.for_gvk(&gvk).is_none());
}

#[test]
fn published_schemas_are_whole_and_take_custom_kinds() {
    let none: [Value; 0] = [];
    for path in openapi::openapi_v3_paths(&none) {
        let text = openapi::openapi_v3(&path, &none).unwrap();
        assert!(text.len() > 100 && text.ends_with(b"}"), "{path}");
    }
    let crd = parse(
        r#"{"metadata":{"name":"ws.e.org"},"spec":{"group":"e.org","scope":"Namespaced","names":{"plural":"ws","kind":"W","listKind":"WList"},
        "versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}"#,
    );
    let doc = json::parse(&openapi::openapi_v3("apis/e.org/v1", [&crd]).unwrap()).unwrap();
    assert!(doc.at(["components", "schemas"]).unwrap().get("org.e.v1.W").is_some());
    let doc = json::parse(&openapi::openapi_v2([&crd])).unwrap();
    assert!(doc.at(["definitions"]).unwrap().get("org.e.v1.WList").is_some());
    assert!(openapi::openapi_v3("apis/none/v1", &none).is_none());
}
