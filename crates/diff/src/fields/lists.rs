//! Lists: which item of base is which of head.
//!
//! Items are told apart by the keys that Kubernetes merges the list by, where those are known and every item has one of
//! its own; else by a field that usually names things; lists of texts and numbers by the values themselves. Where
//! nothing tells items apart, the longest common subsequence stays, and what was replaced by as many items is compared
//! in place.

use std::collections::HashMap;

use druse_kustomize::Schema;
use druse_object::Value;

use super::{Delta, compare_at};
use crate::align;

/// Fields that name an item where no schema says what does, the best first.
const NAMING: &[&[&str]] = &[
    &["metadata.name"],
    &["name"],
    &["key"],
    &["id"],
    &["mountPath"],
    &["host"],
    &["hostname"],
    &["path"],
    &["kind", "name", "namespace"],
    &["target.kind", "target.name"],
    &["containerPort", "protocol"],
    &["port", "protocol"],
    &["topologyKey"],
    &["type"],
    &["ip"],
    &["uid"],
    &["secretName"],
    &["url"],
];

/// What differs between two lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ListDelta {
    /// Items that changed, came or went, in head's order; those that went come last.
    pub items: Vec<ItemDelta>,
    /// Of the items that stay, the base indexes in head's order, when that is another order than base's.
    pub order: Option<Vec<usize>>,
    /// Names of these items in head's order, for people.
    pub order_labels: Vec<String>,
}

/// What differs at one item.
#[derive(Clone, Debug, PartialEq)]
pub struct ItemDelta {
    /// What names the item: `app`, `containerPort=80,protocol=TCP`, or its index.
    pub label: String,
    /// Its index in base.
    pub base: Option<usize>,
    /// Its index in head.
    pub head: Option<usize>,
    /// What differs: `Added` without a base index, `Removed` without a head index.
    pub delta: Delta,
}

/// Which item is which: pairs of equal identity, and how an item is named.
struct Matching {
    /// For each item of head, its index in base.
    base_of: Vec<Option<usize>>,
    base_labels: Vec<String>,
    head_labels: Vec<String>,
}

impl Matching {
    /// In lists of the same length, items without a counterpart at the same index are one item that got another name.
    fn paired_in_place(mut self, base: usize) -> Self {
        if base != self.base_of.len() {
            return self;
        }
        let mut taken = vec![false; base];
        for b in self.base_of.iter().flatten() {
            if let Some(place) = taken.get_mut(*b) {
                *place = true;
            }
        }
        for (i, of) in self.base_of.iter_mut().enumerate() {
            if of.is_none() && taken.get(i) == Some(&false) {
                *of = Some(i);
            }
        }
        self
    }
}

pub(super) fn compare(base: &[Value], head: &[Value], schema: Option<Schema<'_>>, depth: usize) -> Option<ListDelta> {
    let matching = by_schema(base, head, schema)
        .or_else(|| by_value(base, head).map(|m| m.paired_in_place(base.len())))
        .or_else(|| by_naming(base, head).map(|m| m.paired_in_place(base.len())))
        .unwrap_or_else(|| by_position(base, head));
    let items_schema = schema.and_then(Schema::items);
    let mut items = Vec::new();
    let mut stays = vec![false; base.len()];
    let mut order = Vec::new();
    let mut order_labels = Vec::new();
    for (h, new) in head.iter().enumerate() {
        let label = matching.head_labels.get(h).cloned().unwrap_or_default();
        match matching.base_of.get(h).copied().flatten().and_then(|b| Some((b, base.get(b)?))) {
            Some((b, old)) => {
                if let Some(place) = stays.get_mut(b) {
                    *place = true;
                }
                order.push(b);
                order_labels.push(scalar_text(new).unwrap_or_else(|| label.clone()));
                if let Some(delta) = compare_at(old, new, items_schema, depth + 1) {
                    items.push(ItemDelta { label, base: Some(b), head: Some(h), delta });
                }
            }
            None => items.push(ItemDelta { label, base: None, head: Some(h), delta: Delta::Added(new.clone()) }),
        }
    }
    for (b, old) in base.iter().enumerate().filter(|(b, _)| stays.get(*b) == Some(&false)) {
        let label = matching.base_labels.get(b).cloned().unwrap_or_default();
        items.push(ItemDelta { label, base: Some(b), head: None, delta: Delta::Removed(old.clone()) });
    }
    let order = (!order.is_sorted()).then_some(order);
    if order.is_none() {
        order_labels.clear();
    }
    (!items.is_empty() || order.is_some()).then_some(ListDelta { items, order, order_labels })
}

