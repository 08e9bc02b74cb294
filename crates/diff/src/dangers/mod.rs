//! What is dangerous about a diff: one module a kind of harm, each a set of rules over the objects that differ.
//!
//! What every danger means and what to do about it is data (`data/dangers.json`); the rules only find them. A rule is
//! quiet when it is not sure: what it cannot know (defaults that a cluster sets, other clusters' policies) it does not
//! guess.

mod access;
mod availability;
mod copies;
mod crds;
mod data;
mod deletion;
mod exposure;
mod immutable;
mod protection;
mod rbac;
mod version;

use std::collections::{BTreeSet, HashMap};
use std::sync::LazyLock;

use druse_object::{Object, Value};
use druse_plan::{Unit, UnitId};

use crate::describe;
use crate::fate::{self, Fate};
use crate::fields;
use crate::model::{ChangeKind, ChartChange, Danger, Place, Severity};
use crate::objects::{Matched, Pair, Ref};
use crate::secrets::Masker;
use crate::side::Side;
use crate::units;

/// What is known about a kind of danger.
struct Row {
    severity: Severity,
    category: &'static str,
    why: &'static str,
    remedy: &'static str,
}

static TABLE: LazyLock<HashMap<&'static str, Row>> = LazyLock::new(|| {
    let rows: HashMap<&str, [&str; 4]> =
        serde_json::from_str(include_str!("../../data/dangers.json")).unwrap_or_default();
    rows.into_iter()
        .map(|(code, [severity, category, why, remedy])| {
            let severity = match severity {
                "danger" => Severity::Danger,
                "warning" => Severity::Warning,
                _ => Severity::Notice,
            };
            (code, Row { severity, category, why, remedy })
        })
        .collect()
});

/// A kind of danger, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind {
    /// What names it: `pvc-removed`.
    pub code: &'static str,
    /// How bad it is, unless something makes it better or worse.
    pub severity: Severity,
    /// What kind of harm it is.
    pub category: &'static str,
    /// Why it matters.
    pub why: &'static str,
    /// What to do.
    pub remedy: &'static str,
}

/// Every kind of danger, in the order of the codes.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    let kind = |(code, row): (&&'static str, &Row)| Kind {
        code,
        severity: row.severity,
        category: row.category,
        why: row.why,
        remedy: row.remedy,
    };
    let mut out: Vec<Kind> = TABLE.iter().map(kind).collect();
    out.sort_unstable();
    out
}

/// A kind of danger in words: `Storage class changed`.
#[must_use]
pub fn label(code: &str) -> String {
    let words = code.split('-').enumerate().map(|(i, word)| match (i, word) {
        (_, "pvc" | "pv" | "crd" | "rbac" | "pdb" | "ha" | "tls") => word.to_uppercase(),
        (_, "crds") => "CRDs".to_string(),
        (0, word) => {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
        }
        (_, word) => word.to_string(),
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What the rules look at.
pub(crate) struct Input<'a> {
    pub(crate) base: &'a Side<'a>,
    pub(crate) head: &'a Side<'a>,
    pub(crate) matched: &'a Matched<'a>,
    pub(crate) charts: &'a [ChartChange],
    pub(crate) masker: &'a Masker,
}

/// One object that differs, with what becomes of it when it is removed.
pub(crate) struct Subject<'a> {
    pub(crate) pair: Pair<'a>,
    pub(crate) fate: Option<Fate>,
}

impl<'a> Subject<'a> {
    /// The objects of both sides, when both have it.
    pub(crate) fn both(&self) -> Option<(&'a Object, &'a Object)> {
        Some((self.pair.base?.object, self.pair.head?.object))
    }

    /// The object when it is deleted from the cluster.
    pub(crate) fn deleted(&self) -> Option<Ref<'a>> {
        self.pair.base.filter(|_| self.fate.as_ref().is_some_and(Fate::is_deleted))
    }

    pub(crate) fn added(&self) -> Option<&'a Object> {
        self.pair.head.filter(|_| self.pair.base.is_none()).map(|r| r.object)
    }

    pub(crate) fn is(&self, group: &str, kinds: &[&str]) -> bool {
        self.pair.either().is_some_and(|r| kinds.contains(&r.object.kind()) && r.object.gvk().group == group)
    }
}

