//! Words to an expression tree.

use druse_object::value::Str;

use super::CelError;
use super::lex::{BEGINNINGS, Fault, Token, fail, lex};
pub(super) use super::lex::{Lit, shown};

/// How deeply expressions may nest.
const MAX_DEPTH: usize = 100;
/// How long an expression may be.
const MAX_LENGTH: usize = 100_000;

/// An expression, and where cel-go says it is, in bytes: an operator's sign, a call's parenthesis.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) at: usize,
    pub(crate) kind: Kind,
}

/// A field's name: what it is called, and as it is written where the name is no identifier.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: Str,
    pub(crate) written: Str,
    pub(crate) at: usize,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Lit(Lit),
    Ident(Str),
    /// `e.f`, or `e.?f`
    Select {
        of: Box<Expr>,
        field: Field,
        optional: bool,
    },
    /// `has(e.f)`
    Has(Box<Expr>, Field),
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
    /// `Object.spec{field: value}`: the type's name, and its fields as a map has them.
    Message(Str, Vec<(Expr, Expr, bool)>),
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

struct Parser {
    /// Where the text ends.
    end: usize,
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

/// Parses a whole expression.
pub(crate) fn parse(text: &str) -> Result<Expr, CelError> {
    read(text).map_err(|f| match text {
        // There is no first line to point into.
        "" => CelError(format!("ERROR: <input>:1:0: {}", f.why)),
        _ => CelError(shown(text, f.at, &f.why)),
    })
}

fn read(text: &str) -> Result<Expr, Fault> {
    if text.len() > MAX_LENGTH {
        return fail(0, "expression code point size exceeds limit");
    }
    let mut p = Parser { tokens: lex(text)?, at: 0, depth: 0, end: text.len() };
    let e = p.expr()?;
    match p.peek() {
        Token::End => Ok(e),
        found => {
            // Where one token is too much, it alone is named as such.
            let last = p.tokens.get(p.at + 1).is_none_or(|(_, t)| *t == Token::End);
            let what = if last { "extraneous" } else { "mismatched" };
            let end = p.tokens.get(p.at + 1).map_or(p.end, |(at, _)| *at);
            let word = match found {
                Token::Ident(name) => name.to_string(),
                Token::Punct(mark) => mark.to_string(),
                _ => text.get(p.position()..end).unwrap_or_default().trim_end().to_owned(),
            };
            fail(p.position(), format!("{what} input '{word}' expecting <EOF>"))
        }
    }
}

/// The name of a type whose values are written `Type{field: value}`: what mutating policies make.
fn message_name(e: &Expr) -> Option<String> {
    match &e.kind {
        Kind::Ident(n) if matches!(n.as_str(), "Object" | "JSONPatch") => Some(n.to_string()),
        Kind::Select { of, field, optional: false } => message_name(of).map(|n| format!("{n}.{}", field.written)),
        _ => None,
    }
}

/// Words of the language. No variable can be called so (cel-go's `reservedIds`), and a field that is, is written `__word__`
/// (apiserver/pkg/cel/escaping.go).
pub(crate) const WORDS: [&str; 21] = [
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
    "var",
    "void",
    "while",
];

fn made(at: usize, kind: Kind) -> Expr {
    Expr { at, kind }
}

fn boxed(at: usize, make: impl FnOnce(Box<Expr>, Box<Expr>) -> Kind, a: Expr, b: Expr) -> Expr {
    made(at, make(Box::new(a), Box::new(b)))
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

    /// Takes a sign that is next, and says where it is.
    fn accept(&mut self, p: &str) -> Option<usize> {
        let at = self.position();
        let yes = matches!(self.peek(), Token::Punct(q) if *q == p);
        self.at += usize::from(yes);
        yes.then_some(at)
    }

    fn expect(&mut self, p: &str) -> Result<(), Fault> {
        if self.accept(p).is_some() { Ok(()) } else { fail(self.position(), format!("missing '{p}'")) }
    }

    fn expr(&mut self) -> Result<Expr, Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return fail(self.position(), "expression recursion limit exceeded");
        }
        let cond = self.or()?;
        let e = if let Some(at) = self.accept("?") {
            let yes = self.or()?;
            self.expect(":")?;
            let no = self.expr()?;
            made(at, Kind::If(Box::new(cond), Box::new(yes), Box::new(no)))
        } else {
            cond
        };
        self.depth -= 1;
        Ok(e)
    }

    fn or(&mut self) -> Result<Expr, Fault> {
        let mut e = self.and()?;
        while let Some(at) = self.accept("||") {
            e = boxed(at, Kind::Or, e, self.and()?);
        }
        Ok(e)
    }

    fn and(&mut self) -> Result<Expr, Fault> {
        let mut e = self.relation()?;
        while let Some(at) = self.accept("&&") {
            e = boxed(at, Kind::And, e, self.relation()?);
        }
        Ok(e)
    }

    /// Operators of one rank, which group from the left.
    fn binary(
        &mut self,
        of: impl Fn(&Token) -> Option<Op>,
        side: impl Fn(&mut Self) -> Result<Expr, Fault>,
    ) -> Result<Expr, Fault> {
        let mut e = side(self)?;
        while let Some(op) = of(self.peek()) {
            let at = self.position();
            self.at += 1;
            e = boxed(at, |a, b| Kind::Binary(op, a, b), e, side(self)?);
        }
        Ok(e)
    }

    fn relation(&mut self) -> Result<Expr, Fault> {
        let op = |t: &Token| match t {
            Token::Punct("==") => Some(Op::Eq),
            Token::Punct("!=") => Some(Op::Ne),
            Token::Punct("<") => Some(Op::Lt),
            Token::Punct("<=") => Some(Op::Le),
            Token::Punct(">") => Some(Op::Gt),
            Token::Punct(">=") => Some(Op::Ge),
            Token::Ident(w) if w == "in" => Some(Op::In),
            _ => None,
        };
        self.binary(op, Self::sum)
    }

    fn sum(&mut self) -> Result<Expr, Fault> {
        let op = |t: &Token| match t {
            Token::Punct("+") => Some(Op::Add),
            Token::Punct("-") => Some(Op::Sub),
            _ => None,
        };
        self.binary(op, Self::product)
    }

    fn product(&mut self) -> Result<Expr, Fault> {
        let op = |t: &Token| match t {
            Token::Punct("*") => Some(Op::Mul),
            Token::Punct("/") => Some(Op::Div),
            Token::Punct("%") => Some(Op::Rem),
            _ => None,
        };
        self.binary(op, Self::unary)
    }

    fn unary(&mut self) -> Result<Expr, Fault> {
        let at = self.position();
        let (mut nots, mut negs) = (0, 0);
        while self.accept("!").is_some() {
            nots += 1;
        }
        while nots == 0 && self.accept("-").is_some() {
            negs += 1;
        }
        let e = self.member()?;
        if negs % 2 == 1 {
            return Ok(match e.kind {
                Kind::Lit(Lit::Int(i)) => made(at, Kind::Lit(Lit::Int(-i))),
                Kind::Lit(Lit::Double(d)) => made(at, Kind::Lit(Lit::Double(-d))),
                Kind::Lit(Lit::Uint(u)) if u == 1 << 63 => made(at, Kind::Lit(Lit::Int(i64::MIN))),
                _ => made(at, Kind::Neg(Box::new(e))),
            });
        }
        Ok(if nots % 2 == 1 { made(at, Kind::Not(Box::new(e))) } else { e })
    }

    fn member(&mut self) -> Result<Expr, Fault> {
        let mut e = self.primary()?;
        let mut length = 0;
        loop {
            length += 1;
            if length > MAX_DEPTH {
                return fail(self.position(), "expression recursion limit exceeded");
            }
            let at = self.position();
            let optional = self.accept(".?").is_some();
            if optional || self.accept(".").is_some() {
                let named = self.position();
                let Token::Ident(name) = self.next() else {
                    return fail(self.position(), "no viable alternative at input '.'");
                };
                if let Some(open) = self.accept("(").filter(|_| !optional) {
                    let args = self.args(")")?;
                    e = make_call(Some(e), name, args, open)?;
                } else {
                    let field = Field { name: unescape(&name), written: name, at: named };
                    e = made(at, Kind::Select { of: Box::new(e), field, optional });
                }
                continue;
            }
            if self.peek() == &Token::Punct("{")
                && let Some(name) = message_name(&e)
            {
                self.next();
                e = made(at, Kind::Message(name.into(), self.message()?));
                continue;
            }
            let optional = self.accept("[?").is_some();
            if optional || self.accept("[").is_some() {
                let key = self.expr()?;
                self.expect("]")?;
                e = boxed(at, |of, at| Kind::Index { of, at, optional }, e, key);
                continue;
            }
            return Ok(e);
        }
    }

    /// Entries up to a closing sign, which a comma may stand before.
    fn entries<T>(&mut self, end: &str, one: impl Fn(&mut Self) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        let mut out = Vec::new();
        while self.accept(end).is_none() {
            if !out.is_empty() {
                self.expect(",")?;
                if self.accept(end).is_some() {
                    break;
                }
            }
            out.push(one(self)?);
        }
        Ok(out)
    }

    /// The fields of a message, after its `{`: a map by their names.
    fn message(&mut self) -> Result<Vec<(Expr, Expr, bool)>, Fault> {
        self.entries("}", |p| {
            let optional = p.accept("?").is_some();
            let at = p.position();
            let Token::Ident(name) = p.next() else {
                let found =
                    p.tokens.get(p.at - 1).map_or("<EOF>", |(_, t)| if *t == Token::End { "<EOF>" } else { "" });
                let why = "expecting {'}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}";
                return fail(at, format!("mismatched input '{found}' {why}"));
            };
            p.expect(":")?;
            Ok((made(at, Kind::Lit(Lit::Str(unescape(&name)))), p.expr()?, optional))
        })
    }

    fn args(&mut self, end: &str) -> Result<Vec<Expr>, Fault> {
        self.entries(end, Self::expr)
    }

    fn primary(&mut self) -> Result<Expr, Fault> {
        let at = self.position();
        match self.next() {
            Token::Lit(l) => Ok(made(at, Kind::Lit(l))),
            Token::Punct("(") => {
                let e = self.expr()?;
                self.expect(")")?;
                Ok(e)
            }
            Token::Punct(open @ ("[" | "[?")) => {
                let first_optional = std::cell::Cell::new(open == "[?");
                let items = self.entries("]", |p| {
                    let optional = first_optional.take() || p.accept("?").is_some();
                    Ok((p.expr()?, optional))
                })?;
                Ok(made(at, Kind::List(items)))
            }
            Token::Punct("{") => {
                let items = self.entries("}", |p| {
                    let optional = p.accept("?").is_some();
                    let k = p.expr()?;
                    p.expect(":")?;
                    Ok((k, p.expr()?, optional))
                })?;
                Ok(made(at, Kind::Map(items)))
            }
            Token::Punct(".") => self.primary(),
            Token::Ident(name) if WORDS.contains(&name.as_str()) => {
                Err(Fault { at, why: format!("reserved identifier: {name}") })
            }
            Token::Ident(name) => {
                if let Some(open) = self.accept("(") {
                    let args = self.args(")")?;
                    make_call(None, name, args, open)
                } else {
                    Ok(made(at, Kind::Ident(name)))
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
    let ident = |e: &Expr| match &e.kind {
        Kind::Ident(n) => Ok(n.clone()),
        _ => {
            let why = if matches!(name.as_str(), "map" | "filter") {
                "argument is not an identifier"
            } else {
                "argument must be a simple name"
            };
            Err(Fault { at: e.at, why: why.into() })
        }
    };
    if let (None, "has", 1) = (&target, name.as_str(), args.len()) {
        return match args.pop() {
            Some(Expr { kind: Kind::Select { of, field, optional: false }, .. }) => Ok(made(at, Kind::Has(of, field))),
            Some(other) => Err(Fault { at: other.at, why: "invalid argument to has() macro".into() }),
            None => fail(at, "missing argument"),
        };
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
        return Ok(made(at, Kind::Over { kind, range: Box::new(range), names, bodies }));
    }
    Ok(made(at, Kind::Call { name, target: target.map(Box::new), args }))
}

/// Whether a variable is read anywhere (names that macros bind do not count as bound: a false yes is harmless).
pub(crate) fn reads(e: &Expr, name: &str) -> bool {
    let r = |e: &Expr| reads(e, name);
    match &e.kind {
        Kind::Lit(_) => false,
        Kind::Ident(n) => n == name,
        Kind::Select { of, .. } | Kind::Has(of, _) | Kind::Not(of) | Kind::Neg(of) => r(of),
        Kind::Index { of, at, .. } => r(of) || r(at),
        Kind::Call { target, args, .. } => target.as_deref().is_some_and(r) || args.iter().any(r),
        Kind::List(items) => items.iter().any(|(e, _)| r(e)),
        Kind::Map(items) | Kind::Message(_, items) => items.iter().any(|(k, v, _)| r(k) || r(v)),
        Kind::If(a, b, c) => r(a) || r(b) || r(c),
        Kind::And(a, b) | Kind::Or(a, b) | Kind::Binary(_, a, b) => r(a) || r(b),
        Kind::Over { range, bodies, .. } => r(range) || bodies.iter().any(r),
    }
}
