//! TOML 1.0 read into template values: integers stay `int64`, dates become times.

use std::collections::BTreeMap;

use druse_object::Str;

use crate::val::{MapRef, Val};

use super::args::MAX_DEPTH;
use super::{gotime, times};

/// The map a text is, or one with the error under `Error`.
#[must_use]
pub fn map_or_error(text: &str) -> Val {
    let mut p = Parser { text, at: 0 };
    match p.document() {
        Ok(table) => table.into_val(),
        Err(message) => {
            let line = text.get(..p.at).unwrap_or("").matches('\n').count() + 1;
            let map = MapRef::default();
            map.set("Error", Val::str(format!("toml: line {line}: {message}")));
            Val::Map(map)
        }
    }
}

/// A value while tables may still grow.
enum Node {
    /// A finished value.
    Value(Val),
    /// A table; `closed` ones (inline) take no more keys.
    Table(Table),
    /// An array of tables.
    Tables(Vec<Table>),
}

#[derive(Default)]
struct Table {
    entries: BTreeMap<Str, Node>,
    /// Defined by a header or by keys, so a second header for it is an error.
    defined: bool,
    closed: bool,
}

impl Table {
    fn into_val(self) -> Val {
        let entries = self.entries.into_iter().map(|(k, n)| {
            let v = match n {
                Node::Value(v) => v,
                Node::Table(t) => t.into_val(),
                Node::Tables(ts) => Val::list(ts.into_iter().map(Table::into_val).collect()),
            };
            (k, v)
        });
        Val::Map(MapRef::new(entries.collect()))
    }

    /// The table under a key, made if missing; in an array of tables, its last one.
    fn step(&mut self, key: &Str) -> Result<&mut Table, String> {
        let node = self.entries.entry(key.clone()).or_insert_with(|| Node::Table(Table::default()));
        match node {
            Node::Table(t) if !t.closed => Ok(t),
            Node::Tables(ts) => ts.last_mut().ok_or_else(|| "empty array of tables".to_owned()),
            _ => Err(format!("Key '{key}' has already been defined.")),
        }
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
}

type Parsed<T> = Result<T, String>;

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn eat(&mut self, s: &str) -> bool {
        let found = self.rest().starts_with(s);
        if found {
            self.at += s.len();
        }
        found
    }

    fn spaces(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t']).len();
    }

