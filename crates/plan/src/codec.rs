//! Objects and the like as bytes, for the cache: quick to read and nothing else. The layout is private to one build of
//! druse (the build is part of every key), so there is no version in it.

use std::sync::Arc;

use druse_object::{Map, Object, Provenance, Str, Value};

/// How deep values may nest; a YAML reader has refused what is deeper.
const MAX_DEPTH: usize = 10_000;

/// Bytes being written.
#[derive(Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

/// Bytes being read; every question may be answered with nothing, where they are not what was written.
#[derive(Clone)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl Writer {
    pub(crate) fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.0.push(n.to_le_bytes()[0] | 0x80);
            n >>= 7;
        }
        self.0.push(n.to_le_bytes()[0]);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn flag(&mut self, flag: bool) {
        self.0.push(u8::from(flag));
    }

    pub(crate) fn list<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut each: impl FnMut(&mut Self, T)) {
        self.number(items.len() as u64);
        items.for_each(|item| each(self, item));
    }

    pub(crate) fn texts<'t, T: AsRef<str> + 't>(&mut self, items: impl ExactSizeIterator<Item = &'t T>) {
        self.list(items, |w, item| w.text(item.as_ref()));
    }

    pub(crate) fn optional<T>(&mut self, item: Option<T>, each: impl FnOnce(&mut Self, T)) {
        self.flag(item.is_some());
        if let Some(item) = item {
            each(self, item);
        }
    }

    pub(crate) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.push(0),
            Value::Bool(false) => self.0.push(1),
            Value::Bool(true) => self.0.push(2),
            Value::Int(n) => {
                self.0.push(3);
                self.0.extend_from_slice(&n.to_le_bytes());
            }
            Value::UInt(n) => {
                self.0.push(4);
                self.0.extend_from_slice(&n.to_le_bytes());
            }
            Value::Float(n) => {
                self.0.push(5);
                self.0.extend_from_slice(&n.to_bits().to_le_bytes());
            }
            Value::String(text) => {
                self.0.push(6);
                self.text(text);
            }
            Value::Array(items) => {
                self.0.push(7);
                self.list(items.iter(), Self::value);
            }
            Value::Map(map) => {
                self.0.push(8);
                self.list(map.iter(), |w, (key, value)| {
                    w.text(key);
                    w.value(value);
                });
            }
        }
    }

    pub(crate) fn provenance(&mut self, p: &Provenance) {
        for text in [&p.file, &p.unit, &p.template] {
            self.optional(text.as_deref(), Self::text);
        }
        self.number(u64::from(p.line));
    }

    pub(crate) fn object(&mut self, o: &Object) {
        self.provenance(&o.provenance);
        self.value(&o.value);
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    pub(crate) fn number(&mut self) -> Option<u64> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.bytes::<1>()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(n);
            }
        }
        None
    }

    fn size(&mut self) -> Option<usize> {
        // Nothing is larger than what is left to read: no number makes room for what cannot come.
        usize::try_from(self.number()?).ok().filter(|n| *n <= self.0.len())
    }

    pub(crate) fn text(&mut self) -> Option<&'a str> {
        let size = self.size()?;
        let (head, rest) = self.0.split_at_checked(size)?;
        self.0 = rest;
        std::str::from_utf8(head).ok()
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.bytes::<1>()? {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }

    pub(crate) fn list<T>(&mut self, mut each: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let size = self.size()?;
        let mut out = Vec::with_capacity(size.min(4096));
        for _ in 0..size {
            out.push(each(self)?);
        }
        Some(out)
    }

    pub(crate) fn texts(&mut self) -> Option<Vec<String>> {
        self.list(|r| r.text().map(str::to_string))
    }

    pub(crate) fn optional<T>(&mut self, each: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { each(self).map(Some) } else { Some(None) }
    }

    pub(crate) fn value(&mut self) -> Option<Value> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        Some(match self.bytes::<1>()? {
            [0] => Value::Null,
            [1] => Value::Bool(false),
            [2] => Value::Bool(true),
            [3] => Value::Int(i64::from_le_bytes(self.bytes()?)),
            [4] => Value::UInt(u64::from_le_bytes(self.bytes()?)),
            [5] => Value::Float(f64::from_bits(u64::from_le_bytes(self.bytes()?))),
            [6] => Value::String(Str::from(self.text()?)),
            [7] => Value::Array(self.list(|r| r.value_at(depth + 1))?),
            [8] => {
                let size = self.size()?;
                let mut map = Map::with_capacity(size.min(4096));
                for _ in 0..size {
                    let key = self.text()?;
                    map.insert(key, self.value_at(depth + 1)?);
                }
                Value::Map(map)
            }
            _ => return None,
        })
    }

    pub(crate) fn provenance(&mut self) -> Option<Provenance> {
        let mut text = || self.optional(|r| r.text().map(Arc::from));
        let (file, unit, template) = (text()?, text()?, text()?);
        Some(Provenance { file, unit, template, line: u32::try_from(self.number()?).ok()? })
    }

    pub(crate) fn object(&mut self) -> Option<Object> {
        let provenance = self.provenance()?;
        Some(Object { value: self.value()?, provenance })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Object {
        let mut o = Object::new(
            druse_object::json::parse(
                br#"{"z":{"a":[null,true,false,-7,18446744073709551615,1.0,"","a string that is not inline any more"]},
                "a":{},"b":[]}"#,
            )
            .unwrap(),
        );
        o.provenance.file = Some("a/b.yaml".into());
        o.provenance.line = 300;
        o
    }

    #[test]
    fn what_is_written_is_read_in_the_same_order() {
        let mut w = Writer::default();
        w.object(&sample());
        let mut r = Reader::new(&w.0);
        let back = r.object().unwrap();
        assert!(crate::world::identical(&back, &sample()));
        assert_eq!(r.left(), 0);
    }

    #[test]
    fn what_was_not_written_is_nothing_and_no_reason_to_panic() {
        let mut w = Writer::default();
        w.object(&sample());
        for at in 0..w.0.len() {
            let _ = Reader::new(w.0.get(..at).unwrap()).object();
            for flip in [1, 0x80, 0xff] {
                let mut bytes = w.0.clone();
                bytes[at] ^= flip;
                let _ = Reader::new(&bytes).object();
            }
        }
        assert_eq!(Reader::new(&[7, 0xff, 0xff, 0xff, 0xff, 0x0f]).value(), None);
    }
}
