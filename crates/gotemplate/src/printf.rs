//! Go's `fmt` over template values: `Sprint`, `Sprintln`, `Sprintf` with every verb, flag and complaint.

use std::borrow::Cow;
use std::fmt::Write;

use crate::funcs::bytes;
use crate::strconv::{self, format_float};
use crate::val::Val;

/// How deep nested values are printed; what is deeper (a map that holds itself) prints as `…`.
const MAX_DEPTH: u32 = 500;
/// Widths, precisions and argument numbers beyond this are errors, as in Go.
const TOO_LARGE: i64 = 1_000_000;

/// Go's name of the value's type, as `%T` prints it.
#[must_use]
pub fn type_name(v: &Val) -> Cow<'_, str> {
    Cow::Borrowed(match v {
        Val::Nil | Val::Missing => "<nil>",
        Val::Bool(_) => "bool",
        Val::Int(_) => "int",
        Val::Int64(_) => "int64",
        Val::UInt64(_) => "uint64",
        Val::Float(_) => "float64",
        Val::Str(_) => "string",
        Val::List(_) => "[]interface {}",
        Val::Map(_) => "map[string]interface {}",
        Val::Object(o) => return Cow::Borrowed(o.type_name()),
    })
}

/// Appends the value as `fmt.Fprint` writes it.
pub fn write(out: &mut String, v: &Val) {
    match v {
        Val::Str(s) => out.push_str(s),
        v => Printer { out, flags: Flags::default() }.value(v, 'v', 0),
    }
}

/// The value as `fmt.Sprint` writes it.
#[must_use]
pub fn to_string(v: &Val) -> String {
    let mut out = String::new();
    write(&mut out, v);
    out
}

/// `fmt.Sprint`: a space between operands when neither is a string.
#[must_use]
pub fn sprint(args: &[Val]) -> String {
    let mut out = String::new();
    let mut after_string = false;
    for (i, v) in args.iter().enumerate() {
        let string = matches!(v, Val::Str(_));
        if i > 0 && !string && !after_string {
            out.push(' ');
        }
        write(&mut out, v);
        after_string = string;
    }
    out
}

/// `fmt.Sprintln`.
#[must_use]
pub fn sprintln(args: &[Val]) -> String {
    let mut out = String::new();
    for (i, v) in args.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        write(&mut out, v);
    }
    out.push('\n');
    out
}

#[derive(Clone, Default)]
#[allow(clippy::struct_excessive_bools)]
struct Flags {
    width: Option<usize>,
    precision: Option<usize>,
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    plus_v: bool,
    sharp_v: bool,
}

struct Printer<'o> {
    out: &'o mut String,
    flags: Flags,
}

/// Reads a number of a format; `None` when there is none or it is too large.
fn number(format: &[u8], mut i: usize) -> (Option<i64>, usize) {
    let mut n: Option<i64> = None;
    while let Some(d) = format.get(i).filter(|b| b.is_ascii_digit()) {
        let so_far = n.unwrap_or(0);
        if so_far > TOO_LARGE {
            return (None, format.len());
        }
        n = Some(so_far * 10 + i64::from(d - b'0'));
        i += 1;
    }
    (n, i)
}

/// The state of reading one format.
struct Arguments<'a> {
    args: &'a [Val],
    next: usize,
    reordered: bool,
    good: bool,
}

