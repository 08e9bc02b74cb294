//! Shell-like variables in text, as Flux' `postBuild` reads them (fluxcd/pkg/envsubst).
//!
//! `${v}`, `${v:=d}` `${v:-d}` `${v=d}` (defaults; `:?` and `:+` behave the same there), `${#v}`, `${v:pos}`
//! `${v:pos:len}`, `${v/a/b}` `${v//a/b}` `${v/#a/b}` `${v/%a/b}`, `${v#p}` `${v##p}` `${v%p}` `${v%%p}`, `${v^}`
//! `${v^^}` `${v,}` `${v,,}`. `$$` is a literal `$`. A `$` that starts no `${` is left alone. Not supported there, and so
//! refused here: `${v-d}`, `${v+d}`.

use crate::glob;

/// How deep default values may hold further expressions.
const MAX_DEPTH: usize = 64;

/// Why an expression cannot be substituted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvsubstError {
    /// The expression is malformed.
    #[error("bad substitution (in `{0}`)")]
    BadSubstitution(String),
    /// The expression does not end where it must.
    #[error("missing closing brace (in `{0}`)")]
    MissingClosingBrace(String),
    /// There is no variable name after `${`.
    #[error("unable to parse variable name (in `{0}`)")]
    VariableName(String),
    /// An argument is malformed.
    #[error("unable to parse substitution within function (in `{0}`)")]
    Argument(String),
    /// A default is malformed.
    #[error("unable to parse default function (in `{0}`)")]
    Default(String),
    /// Strict mode, and the variable is not set.
    #[error("variable not set (strict mode): \"{0}\"")]
    NotSet(String),
    /// Expressions in expressions, too many.
    #[error("expressions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// What becomes of a variable that has no value, where the expression does not provide for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// It counts as empty.
    Empty,
    /// It is an error (strict mode).
    Refused,
    /// Its value is not known here: a placeholder says its name.
    Placeholder,
}

/// Substitutes all variables in `text`. `lookup` gives a variable's value; what becomes of those without, `unset` says.
///
/// # Errors
/// On a malformed expression, or an unset variable in strict mode.
pub fn substitute<'a>(
    text: &str,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
    unset: Unset,
) -> Result<String, EnvsubstError> {
    let mut scanner = Scanner { text, pos: 0, token: String::new() };
    let mut nodes = Vec::new();
    loop {
        match scanner.scan(IDENT | LBRACK | ESCAPE_DOLLAR, &|_, _| true) {
            Token::Ident => nodes.push(Node::Text(std::mem::take(&mut scanner.token))),
            Token::Lbrack => {
                let start = scanner.pos;
                nodes.push(parse_func(&mut scanner, 0).map_err(|e| e.located(text, start))?);
            }
            Token::Eof => break,
            Token::Rbrack | Token::Illegal => return Err(EnvsubstError::BadSubstitution(String::new())),
        }
    }
    let mut out = String::with_capacity(text.len());
    for node in &nodes {
        node.eval(lookup, unset, &mut out)?;
    }
    Ok(out)
}

impl EnvsubstError {
    /// Names the expression that the parser was reading.
    fn located(self, text: &str, start: usize) -> Self {
        let from = start.saturating_sub(2);
        let line: String = text.get(from..).unwrap_or_default().chars().take_while(|c| *c != '\n').take(60).collect();
        match self {
            Self::BadSubstitution(_) => Self::BadSubstitution(line),
            Self::MissingClosingBrace(_) => Self::MissingClosingBrace(line),
            Self::VariableName(_) => Self::VariableName(line),
            Self::Argument(_) => Self::Argument(line),
            Self::Default(_) => Self::Default(line),
            other => other,
        }
    }
}

const IDENT: u8 = 1;
const LBRACK: u8 = 2;
const RBRACK: u8 = 4;
const ESCAPE_DOLLAR: u8 = 8;
const ESCAPE_BACKSLASH: u8 = 16;
const ESCAPE: u8 = ESCAPE_DOLLAR | ESCAPE_BACKSLASH;

#[derive(PartialEq, Eq)]
enum Token {
    Illegal,
    Eof,
    Ident,
    Lbrack,
    Rbrack,
}

/// Says whether a character may be the one that makes the token this many bytes long.
type Accept<'a> = &'a dyn Fn(char, usize) -> bool;

