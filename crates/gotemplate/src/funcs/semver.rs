//! Semantic versions and constraints, as `Masterminds/semver` v3.5 reads and compares them.

use std::any::Any;
use std::cmp::Ordering;
use std::rc::Rc;
use std::sync::LazyLock;

use druse_object::Value;
use regex::Regex;

use crate::env::{Env, FuncError};
use crate::val::{GoObject, Val};

use super::args::{Args, Res, err};
use super::{Entry, gofmt};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[("semver", semver), ("semverCompare", semver_compare)];

/// A version. Comparing ignores metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Major.
    pub major: u64,
    /// Minor; 0 when left out.
    pub minor: u64,
    /// Patch; 0 when left out.
    pub patch: u64,
    /// The part after `-`, empty for a release.
    pub pre: String,
    /// The part after `+`.
    pub metadata: String,
    /// As it was written.
    pub original: String,
}

const MAX_VERSION: usize = 256;
const MAX_CONSTRAINT: usize = 512;
const MAX_GROUPS: usize = 32;

/// A pattern of this module; they are all fixed and valid.
fn fixed(pattern: &str) -> Option<Regex> {
    Regex::new(pattern).ok()
}

const TAIL: &str = r"(-([0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*))?(\+([0-9A-Za-z\-]+(\.[0-9A-Za-z\-]+)*))?";
const OPERATORS: &str = r"=||!=|>|<|>=|=>|<=|=<|~|~>|\^";

static VERSION: LazyLock<Option<Regex>> =
    LazyLock::new(|| fixed(&format!(r"^v?([0-9]+)(\.[0-9]+)?(\.[0-9]+)?{TAIL}$")));

fn partial() -> String {
    format!(r"v?([0-9|x|X|\*]+)(\.[0-9|x|X|\*]+)?(\.[0-9|x|X|\*]+)?{TAIL}")
}

static ONE: LazyLock<Option<Regex>> = LazyLock::new(|| fixed(&format!(r"^\s*({OPERATORS})\s*({})\s*$", partial())));
static FIND: LazyLock<Option<Regex>> = LazyLock::new(|| fixed(&format!(r"({OPERATORS})\s*({})", partial())));
static VALID: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let p = partial();
    fixed(&format!(r"^(\s*({OPERATORS})\s*({p})\s*)((?:\s+|,\s*)({OPERATORS})\s*({p})\s*)*$"))
});
static RANGE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let p = partial();
    fixed(&format!(r"\s*({p})\s+-\s+({p})\s*"))
});

fn number(text: &str) -> Result<u64, FuncError> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        FuncError(format!(
            "error parsing version segment: strconv.ParseUint: parsing {}: value out of range",
            gofmt::quote(text)
        ))
    })
}

fn check_pre(pre: &str) -> Result<(), FuncError> {
    for part in pre.split('.') {
        if part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit()) {
            return err("version segment starts with 0");
        }
    }
    Ok(())
}

impl Version {
    /// Reads a version, with or without `v`, minor and patch.
    ///
    /// # Errors
    /// When the text is not a version; Go's message.
    pub fn parse(text: &str) -> Result<Self, FuncError> {
        if text.len() > MAX_VERSION {
            return err(format!("version string is too long (max {MAX_VERSION} bytes)"));
        }
        let Some(m) = VERSION.as_ref().and_then(|r| r.captures(text)) else {
            return err("invalid semantic version");
        };
        let part = |i: usize| m.get(i).map_or("", |m| m.as_str());
        let pre = part(5);
        let version = Self {
            major: number(part(1))?,
            minor: number(part(2).trim_start_matches('.'))?,
            patch: number(part(3).trim_start_matches('.'))?,
            pre: pre.to_owned(),
            metadata: part(8).to_owned(),
            original: text.to_owned(),
        };
        if !pre.is_empty() {
            check_pre(pre)?;
        }
        Ok(version)
    }

    fn text(&self) -> String {
        let mut out = format!("{}.{}.{}", self.major, self.minor, self.patch);
        if !self.pre.is_empty() {
            out.push('-');
            out.push_str(&self.pre);
        }
        if !self.metadata.is_empty() {
            out.push('+');
            out.push_str(&self.metadata);
        }
        out
    }

    /// Precedence: a prerelease comes before its release.
    #[must_use]
    pub fn precedence(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.patch).cmp(&(other.major, other.minor, other.patch)).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => compare_pre(&self.pre, &other.pre),
            }
        })
    }

    fn next(&self, major: u64, minor: u64, patch: u64) -> Self {
        let mut next =
            Self { major, minor, patch, pre: String::new(), metadata: String::new(), original: String::new() };
        next.original = format!("{}{}", if self.original.starts_with('v') { "v" } else { "" }, next.text());
        next
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text())
    }
}

