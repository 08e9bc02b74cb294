//! The published schemas: `/openapi/v2` and `/openapi/v3`, with those of CRDs.
//!
//! Built-in documents are a real server's, shipped compressed and unpacked only when asked for.

use std::io::Read;

use druse_object::{Map, Value};

static V2: &[u8] = include_bytes!("../../data/openapi-v2.deflate");
static V3: &[u8] = include_bytes!("../../data/openapi-v3.bin");

fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    // The data is part of the program; the tests unpack every block of it.
    let _ = flate2::read::DeflateDecoder::new(bytes).read_to_end(&mut out);
    out
}

/// `/openapi/v2` as JSON text, with the kinds of the given CRDs.
#[must_use]
pub fn openapi_v2<'a>(crds: impl IntoIterator<Item = &'a Value>) -> Vec<u8> {
    let text = inflate(V2);
    let mut crds = crds.into_iter().peekable();
    if crds.peek().is_none() {
        return text;
    }
    let Ok(mut doc) = druse_object::json::parse(&text) else { return text };
    for crd in crds {
        for (name, definition, _) in crd_definitions(crd, "#/definitions/") {
            if let Some(m) = doc.make_map_at(["definitions"]) {
                m.insert(name, definition);
            }
        }
        for (path, item) in crd_paths(crd, true) {
            if let Some(m) = doc.make_map_at(["paths"]) {
                m.insert(path, item);
            }
        }
    }
    druse_object::json::to_string(&doc).into_bytes()
}

fn index() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    let end = V3.windows(2).position(|w| w == b"\n\n").unwrap_or(0);
    let head = std::str::from_utf8(V3.get(..end).unwrap_or_default()).unwrap_or_default();
    let mut rest = V3.get(end + 2..).unwrap_or_default();
    head.lines().filter_map(move |line| {
        let (path, length) = line.rsplit_once(' ')?;
        let length = length.parse().unwrap_or(0).min(rest.len());
        let (block, more) = rest.split_at(length);
        rest = more;
        Some((path, block))
    })
}

/// The paths below `/openapi/v3/`, sorted: built-in ones (`api/v1`, `apis/apps/v1`) and those of CRDs.
#[must_use]
pub fn openapi_v3_paths<'a>(crds: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    let mut out: Vec<String> = index().map(|(p, _)| p.to_string()).collect();
    for crd in crds {
        let group = crd.str_at(["spec", "group"]).unwrap_or_default();
        for v in served(crd) {
            out.push(format!("apis/{group}/{}", v.str_at(["name"]).unwrap_or_default()));
        }
    }
    out.sort();
    out.dedup();
    out
}

/// One document of `/openapi/v3`, as JSON text; `None` when there is none at this path.
#[must_use]
pub fn openapi_v3<'a>(path: &str, crds: impl IntoIterator<Item = &'a Value>) -> Option<Vec<u8>> {
    let builtin = index().find(|(p, _)| *p == path).map(|(_, block)| inflate(block));
    let mut doc: Option<Value> = None;
    for crd in crds {
        let group = crd.str_at(["spec", "group"]).unwrap_or_default();
        for (name, definition, version) in crd_definitions(crd, "#/components/schemas/") {
            if format!("apis/{group}/{version}") != path {
                continue;
            }
            let doc = doc.get_or_insert_with(|| match &builtin {
                Some(text) => druse_object::json::parse(text).unwrap_or_default(),
                None => empty_v3(),
            });
            if let Some(m) = doc.make_map_at(["components", "schemas"]) {
                m.insert(name, definition);
                add_shared(m);
            }
            for (at, item) in crd_paths(crd, false) {
                if at.starts_with(&format!("/apis/{group}/{version}/"))
                    && let Some(m) = doc.make_map_at(["paths"])
                {
                    m.insert(at, item);
                }
            }
        }
    }
    match doc {
        Some(doc) => Some(druse_object::json::to_string(&doc).into_bytes()),
        None => builtin,
    }
}

fn empty_v3() -> Value {
    let text = br#"{"openapi":"3.0.0","info":{"title":"Kubernetes CRD Swagger","version":"v0.1.0"},"paths":{},"components":{"schemas":{}}}"#;
    druse_object::json::parse(text).unwrap_or_default()
}

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";

/// The definitions of metadata that documents of CRDs refer to.
fn add_shared(schemas: &mut Map) {
    if schemas.contains_key(&format!("{META}ObjectMeta")) {
        return;
    }
    let Some(block) = index().find(|(p, _)| *p == "apis/apiextensions.k8s.io/v1").map(|(_, b)| inflate(b)) else {
        return;
    };
    let Ok(doc) = druse_object::json::parse(&block) else { return };
    for (name, v) in doc.at(["components", "schemas"]).and_then(Value::as_map).into_iter().flat_map(Map::iter) {
        if name.starts_with(META) {
            schemas.insert(name.clone(), v.clone());
        }
    }
}

fn served(crd: &Value) -> impl Iterator<Item = &Value> {
    let list = crd.at(["spec", "versions"]).map(Value::items).unwrap_or_default();
    list.iter().filter(|v| v.get("served").and_then(Value::as_bool) == Some(true))
}