struct Scanner<'t> {
    text: &'t str,
    pos: usize,
    token: String,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.pos..).and_then(|t| t.chars().next())
    }

    fn read(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.pos += c.len_utf8();
        Some(c)
    }

    /// Whether `c`, just read, only escapes the character after it.
    fn escapes(&self, c: char, mode: u8) -> bool {
        match c {
            '$' if mode & ESCAPE_DOLLAR != 0 => self.peek() == Some('$'),
            '\\' if mode & ESCAPE_BACKSLASH != 0 => matches!(self.peek(), Some('/' | '\\')),
            _ => false,
        }
    }

    fn scan(&mut self, mode: u8, accept: Accept<'_>) -> Token {
        self.token.clear();
        let Some(c) = self.read() else { return Token::Eof };
        if mode & LBRACK != 0 && c == '$' && self.peek() == Some('{') {
            self.pos += 1;
            return Token::Lbrack;
        }
        if mode & RBRACK != 0 && c == '}' {
            return Token::Rbrack;
        }
        if mode & IDENT == 0 {
            return Token::Illegal;
        }
        if self.escapes(c, mode) {
            let escaped = self.read();
            self.token.extend(escaped);
        } else if accept(c, c.len_utf8()) {
            self.token.push(c);
        } else {
            return Token::Illegal;
        }
        while let Some(c) = self.peek() {
            let before = self.pos;
            self.pos += c.len_utf8();
            if mode & LBRACK != 0 && c == '$' && self.peek() == Some('{') {
                self.pos = before;
                break;
            }
            if self.escapes(c, mode) {
                let escaped = self.read();
                self.token.extend(escaped);
            } else if accept(c, self.token.len() + c.len_utf8()) {
                self.token.push(c);
            } else {
                self.pos = before;
                break;
            }
        }
        Token::Ident
    }

    fn ident(&mut self, accept: Accept<'_>) -> Option<String> {
        (self.scan(IDENT, accept) == Token::Ident).then(|| std::mem::take(&mut self.token))
    }

    fn close(&mut self) -> Result<(), EnvsubstError> {
        if self.scan(RBRACK, &|_, _| false) == Token::Rbrack { Ok(()) } else { Err(bad()) }
    }
}

fn bad() -> EnvsubstError {
    EnvsubstError::BadSubstitution(String::new())
}

enum Node {
    Text(String),
    Func { param: String, name: String, args: Vec<Node> },
}

fn name_char(c: char, _: usize) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn not_closing(c: char, _: usize) -> bool {
    c != '}'
}

/// Parses what follows `${`.
fn parse_func(s: &mut Scanner<'_>, depth: usize) -> Result<Node, EnvsubstError> {
    if depth >= MAX_DEPTH {
        return Err(EnvsubstError::TooDeep);
    }
    if s.peek() == Some('#') {
        let name = s.ident(&|c, i| c == '#' && i == 1).ok_or_else(bad)?;
        let param = s.ident(&name_char).ok_or_else(bad)?;
        s.close()?;
        return Ok(Node::Func { param, name, args: Vec::new() });
    }
    let param = s.ident(&name_char).ok_or_else(|| EnvsubstError::VariableName(String::new()))?;
    match s.peek() {
        Some(':') => match s.text.get(s.pos + 1..).and_then(|t| t.chars().next()) {
            Some('=' | '-' | '?' | '+') => parse_default(s, param, depth),
            _ => parse_substr(s, param, depth),
        },
        Some('=') => parse_default(s, param, depth),
        Some(',' | '^') => {
            let name = s.ident(&|c, i| (c == ',' || c == '^') && i < 3).ok_or_else(bad)?;
            s.close()?;
            Ok(Node::Func { param, name, args: Vec::new() })
        }
        Some('/') => parse_replace(s, param, depth),
        Some(mark @ ('#' | '%')) => {
            let name = s.ident(&|c, i| c == mark && i < 3).ok_or_else(bad)?;
            let arg = parse_param(s, &not_closing, 0, depth)?;
            s.close()?;
            Ok(Node::Func { param, name, args: vec![arg] })
        }
        _ => {
            if s.scan(RBRACK, &|_, _| false) != Token::Rbrack {
                return Err(EnvsubstError::MissingClosingBrace(String::new()));
            }
            Ok(Node::Func { param, name: String::new(), args: Vec::new() })
        }
    }
}

fn parse_param(s: &mut Scanner<'_>, accept: Accept<'_>, escape: u8, depth: usize) -> Result<Node, EnvsubstError> {
    match s.scan(IDENT | LBRACK | escape, accept) {
        Token::Lbrack => parse_func(s, depth + 1),
        Token::Ident => Ok(Node::Text(std::mem::take(&mut s.token))),
        _ => Err(EnvsubstError::Argument(String::new())),
    }
}

fn parse_substr(s: &mut Scanner<'_>, param: String, depth: usize) -> Result<Node, EnvsubstError> {
    let name = s.ident(&|c, i| c == ':' && i == 1).ok_or_else(bad)?;
    let mut args = vec![parse_param(s, &|c, _| c != ':' && c != '}', 0, depth)?];
    match s.scan(IDENT | RBRACK, &|c, _| c == ':') {
        Token::Rbrack => return Ok(Node::Func { param, name, args }),
        Token::Ident => {}
        _ => return Err(bad()),
    }
    args.push(parse_param(s, &not_closing, 0, depth)?);
    s.close()?;
    Ok(Node::Func { param, name, args })
}

