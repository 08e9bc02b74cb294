//! Policy documents, from whatever gives them, with the place of each statement.

use std::collections::BTreeMap;

use druse_aws::iam::Policy;
use druse_object as object;
use hcl_edit::structure::{Block, Body};

use crate::eval::Env;
use crate::value::{Kind, Place, Value};

/// A policy document as far as it can be read.
#[derive(Clone, Debug, PartialEq)]
pub enum Document {
    /// It is read.
    Policy {
        /// The policy.
        policy: Policy,
        /// Where each statement is written.
        places: Vec<Option<Place>>,
        /// Where the document is written.
        place: Option<Place>,
    },
    /// It is not known, and why.
    Unknown {
        /// Why.
        why: String,
        /// Where it is asked for.
        place: Option<Place>,
    },
    /// It is no policy, and why.
    Invalid {
        /// Why.
        why: String,
        /// Where it is written.
        place: Option<Place>,
    },
}

impl Document {
    /// Where it is written.
    #[must_use]
    pub fn place(&self) -> Option<&Place> {
        match self {
            Self::Policy { place, .. } | Self::Unknown { place, .. } | Self::Invalid { place, .. } => place.as_ref(),
        }
    }

    /// Where a statement is written, from 0.
    #[must_use]
    pub fn statement_place(&self, n: usize) -> Option<&Place> {
        match self {
            Self::Policy { places, place, .. } => places.get(n).and_then(Option::as_ref).or(place.as_ref()),
            _ => self.place(),
        }
    }

    /// The policy, where it is read.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        match self {
            Self::Policy { policy, .. } => Some(policy),
            _ => None,
        }
    }

    /// Reads a value: JSON text, or what `jsonencode` was given.
    pub(crate) fn of(value: &Value) -> Self {
        let place = value.place.clone();
        let unknown = |why: String| Self::Unknown { why, place: value.place.clone() };
        let (data, places) = match (&value.encodes, &value.kind) {
            (Some(v), _) => {
                if let Kind::Unknown(why) = &v.kind {
                    return unknown(why.clone());
                }
                let statements = v.get("Statement");
                if let Some(Kind::Unknown(why)) = statements.map(|s| &s.kind) {
                    return unknown(why.clone());
                }
                let items = statements.map(Value::items).unwrap_or_default();
                (v.plain(), items.iter().map(|s| s.place.clone()).collect())
            }
            (None, Kind::Unknown(why)) => return unknown(why.clone()),
            (None, Kind::String(text)) => match object::json::parse(text.as_bytes()) {
                Ok(v) => (v, Vec::new()),
                // A hole in a raw text may stand for any piece of JSON.
                Err(_) if !value.is_whole() => return unknown("a part of the text is not known".into()),
                Err(e) => return Self::Invalid { why: format!("this is no JSON: {e}"), place },
            },
            _ => return Self::Invalid { why: "a policy is a text".into(), place },
        };
        match Policy::parse(&data) {
            Ok(policy) => Self::Policy { policy, places, place },
            Err(e) if !value.is_whole() && value.encodes.is_none() => unknown(e.to_string()),
            Err(e) => Self::Invalid { why: e.to_string(), place },
        }
    }
}

/// Policy variables, which a document's blocks write as `&{aws:username}`, since `${` is Terraform's own.
fn name_variables(value: &mut Value) {
    match &mut value.kind {
        Kind::String(text) => *text = text.replace("&{", "${"),
        Kind::List(items) => items.iter_mut().for_each(name_variables),
        Kind::Map(entries) => entries.values_mut().for_each(name_variables),
        Kind::Null | Kind::Bool(_) | Kind::Number(_) | Kind::Unknown(_) => {}
    }
}

/// The blocks of a name in a body, `dynamic` ones expanded: each with the environment to evaluate it in.
pub(crate) fn blocks<'b, 'a, 't>(
    env: &Env<'a, 't>,
    body: &'b Body,
    name: &str,
) -> Result<Vec<(&'b Block, Env<'a, 't>)>, String> {
    let mut all = Vec::new();
    for b in body.blocks() {
        if b.has_ident(name) {
            all.push((b, env.clone()));
        } else if b.has_ident("dynamic") && b.labels.first().is_some_and(|l| l.as_str() == name) {
            let Some(content) = b.body.get_blocks("content").next() else { continue };
            let iterator = b.body.get_attribute("iterator").and_then(|a| match &a.value {
                hcl_edit::expr::Expression::Variable(v) => Some(v.as_str().to_string()),
                _ => None,
            });
            let iterator = iterator.unwrap_or_else(|| name.to_string());
            let over = b.body.get_attribute("for_each").map(|a| env.eval(&a.value));
            let pairs: Vec<(Value, Value)> = match over.map(|v| v.kind) {
                Some(Kind::List(items)) => items.into_iter().map(|v| (v.clone(), v)).collect(),
                Some(Kind::Map(m)) => m.into_iter().map(|(k, v)| (Value::string(k), v)).collect(),
                _ => return Err(format!("what a dynamic block {name} goes over is not known")),
            };
            for (key, value) in pairs {
                let item = Kind::Map(BTreeMap::from([("key".to_string(), key), ("value".to_string(), value)]));
                all.push((content, env.with(&iterator, item.into())));
            }
        }
    }
    Ok(all)
}

