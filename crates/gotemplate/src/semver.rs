//! Semantic versions and constraints, as `Masterminds/semver` v3.5 reads and compares them: loosely (`v1`, `1.2`), with
//! wildcard, tilde, caret and hyphen ranges, and pre-releases matched only where the constraint names one.

use std::cmp::Ordering;
use std::fmt;

use crate::strconv::quote;

const MAX_VERSION: usize = 256;
const MAX_CONSTRAINT: usize = 512;
const MAX_GROUPS: usize = 32;

/// Text that is no version or no constraint; Go's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SemverError(pub String);

impl fmt::Display for SemverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SemverError {}

fn err<T>(message: impl Into<String>) -> Result<T, SemverError> {
    Err(SemverError(message.into()))
}

/// A semantic version, read loosely: a leading `v` and missing minor and patch numbers are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// First number.
    pub major: u64,
    /// Second number; 0 when left out.
    pub minor: u64,
    /// Third number; 0 when left out.
    pub patch: u64,
    /// What follows `-`; empty for a release.
    pub pre: String,
    /// What follows `+`; not compared.
    pub metadata: String,
}

/// The parts of a version as written; numbers may be wildcards where those are allowed.
struct Parts<'a> {
    /// Without the dot in front; empty when left out.
    numbers: [&'a str; 3],
    pre: &'a str,
    metadata: &'a str,
    /// How many bytes all of it has.
    len: usize,
}

impl<'a> Parts<'a> {
    /// The longest version at the start of `text`, its numbers made of characters that `number` accepts.
    fn read(text: &'a str, number: fn(u8) -> bool) -> Option<Self> {
        let b = text.as_bytes();
        let run = |from: usize, ok: fn(u8) -> bool| {
            b.get(from..).map_or(from, |r| from + r.iter().take_while(|c| ok(**c)).count())
        };
        let cut = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
        let mut at = usize::from(b.first() == Some(&b'v'));
        let mut numbers = [""; 3];
        for (i, slot) in numbers.iter_mut().enumerate() {
            let from = if i == 0 { at } else { at + 1 };
            if i > 0 && b.get(at) != Some(&b'.') {
                break;
            }
            let to = run(from, number);
            if to == from {
                if i == 0 {
                    return None;
                }
                break;
            }
            *slot = cut(from, to);
            at = to;
        }
        let mut tail = |mark: u8| {
            if b.get(at) != Some(&mark) {
                return "";
            }
            let from = at + 1;
            let mut end = run(from, is_identifier);
            if end == from {
                return "";
            }
            while b.get(end) == Some(&b'.') && run(end + 1, is_identifier) > end + 1 {
                end = run(end + 1, is_identifier);
            }
            at = end;
            cut(from, end)
        };
        let (pre, metadata) = (tail(b'-'), tail(b'+'));
        Some(Self { numbers, pre, metadata, len: at })
    }
}

fn is_identifier(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'-'
}

fn number(text: &str) -> Result<u64, SemverError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        SemverError(format!(
            "error parsing version segment: strconv.ParseUint: parsing {}: value out of range",
            quote(text)
        ))
    })
}

