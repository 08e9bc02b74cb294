//! Expressions evaluated. Nothing fails: what cannot be resolved is unknown.

use std::collections::BTreeMap;
use std::rc::Rc;

use hcl_edit::Span as _;
use hcl_edit::expr::{BinaryOperator, Expression, ForExpr, ObjectKey, Traversal, TraversalOperator, UnaryOperator};

use crate::load::{Decl, FileInfo};
use crate::scope::{Key, Name, Scope};
use crate::template::template;
use crate::value::{Kind, Value};

/// Where an expression stands: its module, its file, and the names that are bound around it.
#[derive(Clone)]
pub(crate) struct Env<'a, 't> {
    pub(crate) scope: &'a Scope<'t>,
    pub(crate) file: Rc<FileInfo>,
    bound: BTreeMap<String, Value>,
    depth: usize,
}

/// How deep expressions may call for others.
const MAX_DEPTH: usize = 120;

impl<'a, 't> Env<'a, 't> {
    pub(crate) fn new(scope: &'a Scope<'t>, file: &Rc<FileInfo>) -> Self {
        Self { scope, file: file.clone(), bound: BTreeMap::new(), depth: 0 }
    }

    pub(crate) fn with_key(mut self, key: &Key) -> Self {
        let (name, value) = match key {
            Key::None => return self,
            Key::Count(n) => {
                let n = u32::try_from(*n).unwrap_or(u32::MAX);
                ("count", BTreeMap::from([("index".to_string(), Kind::Number(f64::from(n)).into())]))
            }
            Key::Each(k, v) => {
                let key = Value::string(k).at(v.place.clone());
                ("each", BTreeMap::from([("key".to_string(), key), ("value".to_string(), v.clone())]))
            }
        };
        self.bound.insert(name.to_string(), Kind::Map(value).into());
        self
    }

    pub(crate) fn with(&self, name: &str, value: Value) -> Self {
        let mut env = self.clone();
        env.bound.insert(name.to_string(), value);
        env
    }

    /// The value of an expression, at its place unless it brings one from elsewhere.
    pub(crate) fn eval(&self, e: &Expression) -> Value {
        if self.depth > MAX_DEPTH {
            return Value::unknown("the expressions are nested too deep");
        }
        let mut env = self.clone();
        env.depth += 1;
        let mut value = env.value(e);
        if value.place.is_none() {
            value.place = self.file.place(e.span());
        }
        value
    }

    fn value(&self, e: &Expression) -> Value {
        match e {
            Expression::Null(_) => Value::null(),
            Expression::Bool(b) => Kind::Bool(*b.value()).into(),
            Expression::Number(n) => Kind::Number(n.value().as_f64().unwrap_or_default()).into(),
            Expression::String(s) => Value::string(s.value().as_str()),
            Expression::Array(items) => Kind::List(items.iter().map(|i| self.eval(i)).collect()).into(),
            Expression::Object(o) => {
                let mut map = BTreeMap::new();
                for (key, value) in o {
                    let key = match key {
                        ObjectKey::Ident(i) => Some(i.as_str().to_string()),
                        ObjectKey::Expression(Expression::Variable(v)) => Some(v.as_str().to_string()),
                        ObjectKey::Expression(e) => self.eval(e).text(),
                    };
                    match key {
                        Some(k) => drop(map.insert(k, self.eval(value.expr()))),
                        None => return Value::unknown("a key is no text"),
                    }
                }
                Kind::Map(map).into()
            }
            Expression::StringTemplate(t) => template(self, t),
            Expression::HeredocTemplate(t) => template(self, &t.template),
            Expression::Parenthesis(p) => self.eval(p.inner()),
            Expression::Variable(v) => self.name(v.as_str(), &[]).0,
            Expression::Traversal(t) => self.traversal(t),
            Expression::Conditional(c) => match self.eval(&c.cond_expr).bool() {
                Some(true) => self.eval(&c.true_expr),
                Some(false) => self.eval(&c.false_expr),
                None => {
                    let (a, b) = (self.eval(&c.true_expr), self.eval(&c.false_expr));
                    if a.kind == b.kind { a } else { Value::unknown("a condition is not known") }
                }
            },
            Expression::FuncCall(f) => crate::functions::call(self, f),
            Expression::UnaryOp(u) => {
                let v = self.eval(&u.expr);
                match u.operator.value() {
                    UnaryOperator::Neg => v.number().map(|n| Kind::Number(-n)),
                    UnaryOperator::Not => v.bool().map(|b| Kind::Bool(!b)),
                }
                .map_or_else(|| Value::unknown("an operand is not known"), Value::from)
            }
            Expression::BinaryOp(b) => {
                self.binary(*b.operator.value(), &self.eval(&b.lhs_expr), &self.eval(&b.rhs_expr))
            }
            Expression::ForExpr(f) => self.for_expression(f),
        }
    }

