//! The structure of documents: block and flow collections, keys, anchors, merges.
//!
//! One pass over the bytes, one function a construct; positions are byte offsets, columns are counted from the start
//! of the line. The rules are those of go-yaml's scanner and parser, told as a recursive descent:
//! a block collection's indent is the column of its first entry, a list may stand at the column of its parent key,
//! block collections may only start first on their line (or after `- `, `? ` and explicit `: `).

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use super::blanks::{self, Step};
use super::resolve::{Scalar, Tag, key_of, may_be_typed, resolve};
use super::{Dialect, ReadOptions};
use crate::map::Map;
use crate::value::{Str, Value};

/// How deep collections may nest. go-yaml allows 10000; API servers and JSON readers far less, and each level costs
/// stack here and in whoever walks the value.
pub(super) const MAX_DEPTH: usize = 200;

/// What is wrong and where.
#[derive(Debug)]
pub(super) struct Fail {
    pub(super) pos: usize,
    pub(super) message: Cow<'static, str>,
    /// Where the thing was first defined, for messages that end in "at line N".
    pub(super) first: Option<usize>,
    /// Where go-yaml's scanner notices, when that is further on.
    pub(super) noticed: Option<usize>,
    /// Where the collection began that could not be finished.
    pub(super) began: Option<usize>,
}

impl Fail {
    pub(super) fn new(pos: usize, message: impl Into<Cow<'static, str>>) -> Box<Self> {
        Box::new(Self { pos, message: message.into(), first: None, noticed: None, began: None })
    }

    /// The same, noticed by go-yaml only at `pos`.
    pub(super) fn noticed_at(mut self: Box<Self>, pos: usize) -> Box<Self> {
        self.noticed = Some(pos);
        self
    }

    /// The same, in a collection that began at `began` and could not be finished.
    pub(super) fn in_collection(mut self: Box<Self>, began: usize) -> Box<Self> {
        self.began.get_or_insert(began);
        self
    }
}

pub(super) type Res<T> = Result<T, Box<Fail>>;

/// A document as read, positions in the reader's text.
pub(super) struct Read {
    pub(super) value: Value,
    pub(super) start: usize,
    pub(super) range: Range<usize>,
    pub(super) blanks: Vec<Vec<Step>>,
    pub(super) typed_keys: Vec<Str>,
}

pub(super) enum Anchor {
    /// Its node is not complete yet.
    Open,
    Done {
        value: Value,
        /// How many nodes it holds, aliases expanded.
        size: u64,
    },
}

/// Anchor and tag in front of a node.
#[derive(Clone, Copy, Default)]
pub(super) struct Props<'a> {
    pub(super) anchor: Option<&'a str>,
    pub(super) tag: Tag,
}

impl<'a> Props<'a> {
    pub(super) fn or(self, outer: Props<'a>) -> Self {
        Props { anchor: self.anchor.or(outer.anchor), tag: if self.tag == Tag::None { outer.tag } else { self.tag } }
    }
}

/// What can be a key or a value on one line.
pub(super) enum Atom<'a> {
    Scalar(Scalar<'a>),
    Value(Value),
}

pub(super) enum Key {
    Text(Str),
    Merge,
}

