//! Drift of a release: how what is in the cluster differs from what the stored manifest would make of it.
//!
//! Follows helm-controller's `internal/action/diff.go` and fluxcd/pkg/ssa/jsondiff: a dry run of each object is compared
//! with what is there, paths that are to be ignored left out of both.

use druse_flux::api::DriftDetection;
use druse_object::{Map, Object, Value};
use druse_runtime::{Api, ApiError, Patch};
use regex::Regex;

/// Says on an object that its drift does not matter (`disabled`).
const OPT_OUT: &str = "helm.toolkit.fluxcd.io/driftDetection";

/// One object that differs.
#[derive(Clone, Debug)]
pub(crate) struct Drift {
    pub object: Object,
    /// JSON patch operations that would correct it; `None` when it is gone.
    pub patch: Option<Vec<Value>>,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(patch) = &self.patch else { return write!(f, "{} removed", self.object.key()) };
        let count = |op: &str| patch.iter().filter(|p| p["op"].as_str() == Some(op)).count();
        let (added, changed, removed) = (count("add"), count("replace"), count("remove"));
        write!(f, "{} changed ({added} additions, {changed} changes, {removed} removals)", self.object.key())
    }
}

/// All that differs, one a line.
pub(crate) fn summary(drifts: &[Drift]) -> String {
    drifts.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// What of a release's objects differs from the cluster. Objects carry their namespaces and Helm's marks already.
///
/// # Errors
/// What the API answered, when nothing could be compared.
pub(crate) async fn detect(
    api: &Api,
    objects: Vec<Object>,
    manager: &str,
    rules: Option<&DriftDetection>,
) -> Result<Vec<Drift>, String> {
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for object in objects {
        match one(api, object, manager, rules).await {
            Ok(drift) => found.extend(drift),
            Err(e) => errors.push(e),
        }
    }
    if found.is_empty() && !errors.is_empty() {
        return Err(format!("unable to determine cluster state: {}", errors.join("; ")));
    }
    Ok(found)
}

async fn one(
    api: &Api,
    object: Object,
    manager: &str,
    rules: Option<&DriftDetection>,
) -> Result<Option<Drift>, String> {
    let failed = |e: &ApiError| format!("{}: {e}", object.key());
    let opted_out =
        |v: &Value| ["labels", "annotations"].iter().any(|m| v["metadata"][*m][OPT_OUT].as_str() == Some("disabled"));
    if opted_out(&object.value) {
        return Ok(None);
    }
    let resource = api.resource(&object.gvk()).await.map_err(|e| failed(&e))?;
    let there = api.get(&resource, object.namespace(), object.name()).await.map_err(|e| failed(&e))?;
    let ignored: Vec<&str> = rules
        .into_iter()
        .flat_map(|r| &r.ignore)
        .filter(|r| selects(&r["target"], &object))
        .flat_map(|r| r["paths"].items())
        .filter_map(Value::as_str)
        .collect();
    if ignored.iter().any(|p| matches!(*p, "" | "/")) {
        return Ok(None);
    }
    let Some(there) = there else { return Ok(Some(Drift { object, patch: None })) };
    if opted_out(&there) {
        return Ok(None);
    }
    let dry = api.apply(&object, manager, true).await.map_err(|e| failed(&e))?;
    let (mut there, mut dry) = (comparable(&there), comparable(&dry));
    for path in ignored {
        remove(&mut there, path);
        remove(&mut dry, path);
    }
    let mut patch = Vec::new();
    differences("", &there, &dry, &mut patch);
    Ok((!patch.is_empty()).then_some(Drift { object, patch: Some(patch) }))
}

/// Corrects what differs. Says what was done, and what could not be.
pub(crate) async fn correct(api: &Api, drifts: &[Drift], manager: &str) -> (Vec<String>, Vec<String>) {
    let (mut done, mut errors) = (Vec::new(), Vec::new());
    for drift in drifts {
        let (o, key) = (&drift.object, drift.object.key());
        let result = match (&drift.patch, api.resource(&o.gvk()).await) {
            (_, Err(e)) => Err(e),
            (None, Ok(_)) => api.apply(o, manager, false).await,
            (Some(patch), Ok(r)) => {
                api.patch(&r, o.namespace(), o.name(), "", Patch::Json, &Value::Array(patch.clone())).await
            }
        };
        let (did, what) = if drift.patch.is_none() { ("created", "creation") } else { ("configured", "patch") };
        match result {
            Ok(_) => done.push(format!("{key} {did}")),
            Err(e) => errors.push(format!("{key} {what} failure: {e}")),
        }
    }
    (done, errors)
}

/// An object without what the cluster keeps for itself.
fn comparable(v: &Value) -> Value {
    let mut out = Map::new();
    for (k, field) in v.as_map().into_iter().flat_map(Map::iter) {
        if k == "metadata" {
            let kept: Map = field
                .as_map()
                .into_iter()
                .flat_map(Map::iter)
                .filter(|(k, _)| matches!(k.as_str(), "labels" | "annotations"))
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            out.insert("metadata", kept);
        } else if k != "status" {
            out.insert(k.clone(), field.clone());
        }
    }
    Value::Map(out)
}

/// Removes what a JSON pointer names, where it is.
fn remove(v: &mut Value, pointer: &str) {
    let tokens: Vec<String> = pointer.split('/').skip(1).map(|t| t.replace("~1", "/").replace("~0", "~")).collect();
    let Some((last, parents)) = tokens.split_last() else { return };
    let mut at = v;
    for token in parents {
        let next = match at {
            Value::Array(a) => token.parse::<usize>().ok().and_then(|i| a.get_mut(i)),
            other => other.get_mut(token),
        };
        let Some(next) = next else { return };
        at = next;
    }
    match at {
        Value::Map(m) => {
            m.remove(last);
        }
        Value::Array(a) => {
            if let Some(i) = last.parse::<usize>().ok().filter(|i| *i < a.len()) {
                a.remove(i);
            }
        }
        _ => {}
    }
}

fn operation(op: &str, path: &str, value: Option<&Value>, out: &mut Vec<Value>) {
    let mut m = Map::new();
    m.insert("op", op);
    m.insert("path", path);
    if let Some(v) = value {
        m.insert("value", v.clone());
    }
    out.push(Value::Map(m));
}

/// The operations that make `want` of `have`. Lists that differ in length are replaced whole.
fn differences(path: &str, have: &Value, want: &Value, out: &mut Vec<Value>) {
    match (have, want) {
        (Value::Map(h), Value::Map(w)) => {
            for (k, v) in h.iter() {
                let below = format!("{path}/{}", k.replace('~', "~0").replace('/', "~1"));
                match w.get(k) {
                    Some(want) => differences(&below, v, want, out),
                    None => operation("remove", &below, None, out),
                }
            }
            for (k, v) in w.iter().filter(|(k, _)| !h.contains_key(k)) {
                operation("add", &format!("{path}/{}", k.replace('~', "~0").replace('/', "~1")), Some(v), out);
            }
        }
        (Value::Array(h), Value::Array(w)) if h.len() == w.len() => {
            for (i, (h, w)) in h.iter().zip(w).enumerate() {
                differences(&format!("{path}/{i}"), h, w, out);
            }
        }
        _ if have == want => {}
        _ => operation("replace", path, Some(want), out),
    }
}

/// Whether a kustomize selector means an object. Names are anchored patterns.
fn selects(target: &Value, o: &Object) -> bool {
    let gvk = o.gvk();
    let fits = |key: &str, text: &str| match target[key].as_str().filter(|p| !p.is_empty()) {
        None => true,
        Some(p) => Regex::new(&format!("^(?:{p})$")).is_ok_and(|r| r.is_match(text)),
    };
    let selected = |key: &str, of: &str| match target[key].as_str().filter(|s| !s.is_empty()) {
        None => true,
        Some(s) => s.split(',').all(|term| requirement(term.trim(), &o.value["metadata"][of])),
    };
    fits("group", &gvk.group)
        && fits("version", &gvk.version)
        && fits("kind", &gvk.kind)
        && fits("name", o.name())
        && fits("namespace", o.namespace())
        && selected("labelSelector", "labels")
        && selected("annotationSelector", "annotations")
}

fn requirement(term: &str, labels: &Value) -> bool {
    if let Some((k, v)) = term.split_once("!=") {
        return labels[k.trim()].as_str() != Some(v.trim());
    }
    if let Some((k, v)) = term.split_once('=') {
        return labels[k.trim()].as_str() == Some(v.trim_start_matches('=').trim());
    }
    match term.strip_prefix('!') {
        Some(k) => labels[k.trim()].is_null(),
        None => !labels[term].is_null(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn differences_are_operations_that_correct_them() {
        let (have, want) = (v(r#"{"a":1,"b":[1,2],"c":{"x/y":1}}"#), v(r#"{"a":2,"b":[1,3],"d":4}"#));
        let mut patch = Vec::new();
        differences("", &have, &want, &mut patch);
        let drift = Drift { object: Object::new(v(r#"{"kind":"X","metadata":{"name":"n"}}"#)), patch: Some(patch) };
        assert_eq!(drift.to_string(), "X/n changed (1 additions, 2 changes, 1 removals)");
    }

    #[test]
    fn ignored_paths_are_removed_and_selectors_are_anchored() {
        let mut o = v(r#"{"kind":"Deployment","metadata":{"name":"web","labels":{"app":"a"}},"spec":{"replicas":3}}"#);
        let object = Object::new(o.clone());
        assert!(selects(&v(r#"{"kind":"Deploy.*","labelSelector":"app=a"}"#), &object));
        assert!(!selects(&v(r#"{"kind":"Deploy"}"#), &object));
        assert!(selects(&Value::Null, &object));
        remove(&mut o, "/spec/replicas");
        assert_eq!(o["spec"], v("{}"));
    }
}
