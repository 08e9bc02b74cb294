//! A Helm repository's `index.yaml`: which versions of which charts there are, and which of them a version or range means.

use std::collections::BTreeMap;

use druse_helm::version::{Constraint, Version};
use druse_object::{Value, yaml};

use crate::error::SourceError;

/// One version of a chart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChartVersion {
    /// As the index writes it.
    pub version: String,
    /// Where the archive is; relative to the index or absolute, the first is used.
    pub urls: Vec<String>,
    /// SHA-256 of the archive in hex; empty when the index names none.
    pub digest: String,
}

/// An index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Versions by chart name, newest first.
    pub entries: BTreeMap<String, Vec<ChartVersion>>,
}

impl Index {
    /// Reads an index. Entries that are none are passed over, as Helm does; versions that are none stay, after all others.
    ///
    /// # Errors
    /// When the text is not YAML, or has no `apiVersion`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let value = yaml::parse(text, yaml::Dialect::Sigs).map_err(|e| e.to_string())?;
        if value.str_at(["apiVersion"]).unwrap_or_default().is_empty() {
            return Err("no API version specified: this is no index of a Helm repository".into());
        }
        let text = |v: &Value, key: &str| match v.get(key) {
            Some(Value::String(s)) => s.to_string(),
            Some(v @ (Value::Int(_) | Value::Float(_) | Value::UInt(_))) => druse_object::json::to_string(v),
            _ => String::new(),
        };
        let mut entries = BTreeMap::new();
        for (name, versions) in value.get("entries").and_then(Value::as_map).into_iter().flat_map(|m| m.iter()) {
            let mut list: Vec<(Option<Version>, ChartVersion)> = versions
                .items()
                .iter()
                .map(|v| {
                    let version = text(v, "version");
                    let urls = v["urls"].items().iter().filter_map(Value::as_str).map(str::to_string).collect();
                    let digest = text(v, "digest").trim_start_matches("sha256:").to_string();
                    (Version::parse(&version).ok(), ChartVersion { version, urls, digest })
                })
                .collect();
            list.sort_by(|a, b| b.0.cmp(&a.0));
            entries.insert(name.to_string(), list.into_iter().map(|(_, v)| v).collect());
        }
        Ok(Self { entries })
    }

    /// The version of a chart that a version or range means: one written exactly so, else the newest in the range
    /// (a plain version is the range of itself, so `3.0.1` finds `v3.0.1`). `None` when there is none.
    ///
    /// # Errors
    /// When `wanted` is neither a version nor a range.
    pub fn find(&self, name: &str, wanted: &str) -> Result<Option<&ChartVersion>, SourceError> {
        let Some(versions) = self.entries.get(name) else { return Ok(None) };
        let i = pick(versions.iter().map(|v| v.version.as_str()), wanted)?;
        Ok(i.and_then(|i| versions.get(i)))
    }
}

/// Which of some versions (newest first) a version or range means.
///
/// # Errors
/// When `wanted` is neither a version nor a range.
pub fn pick<'a>(versions: impl Iterator<Item = &'a str> + Clone, wanted: &str) -> Result<Option<usize>, SourceError> {
    let wanted = wanted.trim();
    if !wanted.is_empty()
        && let Some(i) = versions.clone().position(|v| v == wanted)
    {
        return Ok(Some(i));
    }
    let constraint = Constraint::parse(if wanted.is_empty() { "*" } else { wanted })
        .map_err(|_| SourceError::Version(wanted.to_string()))?;
    Ok(versions.into_iter().position(|v| Version::parse(v).is_ok_and(|v| constraint.check(&v))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "apiVersion: v1\nentries:\n  a:\n  - version: 1.2.0\n    urls: [a-1.2.0.tgz]\n    digest: abc\n  - version: v1.10.0\n  - version: 2.0.0-rc.1\n  - version: odd\n";

    #[test]
    fn versions_match_exactly_or_as_a_range_and_never_otherwise() {
        let index = Index::parse(INDEX).unwrap();
        let find = |wanted: &str| index.find("a", wanted).unwrap().map(|v| v.version.as_str());
        assert_eq!(find("1.2.0"), Some("1.2.0"));
        assert_eq!(find("1.10.0"), Some("v1.10.0"));
        assert_eq!(find("1.x"), Some("v1.10.0"));
        assert_eq!(find(""), Some("v1.10.0"));
        assert_eq!(find("2.0.0-rc.1"), Some("2.0.0-rc.1"));
        assert_eq!(find("1.2.1"), None);
        assert_eq!(find("odd"), Some("odd"));
        assert_eq!(index.find("b", "1").unwrap(), None);
        assert!(matches!(index.find("a", "not a version"), Err(SourceError::Version(_))));
    }

    #[test]
    fn what_is_no_index_is_refused() {
        assert!(Index::parse("<html>").is_err());
        assert!(Index::parse("entries: {}").is_err());
    }
}
