//! The grammar: tokens, and a parser by binding power.

use druse_aws::sealed::Json;
use zeroize::Zeroizing;

use super::PathError;

/// How deep an expression may be nested, operators after one another included: what is left of one is nested in it, and
/// evaluating goes as deep.
const MAX_DEPTH: usize = 64;
/// How many bytes an expression may have.
const MAX_LENGTH: usize = 2048;

/// A parsed expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression(pub(super) Node);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Node {
    This,
    Field(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>, i64),
    Literal(Json),
    /// The second on what the first finds.
    Then(Box<Node>, Box<Node>),
    /// The second on each item of the list that the first finds; what finds nothing is left out.
    Each(Box<Node>, Box<Node>),
    /// The same on the values of a map.
    EachValue(Box<Node>, Box<Node>),
    /// Lists in a list take its place.
    Flat(Box<Node>),
    /// List, condition, and what is done with each item that meets it.
    Filter(Box<Node>, Box<Node>, Box<Node>),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
    Compare(Order, Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    Call(String, Vec<Node>),
    /// An expression given to a function.
    Given(Box<Node>),
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Quoted(String),
    Literal(Json),
    Number(i64),
    Sign(&'static str),
    End,
}

/// Two characters before one: the first that fits is taken.
const SIGNS: [&str; 24] = [
    "[?", "[]", "||", "&&", "==", "!=", "<=", ">=", ".", "*", "[", "]", "{", "}", "(", ")", ",", ":", "|", "!", "<",
    ">", "@", "&",
];

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, PathError> {
    let mut out = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let wrong = |what: &str| PathError::Syntax { at: text[..at].chars().count() + 1, what: what.into() };
        let rest = &text[at..];
        let here = text[..at].chars().count() + 1;
        let (token, length) = match c {
            c if c.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
                (Token::Name(rest[..end].into()), end)
            }
            '0'..='9' | '-' => {
                let end = rest[1..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |n| n + 1);
                (Token::Number(rest[..end].parse().map_err(|_| wrong("this is no number"))?), end)
            }
            '"' | '\'' | '`' => {
                let inner = &rest[1..];
                let end = closing(inner, c).ok_or_else(|| wrong("this has no end"))?;
                let inner = &inner[..end];
                let token = match c {
                    '"' => match Json::parse(&rest.as_bytes()[..end + 2]) {
                        Ok(Json::Text(t)) => Token::Quoted(t.to_string()),
                        _ => return Err(wrong("this name is not quoted as JSON")),
                    },
                    '\'' => Token::Literal(Json::Text(Zeroizing::new(inner.replace("\\'", "'").replace("\\\\", "\\")))),
                    _ => {
                        let json = Json::parse(inner.replace("\\`", "`").as_bytes());
                        Token::Literal(json.map_err(|_| wrong("this literal is no JSON"))?)
                    }
                };
                (token, end + 2)
            }
            _ => match SIGNS.iter().find(|s| rest.starts_with(**s)) {
                Some(sign) => (Token::Sign(sign), sign.len()),
                None => return Err(wrong("this character does not belong here")),
            },
        };
        out.push((here, token));
        at += length;
    }
    out.push((text.chars().count() + 1, Token::End));
    Ok(out)
}

/// Where a quoted text ends.
fn closing(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (n, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(n),
            _ => {}
        }
    }
    None
}

fn power(token: &Token) -> u8 {
    match token {
        Token::Sign("|") => 1,
        Token::Sign("||") => 2,
        Token::Sign("&&") => 3,
        Token::Sign("==" | "!=" | "<" | "<=" | ">" | ">=") => 5,
        Token::Sign("[]") => 9,
        Token::Sign("*") => 20,
        Token::Sign("[?") => 21,
        Token::Sign(".") => 40,
        Token::Sign("{") => 50,
        Token::Sign("[") => 55,
        Token::Sign("(") => 60,
        _ => 0,
    }
}

