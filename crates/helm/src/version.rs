//! Versions and version constraints, as Helm's library (Masterminds semver v3) reads them: loosely (`v1`, `1.2`), with
//! wildcard, tilde, caret and hyphen ranges, and pre-releases matched only where the constraint names one.

use std::cmp::Ordering;

const MAX_VERSION_LEN: usize = 256;
const MAX_CONSTRAINT_LEN: usize = 512;
const MAX_GROUPS: usize = 32;

/// A semantic version, read loosely: a leading `v` and missing minor and patch numbers are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// First number.
    pub major: u64,
    /// Second number, 0 when left out.
    pub minor: u64,
    /// Third number, 0 when left out.
    pub patch: u64,
    /// What follows `-`; empty for a release.
    pub pre: String,
    /// What follows `+`; not compared.
    pub metadata: String,
}

impl Version {
    /// Reads a version; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_VERSION_LEN {
            return None;
        }
        let rest = text.strip_prefix('v').unwrap_or(text);
        let (rest, metadata) = match rest.split_once('+') {
            Some((a, m)) => (a, m),
            None => (rest, ""),
        };
        let (numbers, pre) = match rest.split_once('-') {
            Some((n, p)) => (n, p),
            None => (rest, ""),
        };
        if text.contains('+') && !identifiers(metadata) || rest.contains('-') && !identifiers(pre) {
            return None;
        }
        if pre.split('.').any(|p| p.len() > 1 && p.starts_with('0') && p.bytes().all(|b| b.is_ascii_digit())) {
            return None;
        }
        let mut parts = numbers.split('.');
        let mut next = |required: bool| match parts.next() {
            Some(p) if !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()) => p.parse().ok(),
            None if !required => Some(0),
            _ => None,
        };
        let (major, minor, patch) = (next(true)?, next(false)?, next(false)?);
        if parts.next().is_some() {
            return None;
        }
        Some(Self { major, minor, patch, pre: pre.into(), metadata: metadata.into() })
    }
}

fn identifiers(text: &str) -> bool {
    text.split('.').all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre)?;
        }
        if !self.metadata.is_empty() {
            write!(f, "+{}", self.metadata)?;
        }
        Ok(())
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    /// Semantic precedence; build metadata decides only between otherwise equal versions, so that order is total.
    fn cmp(&self, other: &Self) -> Ordering {
        self.precedence(other).then_with(|| self.metadata.cmp(&other.metadata))
    }
}

impl Version {
    fn precedence(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.patch)
            .cmp(&(other.major, other.minor, other.patch))
            .then_with(|| compare_pre(&self.pre, &other.pre))
    }
}

fn compare_pre(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut left, mut right) = (a.split('.'), b.split('.'));
    loop {
        let (x, y) = match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) => (x, y),
        };
        let order = match (x.parse::<u64>(), y.parse::<u64>()) {
            (Ok(m), Ok(n)) => m.cmp(&n),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => x.cmp(y),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Greater,
    Less,
    GreaterEqual,
    LessEqual,
    Tilde,
    Caret,
}

#[derive(Clone, Debug)]
struct Term {
    op: Op,
    con: Version,
    /// Some part was left out or a wildcard.
    dirty: bool,
    minor_dirty: bool,
    patch_dirty: bool,
}

/// A version constraint: groups separated by `||`, terms within a group by spaces or commas.
#[derive(Clone, Debug)]
pub struct Constraint {
    groups: Vec<Vec<Term>>,
}

impl Constraint {
    /// Reads a constraint; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > MAX_CONSTRAINT_LEN {
            return None;
        }
        let groups: Vec<&str> = text.split("||").collect();
        if groups.len() > MAX_GROUPS {
            return None;
        }
        Some(Self { groups: groups.into_iter().map(parse_group).collect::<Option<_>>()? })
    }

    /// Whether a version satisfies this constraint.
    #[must_use]
    pub fn check(&self, v: &Version) -> bool {
        self.groups.iter().any(|group| {
            let pre = group.iter().any(|t| !t.con.pre.is_empty());
            group.iter().all(|t| (v.pre.is_empty() || pre) && t.check(v))
        })
    }
}

