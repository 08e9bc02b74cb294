//! What a HelmRelease's status remembers of releases: snapshots of what was stored, newest first, and their digests.
//!
//! Follows `Snapshots` of helm-controller's API and its `internal/release` (what a digest is made of).

use druse_helm::ReleaseRecord;
use druse_object::{Map, Value, json, yaml};
use sha2::{Digest, Sha256};

/// How many snapshots are kept when nothing else limits them.
const MOST: usize = 5;

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

/// The digest of values: of nothing when there are none.
pub(crate) fn values_digest(values: &Value) -> String {
    let mut sorted = values.clone();
    sorted.sort_keys();
    match sorted.as_map() {
        Some(m) if !m.is_empty() => sha256(yaml::to_string(&sorted).as_bytes()),
        _ => sha256(b""),
    }
}

/// The digest of any part of a spec.
pub(crate) fn value_digest(v: &Value) -> String {
    let mut sorted = v.clone();
    sorted.sort_keys();
    sha256(json::to_string(&sorted).as_bytes())
}

/// The digest of a stored release: what tells that somebody else changed it. Test hooks do not count.
fn digest(record: &ReleaseRecord) -> String {
    let mut stored = record.to_value();
    let hooks: Vec<Value> = record.hooks.iter().filter(|h| !is_test(h)).cloned().collect();
    let mut take = |key: &str| stored.get_mut(key).map(std::mem::take).unwrap_or_default();
    let mut m = Map::new();
    m.insert("name", record.name.as_str());
    m.insert("version", record.version);
    m.insert("info", take("info"));
    m.insert("chartMetadata", record.chart["metadata"].clone());
    m.insert("config", take("config"));
    m.insert("manifest", record.manifest.as_str());
    m.insert("hooks", if hooks.is_empty() { Value::Null } else { Value::Array(hooks) });
    m.insert("namespace", record.namespace.as_str());
    // As it reads from the store, whatever it was made of.
    let text = json::to_string(&Value::Map(m));
    let read = json::parse(text.as_bytes()).map(|v| json::to_string(&v)).unwrap_or(text);
    sha256(format!("{read}\n").as_bytes())
}

/// Whether a hook of a record is a test.
pub(crate) fn is_test(hook: &Value) -> bool {
    hook["events"].items().iter().any(|e| matches!(e.as_str(), Some("test" | "test-success")))
}

/// The snapshot of a record.
pub(crate) fn of(record: &ReleaseRecord, action: &str) -> Value {
    let metadata = &record.chart["metadata"];
    let seconds = |t: &str| match t.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => t.to_owned(),
    };
    let mut s = Map::new();
    if !action.is_empty() {
        s.insert("action", action);
    }
    s.insert("apiVersion", "v2");
    if let Some(v) = metadata["appVersion"].as_str() {
        s.insert("appVersion", v);
    }
    s.insert("chartName", metadata["name"].clone());
    s.insert("chartVersion", metadata["version"].clone());
    s.insert("configDigest", values_digest(&record.config));
    if !record.deleted.is_empty() {
        s.insert("deleted", seconds(&record.deleted));
    }
    s.insert("digest", digest(record));
    s.insert("firstDeployed", seconds(&record.first_deployed));
    s.insert("lastDeployed", seconds(&record.last_deployed));
    s.insert("name", record.name.as_str());
    s.insert("namespace", record.namespace.as_str());
    s.insert("status", record.status.as_str());
    s.insert("version", record.version);
    Value::Map(s)
}

/// Whether a record is what the snapshot was taken of.
pub(crate) fn matches(snapshot: &Value, record: &ReleaseRecord) -> bool {
    snapshot["apiVersion"].as_str() != Some("v2") || snapshot["digest"].as_str() == Some(&digest(record))
}

/// `namespace/name.vN`
pub(crate) fn release_name(s: &Value) -> String {
    let text = |k: &str| s[k].as_str().unwrap_or_default();
    format!("{}/{}.v{}", text("namespace"), text("name"), s["version"].as_i64().unwrap_or(0))
}

/// `chart@version`
pub(crate) fn chart_name(s: &Value) -> String {
    format!("{}@{}", s["chartName"].as_str().unwrap_or_default(), s["chartVersion"].as_str().unwrap_or_default())
}

/// The newest snapshot of an object.
pub(crate) fn latest(object: &Value) -> Option<&Value> {
    object["status"]["history"].items().first()
}

/// The newest snapshot but one that was once deployed, and whose tests did not fail where they count.
pub(crate) fn previous(object: &Value, ignore_tests: bool) -> Option<&Value> {
    object["status"]["history"].items().iter().skip(1).find(|s| usable(s, ignore_tests))
}

