//! YAML as sops writes it (yaml/v3, four spaces, lists indented).
//!
//! A file without comments is written from its values. One with comments is kept as it stands, with the encrypted
//! scalars and comments replaced in their places: sops wrote its layout, so that is what it would write again.

use druse_object::{Map, Value, yaml};

use super::Loaded;
use crate::tree::Walk;

const STEP: usize = 4;

/// The column of what is nested in a collection at column `indent`: the next multiple of four, or, in a list item,
/// right behind its dash.
fn nested(indent: usize, in_list: bool) -> usize {
    if in_list { indent + 2 } else { STEP * ((indent + STEP) / STEP) }
}

/// Documents as text.
pub(crate) fn write(documents: &[Value]) -> String {
    let mut out = String::new();
    for (i, document) in documents.iter().enumerate() {
        if i > 0 {
            out.push_str("---\n");
        }
        match document {
            Value::Map(m) if !m.is_empty() => map(&mut out, m, 0, false),
            _ => out.push_str("{}\n"),
        }
    }
    out
}

fn spaces(out: &mut String, n: usize) {
    out.extend(std::iter::repeat_n(' ', n));
}

fn map(out: &mut String, map: &Map, indent: usize, first_inline: bool) {
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 || !first_inline {
            spaces(out, indent);
        }
        let key = yaml::to_string_ordered(&Value::String(key.clone()));
        out.push_str(key.trim_end_matches('\n'));
        out.push(':');
        match value {
            Value::Map(m) if !m.is_empty() => {
                out.push('\n');
                self::map(out, m, nested(indent, false), false);
            }
            Value::Array(a) if !a.is_empty() => {
                out.push('\n');
                list(out, a, nested(indent, false), false);
            }
            leaf => {
                out.push(' ');
                out.push_str(&scalar(leaf, nested(indent, false)));
            }
        }
    }
}

fn list(out: &mut String, items: &[Value], indent: usize, first_inline: bool) {
    for (i, item) in items.iter().enumerate() {
        if i > 0 || !first_inline {
            spaces(out, indent);
        }
        out.push_str("- ");
        match item {
            Value::Map(m) if !m.is_empty() => map(out, m, nested(indent, true), true),
            Value::Array(a) if !a.is_empty() => list(out, a, nested(indent, true), true),
            leaf => out.push_str(&scalar(leaf, nested(indent, true))),
        }
    }
}

/// A scalar with its line end; the lines of a block start at column `indent`.
fn scalar(value: &Value, indent: usize) -> String {
    let text = yaml::to_string_ordered(value);
    let Some(block) = text.strip_prefix('|') else { return text };
    let mut lines = block.split_inclusive('\n');
    let head = lines.next().unwrap_or_default();
    let mut out = format!("|{}", head.replacen('2', "4", 1));
    for line in lines {
        if let Some(line) = line.strip_prefix("  ") {
            spaces(&mut out, indent);
            out.push_str(line);
        } else {
            out.push_str(line);
        }
    }
    out
}

/// All paths at which a document has a map or list, that of the document itself first.
fn branches<'v>(value: &'v Value, path: &mut Vec<&'v str>, out: &mut Vec<Vec<&'v str>>) {
    match value {
        Value::Map(m) => {
            out.push(path.clone());
            for (k, v) in m.iter() {
                path.push(k);
                branches(v, path, out);
                path.pop();
            }
        }
        Value::Array(a) => {
            out.push(path.clone());
            a.iter().for_each(|v| branches(v, path, out));
        }
        _ => {}
    }
}

/// The file's own text with everything encrypted replaced and the metadata cut out; `None` when its layout is not what
/// sops writes.
pub(crate) fn rewrite(text: &str, loaded: &Loaded, walk: &Walk<'_>) -> Option<String> {
    let mut paths = Vec::new();
    for d in &loaded.documents {
        branches(d, &mut Vec::new(), &mut paths);
    }
    let mut opened = walk.opened.iter();
    let mut out = String::with_capacity(text.len());
    let mut in_metadata = false;
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches('\n');
        if in_metadata && (body.is_empty() || body.starts_with(' ')) {
            continue;
        }
        in_metadata = body == "sops:" || body.starts_with("sops: ");
        if in_metadata {
            continue;
        }
        let Some(at) = body.find("ENC[AES256_GCM,") else {
            out.push_str(line);
            continue;
        };
        let (before, rest) = body.split_at(at);
        let end = rest.find(']')? + 1;
        let (encrypted, after) = rest.split_at(end);
        // A comment in a list was encrypted as an item.
        let item = before.strip_suffix("- ").filter(|_| encrypted.ends_with(",type:comment]"));
        if before.ends_with('#') || item.is_some() {
            let plain = walk.comment(encrypted, paths.iter().map(Vec::as_slice));
            out.push_str(item.unwrap_or(before));
            if item.is_some() {
                out.push('#');
            }
            out.push_str(plain.as_deref().unwrap_or(encrypted));
            out.push_str(after);
            out.push('\n');
            continue;
        }
        let (expected, value) = opened.next()?;
        if expected != encrypted {
            return None;
        }
        let column = before.len() - before.trim_start_matches(' ').len();
        let mut indent = column;
        let mut item = before.trim_start_matches(' ');
        let mut in_list = false;
        while let Some(tail) = item.strip_prefix("- ") {
            indent = if in_list { indent + 2 } else { indent };
            in_list = true;
            item = tail;
        }
        let indent = match (in_list, item.is_empty()) {
            (true, true) => nested(indent, true),
            (true, false) => nested(nested(indent, true), false),
            _ => nested(indent, false),
        };
        let shown = scalar(value, indent);
        let (first, more) = shown.split_once('\n')?;
        let mut comment = "";
        match after.trim_start() {
            "" => {}
            // What was encrypted as a comment on the line comes back as one above it.
            tail if tail.starts_with("#ENC[") => {
                let encrypted = tail.trim_start_matches('#');
                let plain = walk.comment(encrypted, paths.iter().map(Vec::as_slice));
                spaces(&mut out, column);
                out.push('#');
                out.push_str(plain.as_deref().unwrap_or(encrypted));
                out.push('\n');
            }
            tail if tail.starts_with('#') => comment = tail,
            _ => return None,
        }
        out.push_str(before);
        out.push_str(first);
        if !comment.is_empty() {
            out.push(' ');
            out.push_str(comment);
        }
        out.push('\n');
        out.push_str(more);
    }
    opened.next().is_none().then_some(out)
}