/// Whether `version` lies in `constraint`; false when either cannot be read (as Helm decides for dependencies and
/// `kubeVersion`).
#[must_use]
pub fn is_compatible_range(constraint: &str, version: &str) -> bool {
    match (Version::parse(version), Constraint::parse(constraint)) {
        (Some(v), Some(c)) => c.check(&v),
        _ => false,
    }
}

fn parse_group(text: &str) -> Option<Vec<Term>> {
    let mut terms = Vec::new();
    let mut rest = text.trim();
    if rest.is_empty() {
        // Only a wholly empty constraint stands for "any"; Helm's library refuses blanks, which never occur in charts.
        return Some(vec![Term {
            op: Op::Equal,
            con: Version::parse("0.0.0")?,
            dirty: true,
            minor_dirty: false,
            patch_dirty: false,
        }]);
    }
    while !rest.is_empty() {
        let (op, after) = take_op(rest);
        let after = after.trim_start();
        let end = after.find(|c: char| c.is_whitespace() || c == ',' || "=<>!~^".contains(c)).unwrap_or(after.len());
        let (token, tail) = after.split_at(end);
        let trimmed = tail.trim_start();
        // A hyphen range: `1.2 - 2.3`.
        if op == Op::Equal && trimmed.starts_with("- ") && trimmed.len() < tail.len() {
            let high = trimmed[1..].trim_start();
            let end = high.find(|c: char| c.is_whitespace() || c == ',').unwrap_or(high.len());
            terms.push(term(Op::GreaterEqual, token)?);
            terms.push(term(Op::LessEqual, &high[..end])?);
            rest = high[end..].trim_start().trim_start_matches(',').trim_start();
            continue;
        }
        terms.push(term(op, token)?);
        rest = trimmed.strip_prefix(',').unwrap_or(trimmed).trim_start();
    }
    Some(terms)
}

fn take_op(text: &str) -> (Op, &str) {
    for (sign, op) in [
        ("!=", Op::NotEqual),
        (">=", Op::GreaterEqual),
        ("=>", Op::GreaterEqual),
        ("<=", Op::LessEqual),
        ("=<", Op::LessEqual),
        ("~>", Op::Tilde),
        ("=", Op::Equal),
        (">", Op::Greater),
        ("<", Op::Less),
        ("~", Op::Tilde),
        ("^", Op::Caret),
    ] {
        if let Some(rest) = text.strip_prefix(sign) {
            return (op, rest);
        }
    }
    (Op::Equal, text)
}

fn term(op: Op, token: &str) -> Option<Term> {
    let body = token.strip_prefix('v').unwrap_or(token);
    let (numbers, suffix) = match body.find(['-', '+']) {
        Some(i) => body.split_at(i),
        None => (body, ""),
    };
    let pre = suffix.split('+').next().unwrap_or("");
    let is_x = |p: &str| matches!(p, "x" | "X" | "*" | "");
    let mut parts = numbers.split('.');
    let (a, b, c) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    if parts.next().is_some() || numbers.is_empty() {
        return None;
    }
    let (text, dirty, minor_dirty, patch_dirty) = if is_x(a) {
        (format!("0.0.0{pre}"), true, false, false)
    } else if is_x(b) {
        (format!("{a}.0.0{pre}"), true, true, false)
    } else if is_x(c) {
        (format!("{a}.{b}.0{pre}"), true, false, true)
    } else {
        (format!("{a}.{b}.{c}{suffix}"), false, false, false)
    };
    Some(Term { op, con: Version::parse(&text)?, dirty, minor_dirty, patch_dirty })
}

