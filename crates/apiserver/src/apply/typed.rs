//! Objects seen through their schema, as structured-merge-diff sees them: what paths they have, how two differ, and
//! how one is merged into the other.
//!
//! Follows `sigs.k8s.io/structured-merge-diff/v6` `typed` (rules, order of merged lists, treatment of empty and null
//! values); shares no code with it.

use druse_object::{Map, Value, value::Str};

use super::set::{Elem, Set};
use crate::schema::{Format, ListType, Node, Shape, Slot};

/// How deep an object may go.
const MAX_DEPTH: usize = 200;

/// The type of a value: a place in a schema, or no schema at all.
#[derive(Clone, Copy)]
pub(crate) enum Ty<'a> {
    /// Declared.
    Slot(&'a Slot),
    /// Undeclared: maps are merged, lists replaced.
    Deduced,
    /// Undeclared and replaced as a whole.
    Untyped,
}

/// What a type makes of a value.
enum Atom<'a> {
    Scalar(Shape),
    List { node: Option<&'a Node>, assoc: bool },
    Map { node: Option<&'a Node>, atomic: bool, other: Option<Ty<'a>> },
}

impl<'a> Ty<'a> {
    fn atom(self, value: Option<&Value>) -> Atom<'a> {
        let by_value = |other: Ty<'a>, atomic: bool| match value {
            Some(Value::Array(_)) => Atom::List { node: None, assoc: false },
            Some(Value::Map(_)) => Atom::Map { node: None, atomic, other: Some(other) },
            _ => Atom::Scalar(Shape::Any),
        };
        let slot = match self {
            Ty::Deduced => return by_value(Ty::Deduced, false),
            Ty::Untyped => return by_value(Ty::Untyped, true),
            Ty::Slot(slot) => slot,
        };
        let node = slot.node();
        if matches!(node.format, Format::Quantity | Format::IntOrString) {
            return Atom::Scalar(Shape::Any);
        }
        match node.shape {
            Shape::Any if node.preserve => by_value(Ty::Deduced, false),
            Shape::Any => by_value(Ty::Untyped, true),
            Shape::List => Atom::List { node: Some(node), assoc: node.list != ListType::Atomic && !slot.atomic },
            Shape::Object => {
                let other = node.values.as_deref().map(Ty::Slot).or_else(|| node.preserve.then_some(Ty::Deduced));
                Atom::Map { node: Some(node), atomic: slot.atomic || node.atomic && !slot.granular, other }
            }
            shape => Atom::Scalar(shape),
        }
    }

    fn item(node: Option<&'a Node>) -> Ty<'a> {
        node.and_then(|n| n.items.as_deref()).map_or(Ty::Untyped, Ty::Slot)
    }
}

fn child<'a>(node: Option<&'a Node>, other: Option<Ty<'a>>, key: &str) -> Option<Ty<'a>> {
    node.and_then(|n| n.fields.get(key)).map(Ty::Slot).or(other)
}

fn is_declared(node: Option<&Node>, key: &str) -> bool {
    node.is_some_and(|n| n.fields.get(key).is_some())
}

/// The step that stands for a list item.
fn item_elem(node: Option<&Node>, item: &Value) -> Result<Elem, String> {
    let keys: &[Str] = node.filter(|n| n.list == ListType::Map).map(|n| n.keys.as_slice()).unwrap_or_default();
    if keys.is_empty() {
        return match item {
            Value::Map(_) => Err("associative list without keys has an element that's a map type".into()),
            Value::Array(_) => Err("not supported: associative list with lists as elements".into()),
            Value::Null => Err("associative list without keys has an element that's an explicit null".into()),
            v => Ok(Elem::Value(v.clone())),
        };
    }
    let map = match item {
        Value::Map(m) => m,
        Value::Null => return Err("associative list with keys may not have a null element".into()),
        _ => return Err("associative list with keys may not have non-map elements".into()),
    };
    let fields = node.and_then(|n| n.items.as_deref()).map(|s| &s.node().fields);
    let mut key: Vec<(Str, Value)> = Vec::with_capacity(keys.len());
    for name in keys {
        let default = || fields.and_then(|f| f.get(name)).and_then(|s| s.default.clone());
        if let Some(v) = map.get(name).cloned().or_else(default) {
            key.push((name.clone(), v));
        }
    }
    if key.is_empty() {
        let names: Vec<String> = keys.iter().map(|k| crate::field::go_quote(k)).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    key.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Elem::Key(key))
}