impl ListDelta {
    pub(super) fn apply(&self, base: &[Value]) -> Option<Vec<Value>> {
        let mut items: Vec<Option<Value>> = base.iter().cloned().map(Some).collect();
        for item in self.items.iter().filter_map(|i| Some((i.base?, i))) {
            let changed = item.1.delta.apply(base.get(item.0));
            *items.get_mut(item.0)? = changed;
        }
        let mut out: Vec<Value> = match &self.order {
            Some(order) => order.iter().map(|i| items.get(*i).cloned().flatten()).collect::<Option<_>>()?,
            None => items.into_iter().flatten().collect(),
        };
        for item in self.items.iter().filter(|i| i.base.is_none()) {
            let value = item.delta.apply(None)?;
            let at = item.head?;
            if at > out.len() {
                return None;
            }
            out.insert(at, value);
        }
        Some(out)
    }
}

/// Each item's identity, when every one has one that no other has.
fn identities(items: &[Value], name: &impl Fn(&Value) -> Option<String>) -> Option<Vec<String>> {
    let out: Vec<String> = items.iter().map(name).collect::<Option<_>>()?;
    let distinct: std::collections::HashSet<&String> = out.iter().collect();
    (distinct.len() == out.len()).then_some(out)
}

fn matched(base: &[Value], head: &[Value], name: impl Fn(&Value) -> Option<String>) -> Option<Matching> {
    let (base_labels, head_labels) = (identities(base, &name)?, identities(head, &name)?);
    let places: HashMap<&String, usize> = base_labels.iter().enumerate().map(|(i, n)| (n, i)).collect();
    let base_of = head_labels.iter().map(|n| places.get(n).copied()).collect();
    Some(Matching { base_of, base_labels, head_labels })
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.to_string()),
        Value::Int(_) | Value::UInt(_) | Value::Bool(_) => Some(druse_object::json::to_string(value)),
        _ => None,
    }
}

/// The name that some fields (with dots into maps) give an item; those that are not there are left out, but not all.
fn named_by(item: &Value, fields: &[&str]) -> Option<String> {
    item.as_map()?;
    let mut out: Vec<String> = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let value = field.split('.').try_fold(item, |v, key| v.get(key));
        match value.and_then(scalar_text) {
            // Said or not, TCP is what a port speaks.
            Some(text) if *field == "protocol" && text == "TCP" => {}
            Some(text) if fields.len() == 1 && is_name(field) => out.push(text),
            Some(text) => out.push(format!("{field}={text}")),
            None if i == 0 => return None,
            None => {}
        }
    }
    Some(out.join(","))
}

fn numbers(n: usize) -> Vec<String> {
    (0..n).map(|i| i.to_string()).collect()
}

fn is_name(field: &str) -> bool {
    matches!(field, "name" | "metadata.name" | "key" | "id")
}

fn by_schema(base: &[Value], head: &[Value], schema: Option<Schema<'_>>) -> Option<Matching> {
    let keys: Vec<&str> = schema?.merge_keys()?.iter().map(String::as_str).collect();
    if keys.is_empty() {
        return None;
    }
    matched(base, head, |item| named_by(item, &keys))
}

fn by_value(base: &[Value], head: &[Value]) -> Option<Matching> {
    // Arguments in order are no set: `-a 1 -b 1` has the same text twice, and is aligned instead.
    let mut out = matched(base, head, scalar_text)?;
    (out.base_labels, out.head_labels) = (numbers(base.len()), numbers(head.len()));
    Some(out)
}

fn by_naming(base: &[Value], head: &[Value]) -> Option<Matching> {
    NAMING.iter().find_map(|fields| matched(base, head, |item| named_by(item, fields)))
}

fn by_position(base: &[Value], head: &[Value]) -> Matching {
    let mut base_of = vec![None; head.len()];
    let mut pairs = align::common(base, head);
    pairs.push((base.len(), head.len()));
    let (mut b, mut h) = (0, 0);
    for (next_b, next_h) in pairs {
        // As many came as went: the same items, changed.
        if next_b - b == next_h - h {
            for i in 0..next_b - b {
                if let Some(place) = base_of.get_mut(h + i) {
                    *place = Some(b + i);
                }
            }
        }
        if let Some(place) = base_of.get_mut(next_h) {
            *place = Some(next_b);
        }
        (b, h) = (next_b + 1, next_h + 1);
    }
    Matching { base_of, base_labels: numbers(base.len()), head_labels: numbers(head.len()) }
}