    fn binary(&self, operator: BinaryOperator, a: &Value, b: &Value) -> Value {
        use BinaryOperator as Op;
        let kind = match operator {
            Op::Eq | Op::NotEq => {
                if !a.is_whole() || !b.is_whole() {
                    return Value::unknown("one side of a comparison is not known");
                }
                Some(Kind::Bool((a.plain() == b.plain()) == (operator == Op::Eq)))
            }
            Op::And => match (a.bool(), b.bool()) {
                (Some(false), _) | (_, Some(false)) => Some(Kind::Bool(false)),
                (Some(true), Some(true)) => Some(Kind::Bool(true)),
                _ => None,
            },
            Op::Or => match (a.bool(), b.bool()) {
                (Some(true), _) | (_, Some(true)) => Some(Kind::Bool(true)),
                (Some(false), Some(false)) => Some(Kind::Bool(false)),
                _ => None,
            },
            _ => a.number().zip(b.number()).map(|(a, b)| match operator {
                Op::LessEq => Kind::Bool(a <= b),
                Op::GreaterEq => Kind::Bool(a >= b),
                Op::Less => Kind::Bool(a < b),
                Op::Greater => Kind::Bool(a > b),
                Op::Plus => Kind::Number(a + b),
                Op::Minus => Kind::Number(a - b),
                Op::Mul => Kind::Number(a * b),
                Op::Div => Kind::Number(a / b),
                _ => Kind::Number(a % b),
            }),
        };
        kind.map_or_else(|| Value::unknown("an operand is not known"), Value::from)
    }

    fn for_expression(&self, f: &ForExpr) -> Value {
        let collection = self.eval(&f.intro.collection_expr);
        let pairs: Vec<(Value, Value)> = match &collection.kind {
            Kind::Map(m) => m.iter().map(|(k, v)| (Value::string(k), v.clone())).collect(),
            Kind::List(items) => items
                .iter()
                .enumerate()
                .map(|(i, v)| (Kind::Number(u32::try_from(i).map_or(0.0, f64::from)).into(), v.clone()))
                .collect(),
            _ => return Value::unknown("what a for expression goes over is not known"),
        };
        let (mut list, mut map) = (Vec::new(), BTreeMap::<String, Value>::new());
        for (key, value) in pairs {
            let mut env = self.clone();
            if let Some(k) = &f.intro.key_var {
                env.bound.insert(k.as_str().to_string(), key);
            }
            env.bound.insert(f.intro.value_var.as_str().to_string(), value);
            match f.cond.as_ref().map(|c| env.eval(&c.expr).bool()) {
                None | Some(Some(true)) => {}
                Some(Some(false)) => continue,
                Some(None) => return Value::unknown("a for expression's condition is not known"),
            }
            let made = env.eval(&f.value_expr);
            let Some(key_expr) = &f.key_expr else {
                list.push(made);
                continue;
            };
            let Some(key) = env.eval(key_expr).text() else {
                return Value::unknown("a for expression's key is no text");
            };
            if f.grouping {
                let group = map.entry(key).or_insert_with(|| Kind::List(Vec::new()).into());
                if let Kind::List(items) = &mut group.kind {
                    items.push(made);
                }
            } else {
                map.insert(key, made);
            }
        }
        if f.key_expr.is_some() { Kind::Map(map).into() } else { Kind::List(list).into() }
    }

