//! The functions on semantic versions (the rules are in [`crate::semver`]).

use std::any::Any;
use std::cmp::Ordering;
use std::rc::Rc;

use druse_object::Value;

use crate::env::{Env, FuncError};
use crate::semver::{Constraint, SemverError, Version};
use crate::val::{GoObject, Val};

use super::args::{Args, Res, err};
use super::{Entry, gofmt};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[("semver", semver), ("semverCompare", semver_compare)];

impl From<SemverError> for FuncError {
    fn from(e: SemverError) -> Self {
        Self(e.0)
    }
}

fn semver(_: &mut Env<'_>, a: &[Val]) -> Res {
    let args = Args::exact("semver", a, 1)?;
    let text = args.str(0)?;
    let version = Version::parse(text)?;
    Ok(Val::Object(Rc::new(SemVer { version, original: text.to_owned(), pointer: true })))
}

fn semver_compare(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("semverCompare", a, 2)?;
    let (constraint, version) = (a.str(0)?, a.str(1)?);
    Ok(Val::Bool(Constraint::parse(constraint)?.check(&Version::parse(version)?)))
}

/// A version in a template: `*semver.Version`, or `semver.Version` (which has fewer methods) where one is derived.
pub struct SemVer {
    version: Version,
    /// As it was written.
    original: String,
    pointer: bool,
}

impl SemVer {
    /// A version derived from this one; it keeps its `v`.
    fn derived(&self, version: Version) -> Val {
        let original = format!("{}{version}", if self.original.starts_with('v') { "v" } else { "" });
        Val::Object(Rc::new(SemVer { version, original, pointer: false }))
    }

    fn next(&self, major: u64, minor: u64, patch: u64) -> Val {
        self.derived(Version { major, minor, patch, pre: String::new(), metadata: String::new() })
    }
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
        Some(Ok(match name {
            "Major" => Val::UInt64(v.major),
            "Minor" => Val::UInt64(v.minor),
            "Patch" => Val::UInt64(v.patch),
            "Prerelease" => Val::str(v.pre.as_str()),
            "Metadata" => Val::str(v.metadata.as_str()),
            "Original" if self.pointer => Val::str(self.original.as_str()),
            "String" => Val::str(v.to_string()),
            "IncMajor" => self.next(v.major.saturating_add(1), 0, 0),
            "IncMinor" => self.next(v.major, v.minor.saturating_add(1), 0),
            "IncPatch" => {
                let patch = if v.pre.is_empty() { v.patch.saturating_add(1) } else { v.patch };
                self.next(v.major, v.minor, patch)
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
                    Ok(self.derived(v))
                }
                _ => err(format!("wrong number of args for {name}: want 1 got {}", args.len())),
            },
            _ => return None,
        })
    }
    fn display(&self) -> String {
        self.version.to_string()
    }
    fn to_value(&self) -> Value {
        Value::from(self.version.to_string())
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
