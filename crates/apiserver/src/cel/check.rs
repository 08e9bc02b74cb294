//! The type checker of cel-go (`checker/checker.go`, `checker/types.go`): every name declared, an overload for every
//! call, and the type of every part of an expression; then the [`validators`].

use std::collections::HashMap;

use druse_object::value::Str;

use super::core::{Core, Fold, Id, Tree};
use super::parse::{Expr, Lit, shown};
use super::types::{DECLARED, Overload, Type};
use super::validators;

/// The variables of an expression, and the fields of the objects they have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub(crate) variables: Vec<(Str, Type)>,
    pub(crate) structs: HashMap<Str, HashMap<Str, Type>>,
    /// Whether the functions for patches are there.
    pub(crate) patches: bool,
}

/// An expression with the types of its parts.
pub(super) struct Checked {
    pub(super) tree: Tree,
    pub(super) types: Vec<Type>,
    /// The overloads a call may be.
    pub(super) overloads: Vec<Vec<&'static str>>,
}

impl Checked {
    pub(super) fn output(&self) -> &Type {
        self.types.get(self.tree.root).unwrap_or(&Type::Error)
    }
}

/// Errors shown are at most so many.
const MOST_ERRORS: usize = 100;

/// The types of an expression's parts.
///
/// # Errors
/// All that is wrong, as cel-go words it, in the order of the text.
pub(super) fn check(root: &Expr, text: &str, scope: &Scope) -> Result<Checked, String> {
    let tree = Tree::of(root);
    let n = tree.nodes.len();
    let mut c = Checker {
        tree,
        scope,
        locals: Vec::new(),
        types: vec![Type::Error; n],
        overloads: vec![Vec::new(); n],
        vars: Vec::new(),
        trail: Vec::new(),
        errors: Vec::new(),
    };
    c.visit(c.tree.root);
    c.types = c.types.iter().map(|ty| c.substitute(ty, true)).collect();
    if c.errors.is_empty() {
        let wrong = validators::errors(&c.tree, &c.types);
        c.errors.extend(wrong.into_iter().map(|(id, why)| (c.tree.nodes[id].at, why)));
    }
    if c.errors.is_empty() {
        return Ok(Checked { tree: c.tree, types: c.types, overloads: c.overloads });
    }
    // By line and column, which is the order of bytes.
    c.errors.sort_by_key(|(at, _)| *at);
    let more = c.errors.len().saturating_sub(MOST_ERRORS);
    let mut out: Vec<String> = c.errors.iter().take(MOST_ERRORS).map(|(at, why)| shown(text, *at, why)).collect();
    if more > 0 {
        out.push(format!("{more} more errors were truncated"));
    }
    Err(out.join("\n"))
}

struct Checker<'a> {
    tree: Tree,
    scope: &'a Scope,
    /// What folds declare, the innermost last.
    locals: Vec<(Str, Type)>,
    types: Vec<Type>,
    overloads: Vec<Vec<&'static str>>,
    /// What variables of types stand for.
    vars: Vec<Option<Type>>,
    /// What `vars` had before, to go back to.
    trail: Vec<(usize, Option<Type>)>,
    errors: Vec<(usize, String)>,
}