impl Term {
    fn check(&self, v: &Version) -> bool {
        let c = &self.con;
        let order = v.precedence(c);
        match self.op {
            Op::Equal if self.dirty => self.tilde(v),
            Op::Equal => order == Ordering::Equal,
            Op::NotEqual => {
                if self.dirty {
                    if c.major != v.major || (c.minor != v.minor && !self.minor_dirty) {
                        return true;
                    }
                    if self.minor_dirty {
                        return false;
                    }
                    if c.patch != v.patch && !self.patch_dirty {
                        return true;
                    }
                    if self.patch_dirty {
                        return compare_pre(&v.pre, &c.pre) != Ordering::Equal;
                    }
                }
                order != Ordering::Equal
            }
            Op::Greater if self.dirty && v.major != c.major => v.major > c.major,
            Op::Greater if self.dirty && self.minor_dirty => false,
            Op::Greater if self.dirty && self.patch_dirty => v.minor > c.minor,
            Op::Greater => order == Ordering::Greater,
            Op::Less => order == Ordering::Less,
            Op::GreaterEqual => order != Ordering::Less,
            Op::LessEqual if self.dirty => {
                v.major <= c.major && !(v.major == c.major && v.minor > c.minor && !self.minor_dirty)
            }
            Op::LessEqual => order != Ordering::Greater,
            Op::Tilde => self.tilde(v),
            Op::Caret => self.caret(v),
        }
    }

    fn tilde(&self, v: &Version) -> bool {
        let c = &self.con;
        if v.precedence(c) == Ordering::Less {
            return false;
        }
        if (c.major, c.minor, c.patch) == (0, 0, 0) && !self.minor_dirty && !self.patch_dirty {
            return true;
        }
        v.major == c.major && (v.minor == c.minor || self.minor_dirty)
    }

    fn caret(&self, v: &Version) -> bool {
        let c = &self.con;
        if v.precedence(c) == Ordering::Less {
            return false;
        }
        if c.major > 0 || self.minor_dirty {
            return v.major == c.major;
        }
        if v.major > 0 {
            return false;
        }
        if c.minor > 0 || self.patch_dirty {
            return v.minor == c.minor;
        }
        v.minor == 0 && c.patch == v.patch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_loosely_and_ordered_semantically() {
        assert_eq!(Version::parse("v1.2").map(|v| v.to_string()).as_deref(), Some("1.2.0"));
        assert!(
            Version::parse("1.2.3.4").is_none() && Version::parse("latest").is_none() && Version::parse("").is_none()
        );
        let order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.0.1"];
        for pair in order.windows(2) {
            assert!(Version::parse(pair[0]) < Version::parse(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn constraints_match_as_helm_matches_them() {
        for (constraint, version, yes) in [
            ("1.x", "1.9.0", true),
            ("1.x.x", "2.0.0", false),
            ("~1.2.3", "1.2.9", true),
            ("~1.2.3", "1.3.0", false),
            ("^0.2.3", "0.2.9", true),
            ("^0.2.3", "0.3.0", false),
            ("^1.2", "1.9.9", true),
            (">=1.22.0-0", "v1.37.0", true),
            (">=1.22.0-0", "1.30.0-gke.1", true),
            (">=1.22.0", "1.30.0-gke.1", false),
            (">= 1.2 < 2", "1.5.0", true),
            (">= 1.2, < 2", "2.0.0", false),
            ("1.2 - 1.4", "1.4.9", true),
            ("1.2 - 1.4", "1.5.0", false),
            ("<1 || >2", "3.0.0", true),
            ("", "9.9.9", true),
            ("*", "0.1.0", true),
            ("!=1.2.x", "1.2.3", false),
            ("3.0.1", "v3.0.1", true),
            (">1", "1.5.0", false),
            (">1", "2.0.0", true),
            ("<=1", "1.9.0", true),
            ("nonsense", "1.0.0", false),
        ] {
            assert_eq!(is_compatible_range(constraint, version), yes, "{constraint} {version}");
        }
    }
}
