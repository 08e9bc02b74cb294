//! Sets of field paths: who owns what, as `FieldsV1` writes it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use druse_object::{Map, Value, value::Str};

use crate::field::go_quote;

/// How deep a path may go.
const MAX_DEPTH: usize = 200;

/// One step of a path.
#[derive(Clone, Debug)]
pub enum Elem {
    /// A struct's field or a map's key.
    Field(Str),
    /// A list item told apart by its key fields, sorted by name.
    Key(Vec<(Str, Value)>),
    /// A set's item.
    Value(Value),
    /// A list item by place.
    Index(i64),
}

impl Elem {
    fn rank(&self) -> u8 {
        match self {
            Elem::Field(_) => 0,
            Elem::Key(_) => 1,
            Elem::Value(_) => 2,
            Elem::Index(_) => 3,
        }
    }

    /// As a `FieldsV1` key: `f:name`, `k:{"name":"x"}`, `v:"x"`, `i:0`.
    fn to_key(&self) -> String {
        match self {
            Elem::Field(name) => format!("f:{name}"),
            Elem::Key(fields) => {
                let map: Map = fields.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
                format!("k:{}", druse_object::json::to_string(&Value::Map(map)))
            }
            Elem::Value(v) => format!("v:{}", druse_object::json::to_string(v)),
            Elem::Index(i) => format!("i:{i}"),
        }
    }