/// What was found so far.
pub(crate) struct Found<'a> {
    pub(crate) input: &'a Input<'a>,
    /// The hosts that anything in base answers at, once they were asked for.
    pub(crate) base_hosts: Option<BTreeSet<String>>,
    out: Vec<Danger>,
}

impl Found<'_> {
    fn push(
        &mut self,
        code: &'static str,
        unit: &UnitId,
        object: Option<String>,
        place: Place,
        title: String,
    ) -> &mut Danger {
        let row = TABLE.get(code);
        let masker = self.input.masker;
        self.out.push(Danger {
            code,
            severity: row.map_or(Severity::Warning, |r| r.severity),
            category: row.map_or("", |r| r.category),
            title: masker.owned(title),
            object: object.map(|o| masker.owned(o)),
            unit: unit.to_string(),
            place,
            field: None,
            why: row.map_or_else(String::new, |r| r.why.to_string()),
            remedy: row.map_or_else(String::new, |r| r.remedy.to_string()),
        });
        let last = self.out.len() - 1;
        &mut self.out[last]
    }

    /// A danger about an object, at its place in head, or in base when it is removed.
    pub(crate) fn object(&mut self, code: &'static str, object: Ref<'_>, title: impl Into<String>) -> &mut Danger {
        let key = object.object.key().to_string();
        self.push(code, &object.unit.id, Some(key), describe::place(object), title.into())
    }

    /// A danger about the object of a pair.
    pub(crate) fn pair(
        &mut self,
        code: &'static str,
        pair: &Pair<'_>,
        title: impl Into<String>,
    ) -> Option<&mut Danger> {
        Some(self.object(code, pair.either()?, title))
    }

    /// A danger about a unit as a whole.
    pub(crate) fn unit(&mut self, code: &'static str, unit: &Unit, title: impl Into<String>) -> &mut Danger {
        self.push(code, &unit.id, None, units::place(unit), title.into())
    }
}

/// The path of the first thing that differs between two values at a path, as deep as both are alike.
fn deepest(path: &str, old: Option<&Value>, new: Option<&Value>) -> String {
    match (old, new) {
        (Some(Value::Map(old)), Some(Value::Map(new))) => {
            // What is gone has no place any more.
            match new.iter().find(|(k, v)| old.get(k) != Some(*v)) {
                Some((key, v)) => deepest(&format!("{path}.{key}"), old.get(key), Some(v)),
                None => path.to_string(),
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if old.len() == new.len() => {
            match old.iter().zip(new).enumerate().find(|(_, (a, b))| a != b) {
                Some((i, (a, b))) => deepest(&format!("{path}[{i}]"), Some(a), Some(b)),
                None => path.to_string(),
            }
        }
        _ => path.to_string(),
    }
}

/// The path of the first text that is this one.
fn path_of(value: &Value, text: &str) -> Option<String> {
    let joined = |head: String, inner: String| {
        let dot = if inner.is_empty() || inner.starts_with('[') { "" } else { "." };
        format!("{head}{dot}{inner}")
    };
    match value {
        Value::String(s) => (s == text).then(String::new),
        Value::Map(m) => m.iter().find_map(|(k, v)| Some(joined(k.to_string(), path_of(v, text)?))),
        Value::Array(a) => a.iter().enumerate().find_map(|(i, v)| Some(joined(format!("[{i}]"), path_of(v, text)?))),
        _ => None,
    }
}

impl Danger {
    fn field(&mut self, path: &str) -> &mut Self {
        self.field = Some(path.to_string());
        self
    }

    fn severity(&mut self, severity: Severity) -> &mut Self {
        self.severity = severity;
        self
    }

    fn also(&mut self, why: &str) -> &mut Self {
        self.why = format!("{} {why}", self.why);
        self
    }
}

/// All dangers, the worst first; of the same severity in the order of categories, codes, units and objects.
pub(crate) fn find(input: &Input<'_>) -> Vec<Danger> {
    let mut found = Found { input, base_hosts: None, out: Vec::new() };
    let subjects: Vec<Subject<'_>> = input
        .matched
        .pairs
        .values()
        .flatten()
        .map(|pair| Subject {
            pair: *pair,
            fate: pair
                .base
                .filter(|_| pair.change() == ChangeKind::Removed && !pair.hook)
                .map(|b| fate::of_object(b, input.base, input.head)),
        })
        .collect();
    for subject in &subjects {
        data::check(&mut found, subject);
        copies::check(&mut found, subject);
        immutable::check(&mut found, subject);
        crds::check(&mut found, subject);
        rbac::check(&mut found, subject);
        access::check(&mut found, subject);
        exposure::check(&mut found, subject);
        availability::check(&mut found, subject);
        protection::check(&mut found, subject);
    }
    crds::not_upgraded(&mut found, &subjects);
    deletion::check(&mut found, &subjects);
    availability::units(&mut found);
    protection::units(&mut found);
    version::check(&mut found, &subjects);
    let mut out = found.out;
    let rank = |d: &Danger| CATEGORIES.iter().position(|c| *c == d.category).unwrap_or(CATEGORIES.len());
    let order = |d: &Danger| (std::cmp::Reverse(d.severity), rank(d), d.code);
    out.sort_by(|a, b| {
        order(a).cmp(&order(b)).then_with(|| (&a.unit, &a.object, &a.title).cmp(&(&b.unit, &b.object, &b.title)))
    });
    out.dedup();
    out
}

/// Categories, the gravest first.
const CATEGORIES: [&str; 13] = [
    "data loss",
    "secrets",
    "immutable",
    "CRDs",
    "deletion",
    "RBAC",
    "host access",
    "exposure",
    "selectors",
    "availability",
    "protection",
    "versions",
    "",
];

/// The value at a dotted path of map keys.
pub(crate) fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |v, key| v.get(key))
}

