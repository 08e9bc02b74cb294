//! Paths as the data tables write them: `spec.rules[].http`, keys with dots as `[a.b/c]`, and texts with such paths in.

use druse_object::Value;

use crate::position::Step;

enum Part<'p> {
    Key(&'p str),
    Each,
}

fn parts(path: &str) -> Vec<Part<'_>> {
    let mut out = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        rest = rest.strip_prefix('.').unwrap_or(rest);
        if let Some(inner) = rest.strip_prefix('[') {
            let (key, more) = inner.split_once(']').unwrap_or((inner, ""));
            out.push(if key.is_empty() { Part::Each } else { Part::Key(key) });
            rest = more;
            continue;
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (key, more) = rest.split_at(end);
        if !key.is_empty() {
            out.push(Part::Key(key));
        }
        rest = more;
    }
    out
}

/// Everything at a path, with where it is.
#[must_use]
pub fn all<'v>(value: &'v Value, path: &str) -> Vec<(Vec<Step>, &'v Value)> {
    let mut found = vec![(Vec::new(), value)];
    for part in parts(path) {
        let mut next = Vec::new();
        for (at, v) in found {
            match part {
                Part::Key(key) => {
                    if let Some(inner) = v.get(key) {
                        let mut at: Vec<Step> = at;
                        at.push(Step::Key(key.to_string()));
                        next.push((at, inner));
                    }
                }
                Part::Each => next.extend(v.items().iter().enumerate().map(|(i, inner)| {
                    let mut at = at.clone();
                    at.push(Step::Index(i));
                    (at, inner)
                })),
            }
        }
        found = next;
    }
    found
}

/// What is at a path without lists.
#[must_use]
pub fn get<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    parts(path).into_iter().try_fold(value, |v, part| match part {
        Part::Key(key) => v.get(key),
        Part::Each => None,
    })
}

/// A text with what is at its paths in their place; `None` when something is not there.
#[must_use]
pub fn fill(template: &str, item: &Value, root: &Value) -> Option<String> {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, more)) = rest.split_once('{') {
        let (choices, after) = more.split_once('}')?;
        out.push_str(before);
        let text = choices.split('|').find_map(|path| {
            let (value, path) = path.strip_prefix('^').map_or((item, path), |p| (root, p));
            get(value, path)?.as_str().filter(|s| !s.is_empty())
        })?;
        out.push_str(text);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// Whether text fits a pattern in which `*` stands for anything.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, mut rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    while let Some((part, more)) = rest.split_once('*') {
        let Some(i) = left.find(part) else { return false };
        left = left.get(i + part.len()..).unwrap_or_default();
        rest = more;
    }
    left.ends_with(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_go_through_lists_and_texts_are_filled() {
        let v = druse_object::json::parse(br#"{"a":[{"n":"x"},{"n":"y"}],"m":{"k.l/o":"z"}}"#).unwrap();
        let names: Vec<_> = all(&v, "a[].n").into_iter().filter_map(|(_, v)| v.as_str()).collect();
        assert_eq!(names, ["x", "y"]);
        assert_eq!(get(&v, "m.[k.l/o]").and_then(Value::as_str), Some("z"));
        assert_eq!(fill("{none|n}-{^m.[k.l/o]}-*", &v["a"].items()[0], &v).as_deref(), Some("x-z-*"));
        assert_eq!(fill("{none}", &v, &v), None);
        assert!(matches("a-*-c", "a-b-c") && !matches("a-*", "b") && matches("*", "") && !matches("a", "ab"));
    }
}