    /// Spaces, line breaks and comments.
    fn blank(&mut self) {
        loop {
            let rest = self.rest();
            self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
            if !self.rest().starts_with('#') {
                return;
            }
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
    }

    fn expected<T>(&self, what: &str) -> Parsed<T> {
        match self.peek() {
            Some(c) => Err(format!("expected {what} but got {c:?} instead")),
            None => Err(format!("expected {what} but got end of file instead")),
        }
    }

    fn end_of_line(&mut self) -> Parsed<()> {
        self.spaces();
        if self.rest().starts_with('#') {
            self.at += self.rest().find('\n').unwrap_or(self.rest().len());
        }
        if self.rest().is_empty() || self.eat("\n") || self.eat("\r\n") {
            return Ok(());
        }
        self.expected("a comment, newline or end of file")
    }

    fn document(&mut self) -> Parsed<Table> {
        let mut root = Table::default();
        let mut path: Vec<Str> = Vec::new();
        loop {
            self.blank();
            if self.rest().is_empty() {
                return Ok(root);
            }
            if self.eat("[[") {
                path = self.path()?;
                if !self.eat("]]") {
                    return self.expected("']]'");
                }
                let Some((last, before)) = path.split_last() else { continue };
                let parent = walk(&mut root, before)?;
                let node = parent.entries.entry(last.clone()).or_insert_with(|| Node::Tables(Vec::new()));
                match node {
                    Node::Tables(ts) => ts.push(Table { defined: true, ..Table::default() }),
                    _ => return Err(format!("Key '{last}' has already been defined.")),
                }
            } else if self.eat("[") {
                path = self.path()?;
                if !self.eat("]") {
                    return self.expected("']'");
                }
                let Some((last, before)) = path.split_last() else { continue };
                let parent = walk(&mut root, before)?;
                if matches!(parent.entries.get(last), Some(Node::Tables(_))) {
                    return Err(format!("Key '{last}' has already been defined."));
                }
                let table = parent.step(last)?;
                if std::mem::replace(&mut table.defined, true) {
                    return Err(format!("Key '{last}' has already been defined."));
                }
            } else {
                let table = walk(&mut root, &path)?;
                self.pair(table, 0)?;
            }
            self.end_of_line()?;
        }
    }

    /// `key.key = value` into a table.
    fn pair(&mut self, table: &mut Table, depth: usize) -> Parsed<()> {
        let path = self.path()?;
        if !self.eat("=") {
            return self.expected("'.' or '='");
        }
        self.spaces();
        let node = self.value(depth)?;
        let Some((last, before)) = path.split_last() else { return Ok(()) };
        let mut at = table;
        for key in before {
            at = at.step(key)?;
            at.defined = true;
        }
        if at.entries.contains_key(last) {
            return Err(format!("Key '{last}' has already been defined."));
        }
        at.entries.insert(last.clone(), node);
        Ok(())
    }

    /// A dotted key and the spaces around it.
    fn path(&mut self) -> Parsed<Vec<Str>> {
        let mut out: Vec<Str> = Vec::new();
        loop {
            self.spaces();
            let key = match self.peek() {
                Some('"') => self.basic(false)?,
                Some('\'') => self.literal(false)?,
                _ => {
                    let rest = self.rest();
                    let n =
                        rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-')).unwrap_or(rest.len());
                    if n == 0 {
                        return self.expected("a key");
                    }
                    self.at += n;
                    rest.get(..n).unwrap_or("").to_owned()
                }
            };
            out.push(key.into());
            if out.len() > MAX_DEPTH {
                return Err("too many nested tables".to_owned());
            }
            self.spaces();
            if !self.eat(".") {
                return Ok(out);
            }
        }
    }

    fn value(&mut self, depth: usize) -> Parsed<Node> {
        // Each level takes several frames.
        if depth > MAX_DEPTH / 4 {
            return Err("values are nested too deeply".to_owned());
        }
        match self.peek() {
            Some('"') => {
                let multi = self.rest().starts_with("\"\"\"");
                self.basic(multi).map(|s| Node::Value(Val::str(s)))
            }
            Some('\'') => {
                let multi = self.rest().starts_with("'''");
                self.literal(multi).map(|s| Node::Value(Val::str(s)))
            }
            Some('[') => self.array(depth).map(Node::Value),
            Some('{') => self.inline(depth).map(Node::Table),
            _ => self.bare().map(Node::Value),
        }
    }

    fn array(&mut self, depth: usize) -> Parsed<Val> {
        self.eat("[");
        let mut out = Vec::new();
        loop {
            self.blank();
            if self.eat("]") {
                return Ok(Val::list(out));
            }
            out.push(match self.value(depth + 1)? {
                Node::Value(v) => v,
                Node::Table(t) => t.into_val(),
                Node::Tables(ts) => Val::list(ts.into_iter().map(Table::into_val).collect()),
            });
            self.blank();
            if !self.eat(",") && !self.rest().starts_with(']') {
                return self.expected("a comma (',') or array terminator (']')");
            }
        }
    }

    fn inline(&mut self, depth: usize) -> Parsed<Table> {
        self.eat("{");
        let mut table = Table::default();
        loop {
            self.blank();
            if self.eat("}") {
                table.closed = true;
                return Ok(table);
            }
            self.pair(&mut table, depth + 1)?;
            self.blank();
            if !self.eat(",") && !self.rest().starts_with('}') {
                return self.expected("a comma or an inline table terminator '}'");
            }
        }
    }

    fn literal(&mut self, multi: bool) -> Parsed<String> {
        let mark = if multi { "'''" } else { "'" };
        self.eat(mark);
        if multi && !self.eat("\n") {
            self.eat("\r\n");
        }
        let rest = self.rest();
        let Some(mut end) = rest.find(mark) else {
            return Err(format!("unexpected end of file; expected {mark:?}"));
        };
        // Up to two quotes may stand right before the end.
        while multi && rest.get(end + 3..).is_some_and(|r| r.starts_with('\'')) {
            end += 1;
        }
        let text = rest.get(..end).unwrap_or("");
        if !multi && text.contains('\n') {
            return Err("strings cannot contain newlines".to_owned());
        }
        self.at += end + mark.len();
        Ok(text.to_owned())
    }

    fn basic(&mut self, multi: bool) -> Parsed<String> {
        let mark = if multi { "\"\"\"" } else { "\"" };
        self.eat(mark);
        if multi && !self.eat("\n") {
            self.eat("\r\n");
        }
        let mut out = String::new();
        loop {
            if self.rest().starts_with(mark) {
                while multi && self.rest().get(3..).is_some_and(|r| r.starts_with('"')) {
                    out.push('"');
                    self.at += 1;
                }
                self.at += mark.len();
                return Ok(out);
            }
            let Some(c) = self.peek() else {
                return Err("unexpected end of file; expected '\"'".to_owned());
            };
            self.at += c.len_utf8();
            match c {
                '\n' if !multi => return Err("strings cannot contain newlines".to_owned()),
                '\\' => self.escape(multi, &mut out)?,
                c => out.push(c),
            }
        }
    }

    fn escape(&mut self, multi: bool, out: &mut String) -> Parsed<()> {
        let Some(c) = self.peek() else {
            return Err("unexpected end of file".to_owned());
        };
        if multi && matches!(c, '\n' | '\r' | ' ' | '\t') {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
            let skipped = rest.get(..rest.len() - trimmed.len()).unwrap_or("");
            if skipped.contains('\n') {
                self.at += skipped.len();
                return Ok(());
            }
        }
        self.at += c.len_utf8();
        let digits = match c {
            'b' => return push(out, '\u{8}'),
            't' => return push(out, '\t'),
            'n' => return push(out, '\n'),
            'f' => return push(out, '\u{c}'),
            'r' => return push(out, '\r'),
            'e' => return push(out, '\u{1b}'),
            '"' | '\\' => return push(out, c),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            c => return Err(format!("invalid escape character {c:?}")),
        };
        let hex = self.rest().get(..digits).unwrap_or("");
        let code = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32);
        match code {
            Some(c) => {
                self.at += digits;
                push(out, c)
            }
            None => Err(format!("Escaped character '\\{c}{hex}' is not valid UTF-8.")),
        }
    }

