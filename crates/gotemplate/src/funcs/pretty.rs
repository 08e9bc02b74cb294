//! `toYamlPretty`: YAML as `goyaml.v3` writes it with an indent of two, lists inside maps indented.

use druse_object::Value;
use druse_object::yaml;

use crate::val::Val;

use super::args::{MAX_DEPTH, MAX_TEXT};
use super::gofmt;

/// The text without its last line break; empty when the value contains itself.
#[must_use]
pub fn to_yaml(v: &Val) -> String {
    let mut out = String::new();
    let written = match v {
        Val::List(l) if !l.is_empty() => sequence(l, 0, false, &mut out, 0),
        Val::Map(m) if !m.borrow().is_empty() => mapping(v, 0, false, &mut out, 0),
        other => {
            out.push_str(&scalar(other, 0));
            out.push('\n');
            Some(())
        }
    };
    if written.is_none() {
        return String::new();
    }
    if out.ends_with('\n') {
        out.pop();
    }
    out
}

fn pad(n: usize, out: &mut String) {
    out.extend(std::iter::repeat_n(' ', n));
}

/// Anything that fits behind a key or a dash. Longer text goes on with lines indented by `indent`.
fn scalar(v: &Val, indent: usize) -> String {
    match v {
        Val::List(_) => "[]".to_owned(),
        Val::Map(_) => "{}".to_owned(),
        Val::Float(f) if f.is_nan() => ".nan".to_owned(),
        Val::Float(f) if f.is_infinite() => if *f > 0.0 { ".inf" } else { "-.inf" }.to_owned(),
        Val::Float(f) => gofmt::float_g(*f),
        Val::Str(s) if s.contains('\n') && !s.starts_with([' ', '\n', '\t']) && s.chars().all(printable) => {
            let mut out = String::from(if s.ends_with("\n\n") || s.as_str() == "\n" {
                "|+"
            } else if s.ends_with('\n') {
                "|"
            } else {
                "|-"
            });
            for line in s.strip_suffix('\n').unwrap_or(s).split('\n') {
                out.push('\n');
                if !line.is_empty() {
                    pad(indent.max(2), &mut out);
                    out.push_str(line);
                }
            }
            out
        }
        other => yaml::to_string(&other.to_value()).trim_end_matches('\n').to_owned(),
    }
}

fn printable(c: char) -> bool {
    c >= ' ' && c != '\u{7f}' || c == '\n' || c == '\t'
}

fn key(k: &str) -> String {
    yaml::to_string(&Value::from(k)).trim_end_matches('\n').to_owned()
}

/// `goyaml.v3` sorts keys as people count: `a2` before `a10`.
fn natural(a: &str, b: &str) -> std::cmp::Ordering {
    let (mut x, mut y) = (a.chars().peekable(), b.chars().peekable());
    loop {
        match (x.peek().copied(), y.peek().copied()) {
            (Some(c), Some(d)) if c.is_ascii_digit() && d.is_ascii_digit() => {
                let run = |i: &mut std::iter::Peekable<std::str::Chars<'_>>| {
                    let mut n = 0u128;
                    while let Some(d) = i.peek().and_then(|c| c.to_digit(10)) {
                        n = n.saturating_mul(10).saturating_add(u128::from(d));
                        i.next();
                    }
                    n
                };
                let order = run(&mut x).cmp(&run(&mut y));
                if order.is_ne() {
                    return order;
                }
            }
            (Some(c), Some(d)) if c == d => {
                x.next();
                y.next();
            }
            (Some(c), Some(d)) => {
                // Letters come after everything else.
                return c.is_alphabetic().cmp(&d.is_alphabetic()).then(c.cmp(&d));
            }
            (None, None) => return a.cmp(b),
            (None, Some(_)) => return std::cmp::Ordering::Less,
            (Some(_), None) => return std::cmp::Ordering::Greater,
        }
    }
}

/// Writes a mapping; `inline` when its first key goes behind a dash. `None`: nested too deeply, or too long.
fn mapping(v: &Val, indent: usize, inline: bool, out: &mut String, depth: usize) -> Option<()> {
    let Val::Map(m) = v else { return Some(()) };
    if depth > MAX_DEPTH || out.len() > MAX_TEXT {
        return None;
    }
    let mut entries: Vec<_> = m.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
    entries.sort_by(|a, b| natural(&a.0, &b.0));
    for (i, (k, v)) in entries.iter().enumerate() {
        if i > 0 || !inline {
            pad(indent, out);
        }
        out.push_str(&key(k));
        out.push(':');
        match v {
            Val::List(l) if !l.is_empty() => {
                out.push('\n');
                sequence(l, indent + 2, false, out, depth + 1)?;
            }
            Val::Map(m) if !m.borrow().is_empty() => {
                out.push('\n');
                mapping(v, indent + 2, false, out, depth + 1)?;
            }
            other => {
                out.push(' ');
                out.push_str(&scalar(other, indent + 2));
                out.push('\n');
            }
        }
    }
    Some(())
}

fn sequence(items: &[Val], indent: usize, inline: bool, out: &mut String, depth: usize) -> Option<()> {
    if depth > MAX_DEPTH || out.len() > MAX_TEXT {
        return None;
    }
    for (i, v) in items.iter().enumerate() {
        if i > 0 || !inline {
            pad(indent, out);
        }
        out.push_str("- ");
        match v {
            Val::List(l) if !l.is_empty() => sequence(l, indent + 2, true, out, depth + 1)?,
            Val::Map(m) if !m.borrow().is_empty() => mapping(v, indent + 2, true, out, depth + 1)?,
            other => {
                out.push_str(&scalar(other, indent + 2));
                out.push('\n');
            }
        }
    }
    Some(())
}
