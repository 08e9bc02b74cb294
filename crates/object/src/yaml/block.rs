//! Block collections: lists, maps and their keys, told from one another by columns.

use super::reader::{Atom, Fail, Key, MAX_DEPTH, Props, Reader, Res};
use super::resolve::Scalar;
use crate::map::Map;
use crate::value::Value;

impl<'a> Reader<'a> {
    fn is_dash(&self) -> bool {
        self.b(self.pos) == b'-' && self.blankz(self.pos + 1)
    }

    /// A node in block context, at its first token (or at the token that follows when it is empty).
    ///
    /// `indent` is the column of the collection around it (-1 at the top), `seq_same` allows a list at that column,
    /// `block` says whether a block collection may start on this line.
    pub(super) fn block_node(&mut self, indent: isize, seq_same: bool, mut block: bool, depth: usize) -> Res<Value> {
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
                self.token = self.pos;
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
    pub(super) fn check_key_length(&self, start: usize, end: usize) -> Res<()> {
        if end - start > 1024 && self.slice(start..end).chars().count() > 1024 {
            return Err(Fail::new(start, "could not find expected ':'"));
        }
        Ok(())
    }

    /// A list from its first `-`.
    fn block_seq(&mut self, indent: isize, indentless: bool, depth: usize) -> Res<Value> {
        let mut out = Vec::new();
        let began = self.pos;
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
                if self.crossed && col == indent {
                    self.key_or_fail(indent, depth)?;
                }
                // A list at its parent's column ends at anything else, and its parent complains.
                return self
                    .unexpected(
                        indent,
                        if indentless { "did not find expected key" } else { "did not find expected '-' indicator" },
                    )
                    .map_err(|f| if indentless { f } else { f.in_collection(began) });
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
        let began = first.as_ref().map_or(self.pos, |(_, start)| *start);
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
                return self.fail_in(began, "did not find expected key");
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
                self.nothing()
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
                return self.unexpected(indent, "did not find expected key").map_err(|f| f.in_collection(began));
            }
            if col < indent {
                break;
            }
            if self.is_dash() || matches!(self.b(self.pos), b']' | b'}' | b',') {
                return self.fail_in(began, "did not find expected key");
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
            let place = if self.line_start > start { start } else { self.pos };
            self.skip(true, false);
            return Err(Fail::new(place, "could not find expected ':'").noticed_at(self.pos));
        }
        self.check_key_length(start, after)?;
        Ok((self.key(atom, props, start, before)?, start))
    }

    /// What stands at the column of a block collection has to be a key: fails as go-yaml's scanner does, which notices
    /// before the parser, when it is a scalar without a `:`.
    fn key_or_fail(&mut self, indent: isize, depth: usize) -> Res<()> {
        let start = self.pos;
        let other = matches!(self.b(start), b']' | b'}' | b',')
            || matches!(self.b(start), b'?' | b':') && self.blankz(start + 1);
        if !other {
            let place = (self.line_start, self.crossed);
            self.implicit_key(indent, depth)?;
            self.pos = start;
            (self.line_start, self.crossed) = place;
        }
        Ok(())
    }

    /// A token that does not belong here: refused with `message`, unless it is no token at all, which go-yaml's scanner
    /// finds before its parser looks.
    fn unexpected<T>(&mut self, indent: isize, message: &'static str) -> Res<T> {
        let start = self.pos;
        match self.b(start) {
            b'@' | b'`' | b'%' => return self.fail("found character that cannot start any token"),
            b'"' => drop(self.double_quoted()?),
            b'\'' => drop(self.single_quoted()?),
            b'|' | b'>' => drop(self.block_scalar(indent)?),
            b'&' | b'*' => drop(self.anchor_name()?),
            b'-' if !self.crossed && self.blankz(start + 1) => {
                return self.fail("block sequence entries are not allowed in this context");
            }
            _ => {}
        }
        Err(Fail::new(start, message))
    }

    /// A scalar, alias or flow collection in block context.
    fn atom(&mut self, indent: isize, depth: usize) -> Res<Atom<'a>> {
        let c = self.b(self.pos);
        self.token = self.pos;
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
            b'%' if self.pos == self.line_start => {
                self.directive()?;
                self.fail("did not find expected <document start>")
            }
            b'@' | b'`' | b'%' | b'\t' => self.fail("found character that cannot start any token"),
            b',' | b']' | b'}' | b'|' | b'>' | b'&' | b'!' => self.fail("did not find expected node content"),
            _ => Ok(Atom::Scalar(Scalar { text: self.plain_block(indent)?, plain: true })),
        }
    }
}
