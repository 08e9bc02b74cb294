//! Words: wrapping, and the case conventions of `goutils` and `xstrings`.

use super::bytes;
use super::strings::{lower_char, upper_char};

/// Go's `unicode.IsSpace`.
fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// `goutils` looks at bytes as if they were Latin-1 characters.
fn latin1(s: &str) -> Vec<char> {
    bytes::to_bytes(s).iter().map(|b| char::from(*b)).collect()
}

/// Removes white space; text with any non-ASCII character and white space comes out garbled, as in Go.
pub fn nospace(s: &str) -> String {
    let all = latin1(s);
    let kept: String = all.iter().filter(|c| !is_space(**c)).collect();
    if kept.chars().count() == all.len() { s.to_owned() } else { kept }
}

/// The first byte of each word.
pub fn initials(s: &str) -> String {
    let mut out = String::new();
    let mut gap = true;
    for c in latin1(s) {
        if is_space(c) {
            gap = true;
        } else if gap {
            out.push(c);
            gap = false;
        }
    }
    out
}

/// `strings.Title`: upper-cases the first letter after each separator.
pub fn title(s: &str) -> String {
    let mut previous = ' ';
    s.chars()
        .map(|c| {
            let start = is_separator(previous);
            previous = c;
            if start { upper_char(c) } else { c }
        })
        .collect()
}

fn is_separator(c: char) -> bool {
    if c.is_ascii() {
        return !(c.is_ascii_alphanumeric() || c == '_');
    }
    !c.is_alphanumeric() && is_space(c)
}

/// Lower-cases the first letter of each word.
pub fn untitle(s: &str) -> String {
    let mut next = true;
    s.chars()
        .map(|c| {
            if is_space(c) {
                next = true;
                c
            } else if next {
                next = false;
                lower_char(c)
            } else {
                c
            }
        })
        .collect()
}

/// Swaps case.
pub fn swapcase(s: &str) -> String {
    s.chars()
        .map(|c| {
            if c.is_uppercase() {
                lower_char(c)
            } else if c.is_lowercase() {
                upper_char(c)
            } else {
                c
            }
        })
        .collect()
}

/// Wraps at spaces to lines of `width` bytes; long words are cut only if `cut_long`.
pub fn wrap(s: &str, width: i64, separator: &str, cut_long: bool) -> String {
    let separator = if separator.is_empty() { "\n" } else { separator }.as_bytes();
    let width = usize::try_from(width.max(1)).unwrap_or(usize::MAX);
    let all = bytes::to_bytes(s);
    let mut out = Vec::with_capacity(all.len());
    let mut offset = 0usize;
    while all.len() - offset > width {
        let rest = all.get(offset..).unwrap_or(&[]);
        if rest.first() == Some(&b' ') {
            offset += 1;
            continue;
        }
        let head = rest.get(..=width).unwrap_or(rest);
        if let Some(at) = head.iter().rposition(|b| *b == b' ') {
            out.extend_from_slice(rest.get(..at).unwrap_or(&[]));
            out.extend_from_slice(separator);
            offset += at + 1;
        } else if cut_long {
            out.extend_from_slice(rest.get(..width).unwrap_or(rest));
            out.extend_from_slice(separator);
            offset += width;
        } else {
            match rest.iter().skip(width).position(|b| *b == b' ') {
                None => {
                    out.extend_from_slice(rest);
                    offset = all.len();
                }
                Some(at) => {
                    out.extend_from_slice(rest.get(..width + at).unwrap_or(&[]));
                    out.extend_from_slice(separator);
                    offset += width + at + 1;
                }
            }
        }
    }
    out.extend_from_slice(all.get(offset..).unwrap_or(&[]));
    bytes::from_bytes(&out).to_string()
}

fn is_connector(c: char) -> bool {
    c == '-' || c == '_' || is_space(c)
}

/// `some_words` to `SomeWords`.
pub fn pascal(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut chars = s.chars();
    // Leading connectors stay.
    let mut current = None;
    for c in chars.by_ref() {
        if !is_connector(c) {
            current = Some(c);
            break;
        }
        out.push(c);
    }
    let Some(first) = current else {
        // Only connectors: the last one was written twice upstream's way, once here and once at the end.
        if let Some(last) = s.chars().last() {
            out.push(last);
        }
        return out;
    };
    let mut upper_run = first.is_uppercase();
    let mut current = upper_char(first);
    for mut next in chars {
        let last = current;
        if is_connector(next) && is_connector(last) {
            out.push(last);
            current = next;
            continue;
        }
        if is_connector(last) {
            upper_run = next.is_uppercase();
            next = upper_char(next);
        } else {
            if upper_run {
                if next.is_uppercase() {
                    next = lower_char(next);
                } else {
                    upper_run = false;
                }
            }
            out.push(last);
        }
        current = next;
    }
    out.push(current);
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Invalid,
    Number,
    Upper,
    Alphabet,
    Connector,
    Punct,
    Other,
}

/// Letters with case, and those without: everything alphabetic but upper case counts as the tail of a word.
fn is_alphabet(c: char) -> bool {
    // xstrings leaves scripts that join letters to words without case (Han, Hiragana, Katakana, …) out.
    c.is_alphabetic() && !is_unbroken_script(c)
}