/// What is wrong with a value of a type: `PATH: MESSAGE` each.
pub(crate) fn check(value: &Value, ty: Ty<'_>, path: &mut String, depth: usize, out: &mut Vec<String>) {
    let mut err = |path: &str, text: &str| {
        out.push(if path.is_empty() { text.to_string() } else { format!("{path}: {text}") });
    };
    if value.is_null() {
        return;
    }
    if depth > MAX_DEPTH {
        return err(path, "nested too deeply");
    }
    let shown = || druse_object::json::to_string(value);
    match ty.atom(Some(value)) {
        Atom::Scalar(shape) => {
            let scalar = !matches!(value, Value::Map(_) | Value::Array(_));
            match shape {
                Shape::Int | Shape::Number if value.as_f64().is_none() => {
                    let kind = match value {
                        Value::String(_) => "string",
                        Value::Bool(_) => "bool",
                        Value::Array(_) => "[]interface {}",
                        _ => "map[string]interface {}",
                    };
                    err(path, &format!("expected numeric (int or float), got {kind}"));
                }
                Shape::Str if value.as_str().is_none() => {
                    err(path, &format!("expected string, got &value.valueUnstructured{{Value:{}}}", shown()));
                }
                Shape::Bool if value.as_bool().is_none() => err(path, &format!("expected boolean, got {}", shown())),
                Shape::Any if !scalar => err(path, &format!("expected any scalar, got {}", shown())),
                _ => {}
            }
        }
        Atom::List { node, assoc } => {
            let Value::Array(items) = value else { return err(path, &format!("expected list, got {}", shown())) };
            let mut seen = std::collections::BTreeSet::new();
            for (i, item) in items.iter().enumerate() {
                let elem = if assoc {
                    match item_elem(node, item) {
                        Ok(e) => e,
                        Err(text) => {
                            let text = format!("element {i}: {text}");
                            out.push(if path.is_empty() { text } else { format!("{path}: {text}") });
                            return;
                        }
                    }
                } else {
                    Elem::Index(i64::try_from(i).unwrap_or_default())
                };
                let step = elem.to_string();
                if !seen.insert(elem) {
                    out.push(format!("{path}: duplicate entries for key {step}"));
                }
                let length = path.len();
                path.push_str(&step);
                check(item, Ty::item(node), path, depth + 1, out);
                path.truncate(length);
            }
        }
        Atom::Map { node, other, .. } => {
            let Value::Map(map) = value else { return err(path, &format!("expected map, got {}", shown())) };
            for (key, v) in map.iter() {
                let Some(ty) = child(node, other, key) else {
                    out.push(format!("{path}.{key}: field not declared in schema"));
                    return;
                };
                let length = path.len();
                path.push('.');
                path.push_str(key);
                check(v, ty, path, depth + 1, out);
                path.truncate(length);
            }
        }
    }
}

/// Every path an object has.
pub(crate) fn to_set(value: &Value, ty: Ty<'_>) -> Set {
    let mut set = Set::default();
    collect(value, ty, &mut Vec::new(), &mut set);
    set
}

