//! JSON that holds secrets: every text in it is zeroed when dropped, and `Debug` shows none.
//!
//! The answers of the Parameter Store and Secrets Manager are read into it, and the values that JMESPath expressions take
//! apart. Reads as Go's `encoding/json` does: the last of two equal keys wins, half a surrogate pair becomes U+FFFD.

use zeroize::Zeroizing;

/// How deep values may be nested.
const MAX_DEPTH: usize = 128;

/// A JSON value.
#[derive(Clone, PartialEq, Eq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it is written.
    Number(Zeroizing<String>),
    /// A text.
    Text(Zeroizing<String>),
    /// A list.
    List(Vec<Json>),
    /// A map, in the order written.
    Map(Vec<(Zeroizing<String>, Json)>),
}

impl std::fmt::Debug for Json {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        })
    }
}

/// A text that is no JSON; only where it stops being so is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no JSON from byte {at} on")]
pub struct NoJson {
    /// The first byte that does not belong, from 0.
    pub at: usize,
}

impl Json {
    /// Reads a text.
    ///
    /// # Errors
    /// When it is no JSON, is nested too deeply, or something follows.
    pub fn parse(text: &[u8]) -> Result<Self, NoJson> {
        let mut reader = Reader { text, at: 0 };
        let value = reader.value(0)?;
        reader.space();
        if reader.at == text.len() { Ok(value) } else { Err(NoJson { at: reader.at }) }
    }

