//! Regular expressions: sprig's `regex.go` on Go's RE2 syntax, translated to the `regex` crate's.
//!
//! The two engines agree on what matches; the syntax differs in that Go's `\d`, `\w`, `\s` and `\b` know ASCII only,
//! that Go takes `[` inside a class and a `{` that starts no repetition literally, and that escaped punctuation
//! always stands for itself.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::{Captures, Regex};

use crate::env::{Env, FuncError};
use crate::val::Val;

use super::Entry;
use super::args::{Args, Res, bounded, err};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("regexMatch", regex_match),
    ("mustRegexMatch", |_, a| {
        let a = Args::exact("mustRegexMatch", a, 2)?;
        Ok(Val::Bool(compile(a.str(0)?, true)?.is_match(a.str(1)?)))
    }),
    ("regexFind", |_, a| find("regexFind", a, false)),
    ("mustRegexFind", |_, a| find("mustRegexFind", a, true)),
    ("regexFindAll", |_, a| find_all("regexFindAll", a, false)),
    ("mustRegexFindAll", |_, a| find_all("mustRegexFindAll", a, true)),
    ("regexReplaceAll", |_, a| replace("regexReplaceAll", a, false, false)),
    ("mustRegexReplaceAll", |_, a| replace("mustRegexReplaceAll", a, false, true)),
    ("regexReplaceAllLiteral", |_, a| replace("regexReplaceAllLiteral", a, true, false)),
    ("mustRegexReplaceAllLiteral", |_, a| replace("mustRegexReplaceAllLiteral", a, true, true)),
    ("regexSplit", |_, a| split("regexSplit", a, false)),
    ("mustRegexSplit", |_, a| split("mustRegexSplit", a, true)),
    ("regexQuoteMeta", quote_meta),
];

/// Compiled expressions kept for the next call.
const CACHE: usize = 256;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Result<Regex, String>>> = RefCell::new(HashMap::new());
}

/// Compiles a Go expression. `plain` errors are those of `regexp.Compile`, the others those of `MustCompile`.
fn compile(pattern: &str, plain: bool) -> Result<Regex, FuncError> {
    let result = COMPILED.with_borrow_mut(|cache| {
        if let Some(found) = cache.get(pattern) {
            return found.clone();
        }
        if cache.len() >= CACHE {
            cache.clear();
        }
        let made = build(pattern);
        cache.insert(pattern.to_owned(), made.clone());
        made
    });
    match result {
        Ok(r) => Ok(r),
        Err(e) if plain => err(e),
        Err(e) => err(format!("regexp: Compile({}): {e}", go_quote(pattern))),
    }
}

/// Go quotes the pattern with backquotes where it can.
fn go_quote(s: &str) -> String {
    if s.contains('`') || s.contains(|c: char| c.is_control() && c != '\t') {
        super::gofmt::quote(s)
    } else {
        format!("`{s}`")
    }
}

fn build(pattern: &str) -> Result<Regex, String> {
    let translated = translate(pattern);
    regex::RegexBuilder::new(&translated).size_limit(16 << 20).build().map_err(|e| {
        let text = e.to_string();
        let has = |s: &str| text.contains(s);
        let what = if has("unclosed group") {
            format!("missing closing ): `{pattern}`")
        } else if has("unopened group") {
            format!("unexpected ): `{pattern}`")
        } else if has("unclosed character class") {
            format!("missing closing ]: `{}`", pattern.rfind('[').and_then(|i| pattern.get(i..)).unwrap_or(pattern))
        } else if has("repetition operator missing expression") {
            let op = pattern.find(['*', '+', '?']).and_then(|i| pattern.get(i..=i)).unwrap_or("*");
            format!("missing argument to repetition operator: `{op}`")
        } else if has("look-around") {
            let at = pattern.find("(?").unwrap_or(0);
            format!("invalid or unsupported Perl syntax: `{}`", pattern.get(at..at + 3).unwrap_or(pattern))
        } else if has("backreferences") || has("unrecognized escape") || has("incomplete escape") {
            let at = pattern.find('\\').unwrap_or(0);
            format!("invalid escape sequence: `{}`", pattern.get(at..at + 2).unwrap_or("\\"))
        } else if has("invalid character class range") {
            format!("invalid character class range: `{pattern}`")
        } else if has("exceeds size limit") {
            format!("expression too large: `{pattern}`")
        } else {
            format!("invalid expression: `{pattern}`")
        };
        format!("error parsing regexp: {what}")
    })
}

