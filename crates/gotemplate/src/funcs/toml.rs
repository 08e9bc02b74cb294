//! TOML written as `BurntSushi/toml` writes it: plain keys before tables, two spaces of indent a level.

use std::fmt::Write as _;

use crate::env::FuncError;
use crate::val::Val;

use super::args::{Args, MAX_DEPTH, err};
use super::times::{GoInt, GoTime};
use super::{Entry, gofmt, toml_read};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("toToml", |_, a| {
        Ok(Val::str(match encode(Args::exact("toToml", a, 1)?.any(0)) {
            Ok(text) => text,
            Err(e) => e.0,
        }))
    }),
    ("mustToToml", |_, a| encode(Args::exact("mustToToml", a, 1)?.any(0)).map(Val::str)),
    ("fromToml", |_, a| Ok(toml_read::map_or_error(Args::exact("fromToml", a, 1)?.str(0)?))),
];

struct Writer {
    out: String,
}

fn encode(v: &Val) -> Result<String, FuncError> {
    let mut w = Writer { out: String::new() };
    match v {
        Val::Map(_) => w.entries(&[], v, 0)?,
        Val::List(l) if is_table_array(l)? => return err("toml: top-level values must be Go maps or structs"),
        Val::Nil | Val::Missing => return err(super::args::NIL_DEREFERENCE),
        // Upstream writes a bare value where there is no key.
        other => w.value(other, 0)?,
    }
    Ok(w.out)
}

/// Whether the items of a list are all tables; a nil among them cannot be written.
fn is_table_array(items: &[Val]) -> Result<bool, FuncError> {
    if items.iter().any(Val::is_nil) {
        return err("toml: cannot encode array with nil element");
    }
    Ok(!items.is_empty() && items.iter().all(|v| matches!(v, Val::Map(_))))
}

fn is_table(v: &Val) -> Result<bool, FuncError> {
    Ok(match v {
        Val::Map(_) => true,
        Val::List(l) => is_table_array(l)?,
        _ => false,
    })
}

fn quoted(s: &str) -> String {
    let mut out = String::from("\"");
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            c if c < ' ' || c == '\u{7f}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn key(k: &str) -> String {
    if !k.is_empty() && k.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-') {
        k.to_owned()
    } else {
        quoted(k)
    }
}

impl Writer {
    fn newline(&mut self) {
        if !self.out.is_empty() {
            self.out.push('\n');
        }
    }

    fn indent(&mut self, path: &[String]) {
        self.out.extend(std::iter::repeat_n("  ", path.len().saturating_sub(1)));
    }

    /// The entries of a table: first those that are no tables.
    fn entries(&mut self, path: &[String], v: &Val, depth: usize) -> Result<(), FuncError> {
        let Val::Map(m) = v else { return Ok(()) };
        if depth > MAX_DEPTH {
            return err("toml: the value is nested too deeply");
        }
        let (mut direct, mut sub) = (Vec::new(), Vec::new());
        for (k, v) in m.borrow().iter() {
            if v.is_nil() || v.is_nil_list() {
                continue;
            }
            if is_table(v)? { &mut sub } else { &mut direct }.push((k.clone(), v.clone()));
        }
        for (k, v) in direct.iter().chain(&sub) {
            let mut path = path.to_vec();
            path.push(key(k));
            match v {
                Val::Map(_) => {
                    // A blank line between top-level tables.
                    if path.len() == 1 {
                        self.newline();
                    }
                    self.indent(&path);
                    let _ = writeln!(self.out, "[{}]", path.join("."));
                    self.entries(&path, v, depth + 1)?;
                }
                Val::List(l) if is_table_array(l)? => {
                    for item in l.iter() {
                        self.newline();
                        self.indent(&path);
                        let _ = writeln!(self.out, "[[{}]]", path.join("."));
                        self.entries(&path, item, depth + 1)?;
                    }
                }
                v => {
                    self.indent(&path);
                    let _ = write!(self.out, "{} = ", key(k));
                    self.value(v, depth + 1)?;
                    self.out.push('\n');
                }
            }
        }
        Ok(())
    }

    /// A value on one line.
    fn value(&mut self, v: &Val, depth: usize) -> Result<(), FuncError> {
        if depth > MAX_DEPTH {
            return err("toml: the value is nested too deeply");
        }
        match v {
            Val::Nil | Val::Missing => return err("toml: cannot encode array with nil element"),
            Val::Bool(b) => self.out.push_str(if *b { "true" } else { "false" }),
            Val::Int(i) | Val::Int64(i) => self.out.push_str(&i.to_string()),
            Val::UInt64(u) => self.out.push_str(&u.to_string()),
            Val::Float(f) => self.out.push_str(&float(*f)),
            Val::Str(s) => self.out.push_str(&quoted(s)),
            Val::List(l) => {
                is_table_array(l)?;
                self.out.push('[');
                for (i, v) in l.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(v, depth + 1)?;
                }
                self.out.push(']');
            }
            Val::Map(m) => self.inline(m, depth)?,
            Val::Object(o) => match (o.as_any().downcast_ref::<GoTime>(), o.as_any().downcast_ref::<GoInt>()) {
                (Some(t), _) => self.out.push_str(&t.0.format("2006-01-02T15:04:05.999999999Z07:00")),
                (_, Some(i)) if !i.is_duration() => self.out.push_str(&i.number().to_string()),
                _ => self.out.push_str(&quoted(&o.display())),
            },
        }
        Ok(())
    }

    fn inline(&mut self, m: &crate::val::MapRef, depth: usize) -> Result<(), FuncError> {
        let (mut direct, mut sub) = (Vec::new(), Vec::new());
        for (k, v) in m.borrow().iter() {
            if is_table(v)? { &mut sub } else { &mut direct }.push((k.clone(), v.clone()));
        }
        self.out.push('{');
        let all: Vec<_> = direct.iter().chain(&sub).collect();
        for (i, (k, v)) in all.iter().enumerate() {
            if v.is_nil() || v.is_nil_list() {
                continue;
            }
            let _ = write!(self.out, "{} = ", key(k));
            self.value(v, depth + 1)?;
            if i + 1 != all.len() {
                self.out.push_str(", ");
            }
        }
        self.out.push('}');
        Ok(())
    }
}

fn float(f: f64) -> String {
    if f.is_nan() {
        return "nan".to_owned();
    }
    if f.is_infinite() {
        return if f < 0.0 { "-inf" } else { "inf" }.to_owned();
    }
    let text = gofmt::float_g(f);
    if text.contains(['e', '.']) { text } else { text + ".0" }
}
