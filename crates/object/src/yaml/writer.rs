//! Values as YAML text, laid out and quoted as go-yaml's emitter does below `sigs.k8s.io/yaml` and kyaml.
//!
//! Both write two spaces of indentation, lists at the column of their parent key, text of several lines as literal
//! blocks. They differ in the order of keys, in folding and in a quoting rule ([`Layout`]).

use std::cmp::Ordering;
use std::fmt::Write;

use super::resolve::is_text;
use crate::map::Map;
use crate::number;
use crate::value::{Str, Value};

/// Whose writing to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// `sigs.k8s.io/yaml` (goyaml.v2): keys sorted as people count (`a2` before `a10`), text folded at the first space
    /// past column 80.
    Sigs,
    /// kyaml (yaml/v3): keys in their own order, nothing folded, tabs may stand in literal blocks,
    /// `<<` is quoted.
    Kyaml,
}

/// The column past which goyaml.v2 folds.
const WIDTH: usize = 80;

struct Writer<'o> {
    out: &'o mut String,
    /// Where this writer began: counts as the start of a line.
    start: usize,
    layout: Layout,
}

/// Appends `value` as a whole document, a line end included.
pub(super) fn write(out: &mut String, value: &Value, layout: Layout) {
    let start = out.len();
    let mut w = Writer { out, start, layout };
    match value {
        Value::Map(m) if !m.is_empty() => w.map(m, 0, true),
        Value::Array(a) if !a.is_empty() => w.list(a, 0, true),
        other => w.leaf(other, 2),
    }
    w.end_line();
}

/// What stands in front of a value on its line.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// `key:`
    Key,
    /// `-`, `?`, or the `:` of an explicit key: a collection may start on the same line.
    Mark,
}

