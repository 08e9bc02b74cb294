//! Text to expression tree.

use druse_object::value::Str;

use super::CelError;

/// How deeply expressions may nest.
const MAX_DEPTH: usize = 100;
/// How long an expression may be.
const MAX_LENGTH: usize = 100_000;

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

/// An expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Lit(Lit),
    Ident(Str),
    /// `e.f`, or `e.?f`
    Select {
        of: Box<Expr>,
        field: Str,
        optional: bool,
    },
    /// `has(e.f)`
    Has(Box<Expr>, Str),
    /// `e[i]`, or `e[?i]`
    Index {
        of: Box<Expr>,
        at: Box<Expr>,
        optional: bool,
    },
    Call {
        name: Str,
        target: Option<Box<Expr>>,
        args: Vec<Expr>,
    },
    /// Items, each with whether it is optional.
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    If(Box<Expr>, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Binary(Op, Box<Expr>, Box<Expr>),
    /// A macro over a list or map: kind, range, names, and its bodies.
    Over {
        kind: Macro,
        range: Box<Expr>,
        names: Vec<Str>,
        bodies: Vec<Expr>,
    },
    /// `cel.bind(name, value, body)`
    Bind(Str, Box<Expr>, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Macro {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
    TransformList,
    TransformMap,
    SortBy,
    OptMap,
    OptFlatMap,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Ident(Str),
    Lit(Lit),
    Punct(&'static str),
    End,
}

/// What cannot be read, and where, in bytes.
struct Fault {
    at: usize,
    why: String,
}

fn fail<T>(at: usize, why: impl std::fmt::Display) -> Result<T, Fault> {
    Err(Fault { at, why: why.to_string() })
}

/// An error as cel-go shows it: its place, the line, and a mark below it.
pub(super) fn shown(text: &str, at: usize, why: &str) -> String {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |i| i + 1);
    let number = before.matches('\n').count() + 1;
    let line = text.get(start..).unwrap_or_default().lines().next().unwrap_or_default();
    let column = before.get(start..).unwrap_or_default().chars().count();
    format!("ERROR: <input>:{number}:{}: {why}\n | {line}\n | {}^", column + 1, ".".repeat(column))
}

/// What may begin an expression.
const BEGINNINGS: &str =
    "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

const PUNCT: [&str; 28] = [
    "==", "!=", "<=", ">=", "&&", "||", ".?", "[?", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "!", "<", ">",
    "+", "-", "*", "/", "%", "=", "&",
];

fn lex(text: &str) -> Result<Vec<(usize, Token)>, Fault> {
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

struct Parser {
    /// Where the text ends.
    end: usize,
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

/// Parses a whole expression.
pub(crate) fn parse(text: &str) -> Result<Expr, CelError> {
    read(text).map_err(|f| CelError(shown(text, f.at, &format!("Syntax error: {}", f.why))))
}

fn read(text: &str) -> Result<Expr, Fault> {
    if text.len() > MAX_LENGTH {
        return fail(0, "expression code point size exceeds limit");
    }
    let mut p = Parser { tokens: lex(text)?, at: 0, depth: 0, end: text.len() };
    let e = p.expr()?;
    match p.peek() {
        Token::End => Ok(e),
        _ => fail(p.position(), "extraneous input"),
    }
}

/// Whether this names a type whose values are written `Type{field: value}`: what mutating policies make.
fn is_message(e: &Expr) -> bool {
    match e {
        Expr::Ident(n) => matches!(n.as_str(), "Object" | "JSONPatch"),
        Expr::Select { of, optional: false, .. } => is_message(of),
        _ => false,
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, t)| t)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(at, _)| *at)
    }

    fn next(&mut self) -> Token {
        let t = self.peek().clone();
        self.at += 1;
        t
    }

    fn accept(&mut self, p: &str) -> bool {
        let yes = matches!(self.peek(), Token::Punct(q) if *q == p);
        self.at += usize::from(yes);
        yes
    }

    fn expect(&mut self, p: &str) -> Result<(), Fault> {
        if self.accept(p) { Ok(()) } else { fail(self.position(), format!("missing '{p}'")) }
    }

    fn expr(&mut self) -> Result<Expr, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return fail(self.position(), "expression recursion limit exceeded");
        }
        let cond = self.or()?;
        let e = if self.accept("?") {
            let yes = self.or()?;
            self.expect(":")?;
            let no = self.expr()?;
            Expr::If(Box::new(cond), Box::new(yes), Box::new(no))
        } else {
            cond
        };
        self.depth -= 1;
        Ok(e)
    }

    fn or(&mut self) -> Result<Expr, Fault> {
        let mut e = self.and()?;
        while self.accept("||") {
            e = Expr::Or(Box::new(e), Box::new(self.and()?));
        }
        Ok(e)
    }

    fn and(&mut self) -> Result<Expr, Fault> {
        let mut e = self.relation()?;
        while self.accept("&&") {
            e = Expr::And(Box::new(e), Box::new(self.relation()?));
        }
        Ok(e)
    }

    fn relation(&mut self) -> Result<Expr, Fault> {
        let mut e = self.sum()?;
        loop {
            let op = match self.peek() {
                Token::Punct("==") => Op::Eq,
                Token::Punct("!=") => Op::Ne,
                Token::Punct("<") => Op::Lt,
                Token::Punct("<=") => Op::Le,
                Token::Punct(">") => Op::Gt,
                Token::Punct(">=") => Op::Ge,
                Token::Ident(w) if w == "in" => Op::In,
                _ => return Ok(e),
            };
            self.at += 1;
            e = Expr::Binary(op, Box::new(e), Box::new(self.sum()?));
        }
    }

    fn sum(&mut self) -> Result<Expr, Fault> {
        let mut e = self.product()?;
        loop {
            let op = match self.peek() {
                Token::Punct("+") => Op::Add,
                Token::Punct("-") => Op::Sub,
                _ => return Ok(e),
            };
            self.at += 1;
            e = Expr::Binary(op, Box::new(e), Box::new(self.product()?));
        }
    }

    fn product(&mut self) -> Result<Expr, Fault> {
        let mut e = self.unary()?;
        loop {
            let op = match self.peek() {
                Token::Punct("*") => Op::Mul,
                Token::Punct("/") => Op::Div,
                Token::Punct("%") => Op::Rem,
                _ => return Ok(e),
            };
            self.at += 1;
            e = Expr::Binary(op, Box::new(e), Box::new(self.unary()?));
        }
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        let (mut nots, mut negs) = (0, 0);
        while self.accept("!") {
            nots += 1;
        }
        while nots == 0 && self.accept("-") {
            negs += 1;
        }
        let mut e = self.member()?;
        if negs > 0 {
            e = match e {
                Expr::Lit(Lit::Int(i)) if negs % 2 == 1 => Expr::Lit(Lit::Int(-i)),
                Expr::Lit(Lit::Double(d)) if negs % 2 == 1 => Expr::Lit(Lit::Double(-d)),
                Expr::Lit(Lit::Uint(u)) if negs == 1 && u == 1 << 63 => Expr::Lit(Lit::Int(i64::MIN)),
                e if negs % 2 == 1 => Expr::Neg(Box::new(e)),
                e => e,
            };
        }
        if nots % 2 == 1 {
            e = Expr::Not(Box::new(e));
        } else if nots > 0 {
            e = Expr::Not(Box::new(Expr::Not(Box::new(e))));
        }
        Ok(e)
    }

    fn member(&mut self) -> Result<Expr, Fault> {
        let mut e = self.primary()?;
        let mut length = 0;
        loop {
            length += 1;
            if length > MAX_DEPTH {
                return fail(self.position(), "expression recursion limit exceeded");
            }
            let optional_select = self.accept(".?");
            if optional_select || self.accept(".") {
                let Token::Ident(name) = self.next() else {
                    return fail(self.position(), "no viable alternative at input '.'");
                };
                if !optional_select && self.accept("(") {
                    let at = self.position();
                    let args = self.args(")")?;
                    e = make_call(Some(e), name, args, at)?;
                } else {
                    e = Expr::Select { of: Box::new(e), field: unescape(&name), optional: optional_select };
                }
                continue;
            }
            if self.peek() == &Token::Punct("{") && is_message(&e) {
                self.next();
                e = self.message()?;
                continue;
            }
            let optional_index = self.accept("[?");
            if optional_index || self.accept("[") {
                let at = self.expr()?;
                self.expect("]")?;
                e = Expr::Index { of: Box::new(e), at: Box::new(at), optional: optional_index };
                continue;
            }
            return Ok(e);
        }
    }

    /// The fields of a message, after its `{`: a map by their names.
    fn message(&mut self) -> Result<Expr, Fault> {
        let mut fields = Vec::new();
        while !self.accept("}") {
            if !fields.is_empty() {
                self.expect(",")?;
                if self.accept("}") {
                    break;
                }
            }
            let optional = self.accept("?");
            let at = self.position();
            let Token::Ident(name) = self.next() else { return fail(at, "a message's field has a name") };
            self.expect(":")?;
            fields.push((Expr::Lit(Lit::Str(unescape(&name))), self.expr()?, optional));
        }
        Ok(Expr::Map(fields))
    }

    fn args(&mut self, end: &str) -> Result<Vec<Expr>, Fault> {
        let mut out = Vec::new();
        while !self.accept(end) {
            if !out.is_empty() {
                self.expect(",")?;
                if self.accept(end) {
                    break;
                }
            }
            out.push(self.expr()?);
        }
        Ok(out)
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let at = self.position();
        match self.next() {
            Token::Lit(l) => Ok(Expr::Lit(l)),
            Token::Punct("(") => {
                let e = self.expr()?;
                self.expect(")")?;
                Ok(e)
            }
            Token::Punct(open @ ("[" | "[?")) => {
                let mut items = Vec::new();
                let mut first_optional = open == "[?";
                while !self.accept("]") {
                    if !items.is_empty() {
                        self.expect(",")?;
                        if self.accept("]") {
                            break;
                        }
                    }
                    let optional = std::mem::take(&mut first_optional) || self.accept("?");
                    items.push((self.expr()?, optional));
                }
                Ok(Expr::List(items))
            }
            Token::Punct("{") => {
                let mut items = Vec::new();
                while !self.accept("}") {
                    if !items.is_empty() {
                        self.expect(",")?;
                        if self.accept("}") {
                            break;
                        }
                    }
                    let optional = self.accept("?");
                    let k = self.expr()?;
                    self.expect(":")?;
                    items.push((k, self.expr()?, optional));
                }
                Ok(Expr::Map(items))
            }
            Token::Punct(".") => self.primary(),
            Token::Ident(name) => {
                if self.accept("(") {
                    let args = self.args(")")?;
                    make_call(None, name, args, at)
                } else {
                    Ok(Expr::Ident(name))
                }
            }
            Token::End => fail(at, format!("mismatched input '<EOF>' expecting {BEGINNINGS}")),
            Token::Punct(p) => fail(at, format!("mismatched input '{p}' expecting {BEGINNINGS}")),
        }
    }
}