fn is_unbroken_script(c: char) -> bool {
    matches!(u32::from(c),
        0x2E80..=0x2FDF | 0x3005..=0x3007 | 0x3021..=0x3029 | 0x3038..=0x303B | 0x3041..=0x309F | 0x30A0..=0x30FF
        | 0x3105..=0x312F | 0x31A0..=0x31BF | 0x31F0..=0x31FF | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF
        | 0x20000..=0x323AF)
}

fn is_punct(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_punctuation() && !matches!(c, '$' | '+' | '<' | '=' | '>' | '^' | '`' | '|' | '~');
    }
    matches!(u32::from(c), 0xA1 | 0xA7 | 0xAB | 0xB6 | 0xB7 | 0xBB | 0xBF
        | 0x2010..=0x2027 | 0x2030..=0x2043 | 0x2045..=0x2051 | 0x2053..=0x205E | 0x3001..=0x3003 | 0x3008..=0x3011
        | 0x3014..=0x301F | 0xFF01..=0xFF03 | 0xFF05..=0xFF0A | 0xFF0C..=0xFF0F | 0xFF1A | 0xFF1B | 0xFF1F | 0xFF20)
}

fn run(s: &str, test: impl Fn(char) -> bool) -> usize {
    s.find(|c| !test(c)).unwrap_or(s.len())
}

/// The next word of the text by the kind of its characters, and what follows.
fn next_word(s: &str) -> (Kind, &str, &str) {
    let Some(c) = s.chars().next() else {
        return (Kind::Invalid, "", "");
    };
    let first = c.len_utf8();
    let after = s.get(first..).unwrap_or("");
    let tail = |c: char| is_alphabet(c) && !c.is_uppercase();
    let (kind, len) = if is_connector(c) {
        (Kind::Connector, run(s, is_connector))
    } else if is_punct(c) {
        (Kind::Punct, run(s, is_punct))
    } else if c.is_uppercase() {
        let len = match after.chars().next() {
            Some(n) if n.is_uppercase() => {
                let uppers = run(s, char::is_uppercase);
                // "HTTPStatus" is "HTTP" and "Status".
                match s.get(uppers..).and_then(|r| r.chars().next()) {
                    Some(n) if is_alphabet(n) => {
                        uppers - s.get(..uppers).and_then(|u| u.chars().last()).map_or(0, char::len_utf8)
                    }
                    _ => uppers,
                }
            }
            Some(n) if is_alphabet(n) => first + run(after, tail),
            _ => first,
        };
        (Kind::Upper, len)
    } else if is_alphabet(c) {
        (Kind::Alphabet, first + run(after, tail))
    } else if c.is_numeric() {
        (Kind::Number, run(s, char::is_numeric))
    } else {
        let other = |c: char| !(is_connector(c) || is_alphabet(c) || c.is_numeric() || is_punct(c));
        (Kind::Other, first + run(after, other))
    };
    let (word, rest) = s.split_at_checked(len).unwrap_or((s, ""));
    (kind, word, rest)
}

fn put(out: &mut String, kind: Kind, word: &str, connector: char) {
    match kind {
        Kind::Upper => out.extend(word.chars().map(lower_char)),
        Kind::Connector => out.extend(word.chars().map(|_| connector)),
        _ => out.push_str(word),
    }
}

/// `FirstName` to `first_name` (or `first-name`), by the word rules of `xstrings`.
pub fn separated(s: &str, connector: char) -> String {
    let mut out = String::with_capacity(s.len() + 4);
    let (mut kind, mut word, mut rest) = next_word(s);
    while !rest.is_empty() {
        if kind != Kind::Connector {
            put(&mut out, kind, word, connector);
        }
        let (previous, last) = (kind, word);
        (kind, word, rest) = next_word(rest);
        match previous {
            Kind::Number => {
                while matches!(kind, Kind::Alphabet | Kind::Number) {
                    put(&mut out, kind, word, connector);
                    (kind, word, rest) = next_word(rest);
                }
                if !matches!(kind, Kind::Invalid | Kind::Punct | Kind::Connector) {
                    out.push(connector);
                }
            }
            Kind::Connector => put(&mut out, previous, last, connector),
            Kind::Punct => {}
            _ if kind != Kind::Number => {
                if !matches!(kind, Kind::Connector | Kind::Punct) {
                    out.push(connector);
                }
            }
            _ if rest.is_empty() => {}
            _ => {
                let number = word;
                (kind, word, rest) = next_word(rest);
                // A number belongs to the word before it ("Bld4Floor"), unless lower case letters follow ("http2xx").
                if kind == Kind::Alphabet {
                    out.push(connector);
                    put(&mut out, Kind::Number, number, connector);
                    while matches!(kind, Kind::Alphabet | Kind::Number) {
                        put(&mut out, kind, word, connector);
                        (kind, word, rest) = next_word(rest);
                    }
                    if !matches!(kind, Kind::Invalid | Kind::Connector | Kind::Punct) {
                        out.push(connector);
                    }
                } else {
                    put(&mut out, Kind::Number, number, connector);
                    if !matches!(kind, Kind::Connector | Kind::Punct) {
                        out.push(connector);
                    }
                }
            }
        }
    }
    put(&mut out, kind, word, connector);
    out
}