/// The `json` of an `aws_iam_policy_document`.
pub(crate) fn from_data_source(env: &Env<'_, '_>, body: &Body) -> Value {
    match statements(env, body) {
        Ok(list) => {
            let map = BTreeMap::from([
                ("Version".to_string(), Value::string("2012-10-17")),
                ("Statement".to_string(), Kind::List(list).into()),
            ]);
            let document = Value::from(Kind::Map(map));
            let mut v = Value::string(object::json::to_string(&document.plain()));
            v.encodes = Some(std::sync::Arc::new(document));
            v
        }
        Err(why) => Value::unknown(why),
    }
}

fn statements(env: &Env<'_, '_>, body: &Body) -> Result<Vec<Value>, String> {
    use hcl_edit::Span as _;
    let mut all: Vec<Value> = Vec::new();
    let documents = |name: &str| -> Result<Vec<Value>, String> {
        let mut found = Vec::new();
        let Some(a) = body.get_attribute(name) else { return Ok(found) };
        let list = env.eval(&a.value);
        if let Kind::Unknown(why) = &list.kind {
            return Err(why.clone());
        }
        for item in list.items() {
            let decoded = match (&item.encodes, &item.kind) {
                (Some(v), _) => (**v).clone(),
                (None, Kind::String(text)) => {
                    let v = object::json::parse(text.as_bytes()).map_err(|e| format!("{name}: {e}"))?;
                    Value::from_plain(&v, item.place.as_ref())
                }
                _ => return Err(format!("{name} is not known")),
            };
            found.extend(decoded.get("Statement").map(Value::items).unwrap_or_default().iter().cloned());
        }
        Ok(found)
    };
    all.extend(documents("source_policy_documents")?);
    for (block, env) in blocks(env, body, "statement")? {
        let read = |name: &str| block.body.get_attribute(name).map(|a| env.eval(&a.value)).filter(|v| !v.is_null());
        let mut m = BTreeMap::new();
        m.insert("Effect".to_string(), read("effect").unwrap_or_else(|| Value::string("Allow")));
        let names = [
            ("sid", "Sid"),
            ("actions", "Action"),
            ("not_actions", "NotAction"),
            ("resources", "Resource"),
            ("not_resources", "NotResource"),
        ];
        for (from, to) in names {
            if let Some(v) = read(from) {
                m.insert(to.to_string(), v);
            }
        }
        for (from, to) in [("principals", "Principal"), ("not_principals", "NotPrincipal")] {
            let mut principals: BTreeMap<String, Value> = BTreeMap::new();
            for (p, env) in blocks(&env, &block.body, from)? {
                let read = |n: &str| p.body.get_attribute(n).map(|a| env.eval(&a.value));
                let kind = read("type").and_then(|v| v.text()).unwrap_or_default();
                let ids = read("identifiers").unwrap_or_else(Value::null);
                let kind = if kind == "*" { "AWS".to_string() } else { kind };
                let list = principals.entry(kind).or_insert_with(|| Kind::List(Vec::new()).into());
                if let Kind::List(all) = &mut list.kind {
                    all.extend(ids.items().iter().cloned());
                }
            }
            if !principals.is_empty() {
                m.insert(to.to_string(), Kind::Map(principals).into());
            }
        }
        let mut conditions: BTreeMap<String, Value> = BTreeMap::new();
        for (c, env) in blocks(&env, &block.body, "condition")? {
            let read = |n: &str| c.body.get_attribute(n).map(|a| env.eval(&a.value));
            let test = read("test").and_then(|v| v.text()).unwrap_or_default();
            let variable = read("variable").and_then(|v| v.text()).unwrap_or_default();
            let keys = conditions.entry(test).or_insert_with(|| Kind::Map(BTreeMap::new()).into());
            if let Kind::Map(keys) = &mut keys.kind {
                let values = read("values").unwrap_or_else(Value::null);
                // A key that is compared twice by one operator is compared with all values.
                match (keys.get_mut(&variable).map(|v| &mut v.kind), &values.kind) {
                    (Some(Kind::List(all)), Kind::List(more)) => all.extend(more.iter().cloned()),
                    _ => drop(keys.insert(variable, values)),
                }
            }
        }
        if !conditions.is_empty() {
            m.insert("Condition".to_string(), Kind::Map(conditions).into());
        }
        for part in ["Resource", "NotResource", "Principal", "NotPrincipal", "Condition"] {
            if let Some(v) = m.get_mut(part) {
                name_variables(v);
            }
        }
        all.push(Value::from(Kind::Map(m)).at(env.file.place(block.span())));
    }
    // A statement that overrides another by its Sid takes its place.
    for over in documents("override_policy_documents")? {
        let sid = |v: &Value| v.get("Sid").and_then(Value::text).filter(|s| !s.is_empty());
        match all.iter_mut().find(|s| sid(s).is_some() && sid(s) == sid(&over)) {
            Some(s) => *s = over,
            None => all.push(over),
        }
    }
    Ok(all)
}
