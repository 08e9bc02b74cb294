//! What objects become when they are created, applied and patched, against recorded answers of a real server: the
//! types, defaults, rules and field ownership alone, without HTTP, storage and admission.

// Helpers of tests are tests: a broken fixture may stop them.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::needless_pass_by_value)]

use std::collections::HashMap;
use std::path::PathBuf;

use druse_apiserver::apply::{ApplyError, apply, record_update};
use druse_apiserver::schema::{SchemaSet, TypeSchema};
use druse_apiserver::{FieldError, crd, validate};
use druse_object::{Gvk, Value, json, patch};

const NOW: &str = "2026-01-02T03:04:05Z";

/// What admission, allocation and controllers add or change, which is not made here.
const ADDED: &[&str] = &[
    ".metadata.finalizers",
    ".spec.clusterIP",
    ".spec.ipFam",
    ".spec.ports[0].nodePort",
    ".spec.volumes",
    ".spec.tolerations",
    ".spec.priority",
    ".spec.preemptionPolicy",
    ".spec.containers[0].volumeMounts",
    ".status.phase",
    ".status.qosClass",
];

fn shared() -> Option<PathBuf> {
    let root = std::env::var_os("DRUSE_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    root.join("kubernetes/transcripts").is_dir().then_some(root)
}

fn masked(v: &Value, key: &str) -> Value {
    const MASK: &[&str] =
        &["uid", "resourceVersion", "creationTimestamp", "time", "clusterIP", "clusterIPs", "nodePort"];
    if MASK.contains(&key) && !v.is_null() {
        return Value::from(format!("<{key}>"));
    }
    match v {
        Value::Map(m) => Value::Map(m.iter().map(|(k, v)| (k.clone(), masked(v, k))).collect()),
        Value::Array(a) => a.iter().map(|v| masked(v, "")).collect(),
        other => other.clone(),
    }
}

/// The first differences, by path.
fn differences(want: &Value, got: &Value, at: &str, out: &mut Vec<String>) {
    match (want, got) {
        (Value::Map(a), Value::Map(b)) => {
            for (k, v) in a.iter() {
                match b.get(k) {
                    Some(w) => differences(v, w, &format!("{at}.{k}"), out),
                    None => out.push(format!("{at}.{k}: missing, want {}", json::to_string(v))),
                }
            }
            for (k, v) in b.iter().filter(|(k, _)| !a.contains_key(k)) {
                out.push(format!("{at}.{k}: not expected: {}", json::to_string(v)));
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                differences(x, y, &format!("{at}[{i}]"), out);
            }
        }
        _ if want == got => {}
        _ => out.push(format!("{at}: want {}, got {}", json::to_string(want), json::to_string(got))),
    }
}

/// An outcome: the object, or status code and message, with causes.
type Outcome = Result<Value, (i64, String)>;

struct Api {
    schemas: SchemaSet,
    kinds: HashMap<String, Gvk>,
    objects: HashMap<String, Value>,
}

impl Api {
    fn new() -> Self {
        let mut kinds = HashMap::new();
        for r in druse_apiserver::registry::builtin().unwrap() {
            for v in &r.versions {
                let prefix = if r.group.is_empty() {
                    format!("/api/{}", v.name)
                } else {
                    format!("/apis/{}/{}", r.group, v.name)
                };
                kinds.insert(format!("{prefix}/{}", r.plural), r.gvk(&v.name));
            }
        }
        Self { schemas: SchemaSet::builtin(), kinds, objects: HashMap::new() }
    }

    /// The kind, namespace, name and subresource of a path.
    fn resolve(&self, path: &str) -> Option<(Gvk, String, String, String)> {
        let path = path.split('?').next()?;
        let parts: Vec<&str> = path.split('/').collect();
        let head = if parts.get(1) == Some(&"api") { 3 } else { 4 };
        let prefix = parts.get(..head)?.join("/");
        let mut rest = parts.get(head..)?.to_vec();
        let mut namespace = String::new();
        if rest.first() == Some(&"namespaces") && rest.len() > 2 {
            namespace = (*rest.get(1)?).to_string();
            rest.drain(..2);
        }
        let gvk = self.kinds.get(&format!("{prefix}/{}", rest.first()?))?.clone();
        let at = |i: usize| rest.get(i).map(|s| (*s).to_string()).unwrap_or_default();
        Some((gvk, namespace, at(1), at(2)))
    }

    fn invalid(gvk: &Gvk, name: &str, errors: &[FieldError]) -> (i64, String) {
        let kind = if gvk.group.is_empty() { gvk.kind.to_string() } else { format!("{}.{}", gvk.kind, gvk.group) };
        let mut texts: Vec<String> = Vec::new();
        for e in errors {
            let t = e.to_string();
            if !texts.contains(&t) {
                texts.push(t);
            }
        }
        let list = if texts.len() == 1 { texts.remove(0) } else { format!("[{}]", texts.join(", ")) };
        (422, format!("{kind} \"{name}\" is invalid: {list}"))
    }

    fn judge(&self, schema: &TypeSchema, new: &Value, old: Option<&Value>) -> Result<(), (i64, String)> {
        let errors = if schema.is_builtin() {
            match old {
                None => validate::validate_create(&schema.gvk, new),
                Some(old) => validate::validate_update(&schema.gvk, new, old),
            }
        } else {
            schema.validate(new, old)
        };
        let name = new.str_at(["metadata", "name"]).unwrap_or_default();
        if errors.is_empty() { Ok(()) } else { Err(Self::invalid(&schema.gvk, name, &errors)) }
    }

    fn decode(schema: &TypeSchema, value: &mut Value, strict: bool) -> Result<(), (i64, String)> {
        let fail = |text: String| {
            (
                400,
                format!(
                    "{0} in version \"{1}\" cannot be handled as a {0}: {text}",
                    schema.gvk.kind, schema.gvk.version
                ),
            )
        };
        let unknown = schema.decode(value).map_err(|e| fail(e.0))?;
        if strict && !unknown.is_empty() {
            let list: Vec<String> = unknown.iter().map(|p| format!("unknown field \"{p}\"")).collect();
            return Err(fail(format!("strict decoding error: {}", list.join(", "))));
        }
        schema.default(value);
        Ok(())
    }

    fn step(&mut self, step: &Value) -> Option<Outcome> {
        let method = step.str_at(["method"])?;
        let path = step.str_at(["path"])?;
        let (gvk, namespace, name, sub) = self.resolve(path)?;
        if sub == "scale" && method == "PUT" || sub == "binding" {
            // From here on the recording's object has a past that this replay does not.
            self.objects.retain(|k, _| !k.starts_with(&format!("{}/{}/{namespace}/{name}", gvk.group, gvk.kind)));
        }
        if !sub.is_empty() && sub != "status" {
            return None;
        }
        let schema = self.schemas.for_gvk(&gvk)?;
        let body = match step.get("body")? {
            Value::String(s) => druse_object::yaml::parse_strict(s).ok()?,
            v => v.clone(),
        };
        let query = |key: &str| {
            path.split(['?', '&']).find_map(|p| p.strip_prefix(&format!("{key}="))).unwrap_or_default().to_string()
        };
        let manager = match query("fieldManager") {
            m if m.is_empty() => "Python-urllib".to_string(),
            m => m,
        };
        let key = format!(
            "{}/{}/{namespace}/{}",
            gvk.group,
            gvk.kind,
            if name.is_empty() { body.str_at(["metadata", "name"])?.to_string() } else { name.clone() }
        );
        let old = self.objects.get(&key).cloned();
        let outcome = match (method, step.str_at(["type"]).unwrap_or_default()) {
            ("POST", _) => self.create(&schema, body, &namespace, &manager, query("fieldValidation") == "Strict"),
            ("PUT", _) => self.update(&schema, body, old?, &manager, &sub),
            ("PATCH", "application/apply-patch+yaml") => {
                if query("fieldManager").is_empty() {
                    return None;
                }
                self.apply(&schema, &body, old, &namespace, &manager, query("force") == "true")
            }
            ("PATCH", kind) => {
                let mut new = old.clone()?;
                let done = match kind {
                    "application/merge-patch+json" => {
                        patch::merge_patch(&mut new, &body);
                        Ok(())
                    }
                    "application/json-patch+json" => patch::json_patch(&mut new, &body),
                    "application/strategic-merge-patch+json" if schema.is_builtin() => {
                        patch::strategic_merge(&mut new, &body, Some(schema.merge_schema()))
                    }
                    _ => return None,
                };
                done.ok()?;
                // A patch that makes an object unreadable is an invalid one.
                self.update(&schema, new, old?, &manager, &sub)
                    .map_err(|(code, text)| (if code == 400 { 422 } else { code }, text))
            }
            _ => return None,
        };
        if let Ok(v) = &outcome {
            if gvk.kind == "CustomResourceDefinition" {
                self.add_crd(v);
            }
            if query("dryRun").is_empty() {
                self.objects.insert(key, v.clone());
            }
        }
        Some(outcome)
    }

    fn add_crd(&mut self, v: &Value) {
        self.schemas.set_crd(v).unwrap();
        let r = crd::resource(v).unwrap();
        for version in &r.versions {
            self.kinds.insert(format!("/apis/{}/{}/{}", r.group, version.name, r.plural), r.gvk(&version.name));
        }
    }

    fn born(value: &mut Value, namespace: &str) {
        let meta = value.make_map_at(["metadata"]).unwrap();
        if !namespace.is_empty() {
            meta.insert("namespace", namespace);
        }
    }

    fn stamped(mut value: Value, schema: &TypeSchema, old: Option<&Value>) -> Value {
        let counts = ![
            "Namespace",
            "ConfigMap",
            "Secret",
            "Service",
            "PersistentVolumeClaim",
            "ServiceAccount",
            "ResourceQuota",
            "LimitRange",
            "Role",
            "RoleBinding",
            "PersistentVolume",
        ]
        .contains(&schema.gvk.kind.as_str());
        let generation = match old {
            None => 1,
            Some(old) => {
                old.at(["metadata", "generation"]).and_then(Value::as_i64).unwrap_or(0)
                    + i64::from(old.get("spec") != value.get("spec"))
            }
        };
        let meta = value.make_map_at(["metadata"]).unwrap();
        for key in ["uid", "resourceVersion", "creationTimestamp"] {
            meta.insert(key, if key == "creationTimestamp" { NOW } else { "x" });
        }
        if counts {
            meta.insert("generation", generation);
        }
        value
    }

    fn create(&self, schema: &TypeSchema, mut new: Value, namespace: &str, manager: &str, strict: bool) -> Outcome {
        Self::decode(schema, &mut new, strict)?;
        Self::born(&mut new, namespace);
        if !schema.is_builtin() && schema.resets_status() {
            new.as_map_mut().unwrap().remove("status");
        }
        record_update(None, &mut new, manager, "", NOW, schema);
        self.judge(schema, &new, None)?;
        Ok(Self::stamped(new, schema, None))
    }

    fn update(&self, schema: &TypeSchema, mut new: Value, old: Value, manager: &str, sub: &str) -> Outcome {
        Self::decode(schema, &mut new, false)?;
        let meta = new.make_map_at(["metadata"]).unwrap();
        for key in ["uid", "resourceVersion", "creationTimestamp", "generation", "namespace"] {
            match old.at(["metadata", key]) {
                Some(v) => meta.insert(key, v.clone()),
                None => meta.remove(key),
            };
        }
        // Writes to one part leave the other as it was.
        let kept = if sub == "status" { "spec" } else { "status" };
        if schema.resets_status() {
            let map = new.as_map_mut().unwrap();
            match old.get(kept) {
                Some(v) => map.insert(kept, v.clone()),
                None => map.remove(kept),
            };
        }
        if sub == "status" {
            let labels = old.at(["metadata"]).cloned().unwrap();
            let managed = new.at(["metadata", "managedFields"]).cloned();
            let map = new.as_map_mut().unwrap();
            map.insert("metadata", labels);
            if let Some(m) = managed {
                new.make_map_at(["metadata"]).unwrap().insert("managedFields", m);
            }
        }
        record_update(Some(&old), &mut new, manager, sub, NOW, schema);
        if sub.is_empty() {
            self.judge(schema, &new, Some(&old))?;
        }
        Ok(Self::stamped(new, schema, Some(&old)))
    }

    fn apply(
        &self,
        schema: &TypeSchema,
        body: &Value,
        old: Option<Value>,
        namespace: &str,
        manager: &str,
        force: bool,
    ) -> Outcome {
        let result = apply(old.as_ref(), body, manager, force, "", NOW, schema);
        let mut new = result.map_err(|e| {
            let code = match e {
                ApplyError::Conflicts(_) => 409,
                ApplyError::BadRequest(_) => 400,
                ApplyError::Schema(_) => 500,
            };
            (code, e.to_string())
        })?;
        if old.is_none() {
            Self::born(&mut new, namespace);
        }
        self.judge(schema, &new, old.as_ref())?;
        Ok(Self::stamped(new, schema, old.as_ref()))
    }
}

/// Whether the answer comes from what is left out here: paths, names, versions, dry runs.
fn is_for_the_server(step: &Value) -> bool {
    let text = step.get("answer").and_then(|a| a.str_at(["message"])).unwrap_or_default();
    let words = ["already exists", "not found", "has been modified", "the name on the URL", "unknown conversion"];
    words.iter().any(|w| text.contains(w)) || step.str_at(["path"]).is_some_and(|p| p.contains("dryRun"))
}

fn replay(file: &str, least: usize) {
    let Some(root) = shared() else {
        eprintln!("skipped: no shared fixtures");
        return;
    };
    let text = std::fs::read(root.join("kubernetes/transcripts").join(file)).unwrap();
    let steps = json::parse(&text).unwrap();
    let mut api = Api::new();
    let (mut checked, mut bad) = (0, Vec::new());
    for (i, step) in steps.items().iter().enumerate() {
        if is_for_the_server(step) {
            continue;
        }
        let Some(outcome) = api.step(step) else { continue };
        let mut out = Vec::new();
        match (&outcome, step.get("status").and_then(Value::as_i64)) {
            (Ok(v), Some(200 | 201)) if step.str_at(["keep"]) != Some("status") => {
                let want = masked(&step["answer"], "");
                differences(&want, &masked(v, ""), "", &mut out);
                // What admission and allocation add is not made here.
                out.retain(|d| !ADDED.iter().any(|p| d.starts_with(p)));
            }
            (Ok(_), Some(200 | 201)) => {}
            (Err((code, message)), Some(want)) => {
                let text = step["answer"].str_at(["message"]).unwrap_or_default();
                // The text of what differs in a pod is a dump of Go structs; its first line says the rule.
                let (a, b) = if text.contains("pod updates may not") {
                    (text.lines().next(), message.lines().next())
                } else {
                    (Some(text), Some(message.as_str()))
                };
                if *code != want || a != b && !text.is_empty() {
                    out.push(format!("want {want} {text}\n        got {code} {message}"));
                }
            }
            (got, want) => out.push(format!("want {want:?} {}, got {got:?}", json::to_string(&step["answer"]))),
        }
        checked += 1;
        if !out.is_empty() {
            bad.push(format!(
                "{file} step {i}: {} {}\n    {}",
                step.str_at(["method"]).unwrap_or_default(),
                step.str_at(["path"]).unwrap_or_default(),
                out.join("\n    ")
            ));
        }
    }
    assert!(bad.is_empty(), "{}", bad.join("\n"));
    assert!(checked >= least, "only {checked} steps were understood");
}

#[test]
fn applied_objects_and_conflicts_are_as_recorded() {
    replay("apply.json", 15);
}

#[test]
fn custom_objects_are_as_recorded() {
    replay("crd.json", 10);
}

#[test]
fn patched_objects_are_as_recorded() {
    replay("patch.json", 10);
}

#[test]
fn created_objects_are_as_recorded() {
    replay("core.json", 10);
    replay("crud.json", 5);
}
