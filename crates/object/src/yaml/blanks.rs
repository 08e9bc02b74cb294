//! Nulls for which nothing is written: `key:`.
//!
//! They are nulls like any other, but kyaml knows them by their empty text. While a document is read a mark stands in
//! their place; then their places are noted and the marks become nulls.

use crate::value::{Str, Value};

/// A step into a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into the entry of a map.
    Key(Str),
    /// Into the item of a list.
    Index(usize),
}

/// Long enough that the text is never copied: the mark is known by its address, so no document can hold it.
static MARK: &str = "the null for which nothing is written";

pub(super) fn mark() -> Value {
    Value::String(Str::new_static(MARK))
}

pub(super) fn is_mark(value: &Value) -> bool {
    matches!(value, Value::String(s) if std::ptr::eq(s.as_ptr(), MARK.as_ptr()))
}

/// Turns the marks in a value into nulls and returns the ways to them.
pub(super) fn take(value: &mut Value) -> Vec<Vec<Step>> {
    let mut out = Vec::new();
    visit(value, &mut Vec::new(), &mut out);
    out
}

fn visit(value: &mut Value, way: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
    match value {
        Value::Map(map) => {
            for (key, value) in map.iter_mut() {
                if matches!(value, Value::Map(_) | Value::Array(_)) || is_mark(value) {
                    way.push(Step::Key(key.clone()));
                    visit(value, way, out);
                    way.pop();
                }
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                way.push(Step::Index(i));
                visit(item, way, out);
                way.pop();
            }
        }
        other if is_mark(other) => {
            *other = Value::Null;
            out.push(way.clone());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::yaml::{Dialect, documents};

    #[test]
    fn only_unwritten_nulls_are_noted() {
        let text = "a:\nb: null\nc: ~\nd: [x, {e: , f}]\ng: {h: ''}\n'i':\n- \n- j: &k\n- *k\n";
        let document = documents(text, Dialect::Kyaml).remove(0).unwrap();
        let ways: Vec<String> = document.blanks.iter().map(|way| format!("{way:?}")).collect();
        assert_eq!(ways.len(), 6, "{ways:?}");
        assert_eq!(ways[0], "[Key(\"a\")]");
        assert_eq!(ways[1], "[Key(\"d\"), Index(1), Key(\"e\")]");
        assert!(document.value["a"].is_null() && document.value["d"].items()[1]["f"].is_null());
        assert!(documents(text, Dialect::Sigs).remove(0).unwrap().blanks.is_empty());
    }
}
