//! The scanner of Go's `text/template/parse/lex.go`: template text to items, one at a time.

use memchr::memmem::Finder;

use crate::strconv;

/// What an item is; the order puts keywords last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Error,
    Bool,
    Char,
    CharConstant,
    Complex,
    Assign,
    Declare,
    Eof,
    Field,
    Identifier,
    LeftDelim,
    LeftParen,
    Number,
    Pipe,
    RawString,
    RightDelim,
    RightParen,
    Space,
    String,
    Text,
    Variable,
    Block,
    Break,
    Continue,
    Dot,
    Define,
    Else,
    End,
    If,
    Nil,
    Range,
    Template,
    With,
}

fn keyword(word: &str) -> Option<Kind> {
    Some(match word {
        "." => Kind::Dot,
        "block" => Kind::Block,
        "break" => Kind::Break,
        "continue" => Kind::Continue,
        "define" => Kind::Define,
        "else" => Kind::Else,
        "end" => Kind::End,
        "if" => Kind::If,
        "range" => Kind::Range,
        "nil" => Kind::Nil,
        "template" => Kind::Template,
        "with" => Kind::With,
        _ => return None,
    })
}

/// One item; `line` is the line of its start. What an error says is in [`Lexer::failure`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'t> {
    pub kind: Kind,
    pub pos: usize,
    pub val: &'t str,
    pub line: usize,
}

impl Item<'_> {
    /// As Go's messages show an item.
    pub fn show(&self) -> String {
        match self.kind {
            Kind::Eof => "EOF".to_owned(),
            k if k >= Kind::Block => format!("<{}>", self.val),
            _ if self.val.len() > 10 => {
                let cut: String = self.val.chars().take(10).collect();
                format!("{}...", strconv::quote(&cut))
            }
            _ => strconv::quote(self.val),
        }
    }
}

const LEFT: &str = "{{";
const RIGHT: &str = "}}";
const SPACES: [char; 4] = [' ', '\t', '\r', '\n'];
/// The marker `-` and its space.
const TRIM_LEN: usize = 2;

pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_alphanumeric(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || (!c.is_ascii() && c.is_alphanumeric())
}

fn left_trim(s: &str) -> bool {
    let b = s.as_bytes();
    matches!(b, [b'-', x, ..] if is_space(*x as char))
}

fn right_trim(s: &str) -> bool {
    let b = s.as_bytes();
    matches!(b, [x, b'-', ..] if is_space(*x as char))
}

fn newlines(s: &str) -> usize {
    memchr::memchr_iter(b'\n', s.as_bytes()).count()
}

/// The scanner's state.
pub(super) struct Lexer<'t> {
    input: &'t str,
    pos: usize,
    start: usize,
    at_eof: bool,
    paren_depth: i64,
    line: usize,
    start_line: usize,
    inside_action: bool,
    left: Finder<'static>,
    /// What the item of the last error says.
    pub failure: String,
}

impl<'t> Lexer<'t> {
    pub fn new(input: &'t str) -> Self {
        Self {
            input,
            pos: 0,
            start: 0,
            at_eof: false,
            paren_depth: 0,
            line: 1,
            start_line: 1,
            inside_action: false,
            left: Finder::new(LEFT),
            failure: String::new(),
        }
    }

