//! Scalars: plain, quoted and block, with their folding.

use std::borrow::Cow;

use super::reader::{Fail, Reader, Res};
use super::refold::refold;
use super::resolve::Scalar;

/// What line ends between two lines of a flow scalar fold to: one is a space, more are one fewer.
fn push_fold(out: &mut String, breaks: usize) {
    if breaks == 1 {
        out.push(' ');
    } else {
        push_breaks(out, breaks - 1);
    }
}

fn push_breaks(out: &mut String, breaks: usize) {
    out.extend(std::iter::repeat_n('\n', breaks));
}

impl<'a> Reader<'a> {
    /// The content of a plain scalar in the rest of this line: its end, and whether the line ends there.
    fn plain_line(&self, start: usize) -> (usize, usize, bool) {
        let eol = self.eol(start);
        let line = self.s.get(start..eol).unwrap_or_default();
        let mut stop = eol;
        for i in memchr::memchr2_iter(b':', b'#', line) {
            let p = start + i;
            if self.b(p) == b':' {
                if self.blankz(p + 1) {
                    stop = p;
                    break;
                }
            } else if p == start || self.blank(p - 1) {
                stop = p;
                break;
            }
        }
        let mut end = stop;
        while end > start && self.blank(end - 1) {
            end -= 1;
        }
        (end, stop, stop == eol)
    }

    /// Passes line ends and the blanks of following lines; returns how many line ends. The reader is at the first
    /// character of the next line that has any.
    fn pass_lines(&mut self, indent: isize) -> Res<usize> {
        let mut breaks = 0;
        loop {
            match self.b(self.pos) {
                b'\n' => {
                    self.pos += 1;
                    self.line_start = self.pos;
                    breaks += 1;
                }
                b' ' => self.pos += 1,
                b'\t' => {
                    if breaks > 0 && ((self.pos - self.line_start).cast_signed()) < indent + 1 {
                        return self.fail("found a tab character that violates indentation");
                    }
                    self.pos += 1;
                }
                _ => return Ok(breaks),
            }
        }
    }