    fn from_key(key: &str) -> Option<Self> {
        let (kind, rest) = key.split_once(':')?;
        Some(match kind {
            "f" => Elem::Field(rest.into()),
            "k" => {
                let Value::Map(map) = druse_object::json::parse(rest.as_bytes()).ok()? else { return None };
                let mut fields: Vec<(Str, Value)> = map.into_iter().collect();
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                Elem::Key(fields)
            }
            "v" => Elem::Value(druse_object::json::parse(rest.as_bytes()).ok()?),
            "i" => Elem::Index(rest.parse().ok()?),
            _ => return None,
        })
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    let rank = |v: &Value| match v {
        Value::Int(_) | Value::UInt(_) | Value::Float(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Map(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Int(x), Value::Int(y)) => x.cmp(y),
        (Value::String(x), Value::String(y)) => x.cmp(y),
        (Value::Bool(x), Value::Bool(y)) => x.cmp(y),
        (Value::Array(x), Value::Array(y)) => {
            x.iter().zip(y).map(|(x, y)| compare(x, y)).find(|o| o.is_ne()).unwrap_or(x.len().cmp(&y.len()))
        }
        (Value::Map(_), Value::Map(_)) => druse_object::json::to_string(a).cmp(&druse_object::json::to_string(b)),
        _ => match (a.as_f64(), b.as_f64()) {
            (Some(x), Some(y)) => x.total_cmp(&y),
            _ => rank(a).cmp(&rank(b)),
        },
    }
}

impl Ord for Elem {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Elem::Field(a), Elem::Field(b)) => a.cmp(b),
            (Elem::Key(a), Elem::Key(b)) => a
                .iter()
                .zip(b)
                .map(|(x, y)| x.0.cmp(&y.0).then_with(|| compare(&x.1, &y.1)))
                .find(|o| o.is_ne())
                .unwrap_or(a.len().cmp(&b.len())),
            (Elem::Value(a), Elem::Value(b)) => compare(a, b),
            (Elem::Index(a), Elem::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}
impl PartialOrd for Elem {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Elem {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}
impl Eq for Elem {}

impl std::fmt::Display for Elem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |v: &Value| match v {
            Value::String(s) => go_quote(s),
            other => druse_object::json::to_string(other),
        };
        match self {
            Elem::Field(name) => write!(f, ".{name}"),
            Elem::Key(fields) => {
                let parts: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={}", text(v))).collect();
                write!(f, "[{}]", parts.join(","))
            }
            Elem::Value(v) => write!(f, "[={}]", text(v)),
            Elem::Index(i) => write!(f, "[{i}]"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Entry {
    member: bool,
    below: Set,
}

/// A set of paths. A path and one below it are separate members.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Set(BTreeMap<Elem, Entry>);

impl Set {
    /// Whether no path is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a path.
    pub fn insert(&mut self, path: &[Elem]) {
        let Some((first, rest)) = path.split_first() else { return };
        let entry = self.0.entry(first.clone()).or_default();
        if rest.is_empty() {
            entry.member = true;
        } else {
            entry.below.insert(rest);
        }
    }

    /// Whether this one step is a member.
    #[must_use]
    pub fn has(&self, elem: &Elem) -> bool {
        self.0.get(elem).is_some_and(|e| e.member)
    }

    /// Whether a whole path is a member.
    #[must_use]
    pub fn has_path(&self, path: &[Elem]) -> bool {
        match path {
            [] => false,
            [last] => self.has(last),
            [first, rest @ ..] => self.0.get(first).is_some_and(|e| e.below.has_path(rest)),
        }
    }

    /// The paths below a step, when there are any.
    #[must_use]
    pub fn below(&self, elem: &Elem) -> Option<&Set> {
        self.0.get(elem).map(|e| &e.below).filter(|s| !s.is_empty())
    }

    /// Each first step: whether it is a member, and what is below it.
    pub fn entries(&self) -> impl Iterator<Item = (&Elem, bool, &Set)> {
        self.0.iter().map(|(k, e)| (k, e.member, &e.below))
    }

    /// Everything in either.
    #[must_use]
    pub fn union(mut self, other: &Set) -> Set {
        for (k, e) in &other.0 {
            match self.0.entry(k.clone()) {
                Slot::Vacant(v) => {
                    v.insert(e.clone());
                }
                Slot::Occupied(mut o) => {
                    let mine = o.get_mut();
                    mine.member |= e.member;
                    mine.below = std::mem::take(&mut mine.below).union(&e.below);
                }
            }
        }
        self
    }

    /// Everything here that is not in `other`; paths below a removed one stay.
    #[must_use]
    pub fn difference(mut self, other: &Set) -> Set {
        if !other.is_empty() {
            self.0.retain(|k, e| {
                if let Some(o) = other.0.get(k) {
                    e.member &= !o.member;
                    e.below = std::mem::take(&mut e.below).difference(&o.below);
                }
                e.member || !e.below.is_empty()
            });
        }
        self
    }

    /// Everything here that is neither in `other` nor below something in it.
    #[must_use]
    pub fn recursive_difference(mut self, other: &Set) -> Set {
        if !other.is_empty() {
            self.0.retain(|k, e| {
                if let Some(o) = other.0.get(k) {
                    if o.member {
                        return false;
                    }
                    e.below = std::mem::take(&mut e.below).recursive_difference(&o.below);
                }
                e.member || !e.below.is_empty()
            });
        }
        self
    }

    /// Everything in both.
    #[must_use]
    pub fn intersection(mut self, other: &Set) -> Set {
        self.0.retain(|k, e| {
            let Some(o) = other.0.get(k) else { return false };
            e.member &= o.member;
            e.below = std::mem::take(&mut e.below).intersection(&o.below);
            e.member || !e.below.is_empty()
        });
        self
    }

    /// Marks first steps for which `named` says so as members too, and goes on below.
    pub(crate) fn map_members(&mut self, named: &mut dyn FnMut(&Elem, &mut Set) -> bool) {
        for (k, e) in &mut self.0 {
            let is_named = named(k, &mut e.below);
            e.member |= is_named && !e.below.is_empty();
        }
    }

    /// Every member, in order.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<Elem>> {
        fn walk(set: &Set, at: &mut Vec<Elem>, out: &mut Vec<Vec<Elem>>) {
            for (k, e) in &set.0 {
                if e.member {
                    at.push(k.clone());
                    out.push(at.clone());
                    at.pop();
                }
            }
            for (k, e) in &set.0 {
                at.push(k.clone());
                walk(&e.below, at, out);
                at.pop();
            }
        }
        let mut out = Vec::new();
        walk(self, &mut Vec::new(), &mut out);
        out
    }

    /// As `fieldsV1`.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(self.0.len());
        for (k, e) in &self.0 {
            let mut inner = e.below.to_value();
            if e.member
                && !e.below.is_empty()
                && let Value::Map(m) = &mut inner
            {
                let mut with_dot = Map::with_capacity(m.len() + 1);
                with_dot.insert(".", Map::new());
                for (k, v) in std::mem::take(m) {
                    with_dot.insert(k, v);
                }
                inner = Value::Map(with_dot);
            }
            map.insert(k.to_key(), inner);
        }
        Value::Map(map)
    }

    /// From `fieldsV1`; `None` when it is not one.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Set> {
        Self::read(value, 0)
    }

    fn read(value: &Value, depth: usize) -> Option<Set> {
        let map = value.as_map().filter(|_| depth < MAX_DEPTH)?;
        let mut set = Set::default();
        for (key, v) in map.iter() {
            if key == "." {
                continue;
            }
            let inner = v.as_map()?;
            let below = Self::read(v, depth + 1)?;
            let member = inner.is_empty() || inner.contains_key(".");
            if member || !below.is_empty() {
                set.0.insert(Elem::from_key(key)?, Entry { member, below });
            }
        }
        Some(set)
    }
}

/// A path as messages write it.
#[must_use]
pub fn path_text(path: &[Elem]) -> String {
    path.iter().map(ToString::to_string).collect()
}