impl Arguments<'_> {
    /// `[n]`: sets the next argument. Returns the position after it and whether there was one.
    fn index(&mut self, format: &[u8], i: usize) -> (usize, bool) {
        if format.get(i) != Some(&b'[') {
            return (i, false);
        }
        self.reordered = true;
        let rest = format.get(i..).unwrap_or(&[]);
        let close = if rest.len() < 3 { None } else { rest.iter().position(|b| *b == b']') };
        let Some(close) = close else {
            self.good = false;
            return (i + 1, false);
        };
        let (n, end) = number(rest.get(..close).unwrap_or(&[]), 1);
        match n.filter(|_| end == close) {
            Some(n) => {
                match usize::try_from(n - 1).ok().filter(|n| *n < self.args.len()) {
                    Some(n) => self.next = n,
                    None => self.good = false,
                }
                (i + close + 1, true)
            }
            None => {
                self.good = false;
                (i + close + 1, false)
            }
        }
    }

    /// A width or precision from an argument.
    fn int(&mut self) -> Option<i64> {
        let v = self.args.get(self.next)?;
        self.next += 1;
        let n = match v {
            Val::Int(i) | Val::Int64(i) => *i,
            Val::UInt64(u) => i64::try_from(*u).ok()?,
            _ => return None,
        };
        (n.abs() <= TOO_LARGE).then_some(n)
    }
}

/// `fmt.Sprintf`.
#[must_use]
pub fn sprintf(format: &str, args: &[Val]) -> String {
    let mut out = String::with_capacity(format.len() + 16 * args.len());
    let mut p = Printer { out: &mut out, flags: Flags::default() };
    let bytes = format.as_bytes();
    let mut a = Arguments { args, next: 0, reordered: false, good: true };
    let mut i = 0;
    while i < bytes.len() {
        a.good = true;
        let rest = format.get(i..).unwrap_or("");
        let text = rest.find('%').unwrap_or(rest.len());
        p.out.push_str(rest.get(..text).unwrap_or(""));
        i += text;
        if i >= bytes.len() {
            break;
        }
        i += 1;
        p.flags = Flags::default();
        while let Some(c) = bytes.get(i) {
            match c {
                b'#' => p.flags.sharp = true,
                b'0' => p.flags.zero = true,
                b'+' => p.flags.plus = true,
                b'-' => p.flags.minus = true,
                b' ' => p.flags.space = true,
                _ => break,
            }
            i += 1;
        }
        let mut after_index;
        (i, after_index) = a.index(bytes, i);
        if bytes.get(i) == Some(&b'*') {
            i += 1;
            match a.int() {
                Some(n) => {
                    p.flags.width = usize::try_from(n.abs()).ok();
                    if n < 0 {
                        p.flags.minus = true;
                        p.flags.zero = false;
                    }
                }
                None => p.out.push_str("%!(BADWIDTH)"),
            }
            after_index = false;
        } else {
            let (n, end) = number(bytes, i);
            i = end;
            p.flags.width = n.and_then(|n| usize::try_from(n).ok());
            if after_index && n.is_some() {
                a.good = false;
            }
        }
        if i + 1 < bytes.len() && bytes.get(i) == Some(&b'.') {
            i += 1;
            if after_index {
                a.good = false;
            }
            (i, after_index) = a.index(bytes, i);
            if bytes.get(i) == Some(&b'*') {
                i += 1;
                p.flags.precision = a.int().and_then(|n| usize::try_from(n).ok());
                if p.flags.precision.is_none() {
                    p.out.push_str("%!(BADPREC)");
                }
                after_index = false;
            } else {
                let (n, end) = number(bytes, i);
                i = end;
                p.flags.precision = Some(n.and_then(|n| usize::try_from(n).ok()).unwrap_or(0));
            }
        }
        if !after_index {
            (i, _) = a.index(bytes, i);
        }
        let Some(verb) = format.get(i..).and_then(|s| s.chars().next()) else {
            p.out.push_str("%!(NOVERB)");
            break;
        };
        i += verb.len_utf8();
        if verb == '%' {
            p.out.push('%');
        } else if !a.good {
            let _ = write!(p.out, "%!{verb}(BADINDEX)");
        } else if let Some(v) = args.get(a.next) {
            if matches!(verb, 'v' | 'w') {
                p.flags.sharp_v = std::mem::take(&mut p.flags.sharp);
                p.flags.plus_v = std::mem::take(&mut p.flags.plus);
            }
            p.value(v, verb, 0);
            a.next += 1;
        } else {
            let _ = write!(p.out, "%!{verb}(MISSING)");
        }
    }
    if !a.reordered && a.next < args.len() {
        p.flags = Flags::default();
        p.out.push_str("%!(EXTRA ");
        for (i, v) in args.iter().skip(a.next).enumerate() {
            if i > 0 {
                p.out.push_str(", ");
            }
            if v.is_nil() {
                p.out.push_str("<nil>");
            } else {
                let _ = write!(p.out, "{}=", type_name(v));
                p.value(v, 'v', 0);
            }
        }
        p.out.push(')');
    }
    out
}

