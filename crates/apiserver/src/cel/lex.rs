//! Text to words: the lexer of the language.

use druse_object::value::Str;

/// A literal.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Lit {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    Str(Str),
    Bytes(Vec<u8>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Ident(Str),
    Lit(Lit),
    Punct(&'static str),
    End,
}

/// What cannot be read, and where, in bytes.
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) why: String,
}

pub(super) fn fail<T>(at: usize, why: impl std::fmt::Display) -> Result<T, Fault> {
    Err(Fault { at, why: format!("Syntax error: {why}") })
}

/// An error as cel-go shows it: its place, the line, and a mark below it.
pub(crate) fn shown(text: &str, at: usize, why: &str) -> String {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    let number = before.matches('\n').count() + 1;
    let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default().replace('\t', " ");
    let column = before.get(start..).unwrap_or_default().chars().count();
    // Marks are as wide as what they stand below.
    let wide = |c: char| c.len_utf8() > 1;
    let dots: String = line.chars().take(column).map(|c| if wide(c) { '\u{ff0e}' } else { '.' }).collect();
    let mark = if line.chars().nth(column).is_some_and(wide) { '\u{ff3e}' } else { '^' };
    format!("ERROR: <input>:{number}:{}: {why}\n | {line}\n | {dots}{mark}", column + 1)
}

/// What may begin an expression.
pub(super) const BEGINNINGS: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

const PUNCT: [&str; 28] = [
    "==", "!=", "<=", ">=", "&&", "||", ".?", "[?", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "!", "<", ">",
    "+", "-", "*", "/", "%", "=", "&",
];

/// The words of a text, each with its place.
pub(super) fn lex(text: &str) -> Result<Vec<(usize, Token)>, Fault> {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut i = 0;
    while let Some(&b) = bytes.get(i) {
        if b.is_ascii_whitespace() {
            i += 1;
            continue;
        }
        let rest = text.get(i..).unwrap_or_default();
        if rest.starts_with("//") {
            i += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if let Some((lit, used)) = lex_string(rest, i)? {
            out.push((i, Token::Lit(lit)));
            i += used;
        } else if b.is_ascii_digit() || b == b'.' && bytes.get(i + 1).is_some_and(u8::is_ascii_digit) {
            let (lit, used) = lex_number(rest, i)?;
            out.push((i, Token::Lit(lit)));
            i += used;
        } else if b.is_ascii_alphabetic() || b == b'_' {
            let used = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            let word = rest.get(..used).unwrap_or_default();
            out.push((
                i,
                match word {
                    "true" => Token::Lit(Lit::Bool(true)),
                    "false" => Token::Lit(Lit::Bool(false)),
                    "null" => Token::Lit(Lit::Null),
                    _ => Token::Ident(word.into()),
                },
            ));
            i += used;
        } else if b == b'`' {
            let end = rest.get(1..).and_then(|r| r.find('`'));
            let Some(end) = end else { return fail(i, "unterminated quoted identifier") };
            out.push((i, Token::Ident(rest.get(1..=end).unwrap_or_default().into())));
            i += end + 2;
        } else if let Some(p) = PUNCT.iter().find(|p| rest.starts_with(**p)) {
            out.push((i, Token::Punct(p)));
            i += p.len();
        } else {
            return fail(i, format!("token recognition error at: '{}'", rest.chars().next().unwrap_or(' ')));
        }
    }
    out.push((text.len(), Token::End));
    Ok(out)
}

fn lex_number(rest: &str, at: usize) -> Result<(Lit, usize), Fault> {
    if let Some(hex) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let n = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        let digits = hex.get(..n).unwrap_or_default();
        let unsigned = matches!(hex.as_bytes().get(n), Some(b'u' | b'U'));
        let value = u64::from_str_radix(digits, 16).or_else(|_| fail(at, "invalid number"))?;
        let used = 2 + n + usize::from(unsigned);
        return if unsigned {
            Ok((Lit::Uint(value), used))
        } else {
            i64::try_from(value).map(|v| (Lit::Int(v), used)).or_else(|_| fail(at, "invalid int literal"))
        };
    }
    let b = rest.as_bytes();
    let digits = |from: usize| b.get(from..).unwrap_or_default().iter().take_while(|c| c.is_ascii_digit()).count();
    let mut n = digits(0);
    let mut double = false;
    if b.get(n) == Some(&b'.') && b.get(n + 1).is_some_and(u8::is_ascii_digit) {
        double = true;
        n += 1 + digits(n + 1);
    }
    if matches!(b.get(n), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(b.get(n + 1), Some(b'+' | b'-')));
        let more = digits(n + 1 + sign);
        if more > 0 {
            double = true;
            n += 1 + sign + more;
        }
    }
    let text = rest.get(..n).unwrap_or_default();
    if double {
        return text.parse().map(|v| (Lit::Double(v), n)).or_else(|_| fail(at, "invalid number"));
    }
    if matches!(b.get(n), Some(b'u' | b'U')) {
        return text.parse().map(|v| (Lit::Uint(v), n + 1)).or_else(|_| fail(at, "invalid uint literal"));
    }
    // The smallest int is written as the negation of a number one too large.
    match text.parse::<u64>() {
        Ok(v) => Ok((i64::try_from(v).map_or(Lit::Uint(v), Lit::Int), n)),
        Err(_) => fail(at, "invalid int literal"),
    }
}

