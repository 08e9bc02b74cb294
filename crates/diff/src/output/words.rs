//! What all outputs say in the same words: causes, sums, values.

use druse_object::{Value, json, yaml};

use crate::fields::flat::FieldChange;
use crate::model::{Cause, ChangeKind, Counts, ImageChange, NotRendered, ObjectChange, UnitChange};

/// Names beyond so many are counted.
const SHOWN: usize = 6;

/// `1 unit`, `3 units`.
pub(super) fn count(many: usize, one: &str) -> String {
    format!("{many} {one}{}", if many == 1 { "" } else { "s" })
}

/// A few of many names.
pub(super) fn list(names: &[String]) -> String {
    if names.len() <= SHOWN {
        return names.join(", ");
    }
    format!("{} and {} more", names.get(..SHOWN).unwrap_or_default().join(", "), names.len() - SHOWN)
}

fn by(unit: &Option<String>) -> String {
    unit.as_ref().map(|u| format!(", made by {u}")).unwrap_or_default()
}

/// A cause in a few words. Files are listed together, see [`causes`].
fn cause(cause: &Cause) -> Option<String> {
    Some(match cause {
        Cause::Spec { fields } => format!("spec: {}", list(fields)),
        Cause::Values { fields } => format!("values: {}", list(fields)),
        Cause::Chart { from, to } => match (from.rsplit_once(' '), to.rsplit_once(' ')) {
            (Some((a, old)), Some((b, new))) if a == b => format!("chart {a} {old} → {new}"),
            _ => format!("chart {from} → {to}"),
        },
        Cause::ChartContent { chart } => format!("chart {chart} has the same version and another content"),
        Cause::Source { from, to } => format!("source {from} → {to}"),
        Cause::File { .. } => return None,
        Cause::Variables { names, from, made_by } => format!("variables {} ({from}{})", list(names), by(made_by)),
        Cause::ValuesFrom { object, keys, made_by } => format!("values from {object}: {}{}", list(keys), by(made_by)),
        Cause::Suspended => "suspended".into(),
        Cause::Resumed => "resumed".into(),
        Cause::FailsNow => "fails now".into(),
        Cause::RendersAgain => "renders again".into(),
        Cause::Dependencies => "dependsOn".into(),
        Cause::ServedKinds => "other kinds are served".into(),
        Cause::MakerRemoved { unit } => format!("{unit} is removed"),
    })
}

/// All causes of a unit, files last.
pub(super) fn causes(unit: &UnitChange) -> Vec<String> {
    let mut out: Vec<String> = unit.causes.iter().filter_map(cause).collect();
    let files: Vec<String> = unit
        .causes
        .iter()
        .filter_map(|c| match c {
            Cause::File { path, change: ChangeKind::Changed } => Some(path.clone()),
            Cause::File { path, change } => Some(format!("{path} ({})", change.word())),
            _ => None,
        })
        .collect();
    if !files.is_empty() {
        out.push(list(&files));
    }
    out
}

