//! An object as it lies in the API beside what it should be: whether it drifted, and whose its fields are.

use druse_object::{Map, Value};

/// Whether what is there differs from what a dry run says it would be, outside status and bookkeeping.
pub(super) fn drifted(existing: &Value, dry: &Value) -> bool {
    let empty = Value::Map(Map::new());
    let part = |v: &Value, key: &str| match &v["metadata"][key] {
        Value::Null => empty.clone(),
        other => other.clone(),
    };
    if part(existing, "labels") != part(dry, "labels") || part(existing, "annotations") != part(dry, "annotations") {
        return true;
    }
    let (Some(a), Some(b)) = (existing.as_map(), dry.as_map()) else { return true };
    let rest = |m: &Map| m.keys().filter(|k| !matches!(k.as_str(), "metadata" | "status")).count();
    rest(a) != rest(b)
        || a.iter().filter(|(k, _)| !matches!(k.as_str(), "metadata" | "status")).any(|(k, v)| b.get(k) != Some(v))
}

/// The managed fields with kubectl's (and our own old updates') entries merged into ours; `None` when there are none.
pub(super) fn take_over(entries: &[Value], manager: &str) -> Option<Vec<Value>> {
    let is = |e: &Value, m: &str, op: &str| e["manager"].as_str() == Some(m) && e["operation"].as_str() == Some(op);
    let foreign = |e: &Value| {
        let name = e["manager"].as_str().unwrap_or_default();
        let op = e["operation"].as_str().unwrap_or_default();
        e["subresource"].as_str().unwrap_or_default().is_empty()
            && (name.starts_with("kubectl") && matches!(op, "Apply" | "Update")
                || (name.starts_with("before-first-apply") || name.starts_with(manager)) && op == "Update")
    };
    if !entries.iter().any(foreign) {
        return None;
    }
    let mut ours = entries.iter().find(|e| is(e, manager, "Apply")).cloned();
    let mut rest = Vec::new();
    for e in entries {
        if is(e, manager, "Apply") {
            continue;
        }
        if !foreign(e) {
            rest.push(e.clone());
        } else if let Some(ours) = &mut ours {
            if let Some(fields) = ours.get_mut("fieldsV1") {
                merge_fields(fields, &e["fieldsV1"]);
            }
        } else {
            let mut renamed = e.clone();
            if let Some(m) = renamed.as_map_mut() {
                m.insert("manager", manager);
                m.insert("operation", "Apply");
            }
            ours = Some(renamed);
        }
    }
    rest.extend(ours);
    Some(rest)
}

fn merge_fields(into: &mut Value, from: &Value) {
    let (Some(into), Some(from)) = (into.as_map_mut(), from.as_map()) else { return };
    for (k, v) in from.iter() {
        match into.get_mut(k) {
            Some(slot) => merge_fields(slot, v),
            None => {
                into.insert(k.clone(), v.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn status_and_bookkeeping_are_no_drift_but_labels_and_spec_are() {
        let live = yaml(r#"{"metadata":{"labels":{"a":"1"},"resourceVersion":"1"},"spec":{"x":1},"status":{"y":1}}"#);
        let mut dry = yaml(r#"{"metadata":{"labels":{"a":"1"},"resourceVersion":"2"},"spec":{"x":1}}"#);
        assert!(!drifted(&live, &dry));
        dry.make_map_at(["metadata", "labels"]).unwrap().insert("a", "2");
        assert!(drifted(&live, &dry));
    }

    #[test]
    fn what_kubectl_edited_becomes_the_controllers_own() {
        let entries = yaml(
            r#"[{"manager":"kustomize-controller","operation":"Apply","fieldsV1":{"f:data":{"f:a":{}}}},
                {"manager":"kubectl-edit","operation":"Update","fieldsV1":{"f:data":{"f:b":{}}}},
                {"manager":"kube-controller-manager","operation":"Update","subresource":"status","fieldsV1":{}}]"#,
        );
        let merged = take_over(entries.items(), "kustomize-controller").unwrap();
        assert_eq!(merged.len(), 2);
        assert_eq!(merged[1]["fieldsV1"], yaml(r#"{"f:data":{"f:a":{},"f:b":{}}}"#));
        assert!(take_over(&merged, "kustomize-controller").is_none());
    }
}
