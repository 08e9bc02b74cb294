//! The structure of documents: block and flow collections, keys, anchors, merges.
//!
//! One pass over the bytes, one function a construct; positions are byte offsets, columns are counted from the start
//! of the line. The rules are those of go-yaml's scanner and parser, told as a recursive descent:
//! a block collection's indent is the column of its first entry, a list may stand at the column of its parent key,
//! block collections may only start first on their line (or after `- `, `? ` and explicit `: `).

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

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
}

impl Fail {
    pub(super) fn new(pos: usize, message: impl Into<Cow<'static, str>>) -> Box<Self> {
        Box::new(Self { pos, message: message.into(), first: None })
    }
}

pub(super) type Res<T> = Result<T, Box<Fail>>;

/// A document as read, positions in the reader's text.
pub(super) struct Read {
    pub(super) value: Value,
    pub(super) start: usize,
    pub(super) range: Range<usize>,
}

enum Anchor {
    /// Its node is not complete yet.
    Open,
    Done {
        value: Value,
        /// How many nodes it holds, aliases expanded.
        size: u64,
    },
}

/// Anchor and tag in front of a node.
#[derive(Default)]
struct Props<'a> {
    anchor: Option<&'a str>,
    tag: Tag,
}

impl<'a> Props<'a> {
    fn or(self, outer: Props<'a>) -> Self {
        Props { anchor: self.anchor.or(outer.anchor), tag: if self.tag == Tag::None { outer.tag } else { self.tag } }
    }
}

/// What can be a key or a value on one line.
enum Atom<'a> {
    Scalar(Scalar<'a>),
    Value(Value),
}

enum Key {
    Text(Str),
    Merge,
}

