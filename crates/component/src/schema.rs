//! Structural schemas from a compact notation: a line of data a field, expanded into `openAPIV3Schema`.
//!
//! The notation is described at the head of `data/flux-schemas.yaml`. Every object keeps the fields it does not name, so
//! that nothing a newer version of the system knows is dropped.

use std::sync::LazyLock;

use druse_object::{Map, Value, json, yaml};

/// How deep types may refer to types.
const DEEPEST: usize = 32;

static FLUX: LazyLock<Value> =
    LazyLock::new(|| yaml::parse(include_str!("../data/flux-schemas.yaml"), yaml::Dialect::Sigs).unwrap_or_default());

/// The schemas of `spec` and `status` of a kind, with its description; none when its fields are not known.
///
/// The fields of an older version (`relaxed`) have types and defaults only: what it required and allowed differs.
pub(crate) fn of_kind(group: &str, kind: &str, relaxed: bool) -> Option<Value> {
    if !group.ends_with(".toolkit.fluxcd.io") {
        return None;
    }
    let fields = FLUX["kinds"].get(kind)?;
    Expansion { types: &FLUX["types"], relaxed }.value(fields, 0).ok()
}

struct Expansion<'a> {
    types: &'a Value,
    relaxed: bool,
}

impl Expansion<'_> {
    /// The schema of a line, or of a map of fields.
    fn value(&self, notation: &Value, depth: usize) -> Result<Value, String> {
        if depth > DEEPEST {
            return Err("types refer to each other too deeply".to_owned());
        }
        match notation {
            Value::Map(fields) => self.object(fields, depth),
            other => self.line(other.as_str().ok_or("a field is neither text nor a map")?, depth),
        }
    }

    fn object(&self, fields: &Map, depth: usize) -> Result<Value, String> {
        let mut schema = Map::new();
        let mut properties = Map::new();
        let mut required = Vec::new();
        for (key, notation) in fields.iter() {
            match key.as_str() {
                "." => {
                    schema.insert("description", notation.clone());
                }
                ".rules" => {
                    let rules = notation.items().iter().filter_map(Value::as_str).filter_map(|r| r.rsplit_once(" | "));
                    let rule = |(rule, message): (&str, &str)| -> Value {
                        Value::Map([("rule", rule), ("message", message)].into_iter().collect())
                    };
                    if !self.relaxed {
                        schema.insert("x-kubernetes-validations", rules.map(rule).collect::<Value>());
                    }
                }
                key => {
                    let (name, wanted) = key.strip_suffix('!').map_or((key, false), |k| (k, true));
                    let (name, holder) = if let Some(name) = name.strip_suffix("[]") {
                        (name, Some("items"))
                    } else if let Some(name) = name.strip_suffix("{}") {
                        (name, Some("additionalProperties"))
                    } else {
                        (name, None)
                    };
                    let field = self.value(notation, depth + 1).map_err(|e| format!("{name}: {e}"))?;
                    properties.insert(name, holder.map_or_else(|| field.clone(), |h| held(h, field.clone())));
                    if wanted && !self.relaxed {
                        required.push(name);
                    }
                }
            }
        }
        schema.insert("type", "object");
        schema.insert("x-kubernetes-preserve-unknown-fields", true);
        if !properties.is_empty() {
            schema.insert("properties", properties);
        }
        if !required.is_empty() {
            schema.insert("required", required.into_iter().collect::<Value>());
        }
        Ok(Value::Map(schema))
    }

    /// `TYPE CONSTRAINTS | description`.
    fn line(&self, line: &str, depth: usize) -> Result<Value, String> {
        let (head, description) = line.split_once(" | ").map_or((line, None), |(h, d)| (h, Some(d)));
        let mut words = head.split_whitespace();
        let name = words.next().unwrap_or_default();
        let mut schema = match name {
            "string" => typed("string", None),
            "time" => typed("string", Some("date-time")),
            "int" => typed("integer", Some("int64")),
            "bool" => typed("boolean", None),
            "any" => [("x-kubernetes-preserve-unknown-fields", true)].into_iter().collect(),
            other => {
                let type_ = self.types.get(other).ok_or_else(|| format!("no type {other:?}"))?;
                match self.value(type_, depth + 1)? {
                    Value::Map(m) => m,
                    _ => return Err(format!("{other:?} is no type")),
                }
            }
        };
        let mut allowed: Option<Vec<&str>> = None;
        for word in words {
            if let Some(allowed) = &mut allowed {
                allowed.push(word.trim_end_matches(')'));
            } else if let Some(first) = word.strip_prefix('(') {
                allowed = Some(vec![first.trim_end_matches(')')]);
            }
            if allowed.is_some() {
                if word.ends_with(')')
                    && let Some(allowed) = allowed.take()
                    && !self.relaxed
                {
                    schema.insert("enum", allowed.into_iter().collect::<Value>());
                }
            } else if let Some(default) = word.strip_prefix('=') {
                let value = if name == "string" && !default.starts_with('[') || name == "duration" || name == "short" {
                    Value::from(default)
                } else {
                    json::parse(default.as_bytes()).map_err(|e| format!("default {default:?}: {e}"))?
                };
                schema.insert("default", value);
            } else if self.relaxed {
                continue;
            } else if let Some(pattern) = word.strip_prefix('/').and_then(|w| w.strip_suffix('/')) {
                schema.insert("pattern", pattern);
            } else {
                let (key, n) = match (word.strip_prefix("<="), word.strip_prefix(">=")) {
                    (Some(n), _) => ("maxLength", n),
                    (_, Some(n)) => ("minLength", n),
                    _ => return Err(format!("constraint {word:?} is not known")),
                };
                schema.insert(key, n.parse::<i64>().map_err(|e| format!("{word:?}: {e}"))?);
            }
        }
        if let Some(description) = description {
            schema.insert("description", description);
        }
        Ok(Value::Map(schema))
    }
}