fn collect(value: &Value, ty: Ty<'_>, path: &mut Vec<Elem>, set: &mut Set) {
    if path.len() > MAX_DEPTH {
        return;
    }
    match ty.atom(Some(value)) {
        Atom::Scalar(..) => set.insert(path),
        Atom::List { assoc: false, .. } | Atom::Map { atomic: true, .. } => set.insert(path),
        Atom::List { node, .. } => {
            let elems: Vec<Option<Elem>> = value.items().iter().map(|v| item_elem(node, v).ok()).collect();
            for (i, (item, elem)) in value.items().iter().zip(&elems).enumerate() {
                let Some(elem) = elem else { continue };
                let repeated = elems.iter().enumerate().any(|(j, e)| j != i && e.as_ref() == Some(elem));
                path.push(elem.clone());
                if !repeated {
                    collect(item, Ty::item(node), path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        Atom::Map { node, other, .. } => {
            for (key, v) in value.as_map().into_iter().flat_map(Map::iter) {
                let Some(ty) = child(node, other, key) else { continue };
                path.push(Elem::Field(key.clone()));
                collect(v, ty, path, set);
                let empty = v.is_null() || v.as_map().is_some_and(Map::is_empty);
                if empty || !is_declared(node, key) {
                    set.insert(path);
                }
                path.pop();
            }
        }
    }
}

/// How two objects differ.
#[derive(Default)]
pub(crate) struct Comparison {
    pub(crate) added: Set,
    pub(crate) modified: Set,
    pub(crate) removed: Set,
}

impl Comparison {
    /// Leaves out everything at or below the given paths.
    pub(crate) fn exclude(mut self, fields: &Set) -> Self {
        self.added = self.added.recursive_difference(fields);
        self.modified = self.modified.recursive_difference(fields);
        self.removed = self.removed.recursive_difference(fields);
        self
    }
}

/// Compares two objects of a type.
pub(crate) fn compare(old: &Value, new: &Value, ty: Ty<'_>) -> Comparison {
    let mut out = Comparison::default();
    compare_at(Some(old), Some(new), ty, &mut Vec::new(), &mut out);
    out
}

fn compare_at(old: Option<&Value>, new: Option<&Value>, ty: Ty<'_>, path: &mut Vec<Elem>, out: &mut Comparison) {
    if path.len() > MAX_DEPTH || old == new && old.is_some() {
        return;
    }
    // Undeclared values may change their kind: then the old is gone and the new is there.
    let kind = |v: Option<&Value>| match v {
        None | Some(Value::Null) => 0,
        Some(Value::Array(_)) => 1,
        Some(Value::Map(_)) => 2,
        _ => 3,
    };
    let (ko, kn) = (kind(old), kind(new));
    if ko != 0 && kn != 0 && ko != kn {
        out.modified.insert(path);
        for (v, gone) in [(old, true), (new, false)] {
            if let (Some(v @ Value::Map(_)), Atom::Map { atomic: false, .. }) = (v, ty.atom(v)) {
                let mut below = Set::default();
                collect(v, ty, path, &mut below);
                let side = if gone { &mut out.removed } else { &mut out.added };
                *side = std::mem::take(side).union(&below);
            }
        }
        return;
    }
    let shown = if new.is_none_or(Value::is_null) { old } else { new };
    let is_leaf = match ty.atom(shown) {
        Atom::Scalar(..) => true,
        Atom::List { node, assoc } => {
            let (a, b) = (old.map(Value::items).unwrap_or_default(), new.map(Value::items).unwrap_or_default());
            let leaf = !assoc || a.is_empty() && b.is_empty();
            if !leaf {
                compare_lists(a, b, node, path, out);
            }
            leaf
        }
        Atom::Map { node, atomic, other } => {
            let (a, b) = (old.and_then(Value::as_map), new.and_then(Value::as_map));
            let leaf = atomic || a.is_none_or(Map::is_empty) && b.is_none_or(Map::is_empty);
            if !leaf {
                for (key, v) in a.into_iter().flat_map(Map::iter) {
                    let Some(ty) = child(node, other, key) else { continue };
                    path.push(Elem::Field(key.clone()));
                    compare_at(Some(v), b.and_then(|b| b.get(key)), ty, path, out);
                    path.pop();
                }
                for (key, v) in b.into_iter().flat_map(Map::iter) {
                    if a.is_some_and(|a| a.contains_key(key)) {
                        continue;
                    }
                    let Some(ty) = child(node, other, key) else { continue };
                    path.push(Elem::Field(key.clone()));
                    compare_at(None, Some(v), ty, path, out);
                    path.pop();
                }
            }
            leaf
        }
    };
    match (old, new) {
        (None, _) => out.added.insert(path),
        (_, None) => out.removed.insert(path),
        _ if is_leaf => out.modified.insert(path),
        _ => {}
    }
}

fn compare_lists(a: &[Value], b: &[Value], node: Option<&Node>, path: &mut Vec<Elem>, out: &mut Comparison) {
    let index = |list: &'_ [Value]| {
        let mut map: std::collections::BTreeMap<Elem, Vec<usize>> = std::collections::BTreeMap::new();
        for (i, item) in list.iter().enumerate() {
            if let Ok(e) = item_elem(node, item) {
                map.entry(e).or_default().push(i);
            }
        }
        map
    };
    let (left, right) = (index(a), index(b));
    let empty = Vec::new();
    let all: std::collections::BTreeSet<&Elem> = left.keys().chain(right.keys()).collect();
    for elem in all {
        let (l, r) = (left.get(elem).unwrap_or(&empty), right.get(elem).unwrap_or(&empty));
        let first = |list: &'_ [Value], at: &[usize]| at.first().and_then(|i| list.get(*i)).cloned();
        path.push(elem.clone());
        match (l.len(), r.len()) {
            (0 | 1, 0 | 1) => {
                compare_at(
                    l.first().and_then(|i| a.get(*i)),
                    r.first().and_then(|i| b.get(*i)),
                    Ty::item(node),
                    path,
                    out,
                );
            }
            (2.., 2..) => {
                let same = l.len() == r.len() && l.iter().zip(r).all(|(i, j)| a.get(*i) == b.get(*j));
                if !same {
                    out.modified.insert(path);
                }
            }
            (2.., _) => {
                if let Some(v) = first(b, r) {
                    compare_at(None, Some(&v), Ty::item(node), path, out);
                }
                out.removed.insert(path);
            }
            _ => {
                if let Some(v) = first(a, l) {
                    compare_at(Some(&v), None, Ty::item(node), path, out);
                }
                out.added.insert(path);
            }
        }
        path.pop();
    }
}

/// Merges `new` into `old`; `None` when nothing is left.
pub(crate) fn merge(old: Option<&Value>, new: Option<&Value>, ty: Ty<'_>, depth: usize) -> Option<Value> {
    let keep_new = || new.or(old).cloned();
    if depth > MAX_DEPTH {
        return keep_new();
    }
    let shown = new.filter(|v| !v.is_null()).or(old);
    match ty.atom(shown) {
        Atom::Scalar(..) | Atom::List { assoc: false, .. } | Atom::Map { atomic: true, .. } => keep_new(),
        Atom::List { node, .. } => {
            let (a, b) = (old.map(Value::items).unwrap_or_default(), new.map(Value::items).unwrap_or_default());
            if a.is_empty() && b.is_empty() {
                return keep_new();
            }
            let out = merge_lists(a, b, node, depth);
            (!out.is_empty()).then_some(Value::Array(out))
        }
        Atom::Map { node, other, .. } => {
            let (a, b) = (old.and_then(Value::as_map), new.and_then(Value::as_map));
            if a.is_none_or(Map::is_empty) && b.is_none_or(Map::is_empty) {
                return keep_new();
            }
            let mut out = Map::new();
            for (key, v) in a.into_iter().flat_map(Map::iter) {
                let ty = child(node, other, key).unwrap_or(Ty::Deduced);
                if let Some(merged) = merge(Some(v), b.and_then(|b| b.get(key)), ty, depth + 1) {
                    out.insert(key.clone(), merged);
                }
            }
            for (key, v) in b.into_iter().flat_map(Map::iter) {
                if a.is_some_and(|a| a.contains_key(key)) {
                    continue;
                }
                let ty = child(node, other, key).unwrap_or(Ty::Deduced);
                if let Some(merged) = merge(None, Some(v), ty, depth + 1) {
                    out.insert(key.clone(), merged);
                }
            }
            (!out.is_empty()).then_some(Value::Map(out))
        }
    }
}

/// Items of both lists: those only in the old keep their places around the new ones, whose order wins.
fn merge_lists(a: &[Value], b: &[Value], node: Option<&Node>, depth: usize) -> Vec<Value> {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};
    let left: Vec<(Elem, &Value)> = a.iter().filter_map(|v| Some((item_elem(node, v).ok()?, v))).collect();
    let right: Vec<(Elem, &Value)> = b.iter().filter_map(|v| Some((item_elem(node, v).ok()?, v))).collect();
    let mut in_left: BTreeMap<&Elem, Option<&Value>> = BTreeMap::new();
    for (e, v) in &left {
        // A repeated item is not merged with, only replaced.
        in_left.entry(e).and_modify(|v| *v = None).or_insert(Some(v));
    }
    let in_right: BTreeMap<&Elem, &Value> = right.iter().map(|(e, v)| (e, *v)).collect();
    let mut shared: VecDeque<&Elem> = right.iter().map(|(e, _)| e).filter(|e| in_left.contains_key(e)).collect();
    let mut next = shared.pop_front();
    let mut done: BTreeSet<&Elem> = BTreeSet::new();
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let ty = Ty::item(node);
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((le, _)), Some((re, rv))) = (left.get(l), right.get(r)) {
            if le == re {
                done.insert(le);
                out.extend(merge(in_left.get(le).copied().flatten(), Some(rv), ty, depth + 1));
                l += 1;
                r += 1;
                next = shared.pop_front();
                continue;
            }
            if in_right.contains_key(le) && next.is_some_and(|n| n != le) {
                l += 1;
                continue;
            }
        }
        if let Some((le, lv)) = left.get(l) {
            if !in_right.contains_key(le) {
                out.extend(merge(Some(lv), None, ty, depth + 1));
                l += 1;
                continue;
            } else if done.contains(le) {
                l += 1;
            }
        }
        if let Some((re, rv)) = right.get(r) {
            done.insert(re);
            out.extend(merge(in_left.get(re).copied().flatten(), Some(rv), ty, depth + 1));
            r += 1;
            if next == Some(re) {
                next = shared.pop_front();
            }
        }
    }
    out
}

