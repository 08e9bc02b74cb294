//! YAML as the Go tools read and write it.
//!
//! The reader follows go-yaml's scanner (a port of libyaml: YAML 1.1 with its restrictions, such as keys of one line
//! and at most 1024 characters) and, per [`Dialect`], the resolution of `go.yaml.in/yaml/v2` below
//! `sigs.k8s.io/yaml` or of `go.yaml.in/yaml/v3` below kyaml. It builds [`Value`]s directly: comments, styles and
//! positions inside a document are not kept.

mod blanks;
mod block;
mod flow;
mod props;
mod reader;
#[cfg(test)]
mod reader_tests;
mod refold;
mod resolve;
mod scalar;
mod stream;
mod writer;

use std::ops::Range;

use crate::value::{Str, Value};

pub use blanks::Step;
pub use stream::{RawDocument, split_documents};

/// Whose reading of YAML to follow where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `sigs.k8s.io/yaml` (goyaml.v2): YAML 1.1 words (`yes`, `on`, …) are booleans, a key set twice keeps its last
    /// value, a merge key overrides the keys before it. Helm, kubectl, Flux' API objects.
    Sigs,
    /// kyaml (go.yaml.in/yaml/v3): only `true`/`false` spellings are booleans, a key set twice is an error, explicit
    /// keys win over merged ones, timestamps are written in full (RFC 3339). kustomize.
    Kyaml,
}

/// How to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Whose rules.
    pub dialect: Dialect,
    /// Whether a key set twice is an error in [`Dialect::Sigs`] too (Go's `UnmarshalStrict`).
    pub unique_keys: bool,
}

impl From<Dialect> for ReadOptions {
    fn from(dialect: Dialect) -> Self {
        Self { dialect, unique_keys: dialect == Dialect::Kyaml }
    }
}

/// One document of a stream.
#[derive(Clone, Debug)]
pub struct Document {
    /// What it holds; null for an empty document.
    pub value: Value,
    /// The line its content starts on, from 1.
    pub line: u32,
    /// Its bytes in the stream, without the `---` before it.
    pub range: Range<usize>,
    /// In [`Dialect::Kyaml`], the ways to the nulls for which nothing is written (`key:`); kustomize's patches remove
    /// those and keep a written `null`.
    pub blanks: Vec<Vec<Step>>,
    /// In [`Dialect::Kyaml`], the keys that are no texts where they stand (`8080:`, `true:`). kustomize cannot print
    /// them below the first level.
    pub typed_keys: Vec<Str>,
}

/// A document that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct YamlError {
    /// From 1, counted in the whole stream.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    /// The line where the collection began that could not be finished, when that is what is wrong; 0 otherwise.
    began: u32,
    /// What is wrong, in go-yaml's words where it has them.
    pub message: String,
    /// The line go-yaml v2 would name, if it would name one.
    go_line: Option<u32>,
}

impl YamlError {
    /// The error as `go.yaml.in/yaml/v2` words it (`yaml: line 7: did not find expected key`): its parser counts lines
    /// from 0, its scanner looks at the token after the broken one, and the first line has no number.
    #[must_use]
    pub fn go_text(&self) -> String {
        match self.go_line {
            Some(line) => format!("yaml: line {line}: {}", self.message),
            None => format!("yaml: {}", self.message),
        }
    }

    /// The error as `go.yaml.in/yaml/v3` words it, which kustomize reads with: its parser counts lines from 0 and names
    /// the line where the collection began that could not be finished.
    #[must_use]
    pub fn go_text_v3(&self) -> String {
        let line = if self.message.starts_with("unknown anchor") {
            0
        } else if self.message.contains("already set in map") {
            return format!("yaml: unmarshal errors:\n  line {}: {}", self.line, self.message);
        } else if self.message.starts_with("did not find expected") {
            // Line 0 counts as none.
            match self.began.saturating_sub(1) {
                0 => self.line.saturating_sub(1),
                began => began,
            }
        } else if self.line == 1 {
            // A mistake in the first line is shown without a line.
            0
        } else {
            self.line
        };
        if line == 0 { format!("yaml: {}", self.message) } else { format!("yaml: line {line}: {}", self.message) }
    }
}

/// Reads a stream of documents; a broken one does not stop those after it (reading goes on at the next `---` line).
#[must_use]
pub fn documents(text: &str, options: impl Into<ReadOptions>) -> Vec<Result<Document, YamlError>> {
    stream::read(text, options.into(), usize::MAX)
}

/// Reads the first document with what is known of it besides its value; `None` when there is none. What follows it is
/// not looked at.
#[must_use]
pub fn first_document(text: &str, options: impl Into<ReadOptions>) -> Option<Result<Document, YamlError>> {
    stream::read(text, options.into(), 1).into_iter().next()
}

/// Reads the first document (what Go's `Unmarshal` does); null when there is none.
///
/// # Errors
/// When the first document is not YAML, or has no JSON form (a map with null keys, an infinite number).
pub fn parse(text: &str, options: impl Into<ReadOptions>) -> Result<Value, YamlError> {
    stream::read(text, options.into(), 1).into_iter().next().map_or(Ok(Value::Null), |d| d.map(|d| d.value))
}

/// Reads the first document as `sigs.k8s.io/yaml`'s `UnmarshalStrict`: a key set twice is an error.
///
/// # Errors
/// As [`parse`], and for a key set twice.
pub fn parse_strict(text: &str) -> Result<Value, YamlError> {
    parse(text, ReadOptions { dialect: Dialect::Sigs, unique_keys: true })
}

/// Writes a value as `sigs.k8s.io/yaml`'s `Marshal` (and so Helm's `toYaml`, `kubectl -o yaml`, `kubectl kustomize`):
/// map keys sorted as people count, two spaces, lists not indented; ends with a line end.
#[must_use]
pub fn to_string(value: &Value) -> String {
    let mut out = String::new();
    writer::write(&mut out, value, writer::Layout::Sigs);
    out
}

/// Appends what [`to_string`] returns; the end of `out` counts as the start of a line.
pub fn write_into(out: &mut String, value: &Value) {
    writer::write(out, value, writer::Layout::Sigs);
}

/// Writes a value as kyaml's encoder (yaml/v3, compact lists): keys in their own order.
#[must_use]
pub fn to_string_ordered(value: &Value) -> String {
    let mut out = String::new();
    writer::write(&mut out, value, writer::Layout::Kyaml);
    out
}
