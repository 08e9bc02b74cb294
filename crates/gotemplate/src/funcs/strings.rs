//! Strings: sprig's `strings.go` and the `strings` functions it exposes.

use crate::env::Env;
use crate::val::{MapRef, Val};

use super::args::{Args, MAX_LIST, Res, bounded, err};
use super::{Entry, bytes, gofmt, words};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("hello", |_, a| Args::exact("hello", a, 0).map(|_| Val::str("Hello!"))),
    ("trim", |_, a| text1("trim", a, |s| s.trim().into())),
    ("upper", |_, a| text1("upper", a, upper)),
    ("lower", |_, a| text1("lower", a, lower)),
    ("title", |_, a| text1("title", a, words::title)),
    ("untitle", |_, a| text1("untitle", a, words::untitle)),
    ("nospace", |_, a| text1("nospace", a, words::nospace)),
    ("initials", |_, a| text1("initials", a, words::initials)),
    ("swapcase", |_, a| text1("swapcase", a, words::swapcase)),
    ("snakecase", |_, a| text1("snakecase", a, |s| words::separated(s, '_'))),
    ("kebabcase", |_, a| text1("kebabcase", a, |s| words::separated(s, '-'))),
    ("camelcase", |_, a| text1("camelcase", a, words::pascal)),
    ("trimall", |_, a| text2("trimall", a, trim_all)),
    ("trimAll", |_, a| text2("trimAll", a, trim_all)),
    ("trimSuffix", |_, a| text2("trimSuffix", a, |x, s| s.strip_suffix(x).unwrap_or(s).into())),
    ("trimPrefix", |_, a| text2("trimPrefix", a, |x, s| s.strip_prefix(x).unwrap_or(s).into())),
    ("contains", |_, a| test2("contains", a, |x, s| s.contains(x))),
    ("hasPrefix", |_, a| test2("hasPrefix", a, |x, s| s.starts_with(x))),
    ("hasSuffix", |_, a| test2("hasSuffix", a, |x, s| s.ends_with(x))),
    ("abbrev", abbrev),
    ("abbrevboth", abbrevboth),
    ("trunc", trunc),
    ("substr", substr),
    ("repeat", repeat),
    ("wrap", wrap),
    ("wrapWith", wrap_with),
    ("quote", quote),
    ("squote", squote),
    ("cat", cat),
    ("indent", |_, a| indent_with("indent", "", a)),
    ("nindent", |_, a| indent_with("nindent", "\n", a)),
    ("replace", replace),
    ("plural", plural),
    ("toString", to_string),
    ("toStrings", to_strings),
    ("join", join),
    ("sortAlpha", sort_alpha),
    ("split", split),
    ("splitn", splitn),
    ("splitList", split_list),
];

fn text1(name: &str, a: &[Val], f: impl Fn(&str) -> String) -> Res {
    let a = Args::exact(name, a, 1)?;
    Ok(Val::str(f(a.str(0)?)))
}

fn text2(name: &str, a: &[Val], f: impl Fn(&str, &str) -> String) -> Res {
    let a = Args::exact(name, a, 2)?;
    Ok(Val::str(f(a.str(0)?, a.str(1)?)))
}

fn test2(name: &str, a: &[Val], f: impl Fn(&str, &str) -> bool) -> Res {
    let a = Args::exact(name, a, 2)?;
    Ok(Val::Bool(f(a.str(0)?, a.str(1)?)))
}

/// Go maps case character by character; a mapping to several characters does not happen there.
pub(crate) fn upper_char(c: char) -> char {
    let mut all = c.to_uppercase();
    match (all.next(), all.next()) {
        (Some(u), None) => u,
        _ => c,
    }
}