/// The reader of a stream.
pub(super) struct Reader<'a> {
    pub(super) text: &'a str,
    pub(super) s: &'a [u8],
    pub(super) pos: usize,
    pub(super) line_start: usize,
    /// Whether a line end was passed since the last token.
    pub(super) crossed: bool,
    options: ReadOptions,
    anchors: HashMap<&'a str, Anchor, foldhash::fast::RandomState>,
    handles: Vec<(&'a str, &'a str)>,
    nodes: u64,
    alias_nodes: u64,
    /// Positions of the keys of all open maps, kept while keys must be unique.
    key_positions: Vec<usize>,
    /// The previous document ended without `...`, so only `---` can follow.
    need_marker: bool,
    /// Only one document is asked for; what follows it is not looked at (as Go's `Unmarshal` does not).
    first_only: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(text: &'a str, options: ReadOptions, first_only: bool) -> Self {
        let start = if text.starts_with('\u{feff}') { 3 } else { 0 };
        Self {
            text,
            s: text.as_bytes(),
            pos: start,
            line_start: start,
            crossed: true,
            options,
            anchors: HashMap::default(),
            handles: Vec::new(),
            nodes: 0,
            alias_nodes: 0,
            key_positions: Vec::new(),
            need_marker: false,
            first_only,
        }
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

    fn col(&self) -> isize {
        (self.pos - self.line_start).cast_signed()
    }

    /// Whether a line starting at `i` is a document marker.
    pub(super) fn marker(&self, i: usize) -> bool {
        matches!(self.s.get(i..i + 3), Some(b"---" | b"...")) && self.blankz(i + 3)
    }

    /// Whether the document is over here.
    fn at_end(&self) -> bool {
        self.pos >= self.s.len() || (self.pos == self.line_start && self.marker(self.pos))
    }

    /// Passes blanks, comments and line ends. In block context tabs count as blanks only behind a token.
    fn skip(&mut self, mut tabs: bool, flow: bool) {
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
    }

    /// The next document; none at the end of the stream.
    pub(super) fn document(&mut self) -> Res<Option<Read>> {
        self.anchors.clear();
        self.handles.clear();
        self.nodes = 0;
        self.alias_nodes = 0;
        let mut directives = false;
        let explicit = loop {
            self.skip(false, false);
            if self.pos >= self.s.len() {
                if directives {
                    return self.fail("did not find expected <document start>");
                }
                return Ok(None);
            }
            if self.pos == self.line_start {
                if self.marker(self.pos) {
                    let end = self.b(self.pos) == b'.';
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
        end = end.max(stop);
        let from = if explicit { from } else { from.min(start) };
        Ok(Some(Read { value, start, range: from.min(end)..end }))
    }

    fn directive(&mut self) -> Res<()> {
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
            _ => return self.fail("found unknown directive name"),
        }
        self.pos = self.eol(self.pos);
        Ok(())
    }

    fn is_dash(&self) -> bool {
        self.b(self.pos) == b'-' && self.blankz(self.pos + 1)
    }

    /// A node in block context, at its first token (or at the token that follows when it is empty).
    ///
    /// `indent` is the column of the collection around it (-1 at the top), `seq_same` allows a list at that column,
    /// `block` says whether a block collection may start on this line.
    fn block_node(&mut self, indent: isize, seq_same: bool, mut block: bool, depth: usize) -> Res<Value> {
        if depth > MAX_DEPTH {
            return self.fail(format!("exceeded max depth of {MAX_DEPTH}"));
        }
        let before = self.nodes;
        self.nodes += 1;
        let mut outer = Props::default();
        loop {
            let beyond = self.at_end()
                || (self.crossed && self.col() <= indent && !(seq_same && self.col() == indent && self.is_dash()));
            if beyond {
                return self.finish_scalar(Scalar::empty(), outer, before);
            }
            let start = self.pos;
            let start_col = self.col();
            let c = self.b(start);
            let mut inner = Props::default();
            let has_props = matches!(c, b'&' | b'!');
            if has_props {
                inner = self.props(false)?;
                if self.crossed || self.at_end() {
                    outer = inner.or(outer);
                    block = true;
                    continue;
                }
            } else if self.blankz(start + 1) {
                match c {
                    b'-' => {
                        if !block {
                            return self.fail("block sequence entries are not allowed in this context");
                        }
                        let value = self.block_seq(start_col, seq_same && start_col == indent, depth)?;
                        return self.finish(value, outer, before);
                    }
                    b'?' | b':' => {
                        if block && c == b':' {
                            return self.fail("did not find expected key");
                        }
                        if !block {
                            return self.fail(if c == b'?' {
                                "mapping keys are not allowed in this context"
                            } else {
                                "mapping values are not allowed in this context"
                            });
                        }
                        let value = self.block_map(start_col, None, depth)?;
                        return self.finish(value, outer, before);
                    }
                    _ => {}
                }
            }
            if matches!(self.b(self.pos), b'|' | b'>') {
                let scalar = self.block_scalar(indent)?;
                return self.finish_scalar(scalar, inner.or(outer), before);
            }
            if has_props && self.blankz(self.pos + 1) && matches!(self.b(self.pos), b'-' | b'?') {
                return self.fail("block sequence entries are not allowed in this context");
            }
            // An anchor of a possible key is registered with the key.
            let inner_before = self.nodes;
            let atom = self.atom(indent, depth)?;
            let after = self.pos;
            if !self.crossed {
                let mut p = self.pos;
                while self.blank(p) {
                    p += 1;
                }
                if self.b(p) == b':' && self.blankz(p + 1) {
                    if !block || self.line_start > start {
                        self.pos = p;
                        return self.fail("mapping values are not allowed in this context");
                    }
                    self.check_key_length(start, after)?;
                    self.pos = p;
                    self.nodes += 1;
                    let key = self.key(atom, inner, start, inner_before)?;
                    let value = self.block_map(start_col, Some((key, start)), depth)?;
                    return self.finish(value, outer, before);
                }
            }
            return match atom {
                Atom::Scalar(scalar) => self.finish_scalar(scalar, inner.or(outer), before),
                Atom::Value(value) => self.finish(value, inner.or(outer), before),
            };
        }
    }

    /// go-yaml looks for the `:` of a key in the next 1024 characters only.
    fn check_key_length(&self, start: usize, end: usize) -> Res<()> {
        if end - start > 1024 && self.slice(start..end).chars().count() > 1024 {
            return Err(Fail::new(start, "could not find expected ':'"));
        }
        Ok(())
    }

    /// A list from its first `-`.
    fn block_seq(&mut self, indent: isize, indentless: bool, depth: usize) -> Res<Value> {
        let mut out = Vec::new();
        loop {
            self.pos += 1;
            self.crossed = false;
            self.skip(false, false);
            out.push(self.block_node(indent, false, true, depth + 1)?);
            self.skip(true, false);
            if self.at_end() {
                break;
            }
            let col = self.col();
            if !self.crossed || col > indent || (col == indent && !indentless && !self.is_dash()) {
                return self.fail("did not find expected '-' indicator");
            }
            if col < indent || !self.is_dash() {
                // Another token at this column belongs to the map around a list that is not indented; that map
                // complains when there is none.
                break;
            }
        }
        Ok(Value::Array(out))
    }

    /// A map from its first key, or from the `:` after it when `first` was read already.
    fn block_map(&mut self, indent: isize, mut first: Option<(Key, usize)>, depth: usize) -> Res<Value> {
        let mut map = Map::new();
        let mut merges = Vec::new();
        let base = self.key_positions.len();
        loop {
            let c = self.b(self.pos);
            let mut explicit = false;
            let mut has_value = true;
            let (key, key_pos) = if let Some(first) = first.take() {
                first
            } else if c == b'?' && self.blankz(self.pos + 1) {
                let start = self.pos;
                explicit = true;
                self.pos += 1;
                self.crossed = false;
                self.skip(false, false);
                let key = self.block_node(indent, true, true, depth + 1)?;
                self.skip(true, false);
                has_value = !self.at_end()
                    && self.crossed
                    && self.col() == indent
                    && self.b(self.pos) == b':'
                    && self.blankz(self.pos + 1);
                (Key::Text(self.key_text(key, start)?), start)
            } else if c == b':' && self.blankz(self.pos + 1) {
                return self.fail("did not find expected key");
            } else {
                self.implicit_key(indent, depth)?
            };
            let value = if has_value {
                self.pos += 1;
                self.crossed = false;
                self.skip(!explicit, false);
                let block = self.crossed || explicit;
                self.block_node(indent, true, block, depth + 1)?
            } else {
                Value::Null
            };
            self.put(&mut map, &mut merges, base, key, key_pos, value)?;
            if has_value {
                self.skip(true, false);
            }
            if self.at_end() {
                break;
            }
            let col = self.col();
            if !self.crossed || col > indent {
                return self.fail("did not find expected key");
            }
            if col < indent {
                break;
            }
            if self.is_dash() {
                return self.fail("did not find expected key");
            }
        }
        self.finish_map(&mut map, merges, base);
        Ok(Value::Map(map))
    }

    /// A key of a block map and where it starts; leaves the reader at its `:`.
    fn implicit_key(&mut self, indent: isize, depth: usize) -> Res<(Key, usize)> {
        let start = self.pos;
        let before = self.nodes;
        self.nodes += 1;
        let props = if matches!(self.b(start), b'&' | b'!') { self.props(false)? } else { Props::default() };
        if self.crossed && self.line_start > start || self.at_end() {
            return Err(Fail::new(start, "could not find expected ':'"));
        }
        let atom = self.atom(indent, depth)?;
        let after = self.pos;
        while !self.crossed && self.blank(self.pos) {
            self.pos += 1;
        }
        if self.line_start > start || self.b(self.pos) != b':' || !self.blankz(self.pos + 1) {
            return Err(Fail::new(
                if self.line_start > start { start } else { self.pos },
                "could not find expected ':'",
            ));
        }
        self.check_key_length(start, after)?;
        Ok((self.key(atom, props, start, before)?, start))
    }

    /// A scalar, alias or flow collection in block context.
    fn atom(&mut self, indent: isize, depth: usize) -> Res<Atom<'a>> {
        let c = self.b(self.pos);
        self.crossed = false;
        match c {
            b'"' => Ok(Atom::Scalar(Scalar { text: self.double_quoted()?, plain: false })),
            b'\'' => Ok(Atom::Scalar(Scalar { text: self.single_quoted()?, plain: false })),
            b'[' | b'{' => {
                let value = self.flow_collection(depth + 1)?;
                // Line ends inside brackets do not end the line the collection is on.
                self.crossed = false;
                Ok(Atom::Value(value))
            }
            b'*' => Ok(Atom::Value(self.alias()?)),
            b'@' | b'`' | b'%' | b'\t' => self.fail("found character that cannot start any token"),
            b',' | b']' | b'}' | b'|' | b'>' | b'&' | b'!' => self.fail("did not find expected node content"),
            _ => Ok(Atom::Scalar(Scalar { text: self.plain_block(indent)?, plain: true })),
        }
    }

    /// Anchor and tag; leaves the reader at the token after them.
    fn props(&mut self, flow: bool) -> Res<Props<'a>> {
        let mut props = Props::default();
        loop {
            let from = self.pos;
            match self.b(from) {
                b'&' => {
                    let name = self.anchor_name()?;
                    if props.anchor.replace(name).is_some() {
                        return Err(Fail::new(from, "did not find expected node content"));
                    }
                    self.anchors.insert(name, Anchor::Open);
                }
                b'!' => {
                    let tag = self.tag()?;
                    if props.tag != Tag::None {
                        return Err(Fail::new(from, "did not find expected node content"));
                    }
                    props.tag = tag;
                }
                _ => return Ok(props),
            }
            self.crossed = false;
            self.skip(true, flow);
            if self.crossed {
                return Ok(props);
            }
        }
    }

    fn anchor_name(&mut self) -> Res<&'a str> {
        let start = self.pos + 1;
        let mut end = start;
        while matches!(self.b(end), b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'-') {
            end += 1;
        }
        if end == start
            || !(self.blankz(end) || matches!(self.b(end), b'?' | b':' | b',' | b']' | b'}' | b'%' | b'@' | b'`'))
        {
            return self.fail("did not find expected alphabetic or numeric character");
        }
        self.pos = end;
        Ok(self.slice(start..end))
    }

    fn tag(&mut self) -> Res<Tag> {
        let start = self.pos;
        let tag = if self.b(start + 1) == b'<' {
            let mut end = start + 2;
            while !self.blankz(end) && self.b(end) != b'>' {
                end += 1;
            }
            if self.b(end) != b'>' {
                return self.fail("did not find the expected '>'");
            }
            self.pos = end + 1;
            Tag::from_long(self.slice(start + 2..end))
        } else {
            let mut end = start;
            while !self.blankz(end) && !matches!(self.b(end), b'{' | b'}' | b'"' | b'|' | b'<' | b'>' | b'\\' | b'^') {
                end += 1;
            }
            // In a flow collection a comma or bracket may follow at once; they are URI characters too, so go-yaml
            // takes them for the tag. So do we.
            self.pos = end;
            let text = self.slice(start..end);
            let handle_end = text.get(1..).and_then(|t| t.find('!')).map_or(1, |i| i + 2);
            let (handle, suffix) = text.split_at_checked(handle_end).unwrap_or((text, ""));
            let declared = self.handles.iter().rev().find(|(h, _)| *h == handle).map(|(_, p)| *p);
            match (handle, suffix, declared) {
                ("!", "", _) => Tag::NonSpecific,
                (_, _, Some(prefix)) => Tag::from_long(&format!("{prefix}{suffix}")),
                ("!", _, None) => Tag::Other,
                ("!!", _, None) => Tag::from_long(&format!("tag:yaml.org,2002:{suffix}")),
                _ => return Err(Fail::new(start, "found undefined tag handle")),
            }
        };
        if !self.blankz(self.pos) {
            return self.fail("did not find expected whitespace or line break");
        }
        Ok(tag)
    }

    fn alias(&mut self) -> Res<Value> {
        let start = self.pos;
        let name = self.anchor_name()?;
        match self.anchors.get(name) {
            None => Err(Fail::new(start, format!("unknown anchor '{name}' referenced"))),
            Some(Anchor::Open) => Err(Fail::new(start, format!("anchor '{name}' value contains itself"))),
            Some(Anchor::Done { value, size }) => {
                self.nodes += size;
                self.alias_nodes += size;
                if excessive(self.nodes, self.alias_nodes) {
                    return Err(Fail::new(start, "document contains excessive aliasing"));
                }
                Ok(value.clone())
            }
        }
    }

    fn finish(&mut self, value: Value, props: Props<'a>, before: u64) -> Res<Value> {
        if let Some(name) = props.anchor {
            let size = self.nodes - before;
            self.anchors.insert(name, Anchor::Done { value: value.clone(), size });
        }
        Ok(value)
    }

    fn finish_scalar(&mut self, scalar: Scalar<'a>, props: Props<'a>, before: u64) -> Res<Value> {
        // The usual case of a plain word that can only be text.
        let value = if props.tag == Tag::None
            && (!scalar.plain || scalar.text.as_bytes().first().is_some_and(|c| !may_be_typed(*c)))
        {
            Value::String(scalar.into_str())
        } else {
            resolve(scalar, props.tag, self.options.dialect).map_err(|m| Fail::new(self.pos, m))?
        };
        self.finish(value, props, before)
    }

    /// The key an atom is; `before` is the node count for its anchor.
    fn key(&mut self, atom: Atom<'a>, props: Props<'a>, start: usize, before: u64) -> Res<Key> {
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
            Some(raw) => Ok(Key::Text(raw)),
            None => Ok(Key::Text(key_of(value).map_err(fail)?)),
        }
    }

    fn key_text(&self, value: Value, start: usize) -> Res<Str> {
        if self.options.dialect == Dialect::Kyaml && value.is_null() {
            return Ok(Str::default());
        }
        key_of(value).map_err(|m| Fail::new(start, m))
    }

    /// Adds an entry to a map being read.
    fn put(
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

    fn finish_map(&mut self, map: &mut Map, merges: Vec<Value>, base: usize) {
        self.key_positions.truncate(base);
        for (k, v) in merges.into_iter().filter_map(into_map).flatten() {
            if !map.contains_key(&k) {
                map.insert(k, v);
            }
        }
    }

    // ---- flow context

    fn flow_skip(&mut self) -> Res<()> {
        self.skip(true, true);
        if self.pos == self.line_start && self.marker(self.pos) {
            return self.fail("found unexpected document indicator");
        }
        Ok(())
    }

    fn flow_collection(&mut self, depth: usize) -> Res<Value> {
        if depth > MAX_DEPTH {
            return self.fail(format!("exceeded max depth of {MAX_DEPTH}"));
        }
        if self.b(self.pos) == b'[' { self.flow_seq(depth) } else { self.flow_map(depth) }
    }

    fn flow_seq(&mut self, depth: usize) -> Res<Value> {
        let mut out = Vec::new();
        self.pos += 1;
        loop {
            self.flow_skip()?;
            if self.b(self.pos) == b']' {
                break;
            }
            let c = self.b(self.pos);
            if c == b'?' || c == b':' {
                // One pair without braces.
                let mut map = Map::new();
                let mut merges = Vec::new();
                let base = self.key_positions.len();
                self.flow_entry(&mut map, &mut merges, base, depth)?;
                self.finish_map(&mut map, merges, base);
                out.push(Value::Map(map));
            } else {
                let start = self.pos;
                let before = self.nodes;
                let (atom, props) = self.flow_node(depth)?;
                if self.flow_colon(start)? {
                    let key = self.key(atom, props, start, before)?;
                    let mut map = Map::new();
                    let mut merges = Vec::new();
                    let base = self.key_positions.len();
                    let value = self.flow_value(depth)?;
                    self.put(&mut map, &mut merges, base, key, start, value)?;
                    self.finish_map(&mut map, merges, base);
                    out.push(Value::Map(map));
                } else {
                    out.push(self.finish_atom(atom, props, before)?);
                }
            }
            self.flow_skip()?;
            match self.b(self.pos) {
                b',' => self.pos += 1,
                b']' => break,
                _ => return self.fail("did not find expected ',' or ']'"),
            }
        }
        self.pos += 1;
        Ok(Value::Array(out))
    }

    fn flow_map(&mut self, depth: usize) -> Res<Value> {
        let mut map = Map::new();
        let mut merges = Vec::new();
        let base = self.key_positions.len();
        self.pos += 1;
        loop {
            self.flow_skip()?;
            if self.b(self.pos) == b'}' {
                break;
            }
            self.flow_entry(&mut map, &mut merges, base, depth)?;
            self.flow_skip()?;
            match self.b(self.pos) {
                b',' => self.pos += 1,
                b'}' => break,
                _ => return self.fail("did not find expected ',' or '}'"),
            }
        }
        self.pos += 1;
        self.finish_map(&mut map, merges, base);
        Ok(Value::Map(map))
    }

    /// `key: value`, `? key : value`, `key` or `: value` of a flow map.
    fn flow_entry(&mut self, map: &mut Map, merges: &mut Vec<Value>, base: usize, depth: usize) -> Res<()> {
        let mut start = self.pos;
        let explicit = self.b(self.pos) == b'?';
        if explicit {
            self.pos += 1;
            self.flow_skip()?;
            start = self.pos;
        }
        let before = self.nodes;
        let (key, has_value) = if matches!(self.b(self.pos), b':' | b',' | b'}' | b']') {
            if self.b(self.pos) == b',' && !explicit {
                return self.fail("did not find expected node content");
            }
            (Key::Text(self.key_text(Value::Null, start)?), self.b(self.pos) == b':')
        } else {
            let (atom, props) = self.flow_node(depth)?;
            let has_value = if explicit {
                self.flow_skip()?;
                self.b(self.pos) == b':'
            } else {
                self.flow_colon(start)?
            };
            (self.key(atom, props, start, before)?, has_value)
        };
        let value = if has_value { self.flow_value(depth)? } else { Value::Null };
        self.put(map, merges, base, key, start, value)
    }

    /// After what may be a key that started at `start`: whether its `:` follows on the same line.
    fn flow_colon(&mut self, start: usize) -> Res<bool> {
        let end = self.pos;
        self.flow_skip()?;
        if self.b(self.pos) != b':' || self.line_start > start {
            return Ok(false);
        }
        self.check_key_length(start, end)?;
        Ok(true)
    }

    /// The value after a `:`, which may be missing.
    fn flow_value(&mut self, depth: usize) -> Res<Value> {
        self.pos += 1;
        self.flow_skip()?;
        if matches!(self.b(self.pos), b',' | b'}' | b']') {
            self.nodes += 1;
            return Ok(Value::Null);
        }
        let before = self.nodes;
        let (atom, props) = self.flow_node(depth)?;
        self.finish_atom(atom, props, before)
    }

    fn finish_atom(&mut self, atom: Atom<'a>, props: Props<'a>, before: u64) -> Res<Value> {
        match atom {
            Atom::Scalar(scalar) => self.finish_scalar(scalar, props, before),
            Atom::Value(value) => self.finish(value, props, before),
        }
    }

    fn flow_node(&mut self, depth: usize) -> Res<(Atom<'a>, Props<'a>)> {
        self.nodes += 1;
        let mut props = Props::default();
        if matches!(self.b(self.pos), b'&' | b'!') {
            props = self.props(true)?;
            self.flow_skip()?;
            if matches!(self.b(self.pos), b',' | b'}' | b']' | b':') {
                return Ok((Atom::Scalar(Scalar::empty()), props));
            }
        }
        let atom = match self.b(self.pos) {
            0 if self.pos >= self.s.len() => {
                return self.fail("did not find expected node content");
            }
            b'"' => Atom::Scalar(Scalar { text: self.double_quoted()?, plain: false }),
            b'\'' => Atom::Scalar(Scalar { text: self.single_quoted()?, plain: false }),
            b'[' | b'{' => Atom::Value(self.flow_collection(depth + 1)?),
            b'*' => Atom::Value(self.alias()?),
            b'|' | b'>' | b'@' | b'`' | b'%' => {
                return self.fail("found character that cannot start any token");
            }
            b',' | b']' | b'}' | b'?' | b':' | b'&' | b'!' => {
                return self.fail("did not find expected node content");
            }
            b'-' if self.blankz(self.pos + 1) => {
                return self.fail("block sequence entries are not allowed in this context");
            }
            _ => Atom::Scalar(Scalar { text: self.plain_flow()?, plain: true }),
        };
        Ok((atom, props))
    }
}

fn into_map(value: Value) -> Option<Map> {
    match value {
        Value::Map(m) => Some(m),
        _ => None,
    }
}

/// go-yaml's bound on how much of a document may come from aliases: nearly all of a small one, a tenth of a large one.
#[allow(clippy::cast_precision_loss)]
fn excessive(nodes: u64, from_aliases: u64) -> bool {
    const LOW: f64 = 400_000.0;
    const HIGH: f64 = 4_000_000.0;
    if from_aliases <= 100 || nodes <= 1000 {
        return false;
    }
    let n = nodes as f64;
    let allowed = 0.99 - 0.89 * ((n - LOW) / (HIGH - LOW)).clamp(0.0, 1.0);
    from_aliases as f64 / n > allowed
}
