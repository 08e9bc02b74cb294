//! The path of a field in a schema, as rules name one (`ValidFieldPath` of
//! `k8s.io/apiextensions-apiserver` `pkg/apiserver/schema/cel`): `.spec.map['a key'].x`.

use druse_object::Value;

/// Whether a path leads to a field of the schema.
pub(super) fn leads_somewhere(schema: &Value, path: &str) -> bool {
    let (mut at, mut rest) = (schema, path);
    while !rest.is_empty() {
        let found = match rest.split_at_checked(1) {
            Some((".", after)) => {
                let end = after.find(['.', '[', ']']).unwrap_or(after.len());
                let (name, after) = after.split_at(end);
                rest = after;
                if name.is_empty() { None } else { child(at, name) }
            }
            Some(("[", after)) => quoted(after).and_then(|(name, after)| {
                rest = after.strip_prefix(']')?;
                child(at, &name)
            }),
            _ => None,
        };
        let Some(found) = found else { return false };
        at = found;
    }
    true
}

fn child<'a>(schema: &'a Value, name: &str) -> Option<&'a Value> {
    match schema.get("properties").filter(|p| p.as_map().is_some()) {
        Some(properties) => properties.get(name),
        None => schema.get("additionalProperties").filter(|v| v.as_map().is_some()),
    }
}

/// A text in single quotes, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut out, mut escaped) = (String::new(), false);
    for (i, c) in text.strip_prefix('\'')?.char_indices() {
        match c {
            '\'' if !escaped => return Some((out, text.get(i + 2..)?)),
            '\\' if !escaped => escaped = true,
            c => {
                out.push(c);
                escaped = false;
            }
        }
    }
    None
}
