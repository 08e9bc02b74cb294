//! The parser of Go's `text/template/parse/parse.go`, with its error texts.
//!
//! Parsing also compiles: function names become function references, variables become slots of the run's frame. The
//! slots follow the order in which Go's executor pushes variables, which is not quite what the parser checks: a variable declared in an
//! `if` list passes the parser in the `else` list, and fails there when it runs.

pub(crate) mod ast;
mod lex;
mod number;

use std::sync::Arc;

use druse_object::Str;

use crate::exec::{FuncMap, TemplateError};
use crate::stack;
use crate::strconv;
pub use ast::Tree;
use ast::{Branch, Decl, Id, Kind, Node};
use lex::{Item, Kind as Tok, Lexer};

/// How deep parentheses may nest (Go's own bound).
const MAX_PAREN_DEPTH: usize = 10_000;

type Fail = Box<TemplateError>;
type Res<T> = Result<T, Fail>;

/// Parses `text`: the template `name` and those it defines, each name once.
///
/// # Errors
/// The first syntax error, worded as Go words it (`template: NAME:LINE: …`).
pub fn parse(name: &str, text: &str, funcs: &FuncMap) -> Result<Vec<Arc<Tree>>, TemplateError> {
    let _bound = stack::Bound::enter();
    let mut p = Parser {
        funcs,
        lex: Lexer::new(text),
        token: std::array::from_fn(|_| blank()),
        peeked: 0,
        name: Str::from(name),
        text: Arc::from(text),
        trees: Vec::new(),
        scope: Scope::new(Str::from(name)),
        ids: Vec::new(),
    };
    match p.top_level() {
        Ok(()) => Ok(p.trees),
        Err(e) => Err(*e),
    }
}

fn blank<'t>() -> Item<'t> {
    Item { kind: Tok::Eof, pos: 0, val: "", line: 0 }
}

/// What belongs to the template being parsed, as opposed to the text.
struct Scope {
    name: Str,
    nodes: Vec<Node>,
    /// Names Go's parser takes to be defined.
    vars: Vec<Str>,
    /// Names on the executor's stack at this point; the index is the slot.
    slots: Vec<Str>,
    frame: usize,
    action_line: usize,
    range_depth: usize,
    paren_depth: usize,
}

impl Scope {
    fn new(name: Str) -> Self {
        Self {
            name,
            nodes: Vec::new(),
            vars: vec![Str::new_static("$")],
            slots: vec![Str::new_static("$")],
            frame: 1,
            action_line: 0,
            range_depth: 0,
            paren_depth: 0,
        }
    }
}

/// What a list ended with.
enum End {
    End,
    Else,
}

impl End {
    fn show(&self) -> &'static str {
        match self {
            End::End => "{{end}}",
            End::Else => "{{else}}",
        }
    }
}

/// A node of a list, or what ends the list.
enum Part {
    Node(Id),
    End(End),
}

struct Parser<'t, 'f> {
    funcs: &'f FuncMap,
    lex: Lexer<'t>,
    token: [Item<'t>; 3],
    peeked: usize,
    name: Str,
    text: Arc<str>,
    trees: Vec<Arc<Tree>>,
    scope: Scope,
    /// The lists being read, innermost last.
    ids: Vec<Id>,
}

fn pos32(pos: usize) -> u32 {
    u32::try_from(pos).unwrap_or(u32::MAX)
}

impl<'t> Parser<'t, '_> {
    // Items.

