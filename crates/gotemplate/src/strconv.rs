//! Go's `strconv`: quoting and unquoting, numbers as Go source spells them, floats as Go prints them.

use std::borrow::Cow;
use std::fmt::Write;

/// Go's `unicode.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
#[must_use]
pub fn is_print(c: char) -> bool {
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    // `escape_debug` escapes what is not printable; after another character it leaves combining marks alone.
    let mut pair = String::from("a");
    pair.push(c);
    !pair.escape_debug().any(|e| e == '\\')
}

/// `U+0041 'A'`, as `%#U` writes it.
#[must_use]
pub fn unicode_name(c: char) -> String {
    let code = u32::from(c);
    if is_print(c) { format!("U+{code:04X} '{c}'") } else { format!("U+{code:04X}") }
}

/// `strconv.Quote`.
#[must_use]
pub fn quote(s: &str) -> String {
    quote_with(s, '"', false)
}

/// `strconv.Quote`, or with `ascii` `strconv.QuoteToASCII`, in the given quotes.
#[must_use]
pub fn quote_with(s: &str, mark: char, ascii: bool) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push(mark);
    for c in s.chars() {
        escape_into(&mut out, c, mark, ascii);
    }
    out.push(mark);
    out
}

fn escape_into(out: &mut String, c: char, mark: char, ascii: bool) {
    match c {
        c if c == mark || c == '\\' => {
            out.push('\\');
            out.push(c);
        }
        c if c.is_ascii() && is_print(c) => out.push(c),
        c if !c.is_ascii() && !ascii && is_print(c) => out.push(c),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        c if let Some(byte) = crate::funcs::bytes::byte_of(c) => {
            let _ = write!(out, "\\x{byte:02x}");
        }
        c => {
            let n = u32::from(c);
            let _ = if n < 0x20 || n == 0x7f {
                write!(out, "\\x{n:02x}")
            } else if n < 0x1_0000 {
                write!(out, "\\u{n:04x}")
            } else {
                write!(out, "\\U{n:08x}")
            };
        }
    }
}

/// `strconv.CanBackquote`.
#[must_use]
pub fn can_backquote(s: &str) -> bool {
    s.chars().all(|c| c != '\u{feff}' && c != '`' && c != '\x7f' && (c >= ' ' || c == '\t'))
}

/// `strconv.Unquote` of a Go string literal; `None` is Go's "invalid syntax".
#[must_use]
pub fn unquote(literal: &str) -> Option<Cow<'_, str>> {
    let mark = literal.chars().next()?;
    let inner = literal.get(1..literal.len().checked_sub(1)?)?;
    if !literal.ends_with(mark) || literal.len() < 2 {
        return None;
    }
    match mark {
        '`' if inner.contains('`') => None,
        '`' if inner.contains('\r') => Some(Cow::Owned(inner.replace('\r', ""))),
        '`' => Some(Cow::Borrowed(inner)),
        '"' => {
            if !inner.contains(['\\', '"', '\n']) {
                return Some(Cow::Borrowed(inner));
            }
            let mut out = Vec::with_capacity(inner.len());
            let mut rest = inner;
            while !rest.is_empty() {
                let (unit, tail) = unquote_char(rest, '"')?;
                unit.push_to(&mut out);
                rest = tail;
            }
            // Escapes can make bytes that are not UTF-8.
            Some(Cow::Owned(crate::funcs::bytes::from_bytes(&out).to_string()))
        }
        _ => None,
    }
}

/// What one (possibly escaped) character of a literal stands for.
pub(crate) enum Unit {
    /// A character.
    Char(char),
    /// A byte, from `\x` or an octal escape.
    Byte(u8),
}

impl Unit {
    fn push_to(self, out: &mut Vec<u8>) {
        match self {
            Unit::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            Unit::Byte(b) => out.push(b),
        }
    }

    /// The code point or byte value.
    pub(crate) fn code(&self) -> u32 {
        match self {
            Unit::Char(c) => u32::from(*c),
            Unit::Byte(b) => u32::from(*b),
        }
    }
}

/// `strconv.UnquoteChar`: the first character and the text after it.
pub(crate) fn unquote_char(s: &str, mark: char) -> Option<(Unit, &str)> {
    let mut chars = s.chars();
    let c = chars.next()?;
    if c == mark {
        return None;
    }
    if c != '\\' {
        return (c != '\n').then_some((Unit::Char(c), chars.as_str()));
    }
    let e = chars.next()?;
    let rest = chars.as_str();
    let simple = match e {
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\\' => '\\',
        'x' | 'u' | 'U' => {
            let n = match e {
                'x' => 2,
                'u' => 4,
                _ => 8,
            };
            let digits = rest.get(..n)?;
            if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            let code = u32::from_str_radix(digits, 16).ok()?;
            let tail = rest.get(n..)?;
            return if e == 'x' {
                Some((Unit::Byte(u8::try_from(code).ok()?), tail))
            } else {
                Some((Unit::Char(char::from_u32(code)?), tail))
            };
        }
        '0'..='7' => {
            let digits = s.get(1..4)?;
            let code = u32::from_str_radix(digits, 8).ok()?;
            return Some((Unit::Byte(u8::try_from(code).ok()?), s.get(4..)?));
        }
        '\'' | '"' if e == mark => e,
        _ => return None,
    };
    Some((Unit::Char(simple), rest))
}

