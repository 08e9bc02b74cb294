//! Number literals, as Go's `parse.newNumber` reads them.

use druse_object::Str;

use super::ast::Number;
use super::lex::Kind;
use crate::strconv;

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn from_float(n: &mut Number, f: f64) {
    n.float = Some(f);
    if n.int.is_none() && f.abs() < 9.3e18 && (f as i64) as f64 == f {
        n.int = Some(f as i64);
    }
    if n.uint.is_none() && (0.0..1.85e19).contains(&f) && (f as u64) as f64 == f {
        n.uint = Some(f as u64);
    }
}

fn complex(n: &mut Number, re: f64, im: f64) {
    let part = |f: f64| strconv::format_float(f, 'g', None);
    let sign = if im.is_sign_negative() { "" } else { "+" };
    n.complex = Some(Str::from(format!("({}{sign}{}i)", part(re), part(im))));
    if im == 0.0 {
        from_float(n, re);
    }
}

/// The number a literal stands for, or Go's message why it is none.
#[allow(clippy::cast_precision_loss)]
pub(super) fn parse(text: &str, kind: Kind) -> Result<Number, String> {
    let mut n = Number { text: Str::from(text), ..Number::default() };
    if kind == Kind::CharConstant {
        let inner = text.get(1..).unwrap_or("");
        let (unit, tail) = strconv::unquote_char(inner, '\'').ok_or_else(|| "invalid syntax".to_owned())?;
        if tail != "'" {
            return Err(format!("malformed character constant: {text}"));
        }
        let code = unit.code();
        n.int = Some(i64::from(code));
        n.uint = Some(u64::from(code));
        n.float = Some(f64::from(code));
        return Ok(n);
    }
    let illegal = || format!("illegal number syntax: {}", strconv::quote(text));
    if let Some(body) = text.strip_suffix('i') {
        if kind == Kind::Complex {
            let split = body
                .char_indices()
                .skip(1)
                .filter(|(i, c)| matches!(c, '+' | '-') && !body[..*i].ends_with(['e', 'E', 'p', 'P']))
                .map(|(i, _)| i)
                .last()
                .ok_or_else(illegal)?;
            let (re, im) = body.split_at(split);
            let re = strconv::parse_float(re).ok_or_else(illegal)?;
            let im = strconv::parse_float(im).ok_or_else(illegal)?;
            complex(&mut n, re, im);
            return Ok(n);
        }
        if let Some(f) = strconv::parse_float(body) {
            complex(&mut n, 0.0, f);
            return Ok(n);
        }
    }
    n.uint = strconv::parse_uint(text);
    n.int = strconv::parse_int(text);
    if n.int == Some(0) {
        n.uint = Some(0);
    }
    if let Some(i) = n.int {
        n.float = Some(i as f64);
    } else if let Some(u) = n.uint {
        n.float = Some(u as f64);
    } else if let Some(f) = strconv::parse_float(text) {
        if !text.contains(['.', 'e', 'E', 'p', 'P']) {
            return Err(format!("integer overflow: {}", strconv::quote(text)));
        }
        from_float(&mut n, f);
    } else {
        return Err(illegal());
    }
    Ok(n)
}
