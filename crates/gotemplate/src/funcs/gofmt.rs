//! How Go's `fmt` and `strconv` write values: `%v`, `%q`, `%T`, floats and kinds.

use std::fmt::Write as _;

use crate::val::Val;

use super::args::MAX_DEPTH;

/// `%v` of a value.
#[must_use]
pub fn sprint(v: &Val) -> String {
    let mut out = String::new();
    write_value(v, &mut out, 0);
    out
}

/// sprig's `strval`: text as it is, anything else by `%v`.
#[must_use]
pub fn strval(v: &Val) -> std::borrow::Cow<'_, str> {
    match v {
        Val::Str(s) => std::borrow::Cow::Borrowed(s.as_str()),
        other => std::borrow::Cow::Owned(sprint(other)),
    }
}

fn write_value(v: &Val, out: &mut String, depth: usize) {
    if depth > MAX_DEPTH {
        out.push_str("...");
        return;
    }
    match v {
        Val::Nil | Val::Missing => out.push_str("<nil>"),
        Val::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Val::Int(i) | Val::Int64(i) => {
            let _ = write!(out, "{i}");
        }
        Val::UInt64(u) => {
            let _ = write!(out, "{u}");
        }
        Val::Float(f) => out.push_str(&float_g(*f)),
        Val::Str(s) => out.push_str(s),
        Val::List(l) => {
            out.push('[');
            for (i, item) in l.iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                write_value(item, out, depth + 1);
            }
            out.push(']');
        }
        Val::Map(m) => {
            out.push_str("map[");
            for (i, (k, item)) in m.borrow().iter().enumerate() {
                if i > 0 {
                    out.push(' ');
                }
                out.push_str(k);
                out.push(':');
                write_value(item, out, depth + 1);
            }
            out.push(']');
        }
        Val::Object(o) => out.push_str(&o.display()),
    }
}

/// The shortest decimal digits of a finite float and the place of the point: `0.d₁d₂… × 10^point`.
fn digits(f: f64) -> (String, i32) {
    let text = format!("{:e}", f.abs());
    let (mantissa, exp) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    (digits, exp.parse::<i32>().unwrap_or(0) + 1)
}

fn special(f: f64) -> Option<&'static str> {
    if f.is_nan() {
        Some("NaN")
    } else if f.is_infinite() {
        Some(if f > 0.0 { "+Inf" } else { "-Inf" })
    } else {
        None
    }
}

fn exponent_form(f: f64, digits: &str, point: i32, min_exp_digits: usize) -> String {
    let mut out = String::new();
    if f.is_sign_negative() {
        out.push('-');
    }
    let (first, rest) = digits.split_at(1.min(digits.len()));
    out.push_str(first);
    if !rest.is_empty() {
        out.push('.');
        out.push_str(rest);
    }
    let exp = point - 1;
    let _ = write!(out, "e{}{:0width$}", if exp < 0 { '-' } else { '+' }, exp.abs(), width = min_exp_digits);
    out
}

/// `strconv.FormatFloat(f, 'g', -1, 64)`, which is also `%v`: an exponent below 1e-4 and from 1e6 on.
#[must_use]
pub fn float_g(f: f64) -> String {
    if let Some(s) = special(f) {
        return s.to_owned();
    }
    let (digits, point) = digits(f);
    if f != 0.0 && (point - 1 < -4 || point - 1 >= 6) {
        return exponent_form(f, &digits, point, 2);
    }
    format!("{f}")
}

/// As Go's JSON encoder writes numbers; `None` for those it refuses.
#[must_use]
pub fn float_json(f: f64) -> Option<String> {
    if !f.is_finite() {
        return None;
    }
    let abs = f.abs();
    if abs != 0.0 && !(1e-6..1e21).contains(&abs) {
        let (digits, point) = digits(f);
        return Some(exponent_form(f, &digits, point, 1));
    }
    Some(format!("{f}"))
}

/// `%q`: a Go string literal.
#[must_use]
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            c if (c as u32) < 0x80 => {
                let _ = write!(out, "\\x{:02x}", c as u32);
            }
            c => {
                if let Some(b) = super::bytes::byte_of(c) {
                    let _ = write!(out, "\\x{b:02x}");
                } else if is_print(c) {
                    out.push(c);
                } else if (c as u32) < 0x1_0000 {
                    let _ = write!(out, "\\u{:04x}", c as u32);
                } else {
                    let _ = write!(out, "\\U{:08x}", c as u32);
                }
            }
        }
    }
    out.push('"');
    out
}

