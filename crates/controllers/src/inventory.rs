//! Inventories as statuses hold them: what a change set adds up to, what has gone stale, what an entry names.

use druse_flux::inventory::parse_id;
use druse_object::{Gvk, Map, Object, Value};

use crate::ssa::Change;

/// The object an inventory entry names, with nothing but its identity; `None` when the entry is malformed.
#[must_use]
pub fn object_of(entry: &Value) -> Option<Object> {
    let key = parse_id(entry["id"].as_str()?)?;
    let version = entry["v"].as_str()?;
    let mut value = Value::default();
    let map = value.make_map()?;
    map.insert("apiVersion", Gvk::new(key.group, version, key.kind.clone()).api_version());
    map.insert("kind", key.kind);
    let metadata = value.make_map_at(["metadata"])?;
    metadata.insert("name", key.name);
    if !key.namespace.is_empty() {
        metadata.insert("namespace", key.namespace);
    }
    Some(Object::new(value))
}

/// The inventory of a change set: all entries but deleted ones.
#[must_use]
pub fn of_changes(changes: &[Change]) -> Vec<Value> {
    changes
        .iter()
        .map(|c| {
            let mut m = Map::new();
            m.insert("id", c.id.as_str());
            m.insert("v", c.version.as_str());
            Value::Map(m)
        })
        .collect()
}

/// Entries of `old` that `new` does not have.
#[must_use]
pub fn stale(old: &[Value], new: &[Value]) -> Vec<Value> {
    old.iter().filter(|o| !new.iter().any(|n| n["id"] == o["id"])).cloned().collect()
}

/// Adds the entries of `more` that `into` lacks.
pub fn merge(into: &mut Vec<Value>, more: Vec<Value>) {
    for entry in more {
        if !into.iter().any(|e| e["id"] == entry["id"]) {
            into.push(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssa::Action;

    fn change(id: &str) -> Change {
        Change { subject: String::new(), id: id.into(), version: "v1".into(), action: Action::Created }
    }

    #[test]
    fn what_is_no_longer_applied_is_stale_and_named_by_its_entry() {
        let old = of_changes(&[change("demo_a__ConfigMap"), change("demo_web_apps_Deployment")]);
        let mut new = of_changes(&[change("demo_a__ConfigMap")]);
        let gone = stale(&old, &new);
        let object = object_of(&gone[0]).unwrap();
        assert_eq!(
            (gone.len(), object.key().to_string(), object.api_version()),
            (1, "Deployment/demo/web".into(), "apps/v1")
        );
        merge(&mut new, gone);
        assert_eq!(new, old);
    }
}
