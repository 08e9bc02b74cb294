//! Evaluating pipelines, commands, operands, fields and calls.

use std::rc::Rc;
use std::sync::Arc;

use druse_object::{Str, Value};

use super::func::{Func, Special, Ty, type_of};
use super::run::{Res, Run, Slot, truth};
use crate::env::{Env, FuncError};
use crate::parse::Tree;
use crate::parse::ast::{Id, Kind, Number};
use crate::val::{GoObject, Val};
use crate::{printf, stack, strconv};

impl Run<'_> {
    /// The value of a pipeline; nil comes out as no value, as in Go.
    pub(super) fn pipeline(&mut self, tree: &Tree, dot: &Slot, id: Id) -> Res<Val> {
        self.at = id;
        let Some(Kind::Pipe { decls, commands, .. }) = tree.node(id).map(|n| &n.kind) else {
            return Ok(Val::Missing);
        };
        let mut value: Option<Val> = None;
        for &command in commands {
            let v = self.command(tree, dot, command, value.take())?;
            value = Some(if matches!(v, Val::Nil) { Val::Missing } else { v });
        }
        let value = value.unwrap_or(Val::Missing);
        for decl in decls {
            match decl.slot {
                Some(slot) => self.set_slot(slot, Slot { val: value.clone(), iface: false }),
                None => return self.fail(tree, format!("undefined variable: {}", decl.name)),
            }
        }
        Ok(value)
    }

    fn command(&mut self, tree: &Tree, dot: &Slot, id: Id, last: Option<Val>) -> Res<Val> {
        let Some(Kind::Command(words)) = tree.node(id).map(|n| &n.kind) else {
            return Ok(Val::Missing);
        };
        let Some((&first, args)) = words.split_first() else {
            return Ok(Val::Missing);
        };
        let Some(node) = tree.node(first) else {
            return Ok(Val::Missing);
        };
        match &node.kind {
            Kind::Function(f) => {
                self.at = first;
                self.call(tree, dot, f, id, args, last)
            }
            Kind::Field(_) | Kind::Chain { .. } | Kind::Variable { .. } => {
                Ok(self.operand(tree, dot, first, args, last)?.val)
            }
            Kind::Pipe { .. } => {
                self.not_a_function(tree, first, args, last.is_some())?;
                self.nested(tree, dot, first)
            }
            kind => {
                self.at = first;
                self.not_a_function(tree, first, args, last.is_some())?;
                match kind {
                    Kind::Bool(b) => Ok(Val::Bool(*b)),
                    Kind::Dot => Ok(dot.val.clone()),
                    Kind::Nil => self.fail(tree, "nil is not a command"),
                    Kind::Number(n) => self.ideal(tree, n),
                    Kind::String { text, .. } => Ok(Val::Str(text.clone())),
                    _ => {
                        let shown = strconv::quote(&tree.show(first));
                        self.fail(tree, format!("can't evaluate command {shown}"))
                    }
                }
            }
        }
    }

    /// A parenthesised pipeline.
    fn nested(&mut self, tree: &Tree, dot: &Slot, id: Id) -> Res<Val> {
        if stack::exhausted() {
            return self.fail(tree, "exceeded maximum template depth (100000)");
        }
        self.pipeline(tree, dot, id)
    }

    fn not_a_function(&self, tree: &Tree, first: Id, args: &[Id], piped: bool) -> Res<()> {
        if args.is_empty() && !piped {
            return Ok(());
        }
        self.fail(tree, format!("can't give argument to non-function {}", tree.show(first)))
    }

    /// A field, variable or chain, with the arguments of a method at its end.
    fn operand(&mut self, tree: &Tree, dot: &Slot, id: Id, args: &[Id], last: Option<Val>) -> Res<Slot> {
        self.at = id;
        let Some(node) = tree.node(id) else {
            return Ok(Slot::plain(Val::Missing));
        };
        let (receiver, fields) = match &node.kind {
            Kind::Field(fields) => {
                return match &**fields {
                    [name] => self.field(tree, dot, dot, name, id, args, last),
                    [first, rest @ ..] => {
                        let receiver = self.field(tree, dot, dot, first, id, &[], None)?;
                        self.fields(tree, dot, receiver, rest, id, args, last)
                    }
                    [] => Ok(dot.clone()),
                };
            }
            Kind::Variable { name, slot, fields } => {
                let Some(slot) = slot else {
                    return self.fail(tree, format!("undefined variable: {name}"));
                };
                let value = self.slot(*slot);
                if fields.is_empty() {
                    self.not_a_function(tree, id, args, last.is_some())?;
                    return Ok(value);
                }
                (value, fields)
            }
            Kind::Chain { node: inner, fields } => {
                if matches!(tree.node(*inner).map(|n| &n.kind), Some(Kind::Nil)) {
                    return self.fail(tree, format!("indirection through explicit nil in {}", tree.show(id)));
                }
                let value = match tree.node(*inner).map(|n| &n.kind) {
                    Some(Kind::Pipe { .. }) => {
                        self.at = *inner;
                        self.nested(tree, dot, *inner)?
                    }
                    _ => self.arg(tree, dot, &Ty::Value, *inner)?,
                };
                (Slot::plain(value), fields)
            }
            _ => return self.fail(tree, format!("can't evaluate {}", tree.show(id))),
        };
        self.fields(tree, dot, receiver, fields, id, args, last)
    }

    /// A chain of fields, with the arguments of a method at its end.
    #[allow(clippy::too_many_arguments)]
    fn fields(
        &mut self,
        tree: &Tree,
        dot: &Slot,
        mut receiver: Slot,
        names: &[Str],
        id: Id,
        args: &[Id],
        last: Option<Val>,
    ) -> Res<Slot> {
        let Some((end, path)) = names.split_last() else { return Ok(receiver) };
        for name in path {
            receiver = self.field(tree, dot, &receiver, name, id, &[], None)?;
        }
        self.field(tree, dot, &receiver, end, id, args, last)
    }

    /// One step along a chain of fields.
    #[allow(clippy::too_many_arguments)]
    fn field(
        &mut self,
        tree: &Tree,
        dot: &Slot,
        receiver: &Slot,
        name: &str,
        node: Id,
        args: &[Id],
        last: Option<Val>,
    ) -> Res<Slot> {
        let has_args = !args.is_empty() || last.is_some();
        match &receiver.val {
            Val::Missing => {
                if self.opts.strict {
                    return self.fail(tree, format!("nil data; no entry for key {}", strconv::quote(name)));
                }
                return Ok(Slot::plain(Val::Missing));
            }
            Val::Nil => {
                return self.fail(tree, format!("nil pointer evaluating interface {{}}.{name}"));
            }
            Val::Map(map) => {
                if has_args {
                    return self.fail(tree, format!("{name} is not a method but has arguments"));
                }
                return match map.get(name) {
                    Some(v) => Ok(Slot::element(v)),
                    // Helm's `.Values` is a map type with this one method that charts call; types of maps are not
                    // told apart here, so any map has it.
                    None if name == "AsMap" => Ok(Slot::plain(Val::Map(map.clone()))),
                    None if self.opts.strict => {
                        self.fail(tree, format!("map has no entry for key {}", strconv::quote(name)))
                    }
                    None => Ok(Slot::element(Val::Nil)),
                };
            }
            Val::Object(object) => {
                let object = object.clone();
                if let Some(found) = self.member(tree, dot, &object, name, node, args, last)? {
                    return Ok(found);
                }
                if object.kind() == "map" {
                    if has_args {
                        return self.fail(tree, format!("{name} is not a method but has arguments"));
                    }
                    return Ok(Slot::plain(Val::Missing));
                }
            }
            _ => {}
        }
        let ty = if receiver.iface { "interface {}".into() } else { type_of(&receiver.val) };
        self.fail(tree, format!("can't evaluate field {name} in type {ty}"))
    }

    /// A field or method of an object; `None` when it has none of that name.
    #[allow(clippy::too_many_arguments)]
    fn member(
        &mut self,
        tree: &Tree,
        dot: &Slot,
        object: &Rc<dyn GoObject>,
        name: &str,
        node: Id,
        args: &[Id],
        last: Option<Val>,
    ) -> Res<Option<Slot>> {
        let mut argv = Vec::with_capacity(args.len() + 1);
        for &a in args {
            argv.push(self.arg(tree, dot, &Ty::Any, a)?);
        }
        if let Some(v) = last {
            argv.push(if matches!(v, Val::Missing) { Val::Nil } else { v });
        }
        let (host, lint) = (self.host, self.opts.lint);
        let mut env = Env { exec: self, host, lint };
        let result = if argv.is_empty() { object.field(name, &mut env) } else { object.call(name, &argv, &mut env) };
        match result {
            Some(Ok(v)) => Ok(Some(Slot { val: v, iface: false })),
            Some(Err(e)) => {
                self.at = node;
                self.call_failed(tree, name, e)
            }
            None if argv.is_empty() => Ok(None),
            None => {
                if object.field(name, &mut env).is_some() {
                    let message = format!("{name} has arguments but cannot be invoked as function");
                    return self.fail(tree, message);
                }
                Ok(None)
            }
        }
    }

    /// Calls a function; `node` is what an error of the function itself points at.
    fn call(&mut self, tree: &Tree, dot: &Slot, f: &Arc<Func>, node: Id, args: &[Id], last: Option<Val>) -> Res<Val> {
        let name = f.name();
        let count = args.len() + usize::from(last.is_some());
        if let Some(sig) = &f.signature {
            let want = sig.params.len();
            if sig.variadic {
                if count < want - 1 {
                    let (want, got) = (want - 1, args.len());
                    return self.fail(tree, format!("wrong number of args for {name}: want at least {want} got {got}"));
                }
            } else if count != want {
                return self.fail(tree, format!("wrong number of args for {name}: want {want} got {count}"));
            }
        }
        if matches!(f.special, Special::And | Special::Or) {
            return self.and_or(tree, dot, f.special == Special::Or, args, last);
        }
        let ty = |i: usize| f.signature.as_ref().map_or(&Ty::Any, |s| s.param(i));
        let mut argv = Vec::with_capacity(count);
        for (i, &a) in args.iter().enumerate() {
            argv.push(self.arg(tree, dot, ty(i), a)?);
        }
        if let Some(v) = last {
            argv.push(self.validate(tree, Slot { val: v, iface: false }, ty(args.len()))?);
        }
        if f.special == Special::Call {
            return self.call_value(tree, node, args, &argv);
        }
        let (host, lint) = (self.host, self.opts.lint);
        let result = (f.call)(&mut Env { exec: self, host, lint }, &argv);
        match result {
            Ok(v) => Ok(v),
            Err(e) => {
                self.at = node;
                self.call_failed(tree, name, e)
            }
        }
    }

    fn and_or(&mut self, tree: &Tree, dot: &Slot, or: bool, args: &[Id], last: Option<Val>) -> Res<Val> {
        let mut value = Val::Missing;
        for &a in args {
            value = self.arg(tree, dot, &Ty::Value, a)?;
            if truth(&value) == or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    /// `call`: no value of ours is a function, so it only fails.
    fn call_value(&mut self, tree: &Tree, node: Id, args: &[Id], argv: &[Val]) -> Res<Val> {
        self.at = node;
        let message = match (argv.first(), args.first()) {
            (Some(v), Some(a)) if !v.is_nil() => {
                format!("non-function {} of type {}", tree.show(*a), type_of(v))
            }
            (Some(v), None) if !v.is_nil() => {
                format!("non-function {} of type {}", printf::to_string(v), type_of(v))
            }
            _ => "call of nil".to_owned(),
        };
        self.call_failed(tree, "call", FuncError(message))
    }

    /// An argument for a parameter of type `ty`.
    fn arg(&mut self, tree: &Tree, dot: &Slot, ty: &Ty, id: Id) -> Res<Val> {
        self.at = id;
        let Some(node) = tree.node(id) else {
            return Ok(Val::Nil);
        };
        let slot = match &node.kind {
            Kind::Dot => dot.clone(),
            Kind::Nil => {
                return match ty {
                    Ty::Value => Ok(Val::Missing),
                    ty if ty.can_be_nil() => Ok(Val::Nil),
                    ty => self.fail(tree, format!("cannot assign nil to {}", ty.name())),
                };
            }
            Kind::Field(_) | Kind::Variable { .. } | Kind::Chain { .. } => self.operand(tree, dot, id, &[], None)?,
            Kind::Pipe { .. } => Slot::plain(self.nested(tree, dot, id)?),
            Kind::Function(f) => {
                let value = self.call(tree, dot, f, id, &[], None)?;
                Slot { val: value, iface: false }
            }
            kind => return self.literal(tree, ty, kind, id),
        };
        self.validate(tree, slot, ty)
    }

    fn literal(&self, tree: &Tree, ty: &Ty, kind: &Kind, id: Id) -> Res<Val> {
        let expected = match (ty, kind) {
            (Ty::Any | Ty::Value | Ty::Bool, Kind::Bool(b)) => return Ok(Val::Bool(*b)),
            (Ty::Any | Ty::Value | Ty::String, Kind::String { text, .. }) => {
                return Ok(Val::Str(text.clone()));
            }
            (Ty::Any | Ty::Value, Kind::Number(n)) => return self.ideal(tree, n),
            (Ty::Int, Kind::Number(n)) if n.int.is_some() => {
                return Ok(Val::Int(n.int.unwrap_or(0)));
            }
            (Ty::Int64, Kind::Number(n)) if n.int.is_some() => {
                return Ok(Val::Int64(n.int.unwrap_or(0)));
            }
            (Ty::Float64, Kind::Number(n)) if n.float.is_some() => {
                return Ok(Val::Float(n.float.unwrap_or(0.0)));
            }
            (Ty::Other(name), Kind::Number(n)) => match integer(name, n) {
                Some(v) => return Ok(v),
                None => {
                    return self.fail(tree, format!("can't handle {} for arg of type {name}", tree.show(id)));
                }
            },
            (Ty::Bool, _) => "bool",
            (Ty::String, _) => "string",
            (Ty::Int | Ty::Int64, _) => "integer",
            (Ty::Float64, _) => "float",
            (ty, _) => {
                let message = format!("can't handle {} for arg of type {}", tree.show(id), ty.name());
                return self.fail(tree, message);
            }
        };
        self.fail(tree, format!("expected {expected}; found {}", tree.show(id)))
    }

    /// The value of a number where no type is asked for.
    fn ideal(&self, tree: &Tree, n: &Number) -> Res<Val> {
        if let Some(text) = &n.complex {
            return Ok(Val::Object(Rc::new(Complex(text.clone()))));
        }
        let text = n.text.as_str();
        let hex = text.len() > 2 && (text.starts_with("0x") || text.starts_with("0X")) && !text.contains(['p', 'P']);
        let float_syntax = !hex && !text.starts_with('\'') && text.contains(['.', 'e', 'E', 'p', 'P']);
        match (n.float, n.int) {
            (Some(f), _) if float_syntax => Ok(Val::Float(f)),
            (_, Some(i)) => Ok(Val::Int(i)),
            _ => self.fail(tree, format!("{text} overflows int")),
        }
    }

    /// The value if it can be passed as `ty`.
    fn validate(&self, tree: &Tree, slot: Slot, ty: &Ty) -> Res<Val> {
        let val = slot.val;
        match (ty, &val) {
            (Ty::Value, _) => Ok(val),
            (Ty::Any, Val::Missing) => Ok(Val::Nil),
            (Ty::Any, _) => Ok(val),
            (ty, Val::Missing) if ty.can_be_nil() => Ok(Val::Nil),
            (ty, Val::Missing) => self.fail(tree, format!("invalid value; expected {}", ty.name())),
            (ty, v) if !v.is_nil() && ty.accepts(v) => Ok(val),
            (ty, v) => {
                let message = format!("wrong type for value; expected {}; got {}", ty.name(), type_of(v));
                self.fail(tree, message)
            }
        }
    }
}

/// A complex constant: Go templates can write and print them, and nothing else.
struct Complex(Str);

impl GoObject for Complex {
    fn type_name(&self) -> &str {
        "complex128"
    }
    fn kind(&self) -> &str {
        "complex128"
    }
    fn field(&self, _: &str, _: &mut Env<'_>) -> Option<Result<Val, FuncError>> {
        None
    }
    fn display(&self) -> String {
        self.0.to_string()
    }
    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
    fn truth(&self) -> bool {
        self.0 != "(0+0i)"
    }
    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

/// A number literal for the integer types only few functions take.
fn integer(name: &str, n: &Number) -> Option<Val> {
    match name {
        "int8" | "int16" | "int32" => n.int.map(Val::Int64),
        "uint" | "uint8" | "uint16" | "uint32" | "uint64" => n.uint.map(Val::UInt64),
        "time.Duration" => n.int.map(Val::Int64),
        "float32" => n.float.map(Val::Float),
        _ => None,
    }
}