/// `+2 ~1 -3`, what is zero left out.
pub(super) fn signs(counts: Counts) -> String {
    [('+', counts.added), ('~', counts.changed), ('-', counts.removed)]
        .into_iter()
        .filter(|(_, n)| *n > 0)
        .map(|(sign, n)| format!("{sign}{n}"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// `3 checksums, 1 version label` of the fields that only echo other changes.
pub(super) fn mechanical<'a>(fields: impl Iterator<Item = &'a FieldChange>) -> Option<String> {
    let mut sums = std::collections::BTreeMap::new();
    for m in fields.filter_map(|f| f.mechanical) {
        *sums.entry(m).or_insert(0usize) += 1;
    }
    let words: Vec<String> = sums.into_iter().map(|(m, n)| m.words(n)).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// A value on one line, when it is short enough.
pub(super) fn inline(value: &Value) -> Option<String> {
    const LONGEST: usize = 100;
    let text = match value {
        Value::String(s) if s.is_empty() => "\"\"".to_string(),
        Value::String(s) if s.contains(['\n', '\r']) => return None,
        // Text that reads like something else keeps its quotes.
        Value::String(s) if needs_quotes(s) => json::to_string_raw(value),
        Value::String(s) => s.to_string(),
        Value::Array(a) if a.is_empty() => "[]".into(),
        Value::Map(m) if m.is_empty() => "{}".into(),
        Value::Array(a) if a.iter().all(|v| v.as_map().is_none() && v.as_array().is_none()) => {
            let items: Vec<String> = a.iter().map(inline).collect::<Option<_>>()?;
            format!("[{}]", items.join(", "))
        }
        Value::Array(_) | Value::Map(_) => return None,
        other => json::to_string(other),
    };
    (text.chars().count() <= LONGEST).then_some(text)
}

fn needs_quotes(text: &str) -> bool {
    text.trim() != text || matches!(text, "true" | "false" | "null" | "yes" | "no" | "~") || text.parse::<f64>().is_ok()
}

/// A value as lines.
pub(super) fn block(value: &Value) -> Vec<String> {
    match (inline(value), value) {
        (Some(text), _) => vec![text],
        (None, Value::String(s)) => s.lines().map(str::to_string).collect(),
        _ => yaml::to_string_ordered(value).lines().map(str::to_string).collect(),
    }
}

/// The text that stands for a value that is not shown.
pub(super) fn hidden(field: &FieldChange) -> String {
    let keys = |v: &Option<Value>| -> Vec<String> {
        v.as_ref().and_then(Value::as_map).map(|m| m.keys().map(ToString::to_string).collect()).unwrap_or_default()
    };
    match (keys(&field.from), keys(&field.to)) {
        (from, to) if from.is_empty() && to.is_empty() => format!("value {} (not shown)", field_word(field)),
        (from, to) if from.is_empty() => {
            format!("{} added: {} (values not shown)", count(to.len(), "key"), to.join(", "))
        }
        (from, _) => format!("{} removed: {} (values not shown)", count(from.len(), "key"), from.join(", ")),
    }
}

fn field_word(field: &FieldChange) -> &'static str {
    use crate::fields::flat::FieldChangeKind as K;
    match field.change {
        K::Added => "added",
        K::Removed => "removed",
        K::Changed => "changed",
        K::Reordered => "reordered",
    }
}

/// `name from → to`, with the old name where that is another one.
pub(super) fn image(image: &ImageChange) -> (String, String) {
    match &image.image_from {
        None => (image.image.clone(), format!("{} → {}", image.from, image.to)),
        Some(old) => (old.clone(), format!("{} → {} {}", image.from, image.image, image.to)),
    }
}

/// What becomes of all of a unit's removed objects, when that is the same for several.
pub(super) fn common_fate(unit: &UnitChange) -> Option<&str> {
    let mut fates = unit.objects.iter().filter(|o| o.change == ChangeKind::Removed).map(|o| o.fate.as_deref());
    let first = fates.next()??;
    let mut others = 0;
    let same = fates.all(|fate| {
        others += 1;
        fate == Some(first)
    });
    (same && others > 0).then_some(first)
}

/// What follows an object's name: what else is to say about it, but not the fate that was told already.
pub(super) fn object_notes(object: &ObjectChange, told: Option<&str>) -> Vec<String> {
    let mut out = Vec::new();
    if object.hook {
        out.push("hook".to_string());
    }
    if let Some(old) = &object.renamed_from {
        out.push(format!("was {old}"));
    }
    if let Some(from) = &object.moved_from {
        out.push(format!("moved from {from}"));
    }
    out.extend(object.fate.clone().filter(|fate| Some(fate.as_str()) != told));
    out
}

/// `base and head`, `base`, `head`.
pub(super) fn sides(n: &NotRendered) -> String {
    if n.both { "base and head".into() } else { n.side.to_string() }
}