pub(crate) fn lower_char(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

fn upper(s: &str) -> String {
    s.chars().map(upper_char).collect()
}

fn lower(s: &str) -> String {
    s.chars().map(lower_char).collect()
}

fn trim_all(cut: &str, s: &str) -> String {
    s.trim_matches(|c| cut.contains(c)).to_owned()
}

fn abbreviate(s: &str, offset: i64, width: i64) -> String {
    let all = bytes::to_bytes(s);
    let len = i64::try_from(all.len()).unwrap_or(i64::MAX);
    let cut = |from: i64, to: i64| {
        let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
        bytes::from_bytes(all.get(range).unwrap_or(&[])).to_string()
    };
    if s.is_empty() || width < 4 {
        return String::new();
    }
    if len <= width {
        return s.to_owned();
    }
    let mut offset = offset.min(len);
    if len - offset < width - 3 {
        offset = len - (width - 3);
    }
    if offset <= 4 {
        return cut(0, width - 3) + "...";
    }
    if width < 7 {
        return String::new();
    }
    if offset + width - 3 < len {
        return format!("...{}", abbreviate(&cut(offset, len), 0, width - 3));
    }
    format!("...{}", cut(len - (width - 3), len))
}

fn abbrev(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("abbrev", a, 2)?;
    let (width, s) = (a.int(0)?, a.str(1)?);
    Ok(Val::str(if width < 4 { s.to_owned() } else { abbreviate(s, 0, width) }))
}

fn abbrevboth(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("abbrevboth", a, 3)?;
    let (left, right, s) = (a.int(0)?, a.int(1)?, a.str(2)?);
    Ok(Val::str(if right < 4 || left > 0 && right < 7 { s.to_owned() } else { abbreviate(s, left, right) }))
}

fn trunc(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("trunc", a, 2)?;
    let (n, s) = (a.int(0)?, a.str(1)?);
    let len = bytes::len(s);
    let count = usize::try_from(n.unsigned_abs()).unwrap_or(usize::MAX);
    let range = if n < 0 { len.saturating_sub(count)..len } else { 0..len.min(count) };
    Ok(bytes::slice(s, range.start, range.end).map_or_else(|| a.own(1), Val::Str))
}

fn substr(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("substr", a, 3)?;
    let (start, end, s) = (a.int(0)?, a.int(1)?, a.str(2)?);
    let len = i64::try_from(bytes::len(s)).unwrap_or(i64::MAX);
    if start < 0 {
        if end < 0 || end > len {
            let length = if end < 0 { String::new() } else { format!(" with length {len}") };
            return err(format!("runtime error: slice bounds out of range [:{end}]{length}"));
        }
        return cut(s, 0, end);
    }
    if end < 0 || end > len {
        if start > len {
            return err(format!("runtime error: slice bounds out of range [{start}:{len}]"));
        }
        return cut(s, start, len);
    }
    if start > end {
        return err(format!("runtime error: slice bounds out of range [{start}:{end}]"));
    }
    cut(s, start, end)
}

fn cut(s: &str, from: i64, to: i64) -> Res {
    let (from, to) = (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0));
    Ok(bytes::slice(s, from, to).map_or_else(|| Val::str(""), Val::Str))
}

fn repeat(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("repeat", a, 2)?;
    let (n, s) = (a.int(0)?, a.str(1)?);
    let Ok(n) = usize::try_from(n) else {
        return err("strings: negative Repeat count");
    };
    bounded(s.len().checked_mul(n))?;
    Ok(Val::str(s.repeat(n)))
}

fn wrap(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("wrap", a, 2)?;
    Ok(Val::str(words::wrap(a.str(1)?, a.int(0)?, "", false)))
}

fn wrap_with(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("wrapWith", a, 3)?;
    bounded(a.str(2)?.len().checked_mul(a.str(1)?.len()))?;
    Ok(Val::str(words::wrap(a.str(2)?, a.int(0)?, a.str(1)?, true)))
}

fn joined(a: &[Val], f: impl Fn(&Val) -> String) -> Val {
    Val::str(a.iter().filter(|v| !v.is_nil()).map(f).collect::<Vec<_>>().join(" "))
}

fn quote(_: &mut Env<'_>, a: &[Val]) -> Res {
    Ok(joined(a, |v| gofmt::quote(&gofmt::strval(v))))
}

fn squote(_: &mut Env<'_>, a: &[Val]) -> Res {
    Ok(joined(a, |v| format!("'{}'", gofmt::strval(v))))
}

fn cat(_: &mut Env<'_>, a: &[Val]) -> Res {
    Ok(joined(a, |v| gofmt::strval(v).into_owned()))
}