/// The reader of a stream.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) s: &'a [u8],
    pub(super) pos: usize,
    pub(super) line_start: usize,
    /// Where the last scalar, alias or flow collection started.
    pub(super) token: usize,
    /// Whether a line end was passed since the last token.
    pub(super) crossed: bool,
    options: ReadOptions,
    pub(super) anchors: HashMap<&'a str, Anchor, foldhash::fast::RandomState>,
    pub(super) handles: Vec<(&'a str, &'a str)>,
    pub(super) nodes: u64,
    pub(super) alias_nodes: u64,
    /// The first thing in the document that is YAML but cannot be decoded: go-yaml decodes after it has parsed, so what
    /// does not parse counts more.
    deferred: Option<Box<Fail>>,
    /// Positions of the keys of all open maps, kept while keys must be unique.
    pub(super) key_positions: Vec<usize>,
    /// The previous document ended without `...`, so only `---` can follow.
    need_marker: bool,
    /// A first document was found; `...` may only follow one.
    begun: bool,
    /// Only one document is asked for; what follows it is not looked at (as Go's `Unmarshal` does not).
    first_only: bool,
    /// A null was read for which nothing is written.
    has_blanks: bool,
    /// Keys that are no texts.
    typed_keys: Vec<Str>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, options: ReadOptions, first_only: bool) -> Self {
        let start = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self {
            text,
            s: text.as_bytes(),
            pos: start,
            line_start: start,
            token: start,
            crossed: true,
            options,
            anchors: HashMap::default(),
            handles: Vec::new(),
            nodes: 0,
            alias_nodes: 0,
            deferred: None,
            key_positions: Vec::new(),
            need_marker: false,
            begun: false,
            first_only,
            has_blanks: false,
            typed_keys: Vec::new(),
        }
    }

    pub(super) fn is_kyaml(&self) -> bool {
        self.options.dialect == Dialect::Kyaml
    }

    /// The null for which nothing is written.
    pub(super) fn nothing(&mut self) -> Value {
        if !self.is_kyaml() {
            return Value::Null;
        }
        self.has_blanks = true;
        blanks::mark()
    }

    pub(super) fn pos(&self) -> usize {
        self.pos
    }

    pub(super) fn at_stream_end(&self) -> bool {
        !self.need_marker || self.pos >= self.s.len()
    }

    /// The byte at `i`; 0 past the end (a stream holds no 0 otherwise).
    pub(super) fn b(&self, i: usize) -> u8 {
        self.s.get(i).copied().unwrap_or(0)
    }

    pub(super) fn blank(&self, i: usize) -> bool {
        matches!(self.b(i), b' ' | b'\t')
    }

    /// Space, line end or end of stream.
    pub(super) fn blankz(&self, i: usize) -> bool {
        matches!(self.b(i), b' ' | b'\t' | b'\n' | 0)
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// The end of the line `from` is in.
    pub(super) fn eol(&self, from: usize) -> usize {
        let rest = self.s.get(from..).unwrap_or_default();
        memchr::memchr(b'\n', rest).map_or(self.s.len(), |i| from + i)
    }

    pub(super) fn fail<T>(&self, message: impl Into<Cow<'static, str>>) -> Res<T> {
        Err(Fail::new(self.pos, message))
    }

    /// An error in a collection that began at `began`.
    pub(super) fn fail_in<T>(&self, began: usize, message: &'static str) -> Res<T> {
        let mut fail = Fail::new(self.pos, message);
        fail.began = Some(began);
        Err(fail)
    }

    pub(super) fn col(&self) -> isize {
        (self.pos - self.line_start).cast_signed()
    }

    /// Whether a line starting at `i` is a document marker.
    pub(super) fn marker(&self, i: usize) -> bool {
        matches!(self.s.get(i..i + 3), Some(b"---" | b"...")) && self.blankz(i + 3)
    }

    /// Whether the document is over here.
    pub(super) fn at_end(&self) -> bool {
        self.pos >= self.s.len() || (self.pos == self.line_start && self.marker(self.pos))
    }

    /// Passes blanks, comments and line ends. In block context tabs count as blanks only behind a token.
    pub(super) fn skip(&mut self, mut tabs: bool, flow: bool) {
        loop {
            match self.b(self.pos) {
                b' ' => self.pos += 1,
                b'\t' if flow || (tabs && !self.crossed) => self.pos += 1,
                b'#' => self.pos = self.eol(self.pos),
                b'\n' => {
                    self.pos += 1;
                    self.line_start = self.pos;
                    self.crossed = true;
                    tabs = false;
                }
                _ => return,
            }
        }
    }

    /// Goes to the next `---` line after `begin`, or to the end.
    pub(super) fn resync(&mut self, begin: usize) {
        // `begin` may itself be at the marker of the broken document.
        let mut at = begin;
        loop {
            at = self.eol(at) + 1;
            if at >= self.s.len() {
                self.pos = self.s.len();
                break;
            }
            if self.s.get(at..at + 3) == Some(b"---") && self.blankz(at + 3) {
                self.pos = at;
                break;
            }
        }
        self.line_start = self.pos;
        self.crossed = true;
        self.need_marker = self.pos < self.s.len();
        self.key_positions.clear();
        self.begun = true;
    }

    /// The next document; none at the end of the stream.
    pub(super) fn document(&mut self) -> Res<Option<Read>> {
        self.anchors.clear();
        self.handles.clear();
        self.nodes = 0;
        self.alias_nodes = 0;
        self.deferred = None;
        let mut directives = false;
        let explicit = loop {
            self.skip(false, false);
            if self.pos >= self.s.len() {
                self.begun = true;
                if directives {
                    return self.fail("did not find expected <document start>");
                }
                return Ok(None);
            }
            if self.pos == self.line_start {
                if self.marker(self.pos) {
                    let end = self.b(self.pos) == b'.';
                    if end && !self.begun {
                        return self.fail("did not find expected node content");
                    }
                    self.pos += 3;
                    self.crossed = false;
                    if end {
                        self.need_marker = false;
                        self.skip(true, false);
                        continue;
                    }
                    break true;
                }
                if self.b(self.pos) == b'%' && !self.need_marker {
                    self.directive()?;
                    directives = true;
                    continue;
                }
            }
            if self.need_marker || directives {
                return self.fail("did not find expected <document start>");
            }
            break false;
        };
        self.begun = true;
        let from = self.pos;
        let from = if explicit && self.b(from) == b'\n' { from + 1 } else { from };
        self.skip(explicit, false);
        let (value, start) = if self.at_end() {
            (Value::Null, from.min(self.s.len()))
        } else {
            let start = self.pos;
            let block = self.crossed;
            (self.block_node(-1, false, block, 0)?, start)
        };
        let stop = self.pos;
        self.skip(true, false);
        let mut end = self.pos;
        self.need_marker = true;
        if !self.at_end() && !self.first_only {
            return self.fail("did not find expected <document start>");
        }
        if self.b(self.pos) == b'.' && self.pos < self.s.len() {
            self.pos += 3;
            self.crossed = false;
            self.need_marker = false;
            self.skip(true, false);
        }
        if let Some(fail) = self.deferred.take() {
            return Err(fail);
        }
        end = end.max(stop);
        let from = if explicit { from } else { from.min(start) };
        let mut value = value;
        let blanks = if std::mem::take(&mut self.has_blanks) { blanks::take(&mut value) } else { Vec::new() };
        let mut typed_keys = std::mem::take(&mut self.typed_keys);
        if !typed_keys.is_empty() {
            // On the first level any scalar is a key.
            let top: Vec<&Str> = value.as_map().into_iter().flat_map(Map::keys).collect();
            for key in top {
                if let Some(i) = typed_keys.iter().position(|k| k == key) {
                    typed_keys.remove(i);
                }
            }
        }
        Ok(Some(Read { value, start, range: from.min(end)..end, blanks, typed_keys }))
    }

    pub(super) fn directive(&mut self) -> Res<()> {
        let line = self.slice(self.pos..self.eol(self.pos));
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("%YAML") => {
                if !words.next().is_some_and(|v| v.starts_with("1.")) {
                    return self.fail("found incompatible YAML document");
                }
            }
            Some("%TAG") => match (words.next(), words.next()) {
                (Some(handle), Some(prefix)) => self.handles.push((handle, prefix)),
                _ => return self.fail("did not find expected tag prefix"),
            },
            Some(name) => {
                let name = name.get(1..).unwrap_or_default();
                let letters =
                    name.bytes().take_while(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')).count();
                return self.fail(match letters {
                    0 => "could not find expected directive name",
                    n if n < name.len() => "found unexpected non-alphabetical character",
                    _ => "found unknown directive name",
                });
            }
            None => return self.fail("could not find expected directive name"),
        }
        self.pos = self.eol(self.pos);
        Ok(())
    }

    pub(super) fn finish(&mut self, value: Value, props: Props<'a>, before: u64) -> Res<Value> {
        if let Some(name) = props.anchor {
            let size = self.nodes - before;
            self.anchors.insert(name, Anchor::Done { value: value.clone(), size });
        }
        Ok(value)
    }

    pub(super) fn finish_scalar(&mut self, scalar: Scalar<'a>, props: Props<'a>, before: u64) -> Res<Value> {
        // The usual case of a plain word that can only be text.
        let value = if props.tag == Tag::None
            && (!scalar.plain || scalar.text.as_bytes().first().is_some_and(|c| !may_be_typed(*c)))
        {
            Value::String(scalar.into_str())
        } else {
            let empty = scalar.plain && scalar.text.is_empty();
            match resolve(scalar, props.tag, self.options.dialect).or_else(|m| self.defer(self.token, m))? {
                Value::Null if empty => self.nothing(),
                value => value,
            }
        };
        self.finish(value, props, before)
    }

    /// The key an atom is; `before` is the node count for its anchor.
    pub(super) fn key(&mut self, atom: Atom<'a>, props: Props<'a>, start: usize, before: u64) -> Res<Key> {
        let fail = |m: String| Fail::new(start, m);
        let scalar = match atom {
            Atom::Value(value) => {
                let value = self.finish(value, props, before)?;
                return Ok(Key::Text(self.key_text(value, start)?));
            }
            Atom::Scalar(scalar) => scalar,
        };
        if props.anchor.is_none() && props.tag == Tag::None {
            let first = scalar.text.as_bytes().first().copied();
            if !scalar.plain || first.is_some_and(|c| c != b'<' && !may_be_typed(c)) {
                return Ok(Key::Text(scalar.into_str()));
            }
        }
        if scalar.text == "<<"
            && (matches!(props.tag, Tag::Merge | Tag::NonSpecific) || (scalar.plain && props.tag == Tag::None))
        {
            return Ok(Key::Merge);
        }
        let raw = (self.options.dialect == Dialect::Kyaml).then(|| Str::new(&scalar.text));
        let tag = props.tag;
        let value = resolve(scalar, tag, self.options.dialect).map_err(fail)?;
        let value = self.finish(value, props, before)?;
        match raw {
            // v3 decodes into string keys: the text as written, whatever it looks like.
            Some(raw) => {
                if value.as_str() != Some(&raw) && !value.is_null() {
                    self.typed_keys.push(raw.clone());
                }
                Ok(Key::Text(raw))
            }
            None => Ok(Key::Text(key_of(value).or_else(|m| self.defer(start, m))?)),
        }
    }

    /// Keeps a failure of decoding for the end of the document, and goes on with nothing. (kyaml decodes as it goes.)
    pub(super) fn defer<T: Default>(&mut self, pos: usize, message: String) -> Res<T> {
        let fail = Fail::new(pos, message);
        if self.options.dialect == Dialect::Kyaml {
            return Err(fail);
        }
        self.deferred.get_or_insert(fail);
        Ok(T::default())
    }

    pub(super) fn key_text(&mut self, value: Value, start: usize) -> Res<Str> {
        if self.is_kyaml() && (value.is_null() || blanks::is_mark(&value)) {
            return Ok(Str::default());
        }
        key_of(value).or_else(|m| self.defer(start, m))
    }

    /// Adds an entry to a map being read.
    pub(super) fn put(
        &mut self,
        map: &mut Map,
        merges: &mut Vec<Value>,
        base: usize,
        key: Key,
        key_pos: usize,
        value: Value,
    ) -> Res<()> {
        let key = match key {
            Key::Text(key) => key,
            Key::Merge => {
                let maps = match value {
                    Value::Map(_) => vec![value],
                    Value::Array(items) if items.iter().all(|i| i.as_map().is_some()) => items,
                    _ => {
                        let m = "map merge requires map or sequence of maps as the value";
                        return Err(Fail::new(key_pos, m));
                    }
                };
                if self.options.dialect == Dialect::Kyaml {
                    if !merges.is_empty() {
                        return Err(Fail::new(key_pos, "mapping key \"<<\" already defined"));
                    }
                    *merges = maps;
                } else {
                    // v2 decodes them into the map at once, the first of a list last.
                    for (k, v) in maps.into_iter().rev().filter_map(into_map).flatten() {
                        map.insert(k, v);
                    }
                }
                return Ok(());
            }
        };
        if self.options.unique_keys {
            if let Some(i) = map.keys().position(|k| *k == key).filter(|_| map.contains_key(&key)) {
                let mut fail = if self.options.dialect == Dialect::Kyaml {
                    let mut fail = Fail::new(key_pos, format!("mapping key {key:?} already defined"));
                    fail.first = self.key_positions.get(base + i).copied();
                    fail
                } else {
                    Fail::new(key_pos, format!("key {key:?} already set in map"))
                };
                fail.pos = key_pos;
                return Err(fail);
            }
            if self.options.dialect == Dialect::Kyaml {
                self.key_positions.push(key_pos);
            }
        }
        map.insert(key, value);
        Ok(())
    }

    pub(super) fn finish_map(&mut self, map: &mut Map, merges: Vec<Value>, base: usize) {
        self.key_positions.truncate(base);
        for (k, v) in merges.into_iter().filter_map(into_map).flatten() {
            if !map.contains_key(&k) {
                map.insert(k, v);
            }
        }
    }
}

fn into_map(value: Value) -> Option<Map> {
    match value {
        Value::Map(m) => Some(m),
        _ => None,
    }
}