/// Go's syntax in the `regex` crate's.
fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            '\\' => rest = escape(after, false, &mut out),
            '[' => {
                out.push('[');
                rest = class(after, &mut out);
            }
            '{' if !is_repetition(after) => {
                out.push_str("\\{");
                rest = after;
            }
            '}' if !out_is_in_repetition(&out) => {
                out.push_str("\\}");
                rest = after;
            }
            c => {
                out.push(c);
                rest = after;
            }
        }
    }
    out
}

/// Whether what follows a `{` makes it a repetition: `3}`, `3,}` or `3,5}`.
fn is_repetition(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else {
        return false;
    };
    let (from, to) = inside.split_once(',').unwrap_or((inside, ""));
    let number = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    !from.is_empty() && number(from) && number(to)
}

/// Whether a `}` closes something written with `{` (a repetition, or `\x{…}` and `\p{…}`, written whole elsewhere).
fn out_is_in_repetition(out: &str) -> bool {
    match out.rfind(['{', '}']) {
        Some(i) => out.as_bytes().get(i) == Some(&b'{') && (i == 0 || out.as_bytes().get(i - 1) != Some(&b'\\')),
        None => false,
    }
}

/// One escape (after its backslash); returns what follows it.
fn escape<'p>(after: &'p str, in_class: bool, out: &mut String) -> &'p str {
    let Some(c) = after.chars().next() else {
        out.push('\\');
        return "";
    };
    let rest = after.get(c.len_utf8()..).unwrap_or("");
    let set = |out: &mut String, inside: &str, negated: bool| {
        out.push_str(if negated { "[^" } else { "[" });
        out.push_str(inside);
        out.push(']');
    };
    match c {
        'd' | 'D' => set(out, "0-9", c == 'D'),
        'w' | 'W' => set(out, "0-9A-Za-z_", c == 'W'),
        's' | 'S' => set(out, "\\t\\n\\x0C\\r ", c == 'S'),
        'b' | 'B' if !in_class => {
            out.push_str("(?-u:\\b)");
            if c == 'B' {
                out.truncate(out.len() - "(?-u:\\b)".len());
                // Not a boundary: both sides are word characters, or neither is.
                out.push_str("\\B");
            }
        }
        'Q' => {
            let (literal, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(literal));
            return rest;
        }
        '0'..='7' if c == '0' || rest.starts_with(|c: char| c.is_digit(8)) => {
            let len = after.bytes().take(3).take_while(|b| (b'0'..=b'7').contains(b)).count();
            let (digits, rest) = after.split_at(len);
            let code = u32::from_str_radix(digits, 8).unwrap_or(0);
            out.push_str(&format!("\\x{{{code:x}}}"));
            return rest;
        }
        'x' | 'p' | 'P' => {
            out.push('\\');
            out.push(c);
            if let Some((inside, rest)) = rest.strip_prefix('{').and_then(|r| r.split_once('}')) {
                out.push('{');
                out.push_str(inside);
                out.push('}');
                return rest;
            }
        }
        c if c.is_ascii_punctuation() => out.push_str(&format!("\\x{{{:x}}}", u32::from(c))),
        c => {
            out.push('\\');
            out.push(c);
        }
    }
    rest
}

/// A class (after its `[`) up to and with its `]`; returns what follows.
fn class<'p>(after: &'p str, out: &mut String) -> &'p str {
    let mut rest = after;
    if let Some(r) = rest.strip_prefix('^') {
        out.push('^');
        rest = r;
    }
    let mut first = true;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or("");
        match c {
            ']' if !first => {
                out.push(']');
                return after;
            }
            '\\' => {
                first = false;
                rest = escape(after, true, out);
                continue;
            }
            '[' => match after.strip_prefix(':').and_then(|r| r.split_once(":]")) {
                Some((name, r)) if name.trim_start_matches('^').chars().all(char::is_alphabetic) => {
                    out.push_str(&format!("[:{name}:]"));
                    first = false;
                    rest = r;
                    continue;
                }
                _ => out.push_str("\\["),
            },
            // Doubled, these are set operations in the crate's syntax.
            '&' | '~' | ']' => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
        first = false;
        rest = after;
    }
    rest
}

fn regex_match(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("regexMatch", a, 2)?;
    let text = a.str(1)?;
    Ok(Val::Bool(compile(a.str(0)?, true).is_ok_and(|r| r.is_match(text))))
}

fn find(name: &str, a: &[Val], plain: bool) -> Res {
    let a = Args::exact(name, a, 2)?;
    let text = a.str(1)?;
    Ok(Val::str(compile(a.str(0)?, plain)?.find(text).map_or("", |m| m.as_str())))
}

/// How many matches Go's `n` asks for.
fn limit(n: i64) -> usize {
    if n < 0 { usize::MAX } else { usize::try_from(n).unwrap_or(usize::MAX) }
}