fn indent_with(name: &str, start: &str, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 2)?;
    let (n, s) = (a.int(0)?, a.str(1)?);
    let Ok(n) = usize::try_from(n) else {
        return err("strings: negative Repeat count");
    };
    let lines = s.bytes().filter(|b| *b == b'\n').count() + 1;
    let size = lines.checked_mul(n).and_then(|x| x.checked_add(s.len()));
    bounded(size)?;
    let mut out = String::with_capacity(size.unwrap_or(0) + 1);
    out.push_str(start);
    for (i, line) in s.split('\n').enumerate() {
        if i > 0 {
            out.push('\n');
        }
        out.extend(std::iter::repeat_n(' ', n));
        out.push_str(line);
    }
    Ok(Val::str(out))
}

fn replace(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("replace", a, 3)?;
    let (old, new, s) = (a.str(0)?, a.str(1)?, a.str(2)?);
    if new.len() > old.len() {
        bounded((s.len() + 1).checked_mul(new.len().max(1)))
            .or_else(|_| bounded(s.matches(old).count().checked_mul(new.len())))?;
    }
    Ok(Val::str(s.replace(old, new)))
}

fn plural(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("plural", a, 3)?;
    let (one, many, n) = (a.str(0)?, a.str(1)?, a.int(2)?);
    Ok(Val::str(if n == 1 { one } else { many }))
}

fn to_string(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("toString", a, 1)?;
    match a.any(0) {
        s @ Val::Str(_) => Ok(s.clone()),
        other => Ok(Val::str(gofmt::sprint(other))),
    }
}

/// sprig's `strslice`: a list's items as text without nils, anything else alone.
pub(crate) fn strings_of(v: &Val) -> Vec<Val> {
    match v {
        Val::Nil | Val::Missing => Vec::new(),
        Val::List(l) => l
            .iter()
            .filter(|v| !v.is_nil())
            .map(|v| match v {
                s @ Val::Str(_) => s.clone(),
                other => Val::str(gofmt::sprint(other)),
            })
            .collect(),
        s @ Val::Str(_) => vec![s.clone()],
        other => vec![Val::str(gofmt::sprint(other))],
    }
}

fn to_strings(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("toStrings", a, 1)?;
    Ok(Val::list(strings_of(a.any(0))))
}

fn join(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("join", a, 2)?;
    let sep = a.str(0)?;
    let parts = strings_of(a.any(1));
    bounded(parts.len().checked_mul(sep.len()))?;
    let mut out = String::new();
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            out.push_str(sep);
        }
        out.push_str(&gofmt::strval(part));
    }
    Ok(Val::str(out))
}

fn sort_alpha(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("sortAlpha", a, 1)?;
    let v = a.any(0);
    if !matches!(v, Val::List(_)) {
        return Ok(Val::list(vec![Val::str(gofmt::sprint(v))]));
    }
    let mut parts = strings_of(v);
    parts.sort_by(|x, y| gofmt::strval(x).cmp(&gofmt::strval(y)));
    Ok(Val::list(parts))
}

/// Go's `strings.SplitN`: an empty separator splits into characters; `n` below zero means all, zero none.
fn parts<'s>(s: &'s str, sep: &str, n: i64) -> Vec<&'s str> {
    let limit = match n {
        0 => return Vec::new(),
        n if n < 0 => usize::MAX,
        n => usize::try_from(n).unwrap_or(usize::MAX),
    };
    if sep.is_empty() {
        let mut out = Vec::new();
        let mut rest = s;
        while !rest.is_empty() {
            if out.len() + 1 == limit {
                out.push(rest);
                break;
            }
            let at = rest.chars().next().map_or(0, char::len_utf8);
            let (head, tail) = rest.split_at(at);
            out.push(head);
            rest = tail;
        }
        return out;
    }
    s.splitn(limit, sep).collect()
}

fn numbered(parts: &[&str]) -> Val {
    Val::Map(MapRef::new(parts.iter().enumerate().map(|(i, p)| (format!("_{i}").into(), Val::str(*p))).collect()))
}

fn split(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("split", a, 2)?;
    Ok(numbered(&parts(a.str(1)?, a.str(0)?, -1)))
}

fn splitn(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("splitn", a, 3)?;
    Ok(numbered(&parts(a.str(2)?, a.str(0)?, a.int(1)?)))
}

fn split_list(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("splitList", a, 2)?;
    let (sep, s) = (a.str(0)?, a.str(1)?);
    let parts = parts(s, sep, -1);
    if parts.len() > MAX_LIST {
        return err("the resulting list would be too long");
    }
    Ok(Val::list(parts.into_iter().map(Val::str).collect()))
}