fn parse_replace(s: &mut Scanner<'_>, param: String, depth: usize) -> Result<Node, EnvsubstError> {
    let name = s
        .ident(&|c, i| match i {
            1 => c == '/',
            2 => matches!(c, '/' | '#' | '%'),
            _ => false,
        })
        .ok_or_else(bad)?;
    let mut args = vec![parse_param(s, &|c, _| c != '/', ESCAPE, depth)?];
    s.ident(&|c, _| c == '/').ok_or_else(bad)?;
    if s.peek() != Some('}') {
        args.push(parse_param(s, &not_closing, ESCAPE, depth)?);
    }
    s.close()?;
    Ok(Node::Func { param, name, args })
}

fn parse_default(s: &mut Scanner<'_>, param: String, depth: usize) -> Result<Node, EnvsubstError> {
    let name = if s.peek() == Some('=') {
        s.ident(&|c, i| c == '=' && i == 1)
    } else {
        s.ident(&|c, i| match i {
            1 => c == ':',
            2 => matches!(c, '=' | '-' | '?' | '+'),
            _ => false,
        })
    }
    .ok_or_else(|| EnvsubstError::Default(String::new()))?;
    let mut args = Vec::new();
    while s.peek() != Some('}') {
        args.push(parse_param(s, &not_closing, 0, depth)?);
    }
    s.close()?;
    Ok(Node::Func { param, name, args })
}

impl Node {
    fn eval<'a>(
        &self,
        lookup: &dyn Fn(&str) -> Option<&'a str>,
        unset: Unset,
        out: &mut String,
    ) -> Result<(), EnvsubstError> {
        match self {
            Node::Text(text) => out.push_str(text),
            Node::Func { param, name, args } => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    let mut value = String::new();
                    arg.eval(lookup, unset, &mut value)?;
                    values.push(value);
                }
                let value = lookup(param);
                let provides = matches!(name.as_str(), "=" | ":=" | ":-" | ":?" | ":+");
                match (value, unset) {
                    (None, Unset::Refused) if !provides => return Err(EnvsubstError::NotSet(param.clone())),
                    (None, Unset::Placeholder) if !provides => out.push_str(&druse_sops::placeholder(param)),
                    _ => out.push_str(&apply(name, value.unwrap_or_default(), &values)),
                }
            }
        }
        Ok(())
    }
}

fn apply(name: &str, s: &str, args: &[String]) -> String {
    let arg = |i: usize| args.get(i).map(String::as_str);
    match name {
        "," => change_first(s, |c| c.to_lowercase().collect()),
        ",," => s.to_lowercase(),
        "^" => change_first(s, |c| c.to_uppercase().collect()),
        "^^" => s.to_uppercase(),
        "#" if args.is_empty() => s.len().to_string(),
        "#" => trim(s, arg(0).unwrap_or_default(), true, false),
        "##" => trim(s, arg(0).unwrap_or_default(), false, false),
        "%" => trim(s, arg(0).unwrap_or_default(), true, true),
        "%%" => trim(s, arg(0).unwrap_or_default(), false, true),
        ":" => substr(s, args),
        "/" => arg(0).map_or_else(|| s.to_string(), |from| s.replacen(from, arg(1).unwrap_or_default(), 1)),
        "//" => arg(0).map_or_else(|| s.to_string(), |from| s.replace(from, arg(1).unwrap_or_default())),
        "/#" => match (arg(0), arg(1)) {
            (Some(from), Some(to)) if s.starts_with(from) => s.replacen(from, to, 1),
            _ => s.to_string(),
        },
        "/%" => match (arg(0), arg(1)) {
            (Some(from), Some(to)) => s.strip_suffix(from).map_or_else(|| s.to_string(), |head| format!("{head}{to}")),
            _ => s.to_string(),
        },
        _ if s.is_empty() => args.concat(),
        _ => s.to_string(),
    }
}

fn change_first(s: &str, change: impl Fn(char) -> String) -> String {
    let mut chars = s.chars();
    chars.next().map_or_else(String::new, |c| change(c) + chars.as_str())
}