impl Version {
    /// Reads a version.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn parse(text: &str) -> Result<Self, SemverError> {
        if text.len() > MAX_VERSION {
            return err(format!("version string is too long (max {MAX_VERSION} bytes)"));
        }
        let Some(parts) = Parts::read(text, |c| c.is_ascii_digit()).filter(|p| p.len == text.len()) else {
            return err("invalid semantic version");
        };
        let [major, minor, patch] = parts.numbers;
        let version = Self {
            major: number(major)?,
            minor: number(minor)?,
            patch: number(patch)?,
            pre: parts.pre.to_owned(),
            metadata: parts.metadata.to_owned(),
        };
        if version.pre.split('.').any(|p| p.len() > 1 && p.starts_with('0') && p.bytes().all(|b| b.is_ascii_digit())) {
            return err("version segment starts with 0");
        }
        Ok(version)
    }

    /// Precedence: a pre-release comes before its release, metadata does not count.
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.patch)
            .cmp(&(other.major, other.minor, other.patch))
            .then_with(|| compare_pre(&self.pre, &other.pre))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)?;
        for (mark, text) in [('-', &self.pre), ('+', &self.metadata)] {
            if !text.is_empty() {
                write!(f, "{mark}{text}")?;
            }
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
    /// Precedence; metadata decides only between otherwise equal versions, so that the order is total.
    fn cmp(&self, other: &Self) -> Ordering {
        self.precedence(other).then_with(|| self.metadata.cmp(&other.metadata))
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
        if order.is_ne() {
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

/// Operators as written, longer ones before those they start with.
const OPS: [(&str, Op); 12] = [
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
    ("", Op::Equal),
];

/// One comparison.
#[derive(Clone, Debug)]
struct Term {
    op: Op,
    version: Version,
    /// Some part is left out or a wildcard.
    dirty: bool,
    /// The minor part is.
    minor_dirty: bool,
    /// The patch part alone is.
    patch_dirty: bool,
}

/// A version constraint: groups separated by `||`, of which one has to hold in all its comparisons.
#[derive(Clone, Debug)]
pub struct Constraint(Vec<Vec<Term>>);

fn wild(c: u8) -> bool {
    c.is_ascii_digit() || matches!(c, b'x' | b'X' | b'*' | b'|')
}

fn open(part: &str) -> bool {
    matches!(part, "" | "x" | "X" | "*")
}

/// Go's `\s`.
fn trim(text: &str) -> &str {
    text.trim_start_matches(is_space)
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

/// `A - B` as `>= A, <= B`, wherever it stands.
fn rewrite_ranges(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    'rest: while !rest.is_empty() {
        if let Some(low) = Parts::read(rest, wild)
            && let Some((a, after)) = rest.split_at_checked(low.len)
            && let Some(after) = Some(trim(after)).filter(|t| t.len() < after.len())
            && let Some(after) = after.strip_prefix('-')
            && let Some(after) = Some(trim(after)).filter(|t| t.len() < after.len())
            && let Some(high) = Parts::read(after, wild)
            && let Some((b, after)) = after.split_at_checked(high.len)
        {
            out.push_str(&format!(">= {a}, <= {b} "));
            rest = trim(after);
            continue 'rest;
        }
        let mut chars = rest.chars();
        out.extend(chars.next());
        rest = chars.as_str();
    }
    out
}

impl Constraint {
    /// Reads a constraint.
    ///
    /// # Errors
    /// When the text is not one.
    pub fn parse(text: &str) -> Result<Self, SemverError> {
        if text.len() > MAX_CONSTRAINT {
            return err(format!("constraint string is too long (max {MAX_CONSTRAINT} bytes)"));
        }
        let rewritten = if text.contains('-') { rewrite_ranges(text) } else { text.to_owned() };
        let groups: Vec<&str> = rewritten.split("||").collect();
        if groups.len() > MAX_GROUPS {
            return err(format!("too many constraint groups (max {MAX_GROUPS})"));
        }
        Ok(Self(groups.into_iter().map(group).collect::<Result<_, _>>()?))
    }

    /// Whether a version satisfies it. A pre-release only does when a comparison of the group names one.
    #[must_use]
    pub fn check(&self, v: &Version) -> bool {
        self.0.iter().any(|group| {
            let pre = group.iter().any(|t| !t.version.pre.is_empty());
            group.iter().all(|t| (v.pre.is_empty() || pre) && t.check(v))
        })
    }
}

/// Comparisons separated by blanks or commas.
fn group(text: &str) -> Result<Vec<Term>, SemverError> {
    let improper = || SemverError(format!("improper constraint: {}", quote(text)));
    let mut parts: Vec<(Op, &str, Parts<'_>)> = Vec::new();
    let mut rest = trim(text);
    loop {
        let (op, after) =
            OPS.iter().find_map(|(sign, op)| Some((*op, rest.strip_prefix(sign)?))).ok_or_else(improper)?;
        let after = trim(after);
        let version = Parts::read(after, wild).ok_or_else(improper)?;
        let (written, after) = after.split_at_checked(version.len).ok_or_else(improper)?;
        parts.push((op, written, version));
        let next = trim(after);
        if next.is_empty() {
            break;
        }
        rest = match next.strip_prefix(',') {
            Some(next) => trim(next),
            None if next.len() < after.len() => next,
            None => return Err(improper()),
        };
    }
    parts.into_iter().map(|(op, written, parts)| term(op, written, &parts)).collect()
}

fn term(op: Op, written: &str, parts: &Parts<'_>) -> Result<Term, SemverError> {
    let [major, minor, patch] = parts.numbers;
    let pre = if parts.pre.is_empty() { String::new() } else { format!("-{}", parts.pre) };
    let (text, dirty, minor_dirty, patch_dirty) = if open(major) {
        (format!("0.0.0{pre}"), true, false, false)
    } else if open(minor) {
        (format!("{major}.0.0{pre}"), true, true, false)
    } else if open(patch) {
        (format!("{major}.{minor}.0{pre}"), true, false, true)
    } else {
        (written.to_owned(), false, false, false)
    };
    let version = Version::parse(&text).map_err(|_| SemverError("constraint parser error".into()))?;
    Ok(Term { op, version, dirty, minor_dirty, patch_dirty })
}

impl Term {
    fn check(&self, v: &Version) -> bool {
        let c = &self.version;
        let order = v.precedence(c);
        match self.op {
            Op::Equal if self.dirty => self.tilde(v, order),
            Op::Equal => order.is_eq(),
            Op::NotEqual => self.not_equal(v, order),
            // 11.1.0 is not above >11, 11.1.1 not above >11.1.
            Op::Greater if self.dirty && v.major != c.major => v.major > c.major,
            Op::Greater if self.minor_dirty => false,
            Op::Greater if self.patch_dirty => v.minor > c.minor,
            Op::Greater => order.is_gt(),
            Op::Less => order.is_lt(),
            Op::GreaterEqual => order.is_ge(),
            Op::LessEqual if self.dirty => {
                !(v.major > c.major || v.major == c.major && v.minor > c.minor && !self.minor_dirty)
            }
            Op::LessEqual => order.is_le(),
            Op::Tilde => self.tilde(v, order),
            Op::Caret => self.caret(v, order),
        }
    }

    fn not_equal(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if self.dirty {
            if c.major != v.major {
                return true;
            }
            if self.minor_dirty {
                return false;
            }
            if c.minor != v.minor {
                return true;
            }
            if self.patch_dirty {
                return compare_pre(&v.pre, &c.pre).is_ne();
            }
        }
        order.is_ne()
    }

    fn tilde(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if order.is_lt() {
            return false;
        }
        if (c.major, c.minor, c.patch) == (0, 0, 0) && !self.minor_dirty && !self.patch_dirty {
            return true;
        }
        v.major == c.major && (v.minor == c.minor || self.minor_dirty)
    }

    fn caret(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if order.is_lt() {
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
        v.minor == 0 && v.patch == c.patch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Option<Version> {
        Version::parse(text).ok()
    }

    #[test]
    fn versions_are_read_loosely_and_ordered_semantically() {
        assert_eq!(version("v1.2").map(|v| v.to_string()).as_deref(), Some("1.2.0"));
        for odd in ["1.2.3.4", "latest", "", "1.", "1.2.3-", "1.2.3-a..b", "1.2.3-01", "1.2.3+", "V1"] {
            assert!(version(odd).is_none(), "{odd}");
        }
        let order = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "1.0.1"];
        for pair in order.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
    }

    #[test]
    fn constraints_match_as_masterminds_matches_them() {
        for (constraint, tried, yes) in [
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
            (" 1.2  -  1.4 || 3.x ", "3.1.0", true),
            ("<1 || >2", "3.0.0", true),
            ("*", "0.1.0", true),
            ("!=1.2.x", "1.2.3", false),
            ("3.0.1", "v3.0.1", true),
            (">1", "1.5.0", false),
            (">1", "2.0.0", true),
            ("<=1", "1.9.0", true),
        ] {
            let constraint = Constraint::parse(constraint).map_err(|e| format!("{constraint}: {e}")).unwrap();
            assert_eq!(constraint.check(&version(tried).unwrap()), yes, "{constraint:?} {tried}");
        }
    }

    #[test]
    fn what_is_no_constraint_is_refused_in_gos_words() {
        for (odd, message) in [
            ("", "improper constraint: \"\""),
            (">=1.2<2", "improper constraint: \">=1.2<2\""),
            ("nonsense", "improper constraint: \"nonsense\""),
            ("1.0 ||", "improper constraint: \"\""),
            ("1x", "constraint parser error"),
        ] {
            assert_eq!(Constraint::parse(odd).unwrap_err().0, message, "{odd}");
        }
    }
}