impl Writer<'_> {
    fn at_line_start(&self) -> bool {
        self.out.len() == self.start || self.out.ends_with(['\n', '\u{2028}', '\u{2029}'])
    }

    fn end_line(&mut self) {
        if !self.at_line_start() {
            self.out.push('\n');
        }
    }

    fn spaces(&mut self, n: usize) {
        const BLANK: &str = "                                                                ";
        let mut n = n;
        while n > 0 {
            let k = n.min(BLANK.len());
            self.out.push_str(BLANK.get(..k).unwrap_or_default());
            n -= k;
        }
    }

    /// A fresh line at column `indent`.
    fn line(&mut self, indent: usize) {
        self.end_line();
        self.spaces(indent);
    }

    fn map(&mut self, map: &Map, indent: usize, first_inline: bool) {
        let mut inline = first_inline;
        let mut entry = |w: &mut Self, key: &str, value: &Value| {
            if !std::mem::take(&mut inline) {
                w.line(indent);
            }
            w.entry(key, value, indent);
        };
        if self.layout == Layout::Kyaml || is_sorted(map) {
            for (k, v) in map.iter() {
                entry(self, k, v);
            }
        } else {
            for (k, v) in sorted(map) {
                entry(self, k, v);
            }
        }
    }

    fn entry(&mut self, key: &str, value: &Value, indent: usize) {
        let facts = Facts::of(key);
        if facts.multiline || key.len() > 128 {
            self.out.push_str("? ");
            self.text(key, &facts, indent + 2, true);
            self.line(indent);
            self.out.push(':');
            self.value(value, indent, Before::Mark);
        } else {
            self.text(key, &facts, indent + 2, false);
            self.out.push(':');
            self.value(value, indent, Before::Key);
        }
    }

    fn list(&mut self, list: &[Value], indent: usize, first_inline: bool) {
        for (i, item) in list.iter().enumerate() {
            if i > 0 || !first_inline {
                self.line(indent);
            }
            self.out.push('-');
            self.value(item, indent, Before::Mark);
        }
    }

    /// A value after what `before` says, inside a collection at column `indent`.
    fn value(&mut self, value: &Value, indent: usize, before: Before) {
        match value {
            Value::Map(m) if !m.is_empty() => {
                let inline = before == Before::Mark;
                if inline {
                    self.out.push(' ');
                }
                self.map(m, indent + 2, inline);
            }
            Value::Array(a) if !a.is_empty() => {
                if before == Before::Mark {
                    self.out.push(' ');
                    self.list(a, indent + 2, true);
                } else {
                    self.list(a, indent, false);
                }
            }
            leaf => {
                self.out.push(' ');
                self.leaf(leaf, indent + 2);
            }
        }
    }

    /// A scalar or an empty collection; `indent` is the column of a literal block's lines.
    fn leaf(&mut self, value: &Value, indent: usize) {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            Value::Int(i) => {
                let _ = write!(self.out, "{i}");
            }
            Value::UInt(u) => {
                let _ = write!(self.out, "{u}");
            }
            Value::Float(f) => write_float(self.out, *f),
            Value::String(s) => self.text(s, &Facts::of(s), indent, true),
            Value::Array(_) => self.out.push_str("[]"),
            Value::Map(_) => self.out.push_str("{}"),
        }
    }

    /// Text in the style it needs; `free` is off in keys, which stay on one line.
    fn text(&mut self, s: &str, facts: &Facts, indent: usize, free: bool) {
        let tabs_special = self.layout == Layout::Sigs && facts.tabs;
        let special = facts.special || facts.space_break || tabs_special;
        // (yaml/v3 writes a block that starts with a tab too, but cannot read it again; that one is quoted here.)
        let fold = free && self.layout == Layout::Sigs;
        if s.contains('\n') && free {
            if special || facts.trailing_space || s.starts_with('\t') {
                self.double(s, indent, fold);
            } else {
                self.literal(s, indent);
            }
        } else if !is_text(s) || special || facts.tabs || (s == "<<" && self.layout == Layout::Kyaml) {
            self.double(s, indent, fold);
        } else if !(facts.outer_space || facts.break_space || facts.indicators || facts.multiline) {
            self.plain(s, indent, fold);
        } else if facts.break_space {
            self.double(s, indent, fold);
        } else {
            self.single(s, indent, fold);
        }
    }

    /// How many characters the current line has.
    fn column(&self) -> usize {
        let written = self.out.get(self.start..).unwrap_or_default();
        let line = memchr::memrchr(b'\n', written.as_bytes()).map_or(written, |i| written.get(i + 1..).unwrap_or(""));
        line.chars().count()
    }

    fn fits(&self, s: &str) -> bool {
        s.len() <= WIDTH && self.column() + s.len() <= WIDTH
    }

    fn plain(&mut self, s: &str, indent: usize, fold: bool) {
        if !fold || self.fits(s) {
            self.out.push_str(s);
            return;
        }
        let mut column = self.column();
        let mut rest = s;
        // Runs of text, each with the spaces after it.
        while let Some(i) = memchr::memchr(b' ', rest.as_bytes()) {
            let (run, after) = rest.split_at(i);
            let spaces = after.len() - after.trim_start_matches(' ').len();
            let (gap, next) = after.split_at(spaces);
            self.out.push_str(run);
            column += run.chars().count();
            if column > WIDTH && spaces == 1 {
                self.line(indent);
                column = indent;
            } else {
                self.out.push_str(gap);
                column += spaces;
            }
            rest = next;
        }
        self.out.push_str(rest);
    }

    fn single(&mut self, s: &str, indent: usize, fold: bool) {
        self.out.push('\'');
        let mut column = self.column();
        let mut broke = false;
        let mut spaces = false;
        let last = s.len().saturating_sub(1);
        for (i, c) in s.char_indices() {
            if c == ' ' {
                let one = !spaces && s.as_bytes().get(i + 1) != Some(&b' ');
                spaces = true;
                if fold && one && column > WIDTH && i > 0 && i < last {
                    self.line(indent);
                    column = indent;
                    continue;
                }
                self.out.push(' ');
                column += 1;
                continue;
            }
            spaces = false;
            if matches!(c, '\u{2028}' | '\u{2029}') {
                broke = true;
                column = 0;
                self.out.push(c);
                continue;
            }
            if std::mem::take(&mut broke) {
                self.spaces(indent);
                column = indent;
            }
            if c == '\'' {
                self.out.push('\'');
                column += 1;
            }
            self.out.push(c);
            column += 1;
        }
        self.out.push('\'');
    }

    fn literal(&mut self, s: &str, indent: usize) {
        self.out.push('|');
        if s.starts_with([' ', '\n', '\u{2028}', '\u{2029}']) {
            self.out.push('2');
        }
        let is_break = |c: char| matches!(c, '\n' | '\u{2028}' | '\u{2029}');
        let mut ends = s.chars().rev();
        match (ends.next(), ends.next()) {
            (Some(last), before) if is_break(last) => {
                if before.is_none_or(is_break) {
                    self.out.push('+');
                }
            }
            _ => self.out.push('-'),
        }
        self.out.push('\n');
        let mut line = |line: &str| {
            if !line.starts_with(is_break) {
                self.spaces(indent);
            }
            self.out.push_str(line);
        };
        // The breaks of more than one byte begin with this one, which is rare and soon sought.
        if memchr::memchr(0xe2, s.as_bytes()).is_some() {
            s.split_inclusive(is_break).for_each(line);
            return;
        }
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', s.as_bytes()) {
            line(s.get(start..=end).unwrap_or_default());
            start = end + 1;
        }
        if start < s.len() {
            line(s.get(start..).unwrap_or_default());
        }
    }

    fn double(&mut self, s: &str, indent: usize, fold: bool) {
        self.out.push('"');
        // go-yaml looks for a byte order mark at the start of the text whichever character it is at.
        let escape_all = s.starts_with('\u{feff}');
        let mut column = self.column();
        let mut spaces = false;
        let last = s.len().saturating_sub(1);
        for (i, c) in s.char_indices() {
            if escape_all || must_escape(c) {
                column += self.escape(c);
                spaces = false;
            } else if c == ' ' {
                if fold && !spaces && column > WIDTH && i > 0 && i < last {
                    self.line(indent);
                    column = indent;
                    if s.as_bytes().get(i + 1) == Some(&b' ') {
                        self.out.push('\\');
                        column += 1;
                    }
                } else {
                    self.out.push(' ');
                    column += 1;
                }
                spaces = true;
            } else {
                self.out.push(c);
                column += 1;
                spaces = false;
            }
        }
        self.out.push('"');
    }

    /// Writes an escape and returns its width.
    fn escape(&mut self, c: char) -> usize {
        self.out.push('\\');
        let short = match c {
            '\0' => '0',
            '\x07' => 'a',
            '\x08' => 'b',
            '\t' => 't',
            '\n' => 'n',
            '\x0b' => 'v',
            '\x0c' => 'f',
            '\r' => 'r',
            '\x1b' => 'e',
            '"' => '"',
            '\\' => '\\',
            '\u{85}' => 'N',
            '\u{a0}' => '_',
            '\u{2028}' => 'L',
            '\u{2029}' => 'P',
            _ => {
                let n = u32::from(c);
                let (mark, width) = match n {
                    0..=0xFF => ('x', 2),
                    0x100..=0xFFFF => ('u', 4),
                    _ => ('U', 8),
                };
                let _ = write!(self.out, "{mark}{n:0width$X}");
                return width + 2;
            }
        };
        self.out.push(short);
        2
    }
}

