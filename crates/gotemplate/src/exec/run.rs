//! One run: walks the tree, keeps variables, collects output.

use std::rc::Rc;
use std::sync::Arc;

use druse_object::Str;

use super::error::{TemplateError, count};
use super::set::{Options, ROOT, TemplateSet, not_associated, strip_no_value};
use crate::env::{Executor, FuncError, Host};
use crate::parse::Tree;
use crate::parse::ast::{Branch, Id, Kind};
use crate::stack;
use crate::val::{GoObject, Val};
use crate::{Table, parse, printf, strconv};

/// Helm's bound on how often a template may be included within itself.
const MAX_NESTED: u32 = 1000;

pub(super) type Fail = Box<TemplateError>;
pub(super) type Res<T> = Result<T, Fail>;

/// A value and whether Go would hold it as `interface {}` (an element of a map or list) or as its own type: messages
/// tell the difference. [`Val::Nil`] stands for a nil interface, [`Val::Missing`] for Go's zero `reflect.Value`.
#[derive(Clone)]
pub(super) struct Slot {
    pub val: Val,
    pub iface: bool,
}

impl Slot {
    /// A value of its own type; a nil interface becomes no value.
    pub fn plain(val: Val) -> Self {
        let val = if matches!(val, Val::Nil) { Val::Missing } else { val };
        Self { val, iface: false }
    }

    /// An element of a map or list.
    pub fn element(val: Val) -> Self {
        let val = if matches!(val, Val::Missing) { Val::Nil } else { val };
        Self { val, iface: true }
    }
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

/// The templates a `tpl` text defined, over those around it.
struct Scope {
    trees: Rc<[Arc<Tree>]>,
    parent: Option<Rc<Scope>>,
}

/// The state of one run.
pub(super) struct Run<'a> {
    set: &'a TemplateSet,
    pub host: &'a dyn Host,
    pub opts: Options,
    root: Rc<str>,
    scope: Option<Rc<Scope>>,
    stack: Vec<Slot>,
    base: usize,
    out: String,
    /// The node being evaluated, for errors.
    pub at: Id,
    included: Table<Str, u32>,
    texts: Table<Str, Rc<[Arc<Tree>]>>,
    counts: Table<&'static str, u32>,
    /// The last failure of `include` or `tpl`, as text and in pieces.
    pending: Option<(String, Vec<String>)>,
}

impl<'a> Run<'a> {
    pub fn new(set: &'a TemplateSet, name: &str, host: &'a dyn Host, opts: Options) -> Self {
        Self {
            set,
            host,
            opts,
            root: Rc::from(name),
            scope: None,
            stack: Vec::new(),
            base: 0,
            out: String::new(),
            at: 0,
            included: Table::default(),
            texts: Table::default(),
            counts: Table::default(),
            pending: None,
        }
    }

    pub fn finish(mut self, tree: &Tree, data: Val) -> Res<String> {
        let _bound = stack::Bound::enter();
        self.run(tree, &Slot::plain(data))?;
        Ok(self.out)
    }

    /// An error at the current node.
    pub fn fail<T>(&self, tree: &Tree, message: impl Into<String>) -> Res<T> {
        Err(self.error(tree, message.into()))
    }

    pub fn error(&self, tree: &Tree, message: String) -> Fail {
        let (line, column) = tree.location(self.at);
        Box::new(TemplateError {
            template: tree.name.clone(),
            file: tree.parse_name.clone(),
            line: count(line),
            column: Some(count(column)),
            context: Some(tree.show(self.at).into()),
            ..TemplateError::plain(message)
        })
    }

    /// The failure of a function or method.
    pub fn call_failed<T>(&mut self, tree: &Tree, name: &str, error: FuncError) -> Res<T> {
        let inner = match self.pending.take() {
            Some((text, pieces)) if text == error.0 => pieces,
            _ => vec![error.0],
        };
        Err(Box::new(self.error(tree, format!("error calling {name}: ")).wrapping(inner)))
    }