    fn rest(&self) -> &'t str {
        self.input.get(self.pos..).unwrap_or("")
    }

    fn after(&self, n: usize) -> &'t str {
        self.input.get(self.pos + n..).unwrap_or("")
    }

    fn pending(&self) -> &'t str {
        self.input.get(self.start..self.pos).unwrap_or("")
    }

    fn next(&mut self) -> Option<char> {
        let Some(c) = self.rest().chars().next() else {
            self.at_eof = true;
            return None;
        };
        self.pos += c.len_utf8();
        if c == '\n' {
            self.line += 1;
        }
        Some(c)
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn backup(&mut self) {
        if self.at_eof {
            return;
        }
        if let Some(c) = self.input.get(..self.pos).and_then(|s| s.chars().next_back()) {
            self.pos -= c.len_utf8();
            if c == '\n' {
                self.line -= 1;
            }
        }
    }

    fn emit(&mut self, kind: Kind) -> Item<'t> {
        let item = Item { kind, pos: self.start, val: self.pending(), line: self.start_line };
        self.start = self.pos;
        self.start_line = self.line;
        item
    }

    /// Skips the text up to here, counting its lines.
    fn ignore(&mut self) {
        self.line += newlines(self.pending());
        self.start = self.pos;
        self.start_line = self.line;
    }

    fn accept(&mut self, valid: &str) -> bool {
        match self.next() {
            Some(c) if valid.contains(c) => true,
            Some(_) => {
                self.backup();
                false
            }
            None => false,
        }
    }

    fn accept_run(&mut self, valid: &str) {
        while self.accept(valid) {}
    }

    fn error(&mut self, message: impl Into<String>) -> Item<'t> {
        let item = Item { kind: Kind::Error, pos: self.start, val: "", line: self.start_line };
        self.failure = message.into();
        self.start = 0;
        self.pos = 0;
        self.input = "";
        item
    }

    /// The next item.
    pub fn next_item(&mut self) -> Item<'t> {
        if self.inside_action { self.inside_action() } else { self.text() }
    }

    fn text(&mut self) -> Item<'t> {
        loop {
            let Some(x) = self.left.find(self.rest().as_bytes()) else {
                self.pos = self.input.len();
                if self.pos > self.start {
                    self.line += newlines(self.pending());
                    return self.emit(Kind::Text);
                }
                return Item { kind: Kind::Eof, pos: self.pos, val: "EOF", line: self.start_line };
            };
            if x > 0 {
                self.pos += x;
                let mut trim = 0;
                if left_trim(self.after(LEFT.len())) {
                    let s = self.pending();
                    trim = s.len() - s.trim_end_matches(SPACES).len();
                }
                self.pos -= trim;
                self.line += newlines(self.pending());
                let item = self.emit(Kind::Text);
                self.pos += trim;
                self.ignore();
                if !item.val.is_empty() {
                    return item;
                }
            }
            if let Some(item) = self.left_delim() {
                return item;
            }
        }
    }

    /// The left delimiter, or a comment: then `None`, and text follows.
    fn left_delim(&mut self) -> Option<Item<'t>> {
        self.pos += LEFT.len();
        let marker = if left_trim(self.rest()) { TRIM_LEN } else { 0 };
        if self.after(marker).starts_with("/*") {
            self.pos += marker;
            self.ignore();
            return self.comment();
        }
        let item = self.emit(Kind::LeftDelim);
        self.inside_action = true;
        self.pos += marker;
        self.ignore();
        self.paren_depth = 0;
        Some(item)
    }

    fn comment(&mut self) -> Option<Item<'t>> {
        self.pos += 2;
        let Some(x) = self.rest().find("*/") else {
            return Some(self.error("unclosed comment"));
        };
        self.pos += x + 2;
        let Some(trim) = self.right_delim_ahead() else {
            return Some(self.error("comment ends before closing delimiter"));
        };
        self.line += newlines(self.pending());
        self.start = self.pos;
        self.start_line = self.line;
        if trim {
            self.pos += TRIM_LEN;
        }
        self.pos += RIGHT.len();
        if trim {
            self.skip_spaces();
        }
        self.ignore();
        None
    }

    fn skip_spaces(&mut self) {
        let s = self.rest();
        self.pos += s.len() - s.trim_start_matches(SPACES).len();
    }

    /// Whether a right delimiter is next, and then whether it trims.
    fn right_delim_ahead(&self) -> Option<bool> {
        let rest = self.rest();
        if right_trim(rest) && self.after(TRIM_LEN).starts_with(RIGHT) {
            Some(true)
        } else if rest.starts_with(RIGHT) {
            Some(false)
        } else {
            None
        }
    }

    fn right_delim(&mut self) -> Item<'t> {
        let trim = self.right_delim_ahead() == Some(true);
        if trim {
            self.pos += TRIM_LEN;
            self.ignore();
        }
        self.pos += RIGHT.len();
        let item = self.emit(Kind::RightDelim);
        if trim {
            self.skip_spaces();
            self.ignore();
        }
        self.inside_action = false;
        item
    }

    fn inside_action(&mut self) -> Item<'t> {
        if self.right_delim_ahead().is_some() {
            if self.paren_depth == 0 {
                return self.right_delim();
            }
            return self.error("unclosed left paren");
        }
        let Some(c) = self.next() else {
            return self.error("unclosed action");
        };
        match c {
            c if is_space(c) => {
                self.backup();
                self.space()
            }
            '=' => self.emit(Kind::Assign),
            ':' => {
                if self.next() != Some('=') {
                    return self.error("expected :=");
                }
                self.emit(Kind::Declare)
            }
            '|' => self.emit(Kind::Pipe),
            '"' => self.quoted('"', Kind::String, "unterminated quoted string"),
            '`' => {
                let Some(len) = memchr::memchr(b'`', self.rest().as_bytes()) else {
                    self.pos = self.input.len();
                    return self.error("unterminated raw quoted string");
                };
                let from = self.pos;
                self.pos += len + 1;
                self.line += newlines(self.input.get(from..self.pos).unwrap_or(""));
                self.emit(Kind::RawString)
            }
            '$' => self.field_or_variable(Kind::Variable),
            '\'' => self.quoted('\'', Kind::CharConstant, "unterminated character constant"),
            '.' => {
                let digit = self.rest().as_bytes().first().is_none_or(u8::is_ascii_digit);
                if digit {
                    self.backup();
                    self.number()
                } else {
                    self.field_or_variable(Kind::Field)
                }
            }
            '+' | '-' | '0'..='9' => {
                self.backup();
                self.number()
            }
            c if is_alphanumeric(c) => {
                self.backup();
                self.identifier()
            }
            '(' => {
                self.paren_depth += 1;
                self.emit(Kind::LeftParen)
            }
            ')' => {
                self.paren_depth -= 1;
                if self.paren_depth < 0 {
                    return self.error("unexpected right paren");
                }
                self.emit(Kind::RightParen)
            }
            c if c.is_ascii_graphic() => self.emit(Kind::Char),
            c => self.error(format!("unrecognized character in action: {}", strconv::unicode_name(c))),
        }
    }

    fn space(&mut self) -> Item<'t> {
        let n = self.rest().bytes().take_while(|b| is_space(char::from(*b))).count();
        let from = self.pos;
        self.pos += n;
        self.line += newlines(self.input.get(from..self.pos).unwrap_or(""));
        let last = self.input.get(self.pos.saturating_sub(1)..).unwrap_or("");
        if right_trim(last) && last.get(TRIM_LEN..).is_some_and(|s| s.starts_with(RIGHT)) {
            self.backup();
            if n == 1 {
                return self.right_delim();
            }
        }
        self.emit(Kind::Space)
    }

    fn identifier(&mut self) -> Item<'t> {
        let bad = self.absorb_word();
        let word = self.pending();
        if let Some(item) = self.check_terminator(bad) {
            return item;
        }
        match keyword(word) {
            Some(kind) => self.emit(kind),
            None if word == "true" || word == "false" => self.emit(Kind::Bool),
            None => self.emit(Kind::Identifier),
        }
    }

    /// Consumes letters and digits; the character after them.
    fn absorb_word(&mut self) -> Option<char> {
        self.pos += self.rest().bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
        while self.peek().is_some_and(is_alphanumeric) {
            self.next();
        }
        if self.peek().is_none() {
            self.at_eof = true;
        }
        self.peek()
    }

    fn check_terminator(&mut self, next: Option<char>) -> Option<Item<'t>> {
        if self.at_terminator() {
            return None;
        }
        let shown = next.map_or_else(|| "U+FFFFFFFFFFFFFFFF".to_owned(), strconv::unicode_name);
        Some(self.error(format!("bad character {shown}")))
    }

    fn field_or_variable(&mut self, kind: Kind) -> Item<'t> {
        if self.at_terminator() {
            return self.emit(if kind == Kind::Variable { kind } else { Kind::Dot });
        }
        let bad = self.absorb_word();
        if let Some(item) = self.check_terminator(bad) {
            return item;
        }
        self.emit(kind)
    }

    fn at_terminator(&self) -> bool {
        match self.peek() {
            None | Some('.' | ',' | '|' | ':' | ')' | '(') => true,
            Some(c) => is_space(c) || self.rest().starts_with(RIGHT),
        }
    }

    fn quoted(&mut self, end: char, kind: Kind, unterminated: &str) -> Item<'t> {
        let mark = u8::try_from(end).unwrap_or(b'"');
        loop {
            // Nothing before one of these matters.
            self.pos += memchr::memchr3(mark, b'\\', b'\n', self.rest().as_bytes()).unwrap_or(0);
            match self.next() {
                Some('\\') => {
                    if matches!(self.next(), None | Some('\n')) {
                        return self.error(unterminated);
                    }
                }
                None | Some('\n') => return self.error(unterminated),
                Some(c) if c == end => return self.emit(kind),
                Some(_) => {}
            }
        }
    }

    fn number(&mut self) -> Item<'t> {
        if !self.scan_number() {
            return self.bad_number();
        }
        if matches!(self.peek(), Some('+' | '-')) {
            if !self.scan_number() || !self.pending().ends_with('i') {
                return self.bad_number();
            }
            return self.emit(Kind::Complex);
        }
        self.emit(Kind::Number)
    }

    fn bad_number(&mut self) -> Item<'t> {
        let message = format!("bad number syntax: {}", strconv::quote(self.pending()));
        self.error(message)
    }

    fn scan_number(&mut self) -> bool {
        self.accept("+-");
        let mut digits = "0123456789_";
        let (mut decimal, mut hex) = (true, false);
        if self.accept("0") {
            if self.accept("xX") {
                (digits, decimal, hex) = ("0123456789abcdefABCDEF_", false, true);
            } else if self.accept("oO") {
                (digits, decimal) = ("01234567_", false);
            } else if self.accept("bB") {
                (digits, decimal) = ("01_", false);
            }
        }
        self.accept_run(digits);
        if self.accept(".") {
            self.accept_run(digits);
        }
        if (decimal && self.accept("eE")) || (hex && self.accept("pP")) {
            self.accept("+-");
            self.accept_run("0123456789_");
        }
        self.accept("i");
        if self.peek().is_some_and(is_alphanumeric) {
            self.next();
            return false;
        }
        true
    }
}