    /// A plain scalar in block context, inside a collection at column `indent`.
    pub(super) fn plain_block(&mut self, indent: isize) -> Res<Cow<'a, str>> {
        let start = self.pos;
        let (end, stop, mut whole_line) = self.plain_line(start);
        self.pos = stop;
        let mut text = Cow::Borrowed(self.slice(start..end));
        while whole_line && self.pos < self.s.len() {
            let breaks = self.pass_lines(indent)?;
            self.crossed = true;
            let col = (self.pos - self.line_start).cast_signed();
            if self.pos >= self.s.len()
                || col <= indent
                || self.b(self.pos) == b'#'
                || (col == 0 && self.marker(self.pos))
            {
                break;
            }
            let from = self.pos;
            let (end, stop, whole) = self.plain_line(from);
            if end == from {
                // A lone `:`; not a continuation, and an error for whoever reads on.
                self.crossed = false;
                break;
            }
            let out = text.to_mut();
            push_fold(out, breaks);
            out.push_str(self.slice(from..end));
            self.pos = stop;
            self.crossed = false;
            whole_line = whole;
        }
        Ok(text)
    }

    /// A plain scalar inside brackets.
    pub(super) fn plain_flow(&mut self) -> Res<Cow<'a, str>> {
        let mut text = Cow::Borrowed("");
        let mut breaks = 0;
        let mut from = self.pos;
        loop {
            // One line's content.
            let mut p = from;
            let mut end = from;
            loop {
                match self.b(p) {
                    b',' | b'?' | b'[' | b']' | b'{' | b'}' | b'\n' => break,
                    0 if p >= self.s.len() => break,
                    b':' if self.blankz(p + 1) => break,
                    b'#' if p > from && self.blank(p - 1) => break,
                    b'#' if p == from && breaks > 0 => break,
                    b' ' | b'\t' => p += 1,
                    _ => {
                        p += 1;
                        end = p;
                    }
                }
            }
            if end > from {
                let piece = self.slice(from..end);
                if breaks == 0 {
                    text = Cow::Borrowed(piece);
                } else {
                    let out = text.to_mut();
                    push_fold(out, breaks);
                    out.push_str(piece);
                }
            }
            self.pos = p;
            if self.b(p) != b'\n' || (end == from && breaks > 0) {
                break;
            }
            breaks = self.pass_lines(-2)?;
            self.crossed = true;
            if self.pos == self.line_start && self.marker(self.pos) {
                break;
            }
            from = self.pos;
        }
        if text.is_empty() {
            return self.fail("found character that cannot start any token");
        }
        Ok(text)
    }

    /// Between two lines of a quoted scalar: at the line end, goes to the next line's first character.
    fn quoted_lines(&mut self) -> Res<usize> {
        let mut breaks = 0;
        loop {
            match self.b(self.pos) {
                b'\n' => {
                    self.pos += 1;
                    self.line_start = self.pos;
                    breaks += 1;
                    if self.marker(self.pos) {
                        return self.fail("found unexpected document indicator");
                    }
                }
                b' ' | b'\t' => self.pos += 1,
                _ => return Ok(breaks),
            }
        }
    }

    pub(super) fn single_quoted(&mut self) -> Res<Cow<'a, str>> {
        let open = self.pos;
        self.pos += 1;
        let mut text: Cow<'a, str> = Cow::Borrowed("");
        loop {
            let from = self.pos;
            let rest = self.s.get(from..).unwrap_or_default();
            let Some(i) = memchr::memchr2(b'\'', b'\n', rest) else {
                return Err(Fail::new(open, "found unexpected end of stream").noticed_at(self.s.len()));
            };
            let p = from + i;
            self.pos = p;
            if self.b(p) == b'\n' {
                let piece = self.slice(from..p).trim_end_matches([' ', '\t']);
                text.to_mut().push_str(piece);
                let breaks = self.quoted_lines()?;
                push_fold(text.to_mut(), breaks);
                continue;
            }
            let piece = self.slice(from..p);
            if self.b(p + 1) == b'\'' {
                let out = text.to_mut();
                out.push_str(piece);
                out.push('\'');
                self.pos = p + 2;
                continue;
            }
            self.pos = p + 1;
            if text.is_empty() {
                return Ok(Cow::Borrowed(piece));
            }
            text.to_mut().push_str(piece);
            return Ok(text);
        }
    }

    pub(super) fn double_quoted(&mut self) -> Res<Cow<'a, str>> {
        let open = self.pos;
        self.pos += 1;
        let mut text: Cow<'a, str> = Cow::Borrowed("");
        loop {
            let from = self.pos;
            let rest = self.s.get(from..).unwrap_or_default();
            let Some(i) = memchr::memchr3(b'"', b'\\', b'\n', rest) else {
                return Err(Fail::new(open, "found unexpected end of stream").noticed_at(self.s.len()));
            };
            let p = from + i;
            self.pos = p;
            match self.b(p) {
                b'\n' => {
                    let piece = self.slice(from..p).trim_end_matches([' ', '\t']);
                    text.to_mut().push_str(piece);
                    let breaks = self.quoted_lines()?;
                    push_fold(text.to_mut(), breaks);
                }
                b'"' => {
                    self.pos = p + 1;
                    let piece = self.slice(from..p);
                    if text.is_empty() {
                        return Ok(Cow::Borrowed(piece));
                    }
                    text.to_mut().push_str(piece);
                    return Ok(text);
                }
                _ => {
                    let piece = self.slice(from..p);
                    let out = text.to_mut();
                    out.push_str(piece);
                    if self.b(p + 1) == b'\n' {
                        // An escaped line end vanishes with the next line's indentation.
                        self.pos = p + 1;
                        let breaks = self.quoted_lines()?;
                        push_breaks(out, breaks - 1);
                    } else {
                        out.push(self.escape()?);
                    }
                }
            }
        }
    }

    /// The character of the escape the reader is at.
    fn escape(&mut self) -> Res<char> {
        let c = self.b(self.pos + 1);
        let digits = match c {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        if digits > 0 {
            let hex = self.slice(self.pos + 2..self.pos + 2 + digits);
            if hex.len() != digits || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                return self.fail("did not find expected hexdecimal number");
            }
            let Some(c) = u32::from_str_radix(hex, 16).ok().and_then(char::from_u32) else {
                return self.fail("found invalid Unicode character escape code");
            };
            self.pos += 2 + digits;
            return Ok(c);
        }
        let c = match c {
            b'0' => '\0',
            b'a' => '\x07',
            b'b' => '\x08',
            b't' | b'\t' => '\t',
            b'n' => '\n',
            b'v' => '\x0b',
            b'f' => '\x0c',
            b'r' => '\r',
            b'e' => '\x1b',
            b' ' => ' ',
            b'"' => '"',
            b'\'' => '\'',
            b'\\' => '\\',
            b'N' => '\u{85}',
            b'_' => '\u{a0}',
            b'L' => '\u{2028}',
            b'P' => '\u{2029}',
            _ => return self.fail("found unknown escape character"),
        };
        self.pos += 2;
        Ok(c)
    }

    /// A `|` or `>` scalar inside a collection at column `parent`.
    pub(super) fn block_scalar(&mut self, parent: isize) -> Res<Scalar<'a>> {
        let folded = self.b(self.pos) == b'>';
        let text = Cow::Owned(self.raw_block_scalar(parent)?);
        Ok(Scalar { text: if folded && self.is_kyaml() { refold(text) } else { text }, plain: false })
    }

    /// The text of a `|` or `>` scalar as it stands.
    pub(super) fn raw_block_scalar(&mut self, parent: isize) -> Res<String> {
        let literal = self.b(self.pos) == b'|';
        self.pos += 1;
        let mut chomp = None;
        let mut increment = 0;
        loop {
            match self.b(self.pos) {
                c @ (b'+' | b'-') if chomp.is_none() => chomp = Some(c),
                b'0' if increment == 0 => {
                    return self.fail("found an indentation indicator equal to 0");
                }
                c @ b'1'..=b'9' if increment == 0 => increment = isize::from(c.wrapping_sub(b'0').cast_signed()),
                _ => break,
            }
            self.pos += 1;
        }
        while self.blank(self.pos) {
            self.pos += 1;
        }
        if self.b(self.pos) == b'#' {
            self.pos = self.eol(self.pos);
        }
        if self.pos < self.s.len() {
            if self.b(self.pos) != b'\n' {
                return self.fail("did not find expected comment or line break");
            }
            self.pos += 1;
            self.line_start = self.pos;
        }
        self.crossed = true;

        let mut indent = if increment > 0 { parent.max(0) + increment } else { 0 };
        let mut breaks = String::new();
        self.block_breaks(&mut indent, parent, &mut breaks)?;
        let mut out = String::new();
        // A pending line end, and whether the line before it started with a blank.
        let (mut line_end, mut led_blank) = ("", false);
        while (self.pos - self.line_start).cast_signed() == indent && self.pos < self.s.len() {
            let blank = self.blank(self.pos);
            if line_end != "\n" || literal || led_blank || blank {
                out.push_str(line_end);
            } else if breaks.is_empty() {
                out.push(' ');
            }
            out.push_str(&breaks);
            breaks.clear();
            led_blank = blank;
            let eol = self.end_of_block_line(self.pos);
            out.push_str(self.slice(self.pos..eol));
            self.pos = eol;
            line_end = self.line_break(eol);
            self.pass_break(line_end);
            self.block_breaks(&mut indent, parent, &mut breaks)?;
        }
        if chomp != Some(b'-') {
            out.push_str(line_end);
        }
        if chomp == Some(b'+') {
            out.push_str(&breaks);
        }
        Ok(out)
    }

    /// The line break at a place; empty where there is none. Unicode's own separators break lines, too, and are kept
    /// (go-yaml, `read_line`).
    fn line_break(&self, at: usize) -> &'static str {
        match self.s.get(at..).unwrap_or_default() {
            [b'\n', ..] => "\n",
            [0xe2, 0x80, 0xa8, ..] => "\u{2028}",
            [0xe2, 0x80, 0xa9, ..] => "\u{2029}",
            _ => "",
        }
    }

    fn pass_break(&mut self, line_break: &str) {
        if !line_break.is_empty() {
            self.pos += line_break.len();
            self.line_start = self.pos;
        }
    }

    /// Where a line of a block scalar ends.
    fn end_of_block_line(&self, from: usize) -> usize {
        let eol = self.eol(from);
        let line = self.s.get(from..eol).unwrap_or_default();
        let mut candidates = memchr::memchr_iter(0xe2, line).map(|i| from + i);
        candidates.find(|at| !self.line_break(*at).is_empty()).unwrap_or(eol)
    }

    /// Passes indentation and empty lines in a block scalar; finds the indentation when it is not known yet (0).
    fn block_breaks(&mut self, indent: &mut isize, parent: isize, breaks: &mut String) -> Res<()> {
        let mut widest = 0;
        loop {
            let col = |r: &Self| (r.pos - r.line_start).cast_signed();
            while (*indent == 0 || col(self) < *indent) && self.b(self.pos) == b' ' {
                self.pos += 1;
            }
            widest = widest.max(col(self));
            if (*indent == 0 || col(self) < *indent) && self.b(self.pos) == b'\t' {
                return self.fail("found a tab character where an indentation space is expected");
            }
            let line_break = self.line_break(self.pos);
            if line_break.is_empty() {
                break;
            }
            self.pass_break(line_break);
            breaks.push_str(line_break);
        }
        if *indent == 0 {
            *indent = widest.max(parent + 1).max(1);
        }
        Ok(())
    }
}