    fn lookup(&self, name: &str) -> Option<Arc<Tree>> {
        let mut fallback = None;
        let mut scope = self.scope.as_deref();
        while let Some(s) = scope {
            if let Some(tree) = s.trees.iter().find(|t| t.name == name) {
                // An empty definition does not replace another.
                if !tree.empty {
                    return Some(tree.clone());
                }
                fallback = Some(tree);
            }
            scope = s.parent.as_deref();
        }
        self.set.trees.get(name).or(fallback).cloned()
    }

    // Variables.

    pub fn slot(&self, slot: u32) -> Slot {
        self.stack.get(self.base + slot as usize).cloned().unwrap_or(Slot { val: Val::Missing, iface: false })
    }

    pub fn set_slot(&mut self, slot: u32, value: Slot) {
        if let Some(s) = self.stack.get_mut(self.base + slot as usize) {
            *s = value;
        }
    }

    // Walking.

    /// Runs a template in a frame of its own; output goes to the current buffer.
    fn run(&mut self, tree: &Tree, dot: &Slot) -> Res<()> {
        if stack::exhausted() {
            return self.fail(tree, "exceeded maximum template depth (100000)");
        }
        let (base, at) = (self.base, self.at);
        self.base = self.stack.len();
        self.stack.resize(self.base + tree.frame.max(1), Slot { val: Val::Missing, iface: false });
        self.set_slot(0, dot.clone());
        let result = self.walk(tree, dot, &tree.root);
        self.stack.truncate(self.base);
        self.base = base;
        if result.is_ok() {
            self.at = at;
        }
        result.map(|_| ())
    }