fn must_escape(c: char) -> bool {
    matches!(c, '"' | '\\' | '\n' | '\u{2028}' | '\u{2029}') || !is_printable(c)
}

/// What go-yaml may write unescaped (nothing above the basic plane).
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}') && c != '\u{feff}'
}

/// A float: as the integer it is when JSON writes it as one that fits 64 bits, else as Go's `'g'`.
fn write_float(out: &mut String, f: f64) {
    if f.fract() == 0.0 && f.abs() < 1e21 {
        let text = if f == 0.0 { "0".to_string() } else { format!("{f}") };
        if text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() {
            out.push_str(&text);
            return;
        }
    }
    number::write_g(out, f);
}

/// The bytes that say nothing of how a string that they stand inside may be written.
const DULL: [bool; 256] = {
    let mut dull = [false; 256];
    let mut c = b'!';
    while c <= b'~' {
        dull[c as usize] = !matches!(c, b':' | b'#');
        c += 1;
    }
    dull
};

/// What decides how a string may be written.
#[derive(Default)]
pub(super) struct Facts {
    multiline: bool,
    pub(super) special: bool,
    tabs: bool,
    indicators: bool,
    /// Leading or trailing space or line end.
    outer_space: bool,
    pub(super) trailing_space: bool,
    break_space: bool,
    pub(super) space_break: bool,
}

