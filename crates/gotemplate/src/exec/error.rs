//! The one error of parsing and running templates, worded as Go words it.

use std::fmt;

use druse_object::Str;

use crate::strconv;

/// A template that does not parse or fails when it runs. Displays as Go's error text, nested calls included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The template being executed (a file or a `define`); when parsing, the file.
    pub template: Str,
    /// The file (or text) the failing place is in; empty when there is no place.
    pub file: Str,
    /// Line, from 1; 0 when there is no place.
    pub line: u32,
    /// Column, from 0 and in bytes as Go counts; `None` when parsing.
    pub column: Option<u32>,
    /// What was being evaluated, as Go writes it back: `.Values.a.b`.
    pub context: Option<Box<str>>,
    /// What went wrong here. When a function failed it is `error calling NAME: ` and the rest is in [`Self::chain`].
    pub message: String,
    /// The pieces of text that wrapped errors add, innermost first.
    pub(super) inner: Box<[String]>,
}

impl TemplateError {
    /// A syntax error.
    pub(crate) fn parse(file: &Str, line: usize, message: String) -> Self {
        Self {
            template: file.clone(),
            file: file.clone(),
            line: count(line),
            column: None,
            context: None,
            message,
            inner: Box::default(),
        }
    }

    /// An error that has no place.
    pub(crate) fn plain(message: String) -> Self {
        Self {
            template: Str::default(),
            file: Str::default(),
            line: 0,
            column: None,
            context: None,
            message,
            inner: Box::default(),
        }
    }

    /// With the pieces of the errors it wraps, innermost first.
    #[must_use]
    pub(crate) fn wrapping(mut self, inner: Vec<String>) -> Self {
        self.inner = inner.into();
        self
    }

    /// All pieces, innermost first, this error's own last.
    pub(crate) fn into_pieces(self) -> Vec<String> {
        let own = format!("{}{}", self.head(), self.message);
        let mut pieces = self.inner.into_vec();
        pieces.push(own);
        pieces
    }

    fn head(&self) -> String {
        match (self.line, self.column, &self.context) {
            (0, _, _) => "template: ".to_owned(),
            (line, Some(column), Some(context)) => format!(
                "template: {}:{line}:{column}: executing {} at <{context}>: ",
                self.file,
                strconv::quote(&self.template)
            ),
            (line, _, _) => format!("template: {}:{line}: ", self.file),
        }
    }

    /// What went wrong at the bottom: the innermost error's own words.
    #[must_use]
    pub fn reason(&self) -> &str {
        self.inner.first().map_or(&self.message, String::as_str)
    }

    /// The texts of this error and the errors it wraps, outermost first, as `errors.Unwrap` walks them in Go. Empty
    /// after the first unless a function failed.
    #[must_use]
    pub fn chain(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::with_capacity(self.inner.len() + 1);
        for piece in &self.inner {
            let text = texts.last().map_or_else(|| piece.clone(), |last| format!("{piece}{last}"));
            texts.push(text);
        }
        texts.push(self.to_string());
        texts.reverse();
        texts
    }
}

/// Lines and columns, bounded.
pub(super) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.head())?;
        f.write_str(&self.message)?;
        self.inner.iter().rev().try_for_each(|piece| f.write_str(piece))
    }
}

impl std::error::Error for TemplateError {}
