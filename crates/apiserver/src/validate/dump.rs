//! How Go dumps a pod's specification in upstream's internal types, and the unified difference of two such dumps, which
//! is what a refused update of a pod shows. The types are data (`data/pod-dump.tsv`, `cargo xtask api-dump`).

use std::collections::HashMap;
use std::sync::LazyLock;

use druse_object::{Map, Value, json};

use super::difflib;

const TYPES: &str = include_str!("../../data/pod-dump.tsv");

/// What a field holds.
#[derive(Clone, Debug)]
enum Kind {
    Text,
    Bool,
    Number,
    Quantity,
    NumberOrText,
    Json,
    Struct(&'static str),
    Pointer(Box<Kind>),
    List(Box<Kind>),
    Map(Box<Kind>),
}

#[derive(Debug)]
struct Field {
    /// Empty for an embedded struct.
    go: &'static str,
    /// Empty where the published type keeps the field elsewhere.
    json: &'static str,
    kind: Kind,
}

static STRUCTS: LazyLock<HashMap<&'static str, Vec<Field>>> = LazyLock::new(|| {
    let field = |column: &'static str| {
        let mut parts = column.splitn(3, ':');
        let mut next = || parts.next().unwrap_or_default();
        Field { go: next(), json: next(), kind: kind(next()) }
    };
    TYPES
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('\t');
            Some((columns.next()?, columns.map(field).collect()))
        })
        .collect()
});

fn kind(text: &'static str) -> Kind {
    if let Some((behind, inner)) = text.strip_suffix(')').and_then(|t| t.split_once('(')) {
        let inner = Box::new(kind(inner));
        return match behind {
            "p" => Kind::Pointer(inner),
            "l" => Kind::List(inner),
            _ => Kind::Map(inner),
        };
    }
    match text {
        "s" => Kind::Text,
        "b" => Kind::Bool,
        "i" => Kind::Number,
        "q" => Kind::Quantity,
        "o" => Kind::NumberOrText,
        "j" => Kind::Json,
        name => Kind::Struct(name),
    }
}

struct Dump<'a> {
    out: String,
    depth: usize,
    /// The whole specification: some of its fields are kept deeper in the internal type.
    spec: &'a Value,
}

impl Dump<'_> {
    fn line(&mut self) {
        self.out.push('\n');
        self.out.extend(std::iter::repeat_n(' ', self.depth));
    }

    /// Writes what `each` writes between brackets, an entry a line.
    fn block(&mut self, brackets: [char; 2], count: usize, mut each: impl FnMut(&mut Self, usize)) {
        self.out.push(brackets[0]);
        self.depth += 1;
        for i in 0..count {
            if i > 0 {
                self.out.push(',');
            }
            self.line();
            each(self, i);
        }
        self.depth -= 1;
        if count > 0 {
            self.line();
        }
        self.out.push(brackets[1]);
    }

    fn key(&mut self, key: &str) {
        self.out.push_str(&json::to_string(&Value::from(key)));
        self.out.push_str(": ");
    }

    fn value(&mut self, kind: &Kind, v: &Value) {
        match kind {
            Kind::Pointer(_) | Kind::List(_) | Kind::Map(_) if v.is_null() => self.out.push_str("null"),
            Kind::Pointer(inner) => self.value(inner, v),
            Kind::List(inner) => {
                let items = v.items();
                self.block(['[', ']'], items.len(), |d, i| d.value(inner, &items[i]));
            }
            Kind::Map(inner) => {
                let mut entries: Vec<(&str, &Value)> =
                    v.as_map().into_iter().flat_map(|m| m.iter()).map(|(k, v)| (k.as_str(), v)).collect();
                entries.sort_unstable_by_key(|(k, _)| *k);
                self.block(['{', '}'], entries.len(), |d, i| {
                    d.key(entries[i].0);
                    d.value(inner, entries[i].1);
                });
            }
            Kind::Struct(name) => {
                let mut fields = Vec::new();
                flatten(name, &mut fields);
                self.block(['{', '}'], fields.len(), |d, i| {
                    let f = fields[i];
                    d.key(f.go);
                    let found = field(f, v, d.spec);
                    d.value(&f.kind, &found.cloned().unwrap_or_default());
                });
            }
            Kind::Json => self.json(v),
            _ if !v.is_null() => self.out.push_str(&json::to_string(v)),
            Kind::Text => self.out.push_str("\"\""),
            Kind::Bool => self.out.push_str("false"),
            Kind::Quantity => self.out.push_str("\"0\""),
            Kind::Number | Kind::NumberOrText => self.out.push('0'),
        }
    }

    fn json(&mut self, v: &Value) {
        match v {
            Value::Map(m) => {
                let entries: Vec<_> = m.iter().filter(|(_, v)| !v.is_null()).collect();
                self.block(['{', '}'], entries.len(), |d, i| {
                    d.key(entries[i].0);
                    d.json(entries[i].1);
                });
            }
            Value::Array(items) => self.block(['[', ']'], items.len(), |d, i| d.json(&items[i])),
            Value::Null => self.out.push_str("{}"),
            other => self.out.push_str(&json::to_string(other)),
        }
    }
}

