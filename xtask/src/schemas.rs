//! Generates the API server's schema data from the OpenAPI documents that a real server publishes and from the Go
//! structs that describe the same types.
//!
//! `xtask schemas OPENAPI_DIR GO_MODULE_DIR...`: the first holds `openapi-v2.json.gz` and `openapi-v3.json.gz`, the
//! others are unpacked Go modules (`k8s.io/api@…`, `k8s.io/apimachinery@…`, `k8s.io/apiextensions-apiserver@…`,
//! `k8s.io/kube-aggregator@…`). The Go sources say what OpenAPI does not: which fields are pointers and which are left
//! out when empty, so that a decoded object is written back exactly as upstream writes it.

use std::collections::{BTreeMap, HashMap};
use std::io::{Error, Read, Result, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::DeflateEncoder;
use serde_json::{Map, Value, json};

/// One Go struct field: its JSON name, its type text, and whether it is left out when empty.
#[derive(Clone)]
struct GoField {
    json: String,
    ty: String,
    omitempty: bool,
    omitzero: bool,
    inline: bool,
}

type GoStructs = HashMap<String, Vec<GoField>>;

/// Runs the generator; the arguments are described in the module's documentation.
///
/// # Errors
/// When a source cannot be read or a target not written.
pub fn run(args: &[String]) -> Result<()> {
    let [openapi, modules @ ..] = args else {
        return Err(Error::other("usage: xtask schemas OPENAPI_DIR GO_MODULE_DIR..."));
    };
    let openapi = Path::new(openapi);
    let out = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/apiserver/data");
    let v3: Value = serde_json::from_slice(&gunzip(&openapi.join("openapi-v3.json.gz"))?)?;
    let v2 = gunzip(&openapi.join("openapi-v2.json.gz"))?;
    let mut packages: HashMap<String, GoStructs> = HashMap::new();
    for module in modules {
        for file in go_files(Path::new(module))? {
            let Some(dir) = file.parent() else { continue };
            let key = package_key(module, dir);
            parse_go(&std::fs::read_to_string(&file)?, packages.entry(key).or_default());
        }
    }
    let mut types = BTreeMap::new();
    for doc in v3.as_object().into_iter().flat_map(Map::values) {
        let schemas = doc.pointer("/components/schemas").and_then(Value::as_object);
        for (name, schema) in schemas.into_iter().flatten() {
            types.entry(name.clone()).or_insert_with(|| type_record(name, schema, &packages));
        }
    }
    let mut text = String::new();
    for (name, record) in &types {
        text.push_str(name);
        text.push('\t');
        let kinds = record.get("k").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        text.push_str(&kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "));
        text.push('\t');
        let mut record = record.clone();
        if let Some(o) = record.as_object_mut() {
            o.remove("k");
        }
        text.push_str(&serde_json::to_string(&record)?);
        text.push('\n');
    }
    std::fs::write(out.join("types.deflate"), deflate(text.as_bytes())?)?;
    std::fs::write(out.join("openapi-v2.deflate"), deflate(&v2)?)?;
    // One block a document, so that one can be served without unpacking the rest:
    // "PATH LENGTH\n"... then an empty line, then the blocks.
    let (mut index, mut blocks) = (String::new(), Vec::new());
    for (path, doc) in v3.as_object().into_iter().flatten() {
        let block = deflate(serde_json::to_string(doc)?.as_bytes())?;
        index.push_str(&format!("{path} {}\n", block.len()));
        blocks.extend(block);
    }
    index.push('\n');
    std::fs::write(out.join("openapi-v3.bin"), [index.as_bytes(), &blocks].concat())
}

fn gunzip(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(path)?).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn deflate(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut enc = DeflateEncoder::new(Vec::new(), Compression::best());
    enc.write_all(bytes)?;
    enc.finish()
}

fn go_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let path = entry?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() {
                open.push(path);
            } else if name.ends_with(".go")
                && !name.ends_with("_test.go")
                && !name.starts_with("zz_")
                && !name.contains("generated")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The package as OpenAPI type names begin: `io.k8s.api.apps.v1`.
fn package_key(module: &str, dir: &Path) -> String {
    let base = Path::new(module).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let base = base.split('@').next().unwrap_or_default().to_string();
    let inside = dir.strip_prefix(module).map(|p| p.to_string_lossy().replace('/', ".")).unwrap_or_default();
    if inside.is_empty() { format!("io.k8s.{base}") } else { format!("io.k8s.{base}.{inside}") }
}

fn parse_go(text: &str, structs: &mut GoStructs) {
    let mut current: Option<(String, Vec<GoField>)> = None;
    for line in text.lines() {
        if let Some((name, fields)) = &mut current {
            if line == "}" {
                structs.insert(std::mem::take(name), std::mem::take(fields));
                current = None;
                continue;
            }
            let line = line.trim();
            let Some(at) = line.find("json:\"") else { continue };
            if line.starts_with("//") {
                continue;
            }
            let tag = line[at + 6..].split('"').next().unwrap_or_default();
            let before = line[..at].split('`').next().unwrap_or_default();
            let mut words = before.split_whitespace();
            let first = words.next().unwrap_or_default();
            let ty = words.collect::<Vec<_>>().join(" ");
            let mut options = tag.split(',');
            let json = options.next().unwrap_or_default().to_string();
            let options: Vec<_> = options.collect();
            fields.push(GoField {
                inline: json.is_empty() && (options.contains(&"inline") || ty.is_empty()),
                ty: if ty.is_empty() { first.to_string() } else { ty },
                omitempty: options.contains(&"omitempty"),
                omitzero: options.contains(&"omitzero"),
                json,
            });
        } else if let Some(rest) = line.strip_prefix("type ")
            && let Some(name) = rest.strip_suffix(" struct {")
        {
            current = Some((name.to_string(), Vec::new()));
        }
    }
}

/// Where a Go type text is declared: an alias of an import, or the same package.
fn resolve(package: &str, ty: &str) -> (String, String) {
    let ty = ty.trim_start_matches('*');
    match ty.split_once('.') {
        Some(("metav1", name)) => ("io.k8s.apimachinery.pkg.apis.meta.v1".into(), name.into()),
        Some(("v1" | "corev1" | "core", name)) => {
            let meta = ["TypeMeta", "ObjectMeta", "ListMeta"].contains(&name);
            let package = if meta { "io.k8s.apimachinery.pkg.apis.meta.v1" } else { "io.k8s.api.core.v1" };
            (package.into(), name.into())
        }
        Some((_, name)) => (package.into(), name.into()),
        None => (package.into(), ty.into()),
    }
}

/// A struct's field, and the embedded structs on the way to it.
fn go_field<'a>(
    packages: &'a HashMap<String, GoStructs>,
    package: &str,
    name: &str,
    json: &str,
    depth: u8,
) -> Option<(&'a GoField, Vec<String>)> {
    let fields = packages.get(package)?.get(name)?;
    if let Some(f) = fields.iter().find(|f| f.json == json) {
        return Some((f, Vec::new()));
    }
    if depth == 0 {
        return None;
    }
    fields.iter().filter(|f| f.inline).find_map(|f| {
        let (p, n) = resolve(package, &f.ty);
        let (found, mut way) = go_field(packages, &p, &n, json, depth - 1)?;
        way.insert(0, n);
        Some((found, way))
    })
}

/// Adds what a name such as `Protocol` is, which messages about wrong types say; the plain ones follow from the format.
fn name_types(record: &mut Map<String, Value>, ty: &str, package: &str) {
    let ty = ty.trim_start_matches('*');
    if ty == "[]byte" {
        record.insert("G".into(), json!("[]uint8"));
        return;
    }
    let (inner, part) = match (ty.strip_prefix("[]"), ty.strip_prefix("map[")) {
        (Some(rest), _) => (Some(rest), "i"),
        (_, Some(rest)) => (rest.split_once(']').map(|(_, v)| v), "m"),
        _ => (None, ""),
    };
    if let Some(inner) = inner {
        if let Some(record) = record.get_mut(part).and_then(Value::as_object_mut) {
            name_types(record, inner, package);
        }
        return;
    }
    if ["string", "int32", "int64", "bool", "float64"].contains(&ty) || !record.contains_key("t") {
        return;
    }
    let full = match ty.split_once('.') {
        // An import by another name.
        Some((from, name)) => {
            match from.rfind('v').filter(|at| from[at + 1..].starts_with(|c: char| c.is_ascii_digit())) {
                Some(at) => format!("{}.{name}", &from[at..]),
                None => ty.into(),
            }
        }
        None => format!("{}.{ty}", package.rsplit('.').next().unwrap_or_default()),
    };
    record.insert("G".into(), json!(full));
}

fn type_record(name: &str, schema: &Value, packages: &HashMap<String, GoStructs>) -> Value {
    let mut record = node(schema);
    if let Some(gvks) = schema.get("x-kubernetes-group-version-kind").and_then(Value::as_array) {
        let kinds: Vec<Value> = gvks
            .iter()
            .map(|g| json!(format!("{}/{}/{}", text(g, "group"), text(g, "version"), text(g, "kind"))))
            .collect();
        record.insert("k".into(), Value::Array(kinds));
    }
    let (package, short) = name.rsplit_once('.').unwrap_or(("", name));
    if let Some(fields) = record.get_mut("p").and_then(Value::as_object_mut) {
        for (json, field) in fields {
            let (Some((go, way)), Some(field)) = (go_field(packages, package, short, json, 3), field.as_object_mut())
            else {
                continue;
            };
            let mut flags = String::new();
            if go.ty.starts_with('*') {
                flags.push('p');
            }
            if go.omitempty {
                flags.push('o');
            }
            if go.omitzero {
                flags.push('z');
            }
            name_types(field, &go.ty, package);
            if !way.is_empty() {
                field.insert("E".into(), json!(way.join(".")));
            }
            field.insert("g".into(), json!(flags));
        }
    }
    Value::Object(record)
}

fn text<'a>(v: &'a Value, key: &str) -> &'a str {
    v.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn node(schema: &Value) -> Map<String, Value> {
    let mut out = Map::new();
    let reference = schema.get("$ref").or_else(|| schema.pointer("/allOf/0/$ref")).and_then(Value::as_str);
    if let Some(r) = reference {
        out.insert("R".into(), json!(r.rsplit('/').next().unwrap_or(r)));
    }
    let ty = match text(schema, "type") {
        "string" => "s",
        "integer" => "i",
        "number" => "n",
        "boolean" => "b",
        "array" => "a",
        "object" => "o",
        _ => "",
    };
    if !ty.is_empty() {
        out.insert("t".into(), json!(ty));
    }
    let copied = [
        ("format", "f"),
        ("default", "d"),
        ("required", "r"),
        ("enum", "e"),
        ("x-kubernetes-list-type", "lt"),
        ("x-kubernetes-list-map-keys", "lk"),
        ("x-kubernetes-map-type", "mt"),
        ("x-kubernetes-patch-merge-key", "pk"),
        ("x-kubernetes-patch-strategy", "ps"),
    ];
    for (from, to) in copied {
        if let Some(v) = schema.get(from) {
            out.insert(to.into(), v.clone());
        }
    }
    if let Some(items) = schema.get("items") {
        out.insert("i".into(), Value::Object(node(items)));
    }
    if let Some(values) = schema.get("additionalProperties").filter(|v| v.is_object()) {
        out.insert("m".into(), Value::Object(node(values)));
    }
    if let Some(fields) = schema.get("properties").and_then(Value::as_object) {
        out.insert(
            "p".into(),
            Value::Object(fields.iter().map(|(k, v)| (k.clone(), Value::Object(node(v)))).collect()),
        );
    }
    if schema.get("oneOf").is_some() && out.get("f").is_none() {
        out.insert("f".into(), json!("quantity"));
    }
    out
}