/// Whether underscores stand only between digits, or after a base prefix.
fn underscores_ok(s: &str) -> bool {
    let s = s.strip_prefix(['+', '-']).unwrap_or(s);
    let b = s.as_bytes();
    let mut prev = b'^';
    let mut i = 0;
    let mut hex = false;
    if let [b'0', p, ..] = b
        && matches!(p.to_ascii_lowercase(), b'b' | b'o' | b'x')
    {
        i = 2;
        prev = b'0';
        hex = p.eq_ignore_ascii_case(&b'x');
    }
    for &c in b.iter().skip(i) {
        if c.is_ascii_digit() || (hex && c.is_ascii_hexdigit()) {
            prev = b'0';
        } else if c == b'_' {
            if prev != b'0' {
                return false;
            }
            prev = b'_';
        } else {
            if prev == b'_' {
                return false;
            }
            prev = b'!';
        }
    }
    prev != b'_'
}

/// `strconv.ParseUint(s, 0, 64)`: Go's integer literals, no sign.
#[must_use]
pub fn parse_uint(s: &str) -> Option<u64> {
    let lower = s.get(..2).map(str::to_ascii_lowercase);
    let (base, digits) = match lower.as_deref() {
        Some("0x") => (16, &s[2..]),
        Some("0o") => (8, &s[2..]),
        Some("0b") => (2, &s[2..]),
        _ if s.len() > 1 && s.starts_with('0') => (8, &s[1..]),
        _ => (10, s),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    if digits.contains('_') {
        if !underscores_ok(s) {
            return None;
        }
        return u64::from_str_radix(&digits.replace('_', ""), base).ok();
    }
    u64::from_str_radix(digits, base).ok()
}

/// `strconv.ParseInt(s, 0, 64)`: Go's integer literals with an optional sign.
#[must_use]
pub fn parse_int(s: &str) -> Option<i64> {
    if let Some(rest) = s.strip_prefix('-') {
        let n = parse_uint(rest)?;
        return if n == 1 << 63 { Some(i64::MIN) } else { i64::try_from(n).ok().map(|n| -n) };
    }
    i64::try_from(parse_uint(s.strip_prefix('+').unwrap_or(s))?).ok()
}

/// `strconv.ParseFloat(s, 64)` for literals (decimal and hexadecimal; no infinities or NaN); `None` also when too large.
#[must_use]
pub fn parse_float(s: &str) -> Option<f64> {
    if s.contains('_') {
        return if underscores_ok(s) { parse_float(&s.replace('_', "")) } else { None };
    }
    let (negative, digits) = match s.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, s.strip_prefix('+').unwrap_or(s)),
    };
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        parse_hex_float(hex)?
    } else {
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
            return None;
        }
        digits.parse::<f64>().ok()?
    };
    value.is_finite().then_some(if negative { -value } else { value })
}

#[allow(clippy::cast_precision_loss)]
fn parse_hex_float(s: &str) -> Option<f64> {
    let (mantissa, exponent) = s.split_once(['p', 'P'])?;
    let exponent: i32 = exponent.parse().ok()?;
    let (int, frac) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if int.is_empty() && frac.is_empty() {
        return None;
    }
    let mut value = 0f64;
    for c in int.chars().chain(frac.chars()) {
        value = value * 16.0 + f64::from(c.to_digit(16)?);
    }
    let shift = i32::try_from(frac.len()).ok()?.checked_mul(4)?;
    Some(value * 2f64.powi(exponent.checked_sub(shift)?))
}

/// The decimal digits of a float and where the point stands (before digit `point`).
struct Digits {
    negative: bool,
    digits: String,
    point: i32,
}

/// Shortest digits, or `n` significant ones.
fn digits_of(f: f64, significant: Option<usize>) -> Digits {
    let text = match significant {
        Some(n) => format!("{:.*e}", n.saturating_sub(1), f.abs()),
        None => format!("{:e}", f.abs()),
    };
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if f == 0.0 {
        return Digits { negative: f.is_sign_negative(), digits, point: 1 };
    }
    Digits { negative: f.is_sign_negative(), digits, point: exponent + 1 }
}