/// The value of a field: some of those of a pod's specification are kept deeper in the internal type.
fn field<'v>(f: &Field, v: &'v Value, spec: &'v Value) -> Option<&'v Value> {
    if !f.json.is_empty() {
        return v.get(f.json);
    }
    let elsewhere = f.go.chars().next().map(|c| c.to_ascii_lowercase().to_string() + &f.go[1..]);
    elsewhere.and_then(|k| spec.get(&k))
}

/// A value as Go writes its internal type when a message shows it.
#[must_use]
pub(crate) fn internal(name: &'static str, v: &Value) -> Value {
    show(&Kind::Struct(name), v, v)
}

fn show(kind: &Kind, v: &Value, spec: &Value) -> Value {
    match kind {
        Kind::Pointer(_) | Kind::List(_) | Kind::Map(_) if v.is_null() => Value::Null,
        Kind::Pointer(inner) => show(inner, v, spec),
        Kind::List(inner) => Value::Array(v.items().iter().map(|v| show(inner, v, spec)).collect()),
        Kind::Map(inner) => {
            let entries = v.as_map().into_iter().flat_map(Map::iter);
            let sorted: std::collections::BTreeMap<_, _> =
                entries.map(|(k, v)| (k.clone(), show(inner, v, spec))).collect();
            Value::Map(sorted.into_iter().collect())
        }
        Kind::Struct(name) => {
            let spec = if *name == "PodSpec" { v } else { spec };
            let mut fields = Vec::new();
            flatten(name, &mut fields);
            let mut m = Map::new();
            for f in fields {
                let found = field(f, v, spec).cloned().unwrap_or_default();
                match (&f.kind, found) {
                    // Embedded metadata is written as in published types.
                    (Kind::Json, Value::Map(inner)) if f.go.is_empty() => inner.into_iter().for_each(|(k, v)| {
                        m.insert(k, v);
                    }),
                    (Kind::Json, _) if f.go.is_empty() => {}
                    (kind, found) => _ = m.insert(f.go, show(kind, &found, spec)),
                }
            }
            Value::Map(m)
        }
        Kind::Json => v.clone(),
        _ if !v.is_null() => v.clone(),
        Kind::Text => "".into(),
        Kind::Bool => false.into(),
        Kind::Quantity => "0".into(),
        Kind::Number | Kind::NumberOrText => 0i64.into(),
    }
}

/// The fields of a struct with those of its embedded structs.
fn flatten(name: &str, out: &mut Vec<&'static Field>) {
    for f in STRUCTS.get(name).into_iter().flatten() {
        match &f.kind {
            Kind::Struct(embedded) if f.go.is_empty() => flatten(embedded, out),
            _ => out.push(f),
        }
    }
}

fn dump(name: &'static str, spec: &Value) -> String {
    let mut d = Dump { out: String::new(), depth: 0, spec };
    d.value(&Kind::Struct(name), spec);
    d.out
}

/// What differs between two specifications of pods, as upstream's messages show it.
#[must_use]
pub fn difference(old: &Value, new: &Value) -> String {
    difference_of("PodSpec", old, new)
}

/// As [`difference`], of values of a type that pods use.
#[must_use]
pub fn difference_of(name: &'static str, old: &Value, new: &Value) -> String {
    difflib::unified(&dump(name, old), &dump(name, new), 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_that_differ_are_shown_with_their_neighbours_in_go_names() {
        let spec = |image: &str, host: bool| {
            let text = format!(
                r#"{{"hostNetwork":{host},"securityContext":{{}},"containers":[{{"name":"a","image":"{image}","resources":{{"limits":{{"cpu":"1"}}}}}}]}}"#
            );
            json::parse(text.as_bytes()).unwrap()
        };
        assert_eq!(difference(&spec("x", true), &spec("x", true)), "");
        let said = difference(&spec("x", false), &spec("y", true));
        assert!(said.starts_with("@@ -"), "{said}");
        assert!(said.contains("    \"Name\": \"a\",\n-   \"Image\": \"x\",\n+   \"Image\": \"y\",\n"), "{said}");
        assert!(
            said.contains("-  \"HostNetwork\": false,\n+  \"HostNetwork\": true,\n   \"HostPID\": false,\n"),
            "{said}"
        );
    }
}