/// Below this an operator ends a projection.
const PROJECTION_ENDS: u8 = 10;
const NOT: u8 = 45;
const STAR: u8 = 20;
const DOT: u8 = 40;

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    depth: usize,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// Where it does not follow the grammar.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > MAX_LENGTH {
            return Err(PathError::Syntax {
                at: 1,
                what: format!("the expression is too long; {MAX_LENGTH} bytes are taken"),
            });
        }
        let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
        let node = parser.expression(0)?;
        match parser.peek() {
            Token::End => Ok(Self(node)),
            _ => parser.wrong("an operator is missing before this"),
        }
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, t)| t)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn wrong<T>(&self, what: &str) -> Result<T, PathError> {
        let last = self.tokens.len().saturating_sub(1);
        let (at, token) = &self.tokens[self.at.min(last)];
        let early = *token == Token::End && !what.contains("missing after");
        let what = if early { "the expression ends too early" } else { what };
        Err(PathError::Syntax { at: *at, what: what.into() })
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Token::Sign(s) if *s == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let there = self.is(sign);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, sign: &str) -> Result<(), PathError> {
        if self.take(sign) { Ok(()) } else { self.wrong(&format!("{sign} is missing before this")) }
    }

    fn expression(&mut self, least: u8) -> Result<Node, PathError> {
        let around = self.depth;
        self.deeper()?;
        let mut left = self.first()?;
        while least < power(self.peek()) {
            self.deeper()?;
            left = self.further(left)?;
        }
        self.depth = around;
        Ok(left)
    }

    fn deeper(&mut self) -> Result<(), PathError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { self.wrong("this is nested too deeply") } else { Ok(()) }
    }

    fn first(&mut self) -> Result<Node, PathError> {
        match self.peek().clone() {
            Token::Literal(v) => {
                self.at += 1;
                Ok(Node::Literal(v))
            }
            Token::Name(name) => {
                self.at += 1;
                if self.is("(") { self.call(name) } else { Ok(Node::Field(name)) }
            }
            Token::Quoted(name) => {
                self.at += 1;
                if self.is("(") { self.wrong("a function's name is not quoted") } else { Ok(Node::Field(name)) }
            }
            Token::Sign("@") => {
                self.at += 1;
                Ok(Node::This)
            }
            Token::Sign("!") => {
                self.at += 1;
                Ok(Node::Not(Box::new(self.expression(NOT)?)))
            }
            Token::Sign("&") => {
                self.at += 1;
                Ok(Node::Given(Box::new(self.expression(0)?)))
            }
            Token::Sign("(") => {
                self.at += 1;
                let inner = self.expression(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Sign("*") => {
                self.at += 1;
                let right = if self.is("]") { Node::This } else { self.projected(STAR)? };
                Ok(Node::EachValue(Box::new(Node::This), Box::new(right)))
            }
            Token::Sign("{") => {
                self.at += 1;
                self.map()
            }
            Token::Sign("[]" | "[?") => self.further(Node::This),
            Token::Sign("[") => {
                let begins_index =
                    matches!(self.tokens.get(self.at + 1), Some((_, Token::Number(_) | Token::Sign(":"))));
                if begins_index || self.star_in_brackets() {
                    return self.further(Node::This);
                }
                self.at += 1;
                self.list()
            }
            _ => self.wrong("a value is missing before this"),
        }
    }

    fn star_in_brackets(&self) -> bool {
        let sign = |n: usize, s: &str| matches!(self.tokens.get(self.at + n), Some((_, Token::Sign(t))) if *t == s);
        sign(1, "*") && sign(2, "]")
    }

    fn further(&mut self, left: Node) -> Result<Node, PathError> {
        let left = Box::new(left);
        let star = self.star_in_brackets();
        match self.next() {
            Token::Sign(".") => {
                if self.take("*") {
                    return Ok(Node::EachValue(left, Box::new(self.projected(STAR)?)));
                }
                Ok(Node::Then(left, Box::new(self.after_dot(DOT)?)))
            }
            Token::Sign("|") => Ok(Node::Then(left, Box::new(self.expression(1)?))),
            Token::Sign("||") => Ok(Node::Or(left, Box::new(self.expression(2)?))),
            Token::Sign("&&") => Ok(Node::And(left, Box::new(self.expression(3)?))),
            Token::Sign("[]") => Ok(Node::Each(Box::new(Node::Flat(left)), Box::new(self.projected(9)?))),
            Token::Sign("[?") => {
                let condition = self.expression(0)?;
                self.expect("]")?;
                let right = if self.is("[]") { Node::This } else { self.projected(21)? };
                Ok(Node::Filter(left, Box::new(condition), Box::new(right)))
            }
            Token::Sign("[") if star => {
                self.at += 2;
                Ok(Node::Each(left, Box::new(self.projected(STAR)?)))
            }
            Token::Sign("[") => {
                let index = self.index()?;
                let slice = matches!(index, Node::Slice(..));
                let found = if *left == Node::This { index } else { Node::Then(left, Box::new(index)) };
                if !slice {
                    return Ok(found);
                }
                Ok(Node::Each(Box::new(found), Box::new(self.projected(STAR)?)))
            }
            Token::Sign(sign) => {
                let order = match sign {
                    "==" => Order::Equal,
                    "!=" => Order::NotEqual,
                    "<" => Order::Less,
                    "<=" => Order::AtMost,
                    ">" => Order::More,
                    ">=" => Order::AtLeast,
                    _ => {
                        self.at -= 1;
                        return self.wrong("this does not belong here");
                    }
                };
                Ok(Node::Compare(order, left, Box::new(self.expression(5)?)))
            }
            _ => {
                self.at -= 1;
                self.wrong("this does not belong here")
            }
        }
    }

    /// What is done with each item of a projection.
    fn projected(&mut self, least: u8) -> Result<Node, PathError> {
        if power(self.peek()) < PROJECTION_ENDS {
            return Ok(Node::This);
        }
        if self.is("[") || self.is("[?") {
            return self.expression(least);
        }
        if self.take(".") {
            return self.after_dot(least);
        }
        self.wrong("this does not belong here")
    }

    fn after_dot(&mut self, least: u8) -> Result<Node, PathError> {
        match self.peek() {
            Token::Name(_) | Token::Quoted(_) | Token::Sign("*") => self.expression(least),
            Token::Sign("[") => {
                self.at += 1;
                self.list()
            }
            Token::Sign("{") => {
                self.at += 1;
                self.map()
            }
            _ => self.wrong("a name, *, [ or { is missing after the dot"),
        }
    }

    /// An index or slice, up to its bracket.
    fn index(&mut self) -> Result<Node, PathError> {
        let mut parts = [None, None, None];
        let mut part = 0;
        let mut step_at = self.at;
        while !self.take("]") {
            if self.take(":") {
                part += 1;
                step_at = self.at;
                if part > 2 {
                    return self.wrong("a slice has at most three parts");
                }
            } else if let Token::Number(n) = self.peek()
                && parts[part].is_none()
            {
                parts[part] = Some(*n);
                self.at += 1;
            } else {
                return self.wrong("this is no index");
            }
        }
        match (part, parts) {
            (0, [Some(n), ..]) => Ok(Node::Index(n)),
            (0, _) => self.wrong("this is no index"),
            (_, [.., Some(0)]) => {
                self.at = step_at;
                self.wrong("a slice's step is not 0")
            }
            (_, [from, to, step]) => Ok(Node::Slice(from, to, step.unwrap_or(1))),
        }
    }

    fn list(&mut self) -> Result<Node, PathError> {
        let mut items = Vec::new();
        loop {
            items.push(self.expression(0)?);
            if self.take("]") {
                return Ok(Node::List(items));
            }
            self.expect(",")?;
        }
    }

    fn map(&mut self) -> Result<Node, PathError> {
        let mut entries = Vec::new();
        loop {
            let (Token::Name(name) | Token::Quoted(name)) = self.peek().clone() else {
                return self.wrong("this is no name");
            };
            self.at += 1;
            self.expect(":")?;
            entries.push((name, self.expression(0)?));
            if self.take("}") {
                return Ok(Node::Map(entries));
            }
            self.expect(",")?;
        }
    }

    fn call(&mut self, name: String) -> Result<Node, PathError> {
        self.at += 1;
        let mut arguments = Vec::new();
        while !self.take(")") {
            if !arguments.is_empty() {
                self.expect(",")?;
            }
            arguments.push(self.expression(0)?);
        }
        Ok(Node::Call(name, arguments))
    }
}
