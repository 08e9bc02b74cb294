//! What the rules of a schema may read: its fields, their types, and how large they can be
//! (`k8s.io/apiserver` `pkg/cel/common/schemas.go`, `pkg/cel/types.go`, `pkg/cel/escaping.go`).

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use druse_object::value::Str;
use druse_object::{Map, Value};

use super::{flag, text};
use crate::cel::{Scope, Sizes, Type, WORDS};

/// The largest request, in bytes.
const REQUEST: u64 = 3 * 1024 * 1024;

/// The part of a schema that rules see.
#[derive(Debug)]
pub(super) struct Declared {
    shape: Shape,
    /// The most elements or characters it can have; 0 where that says nothing.
    most: u64,
    /// The fewest bytes it is written in.
    least: u64,
}

#[derive(Debug)]
enum Shape {
    Plain(Type),
    List(Rc<Declared>),
    Map(Rc<Declared>),
    /// Fields by the names expressions have for them.
    Object(BTreeMap<String, Rc<Declared>>),
}

impl Declared {
    /// Reads a schema; nothing when rules cannot see what it describes. `resource` says that it is a whole object, which
    /// has a name and a kind.
    pub(super) fn of(schema: &Value, resource: bool) -> Option<Self> {
        let plain = |ty: Type, most: u64, least: u64| Some(Self { shape: Shape::Plain(ty), most, least });
        let number = |key: &str| schema.get(key).and_then(Value::as_i64).map(|n| u64::try_from(n).unwrap_or(0));
        // A character is at most four bytes.
        let characters = || number("maxLength").map(|n| n.saturating_mul(4));
        if flag(schema, "x-kubernetes-int-or-string") {
            return plain(Type::Dyn, characters().unwrap_or(REQUEST - 2), 1);
        }
        match text(schema, &["type"]) {
            "array" => {
                let items = schema.get("items").filter(|v| v.as_map().is_some())?;
                let item = Self::of(items, embedded(items))?;
                let most = number("maxItems").unwrap_or((REQUEST - 2) / (item.least + 1));
                Some(Self { shape: Shape::List(Rc::new(item)), most, least: 2 })
            }
            "object" => Self::object(schema, resource, number("maxProperties")),
            "string" => match text(schema, &["format"]) {
                "byte" => plain(Type::Bytes, number("maxLength").unwrap_or(REQUEST - 2), 2),
                "duration" => plain(Type::Duration, 32, 3),
                "date" => plain(Type::Timestamp, 12, 12),
                "date-time" => plain(Type::Timestamp, 32, 21),
                _ => {
                    let values = schema.get("enum").map(Value::items).unwrap_or_default();
                    let longest = || values.iter().filter_map(Value::as_str).map(str::len).max().unwrap_or(0) as u64;
                    let most = characters().unwrap_or_else(|| if values.is_empty() { REQUEST - 2 } else { longest() });
                    plain(Type::Str, most, 2)
                }
            },
            "boolean" => plain(Type::Bool, 0, 4),
            "number" => plain(Type::Double, 0, 1),
            "integer" => plain(Type::Int, 0, 1),
            _ => None,
        }
    }

