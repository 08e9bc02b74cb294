//! Flow context: what stands in brackets and braces.

use super::reader::{Atom, Key, MAX_DEPTH, Props, Reader, Res};
use super::resolve::Scalar;
use crate::map::Map;
use crate::value::Value;

impl<'a> Reader<'a> {
    fn flow_skip(&mut self) -> Res<()> {
        self.skip(true, true);
        if self.pos == self.line_start && self.marker(self.pos) {
            return self.fail("found unexpected document indicator");
        }
        Ok(())
    }

    pub(super) fn flow_collection(&mut self, depth: usize) -> Res<Value> {
        if depth > MAX_DEPTH {
            return self.fail(format!("exceeded max depth of {MAX_DEPTH}"));
        }
        if self.b(self.pos) == b'[' { self.flow_seq(depth) } else { self.flow_map(depth) }
    }

    fn flow_seq(&mut self, depth: usize) -> Res<Value> {
        let mut out = Vec::new();
        let began = self.pos;
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
                _ => return self.fail_in(began, "did not find expected ',' or ']'"),
            }
        }
        self.pos += 1;
        Ok(Value::Array(out))
    }

    fn flow_map(&mut self, depth: usize) -> Res<Value> {
        let mut map = Map::new();
        let mut merges = Vec::new();
        let base = self.key_positions.len();
        let began = self.pos;
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
                _ => return self.fail_in(began, "did not find expected ',' or '}'"),
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
        let value = if has_value { self.flow_value(depth)? } else { self.nothing() };
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
            return Ok(self.nothing());
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
        self.token = self.pos;
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
                return self.fail("did not find expected node content");
            }
            _ => Atom::Scalar(Scalar { text: self.plain_flow()?, plain: true }),
        };
        Ok((atom, props))
    }
}