/// `strconv.FormatFloat(f, verb, precision, 64)`; precision `None` is the shortest that reads back the same.
#[must_use]
pub fn format_float(f: f64, verb: char, precision: Option<usize>) -> String {
    if f.is_nan() {
        return "NaN".to_owned();
    }
    if f.is_infinite() {
        return if f > 0.0 { "+Inf".to_owned() } else { "-Inf".to_owned() };
    }
    match verb {
        'e' | 'E' => {
            let d = digits_of(f, precision.map(|p| p + 1));
            exponent_form(&d, d.digits.len().saturating_sub(1), verb)
        }
        'f' => match precision {
            Some(p) => format!("{f:.p$}"),
            None => plain_form(&digits_of(f, None)),
        },
        'g' | 'G' => {
            let d = match precision {
                None => digits_of(f, None),
                Some(p) => {
                    let mut d = digits_of(f, Some(p.max(1)));
                    let kept = d.digits.trim_end_matches('0').len().max(1);
                    d.digits.truncate(kept);
                    d
                }
            };
            let nd = if f == 0.0 { 0 } else { d.digits.len() };
            let mut limit =
                i32::try_from(precision.unwrap_or(6).max(usize::from(precision.is_some()))).unwrap_or(i32::MAX);
            let nd = i32::try_from(nd).unwrap_or(i32::MAX);
            if precision.is_some() && limit > nd && nd >= d.point {
                limit = nd;
            }
            let exponent = d.point - 1;
            // Zero has no digits in Go and never takes the exponent form.
            if f != 0.0 && (exponent < -4 || exponent >= limit) {
                exponent_form(&d, d.digits.len().saturating_sub(1), if verb == 'g' { 'e' } else { 'E' })
            } else {
                plain_form(&d)
            }
        }
        'b' => {
            let bits = f.to_bits();
            let exp = i64::try_from((bits >> 52) & 0x7ff).unwrap_or(0);
            let mantissa = bits & ((1 << 52) - 1);
            let (mantissa, exp) = if exp == 0 { (mantissa, 1) } else { (mantissa | (1 << 52), exp) };
            format!("{}{mantissa}p{:+}", if f.is_sign_negative() { "-" } else { "" }, exp - 1075)
        }
        'x' | 'X' => hex_form(f, precision, verb == 'X'),
        _ => plain_form(&digits_of(f, None)),
    }
}

fn exponent_form(d: &Digits, decimals: usize, e: char) -> String {
    let mut out = String::new();
    if d.negative {
        out.push('-');
    }
    let mut digits = d.digits.chars();
    out.push(digits.next().unwrap_or('0'));
    if decimals > 0 {
        out.push('.');
        out.extend(digits.take(decimals));
    }
    let exponent = d.point - 1;
    let sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(out, "{e}{sign}{:02}", exponent.unsigned_abs());
    out
}

fn plain_form(d: &Digits) -> String {
    let mut out = String::new();
    if d.negative {
        out.push('-');
    }
    let point = usize::try_from(d.point).unwrap_or(0);
    if point == 0 {
        out.push('0');
    } else {
        for i in 0..point {
            out.push(d.digits.as_bytes().get(i).map_or('0', |b| char::from(*b)));
        }
    }
    if d.digits.len() > point {
        let tail = &d.digits[point..];
        out.push('.');
        for _ in d.point..0 {
            out.push('0');
        }
        out.push_str(tail);
    }
    out
}

fn hex_form(f: f64, precision: Option<usize>, upper: bool) -> String {
    let bits = f.to_bits();
    let mut exp = i64::try_from((bits >> 52) & 0x7ff).unwrap_or(0) - 1023;
    let mut mantissa = bits & ((1 << 52) - 1);
    if exp == -1023 {
        if mantissa == 0 {
            exp = 0;
        } else {
            exp = -1022;
            while mantissa & (1 << 52) == 0 {
                mantissa <<= 1;
                exp -= 1;
            }
        }
    } else {
        mantissa |= 1 << 52;
    }
    let mut tail = String::new();
    if let Some(p) = precision.filter(|p| *p < 13) {
        let drop = (13 - p) * 4;
        let half = 1u64 << (drop - 1);
        let rest = mantissa & ((1 << drop) - 1);
        mantissa >>= drop;
        if rest > half || (rest == half && mantissa & 1 == 1) {
            mantissa += 1;
        }
        if mantissa >> (p * 4) > 1 {
            mantissa >>= 1;
            exp += 1;
        }
        mantissa <<= drop;
    }
    let lead = mantissa >> 52;
    for i in (0..13).rev() {
        let _ = write!(tail, "{:x}", (mantissa >> (i * 4)) & 0xf);
    }
    match precision {
        Some(p) if p <= 13 => tail.truncate(p),
        Some(p) => tail.extend(std::iter::repeat_n('0', p - 13)),
        None => tail.truncate(tail.trim_end_matches('0').len()),
    }
    let point = if tail.is_empty() { "" } else { "." };
    let sign = if f.is_sign_negative() { "-" } else { "" };
    let exp_sign = if exp < 0 { '-' } else { '+' };
    let text = format!("{sign}0x{lead}{point}{tail}p{exp_sign}{:02}", exp.abs());
    if upper { text.to_uppercase() } else { text }
}