fn usable(s: &Value, ignore_tests: bool) -> bool {
    matches!(s["status"].as_str(), Some("deployed" | "superseded")) && (ignore_tests || !has_failed_test(s))
}

/// Whether a test of the release failed.
pub(crate) fn has_failed_test(s: &Value) -> bool {
    test_phases(s).any(|p| p == Some("Failed"))
}

fn test_phases(s: &Value) -> impl Iterator<Item = Option<&str>> {
    s["testHooks"].as_map().into_iter().flat_map(Map::iter).map(|(_, h)| h["phase"].as_str())
}

/// Whether the release's tests have been run to an end.
pub(crate) fn is_tested(s: &Value) -> bool {
    s.get("testHooks").is_some_and(|t| !t.is_null())
        && (has_failed_test(s) || test_phases(s).all(|p| p == Some("Succeeded")))
}

/// Puts a snapshot in place of the one of the same release and version, or beside the others.
pub(crate) fn put(object: &mut Value, snapshot: Value) {
    let Some(status) = object.make_map_at(["status"]) else { return };
    let history = status.entry_or_null("history");
    let mut entries = history.items().to_vec();
    let same = |e: &Value| ["name", "namespace", "version"].iter().all(|k| e[*k] == snapshot[*k]);
    match entries.iter_mut().find(|e| same(e)) {
        Some(e) => *e = snapshot,
        None => entries.push(snapshot),
    }
    entries.sort_by_key(|e| std::cmp::Reverse(e["version"].as_i64()));
    *history = Value::Array(entries);
}

/// Changes the newest snapshot.
pub(crate) fn change_latest(object: &mut Value, change: impl FnOnce(&mut Map)) {
    let history = object.make_map_at(["status"]).and_then(|m| m.get_mut("history")).and_then(Value::as_array_mut);
    if let Some(m) = history.and_then(|h| h.first_mut()).and_then(Value::as_map_mut) {
        change(m);
    }
}

/// Forgets what lies behind the last release that could be rolled back to (`ignore_tests`: failed tests do not count),
/// or, with `None`, more than the usual number.
pub(crate) fn truncate(object: &mut Value, ignore_tests: Option<bool>) {
    let history = object.make_map_at(["status"]).and_then(|m| m.get_mut("history")).and_then(Value::as_array_mut);
    let Some(entries) = history else { return };
    let target = ignore_tests.and_then(|ignore| entries.iter().skip(1).position(|s| usable(s, ignore)));
    entries.truncate(target.map_or(MOST, |i| i + 2));
}

/// Marks the releases before the newest as superseded, as the store has them.
pub(crate) fn supersede(object: &mut Value, records: &[ReleaseRecord]) {
    for r in records {
        let old = object["status"]["history"]
            .items()
            .iter()
            .skip(1)
            .find(|s| s["version"].as_i64() == Some(r.version) && s["name"].as_str() == Some(&r.name));
        let Some(old) = old.cloned() else { continue };
        let mut new = of(r, old["action"].as_str().unwrap_or_default());
        if let (Some(tests), Some(m)) = (old.get("testHooks"), new.as_map_mut()) {
            m.insert("testHooks", tests.clone());
        }
        put(object, new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(version: i64, status: &str) -> ReleaseRecord {
        ReleaseRecord {
            name: "a".into(),
            namespace: "n".into(),
            version,
            status: status.into(),
            ..ReleaseRecord::default()
        }
    }

    #[test]
    fn a_snapshot_knows_its_record_from_a_changed_one() {
        let r = record(1, "deployed");
        let s = of(&r, "install");
        assert!(matches(&s, &r));
        assert!(!matches(&s, &record(1, "failed")));
        assert_eq!((release_name(&s).as_str(), s["action"].as_str()), ("n/a.v1", Some("install")));
    }

    #[test]
    fn no_values_have_the_digest_of_nothing() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(values_digest(&Value::Null), empty);
        assert_eq!(values_digest(&Value::Map(Map::new())), empty);
    }

    #[test]
    fn history_is_kept_up_to_what_can_be_rolled_back_to() {
        let mut object = Value::default();
        for (v, status) in [(1, "superseded"), (2, "deployed"), (3, "failed"), (4, "failed")] {
            put(&mut object, of(&record(v, status), ""));
        }
        assert_eq!(previous(&object, false).map(release_name).as_deref(), Some("n/a.v2"));
        truncate(&mut object, Some(false));
        assert_eq!(object["status"]["history"].items().len(), 3);
        assert_eq!(latest(&object).map(release_name).as_deref(), Some("n/a.v4"));
    }
}