/// A string or bytes literal at the start of the text, with its length.
fn lex_string(rest: &str, at: usize) -> Result<Option<(Lit, usize)>, Fault> {
    let prefix = rest.bytes().take_while(|b| matches!(b, b'r' | b'R' | b'b' | b'B')).count();
    if prefix > 2 {
        return Ok(None);
    }
    let flags = rest.get(..prefix).unwrap_or_default().to_ascii_lowercase();
    let body = rest.get(prefix..).unwrap_or_default();
    let Some(quote) = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|q| body.starts_with(q)) else { return Ok(None) };
    let raw = flags.contains('r');
    let mut out: Vec<u8> = Vec::new();
    let mut i = quote.len();
    loop {
        let here = body.get(i..).unwrap_or_default();
        if here.is_empty() {
            return fail(at, "unterminated string literal");
        }
        if here.starts_with(quote) {
            i += quote.len();
            break;
        }
        let mut chars = here.chars();
        let c = chars.next().unwrap_or_default();
        if c != '\\' || raw {
            out.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
            i += c.len_utf8();
            continue;
        }
        let e = chars.next().unwrap_or_default();
        let code = |from: usize, n: usize, radix: u32| {
            here.get(from..from + n).and_then(|h| u32::from_str_radix(h, radix).ok())
        };
        let (value, used) = match e {
            'a' => (Some(7), 2),
            'b' => (Some(8), 2),
            'f' => (Some(12), 2),
            'n' => (Some(10), 2),
            'r' => (Some(13), 2),
            't' => (Some(9), 2),
            'v' => (Some(11), 2),
            '\\' | '\'' | '"' | '`' | '?' => (Some(u32::from(e)), 2),
            'x' | 'X' => (code(2, 2, 16), 4),
            'u' => (code(2, 4, 16), 6),
            'U' => (code(2, 8, 16), 10),
            '0'..='3' => (code(1, 3, 8), 4),
            _ => (None, 0),
        };
        let Some(value) = value else { return fail(at + prefix + i, "invalid escape sequence") };
        if flags.contains('b') && matches!(e, 'x' | 'X' | '0'..='3') {
            out.push(u8::try_from(value).unwrap_or_default());
        } else {
            let Some(c) = char::from_u32(value) else { return fail(at, "invalid unicode code point") };
            out.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
        }
        i += used;
    }
    let lit =
        if flags.contains('b') { Lit::Bytes(out) } else { Lit::Str(String::from_utf8_lossy(&out).as_ref().into()) };
    Ok(Some((lit, prefix + i)))
}