/// The text at a dotted path.
pub(crate) fn text_at<'v>(value: &'v Value, path: &str) -> Option<&'v str> {
    at(value, path)?.as_str()
}

/// A few of many, for a title: `a, b, c and 4 more`.
pub(crate) fn some_of(names: &[String]) -> String {
    const SHOWN: usize = 5;
    if names.len() <= SHOWN {
        return names.join(", ");
    }
    format!("{} and {} more", names.get(..SHOWN).unwrap_or_default().join(", "), names.len() - SHOWN)
}

/// A value as it is shown in a title.
pub(crate) fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "none".into(),
        Some(Value::String(s)) => s.to_string(),
        Some(other) => {
            let text = druse_object::json::to_string_raw(other);
            if text.chars().count() > 60 { text.chars().take(59).chain(['…']).collect() } else { text }
        }
    }
}

/// What becomes of a field, in words: `from a to b`, or of a map or list which of its fields.
pub(crate) fn change(from: Option<&Value>, to: Option<&Value>) -> String {
    let collection = |v: Option<&Value>| v.is_some_and(|v| v.as_map().is_some() || v.as_array().is_some());
    let delta = match (from, to) {
        (Some(from), Some(to)) if collection(Some(from)) && collection(Some(to)) => fields::compare(from, to, None),
        _ => None,
    };
    let Some(delta) = delta else { return format!("from {} to {}", show(from), show(to)) };
    let words = fields::flat::flatten(&delta, &mut |_, _| {});
    let words: Vec<String> = words
        .iter()
        .map(|f| match (&f.from, &f.to) {
            (None, Some(to)) => format!("{} {} added", f.path, show(Some(to))),
            (Some(from), None) => format!("{} {} removed", f.path, show(Some(from))),
            (from, to) => format!("{} from {} to {}", f.path, show(from.as_ref()), show(to.as_ref())),
        })
        .collect();
    format!("({})", some_of(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_danger_says_what_it_means() {
        assert_eq!(TABLE.len(), 65);
        for (code, row) in TABLE.iter() {
            assert!(CATEGORIES.contains(&row.category), "{code}: {}", row.category);
            assert!(row.why.ends_with('.') && row.remedy.ends_with('.'), "{code}");
        }
    }
}