fn compare_pre(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x == y => {}
            (Some(x), Some(y)) => {
                return match (x.parse::<u64>(), y.parse::<u64>()) {
                    (Ok(x), Ok(y)) => x.cmp(&y),
                    (Ok(_), Err(_)) => Ordering::Less,
                    (Err(_), Ok(_)) => Ordering::Greater,
                    (Err(_), Err(_)) => x.cmp(y),
                };
            }
        }
    }
}

/// One comparison.
struct Constraint {
    op: String,
    version: Version,
    /// The version left out its minor part, or has a wildcard there.
    minor_dirty: bool,
    /// As `minor_dirty`, for the patch part alone.
    patch_dirty: bool,
    /// Any part is left out.
    dirty: bool,
}

/// Comparisons of which one group (`||`) has to hold in all its parts.
pub struct Constraints(Vec<Vec<Constraint>>);

fn is_wild(part: &str) -> bool {
    matches!(part.trim_start_matches('.'), "" | "x" | "X" | "*")
}

impl Constraint {
    fn parse(text: &str) -> Result<Self, FuncError> {
        let invalid = || FuncError(format!("improper constraint: {}", gofmt::quote(text)));
        if text.is_empty() {
            let version = Version::parse("0.0.0")?;
            return Ok(Self { op: String::new(), version, minor_dirty: false, patch_dirty: false, dirty: true });
        }
        let m = ONE.as_ref().and_then(|r| r.captures(text)).ok_or_else(invalid)?;
        let part = |i: usize| m.get(i).map_or("", |m| m.as_str());
        let (major, minor, patch, pre) = (part(3), part(4), part(5), part(6));
        let (mut minor_dirty, mut patch_dirty, mut dirty) = (false, false, true);
        let version = if is_wild(major) {
            format!("0.0.0{pre}")
        } else if is_wild(minor) {
            minor_dirty = true;
            format!("{major}.0.0{pre}")
        } else if is_wild(patch) {
            patch_dirty = true;
            format!("{major}{minor}.0{pre}")
        } else {
            dirty = false;
            part(2).to_owned()
        };
        let version = Version::parse(&version).map_err(|_| FuncError::new("constraint parser error"))?;
        Ok(Self { op: part(1).to_owned(), version, minor_dirty, patch_dirty, dirty })
    }

    fn check(&self, v: &Version, prereleases: bool) -> bool {
        if !v.pre.is_empty() && !prereleases {
            return false;
        }
        let c = &self.version;
        let order = v.precedence(c);
        match self.op.as_str() {
            "!=" => self.not_equal(v),
            ">" => self.greater(v, order),
            "<" => order.is_lt(),
            ">=" | "=>" => order.is_ge(),
            "<=" | "=<" => {
                if self.dirty {
                    !(v.major > c.major || v.major == c.major && v.minor > c.minor && !self.minor_dirty)
                } else {
                    order.is_le()
                }
            }
            "~" | "~>" => self.tilde(v, order),
            "^" => self.caret(v, order),
            _ if self.dirty => self.tilde(v, order),
            _ => order.is_eq(),
        }
    }