/// Field names that are no identifiers are written escaped.
fn unescape(name: &str) -> Str {
    if !name.contains("__") {
        return name.into();
    }
    const WORDS: &[&str] = &[
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
    ];
    if let Some(word) = name.strip_prefix("__").and_then(|n| n.strip_suffix("__"))
        && WORDS.contains(&word)
    {
        return word.into();
    }
    name.replace("__underscores__", "\u{0}")
        .replace("__dot__", ".")
        .replace("__dash__", "-")
        .replace("__slash__", "/")
        .replace('\u{0}', "__")
        .into()
}

/// A call, or the macro it stands for.
fn make_call(target: Option<Expr>, name: Str, mut args: Vec<Expr>, at: usize) -> Result<Expr, Fault> {
    let ident = |e: &Expr| match e {
        Expr::Ident(n) => Ok(n.clone()),
        _ => fail(at, "argument must be a simple name"),
    };
    if let (None, "has", 1) = (&target, name.as_str(), args.len()) {
        return match args.pop() {
            Some(Expr::Select { of, field, .. }) => Ok(Expr::Has(of, field)),
            _ => fail(at, "invalid argument to has() macro"),
        };
    }
    if let (Some(Expr::Ident(space)), "bind", 3) = (&target, name.as_str(), args.len())
        && space == "cel"
        && let (Some(body), Some(value), Some(var)) = (args.pop(), args.pop(), args.pop())
    {
        return Ok(Expr::Bind(ident(&var)?, Box::new(value), Box::new(body)));
    }
    let kind = match (name.as_str(), args.len()) {
        ("all", 2 | 3) => Some(Macro::All),
        ("exists", 2 | 3) => Some(Macro::Exists),
        ("exists_one" | "existsOne", 2 | 3) => Some(Macro::ExistsOne),
        ("map", 2 | 3) => Some(Macro::Map),
        ("filter", 2) => Some(Macro::Filter),
        ("transformList", 3 | 4) => Some(Macro::TransformList),
        ("transformMap", 3 | 4) => Some(Macro::TransformMap),
        ("sortBy", 2) => Some(Macro::SortBy),
        ("optMap", 2) => Some(Macro::OptMap),
        ("optFlatMap", 2) => Some(Macro::OptFlatMap),
        _ => None,
    };
    if let (Some(kind), Some(_)) = (kind, &target) {
        let two_names =
            matches!(kind, Macro::TransformList | Macro::TransformMap) || args.len() == 3 && kind != Macro::Map;
        let bodies = args.split_off(if two_names { 2 } else { 1 });
        let names = args.iter().map(ident).collect::<Result<Vec<_>, _>>()?;
        let Some(range) = target else { return fail(at, "a macro needs a range") };
        return Ok(Expr::Over { kind, range: Box::new(range), names, bodies });
    }
    Ok(Expr::Call { name, target: target.map(Box::new), args })
}

/// Whether a variable is read anywhere (names that macros bind do not count as bound: a false yes is harmless).
pub(crate) fn reads(e: &Expr, name: &str) -> bool {
    let r = |e: &Expr| reads(e, name);
    match e {
        Expr::Lit(_) => false,
        Expr::Ident(n) => n == name,
        Expr::Select { of, .. } | Expr::Has(of, _) | Expr::Not(of) | Expr::Neg(of) => r(of),
        Expr::Index { of, at, .. } => r(of) || r(at),
        Expr::Call { target, args, .. } => target.as_deref().is_some_and(r) || args.iter().any(r),
        Expr::List(items) => items.iter().any(|(e, _)| r(e)),
        Expr::Map(items) => items.iter().any(|(k, v, _)| r(k) || r(v)),
        Expr::If(a, b, c) => r(a) || r(b) || r(c),
        Expr::And(a, b) | Expr::Or(a, b) | Expr::Binary(_, a, b) | Expr::Bind(_, a, b) => r(a) || r(b),
        Expr::Over { range, bodies, .. } => r(range) || bodies.iter().any(r),
    }
}
