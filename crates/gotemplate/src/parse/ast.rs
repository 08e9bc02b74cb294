//! The compiled form of a template: one arena of nodes a template, immutable, shared by threads and releases.

use std::fmt::Write;
use std::sync::Arc;

use druse_object::Str;

use crate::exec::Func;
use crate::strconv;

/// A node's place in its tree's arena.
pub(crate) type Id = u32;

/// One named template: its nodes, and the text they came from for error messages.
#[derive(Debug)]
pub struct Tree {
    pub(crate) name: Str,
    /// The name of the file (or text) it was parsed from.
    pub(crate) parse_name: Str,
    pub(crate) text: Arc<str>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) root: Box<[Id]>,
    /// How many variable slots a run needs, `$` included.
    pub(crate) frame: usize,
    /// Nothing but space, comments and definitions.
    pub(crate) empty: bool,
}

/// A node and where it starts in the text, in bytes.
#[derive(Debug)]
pub(crate) struct Node {
    pub pos: u32,
    pub kind: Kind,
}

/// `if`, `with` and `range`.
#[derive(Debug)]
pub(crate) struct Branch {
    pub pipe: Id,
    pub list: Box<[Id]>,
    pub or_else: Option<Box<[Id]>>,
}

/// A variable that a pipeline declares or assigns; no slot: it was never declared where it is assigned.
#[derive(Debug)]
pub(crate) struct Decl {
    pub name: Str,
    pub slot: Option<u32>,
}

/// A number literal: what it can be, as Go's `NumberNode`.
#[derive(Debug, Default)]
pub(crate) struct Number {
    pub text: Str,
    pub int: Option<i64>,
    pub uint: Option<u64>,
    pub float: Option<f64>,
    /// A complex constant, as it prints.
    pub complex: Option<Str>,
}

/// What a node is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Text between actions: from, to.
    Text(u32, u32),
    /// `{{pipeline}}`
    Action(Id),
    If(Box<Branch>),
    With(Box<Branch>),
    Range(Box<Branch>),
    Template {
        name: Str,
        pipe: Option<Id>,
    },
    Break,
    Continue,
    Pipe {
        decls: Box<[Decl]>,
        assign: bool,
        commands: Box<[Id]>,
    },
    Command(Box<[Id]>),
    Field(Box<[Str]>),
    Variable {
        name: Str,
        slot: Option<u32>,
        fields: Box<[Str]>,
    },
    Chain {
        node: Id,
        fields: Box<[Str]>,
    },
    Function(Arc<Func>),
    Bool(bool),
    Dot,
    Nil,
    Number(Box<Number>),
    String {
        from: u32,
        to: u32,
        text: Str,
    },
}

impl Tree {
    /// The template's name.
    #[must_use]
    pub fn name(&self) -> &Str {
        &self.name
    }

    pub(crate) fn node(&self, id: Id) -> Option<&Node> {
        self.nodes.get(id as usize)
    }

    pub(crate) fn slice(&self, from: u32, to: u32) -> &str {
        self.text.get(from as usize..to as usize).unwrap_or("")
    }

    /// Line (from 1) and column (from 0, in bytes, as Go counts) of a node.
    pub(crate) fn location(&self, id: Id) -> (usize, usize) {
        let pos = self.node(id).map_or(0, |n| n.pos as usize);
        let before = self.text.get(..pos).unwrap_or(&self.text);
        let column = before.rfind('\n').map_or(pos, |i| pos - i - 1);
        (1 + before.bytes().filter(|b| *b == b'\n').count(), column)
    }

    /// The node as Go writes it back, for messages.
    pub(crate) fn show(&self, id: Id) -> String {
        let mut out = String::new();
        self.write(&mut out, id, 0);
        out
    }

    fn write(&self, out: &mut String, id: Id, depth: u32) {
        // Messages of absurdly nested expressions may end early.
        let Some(node) = self.node(id).filter(|_| depth < 200) else {
            return;
        };
        match &node.kind {
            Kind::Text(from, to) => out.push_str(self.slice(*from, *to)),
            Kind::Action(pipe) => {
                out.push_str("{{");
                self.write(out, *pipe, depth + 1);
                out.push_str("}}");
            }
            Kind::If(b) => self.write_branch(out, "if", b, depth),
            Kind::With(b) => self.write_branch(out, "with", b, depth),
            Kind::Range(b) => self.write_branch(out, "range", b, depth),
            Kind::Template { name, pipe } => {
                let _ = write!(out, "{{{{template {}", strconv::quote(name));
                if let Some(pipe) = pipe {
                    out.push(' ');
                    self.write(out, *pipe, depth + 1);
                }
                out.push_str("}}");
            }
            Kind::Break => out.push_str("{{break}}"),
            Kind::Continue => out.push_str("{{continue}}"),
            Kind::Pipe { decls, assign, commands } => {
                for (i, d) in decls.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    out.push_str(&d.name);
                }
                if !decls.is_empty() {
                    out.push_str(if *assign { " = " } else { " := " });
                }
                for (i, c) in commands.iter().enumerate() {
                    out.push_str(if i > 0 { " | " } else { "" });
                    self.write(out, *c, depth + 1);
                }
            }
            Kind::Command(args) => {
                for (i, a) in args.iter().enumerate() {
                    out.push_str(if i > 0 { " " } else { "" });
                    self.write_operand(out, *a, depth);
                }
            }
            Kind::Field(fields) => write_fields(out, fields),
            Kind::Variable { name, fields, .. } => {
                out.push_str(name);
                write_fields(out, fields);
            }
            Kind::Chain { node, fields } => {
                self.write_operand(out, *node, depth);
                write_fields(out, fields);
            }
            Kind::Function(f) => out.push_str(f.name()),
            Kind::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            Kind::Dot => out.push('.'),
            Kind::Nil => out.push_str("nil"),
            Kind::Number(n) => out.push_str(&n.text),
            Kind::String { from, to, .. } => out.push_str(self.slice(*from, *to)),
        }
    }

    fn write_operand(&self, out: &mut String, id: Id, depth: u32) {
        let pipe = self.node(id).is_some_and(|n| matches!(n.kind, Kind::Pipe { .. }));
        out.push_str(if pipe { "(" } else { "" });
        self.write(out, id, depth + 1);
        out.push_str(if pipe { ")" } else { "" });
    }

    fn write_branch(&self, out: &mut String, word: &str, b: &Branch, depth: u32) {
        let _ = write!(out, "{{{{{word} ");
        self.write(out, b.pipe, depth + 1);
        out.push_str("}}");
        for id in &b.list {
            self.write(out, *id, depth + 1);
        }
        if let Some(list) = &b.or_else {
            out.push_str("{{else}}");
            for id in list {
                self.write(out, *id, depth + 1);
            }
        }
        out.push_str("{{end}}");
    }
}

fn write_fields(out: &mut String, fields: &[Str]) {
    for f in fields {
        out.push('.');
        out.push_str(f);
    }
}
