//! Versions as tags and charts write them, and image references taken apart.

use semver::Version;

use crate::model::Step;

/// A version with at least a major number, a leading `v` and missing parts allowed (`v1`, `1.2`); what comes after the
/// numbers counts as a pre-release or as a flavour (`-alpine`), which is not compared.
fn parse(text: &str) -> Option<(Version, String)> {
    let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (numbers, rest) = text.split_at(end);
    let parts: Vec<&str> = numbers.split('.').collect();
    // A bare number of many digits is a date or a build, not a version.
    if parts.len() > 4 || parts.iter().any(|p| p.is_empty() || p.len() > 9) || (parts.len() == 1 && numbers.len() > 4) {
        return None;
    }
    if parts.len() == 1 && !rest.is_empty() && !rest.starts_with(['-', '+']) {
        return None;
    }
    let number = |i: usize| parts.get(i).map_or(Some(0), |p| p.parse().ok());
    let mut version = Version::new(number(0)?, number(1)?, number(2)?);
    let (pre, flavour) = match rest.strip_prefix('-') {
        Some(rest) if is_pre_release(rest) => (rest.split('+').next().unwrap_or_default(), String::new()),
        Some(rest) => ("", rest.to_string()),
        None => ("", rest.trim_start_matches('+').to_string()),
    };
    version.pre = semver::Prerelease::new(pre).unwrap_or_default();
    // A fourth number orders what the first three leave equal.
    Some((version, parts.get(3).map_or(flavour.clone(), |p| format!("{p}.{flavour}"))))
}

fn is_pre_release(text: &str) -> bool {
    ["alpha", "beta", "rc", "pre", "dev", "snapshot", "nightly"].iter().any(|p| text.to_lowercase().starts_with(p))
}

/// How `to` stands to `from`.
#[must_use]
pub fn step(from: &str, to: &str) -> Step {
    let (Some((a, a_rest)), Some((b, b_rest))) = (parse(from), parse(to)) else { return Step::Other };
    if b < a {
        return Step::Downgrade;
    }
    if a == b {
        let fourth = |rest: &str| rest.split('.').next().and_then(|n| n.parse::<u64>().ok());
        return match (fourth(&a_rest), fourth(&b_rest)) {
            (Some(x), Some(y)) if y < x => Step::Downgrade,
            (Some(x), Some(y)) if y > x => Step::Patch,
            _ => Step::Other,
        };
    }
    if a.major != b.major {
        Step::Major
    } else if a.minor != b.minor {
        Step::Minor
    } else {
        Step::Patch
    }
}

/// An image reference taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Image {
    /// Registry and repository.
    pub(crate) name: String,
    pub(crate) tag: String,
    pub(crate) digest: String,
}

impl Image {
    pub(crate) fn parse(text: &str) -> Self {
        let (rest, digest) = text.split_once('@').unwrap_or((text, ""));
        // A colon before the last slash is a registry's port.
        let colon = rest.rfind(':').filter(|c| rest.rfind('/').is_none_or(|slash| slash < *c));
        let (name, tag) = match colon {
            Some(c) => (rest.get(..c).unwrap_or_default(), rest.get(c + 1..).unwrap_or_default()),
            None => (rest, ""),
        };
        Self { name: name.into(), tag: tag.into(), digest: digest.into() }
    }

    /// Tag and digest, the digest cut short.
    pub(crate) fn version(&self) -> String {
        let digest: String = match self.digest.split_once(':') {
            Some((algorithm, hex)) => format!("{algorithm}:{}", hex.get(..12).unwrap_or(hex)),
            None => self.digest.clone(),
        };
        match (self.tag.as_str(), digest.as_str()) {
            ("", "") => "latest".to_string(),
            (tag, "") => tag.to_string(),
            ("", digest) => format!("@{digest}"),
            (tag, digest) => format!("{tag}@{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_stand_to_each_other_as_people_see_them() {
        for (from, to, expected) in [
            ("1.2.3", "1.2.4", Step::Patch),
            ("v1.2", "v1.3.0", Step::Minor),
            ("1", "2", Step::Major),
            ("3.7.3", "3.7.1", Step::Downgrade),
            ("16.4-alpine", "16.5-alpine", Step::Minor),
            ("1.0.0-rc.1", "1.0.0", Step::Patch),
            ("1.0.0", "1.0.0-rc.1", Step::Downgrade),
            ("4.0.5.2250", "4.0.5.2300", Step::Patch),
            ("4.0.5.2300-ls1", "4.0.5.2250-ls2", Step::Downgrade),
            ("latest", "1.2.3", Step::Other),
            ("20240101", "20230101", Step::Other),
            ("1.2.3-alpine", "1.2.3-bookworm", Step::Other),
            ("2024.4.1", "2026.8.0", Step::Major),
            ("3f2a1b9", "1c2d3e4", Step::Other),
        ] {
            assert_eq!(step(from, to), expected, "{from} -> {to}");
        }
    }

    #[test]
    fn images_are_taken_apart() {
        let all = Image::parse("localhost:5000/a/b:1.2@sha256:0123456789abcdef");
        assert_eq!((all.name.as_str(), all.tag.as_str()), ("localhost:5000/a/b", "1.2"));
        assert_eq!(all.version(), "1.2@sha256:0123456789ab");
        assert_eq!(Image::parse("localhost:5000/a").version(), "latest");
        assert_eq!(Image::parse("nginx@sha256:00").version(), "@sha256:00");
    }
}