fn find_all(name: &str, a: &[Val], plain: bool) -> Res {
    let a = Args::exact(name, a, 3)?;
    let (text, n) = (a.str(1)?, a.int(2)?);
    let r = compile(a.str(0)?, plain)?;
    let out: Vec<_> = r.find_iter(text).take(limit(n)).map(|m| Val::str(m.as_str())).collect();
    Ok(if out.is_empty() { Val::nil_list() } else { Val::list(out) })
}

fn replace(name: &str, a: &[Val], literal: bool, plain: bool) -> Res {
    let a = Args::exact(name, a, 3)?;
    let (text, with) = (a.str(1)?, a.str(2)?);
    let r = compile(a.str(0)?, plain)?;
    // Only a replacement that could get too long is counted out first.
    let groups = with.matches('$').count().saturating_mul(text.len());
    let most = with.len().saturating_add(groups);
    if bounded(most.checked_mul(text.len() + 1)).is_err() {
        let mut total = 0usize;
        for c in r.captures_iter(text) {
            total = total.saturating_add(if literal { with.len() } else { expand(with, &c).len() });
            bounded(Some(total))?;
        }
    }
    Ok(Val::str(if literal {
        r.replace_all(text, regex::NoExpand(with)).into_owned()
    } else {
        r.replace_all(text, |c: &Captures<'_>| expand(with, c)).into_owned()
    }))
}

/// Go's `$1`, `$name` and `${name}`: the longest run of word characters; a group there is not is nothing.
fn expand(template: &str, captures: &Captures<'_>) -> String {
    let mut out = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(r) = after.strip_prefix('$') {
            out.push('$');
            rest = r;
            continue;
        }
        let word = |s: &str| s.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(s.len());
        let found = match after.strip_prefix('{') {
            Some(inner) => {
                let (name, r) = inner.split_at(word(inner));
                r.strip_prefix('}').map(|r| (name, r))
            }
            None => Some(after.split_at(word(after))),
        };
        match found {
            Some((name, r)) if !name.is_empty() => {
                let group = match name.parse::<usize>() {
                    Ok(n) => captures.get(n),
                    Err(_) => captures.name(name),
                };
                out.push_str(group.map_or("", |m| m.as_str()));
                rest = r;
            }
            _ => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn split(name: &str, a: &[Val], plain: bool) -> Res {
    let a = Args::exact(name, a, 3)?;
    let (pattern, text, n) = (a.str(0)?, a.str(1)?, a.int(2)?);
    let r = compile(pattern, plain)?;
    if n == 0 {
        return Ok(Val::nil_list());
    }
    if !pattern.is_empty() && text.is_empty() {
        return Ok(Val::list(vec![Val::str("")]));
    }
    let (mut out, mut from, mut end) = (Vec::new(), 0, 0);
    for m in r.find_iter(text).take(limit(n)) {
        if n > 0 && out.len() + 1 == limit(n) {
            break;
        }
        end = m.start();
        if m.end() != 0 {
            out.push(Val::str(text.get(from..end).unwrap_or("")));
        }
        from = m.end();
    }
    if end != text.len() {
        out.push(Val::str(text.get(from..).unwrap_or("")));
    }
    Ok(Val::list(out))
}

fn quote_meta(_: &mut Env<'_>, a: &[Val]) -> Res {
    let s = Args::exact("regexQuoteMeta", a, 1)?.str(0)?;
    let mut out = String::with_capacity(s.len() + 8);
    for c in s.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    Ok(Val::str(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_syntax_is_translated() {
        for (pattern, text, found) in [
            (r"\d+", "a12", Some("12")),
            (r"\w+", "é_a1", Some("_a1")),
            (r"[[]", "a[b", Some("[")),
            (r"[^\w.-]+", "a b", Some(" ")),
            (r"a{,3}", "a{,3}", Some("a{,3}")),
            (r"x{2}", "xxx", Some("xx")),
            (r"\_", "a_", Some("_")),
            (r"[&&a]+", "&a", Some("&a")),
            (r"[[:alpha:]]+", "12ab", Some("ab")),
            (r"\x{41}\pL", "A\u{e9}", Some("A\u{e9}")),
            (r"\Qa.b\E+", "a.bb", Some("a.bb")),
            (r"}", "}", Some("}")),
            (r"[]a]+", "]a", Some("]a")),
            (r"\101", "A", Some("A")),
        ] {
            let r = build(pattern).unwrap();
            assert_eq!(r.find(text).map(|m| m.as_str()), found, "{pattern}");
        }
    }
}