    /// A map's entry.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(entries) => entries.iter().rev().find(|(k, _)| k.as_str() == key).map(|(_, v)| v),
            _ => None,
        }
    }

    /// The text, when it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(t) => Some(t),
            _ => None,
        }
    }

    /// The text of a map's entry.
    #[must_use]
    pub fn text_at(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Self::text)
    }

    /// The items of a list; none for anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The JSON text of the value, in a buffer that does not grow.
    #[must_use]
    pub fn to_json(&self) -> Zeroizing<String> {
        let mut out = Zeroizing::new(String::with_capacity(self.longest()));
        self.write(&mut out);
        out
    }

    /// At least as many bytes as the value's JSON has.
    fn longest(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 5,
            Self::Number(n) => n.len(),
            Self::Text(t) => 2 + 6 * t.len(),
            Self::List(items) => 2 + items.iter().map(|i| i.longest() + 1).sum::<usize>(),
            Self::Map(entries) => 2 + entries.iter().map(|(k, v)| 4 + 6 * k.len() + v.longest()).sum::<usize>(),
        }
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Self::Number(n) => out.push_str(n),
            Self::Text(t) => quote(t, out),
            Self::List(items) => {
                out.push('[');
                for (n, item) in items.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Map(entries) => {
                out.push('{');
                for (n, (key, value)) in entries.iter().enumerate() {
                    if n > 0 {
                        out.push(',');
                    }
                    quote(key, out);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// The number as it is written, when it is one.
    #[must_use]
    pub fn number(&self) -> Option<&str> {
        match self {
            Self::Number(n) => Some(n),
            _ => None,
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c < ' ' => {
                let digit = |n: u32| char::from_digit(n, 16).unwrap_or('0');
                out.push_str("\\u00");
                out.push(digit(u32::from(c) >> 4));
                out.push(digit(u32::from(c) & 15));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn bad<T>(&self) -> Result<T, NoJson> {
        Err(NoJson { at: self.at })
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// Takes a byte when it comes next.
    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn word(&mut self, word: &str, value: Json) -> Result<Json, NoJson> {
        if !self.text[self.at..].starts_with(word.as_bytes()) {
            return self.bad();
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Json, NoJson> {
        self.space();
        match self.peek() {
            _ if depth > MAX_DEPTH => self.bad(),
            Some(b'n') => self.word("null", Json::Null),
            Some(b't') => self.word("true", Json::Bool(true)),
            Some(b'f') => self.word("false", Json::Bool(false)),
            Some(b'"') => self.string().map(Json::Text),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b'[') => {
                self.at += 1;
                let mut items = Vec::new();
                self.space();
                if self.take(b']') {
                    return Ok(Json::List(items));
                }
                loop {
                    items.push(self.value(depth + 1)?);
                    self.space();
                    if self.take(b']') {
                        return Ok(Json::List(items));
                    }
                    if !self.take(b',') {
                        return self.bad();
                    }
                }
            }
            Some(b'{') => {
                self.at += 1;
                let mut entries = Vec::new();
                self.space();
                if self.take(b'}') {
                    return Ok(Json::Map(entries));
                }
                loop {
                    self.space();
                    let key = self.string()?;
                    self.space();
                    if !self.take(b':') {
                        return self.bad();
                    }
                    entries.push((key, self.value(depth + 1)?));
                    self.space();
                    if self.take(b'}') {
                        return Ok(Json::Map(entries));
                    }
                    if !self.take(b',') {
                        return self.bad();
                    }
                }
            }
            _ => self.bad(),
        }
    }

    fn digits(&mut self) -> Result<(), NoJson> {
        let from = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == from { self.bad() } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Json, NoJson> {
        let from = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _ = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        let text = String::from_utf8_lossy(&self.text[from..self.at]).into_owned();
        Ok(Json::Number(Zeroizing::new(text)))
    }

    /// A text. Its buffer is as large as the text can become, so that growing leaves no copy behind.
    fn string(&mut self) -> Result<Zeroizing<String>, NoJson> {
        if !self.take(b'"') {
            return self.bad();
        }
        let mut end = self.at;
        while let Some(b) = self.text.get(end) {
            match b {
                b'"' => break,
                b'\\' => end += 2,
                _ => end += 1,
            }
        }
        let raw = self.text.get(self.at..end).filter(|_| self.text.get(end) == Some(&b'"'));
        let Some(raw) = raw else { return Err(NoJson { at: self.text.len() }) };
        // A replacement character takes three bytes where a bad one took one.
        let mut out = Zeroizing::new(String::with_capacity(raw.len() * if raw.is_ascii() { 1 } else { 3 }));
        while self.at < end {
            let from = self.at;
            while self.at < end && self.text[self.at] != b'\\' {
                if self.text[self.at] < 0x20 {
                    return self.bad();
                }
                self.at += 1;
            }
            for chunk in self.text[from..self.at].utf8_chunks() {
                out.push_str(chunk.valid());
                if !chunk.invalid().is_empty() {
                    out.push('\u{fffd}');
                }
            }
            if self.at < end {
                let c = self.escape()?;
                out.push(c);
            }
        }
        self.at = end + 1;
        Ok(out)
    }

    fn escape(&mut self) -> Result<char, NoJson> {
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                let first = self.hex()?;
                if !(0xd800..0xdc00).contains(&first) {
                    return Ok(char::from_u32(first).unwrap_or('\u{fffd}'));
                }
                let before = self.at;
                if self.take(b'\\') && self.take(b'u') {
                    let second = self.hex()?;
                    if (0xdc00..0xe000).contains(&second) {
                        let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                        return Ok(char::from_u32(code).unwrap_or('\u{fffd}'));
                    }
                }
                self.at = before;
                return Ok('\u{fffd}');
            }
            _ => return self.bad(),
        };
        self.at += 1;
        Ok(c)
    }

    fn hex(&mut self) -> Result<u32, NoJson> {
        let mut n = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(16)) else { return self.bad() };
            n = n * 16 + digit;
            self.at += 1;
        }
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_read() {
        let v = Json::parse(
            br#" {"a": [1, -2.5e+3, true, null, "x\n\"\u00fc\ud83d\ude00\ud800"], "a2": {}, "k": 1, "k": "last"} "#,
        )
        .unwrap();
        let items = v.get("a").unwrap().items();
        assert_eq!((items[0].number(), items[1].number()), (Some("1"), Some("-2.5e+3")));
        assert_eq!((&items[2], &items[3]), (&Json::Bool(true), &Json::Null));
        assert_eq!(items[4].text(), Some("x\n\"ü😀\u{fffd}"));
        assert_eq!(v.text_at("k"), Some("last"));
        let v = Json::parse(br#"{"a": ["\u0001\"\\", 1.50, null], "b": {}}"#).unwrap();
        assert_eq!(v.to_json().as_str(), r#"{"a":["\u0001\"\\",1.50,null],"b":{}}"#);
    }

    #[test]
    fn what_is_no_json_is_refused_without_showing_it() {
        for text in
            ["", "{", "[1,]", "{\"a\" 1}", "01", "1.", "\"\\x\"", "\"a", "\"\u{1}\"", "nul", "1 2", "{a:1}", "\"\\"]
        {
            assert!(Json::parse(text.as_bytes()).is_err(), "{text}");
        }
        let deep = "[".repeat(100_000);
        assert!(Json::parse(deep.as_bytes()).is_err());
        let v = Json::parse(br#"{"password": "geheim"}"#).unwrap();
        assert_eq!(format!("{v:?}"), "a map");
    }

    #[test]
    fn texts_do_not_grow_while_they_are_read() {
        let text = format!("\"{}\\n{}\"", "ü".repeat(100), "\\u00fc".repeat(50));
        let Json::Text(t) = Json::parse(text.as_bytes()).unwrap() else { panic!("a text") };
        assert!(t.capacity() >= t.len() && t.capacity() == (text.len() - 2) * 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panicking(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Json::parse(&bytes);
        }
        #[test]
        fn what_is_written_is_read_back(text in ".{0,40}") {
            let written = druse_object::json::to_string(&druse_object::Value::from(text.as_str()));
            let read = Json::parse(written.as_bytes()).unwrap();
            prop_assert_eq!(read.text(), Some(text.as_str()));
            prop_assert_eq!(Json::parse(read.to_json().as_bytes()), Ok(read));
        }
    }
}