/// A part of `s` by byte offsets, negative ones counted from the end, as bash does. Numbers that are none leave `s` as
/// it is; a cut inside a character leaves that character out.
fn substr(s: &str, args: &[String]) -> String {
    let len = i64::try_from(s.len()).unwrap_or(i64::MAX);
    let Some(Ok(mut pos)) = args.first().map(|a| a.parse::<i64>()) else { return s.to_string() };
    if pos < 0 {
        pos = (len + pos).max(0);
    }
    let end = match args.get(1).map(|a| a.parse::<i64>()) {
        None => len,
        Some(Err(_)) => return s.to_string(),
        Some(Ok(n)) if n < 0 => len + n,
        Some(Ok(n)) => pos.saturating_add(n).min(len),
    };
    let at = |i: i64| usize::try_from(i).unwrap_or(0).min(s.len());
    if end <= pos {
        return String::new();
    }
    let (mut from, mut to) = (at(pos), at(end));
    while !s.is_char_boundary(from) {
        from += 1;
    }
    while !s.is_char_boundary(to) {
        to -= 1;
    }
    s.get(from..to).unwrap_or_default().to_string()
}

/// Removes the shortest or longest start (or end) of `s` that a shell pattern matches.
fn trim(s: &str, pattern: &str, shortest: bool, suffix: bool) -> String {
    let cuts: Vec<usize> = s.char_indices().map(|(i, c)| if suffix { i } else { i + c.len_utf8() }).collect();
    let found = |cut: &usize| {
        let part = if suffix { s.get(*cut..) } else { s.get(..*cut) };
        glob::matches(pattern, part.unwrap_or_default()) == Some(true)
    };
    // For a prefix, ascending cuts are ever longer; for a suffix, ever shorter.
    let cut = if shortest == suffix { cuts.iter().rev().find(|c| found(c)) } else { cuts.iter().find(|c| found(c)) };
    match cut {
        Some(cut) if suffix => s.get(..*cut),
        Some(cut) => s.get(*cut..),
        None => Some(s),
    }
    .unwrap_or_default()
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Result<String, EnvsubstError> {
        let lookup = |name: &str| match name {
            "a" => Some("hello"),
            "path" => Some("/usr/local/bin"),
            "empty" => Some(""),
            "word" => Some("foo.bar.baz"),
            _ => None,
        };
        substitute(text, &lookup, Unset::Empty)
    }

    #[test]
    fn forms_give_what_the_reference_gives() {
        for (text, want) in [
            ("", ""),
            ("no variables: $a $ {a} $", "no variables: $a $ {a} $"),
            ("${a}", "hello"),
            ("<${a}-${a}>", "<hello-hello>"),
            ("$${a}", "${a}"),
            ("$$a $$$$", "$a $$"),
            ("$$${a}", "$hello"),
            ("${none}", ""),
            ("${none:-d} ${none:=d} ${none=d}", "d d d"),
            ("${empty:-d}", "d"),
            ("${none:-${a}}", "hello"),
            ("${none:-x${a}y}", "xhelloy"),
            ("${none:-a: b, c}", "a: b, c"),
            ("${a:-d}", "hello"),
            ("${#a}", "5"),
            ("${a:1}", "ello"),
            ("${a:1:3}", "ell"),
            ("${a: -2}", "hello"),
            ("${a:-2}", "hello"),
            ("${a:0:-1}", "hell"),
            ("${a:9}", ""),
            ("${a:0:99}", "hello"),
            ("${a/l/L}", "heLlo"),
            ("${a//l/L}", "heLLo"),
            ("${a/l/}", "helo"),
            ("${a/#he/HE}", "HEllo"),
            ("${a/%lo/LO}", "helLO"),
            ("${path//\\//-}", "-usr-local-bin"),
            ("${a^} ${a^^}", "Hello HELLO"),
            ("${a,} ${a,,}", "hello hello"),
            ("${word#*.}", "bar.baz"),
            ("${word##*.}", "baz"),
            ("${word%.*}", "foo.bar"),
            ("${word%%.*}", "foo"),
        ] {
            assert_eq!(run(text).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn malformed_expressions_are_refused_and_named() {
        assert_eq!(run("${a"), Err(EnvsubstError::MissingClosingBrace("${a".into())));
        assert_eq!(run("x ${a-d} y"), Err(EnvsubstError::MissingClosingBrace("${a-d} y".into())));
        assert!(matches!(run("${}"), Err(EnvsubstError::VariableName(_))));
        assert!(matches!(run("${a:}"), Err(EnvsubstError::Argument(_))));
        let deep = "${x:-".repeat(1000);
        assert_eq!(run(&deep), Err(EnvsubstError::TooDeep));
    }

    #[test]
    fn strict_mode_refuses_unset_variables_without_a_default() {
        let none = |_: &str| None;
        assert_eq!(substitute("${x}", &none, Unset::Refused), Err(EnvsubstError::NotSet("x".into())));
        assert_eq!(substitute("${x^^}", &none, Unset::Refused), Err(EnvsubstError::NotSet("x".into())));
        assert_eq!(substitute("${x:-1}", &none, Unset::Refused).as_deref(), Ok("1"));
        assert_eq!(substitute("${x:-1} a.${x}", &none, Unset::Placeholder).as_deref(), Ok("1 a...PLACEHOLDER_x.."));
    }
}
