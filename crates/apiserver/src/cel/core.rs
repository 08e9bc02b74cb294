//! The expression tree cel-go's checker works on: operators are calls, macros are written out as folds
//! (`parser/macro.go`, `ext/comprehensions.go`, `ext/lists.go`, `cel/library.go`).

use druse_object::value::Str;

use super::parse::{Expr, Kind, Lit, Macro, Op};

/// The place of a node in its tree.
pub(super) type Id = usize;

/// The variable folds collect in.
pub(super) const ACCUMULATOR: &str = "@result";

#[derive(Clone, Debug)]
pub(super) enum Core {
    Lit(Lit),
    Ident(Str),
    /// `of.field`, or whether there is such a field.
    Select {
        of: Id,
        field: Str,
        test: bool,
    },
    Call {
        name: Str,
        target: Option<Id>,
        args: Vec<Id>,
    },
    /// Items, each with whether it is optional.
    List(Vec<(Id, bool)>),
    Map(Vec<(Id, Id, bool)>),
    /// The type's name and the fields' values.
    Message(Str, Vec<Id>),
    Fold(Fold),
}

#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub(super) range: Id,
    /// One name for items or keys, or two for indexes or keys and values.
    pub(super) names: Vec<Str>,
    pub(super) accu: Str,
    pub(super) init: Id,
    pub(super) condition: Id,
    pub(super) step: Id,
    pub(super) result: Id,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it stands in the text, in bytes.
    pub(super) at: usize,
    pub(super) core: Core,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Id,
}

impl Tree {
    /// The tree of an expression.
    pub(super) fn of(e: &Expr) -> Self {
        let mut tree = Self::default();
        tree.root = tree.lower(e);
        tree
    }

    fn add(&mut self, at: usize, core: Core) -> Id {
        self.nodes.push(Node { at, core });
        self.nodes.len() - 1
    }

    fn call(&mut self, at: usize, name: &str, args: Vec<Id>) -> Id {
        self.add(at, Core::Call { name: name.into(), target: None, args })
    }

    fn method(&mut self, at: usize, name: &str, target: Id, args: Vec<Id>) -> Id {
        self.add(at, Core::Call { name: name.into(), target: Some(target), args })
    }

    fn lit(&mut self, at: usize, l: Lit) -> Id {
        self.add(at, Core::Lit(l))
    }

    fn lower(&mut self, e: &Expr) -> Id {
        let at = e.at;
        match &e.kind {
            Kind::Lit(l) => self.lit(at, l.clone()),
            Kind::Ident(name) => self.add(at, Core::Ident(name.clone())),
            Kind::Select { of, field, optional: false } => {
                let of = self.lower(of);
                self.add(at, Core::Select { of, field: field.written.clone(), test: false })
            }
            Kind::Select { of, field, optional: true } => {
                let of = self.lower(of);
                let field = self.lit(field.at, Lit::Str(field.written.clone()));
                self.call(at, "_?._", vec![of, field])
            }
            Kind::Has(of, field) => {
                let of = self.lower(of);
                self.add(at, Core::Select { of, field: field.written.clone(), test: true })
            }
            Kind::Index { of, at: key, optional } => {
                let args = vec![self.lower(of), self.lower(key)];
                self.call(at, if *optional { "_[?_]" } else { "_[_]" }, args)
            }
            Kind::Call { name, target, args } => {
                let target = target.as_ref().map(|t| self.lower(t));
                let args = args.iter().map(|a| self.lower(a)).collect();
                self.add(at, Core::Call { name: name.clone(), target, args })
            }
            Kind::List(items) => {
                let items = items.iter().map(|(e, optional)| (self.lower(e), *optional)).collect();
                self.add(at, Core::List(items))
            }
            Kind::Map(items) => {
                let items = items.iter().map(|(k, v, o)| (self.lower(k), self.lower(v), *o)).collect();
                self.add(at, Core::Map(items))
            }
            Kind::Message(name, fields) => {
                let fields = fields.iter().map(|(_, v, _)| self.lower(v)).collect();
                self.add(at, Core::Message(name.clone(), fields))
            }
            Kind::If(c, a, b) => {
                let args = vec![self.lower(c), self.lower(a), self.lower(b)];
                self.call(at, "_?_:_", args)
            }
            Kind::And(a, b) => self.two(at, "_&&_", a, b),
            Kind::Or(a, b) => self.two(at, "_||_", a, b),
            Kind::Binary(op, a, b) => self.two(at, sign(*op), a, b),
            Kind::Not(a) => {
                let args = vec![self.lower(a)];
                self.call(at, "!_", args)
            }
            Kind::Neg(a) => {
                let args = vec![self.lower(a)];
                self.call(at, "-_", args)
            }
            Kind::Over { kind, range, names, bodies } => self.over(at, *kind, range, names, bodies),
        }
    }

    fn two(&mut self, at: usize, name: &str, a: &Expr, b: &Expr) -> Id {
        let args = vec![self.lower(a), self.lower(b)];
        self.call(at, name, args)
    }

    fn accu(&mut self, at: usize) -> Id {
        self.add(at, Core::Ident(ACCUMULATOR.into()))
    }