    fn walk(&mut self, tree: &Tree, dot: &Slot, list: &[Id]) -> Res<Flow> {
        for &id in list {
            self.at = id;
            let Some(node) = tree.node(id) else { continue };
            match &node.kind {
                Kind::Text(from, to) => self.out.push_str(tree.slice(*from, *to)),
                Kind::Action(pipe) => {
                    let value = self.pipeline(tree, dot, *pipe)?;
                    let declares = tree
                        .node(*pipe)
                        .is_some_and(|n| matches!(&n.kind, Kind::Pipe { decls, .. } if !decls.is_empty()));
                    if !declares {
                        self.print(&value);
                    }
                }
                Kind::Break => return Ok(Flow::Break),
                Kind::Continue => return Ok(Flow::Continue),
                Kind::If(b) => match self.branch(tree, dot, b, false)? {
                    Flow::Next => {}
                    flow => return Ok(flow),
                },
                Kind::With(b) => match self.branch(tree, dot, b, true)? {
                    Flow::Next => {}
                    flow => return Ok(flow),
                },
                Kind::Range(b) => match self.range(tree, dot, b)? {
                    Flow::Next => {}
                    flow => return Ok(flow),
                },
                Kind::Template { name, pipe } => self.template(tree, dot, name, *pipe)?,
                _ => return self.fail(tree, format!("unknown node: {}", tree.show(id))),
            }
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Val) {
        match value {
            Val::Str(s) => self.out.push_str(s),
            Val::Missing | Val::Nil => self.out.push_str("<no value>"),
            v => printf::write(&mut self.out, v),
        }
    }

    fn branch(&mut self, tree: &Tree, dot: &Slot, b: &Branch, with: bool) -> Res<Flow> {
        if stack::exhausted() {
            return self.fail(tree, "exceeded maximum template depth (100000)");
        }
        let value = self.pipeline(tree, dot, b.pipe)?;
        if truth(&value) {
            if with { self.walk(tree, &Slot::plain(value), &b.list) } else { self.walk(tree, dot, &b.list) }
        } else if let Some(list) = &b.or_else {
            self.walk(tree, dot, list)
        } else {
            Ok(Flow::Next)
        }
    }

    fn template(&mut self, tree: &Tree, dot: &Slot, name: &str, pipe: Option<Id>) -> Res<()> {
        let Some(callee) = self.lookup(name) else {
            return self.fail(tree, format!("template {} not defined", strconv::quote(name)));
        };
        if stack::exhausted() {
            return self.fail(tree, "exceeded maximum template depth (100000)");
        }
        let data = match pipe {
            Some(pipe) => self.pipeline(tree, dot, pipe)?,
            None => Val::Missing,
        };
        self.run(&callee, &Slot::plain(data))
    }

    fn range(&mut self, tree: &Tree, dot: &Slot, b: &Branch) -> Res<Flow> {
        if stack::exhausted() {
            return self.fail(tree, "exceeded maximum template depth (100000)");
        }
        let value = self.pipeline(tree, dot, b.pipe)?;
        let count = match tree.node(b.pipe).map(|n| &n.kind) {
            Some(Kind::Pipe { decls, .. }) => decls.len(),
            _ => 0,
        };
        let mut ran = false;
        // Whether to go on after an iteration.
        let mut each = |run: &mut Self, key: Val, element: Slot| -> Res<bool> {
            ran = true;
            run.bind_range(tree, b.pipe, key, &element)?;
            Ok(run.walk(tree, &element, &b.list)? != Flow::Break)
        };
        match &value {
            Val::Int(n) | Val::Int64(n) => {
                self.one_variable(tree, &value, count)?;
                let make = if matches!(value, Val::Int(_)) { Val::Int } else { Val::Int64 };
                for i in 0..*n {
                    if !each(self, Val::Missing, Slot::plain(make(i)))? {
                        break;
                    }
                }
            }
            Val::UInt64(n) => {
                self.one_variable(tree, &value, count)?;
                for i in 0..*n {
                    if !each(self, Val::Missing, Slot::plain(Val::UInt64(i)))? {
                        break;
                    }
                }
            }
            Val::List(items) => {
                for (i, item) in items.iter().enumerate() {
                    if !each(self, index(i), Slot::element(item.clone()))? {
                        break;
                    }
                }
            }
            Val::Map(map) => {
                let entries: Vec<(Str, Val)> = map.borrow().iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                for (k, v) in entries {
                    if !each(self, Val::Str(k), Slot::element(v))? {
                        break;
                    }
                }
            }
            Val::Object(o) => match o.entries() {
                Some(entries) => {
                    let listed = matches!(o.kind(), "slice" | "array");
                    for (i, (k, v)) in entries.into_iter().enumerate() {
                        let key = if listed { index(i) } else { Val::Str(k) };
                        if !each(self, key, Slot { val: v, iface: false })? {
                            break;
                        }
                    }
                }
                None => return self.cannot_range(tree, &value),
            },
            Val::Nil | Val::Missing => {}
            Val::Bool(_) | Val::Float(_) | Val::Str(_) => return self.cannot_range(tree, &value),
        }
        match &b.or_else {
            Some(list) if !ran => self.walk(tree, dot, list),
            _ => Ok(Flow::Next),
        }
    }

    fn cannot_range<T>(&self, tree: &Tree, value: &Val) -> Res<T> {
        self.fail(tree, format!("range can't iterate over {}", printf::to_string(value)))
    }

    fn one_variable(&self, tree: &Tree, value: &Val, count: usize) -> Res<()> {
        if count > 1 {
            let shown = printf::to_string(value);
            return self.fail(tree, format!("can't use {shown} to iterate over more than one variable"));
        }
        Ok(())
    }

    fn bind_range(&mut self, tree: &Tree, pipe: Id, key: Val, element: &Slot) -> Res<()> {
        let Some(Kind::Pipe { decls, .. }) = tree.node(pipe).map(|n| &n.kind) else {
            return Ok(());
        };
        let key = Slot { val: key, iface: false };
        let values = match decls.len() {
            0 => return Ok(()),
            1 => [Some(element.clone()), None],
            _ => [Some(key), Some(element.clone())],
        };
        for (decl, value) in decls.iter().zip(values.into_iter().flatten()) {
            match decl.slot {
                Some(slot) => self.set_slot(slot, value),
                None => return self.fail(tree, format!("undefined variable: {}", decl.name)),
            }
        }
        Ok(())
    }

    /// Runs `tree` into a buffer of its own.
    fn capture(&mut self, tree: &Tree, data: Val) -> Res<String> {
        let outer = std::mem::take(&mut self.out);
        let result = self.run(tree, &Slot::plain(data));
        let inner = std::mem::replace(&mut self.out, outer);
        result.map(|()| inner)
    }

    /// Keeps a failure in pieces for [`Run::call_failed`], and makes it a function's error.
    fn keep(&mut self, pieces: Vec<String>) -> FuncError {
        let text: String = pieces.iter().rev().map(String::as_str).collect();
        self.pending = Some((text.clone(), pieces));
        FuncError(text)
    }

    fn parsed(&mut self, text: &str) -> Result<Rc<[Arc<Tree>]>, TemplateError> {
        if let Some(trees) = self.texts.get(text) {
            return Ok(trees.clone());
        }
        let trees: Rc<[Arc<Tree>]> = parse::parse(ROOT, text, &self.set.funcs)?.into();
        self.texts.insert(Str::from(text), trees.clone());
        Ok(trees)
    }
}

fn index(i: usize) -> Val {
    Val::Int(i64::try_from(i).unwrap_or(i64::MAX))
}

/// Go's truth: not the zero value of its type, not empty.
#[must_use]
pub(crate) fn truth(v: &Val) -> bool {
    match v {
        Val::Nil | Val::Missing => false,
        Val::Bool(b) => *b,
        Val::Int(i) | Val::Int64(i) => *i != 0,
        Val::UInt64(u) => *u != 0,
        Val::Float(f) => *f != 0.0,
        Val::Str(s) => !s.is_empty(),
        Val::List(l) => !l.is_empty(),
        Val::Map(m) => !m.borrow().is_empty(),
        Val::Object(o) => GoObject::truth(o.as_ref()),
    }
}

impl Executor for Run<'_> {
    fn include(&mut self, name: &str, data: Val) -> Result<String, FuncError> {
        if self.included.get(name).is_some_and(|n| *n > MAX_NESTED) {
            return Err(FuncError(format!(
                "rendering template has a nested reference name: {name}: unable to execute template"
            )));
        }
        let Some(tree) = self.lookup(name) else {
            let error = TemplateError::plain(not_associated(name));
            return Err(self.keep(error.into_pieces()));
        };
        *self.included.entry(tree.name.clone()).or_insert(0) += 1;
        let result = self.capture(&tree, data);
        if let Some(n) = self.included.get_mut(name) {
            *n -= 1;
        }
        result.map_err(|e| self.keep(e.into_pieces()))
    }

    fn tpl(&mut self, text: &str, data: Val) -> Result<String, FuncError> {
        let trees = match self.parsed(text) {
            Ok(trees) => trees,
            Err(e) => {
                let mut pieces = e.into_pieces();
                pieces.push(format!("cannot parse template {}: ", strconv::quote(text)));
                return Err(self.keep(pieces));
            }
        };
        let Some(main) = trees.iter().find(|t| t.name == ROOT).cloned() else {
            return Ok(String::new());
        };
        let outer = self.scope.clone();
        self.scope = Some(Rc::new(Scope { trees, parent: outer.clone() }));
        let result = self.capture(&main, data);
        self.scope = outer;
        match result {
            Ok(out) => Ok(strip_no_value(out)),
            Err(e) => {
                let mut pieces = e.into_pieces();
                pieces.push(format!("error during tpl function execution for {}: ", strconv::quote(text)));
                Err(self.keep(pieces))
            }
        }
    }

    fn template_name(&self) -> Rc<str> {
        self.root.clone()
    }

    fn call_count(&mut self, function: &'static str) -> u32 {
        let count = self.counts.entry(function).or_insert(0);
        let now = *count;
        *count += 1;
        now
    }
}