/// The object without the given paths; `None` when nothing is left of it.
pub(crate) fn remove(value: &Value, set: &Set, ty: Ty<'_>, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return Some(value.clone());
    }
    match (ty.atom(Some(value)), value) {
        (Atom::Scalar(..), v) => Some(v.clone()),
        (Atom::List { node, assoc: true }, Value::Array(items)) => {
            let mut out = Vec::with_capacity(items.len());
            let mut within = false;
            for item in items {
                let Ok(elem) = item_elem(node, item) else {
                    out.push(item.clone());
                    continue;
                };
                if set.has(&elem) {
                    continue;
                }
                out.push(match set.below(&elem) {
                    Some(below) => {
                        within = true;
                        remove(item, below, Ty::item(node), depth + 1).unwrap_or_else(|| emptied(item))
                    }
                    None => item.clone(),
                });
            }
            (within || !out.is_empty()).then_some(Value::Array(out))
        }
        (Atom::Map { node, atomic: false, other }, Value::Map(map)) => {
            let mut out = Map::with_capacity(map.len());
            let mut within = false;
            for (key, v) in map.iter() {
                let elem = Elem::Field(key.clone());
                if set.has(&elem) {
                    continue;
                }
                let ty = child(node, other, key).unwrap_or(Ty::Deduced);
                let kept = match set.below(&elem) {
                    Some(below) => {
                        within = true;
                        remove(v, below, ty, depth + 1).unwrap_or_else(|| emptied(v))
                    }
                    None => v.clone(),
                };
                out.insert(key.clone(), kept);
            }
            (within || !out.is_empty()).then_some(Value::Map(out))
        }
        _ => None,
    }
}