impl Printer<'_> {
    fn value(&mut self, v: &Val, verb: char, depth: u32) {
        if depth > MAX_DEPTH {
            self.out.push('…');
            return;
        }
        if depth == 0 {
            match (verb, v) {
                ('T', Val::Nil | Val::Missing) => return self.pad("<nil>"),
                ('T', v) => return self.text(&type_name(v)),
                ('w', _) => return self.bad(v, verb),
                ('p', Val::Map(_) | Val::List(_)) => return self.out.push_str("0xc000000000"),
                ('p', _) => return self.bad(v, verb),
                _ => {}
            }
        }
        match v {
            Val::Nil | Val::Missing => {
                if depth > 0 {
                    self.out.push_str(if self.flags.sharp_v { "interface {}(nil)" } else { "<nil>" });
                } else if verb == 'v' {
                    self.pad("<nil>");
                } else {
                    self.bad(v, verb);
                }
            }
            Val::Bool(b) => match verb {
                't' | 'v' => self.pad(if *b { "true" } else { "false" }),
                _ => self.bad(v, verb),
            },
            Val::Int(i) | Val::Int64(i) => self.integer(v, i.unsigned_abs(), *i < 0, true, verb),
            Val::UInt64(u) => self.integer(v, *u, false, false, verb),
            Val::Float(f) => match verb {
                'v' => self.float(*f, 'g', None),
                'b' | 'g' | 'G' | 'x' | 'X' => self.float(*f, verb, None),
                'f' | 'e' | 'E' => self.float(*f, verb, Some(6)),
                'F' => self.float(*f, 'f', Some(6)),
                _ => self.bad(v, verb),
            },
            Val::Str(s) => self.string(v, s, verb),
            Val::List(_) if self.flags.sharp_v && v.is_nil_list() => self.out.push_str("[]interface {}(nil)"),
            Val::List(items) => {
                self.out.push_str(if self.flags.sharp_v { "[]interface {}{" } else { "[" });
                for (i, item) in items.iter().enumerate() {
                    self.separate(i);
                    self.value(item, verb, depth + 1);
                }
                self.out.push(if self.flags.sharp_v { '}' } else { ']' });
            }
            Val::Map(map) => {
                self.out.push_str(if self.flags.sharp_v { "map[string]interface {}{" } else { "map[" });
                for (i, (k, item)) in map.borrow().iter().enumerate() {
                    self.separate(i);
                    self.value(&Val::Str(k.clone()), verb, depth + 1);
                    self.out.push(':');
                    self.value(item, verb, depth + 1);
                }
                self.out.push(if self.flags.sharp_v { '}' } else { ']' });
            }
            Val::Object(o) => {
                // Its own text for the verbs of strings; for others the plain value behind it.
                if matches!(verb, 'v' | 's' | 'x' | 'X' | 'q') {
                    let shown = o.display();
                    if self.flags.sharp_v || o.kind() != "string" && verb == 'v' {
                        self.text(&shown);
                    } else {
                        self.string(v, &shown, verb);
                    }
                } else {
                    match Val::from_value_with_ints(&o.to_value()) {
                        Val::Map(_) | Val::Nil => self.bad(v, verb),
                        plain => self.value(&plain, verb, depth + 1),
                    }
                }
            }
        }
    }

    fn separate(&mut self, i: usize) {
        if i > 0 {
            self.out.push_str(if self.flags.sharp_v { ", " } else { " " });
        }
    }

    /// `%!verb(type=value)`
    fn bad(&mut self, v: &Val, verb: char) {
        let _ = write!(self.out, "%!{verb}(");
        if v.is_nil() {
            self.out.push_str("<nil>");
        } else {
            let _ = write!(self.out, "{}=", type_name(v));
            self.value(v, 'v', 0);
        }
        self.out.push(')');
    }

    fn padding(&mut self, n: usize) {
        let c = if self.flags.zero && !self.flags.minus { '0' } else { ' ' };
        self.out.extend(std::iter::repeat_n(c, n));
    }

    fn pad(&mut self, s: &str) {
        let n = match self.flags.width {
            Some(w) if w > 0 => w.saturating_sub(s.chars().count()),
            _ => 0,
        };
        if !self.flags.minus {
            self.padding(n);
        }
        self.out.push_str(s);
        if self.flags.minus {
            self.padding(n);
        }
    }

    /// [`Self::pad`] with spaces whatever the flags say.
    fn pad_spaces(&mut self, s: &str) {
        let zero = std::mem::take(&mut self.flags.zero);
        self.pad(s);
        self.flags.zero = zero;
    }

    fn truncated<'s>(&self, s: &'s str) -> &'s str {
        match self.flags.precision {
            Some(n) => s.char_indices().nth(n).map_or(s, |(i, _)| s.get(..i).unwrap_or(s)),
            None => s,
        }
    }

    fn text(&mut self, s: &str) {
        self.pad(self.truncated(s));
    }

    fn string(&mut self, v: &Val, s: &str, verb: char) {
        match verb {
            'v' if self.flags.sharp_v => self.quoted(s),
            'v' | 's' => self.text(s),
            'q' => self.quoted(s),
            'x' => self.hex(s, "0123456789abcdef", 'x'),
            'X' => self.hex(s, "0123456789ABCDEF", 'X'),
            _ => self.bad(v, verb),
        }
    }

    fn quoted(&mut self, s: &str) {
        let s = self.truncated(s);
        let text = if self.flags.sharp && strconv::can_backquote(s) {
            format!("`{s}`")
        } else {
            strconv::quote_with(s, '"', self.flags.plus)
        };
        self.pad(&text);
    }

    fn hex(&mut self, s: &str, digits: &str, x: char) {
        let data = bytes::to_bytes(s);
        let n = self.flags.precision.map_or(data.len(), |p| p.min(data.len()));
        let mut text = String::new();
        for (i, b) in data.iter().take(n).enumerate() {
            if i > 0 && self.flags.space {
                text.push(' ');
            }
            if self.flags.sharp && (i == 0 || self.flags.space) {
                text.push('0');
                text.push(x);
            }
            for d in [b >> 4, b & 15] {
                text.extend(digits.chars().nth(usize::from(d)));
            }
        }
        self.pad(&text);
    }

    fn integer(&mut self, v: &Val, u: u64, negative: bool, signed: bool, verb: char) {
        match verb {
            'v' if self.flags.sharp_v && !signed => {
                self.flags.sharp = true;
                self.digits(u, negative, 16, verb, false);
                self.flags.sharp = false;
            }
            'v' | 'd' => self.digits(u, negative, 10, verb, false),
            'b' => self.digits(u, negative, 2, verb, false),
            'o' | 'O' => self.digits(u, negative, 8, verb, false),
            'x' => self.digits(u, negative, 16, verb, false),
            'X' => self.digits(u, negative, 16, verb, true),
            'c' => self.pad(&character(u, negative).to_string()),
            'q' => {
                let c = character(u, negative).to_string();
                let text = strconv::quote_with(&c, '\'', self.flags.plus);
                self.pad(&text);
            }
            'U' => self.unicode(if negative { u.wrapping_neg() } else { u }),
            _ => self.bad(v, verb),
        }
    }

    fn unicode(&mut self, u: u64) {
        let precision = self.flags.precision.filter(|p| *p > 4).unwrap_or(4);
        let mut text = format!("U+{u:0precision$X}");
        if self.flags.sharp
            && let Some(c) = u32::try_from(u).ok().and_then(char::from_u32).filter(|c| strconv::is_print(*c))
        {
            let _ = write!(text, " '{c}'");
        }
        self.pad_spaces(&text);
    }

    fn digits(&mut self, u: u64, negative: bool, base: u32, verb: char, upper: bool) {
        if self.flags.precision == Some(0) && u == 0 {
            self.out.extend(std::iter::repeat_n(' ', self.flags.width.unwrap_or(0)));
            return;
        }
        let least = match (self.flags.precision, self.flags.width) {
            (Some(p), _) => p,
            (None, Some(w)) if self.flags.zero && !self.flags.minus => {
                w.saturating_sub(usize::from(negative || self.flags.plus || self.flags.space))
            }
            _ => 0,
        };
        let digits = match base {
            2 => format!("{u:b}"),
            8 => format!("{u:o}"),
            16 if upper => format!("{u:X}"),
            16 => format!("{u:x}"),
            _ => u.to_string(),
        };
        let mut text = String::new();
        if negative {
            text.push('-');
        } else if self.flags.plus {
            text.push('+');
        } else if self.flags.space {
            text.push(' ');
        }
        let padded = format!("{digits:0>least$}");
        if verb == 'O' {
            text.push_str("0o");
        }
        if self.flags.sharp {
            match base {
                2 => text.push_str("0b"),
                8 if !padded.starts_with('0') => text.push('0'),
                16 => text.push_str(if upper { "0X" } else { "0x" }),
                _ => {}
            }
        }
        text.push_str(&padded);
        self.pad_spaces(&text);
    }

    fn float(&mut self, f: f64, verb: char, precision: Option<usize>) {
        let precision = self.flags.precision.or(precision);
        let mut num = format_float(f, verb, precision);
        if !num.starts_with(['+', '-']) {
            num.insert(0, '+');
        }
        if self.flags.space && num.starts_with('+') && !self.flags.plus {
            num.replace_range(..1, " ");
        }
        if !f.is_finite() {
            // A sign stays, save that of a NaN nobody asked for.
            let plain = f.is_nan() && !self.flags.space && !self.flags.plus;
            let text = if plain { num.get(1..).unwrap_or("") } else { &num };
            self.pad_spaces(text);
            return;
        }
        if self.flags.sharp && verb != 'b' {
            num = sharp_float(&num, verb, precision);
        }
        if self.flags.plus || !num.starts_with('+') {
            let n = num.chars().count();
            if self.flags.zero && !self.flags.minus && self.flags.width.is_some_and(|w| w > n) {
                let (sign, rest) = num.split_at(1);
                self.out.push_str(sign);
                self.padding(self.flags.width.unwrap_or(0) - n);
                self.out.push_str(rest);
            } else {
                self.pad(&num);
            }
            return;
        }
        self.pad(num.get(1..).unwrap_or(""));
    }
}

fn character(u: u64, negative: bool) -> char {
    if negative {
        return '\u{fffd}';
    }
    u32::try_from(u).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
}

/// `%#g` and friends: always a point, trailing zeros kept.
fn sharp_float(num: &str, verb: char, precision: Option<usize>) -> String {
    let mut digits: i64 = match verb {
        'v' | 'g' | 'G' | 'x' => precision.map_or(6, |p| i64::try_from(p).unwrap_or(i64::MAX)),
        _ => 0,
    };
    let hex = matches!(verb, 'x' | 'X');
    let split = num.find(|c| matches!(c, 'p' | 'P') || (!hex && matches!(c, 'e' | 'E'))).unwrap_or(num.len());
    let (body, tail) = num.split_at(split);
    let mut body = body.to_owned();
    let mut nonzero = false;
    for c in body.chars().skip(1).filter(|c| *c != '.') {
        nonzero |= c != '0';
        digits -= i64::from(nonzero);
    }
    if !body.contains('.') {
        if body.len() == 2 && body.ends_with('0') {
            digits -= 1;
        }
        body.push('.');
    }
    for _ in 0..digits.max(0) {
        body.push('0');
    }
    body + tail
}