    /// A boolean, number or date.
    fn bare(&mut self) -> Parsed<Val> {
        let rest = self.rest();
        let mut n = rest.find([',', ']', '}', '#', '\n', '\r', ' ', '\t', '=']).unwrap_or(rest.len());
        // A date and a time may be separated by a space.
        if n == 10
            && rest.as_bytes().get(4) == Some(&b'-')
            && rest.get(10..13).is_some_and(|s| s.starts_with(' ') && s.get(1..).is_some_and(digits))
        {
            let tail = rest.get(11..).unwrap_or("");
            n = 11 + tail.find([',', ']', '}', '#', '\n', '\r', ' ', '\t']).unwrap_or(tail.len());
        }
        let word = rest.get(..n).unwrap_or("");
        let value = match word {
            "" => return self.expected("value"),
            "true" => Val::Bool(true),
            "false" => Val::Bool(false),
            "inf" | "+inf" => Val::Float(f64::INFINITY),
            "-inf" => Val::Float(f64::NEG_INFINITY),
            "nan" | "+nan" | "-nan" => Val::Float(f64::NAN),
            word => number(word)
                .or_else(|| date(word))
                .ok_or_else(|| format!("expected value but found {word:?} instead"))?,
        };
        self.at += n;
        Ok(value)
    }
}

fn push(out: &mut String, c: char) -> Parsed<()> {
    out.push(c);
    Ok(())
}

fn walk<'a>(root: &'a mut Table, path: &[Str]) -> Parsed<&'a mut Table> {
    path.iter().try_fold(root, Table::step)
}

fn digits(s: &str) -> bool {
    !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit())
}

fn number(word: &str) -> Option<Val> {
    let bad_underscore = word.starts_with('_') || word.ends_with('_') || word.contains("__");
    let plain = word.replace('_', "");
    if bad_underscore || plain.is_empty() {
        return None;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = plain.strip_prefix(prefix) {
            return i64::from_str_radix(digits, radix).ok().map(Val::Int64);
        }
    }
    let body = plain.trim_start_matches(['+', '-']);
    if !body.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if body.len() > 1 && body.starts_with('0') && digits(body) {
        return None;
    }
    if digits(body) {
        return plain.parse().ok().map(Val::Int64);
    }
    let float = body.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let dots_ok = !body.ends_with('.') && !body.contains(".e") && !body.contains(".E");
    if float && dots_ok { plain.parse().ok().map(Val::Float) } else { None }
}

fn date(word: &str) -> Option<Val> {
    let mut text = word.replacen(['t', ' '], "T", 1).replace('z', "Z");
    if text.len() < 10 && text.contains(':') {
        text = format!("0000-01-01T{text}");
    }
    ["2006-01-02T15:04:05Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"]
        .iter()
        .find_map(|layout| gotime::parse(layout, &text).ok())
        .map(times::time)
}