impl Checker<'_> {
    fn fail(&mut self, id: Id, why: impl Into<String>) {
        let at = self.tree.nodes[id].at;
        self.errors.push((at, why.into()));
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.fail(id, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn mismatch(&mut self, id: Id, expected: &Type, actual: &Type) {
        self.fail(id, validators::mismatch(expected, actual));
    }

    fn named(&self, name: &str) -> Option<Type> {
        let own = |list: &[(Str, Type)]| list.iter().rev().find(|(n, _)| n == name).map(|(_, t)| t.clone());
        own(&self.locals).or_else(|| own(&self.scope.variables)).or_else(|| DECLARED.names.get(name).cloned())
    }

    fn visit(&mut self, id: Id) {
        let ty = match self.tree.nodes[id].core.clone() {
            Core::Lit(l) => match l {
                Lit::Null => Type::Null,
                Lit::Bool(_) => Type::Bool,
                Lit::Int(_) => Type::Int,
                Lit::Uint(_) => Type::Uint,
                Lit::Double(_) => Type::Double,
                Lit::Str(_) => Type::Str,
                Lit::Bytes(_) => Type::Bytes,
            },
            Core::Ident(name) => match self.named(&name) {
                Some(ty) => ty,
                None => {
                    self.undeclared(id, &name);
                    Type::Error
                }
            },
            Core::Select { of, field, test } => self.select(id, of, &field, test),
            Core::Call { name, target, args } => self.call(id, &name, target, &args),
            Core::List(items) => {
                let mut all = None;
                for (item, optional) in items {
                    self.visit(item);
                    let ty = self.optional_part(item, optional);
                    all = Some(self.join(all, ty));
                }
                let of = all.unwrap_or_else(|| self.new_var());
                Type::list(of)
            }
            Core::Map(items) => {
                let (mut keys, mut values) = (None, None);
                for (k, v, optional) in items {
                    self.visit(k);
                    let ty = self.types[k].clone();
                    keys = Some(self.join(keys, ty));
                    self.visit(v);
                    let ty = self.optional_part(v, optional);
                    values = Some(self.join(values, ty));
                }
                let (k, v) = match (keys, values) {
                    (Some(k), Some(v)) => (k, v),
                    _ => (self.new_var(), self.new_var()),
                };
                Type::map(k, v)
            }
            // What types mutating policies may make, and with which fields, is for their evaluation to say.
            Core::Message(name, fields) => {
                for f in fields {
                    self.visit(f);
                }
                Type::Struct(name)
            }
            Core::Fold(fold) => self.fold(&fold),
        };
        self.types[id] = ty;
    }

    /// The type of an item, without the optional around it where the item is marked as optional.
    fn optional_part(&mut self, id: Id, optional: bool) -> Type {
        let ty = self.types[id].clone();
        if !optional {
            return ty;
        }
        match ty.held() {
            Some(held) => held.clone(),
            None => {
                if !matches!(ty, Type::Dyn | Type::Any) {
                    self.mismatch(id, &Type::optional(ty.clone()), &ty);
                }
                ty
            }
        }
    }

    /// The name a chain of selections spells.
    fn qualified(&self, id: Id) -> Option<String> {
        match &self.tree.nodes[id].core {
            Core::Ident(name) => Some(name.to_string()),
            Core::Select { of, field, test: false } => self.qualified(*of).map(|n| format!("{n}.{field}")),
            _ => None,
        }
    }

    fn select(&mut self, id: Id, of: Id, field: &Str, test: bool) -> Type {
        if !test
            && let Some(name) = self.qualified(id)
            && let Some(ty) = self.named(&name)
        {
            self.tree.nodes[id].core = Core::Ident(name.into());
            return ty;
        }
        let ty = self.field(id, of, field, false);
        if test { Type::Bool } else { self.substitute(&ty, false) }
    }

    fn field(&mut self, id: Id, of: Id, field: &str, optional: bool) -> Type {
        self.visit(of);
        let whole = self.substitute(&self.types[of].clone(), false);
        let (ty, is_optional) = whole.held().map_or((&whole, false), |t| (t, true));
        let out = match ty {
            Type::Map(_, v) => (**v).clone(),
            Type::Struct(name) => match self.scope.structs.get(name) {
                None => {
                    self.fail(id, format!("unexpected failed resolution of '{name}'"));
                    Type::Error
                }
                // A field called as a word of the language may be read by that word.
                Some(fields) => match fields.get(field).or_else(|| fields.get(format!("__{field}__").as_str())) {
                    Some(ty) => ty.clone(),
                    None => {
                        self.fail(id, format!("undefined field '{field}'"));
                        Type::Error
                    }
                },
            },
            Type::Var(_) => {
                self.assignable(&Type::Dyn, ty);
                Type::Dyn
            }
            Type::Dyn | Type::Any | Type::Error => Type::Dyn,
            ty => {
                self.fail(id, format!("type '{ty}' does not support field selection"));
                Type::Dyn
            }
        };
        if is_optional || optional { Type::optional(out) } else { out }
    }

    fn call(&mut self, id: Id, name: &str, target: Option<Id>, args: &[Id]) -> Type {
        if let ("_?._", [of, field]) = (name, args) {
            let Core::Lit(Lit::Str(text)) = self.tree.nodes[*field].core.clone() else { return Type::Error };
            let ty = self.field(id, *of, &text, true);
            self.types[*field] = Type::Str;
            self.overloads[id] = vec!["select_optional_field"];
            return self.substitute(&ty, false);
        }
        for a in args {
            self.visit(*a);
        }
        let Some(target) = target else {
            let Some(overloads) = DECLARED.functions.get(name) else {
                self.undeclared(id, name);
                return Type::Error;
            };
            return self.resolve(id, name, overloads, None, args);
        };
        if let Some(space) = self.qualified(target)
            && let Some((whole, overloads)) = DECLARED.functions.get_key_value(format!("{space}.{name}").as_str())
            && (self.scope.patches || !whole.starts_with("jsonpatch."))
        {
            self.tree.nodes[id].core = Core::Call { name: (*whole).into(), target: None, args: args.to_vec() };
            return self.resolve(id, whole, overloads, None, args);
        }
        self.visit(target);
        match DECLARED.functions.get(name) {
            Some(overloads) => self.resolve(id, name, overloads, Some(target), args),
            None => {
                self.undeclared(id, name);
                Type::Error
            }
        }
    }

    fn resolve(&mut self, id: Id, name: &str, overloads: &'static [Overload], on: Option<Id>, args: &[Id]) -> Type {
        let mut given: Vec<Type> = on.iter().chain(args).map(|a| self.types[*a].clone()).collect();
        if matches!(name, "_&&_" | "_||_") {
            let before = self.errors.len();
            for (a, ty) in args.iter().zip(&given) {
                if !self.assignable(ty, &Type::Bool) {
                    self.mismatch(*a, &Type::Bool, ty);
                }
            }
            self.overloads[id] = overloads.iter().map(|o| o.id).take(1).collect();
            return if self.errors.len() > before { Type::Error } else { Type::Bool };
        }
        let mut result: Option<Type> = None;
        for o in overloads.iter().filter(|o| o.method == on.is_some()) {
            let mut fresh = Vec::new();
            let declared = self.instance(&o.result, &mut fresh);
            let wanted: Vec<Type> = o.args.iter().map(|a| self.instance(a, &mut fresh)).collect();
            if !self.all_assignable(&given, &wanted) {
                continue;
            }
            self.overloads[id].push(o.id);
            let ty = self.substitute(&declared, false);
            result = Some(match result {
                None => ty,
                Some(r) if matches!(r, Type::Dyn | Type::Any) || r == ty => r,
                Some(_) => Type::Dyn,
            });
        }
        if let Some(ty) = result {
            return ty;
        }
        for ty in &mut given {
            *ty = self.substitute(ty, true);
        }
        let shown = |types: &[Type]| types.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let signature = match (on, given.split_first()) {
            (Some(_), Some((first, rest))) => format!("{first}.({})", shown(rest)),
            _ => format!("({})", shown(&given)),
        };
        self.fail(id, format!("found no matching overload for '{name}' applied to '{signature}'"));
        Type::Error
    }

    fn fold(&mut self, fold: &Fold) -> Type {
        self.visit(fold.range);
        self.visit(fold.init);
        let range = self.substitute(&self.types[fold.range].clone(), false);
        let accu = self.types[fold.init].clone();
        let depth = self.locals.len();
        self.locals.push((fold.accu.clone(), accu.clone()));
        let two = fold.names.len() > 1;
        let (first, second) = match &range {
            Type::List(of) if two => (Type::Int, (**of).clone()),
            Type::List(of) => ((**of).clone(), Type::Error),
            Type::Map(k, v) => ((**k).clone(), (**v).clone()),
            Type::Dyn | Type::Error | Type::Var(_) => {
                self.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            ty => {
                let why = "cannot be range of a comprehension (must be list, map, or dynamic)";
                self.fail(fold.range, format!("expression of type '{ty}' {why}"));
                (Type::Error, Type::Error)
            }
        };
        let inner = self.locals.len();
        self.locals.extend(fold.names.iter().cloned().zip([first, second]));
        self.visit(fold.condition);
        self.assert(fold.condition, &Type::Bool);
        self.visit(fold.step);
        self.assert(fold.step, &accu);
        self.locals.truncate(inner);
        self.visit(fold.result);
        self.locals.truncate(depth);
        self.substitute(&self.types[fold.result].clone(), false)
    }

    fn assert(&mut self, id: Id, wanted: &Type) {
        let ty = self.types[id].clone();
        if !self.assignable(wanted, &ty) {
            self.mismatch(id, wanted, &ty);
        }
    }

    /// The common type of items.
    fn join(&mut self, all: Option<Type>, ty: Type) -> Type {
        match all {
            None => ty,
            Some(all) if self.assignable(&all, &ty) => most_general(all, ty),
            Some(_) => Type::Dyn,
        }
    }

    fn new_var(&mut self) -> Type {
        self.vars.push(None);
        Type::Var(self.vars.len() - 1)
    }

    /// A declared type with variables in the place of its parameters.
    fn instance(&mut self, ty: &Type, fresh: &mut Vec<(Str, Type)>) -> Type {
        if let Type::Param(name) = ty {
            if let Some((_, var)) = fresh.iter().find(|(n, _)| n == name) {
                return var.clone();
            }
            let var = self.new_var();
            fresh.push((name.clone(), var.clone()));
            return var;
        }
        ty.map_parts(&mut |t| self.instance(t, fresh))
    }

    fn substitute(&self, ty: &Type, to_dyn: bool) -> Type {
        match ty {
            Type::Var(n) => match self.vars.get(*n) {
                Some(Some(ty)) => self.substitute(ty, to_dyn),
                _ if to_dyn => Type::Dyn,
                _ => ty.clone(),
            },
            Type::Param(_) if to_dyn => Type::Dyn,
            _ => ty.map_parts(&mut |t| self.substitute(t, to_dyn)),
        }
    }

    /// Whether a value of the second type may stand where the first is wanted; what is learnt of variables is kept only
    /// when it may.
    fn assignable(&mut self, a: &Type, b: &Type) -> bool {
        self.all_assignable(std::slice::from_ref(a), std::slice::from_ref(b))
    }

    fn all_assignable(&mut self, a: &[Type], b: &[Type]) -> bool {
        let mark = self.trail.len();
        if self.lists_fit(a, b) {
            return true;
        }
        while self.trail.len() > mark {
            if let Some((n, old)) = self.trail.pop() {
                self.vars[n] = old;
            }
        }
        false
    }

    fn lists_fit(&mut self, a: &[Type], b: &[Type]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| self.fits(a, b))
    }

    fn bind(&mut self, var: usize, ty: Type) {
        let old = self.vars[var].replace(ty);
        self.trail.push((var, old));
    }

    /// `internalIsAssignable`
    fn fits(&mut self, a: &Type, b: &Type) -> bool {
        if let Type::Var(n) = b {
            let (valid, known) = self.stands_for(a, *n);
            if valid || known {
                return valid;
            }
        }
        if let Type::Var(n) = a {
            return self.stands_for(b, *n).0;
        }
        let wild = |t: &Type| matches!(t, Type::Dyn | Type::Any | Type::Error);
        let nullable =
            |t: &Type| matches!(t, Type::Opaque(..) | Type::Struct(_) | Type::Duration | Type::Timestamp | Type::Null);
        match (a, b) {
            (a, b) if wild(a) || wild(b) => true,
            (Type::Null, other) | (other, Type::Null) => nullable(other),
            (Type::Meta(_), Type::Meta(_)) => true,
            (Type::List(a), Type::List(b)) => self.fits(a, b),
            (Type::Map(k, v), Type::Map(l, w)) => self.fits(k, l) && self.fits(v, w),
            (Type::Opaque(n, a), Type::Opaque(m, b)) => n == m && self.lists_fit(a, b),
            (a, b) => a == b,
        }
    }

    /// Whether a variable may stand for a type, and whether it stands for one already.
    fn stands_for(&mut self, ty: &Type, var: usize) -> (bool, bool) {
        if *ty == Type::Var(var) {
            return (true, true);
        }
        if let Some(known) = self.vars[var].clone() {
            if *ty == known {
                return (true, true);
            }
            if self.fits(ty, &known) {
                let general = most_general(ty.clone(), known);
                if self.free_of(var, &general) {
                    self.bind(var, general);
                }
                return (true, true);
            }
            return (false, true);
        }
        if self.free_of(var, ty) {
            self.bind(var, ty.clone());
            return (true, false);
        }
        (false, false)
    }

    /// Whether a variable is no part of a type (`notReferencedIn`).
    fn free_of(&self, var: usize, within: &Type) -> bool {
        match within {
            Type::Var(n) if *n == var => false,
            Type::Var(n) => self.vars.get(*n).and_then(Option::as_ref).is_none_or(|ty| self.free_of(var, ty)),
            Type::List(of) | Type::Meta(Some(of)) => self.free_of(var, of),
            Type::Map(k, v) => self.free_of(var, k) && self.free_of(var, v),
            Type::Opaque(_, params) => params.iter().all(|p| self.free_of(var, p)),
            _ => true,
        }
    }
}

fn most_general(a: Type, b: Type) -> Type {
    if less_specific(&a, &b) { a } else { b }
}

/// `isEqualOrLessSpecific`
fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Any | Type::Var(_) | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Any | Type::Var(_) | Type::Param(_)) => false,
        (Type::Opaque(n, a), Type::Opaque(m, b)) => {
            n == m && a.len() == b.len() && a.iter().zip(b).all(|(a, b)| less_specific(a, b))
        }
        (Type::List(a), Type::List(b)) => less_specific(a, b),
        (Type::Map(k, v), Type::Map(l, w)) => less_specific(k, l) && less_specific(v, w),
        (Type::Meta(_), Type::Meta(_)) => true,
        (a, b) => a == b,
    }
}
