//! What is wrong with a text that is no JSON, in the words of Go's `encoding/json` (its `scanner.go`): clients are told
//! so by upstream.

/// The first thing that is wrong; nothing when the text is JSON.
pub(crate) fn syntax_error(text: &[u8]) -> Option<String> {
    let mut s = Scanner { text, at: 0 };
    let wrong = s.value().and_then(|()| {
        s.space();
        if s.at < text.len() { Err(s.wrong("after top-level value")) } else { Ok(()) }
    });
    wrong.err()
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

type Scanned = Result<(), String>;

impl Scanner<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    /// The character here is not one that may stand in this place, or there is none.
    fn wrong(&self, place: &str) -> String {
        let Some(b) = self.peek() else { return "unexpected end of JSON input".to_owned() };
        let shown = match char::from(b) {
            '\'' => "'\\''".to_owned(),
            '"' => "'\"'".to_owned(),
            c => {
                let quoted = crate::field::go_quote(&c.to_string());
                format!("'{}'", &quoted[1..quoted.len() - 1])
            }
        };
        format!("invalid character {shown} {place}")
    }

    fn value(&mut self) -> Scanned {
        self.space();
        match self.peek() {
            Some(b'{') => self.object(),
            Some(b'[') => self.array(),
            Some(b'"') => self.string(),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => Err(self.wrong("looking for beginning of value")),
        }
    }

    fn object(&mut self) -> Scanned {
        const KEY: &str = "looking for beginning of object key string";
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.space();
            if self.peek() != Some(b'"') {
                return Err(self.wrong(KEY));
            }
            self.string()?;
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.wrong("after object key"));
            }
            self.at += 1;
            self.value()?;
            if self.ends(b'}', "after object key:value pair")? {
                return Ok(());
            }
        }
    }

    fn array(&mut self) -> Scanned {
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            self.value()?;
            if self.ends(b']', "after array element")? {
                return Ok(());
            }
        }
    }

    /// Whether a list of things ends here or goes on.
    fn ends(&mut self, end: u8, place: &str) -> Result<bool, String> {
        self.space();
        match self.peek() {
            Some(b) if b == end || b == b',' => {
                self.at += 1;
                Ok(b == end)
            }
            _ => Err(self.wrong(place)),
        }
    }

    fn string(&mut self) -> Scanned {
        self.at += 1;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    self.escape()?;
                }
                Some(b) if b >= b' ' => self.at += 1,
                _ => return Err(self.wrong("in string literal")),
            }
        }
    }

    fn escape(&mut self) -> Scanned {
        match self.peek() {
            Some(b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                for _ in 0..4 {
                    if !self.peek().is_some_and(|b| b.is_ascii_hexdigit()) {
                        return Err(self.wrong("in \\u hexadecimal character escape"));
                    }
                    self.at += 1;
                }
            }
            _ => return Err(self.wrong("in string escape code")),
        }
        Ok(())
    }

    fn digits(&mut self, place: &str) -> Scanned {
        if !self.peek().is_some_and(|b| b.is_ascii_digit()) {
            return Err(self.wrong(place));
        }
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        Ok(())
    }

    fn number(&mut self) -> Scanned {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        // A leading zero stands alone.
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits("in numeric literal")?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits("in exponent of numeric literal")?;
        }
        Ok(())
    }

    fn literal(&mut self, word: &str) -> Scanned {
        for b in word.bytes() {
            if self.peek() != Some(b) {
                return Err(self.wrong(&format!("in literal {word} (expecting '{}')", char::from(b))));
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_in_the_words_of_go() {
        for right in ["{}", " [1, -0.5e+3, \"a\\u00e9\\n\", true, false, null] ", "0", "{\"a\": {\"b\": []}}"] {
            assert_eq!(syntax_error(right.as_bytes()), None, "{right}");
        }
        for (text, why) in [
            ("", "unexpected end of JSON input"),
            ("{\"a\":1", "unexpected end of JSON input"),
            ("nope", "invalid character 'o' in literal null (expecting 'u')"),
            ("{\"a\":tru}", "invalid character '}' in literal true (expecting 'e')"),
            ("{\"a\":1.}", "invalid character '}' after decimal point in numeric literal"),
            ("{\"a\" 1}", "invalid character '1' after object key"),
            ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
            ("{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
            ("[1,]", "invalid character ']' looking for beginning of value"),
            ("[\"a\" \"b\"]", "invalid character '\"' after array element"),
            ("{\"a\":\"\\x\"}", "invalid character 'x' in string escape code"),
            ("{\"a\":-}", "invalid character '}' in numeric literal"),
            ("{} x", "invalid character 'x' after top-level value"),
            ("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair"),
            ("'", "invalid character '\\'' looking for beginning of value"),
            ("\"a\nb\"", "invalid character '\\n' in string literal"),
        ] {
            assert_eq!(syntax_error(text.as_bytes()).as_deref(), Some(why), "{text}");
        }
        assert_eq!(syntax_error(&[0xcf]).as_deref(), Some("invalid character 'Ï' looking for beginning of value"));
    }
}