fn typed(name: &str, format: Option<&str>) -> Map {
    [("type", Some(name)), ("format", format)].into_iter().filter_map(|(k, v)| Some((k, v?))).collect()
}

/// A list or map of `field`; what describes the field, and a default for the whole, go to the holder.
fn held(holder: &str, mut field: Value) -> Value {
    let mut schema = typed(if holder == "items" { "array" } else { "object" }, None);
    if let Some(m) = field.as_map_mut() {
        for key in ["description", "default"] {
            if let Some(v) = m.remove(key) {
                schema.insert(key, v);
            }
        }
    }
    schema.insert(holder, field);
    Value::Map(schema)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_expanded_and_every_field_described() {
        fn described(schema: &Value, at: &str) {
            for (name, field) in schema["properties"].as_map().unwrap_or(&Map::new()).iter() {
                let at = format!("{at}.{name}");
                assert!(field.str_at(["description"]).is_some_and(|d| d.ends_with('.')), "{at} has no description");
                for inner in [field, &field["items"], &field["additionalProperties"]] {
                    described(inner, &at);
                }
            }
        }
        let kinds = FLUX["kinds"].as_map().unwrap();
        assert_eq!(kinds.len(), 14);
        for (kind, notation) in kinds.iter() {
            for relaxed in [false, true] {
                let schema = Expansion { types: &FLUX["types"], relaxed }
                    .value(notation, 0)
                    .unwrap_or_else(|e| panic!("{kind}: {e}"));
                described(&schema, kind);
                assert_eq!(schema["properties"]["spec"]["x-kubernetes-preserve-unknown-fields"], Value::Bool(true));
            }
        }
    }

    #[test]
    fn a_line_says_type_constraints_and_description() {
        let types = Value::default();
        let line = |relaxed, text: &str| Expansion { types: &types, relaxed }.line(text, 0).unwrap();
        let strict = line(false, "string (a b) >=1 <=9 /^x y?$/".replace(" y", "y").as_str());
        assert_eq!(strict["enum"].items().len(), 2);
        assert_eq!((&strict["minLength"], &strict["maxLength"]), (&Value::from(1), &Value::from(9)));
        assert_eq!(strict.str_at(["pattern"]), Some("^xy?$"));
        let relaxed = line(true, "bool =false | Whether.");
        assert_eq!(relaxed["default"], Value::Bool(false));
        assert!(line(true, "string (a b)").get("enum").is_none());
        assert!(Expansion { types: &types, relaxed: false }.line("strange", 0).is_err());
    }

    #[test]
    fn lists_and_required_fields_are_marked_in_names() {
        let schema = of_kind("kustomize.toolkit.fluxcd.io", "Kustomization", false).unwrap();
        let spec = &schema["properties"]["spec"];
        let required: Vec<_> = spec["required"].items().iter().filter_map(Value::as_str).collect();
        assert_eq!(required, ["interval", "prune", "sourceRef"]);
        assert_eq!(spec["properties"]["patches"].str_at(["type"]), Some("array"));
        assert_eq!(
            spec["properties"]["postBuild"]["properties"]["substitute"]["additionalProperties"].str_at(["type"]),
            Some("string")
        );
        assert!(
            of_kind("kustomize.toolkit.fluxcd.io", "Kustomization", true).unwrap()["properties"]["spec"]
                .get("required")
                .is_none()
        );
        assert!(of_kind("example.com", "Kustomization", false).is_none());
    }
}
