//! Slash-separated paths: Go's `path`, and `path/filepath` on Unix (which is the same for these functions).

use crate::val::Val;

use super::Entry;
use super::args::{Args, Res};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("base", |_, a| text("base", a, base)),
    ("dir", |_, a| text("dir", a, dir)),
    ("clean", |_, a| text("clean", a, clean)),
    ("ext", |_, a| text("ext", a, ext)),
    ("isAbs", |_, a| absolute("isAbs", a)),
    ("osBase", |_, a| text("osBase", a, base)),
    ("osDir", |_, a| text("osDir", a, dir)),
    ("osClean", |_, a| text("osClean", a, clean)),
    ("osExt", |_, a| text("osExt", a, ext)),
    ("osIsAbs", |_, a| absolute("osIsAbs", a)),
];

fn text(name: &str, a: &[Val], f: impl Fn(&str) -> String) -> Res {
    Ok(Val::str(f(Args::exact(name, a, 1)?.str(0)?)))
}

fn absolute(name: &str, a: &[Val]) -> Res {
    Ok(Val::Bool(Args::exact(name, a, 1)?.str(0)?.starts_with('/')))
}

/// The last element, without trailing slashes: `.` for nothing, `/` for only slashes.
#[must_use]
pub fn base(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let trimmed = path.trim_end_matches('/');
    let last = trimmed.rsplit('/').next().unwrap_or("");
    if last.is_empty() { "/".to_owned() } else { last.to_owned() }
}

/// All but the last element, cleaned.
#[must_use]
pub fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |i| path.get(..=i).unwrap_or("")))
}

/// The shortest equivalent path, by its text alone.
#[must_use]
pub fn clean(path: &str) -> String {
    if path.is_empty() {
        return ".".to_owned();
    }
    let rooted = path.starts_with('/');
    let mut out: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match out.last() {
                Some(&last) if last != ".." => {
                    out.pop();
                }
                _ if rooted => {}
                _ => out.push(".."),
            },
            part => out.push(part),
        }
    }
    let joined = out.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// The extension with its dot.
#[must_use]
pub fn ext(path: &str) -> String {
    let last = path.rsplit('/').next().unwrap_or("");
    last.rfind('.').map_or(String::new(), |i| last.get(i..).unwrap_or("").to_owned())
}