    fn object(schema: &Value, resource: bool, most: Option<u64>) -> Option<Self> {
        if let Some(values) = schema.get("additionalProperties").filter(|v| v.as_map().is_some()) {
            let value = Self::of(values, embedded(values))?;
            // A key's quotes, the colon and a comma.
            let most = most.unwrap_or((REQUEST - 2) / (value.least + 6));
            return Some(Self { shape: Shape::Map(Rc::new(value)), most, least: 2 });
        }
        let (mut fields, mut least) = (BTreeMap::new(), 2);
        let required = schema.get("required").map(Value::items).unwrap_or_default();
        for (name, v) in schema.get("properties").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
            let Some(field) = Self::of(v, embedded(v)) else { continue };
            if required.iter().any(|r| r.as_str() == Some(name)) && v.get("default").is_none_or(Value::is_null) {
                least += name.len() as u64 + field.least + 4;
            }
            if let Some(name) = escaped(name) {
                fields.insert(name, Rc::new(field));
            }
        }
        if resource && !names_itself(schema) {
            let word = || Rc::new(Self { shape: Shape::Plain(Type::Str), most: REQUEST - 2, least: 2 });
            let names = ["name", "generateName"].map(|n| (n.to_owned(), word()));
            let metadata = Self { shape: Shape::Object(names.into()), most: 0, least: 2 };
            fields.insert("kind".into(), word());
            fields.insert("apiVersion".into(), word());
            fields.insert("metadata".into(), Rc::new(metadata));
        }
        Some(Self { shape: Shape::Object(fields), most: 0, least })
    }

    /// How often at most such a value is in a request.
    pub(super) fn times(&self) -> u64 {
        REQUEST / (self.least + 1)
    }

    /// The variables of a rule here.
    pub(super) fn scope(&self, optional_old: bool) -> Scope {
        let mut scope = Scope::default();
        // Upstream's name is another in each request, so that nobody depends on it.
        let own = self.ty("selfType", &mut scope.structs);
        let old = if optional_old { Type::optional(own.clone()) } else { own.clone() };
        scope.variables = vec![("self".into(), own), ("oldSelf".into(), old)];
        scope
    }

    fn ty(&self, name: &str, structs: &mut HashMap<Str, HashMap<Str, Type>>) -> Type {
        match &self.shape {
            Shape::Plain(ty) => ty.clone(),
            Shape::List(item) => Type::list(item.ty(&format!("{name}.@idx"), structs)),
            Shape::Map(value) => Type::map(Type::Str, value.ty(&format!("{name}.@elem"), structs)),
            Shape::Object(fields) => {
                let typed = |(k, f): (&String, &Rc<Declared>), structs: &mut _| {
                    (Str::from(k.as_str()), f.ty(&format!("{name}.{k}"), structs))
                };
                let fields = fields.iter().map(|f| typed(f, structs)).collect();
                structs.insert(name.into(), fields);
                Type::Struct(name.into())
            }
        }
    }
}

impl Sizes for Declared {
    fn most(&self, path: &[Str]) -> Option<u64> {
        let mut at = self;
        // The variable is this one whatever its name.
        for step in path.iter().skip(1) {
            at = match (&at.shape, step.as_str()) {
                // Keys of maps have no length upstream.
                (Shape::Map(_), "@keys") => return Some(0).filter(|_| path.last() == Some(step)),
                (Shape::List(item), "@items" | "@values") | (Shape::Map(item), "@items" | "@values") => item,
                (Shape::Object(fields), name) => fields.get(name)?,
                _ => return None,
            };
        }
        Some(at.most)
    }
}

fn embedded(schema: &Value) -> bool {
    flag(schema, "x-kubernetes-embedded-resource")
}

/// Whether a schema declares all that a resource's own fields are declared with.
fn names_itself(schema: &Value) -> bool {
    let is = |path: &[&str], ty: &str| {
        let found = path.iter().try_fold(schema, |s, key| s.get("properties").and_then(|p| p.get(key)));
        found.is_some_and(|s| text(s, &["type"]) == ty)
    };
    is(&["kind"], "string")
        && is(&["apiVersion"], "string")
        && is(&["metadata"], "object")
        && is(&["metadata", "name"], "string")
        && is(&["metadata", "generateName"], "string")
}

/// A field's name in expressions; nothing when it can have none.
fn escaped(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if WORDS.contains(&name) {
        return Some(format!("__{name}__"));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-./".contains(&b)) {
        return None;
    }
    let marks = [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];
    let (mut out, mut rest) = (String::new(), name);
    while let Some(c) = rest.chars().next() {
        if let Some((mark, word)) = marks.iter().find(|(m, _)| rest.starts_with(m)) {
            out.push_str(word);
            rest = rest.get(mark.len()..).unwrap_or_default();
        } else {
            out.push(c);
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    Some(out)
}