/// Go's `unicode.IsPrint`, by what Rust escapes when it writes text for debugging (after a letter, so that
/// combining marks are not).
fn is_print(c: char) -> bool {
    let mut buf = [0u8; 5];
    buf[0] = b'a';
    let n = c.encode_utf8(&mut buf[1..]).len();
    std::str::from_utf8(&buf[..=n]).is_ok_and(|s| s.escape_debug().eq(s.chars()))
}

/// `%T`.
#[must_use]
pub fn type_name(v: &Val) -> String {
    match v {
        Val::Nil | Val::Missing => "<nil>",
        Val::Bool(_) => "bool",
        Val::Int(_) => "int",
        Val::Int64(_) => "int64",
        Val::UInt64(_) => "uint64",
        Val::Float(_) => "float64",
        Val::Str(_) => "string",
        Val::List(_) => "[]interface {}",
        Val::Map(_) => "map[string]interface {}",
        Val::Object(o) => return o.type_name().to_owned(),
    }
    .to_owned()
}

/// The kind, as `reflect.Kind` prints it.
#[must_use]
pub fn kind(v: &Val) -> String {
    match v {
        Val::Nil | Val::Missing => "invalid",
        Val::List(_) => "slice",
        Val::Map(_) => "map",
        Val::Object(o) => return o.kind().to_owned(),
        other => return type_name(other),
    }
    .to_owned()
}

/// `reflect.DeepEqual`: the types have to be the same, too.
#[must_use]
pub fn deep_equal(a: &Val, b: &Val) -> bool {
    deep_equal_at(a, b, 0)
}

fn deep_equal_at(a: &Val, b: &Val, depth: usize) -> bool {
    if depth > MAX_DEPTH {
        return true;
    }
    match (a, b) {
        (Val::Nil | Val::Missing, Val::Nil | Val::Missing) => true,
        (Val::Bool(x), Val::Bool(y)) => x == y,
        (Val::Int(x), Val::Int(y)) | (Val::Int64(x), Val::Int64(y)) => x == y,
        (Val::UInt64(x), Val::UInt64(y)) => x == y,
        #[allow(clippy::float_cmp)]
        (Val::Float(x), Val::Float(y)) => x == y,
        (Val::Str(x), Val::Str(y)) => x == y,
        (Val::List(x), Val::List(y)) => {
            x.len() == y.len() && x.iter().zip(y.iter()).all(|(x, y)| deep_equal_at(x, y, depth + 1))
        }
        (Val::Map(x), Val::Map(y)) => {
            x.same(y) || {
                let (x, y) = (x.borrow(), y.borrow());
                x.len() == y.len()
                    && x.iter()
                        .zip(y.iter())
                        .all(|((ka, va), (kb, vb))| ka == kb && deep_equal_at(va, vb, depth + 1))
            }
        }
        (Val::Object(x), Val::Object(y)) => {
            std::rc::Rc::ptr_eq(x, y)
                || (x.type_name() == y.type_name() && x.display() == y.display() && x.to_value() == y.to_value())
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_go_does() {
        let g: Vec<String> = [1e6, 1e20, 1e21, 0.0001, 0.00001, 123_456_789.0, -0.5, 100_000.0, 0.0, 1.5e300]
            .into_iter()
            .map(float_g)
            .collect();
        assert_eq!(
            g,
            ["1e+06", "1e+20", "1e+21", "0.0001", "1e-05", "1.23456789e+08", "-0.5", "100000", "0", "1.5e+300"]
        );
        let j: Vec<_> = [1e6, 1e21, 1e-7, 0.000_001, 3.0].into_iter().filter_map(float_json).collect();
        assert_eq!(j, ["1000000", "1e+21", "1e-7", "0.000001", "3"]);
        assert_eq!(float_json(f64::NAN), None);
    }

    #[test]
    fn quotes_are_go_literals() {
        assert_eq!(quote("a\"b\\\n\u{1}é\u{a0}\u{301}"), "\"a\\\"b\\\\\\n\\x01é\\u00a0\u{301}\"");
    }
}