    fn traversal(&self, t: &Traversal) -> Value {
        let operators: Vec<&TraversalOperator> = t.operators.iter().map(|o| o.value()).collect();
        let (value, used) = match &t.expr {
            Expression::Variable(v) => self.name(v.as_str(), &operators),
            e => (self.eval(e), 0),
        };
        self.walk(value, &operators[used..])
    }

    /// The steps into a value.
    fn walk(&self, value: Value, steps: &[&TraversalOperator]) -> Value {
        let Some((step, rest)) = steps.split_first() else { return value };
        if value.is_unknown() {
            return value;
        }
        let next = match step {
            TraversalOperator::GetAttr(name) => pick(&value, &Value::string(name.as_str())),
            TraversalOperator::Index(e) => pick(&value, &self.eval(e)),
            TraversalOperator::LegacyIndex(n) => {
                pick(&value, &Kind::Number(u32::try_from(*n.value()).map_or(-1.0, f64::from)).into())
            }
            TraversalOperator::AttrSplat(_) | TraversalOperator::FullSplat(_) => {
                return Kind::List(value.items().iter().map(|v| self.walk(v.clone(), rest)).collect()).into();
            }
        };
        self.walk(next, rest)
    }

    /// What a name means, and how many of the steps after it were needed to find it.
    fn name(&self, name: &str, steps: &[&TraversalOperator]) -> (Value, usize) {
        if let Some(v) = self.bound.get(name) {
            return (v.clone(), 0);
        }
        let attribute = |n: usize| match steps.get(n) {
            Some(TraversalOperator::GetAttr(a)) => Some(a.as_str()),
            _ => None,
        };
        let unknown = |why: String| (Value::unknown(why), steps.len());
        match (name, attribute(0)) {
            ("var", Some(n)) => (self.scope.variable(n), 1),
            ("local", Some(n)) => (self.scope.local(n), 1),
            ("path", Some("module")) => (Value::string(path(&self.scope.folder)), 1),
            ("path", Some("root")) => (Value::string(path(&self.scope.root)), 1),
            ("terraform", Some("workspace")) => (Value::string("default"), 1),
            ("module", Some(n)) => self.module(n, &steps[1..], 1),
            ("data", Some(kind)) => match attribute(1) {
                Some(label) => self.resource(&(true, kind.into(), label.into()), &steps[2..], 2),
                None => unknown("data names no data source".into()),
            },
            (kind, Some(label)) if kind.contains('_') => {
                self.resource(&(false, kind.into(), label.into()), &steps[1..], 1)
            }
            _ => unknown(format!("{name} is not known here")),
        }
    }

    /// An instance chosen by the next step; the number of steps used for it.
    fn instance(&self, keys: &[Key], steps: &[&TraversalOperator]) -> Option<(Key, usize)> {
        let index = match steps.first() {
            _ if keys == [Key::None] => return Some((Key::None, 0)),
            Some(TraversalOperator::Index(e)) => self.eval(e),
            Some(TraversalOperator::LegacyIndex(n)) => Value::string(n.value().to_string()),
            _ => return None,
        };
        let text = index.text()?;
        let found = keys.iter().find(|k| match k {
            Key::None => false,
            Key::Count(n) => n.to_string() == text,
            Key::Each(k, _) => *k == text,
        });
        found.map(|k| (k.clone(), 1))
    }

