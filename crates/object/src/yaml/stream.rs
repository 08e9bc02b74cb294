//! Streams: documents one after another, line ends, characters no document may hold, and where errors are.

use std::borrow::Cow;
use std::ops::Range;

use super::reader::{Fail, Reader};
use super::{Document, ReadOptions, YamlError};

/// A document's text, cut out but not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawDocument<'a> {
    /// The text between two `---` lines.
    pub text: &'a str,
    /// The line the text starts on, from 1.
    pub line: u32,
    /// Its bytes in the stream.
    pub range: Range<usize>,
}

/// Cuts a stream at lines that start with `---` without reading it, as Kubernetes' `YAMLReader` does: the rest of such
/// a line is dropped. Pieces of nothing but space are left out.
#[must_use]
pub fn split_documents(text: &str) -> Vec<RawDocument<'_>> {
    let mut out = Vec::new();
    let (mut start, mut line) = (0, 1u32);
    let (mut at, mut at_line) = (0, 1u32);
    let mut push = |range: Range<usize>, line: u32| {
        let piece = text.get(range.clone()).unwrap_or_default();
        if !piece.trim().is_empty() {
            out.push(RawDocument { text: piece, line, range });
        }
    };
    while at < text.len() {
        let rest = text.as_bytes().get(at..).unwrap_or_default();
        let next = memchr::memchr(b'\n', rest).map_or(text.len(), |i| at + i + 1);
        if rest.starts_with(b"---") {
            push(start..at, line);
            start = next;
            line = at_line + 1;
        }
        at = next;
        at_line += 1;
    }
    push(start..text.len(), line);
    out
}

/// Text with `\n` line ends only, and where bytes were taken out.
struct Normal<'a> {
    text: Cow<'a, str>,
    /// Positions in `text` before which a `\r` was dropped.
    dropped: Vec<usize>,
}

impl<'a> Normal<'a> {
    fn new(text: &'a str) -> Self {
        if memchr::memchr(b'\r', text.as_bytes()).is_none() {
            return Self { text: Cow::Borrowed(text), dropped: Vec::new() };
        }
        let mut out = String::with_capacity(text.len());
        let mut dropped = Vec::new();
        let mut rest = text;
        while let Some(i) = rest.find('\r') {
            let (before, after) = rest.split_at(i);
            out.push_str(before);
            rest = after.get(1..).unwrap_or_default();
            if rest.starts_with('\n') {
                dropped.push(out.len());
            } else {
                out.push('\n');
            }
        }
        out.push_str(rest);
        Self { text: Cow::Owned(out), dropped }
    }

    /// A position in the original text.
    fn original(&self, at: usize) -> usize {
        at + self.dropped.partition_point(|d| *d < at)
    }
}

/// The first character of `text` that no YAML stream may hold.
fn bad_character(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    // The common case first: no control character at all, found out without branches.
    let control = |b: &u8| (*b < 32 && *b != b'\n' && *b != b'\t') || *b == 127;
    let ascii = bytes.chunks(4096).any(|c| c.iter().fold(false, |any, b| any | control(b)));
    let ascii = if ascii { bytes.iter().position(control) } else { None };
    let wide = memchr::memchr2_iter(0xC2, 0xEF, bytes).find(|i| match bytes.get(*i..) {
        Some([0xC2, b, ..]) => *b < 0xA0 && *b != 0x85,
        Some([0xEF, 0xBF, b, ..]) => *b >= 0xBE,
        _ => false,
    });
    match (ascii, wide) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Counts lines forward only, so that all documents together cost one pass.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u32,
}

impl Lines<'_> {
    fn line_of(&mut self, at: usize) -> u32 {
        if at < self.at {
            self.at = 0;
            self.line = 1;
        }
        let count = memchr::memchr_iter(b'\n', self.bytes.get(self.at..at).unwrap_or_default()).count();
        self.line = self.line.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        self.at = at;
        self.line
    }
}

/// Reads at most `limit` documents.
pub(super) fn read(text: &str, options: ReadOptions, limit: usize) -> Vec<Result<Document, YamlError>> {
    let normal = Normal::new(text);
    let text: &str = &normal.text;
    let bad = bad_character(text);
    let mut lines = Lines { bytes: text.as_bytes(), at: 0, line: 1 };
    let mut reader = Reader::new(text, options, limit == 1);
    let mut out = Vec::new();
    while out.len() < limit {
        let begin = reader.pos();
        let result = match reader.document() {
            Ok(None) => match bad.filter(|b| *b >= begin) {
                // Nothing but a forbidden character is left.
                Some(at) => Err(Fail::new(at, "control characters are not allowed")),
                None => break,
            },
            Ok(Some(d)) => match bad.filter(|b| *b >= begin && *b < reader.pos()) {
                Some(at) => Err(Fail::new(at, "control characters are not allowed")),
                None => Ok(d),
            },
            Err(fail) => {
                reader.resync(begin);
                match bad.filter(|b| *b >= begin && *b < reader.pos()) {
                    Some(at) => Err(Fail::new(at, "control characters are not allowed")),
                    None => Err(fail),
                }
            }
        };
        let done = reader.pos() >= text.len();
        out.push(match result {
            Ok(d) => Ok(Document {
                value: d.value,
                line: lines.line_of(d.start),
                range: normal.original(d.range.start)..normal.original(d.range.end),
                blanks: d.blanks,
                typed_keys: d.typed_keys,
            }),
            Err(fail) => Err(error(text, &mut lines, &fail)),
        });
        if done && reader.at_stream_end() {
            break;
        }
    }
    out
}

fn error(text: &str, lines: &mut Lines<'_>, fail: &Fail) -> YamlError {
    let mut at = fail.pos.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let before = text.get(..at).unwrap_or_default();
    let column = before.rsplit('\n').next().map_or(0, |l| l.trim_start_matches('\u{feff}').chars().count());
    let mut message = fail.message.to_string();
    if let Some(first) = fail.first {
        let first = 1 + memchr::memchr_iter(b'\n', before.as_bytes().get(..first).unwrap_or_default()).count();
        message.push_str(&format!(" at line {first}"));
    }
    let began = fail.began.map_or(0, |began| lines.line_of(began));
    let line = lines.line_of(at);
    let go_line = match source(&fail.message) {
        Source::Scanner => {
            let noticed = fail.noticed.unwrap_or(at).min(text.len());
            let breaks = memchr::memchr_iter(b'\n', text.as_bytes().get(at..noticed).unwrap_or_default()).count();
            Some(line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX))).filter(|l| *l > 1)
        }
        Source::Parser => Some(line - 1).filter(|l| *l > 0),
        Source::Decoder => None,
    };
    YamlError { line, column: u32::try_from(column + 1).unwrap_or(u32::MAX), message, go_line, began }
}

/// The part of go-yaml that finds an error: each counts lines in its own way.
enum Source {
    Scanner,
    Parser,
    Decoder,
}

fn source(message: &str) -> Source {
    const PARSER: [&str; 8] = [
        "did not find expected key",
        "did not find expected '-' indicator",
        "did not find expected node content",
        "did not find expected ',' or ']'",
        "did not find expected ',' or '}'",
        "did not find expected <document start>",
        "found undefined tag handle",
        "found incompatible YAML document",
    ];
    const SCANNER: [&str; 5] =
        ["found ", "did not find ", "could not find ", "mapping ", "block sequence entries are not allowed"];
    if PARSER.contains(&message) {
        Source::Parser
    } else if SCANNER.iter().any(|s| message.starts_with(s)) && !message.starts_with("mapping key \"") {
        Source::Scanner
    } else {
        Source::Decoder
    }
}