    /// A macro, written out.
    fn over(&mut self, at: usize, kind: Macro, range: &Expr, names: &[Str], bodies: &[Expr]) -> Id {
        if kind == Macro::SortBy {
            return self.sort(at, range, names, bodies);
        }
        let target = self.lower(range);
        if matches!(kind, Macro::OptMap | Macro::OptFlatMap) {
            let has = self.method(at, "hasValue", target, Vec::new());
            let again = self.lower(range);
            let value = self.method(at, "value", again, Vec::new());
            let body = bodies.first().map_or(value, |b| self.lower(b));
            let bound = self.bind(at, names.first().cloned().unwrap_or_default(), value, body);
            let some = if kind == Macro::OptMap { self.call(at, "optional.of", vec![bound]) } else { bound };
            let none = self.call(at, "optional.none", Vec::new());
            return self.call(at, "_?_:_", vec![has, some, none]);
        }
        let (filter, body) = match bodies {
            [filter, body] => (Some(self.lower(filter)), self.lower(body)),
            [body] => (None, self.lower(body)),
            _ => (None, target),
        };
        let yes = |t: &mut Self| t.lit(at, Lit::Bool(true));
        let (init, condition, mut step) = match kind {
            Macro::All => {
                let accu = self.accu(at);
                let (init, condition) = (yes(self), self.call(at, "@not_strictly_false", vec![accu]));
                let accu = self.accu(at);
                (init, condition, self.call(at, "_&&_", vec![accu, body]))
            }
            Macro::Exists => {
                let accu = self.accu(at);
                let not = self.call(at, "!_", vec![accu]);
                let (init, condition) =
                    (self.lit(at, Lit::Bool(false)), self.call(at, "@not_strictly_false", vec![not]));
                let accu = self.accu(at);
                (init, condition, self.call(at, "_||_", vec![accu, body]))
            }
            Macro::ExistsOne => {
                let (accu, one) = (self.accu(at), self.lit(at, Lit::Int(1)));
                let more = self.call(at, "_+_", vec![accu, one]);
                let accu = self.accu(at);
                (self.lit(at, Lit::Int(0)), yes(self), self.call(at, "_?_:_", vec![body, more, accu]))
            }
            Macro::TransformMap => {
                let (accu, key) = (self.accu(at), names.first().cloned().unwrap_or_default());
                let key = self.add(at, Core::Ident(key));
                let more = self.call(at, "cel.@mapInsert", vec![accu, key, body]);
                (self.add(at, Core::Map(Vec::new())), yes(self), more)
            }
            Macro::Filter => {
                let item = self.add(at, Core::Ident(names.first().cloned().unwrap_or_default()));
                let (accu, item) = (self.accu(at), self.add(at, Core::List(vec![(item, false)])));
                let more = self.call(at, "_+_", vec![accu, item]);
                let accu = self.accu(at);
                let step = self.call(at, "_?_:_", vec![body, more, accu]);
                (self.add(at, Core::List(Vec::new())), yes(self), step)
            }
            _ => {
                let (accu, item) = (self.accu(at), self.add(at, Core::List(vec![(body, false)])));
                let more = self.call(at, "_+_", vec![accu, item]);
                (self.add(at, Core::List(Vec::new())), yes(self), more)
            }
        };
        if let Some(filter) = filter {
            let accu = self.accu(at);
            step = self.call(at, "_?_:_", vec![filter, step, accu]);
        }
        let mut result = self.accu(at);
        if kind == Macro::ExistsOne {
            let one = self.lit(at, Lit::Int(1));
            result = self.call(at, "_==_", vec![result, one]);
        }
        let accu = ACCUMULATOR.into();
        self.add(at, Core::Fold(Fold { range: target, names: names.to_vec(), accu, init, condition, step, result }))
    }

    /// A name for a value in an expression: a fold over nothing.
    fn bind(&mut self, at: usize, name: Str, value: Id, body: Id) -> Id {
        let range = self.add(at, Core::List(Vec::new()));
        let (condition, step) = (self.lit(at, Lit::Bool(false)), self.add(at, Core::Ident(name.clone())));
        let names = vec!["#unused".into()];
        self.add(at, Core::Fold(Fold { range, names, accu: name, init: value, condition, step, result: body }))
    }

    fn sort(&mut self, at: usize, range: &Expr, names: &[Str], bodies: &[Expr]) -> Id {
        const INPUT: &str = "@__sortBy_input__";
        let target = self.lower(range);
        let input = Expr { at, kind: Kind::Ident(INPUT.into()) };
        let keys = self.over(at, Macro::Map, &input, names, bodies);
        let list = self.lower(&input);
        let sorted = self.method(at, "@sortByAssociatedKeys", list, vec![keys]);
        self.bind(at, INPUT.into(), target, sorted)
    }
}

fn sign(op: Op) -> &'static str {
    match op {
        Op::Eq => "_==_",
        Op::Ne => "_!=_",
        Op::Lt => "_<_",
        Op::Le => "_<=_",
        Op::Gt => "_>_",
        Op::Ge => "_>=_",
        Op::In => "@in",
        Op::Add => "_+_",
        Op::Sub => "_-_",
        Op::Mul => "_*_",
        Op::Div => "_/_",
        Op::Rem => "_%_",
    }
}