    fn resource(&self, name: &Name, steps: &[&TraversalOperator], before: usize) -> (Value, usize) {
        let all = before + steps.len();
        let address = format!("{}{}.{}", if name.0 { "data." } else { "" }, name.1, name.2);
        let Some((decl, keys)) = self.scope.resource(name) else {
            return (Value::unknown(format!("{address} is not declared")), all);
        };
        let Some(keys) = keys else {
            return (Value::unknown(format!("how many {address} there are is not known")), all);
        };
        let one = |key: &Key, attribute: &str| self.scope.attribute(name, &decl, key, attribute);
        if let Some((key, used)) = self.instance(&keys, steps) {
            return match steps.get(used) {
                Some(TraversalOperator::GetAttr(a)) => (one(&key, a.as_str()), before + used + 1),
                _ => (self.whole(name, &decl, &key), before + used),
            };
        }
        match steps.first() {
            Some(TraversalOperator::FullSplat(_) | TraversalOperator::AttrSplat(_)) => match steps.get(1) {
                Some(TraversalOperator::GetAttr(a)) => {
                    (Kind::List(keys.iter().map(|k| one(k, a.as_str())).collect()).into(), before + 2)
                }
                _ => (Kind::List(keys.iter().map(|k| self.whole(name, &decl, k)).collect()).into(), before + 1),
            },
            Some(TraversalOperator::Index(_) | TraversalOperator::LegacyIndex(_)) => {
                (Value::unknown(format!("{address} has no such instance")), all)
            }
            _ => (all_of(&keys, |k| self.whole(name, &decl, k)), before),
        }
    }

    /// A resource as one object: what is written, and what is computed for the kinds known here.
    fn whole(&self, name: &Name, decl: &Rc<Decl>, key: &Key) -> Value {
        let written = decl.block.body.attributes().map(|a| a.key.as_str());
        let names = written.chain(["arn", "id", "name", "url"]);
        let map = names
            .filter(|n| !matches!(*n, "count" | "for_each" | "provider" | "depends_on"))
            .map(|n| (n.to_string(), self.scope.attribute(name, decl, key, n)))
            .collect();
        Value::from(Kind::Map(map)).at(decl.place())
    }

    fn module(&self, name: &str, steps: &[&TraversalOperator], before: usize) -> (Value, usize) {
        let all = before + steps.len();
        // Errors of its files are reported where the tree's modules are gone through.
        let Some(children) = self.scope.child(name, &mut Vec::new()) else {
            return (Value::unknown(format!("module.{name} is not local, or its instances are not known")), all);
        };
        let keys: Vec<Key> = children.iter().map(|(k, _)| k.clone()).collect();
        let child = |key: &Key| children.iter().find(|(k, _)| k == key).map(|(_, s)| s);
        let whole = |key: &Key| {
            let Some(s) = child(key) else { return Value::unknown("no such instance") };
            Kind::Map(s.output_names().map(|n| (n.clone(), s.output(n))).collect()).into()
        };
        if let Some((key, used)) = self.instance(&keys, steps) {
            return match (steps.get(used), child(&key)) {
                (Some(TraversalOperator::GetAttr(a)), Some(s)) => (s.output(a.as_str()), before + used + 1),
                _ => (whole(&key), before + used),
            };
        }
        (all_of(&keys, whole), before)
    }
}

/// All instances as one value: a map where they have names, a list where they are counted.
fn all_of(keys: &[Key], whole: impl Fn(&Key) -> Value) -> Value {
    let each = |k: &Key| match k {
        Key::Each(text, _) => Some((text.clone(), whole(k))),
        _ => None,
    };
    match keys.iter().map(each).collect::<Option<BTreeMap<_, _>>>() {
        Some(map) => Kind::Map(map).into(),
        None => Kind::List(keys.iter().map(&whole).collect()).into(),
    }
}

fn path(folder: &str) -> String {
    if folder.is_empty() { ".".into() } else { folder.into() }
}

/// An element of a map or list.
pub(crate) fn pick(value: &Value, key: &Value) -> Value {
    let found = match &value.kind {
        Kind::Map(m) => key.text().and_then(|k| m.get(&k).cloned()),
        Kind::List(items) => {
            let n = key.number().and_then(crate::value::whole).and_then(|n| usize::try_from(n).ok());
            n.and_then(|n| items.get(n).cloned())
        }
        _ => None,
    };
    found.unwrap_or_else(|| Value::unknown("there is no such element"))
}
