//! A [`Delta`] as a list of changed fields: each with its path, the values, and for longer texts the changed lines.

use druse_object::{Str, Value};
use serde::Serialize;

use super::{Delta, ListDelta};
use crate::lines::{self, Hunk};

/// What happened to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FieldChangeKind {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It has another value.
    Changed,
    /// The same items stand in another order.
    Reordered,
}

/// Why a change is only the echo of another one, and need not be read by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mechanical {
    /// The digest of something else that changed, which makes pods start anew.
    Checksum,
    /// A reference to an object whose name ends with a hash of its content.
    RenamedReference,
    /// A label or annotation that only says which version of a chart or application this is.
    VersionLabel,
    /// A label that names the unit an object belongs to, on an object that moved.
    OwnerLabel,
    /// What SOPS writes about a file it encrypted.
    Encryption,
}

impl Mechanical {
    /// In words, for a sum: `3 checksums`.
    #[must_use]
    pub fn words(self, many: usize) -> String {
        let (one, more) = match self {
            Self::Checksum => ("checksum", "checksums"),
            Self::RenamedReference => ("reference to a renamed object", "references to renamed objects"),
            Self::VersionLabel => ("version label", "version labels"),
            Self::OwnerLabel => ("owner label", "owner labels"),
            Self::Encryption => ("encryption note", "encryption notes"),
        };
        format!("{many} {}", if many == 1 { one } else { more })
    }
}

/// One changed field of an object.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FieldChange {
    /// Where: `spec.template.spec.containers[app].image`.
    pub path: String,
    /// What happened.
    pub change: FieldChangeKind,
    /// The value in base; none when it is new or must not be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Value>,
    /// The value in head; none when it is gone or must not be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Value>,
    /// For longer texts, the lines that changed; the values are left out then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<Hunk>,
    /// Whether values are not shown because they are a Secret's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// Whether it only echoes another change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mechanical: Option<Mechanical>,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A map's key.
    Key(Str),
    /// A list's item, by what names it.
    Item(String),
}

/// A path as people write it. Keys that hold dots or brackets stand in brackets.
#[must_use]
pub fn path_text(steps: &[Step]) -> String {
    let mut out = String::new();
    for step in steps {
        match step {
            Step::Key(k) if k.is_empty() || k.contains(['.', '[', ']', ' ', '/']) => {
                out.push('[');
                out.push_str(k);
                out.push(']');
            }
            Step::Key(k) => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(k);
            }
            Step::Item(label) => {
                out.push('[');
                out.push_str(label);
                out.push(']');
            }
        }
    }
    out
}

/// The changed fields of a delta, each seen with its path before it is written down.
pub fn flatten(delta: &Delta, seen: &mut dyn FnMut(&[Step], &mut FieldChange)) -> Vec<FieldChange> {
    let mut out = Vec::new();
    walk(delta, &mut Vec::new(), &mut out, seen);
    out
}

type Seen<'a> = &'a mut dyn FnMut(&[Step], &mut FieldChange);

fn walk(delta: &Delta, at: &mut Vec<Step>, out: &mut Vec<FieldChange>, seen: Seen<'_>) {
    let mut push = |change, from: Option<&Value>, to: Option<&Value>, at: &[Step]| {
        let mut field = FieldChange {
            path: path_text(at),
            change,
            from: from.cloned(),
            to: to.cloned(),
            lines: Vec::new(),
            hidden: false,
            mechanical: None,
        };
        seen(at, &mut field);
        if !field.hidden {
            to_lines(&mut field);
        }
        out.push(field);
    };
    match delta {
        Delta::Added(v) => push(FieldChangeKind::Added, None, Some(v), at),
        Delta::Removed(v) => push(FieldChangeKind::Removed, Some(v), None, at),
        Delta::Changed { from, to } => push(FieldChangeKind::Changed, Some(from), Some(to), at),
        Delta::Map(entries) => {
            for (key, delta) in entries {
                at.push(Step::Key(key.clone()));
                walk(delta, at, out, seen);
                at.pop();
            }
        }
        Delta::List(ListDelta { items, order, order_labels }) => {
            if let Some(order) = order {
                let before = order_before(order, order_labels);
                let after: Value = order_labels.iter().map(String::as_str).collect();
                push(FieldChangeKind::Reordered, Some(&before), Some(&after), at);
            }
            for item in items {
                at.push(Step::Item(item.label.clone()));
                walk(&item.delta, at, out, seen);
                at.pop();
            }
        }
    }
}

fn order_before(order: &[usize], labels: &[String]) -> Value {
    let mut sorted: Vec<(&usize, &String)> = order.iter().zip(labels).collect();
    sorted.sort();
    sorted.into_iter().map(|(_, label)| label.as_str()).collect()
}

/// Texts of several lines are shown as the lines that changed.
fn to_lines(field: &mut FieldChange) {
    let text = |v: &Option<Value>| v.as_ref().and_then(Value::as_str).map(str::to_string);
    if field.change != FieldChangeKind::Changed {
        return;
    }
    let (Some(from), Some(to)) = (text(&field.from), text(&field.to)) else { return };
    if from.trim_end().contains('\n') || to.trim_end().contains('\n') {
        field.lines = lines::hunks(&from, &to);
        if !field.lines.is_empty() {
            (field.from, field.to) = (None, None);
        }
    }
}