    fn not_equal(&self, v: &Version) -> bool {
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
                return (!v.pre.is_empty() || !c.pre.is_empty()) && compare_pre(&v.pre, &c.pre).is_ne();
            }
            if c.patch != v.patch {
                return true;
            }
        }
        v.precedence(c).is_ne()
    }

    fn greater(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if !self.dirty || v.major == c.major && !self.minor_dirty && !self.patch_dirty {
            return order.is_gt();
        }
        if v.major != c.major {
            return v.major > c.major;
        }
        // 11.1.0 is not above >11, 11.1.1 not above >11.1.
        !self.minor_dirty && v.minor > c.minor
    }

    fn tilde(&self, v: &Version, order: Ordering) -> bool {
        let c = &self.version;
        if order.is_lt() {
            return false;
        }
        if c.major == 0 && c.minor == 0 && c.patch == 0 && !self.minor_dirty && !self.patch_dirty {
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

impl Constraints {
    /// Reads a constraint.
    ///
    /// # Errors
    /// When the text is not one; Go's message.
    pub fn parse(text: &str) -> Result<Self, FuncError> {
        if text.len() > MAX_CONSTRAINT {
            return err(format!("constraint string is too long (max {MAX_CONSTRAINT} bytes)"));
        }
        let mut rewritten = text.to_owned();
        if let Some(r) = RANGE.as_ref() {
            for m in r.captures_iter(text) {
                let part = |i: usize| m.get(i).map_or("", |m| m.as_str());
                rewritten = rewritten.replacen(part(0), &format!(">= {}, <= {} ", part(1), part(11)), 1);
            }
        }
        let groups: Vec<&str> = rewritten.split("||").collect();
        if groups.len() > MAX_GROUPS {
            return err(format!("too many constraint groups (max {MAX_GROUPS})"));
        }
        let mut out = Vec::with_capacity(groups.len());
        for group in groups {
            if !VALID.as_ref().is_some_and(|r| r.is_match(group)) {
                return err(format!("improper constraint: {}", gofmt::quote(group)));
            }
            let mut all = Vec::new();
            if let Some(r) = FIND.as_ref() {
                for m in r.find_iter(group) {
                    all.push(Constraint::parse(m.as_str())?);
                }
            }
            if all.is_empty() {
                all.push(Constraint::parse(group)?);
            }
            out.push(all);
        }
        Ok(Self(out))
    }

    /// Whether a version satisfies them. A prerelease only does when a comparison of the group names one.
    #[must_use]
    pub fn check(&self, v: &Version) -> bool {
        self.0.iter().any(|group| {
            let prereleases = group.iter().any(|c| !c.version.pre.is_empty());
            group.iter().all(|c| c.check(v, prereleases))
        })
    }
}

fn semver(_: &mut Env<'_>, a: &[Val]) -> Res {
    let version = Version::parse(Args::exact("semver", a, 1)?.str(0)?)?;
    Ok(Val::Object(Rc::new(SemVer { version, pointer: true })))
}

fn semver_compare(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("semverCompare", a, 2)?;
    let (constraint, version) = (a.str(0)?, a.str(1)?);
    Ok(Val::Bool(Constraints::parse(constraint)?.check(&Version::parse(version)?)))
}

/// A version in a template: `*semver.Version`, or `semver.Version` (which has fewer methods) where one is derived.
pub struct SemVer {
    version: Version,
    pointer: bool,
}

impl GoObject for SemVer {
    fn type_name(&self) -> &str {
        if self.pointer { "*semver.Version" } else { "semver.Version" }
    }
    fn kind(&self) -> &str {
        if self.pointer { "ptr" } else { "struct" }
    }
    fn field(&self, name: &str, _: &mut Env<'_>) -> Option<Res> {
        let v = &self.version;
        let version = |version: Version| Val::Object(Rc::new(SemVer { version, pointer: false }));
        Some(Ok(match name {
            "Major" => Val::UInt64(v.major),
            "Minor" => Val::UInt64(v.minor),
            "Patch" => Val::UInt64(v.patch),
            "Prerelease" => Val::str(v.pre.as_str()),
            "Metadata" => Val::str(v.metadata.as_str()),
            "Original" if self.pointer => Val::str(v.original.as_str()),
            "String" => Val::str(v.text()),
            "IncMajor" => version(v.next(v.major.saturating_add(1), 0, 0)),
            "IncMinor" => version(v.next(v.major, v.minor.saturating_add(1), 0)),
            "IncPatch" => {
                let patch = if v.pre.is_empty() { v.patch.saturating_add(1) } else { v.patch };
                version(v.next(v.major, v.minor, patch))
            }
            _ => return None,
        }))
    }
    fn call(&self, name: &str, args: &[Val], env: &mut Env<'_>) -> Option<Res> {
        if args.is_empty() {
            return self.field(name, env);
        }
        let other = || match args {
            [Val::Object(o)] => match o.as_any().downcast_ref::<SemVer>() {
                Some(v) if v.pointer => Ok(self.version.precedence(&v.version)),
                _ => err(format!("wrong type for value; expected *semver.Version; got {}", o.type_name())),
            },
            [v] => err(format!("wrong type for value; expected *semver.Version; got {}", gofmt::type_name(v))),
            _ => err(format!("wrong number of args for {name}: want 1 got {}", args.len())),
        };
        let setter = matches!(name, "SetPrerelease" | "SetMetadata");
        if !self.pointer && !setter {
            return None;
        }
        let test = |f: fn(Ordering) -> bool| other().map(|o| Val::Bool(f(o)));
        Some(match name {
            "Compare" => other().map(|o| Val::Int(o as i64)),
            "LessThan" => test(Ordering::is_lt),
            "LessThanEqual" => test(Ordering::is_le),
            "GreaterThan" => test(Ordering::is_gt),
            "GreaterThanEqual" => test(Ordering::is_ge),
            "Equal" => test(Ordering::is_eq),
            "SetPrerelease" | "SetMetadata" => match args {
                [Val::Str(s)] => {
                    let mut v = self.version.clone();
                    if name == "SetPrerelease" { &mut v.pre } else { &mut v.metadata }.clone_from(&s.to_string());
                    v.original = format!("{}{}", if v.original.starts_with('v') { "v" } else { "" }, v.text());
                    Ok(Val::Object(Rc::new(SemVer { version: v, pointer: false })))
                }
                _ => err(format!("wrong number of args for {name}: want 1 got {}", args.len())),
            },
            _ => return None,
        })
    }
    fn display(&self) -> String {
        self.version.text()
    }
    fn to_value(&self) -> Value {
        Value::from(self.version.text())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