/// What a list or a map leaves behind from which everything was removed but not itself.
fn emptied(value: &Value) -> Value {
    match value {
        Value::Map(_) => Value::Map(Map::new()),
        Value::Array(_) => Value::Array(Vec::new()),
        _ => Value::Null,
    }
}

/// Makes declared fields members wherever something below them is.
pub(crate) fn ensure_named(mut set: Set, ty: Ty<'_>) -> Set {
    fn go(set: &mut Set, ty: Ty<'_>, depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let node = match ty {
            Ty::Slot(slot) => Some(slot.node()),
            _ => None,
        };
        let other = node.and_then(|n| n.values.as_deref()).map_or(Ty::Deduced, Ty::Slot);
        set.map_members(&mut |elem, below| match elem {
            Elem::Field(name) => {
                go(below, child(node, Some(other), name).unwrap_or(Ty::Deduced), depth + 1);
                is_declared(node, name)
            }
            _ => {
                go(below, Ty::item(node), depth + 1);
                false
            }
        });
    }
    go(&mut set, ty, 0);
    set
}

/// The set brought in line with a schema that has changed since: what became atomic is owned as a whole.
pub(crate) fn reconcile(set: Set, ty: Ty<'_>) -> Set {
    let mut whole = Set::default();
    find_atomic(&set, ty, &mut Vec::new(), &mut whole);
    if whole.is_empty() { set } else { set.recursive_difference(&whole).union(&whole) }
}

fn find_atomic(set: &Set, ty: Ty<'_>, path: &mut Vec<Elem>, whole: &mut Set) {
    let Ty::Slot(slot) = ty else { return };
    let node = slot.node();
    if path.len() > MAX_DEPTH || set.is_empty() {
        return;
    }
    let atomic = match node.shape {
        Shape::List => node.list == ListType::Atomic,
        Shape::Object => slot.atomic || node.atomic && !slot.granular,
        _ => return,
    };
    if atomic {
        whole.insert(path);
        return;
    }
    for (elem, _, below) in set.entries() {
        let ty = match elem {
            Elem::Field(name) => match child(Some(node), node.values.as_deref().map(Ty::Slot), name) {
                Some(ty) => ty,
                None => continue,
            },
            _ => Ty::item(Some(node)),
        };
        path.push(elem.clone());
        find_atomic(below, ty, path, whole);
        path.pop();
    }
}