impl Facts {
    pub(super) fn of(s: &str) -> Self {
        let b = s.as_bytes();
        let mut f = Facts::default();
        let Some(&first) = b.first() else { return f };
        let blank_at = |i: usize| b.get(i).is_none_or(|c| matches!(c, b' ' | b'\t'));
        f.indicators = s.starts_with("---")
            || s.starts_with("...")
            || match first {
                b'#' | b',' | b'[' | b']' | b'{' | b'}' | b'&' | b'*' | b'!' | b'|' | b'>' | b'\'' | b'"' | b'%'
                | b'@' | b'`' => true,
                b'?' | b':' | b'-' => blank_at(1),
                _ => false,
            };
        let (mut prev_space, mut prev_break, mut prev_blankz) = (false, false, true);
        let mut i = 0;
        while let Some(rest) = s.get(i..).filter(|rest| !rest.is_empty()) {
            let run = rest.bytes().take_while(|c| DULL.get(usize::from(*c)) == Some(&true)).count();
            if run > 0 {
                (prev_space, prev_break, prev_blankz) = (false, false, false);
                i += run;
                continue;
            }
            let Some(c) = rest.chars().next() else { break };
            let first = i == 0;
            i += c.len_utf8();
            let last = i == b.len();
            match c {
                ' ' => {
                    f.outer_space |= first || last;
                    f.trailing_space |= last;
                    f.break_space |= prev_break;
                    (prev_space, prev_break, prev_blankz) = (true, false, true);
                    continue;
                }
                '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => {
                    f.multiline = true;
                    f.outer_space |= first || last;
                    f.space_break |= prev_space;
                    f.special |= !is_printable(c);
                    (prev_space, prev_break, prev_blankz) = (false, true, true);
                    continue;
                }
                '\t' => f.tabs = true,
                ':' if !first => f.indicators |= blank_at(i),
                '#' if !first => f.indicators |= prev_blankz,
                _ => f.special |= !is_printable(c),
            }
            (prev_space, prev_break, prev_blankz) = (false, false, c == '\t');
        }
        f
    }
}

fn is_sorted(map: &Map) -> bool {
    let mut keys = map.keys();
    let Some(mut prev) = keys.next() else { return true };
    keys.all(|k| {
        let ok = natural(prev, k) == Ordering::Less;
        prev = k;
        ok
    })
}

/// The entries in [`natural`] order. A merge sort of its own, because the order is not always a total one and the
/// standard sort may panic then.
fn sorted(map: &Map) -> Vec<(&Str, &Value)> {
    let mut from: Vec<_> = map.iter().collect();
    let mut to = Vec::with_capacity(from.len());
    let mut width = 1;
    while width < from.len() {
        for pair in from.chunks(width * 2) {
            let (left, right) = pair.split_at(width.min(pair.len()));
            let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
            while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
                let next = if natural(b.0, a.0) == Ordering::Less { right.next() } else { left.next() };
                to.extend(next);
            }
            to.extend(left);
            to.extend(right);
        }
        std::mem::swap(&mut from, &mut to);
        to.clear();
        width *= 2;
    }
    from
}

/// go-yaml's order of string keys: runs of digits compare as numbers, letters come after everything else.
fn natural(a: &str, b: &str) -> Ordering {
    let (ab, bb) = (a.as_bytes(), b.as_bytes());
    let mut i = ab.iter().zip(bb).take_while(|(x, y)| x == y).count();
    while !a.is_char_boundary(i) || !b.is_char_boundary(i) {
        i -= 1;
    }
    let (rest_a, rest_b) = (a.get(i..).unwrap_or_default(), b.get(i..).unwrap_or_default());
    let (Some(ca), Some(cb)) = (rest_a.chars().next(), rest_b.chars().next()) else {
        return ab.len().cmp(&bb.len());
    };
    match (ca.is_alphabetic(), cb.is_alphabetic()) {
        (true, true) => return ca.cmp(&cb),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let mut base = 0u64;
    if ca == '0' || cb == '0' {
        let before = ab.get(..i).unwrap_or_default();
        if before.iter().rev().take_while(|c| c.is_ascii_digit()).any(|c| *c != b'0') {
            base = 1;
        }
    }
    let run = |s: &str| {
        let digits = s.bytes().take_while(u8::is_ascii_digit);
        digits.fold((base, 0usize), |(n, len), d| (n.wrapping_mul(10).wrapping_add(u64::from(d - b'0')), len + 1))
    };
    let (na, la) = run(rest_a);
    let (nb, lb) = run(rest_b);
    na.cast_signed().cmp(&nb.cast_signed()).then(la.cmp(&lb)).then(ca.cmp(&cb))
}
