//! The JSON paths of printer columns: keys, indices, `[*]`, and filters comparing one key with a text.

use druse_object::Value;

#[derive(Debug, PartialEq)]
enum Step {
    Key(String),
    Index(i64),
    All,
    Equal(Vec<String>, String),
}

/// The longest path taken.
const MAX: usize = 4096;

fn parse(path: &str) -> Option<Vec<Step>> {
    if path.len() > MAX {
        return None;
    }
    let text = path.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
    let mut out = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '.' => {}
            '[' => {
                let mut inner = String::new();
                let mut depth = 1;
                let mut quote = None;
                for c in chars.by_ref() {
                    match (quote, c) {
                        (Some(q), c) if c == q => quote = None,
                        (None, '\'' | '"') => quote = Some(c),
                        (None, '[') => depth += 1,
                        (None, ']') => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 {
                        break;
                    }
                    inner.push(c);
                }
                let inner = inner.trim();
                let bare = inner.trim_matches(|c| c == '\'' || c == '"');
                if inner == "*" {
                    out.push(Step::All);
                } else if let Some(f) = inner.strip_prefix("?(").and_then(|f| f.strip_suffix(')')) {
                    let (left, right) = f.split_once("==")?;
                    let keys = left.trim().trim_start_matches('@').split('.').filter(|k| !k.is_empty());
                    let right = right.trim().trim_matches(|c| c == '\'' || c == '"');
                    out.push(Step::Equal(keys.map(str::to_owned).collect(), right.to_owned()));
                } else if bare != inner {
                    out.push(Step::Key(bare.to_owned()));
                } else if let Ok(i) = inner.parse() {
                    out.push(Step::Index(i));
                } else {
                    return None;
                }
            }
            '*' => out.push(Step::All),
            c => {
                let mut key = String::new();
                let mut c = Some(c);
                while let Some(x) = c {
                    if x == '\\' {
                        key.extend(chars.next());
                    } else {
                        key.push(x);
                    }
                    c = chars.next_if(|c| !matches!(c, '.' | '['));
                }
                out.push(Step::Key(key));
            }
        }
    }
    Some(out)
}

/// The values at a path.
#[must_use]
pub fn lookup<'a>(v: &'a Value, path: &str) -> Vec<&'a Value> {
    let Some(steps) = parse(path) else { return Vec::new() };
    let mut at = vec![v];
    for s in &steps {
        let mut next = Vec::new();
        for v in at {
            match s {
                Step::Key(k) => next.extend(v.get(k)),
                Step::Index(i) => {
                    let items = v.items();
                    let i = if *i < 0 { items.len().checked_sub(i.unsigned_abs() as usize) } else { Some(*i as usize) };
                    next.extend(i.and_then(|i| items.get(i)));
                }
                Step::All => match v {
                    Value::Map(m) => next.extend(m.values()),
                    other => next.extend(other.items()),
                },
                Step::Equal(keys, want) => next.extend(v.items().iter().filter(|x| {
                    let found = keys.iter().try_fold(*x, |x, k| x.get(k));
                    found.is_some_and(|f| match f {
                        Value::String(s) => s == want,
                        other => druse_object::json::to_string(other) == *want,
                    })
                })),
            }
        }
        at = next;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::json;

    #[test]
    fn paths_reach_keys_indices_and_filtered_items() {
        let v = json::parse(br#"{"s":{"c":[{"t":"Ready","v":"True"},{"t":"X","v":"No"}],"a.b":1}}"#).unwrap();
        let text = |p: &str| lookup(&v, p).iter().map(|v| json::to_string(v)).collect::<Vec<_>>().join(",");
        assert_eq!(text(".s.c[?(@.t==\"Ready\")].v"), "\"True\"");
        assert_eq!(text(".s.c[*].v"), "\"True\",\"No\"");
        assert_eq!(text(".s.c[1].t"), "\"X\"");
        assert_eq!(text(".s.a\\.b"), "1");
        assert_eq!(text(".s.none"), "");
    }
}