/// `org.example.t1.v1.Widget`: the group's labels reversed, the version, the kind.
fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let reversed: Vec<&str> = group.split('.').rev().collect();
    format!("{}.{version}.{kind}", reversed.join("."))
}

fn gvk_entry(group: &str, version: &str, kind: &str) -> Value {
    let mut m = Map::new();
    m.insert("group", group);
    m.insert("kind", kind);
    m.insert("version", version);
    Value::Map(m)
}

/// The definitions of a CRD's served versions: name, schema, version. Lists included.
fn crd_definitions(crd: &Value, reference: &str) -> Vec<(String, Value, String)> {
    let text = |path: &[&str]| {
        path.iter().try_fold(crd, |v, k| v.get(k)).and_then(Value::as_str).unwrap_or_default().to_string()
    };
    let (group, kind) = (text(&["spec", "group"]), text(&["spec", "names", "kind"]));
    let list_kind = text(&["spec", "names", "listKind"]);
    let mut out = Vec::new();
    for v in served(crd) {
        let version = v.str_at(["name"]).unwrap_or_default().to_string();
        let mut schema = v.at(["schema", "openAPIV3Schema"]).cloned().unwrap_or_else(|| Value::Map(Map::new()));
        let text = r#"{"apiVersion":{"type":"string","description":"APIVersion defines the versioned schema of this representation of an object."},"kind":{"type":"string","description":"Kind is a string value representing the REST resource this object represents."}}"#;
        if let (Some(fields), Ok(Value::Map(shared))) =
            (schema.make_map_at(["properties"]), druse_object::json::parse(text.as_bytes()))
        {
            for (k, v) in shared {
                fields.insert(k, v);
            }
            let mut meta = Map::new();
            meta.insert("$ref", format!("{reference}{META}ObjectMeta"));
            fields.insert("metadata", meta);
        }
        if let Some(m) = schema.as_map_mut() {
            m.insert("type", "object");
            m.insert("x-kubernetes-group-version-kind", vec![gvk_entry(&group, &version, &kind)]);
        }
        let name = definition_name(&group, &version, &kind);
        let list = format!(
            r#"{{"type":"object","required":["items"],"properties":{{"apiVersion":{{"type":"string"}},"kind":{{"type":"string"}},"metadata":{{"$ref":"{reference}{META}ListMeta"}},"items":{{"type":"array","items":{{"$ref":"{reference}{name}"}}}}}}}}"#
        );
        let mut list = druse_object::json::parse(list.as_bytes()).unwrap_or_default();
        if let Some(m) = list.as_map_mut() {
            m.insert("x-kubernetes-group-version-kind", vec![gvk_entry(&group, &version, &list_kind)]);
        }
        out.push((name, schema, version.clone()));
        out.push((definition_name(&group, &version, &list_kind), list, version));
    }
    out
}

/// The paths of a CRD, as far as clients read them: which kind each takes and whether it can be patched.
fn crd_paths(crd: &Value, v2: bool) -> Vec<(String, Value)> {
    let text = |path: &[&str]| {
        path.iter().try_fold(crd, |v, k| v.get(k)).and_then(Value::as_str).unwrap_or_default().to_string()
    };
    let (group, kind, plural) =
        (text(&["spec", "group"]), text(&["spec", "names", "kind"]), text(&["spec", "names", "plural"]));
    let namespaced = text(&["spec", "scope"]) == "Namespaced";
    let mut out = Vec::new();
    for v in served(crd) {
        let version = v.str_at(["name"]).unwrap_or_default();
        let base = if namespaced {
            format!("/apis/{group}/{version}/namespaces/{{namespace}}/{plural}")
        } else {
            format!("/apis/{group}/{version}/{plural}")
        };
        let operation = |verb: &str| {
            let mut m = Map::new();
            m.insert("x-kubernetes-action", verb);
            m.insert("x-kubernetes-group-version-kind", gvk_entry(&group, version, &kind));
            let names = ["dryRun", "fieldManager", "fieldValidation"];
            let parameters: Vec<Value> = names
                .iter()
                .map(|n| {
                    let mut p = Map::new();
                    p.insert("in", "query");
                    p.insert("name", *n);
                    if v2 {
                        p.insert("type", "string");
                    } else {
                        let mut s = Map::new();
                        s.insert("type", "string");
                        p.insert("schema", s);
                    }
                    Value::Map(p)
                })
                .collect();
            m.insert("parameters", parameters);
            let mut responses = Map::new();
            let mut ok = Map::new();
            ok.insert("description", "OK");
            responses.insert("200", ok);
            m.insert("responses", responses);
            if verb == "patch" && v2 {
                let types =
                    ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
                m.insert("consumes", types.iter().map(|t| Value::from(*t)).collect::<Value>());
            }
            Value::Map(m)
        };
        let mut all = Map::new();
        all.insert("get", operation("list"));
        all.insert("post", operation("post"));
        let mut one = Map::new();
        one.insert("get", operation("get"));
        one.insert("put", operation("put"));
        one.insert("patch", operation("patch"));
        one.insert("delete", operation("delete"));
        out.push((base.clone(), Value::Map(all)));
        out.push((format!("{base}/{{name}}"), Value::Map(one)));
    }
    out
}