    fn next(&mut self) -> Item<'t> {
        if self.peeked > 0 {
            self.peeked -= 1;
        } else {
            self.token[0] = self.lex.next_item();
        }
        self.token.get(self.peeked).copied().unwrap_or_else(blank)
    }

    fn backup(&mut self) {
        self.peeked += 1;
    }

    fn backup2(&mut self, t1: Item<'t>) {
        self.token[1] = t1;
        self.peeked = 2;
    }

    fn backup3(&mut self, t2: Item<'t>, t1: Item<'t>) {
        self.token[1] = t1;
        self.token[2] = t2;
        self.peeked = 3;
    }

    fn peek(&mut self) -> &Item<'t> {
        if self.peeked == 0 {
            self.peeked = 1;
            self.token[0] = self.lex.next_item();
        }
        &self.token[(self.peeked - 1).min(2)]
    }

    fn next_non_space(&mut self) -> Item<'t> {
        loop {
            let token = self.next();
            if token.kind != Tok::Space {
                return token;
            }
        }
    }

    fn peek_non_space(&mut self) -> Item<'t> {
        let token = self.next_non_space();
        self.backup();
        token
    }

    // Errors.

    fn error_at<T>(&self, line: usize, message: impl Into<String>) -> Res<T> {
        Err(Box::new(TemplateError::parse(&self.name, line, message.into())))
    }

    fn error<T>(&self, message: impl Into<String>) -> Res<T> {
        self.error_at(self.token[0].line, message)
    }

    fn unexpected<T>(&self, token: &Item<'t>, context: &str) -> Res<T> {
        if token.kind == Tok::Error {
            let mut extra = String::new();
            let line = self.scope.action_line;
            if line != 0 && line != token.line {
                let action = if self.lex.failure.ends_with(" action") { "" } else { " in action" };
                extra = format!("{action} started at {}:{line}", self.name);
            }
            return self.error(format!("{}{extra}", self.lex.failure));
        }
        self.error(format!("unexpected {} in {context}", token.show()))
    }

    fn expect(&mut self, kind: Tok, context: &str) -> Res<Item<'t>> {
        let token = self.next_non_space();
        if token.kind == kind { Ok(token) } else { self.unexpected(&token, context) }
    }

    // Nodes.

    fn add(&mut self, pos: usize, kind: Kind) -> Id {
        let id = pos32(self.scope.nodes.len());
        self.scope.nodes.push(Node { pos: pos32(pos), kind });
        id
    }

    fn kind(&self, id: Id) -> &Kind {
        self.scope.nodes.get(id as usize).map_or(&Kind::Nil, |n| &n.kind)
    }

    /// A node back as text, for messages while parsing.
    fn show(&mut self, id: Id) -> String {
        let tree = Tree {
            name: Str::default(),
            parse_name: Str::default(),
            text: self.text.clone(),
            nodes: std::mem::take(&mut self.scope.nodes),
            root: Box::default(),
            frame: 0,
            empty: false,
        };
        let shown = tree.show(id);
        self.scope.nodes = tree.nodes;
        shown
    }

    /// Ends the current template and takes it into the set of trees.
    fn finish(&mut self, scope: Scope, root: Vec<Id>, line: usize) -> Res<()> {
        let empty = root.iter().all(|id| match scope.nodes.get(*id as usize).map(|n| &n.kind) {
            Some(Kind::Text(a, b)) => self.text.get(*a as usize..*b as usize).is_none_or(|s| s.trim().is_empty()),
            _ => false,
        });
        let tree = Arc::new(Tree {
            name: scope.name,
            parse_name: self.name.clone(),
            text: self.text.clone(),
            nodes: scope.nodes,
            root: root.into(),
            frame: scope.frame,
            empty,
        });
        match self.trees.iter_mut().find(|t| t.name == tree.name) {
            None => self.trees.push(tree),
            Some(old) if old.empty => *old = tree,
            Some(_) if empty => {}
            Some(_) => {
                let message = format!("template: multiple definition of template {}", strconv::quote(&tree.name));
                return self.error_at(line, message);
            }
        }
        Ok(())
    }

    // Grammar.

    fn top_level(&mut self) -> Res<()> {
        let mut root = Vec::new();
        while self.peek().kind != Tok::Eof {
            if self.peek().kind == Tok::LeftDelim {
                let delim = self.next();
                if self.next_non_space().kind == Tok::Define {
                    self.definition()?;
                    continue;
                }
                self.backup2(delim);
            }
            match self.text_or_action()? {
                Part::Node(id) => root.push(id),
                Part::End(end) => return self.error(format!("unexpected {}", end.show())),
            }
        }
        let scope = std::mem::replace(&mut self.scope, Scope::new(Str::default()));
        let line = self.token[0].line;
        self.finish(scope, root, line)
    }

    fn definition(&mut self) -> Res<()> {
        const CONTEXT: &str = "define clause";
        let outer = std::mem::replace(&mut self.scope, Scope::new(Str::new_static("definition")));
        let name = self.next_non_space();
        if !matches!(name.kind, Tok::String | Tok::RawString) {
            return self.unexpected(&name, CONTEXT);
        }
        self.scope.name = self.unquote(&name)?;
        self.expect(Tok::RightDelim, CONTEXT)?;
        let (root, end) = self.item_list()?;
        if !matches!(end, End::End) {
            return self.error(format!("unexpected {} in {CONTEXT}", end.show()));
        }
        let scope = std::mem::replace(&mut self.scope, outer);
        let line = self.token[0].line;
        self.finish(scope, root, line)
    }

    fn unquote(&self, token: &Item<'t>) -> Res<Str> {
        match strconv::unquote(token.val) {
            Some(s) => Ok(Str::from(s.as_ref())),
            None => self.error("invalid syntax"),
        }
    }

    fn item_list(&mut self) -> Res<(Vec<Id>, End)> {
        if stack::exhausted() {
            return self.error("max expression depth exceeded");
        }
        let from = self.ids.len();
        while self.peek_non_space().kind != Tok::Eof {
            match self.text_or_action()? {
                Part::Node(id) => self.ids.push(id),
                Part::End(end) => return Ok((self.ids.split_off(from), end)),
            }
        }
        self.error("unexpected EOF")
    }

    fn text_or_action(&mut self) -> Res<Part> {
        let token = self.next_non_space();
        match token.kind {
            Tok::Text => {
                let end = token.pos + token.val.len();
                Ok(Part::Node(self.add(token.pos, Kind::Text(pos32(token.pos), pos32(end)))))
            }
            Tok::LeftDelim => {
                self.scope.action_line = token.line;
                let part = self.action()?;
                self.scope.action_line = 0;
                Ok(part)
            }
            _ => self.unexpected(&token, "input"),
        }
    }

    fn action(&mut self) -> Res<Part> {
        let token = self.next_non_space();
        let id = match token.kind {
            Tok::Block => self.block()?,
            Tok::Break => self.loop_control(token.pos, "{{break}}", Kind::Break)?,
            Tok::Continue => self.loop_control(token.pos, "{{continue}}", Kind::Continue)?,
            Tok::Else => {
                if !matches!(self.peek_non_space().kind, Tok::If | Tok::With) {
                    self.expect(Tok::RightDelim, "else")?;
                }
                return Ok(Part::End(End::Else));
            }
            Tok::End => {
                self.expect(Tok::RightDelim, "end")?;
                return Ok(Part::End(End::End));
            }
            Tok::If => self.control("if")?,
            Tok::Range => self.control("range")?,
            Tok::Template => self.template()?,
            Tok::With => self.control("with")?,
            _ => {
                self.backup();
                let pos = self.peek().pos;
                let pipe = self.pipeline("command", Tok::RightDelim)?;
                self.add(pos, Kind::Action(pipe))
            }
        };
        Ok(Part::Node(id))
    }

    fn loop_control(&mut self, pos: usize, word: &str, kind: Kind) -> Res<Id> {
        let token = self.next_non_space();
        if token.kind != Tok::RightDelim {
            return self.unexpected(&token, word);
        }
        if self.scope.range_depth == 0 {
            return self.error(format!("{word} outside {{{{range}}}}"));
        }
        Ok(self.add(pos, kind))
    }

    fn pipeline(&mut self, context: &str, end: Tok) -> Res<Id> {
        let pos = self.peek_non_space().pos;
        let mut names: Vec<Str> = Vec::new();
        let mut assign = false;
        loop {
            let v = self.peek_non_space();
            if v.kind != Tok::Variable {
                break;
            }
            self.next();
            let after = *self.peek();
            let next = self.peek_non_space();
            if matches!(next.kind, Tok::Assign | Tok::Declare) {
                assign = next.kind == Tok::Assign;
                self.next_non_space();
                self.declare(&v, &mut names);
            } else if next.kind == Tok::Char && next.val == "," {
                self.next_non_space();
                self.declare(&v, &mut names);
                if context == "range" && names.len() < 2 {
                    if matches!(self.peek_non_space().kind, Tok::Variable | Tok::RightDelim | Tok::RightParen) {
                        continue;
                    }
                    return self.error("range can only initialize variables");
                }
                return self.error(format!("too many declarations in {context}"));
            } else if after.kind == Tok::Space {
                self.backup3(v, after);
            } else {
                self.backup2(v);
            }
            break;
        }
        let from = self.ids.len();
        loop {
            let token = self.next_non_space();
            match token.kind {
                k if k == end => {
                    let commands = self.ids.split_off(from);
                    self.check_pipeline(&commands, context)?;
                    let decls = names.into_iter().map(|name| self.bind(name, assign)).collect();
                    return Ok(self.add(pos, Kind::Pipe { decls, assign, commands: commands.into() }));
                }
                Tok::Bool
                | Tok::CharConstant
                | Tok::Complex
                | Tok::Dot
                | Tok::Field
                | Tok::Identifier
                | Tok::Number
                | Tok::Nil
                | Tok::RawString
                | Tok::String
                | Tok::Variable
                | Tok::LeftParen => {
                    self.backup();
                    let command = self.command()?;
                    self.ids.push(command);
                }
                _ => return self.unexpected(&token, context),
            }
        }
    }

    fn declare(&mut self, token: &Item<'t>, names: &mut Vec<Str>) {
        let name = Str::from(token.val);
        self.scope.vars.push(name.clone());
        names.push(name);
    }

    /// The slot a declared variable gets, or an assigned one has.
    fn bind(&mut self, name: Str, assign: bool) -> Decl {
        let slot = if assign {
            self.slot(&name)
        } else {
            self.scope.slots.push(name.clone());
            self.scope.frame = self.scope.frame.max(self.scope.slots.len());
            Some(pos32(self.scope.slots.len() - 1))
        };
        Decl { name, slot }
    }

    fn slot(&self, name: &str) -> Option<u32> {
        self.scope.slots.iter().rposition(|n| n == name).map(pos32)
    }

    fn check_pipeline(&self, commands: &[Id], context: &str) -> Res<()> {
        if commands.is_empty() {
            return self.error(format!("missing value for {context}"));
        }
        for (i, c) in commands.iter().enumerate().skip(1) {
            let Kind::Command(args) = self.kind(*c) else {
                continue;
            };
            let first = args.first().map(|a| self.kind(*a));
            if matches!(first, Some(Kind::Bool(_) | Kind::Dot | Kind::Nil | Kind::Number(_) | Kind::String { .. })) {
                return self.error(format!("non executable command in pipeline stage {}", i + 1));
            }
        }
        Ok(())
    }

    fn control(&mut self, word: &str) -> Res<Id> {
        let vars = self.scope.vars.len();
        let slots = self.scope.slots.len();
        let pipe = self.pipeline(word, Tok::RightDelim)?;
        let pos = self.scope.nodes.get(pipe as usize).map_or(0, |n| n.pos as usize);
        let inner = self.scope.slots.len();
        let ranging = usize::from(word == "range");
        self.scope.range_depth += ranging;
        let (list, next) = self.item_list()?;
        self.scope.range_depth -= ranging;
        self.scope.slots.truncate(inner);
        let or_else = if matches!(next, End::Else) { Some(self.else_list(word)?) } else { None };
        self.scope.vars.truncate(vars);
        self.scope.slots.truncate(slots);
        let branch = Box::new(Branch { pipe, list: list.into(), or_else });
        let kind = match word {
            "if" => Kind::If(branch),
            "with" => Kind::With(branch),
            _ => Kind::Range(branch),
        };
        Ok(self.add(pos, kind))
    }

    fn else_list(&mut self, word: &str) -> Res<Box<[Id]>> {
        let next = self.peek().kind;
        // `else if` and `else with` share the outer `end`.
        if (word == "if" && next == Tok::If) || (word == "with" && next == Tok::With) {
            if stack::exhausted() {
                return self.error("max expression depth exceeded");
            }
            self.next();
            return Ok([self.control(word)?].into());
        }
        let (list, next) = self.item_list()?;
        if !matches!(next, End::End) {
            return self.error(format!("expected end; found {}", next.show()));
        }
        Ok(list.into())
    }

    fn block(&mut self) -> Res<Id> {
        const CONTEXT: &str = "block clause";
        let token = self.next_non_space();
        let name = self.template_name(&token, CONTEXT)?;
        let pipe = self.pipeline(CONTEXT, Tok::RightDelim)?;
        let line = self.token[0].line;
        let outer = std::mem::replace(&mut self.scope, Scope::new(name.clone()));
        let (root, end) = self.item_list()?;
        if !matches!(end, End::End) {
            return self.error_at(line, format!("unexpected {} in {CONTEXT}", end.show()));
        }
        let scope = std::mem::replace(&mut self.scope, outer);
        let end_line = self.token[0].line;
        self.finish(scope, root, end_line)?;
        Ok(self.add(token.pos, Kind::Template { name, pipe: Some(pipe) }))
    }

    fn template(&mut self) -> Res<Id> {
        const CONTEXT: &str = "template clause";
        let token = self.next_non_space();
        let name = self.template_name(&token, CONTEXT)?;
        let mut pipe = None;
        if self.next_non_space().kind != Tok::RightDelim {
            self.backup();
            pipe = Some(self.pipeline(CONTEXT, Tok::RightDelim)?);
        }
        Ok(self.add(token.pos, Kind::Template { name, pipe }))
    }

    fn template_name(&mut self, token: &Item<'t>, context: &str) -> Res<Str> {
        match token.kind {
            Tok::String | Tok::RawString => self.unquote(token),
            _ => self.unexpected(token, context),
        }
    }

    fn command(&mut self) -> Res<Id> {
        let pos = self.peek_non_space().pos;
        let from = self.ids.len();
        loop {
            self.peek_non_space();
            if let Some(operand) = self.operand()? {
                self.ids.push(operand);
            }
            let token = self.next();
            match token.kind {
                Tok::Space => continue,
                Tok::RightDelim | Tok::RightParen => self.backup(),
                Tok::Pipe => {}
                _ => return self.unexpected(&token, "operand"),
            }
            break;
        }
        let args = self.ids.split_off(from);
        if args.is_empty() {
            return self.error("empty command");
        }
        Ok(self.add(pos, Kind::Command(args.into())))
    }

    fn operand(&mut self) -> Res<Option<Id>> {
        let Some(term) = self.term()? else {
            return Ok(None);
        };
        if self.peek().kind != Tok::Field {
            return Ok(Some(term));
        }
        let pos = self.peek().pos;
        let mut fields = Vec::new();
        while self.peek().kind == Tok::Field {
            let token = self.next();
            fields.push(Str::from(token.val.get(1..).unwrap_or("")));
        }
        let kind = match self.kind(term) {
            Kind::Field(first) => Kind::Field(first.iter().cloned().chain(fields).collect()),
            Kind::Variable { name, slot, fields: first } => Kind::Variable {
                name: name.clone(),
                slot: *slot,
                fields: first.iter().cloned().chain(fields).collect(),
            },
            Kind::Bool(_) | Kind::String { .. } | Kind::Number(_) | Kind::Nil | Kind::Dot => {
                let shown = strconv::quote(&self.show(term));
                return self.error(format!("unexpected . after term {shown}"));
            }
            _ => Kind::Chain { node: term, fields: fields.into() },
        };
        Ok(Some(self.add(pos, kind)))
    }

    fn term(&mut self) -> Res<Option<Id>> {
        let token = self.next_non_space();
        let kind = match token.kind {
            Tok::Identifier => match self.funcs.get(token.val) {
                Some(f) => Kind::Function(f.clone()),
                None => {
                    return self.error(format!("function {} not defined", strconv::quote(token.val)));
                }
            },
            Tok::Dot => Kind::Dot,
            Tok::Nil => Kind::Nil,
            Tok::Variable => {
                let name = Str::from(token.val);
                if !self.scope.vars.contains(&name) {
                    return self.error(format!("undefined variable {}", strconv::quote(&name)));
                }
                Kind::Variable { slot: self.slot(&name), name, fields: Box::default() }
            }
            Tok::Field => Kind::Field([Str::from(token.val.get(1..).unwrap_or(""))].into()),
            Tok::Bool => Kind::Bool(token.val == "true"),
            Tok::CharConstant | Tok::Complex | Tok::Number => match number::parse(token.val, token.kind) {
                Ok(n) => Kind::Number(Box::new(n)),
                Err(message) => return self.error(message),
            },
            Tok::LeftParen => {
                if self.scope.paren_depth >= MAX_PAREN_DEPTH || stack::exhausted() {
                    return self.error("max expression depth exceeded");
                }
                self.scope.paren_depth += 1;
                let pipe = self.pipeline("parenthesized pipeline", Tok::RightParen)?;
                self.scope.paren_depth -= 1;
                return Ok(Some(pipe));
            }
            Tok::String | Tok::RawString => {
                let end = token.pos + token.val.len();
                Kind::String { from: pos32(token.pos), to: pos32(end), text: self.unquote(&token)? }
            }
            _ => {
                self.backup();
                return Ok(None);
            }
        };
        Ok(Some(self.add(token.pos, kind)))
    }
}
