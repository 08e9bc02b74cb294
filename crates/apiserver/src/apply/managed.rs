//! `metadata.managedFields`: entries read, written, sorted and bounded as `k8s.io/apimachinery` does.

use druse_object::{Map, Value, value::Str};

use super::set::Set;

/// Above this many updaters the oldest are merged into one entry.
const MAX_UPDATERS: usize = 10;

/// Who an entry belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    pub(crate) applied: bool,
    pub(crate) name: Str,
    /// Empty for appliers: their version may change.
    pub(crate) version: Str,
    pub(crate) subresource: Str,
}

/// One entry.
#[derive(Clone, Debug)]
pub(crate) struct Owned {
    pub(crate) manager: Manager,
    pub(crate) version: Str,
    pub(crate) set: Set,
    pub(crate) time: Option<Str>,
}

/// All entries of an object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Managed(pub(crate) Vec<Owned>);

impl Managed {
    /// From `metadata.managedFields`; `None` when they are malformed.
    pub(crate) fn read(object: &Value) -> Option<Self> {
        let mut out = Vec::new();
        for entry in object.at(["metadata", "managedFields"]).map(Value::items).unwrap_or_default() {
            let text = |key: &str| -> Str { entry.str_at([key]).unwrap_or_default().into() };
            let applied = match entry.str_at(["operation"])? {
                "Apply" => true,
                "Update" => false,
                _ => return None,
            };
            let version = text("apiVersion");
            if version.is_empty() || entry.str_at(["fieldsType"])? != "FieldsV1" {
                return None;
            }
            let set = match entry.get("fieldsV1") {
                Some(v) if !v.is_null() => Set::from_value(v)?,
                _ => Set::default(),
            };
            let manager = Manager {
                applied,
                name: text("manager"),
                version: if applied { Str::default() } else { version.clone() },
                subresource: text("subresource"),
            };
            out.push(Owned { manager, version, set, time: entry.str_at(["time"]).map(Str::from) });
        }
        Some(Self(out))
    }

    pub(crate) fn get(&self, manager: &Manager) -> Option<&Owned> {
        self.0.iter().find(|o| o.manager == *manager)
    }

    pub(crate) fn take(&mut self, manager: &Manager) -> Option<Owned> {
        let at = self.0.iter().position(|o| o.manager == *manager)?;
        Some(self.0.remove(at))
    }

    pub(crate) fn put(&mut self, owned: Owned) {
        self.take(&owned.manager);
        self.0.push(owned);
    }

    pub(crate) fn drop_empty(&mut self) {
        self.0.retain(|o| !o.set.is_empty());
    }

    /// Merges the oldest updaters until there are not too many.
    pub(crate) fn cap(&mut self) {
        let mut updaters: Vec<Owned> = self.0.iter().filter(|o| !o.manager.applied).cloned().collect();
        let mut count = updaters.len();
        if count <= MAX_UPDATERS {
            return;
        }
        updaters.sort_by(|a, b| seconds(a).cmp(seconds(b)).then_with(|| a.manager.cmp(&b.manager)));
        let mut firsts: Vec<(Str, Manager)> = Vec::new();
        for updater in updaters {
            if count <= MAX_UPDATERS {
                break;
            }
            let bucket = Manager {
                applied: false,
                name: "ancient-changes".into(),
                version: updater.version.clone(),
                subresource: Str::default(),
            };
            let Some((_, first)) = firsts.iter().find(|(v, _)| *v == updater.version).cloned() else {
                firsts.push((updater.version.clone(), updater.manager.clone()));
                continue;
            };
            if self.get(&bucket).is_none()
                && let Some(owned) = self.take(&first)
            {
                self.put(Owned { manager: bucket.clone(), ..owned });
            }
            self.take(&updater.manager);
            if let Some(mut owned) = self.take(&bucket) {
                owned.set = owned.set.union(&updater.set);
                owned.time = updater.time;
                self.put(owned);
            }
            count -= 1;
        }
    }

    /// Writes the entries into an object, or removes the field when there are none.
    pub(crate) fn write(mut self, object: &mut Value) {
        self.drop_empty();
        let Some(meta) = object.make_map_at(["metadata"]) else { return };
        if self.0.is_empty() {
            meta.remove("managedFields");
            return;
        }
        self.0.sort_by(|a, b| {
            let operation = |o: &Owned| !o.manager.applied;
            operation(a)
                .cmp(&operation(b))
                .then_with(|| seconds(a).cmp(seconds(b)))
                .then_with(|| a.manager.name.cmp(&b.manager.name))
                .then_with(|| a.version.cmp(&b.version))
                .then_with(|| a.manager.subresource.cmp(&b.manager.subresource))
        });
        let entries: Vec<Value> = self.0.into_iter().map(Owned::into_value).collect();
        meta.insert("managedFields", entries);
    }
}

/// Times are RFC 3339 in UTC, so text order is time order; fractions do not count.
fn seconds(o: &Owned) -> &str {
    let t = o.time.as_deref().unwrap_or_default();
    t.get(..19).unwrap_or(t)
}

impl Owned {
    fn into_value(self) -> Value {
        let mut m = Map::with_capacity(7);
        m.insert("manager", self.manager.name);
        m.insert("operation", if self.manager.applied { "Apply" } else { "Update" });
        m.insert("apiVersion", self.version);
        if let Some(time) = self.time {
            m.insert("time", time);
        }
        m.insert("fieldsType", "FieldsV1");
        m.insert("fieldsV1", self.set.to_value());
        if !self.manager.subresource.is_empty() {
            m.insert("subresource", self.manager.subresource);
        }
        Value::Map(m)
    }
}

/// Whether two objects differ in nothing but the times of their managed fields and their resourceVersion.
pub(crate) fn same_but_times(a: &Value, b: &Value) -> bool {
    let (Some(x), Some(y)) = (a.as_map(), b.as_map()) else { return false };
    let without = |m: &Map, skip: &[&str], other: &Map| {
        m.iter().all(|(k, v)| skip.contains(&k.as_str()) || other.get(k) == Some(v))
    };
    let empty = Map::new();
    let meta = |m: &Map| m.get("metadata").and_then(Value::as_map).cloned();
    let (mx, my) = (meta(x).unwrap_or_else(|| empty.clone()), meta(y).unwrap_or_else(|| empty.clone()));
    let skip = ["managedFields", "resourceVersion"];
    let entries = |m: &Map| -> Vec<Value> {
        let mut list = m.get("managedFields").map(|v| v.items().to_vec()).unwrap_or_default();
        for e in &mut list {
            if let Some(m) = e.as_map_mut() {
                m.remove("time");
            }
        }
        list
    };
    // Times decide the order of entries, so the order is left out of the comparison.
    let same_entries = || {
        let (a, b) = (entries(&mx), entries(&my));
        a.len() == b.len() && a.iter().all(|e| b.contains(e))
    };
    without(x, &["metadata"], y)
        && without(y, &["metadata"], x)
        && without(&mx, &skip, &my)
        && without(&my, &skip, &mx)
        && same_entries()
}
