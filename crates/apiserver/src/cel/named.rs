//! The libraries `format` and `semver` of Kubernetes: named rules for text, and versions.

use druse_object::value::Str;
use semver::Version;

use super::CelError;
use super::funcs::{Out, no_overload};
use super::value::Val;
use crate::schema::format_fits;
use crate::validate::{NameRule, is_qualified_name, label_value_errors};

/// A rule for text that has a name.
#[derive(Debug)]
pub struct NamedFormat {
    name: &'static str,
    /// What is wrong with a text.
    judge: fn(&str) -> Vec<String>,
}

/// What a rule of CRDs' formats says of a text.
fn unless_fits(format: &str, text: &str, why: &str) -> Vec<String> {
    if format_fits(format, text) { Vec::new() } else { vec![why.to_owned()] }
}

/// The rules; `format.NAME()` and `format.named('NAME')` give one.
static FORMATS: [NamedFormat; 13] = [
    NamedFormat { name: "dns1123Label", judge: |t| NameRule::Label.errors(t, false) },
    NamedFormat { name: "dns1123Subdomain", judge: |t| NameRule::Subdomain.errors(t, false) },
    NamedFormat { name: "dns1035Label", judge: |t| NameRule::Label1035.errors(t, false) },
    NamedFormat { name: "qualifiedName", judge: is_qualified_name },
    NamedFormat { name: "dns1123LabelPrefix", judge: |t| NameRule::Label.errors(t, true) },
    NamedFormat { name: "dns1123SubdomainPrefix", judge: |t| NameRule::Subdomain.errors(t, true) },
    NamedFormat { name: "dns1035LabelPrefix", judge: |t| NameRule::Label1035.errors(t, true) },
    NamedFormat { name: "labelValue", judge: label_value_errors },
    NamedFormat {
        name: "uri",
        judge: |t| unless_fits("uri", t, &format!("parse {}: invalid URI for request", crate::field::go_quote(t))),
    },
    NamedFormat { name: "uuid", judge: |t| unless_fits("uuid", t, "does not match the UUID format") },
    NamedFormat { name: "byte", judge: |t| unless_fits("byte", t, "invalid base64") },
    NamedFormat { name: "date", judge: |t| unless_fits("date", t, "invalid date") },
    NamedFormat { name: "datetime", judge: |t| unless_fits("datetime", t, "invalid datetime") },
];

/// The rule of a name.
pub(super) fn format_named(name: &str) -> Option<&'static NamedFormat> {
    FORMATS.iter().find(|f| f.name == name)
}

impl NamedFormat {
    /// Its name.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// What is wrong with a text: an absent value when nothing is.
    pub(super) fn validate<'a>(&self, text: &str) -> Val<'a> {
        let wrong = (self.judge)(text);
        let list = || Val::List(std::sync::Arc::new(wrong.iter().map(|w| Val::Str(w.as_str().into())).collect()));
        Val::optional((!wrong.is_empty()).then(list))
    }
}

/// Reads a version. When `tolerant`, a leading `v` and zeros before numbers are dropped, and numbers that are missing
/// are 0.
pub(super) fn version(text: &Str, tolerant: bool) -> Result<Version, CelError> {
    let read = |text: &str| Version::parse(text).map_err(|e| CelError(e.to_string()));
    if !tolerant {
        return read(text);
    }
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(without_zeros).collect();
    if parts.len() < 3 {
        if parts.last().is_some_and(|p| p.contains(['+', '-'])) {
            return Err(CelError("Short version cannot contain PreRelease/Build meta data".into()));
        }
        parts.resize(3, "0".to_owned());
    }
    read(&parts.join("."))
}

/// A number without the zeros before it.
fn without_zeros(part: &str) -> String {
    let bare = part.trim_start_matches('0');
    if part.len() < 2 || bare.starts_with(|c: char| c.is_ascii_digit()) {
        return if part.len() < 2 { part } else { bare }.to_owned();
    }
    format!("0{bare}")
}

/// A function of a version.
pub(super) fn on_version<'a>(name: &str, v: &semver::Version, args: &[Val<'a>]) -> Out<'a> {
    let number = |n: u64| Ok(Val::Int(i64::try_from(n).unwrap_or(i64::MAX)));
    match (name, args) {
        ("major", []) => number(v.major),
        ("minor", []) => number(v.minor),
        ("patch", []) => number(v.patch),
        ("isLessThan", [Val::Semver(o)]) => Ok(Val::Bool(v.cmp_precedence(o).is_lt())),
        ("isGreaterThan", [Val::Semver(o)]) => Ok(Val::Bool(v.cmp_precedence(o).is_gt())),
        ("compareTo", [Val::Semver(o)]) => Ok(Val::Int(v.cmp_precedence(o) as i64)),
        _ => no_overload(),
    }
}
