//! What a check found: one fault at one place.

use std::fmt;

use serde::Serialize;

use crate::codes::{self, Code};

/// How bad a finding is. Ordered: information is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Likely a fault, or one that does no harm yet.
    Warning,
    /// A fault: something is refused, missing or does not work.
    Error,
}

impl Severity {
    /// `error`, `warning` or `info`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Severity {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "info" => Ok(Self::Info),
            "warning" => Ok(Self::Warning),
            "error" => Ok(Self::Error),
            other => Err(format!("{other:?} is no severity: error, warning and info are")),
        }
    }
}

/// A place in the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file, relative to the tree's root; empty when none is known.
    pub file: String,
    /// The line, from 1; 0 when not known.
    pub line: u32,
}

impl Place {
    /// A place in a file.
    pub fn new(file: impl Into<String>, line: u32) -> Self {
        Self { file: file.into(), line }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.as_str(), self.line) {
            ("", _) => f.write_str("(no file)"),
            (file, 0) => f.write_str(file),
            (file, line) => write!(f, "{file}:{line}"),
        }
    }
}

/// One fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Which kind of fault.
    pub code: &'static Code,
    /// How bad it is here.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// The unit that applies what is at fault: `Kustomization/NAMESPACE/NAME` or `HelmRelease/NAMESPACE/NAME`.
    pub unit: Option<String>,
    /// The chart's template that made the object.
    pub template: Option<String>,
    /// The object: `Kind/namespace/name`.
    pub object: Option<String>,
    /// The field of the object.
    pub field: Option<String>,
    /// What is wrong, in one sentence.
    pub message: String,
    /// What to do about just this; what the code says in general otherwise.
    pub remedy: Option<String>,
}

impl Finding {
    /// A finding with this code, as bad as such are by default.
    ///
    /// `code` is one of [`codes::all`]; one that is not becomes `DR002`.
    #[must_use]
    pub fn new(code: &str, place: Place, message: impl Into<String>) -> Self {
        let code = codes::get(code);
        Self {
            code,
            severity: code.severity,
            place,
            unit: None,
            template: None,
            object: None,
            field: None,
            message: message.into(),
            remedy: None,
        }
    }

    /// The same finding, as bad as this.
    #[must_use]
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// The same finding of a unit.
    #[must_use]
    pub fn unit(mut self, unit: impl fmt::Display) -> Self {
        self.unit = Some(unit.to_string());
        self
    }

    /// The same finding with what to do about it.
    #[must_use]
    pub fn help(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What to do about it.
    #[must_use]
    pub fn what_to_do(&self) -> &str {
        self.remedy.as_deref().unwrap_or(&self.code.remedy)
    }
}
