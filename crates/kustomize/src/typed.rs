//! Kustomization files and plugin configurations as Go's JSON decoder reads them: keys match in any case, null leaves
//! a field as it is, and a value of the wrong type is named with its place in kustomize's types.
//!
//! The types are a data file. What passes is the same value with the fields' own names, ready for serde.

use std::collections::HashMap;
use std::sync::LazyLock;

use druse_object::{Map, Value};

/// How strict the reading is.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum How {
    /// Fields that no type has are an error (kustomization files).
    Strict,
    /// Fields that no type has are ignored, and a number or boolean is a text where a text belongs, as
    /// `sigs.k8s.io/yaml` reads into Go types (plugin configurations).
    Config,
    /// As `Config`, but unknown fields are an error (`configurations`).
    StrictConfig,
}

/// A type of the table: its fields by name, each with its type and what embeds it.
type Fields = HashMap<&'static str, (&'static str, &'static str)>;

static TYPES: LazyLock<HashMap<&'static str, Fields>> = LazyLock::new(|| {
    let mut types: HashMap<&str, Fields> = HashMap::new();
    for line in include_str!("../data/types.tsv").lines().filter(|l| !l.starts_with('#')) {
        if let [name, field, of, embedded] = line.split('\t').collect::<Vec<_>>().as_slice() {
            types.entry(name).or_default().insert(field, (of, embedded));
        }
    }
    types
});

/// Where a value stands: the structure it is a field of, and the fields that lead to it.
#[derive(Clone, Copy, Default)]
struct Place<'a> {
    of: &'a str,
    field: &'a str,
    above: Option<&'a Place<'a>>,
}

impl Place<'_> {
    fn path(&self) -> String {
        match self.above.filter(|a| !a.field.is_empty()) {
            Some(above) => format!("{}.{}", above.path(), self.field),
            None => self.field.to_string(),
        }
    }
}

/// The value as a type reads it.
///
/// # Errors
/// What Go's decoder says, as `json: cannot unmarshal …` or `json: unknown field …`.
pub(crate) fn read(value: &Value, name: &str, how: How) -> Result<Value, String> {
    // The table names structures without their package.
    structure(value, name, &format!("types.{name}"), how, &Place::default())
}

/// The types that stand for others.
fn meaning(of: &str) -> &str {
    match of {
        "types.PatchStrategicMerge"
        | "types.SortOrder"
        | "types.Cloud"
        | "namespace.RoleBindingSubjectMode"
        | "*string" => "string",
        "types.FsSlice" => "[]types.FieldSpec",
        "builtinconfig.nbrSlice" => "[]builtinconfig.NameBackReferences",
        "builtins.Target" => "builtins.ValueTarget",
        "int" => "int64",
        other => other,
    }
}

fn wrong(value: &Value, of: &str, place: &Place<'_>) -> String {
    let got = match value {
        Value::Bool(_) => "bool".to_string(),
        Value::Map(_) => "object".to_string(),
        Value::Array(_) => "array".to_string(),
        Value::String(_) => "string".to_string(),
        Value::Null => "null".to_string(),
        number if matches!(of, "int" | "int64") => format!("number {}", crate::generators::go_json(number)),
        _ => "number".to_string(),
    };
    let of = of.strip_prefix('*').unwrap_or(of);
    if place.field.is_empty() {
        return format!("json: cannot unmarshal {got} into Go value of type {of}");
    }
    format!("json: cannot unmarshal {got} into Go struct field {}.{} of type {of}", place.of, place.path())
}

fn any(value: &Value, of: &'static str, how: How, place: &Place<'_>) -> Result<Value, String> {
    let means = meaning(of);
    if let Some(item) = means.strip_prefix("[]") {
        let Value::Array(items) = value else { return Err(wrong(value, of, place)) };
        return items.iter().map(|v| any(v, item, how, place)).collect::<Result<_, _>>().map(Value::Array);
    }
    match (means, value) {
        ("string", Value::Null) => Ok("".into()),
        ("string", Value::String(_)) | ("bool", Value::Bool(_)) | ("int64", Value::Int(_)) => Ok(value.clone()),
        ("string", Value::Bool(_) | Value::Int(_) | Value::UInt(_) | Value::Float(_)) if how != How::Strict => {
            Ok(Value::String(crate::ids::text(value)))
        }
        ("bool", Value::Null) => Ok(false.into()),
        ("int64", Value::Null) => Ok(Value::Int(0)),
        // JSON has one kind of number.
        ("int64", Value::Float(f)) if f.fract() == 0.0 && f.abs() < 9.0e15 => {
            #[allow(clippy::cast_possible_truncation)]
            let whole = *f as i64;
            Ok(Value::Int(whole))
        }
        ("map[string]string", Value::Map(map)) => {
            let mut out = Map::with_capacity(map.len());
            for (key, value) in sorted(map) {
                out.insert(key.clone(), any(value, "string", how, place)?);
            }
            Ok(Value::Map(out))
        }
        ("map[string]interface {}", Value::Map(_)) => Ok(value.clone()),
        ("string" | "bool" | "int64" | "map[string]string" | "map[string]interface {}", _) => {
            Err(wrong(value, of, place))
        }
        (name, _) => {
            let name = name.rsplit('.').next().unwrap_or(name);
            structure(value, name, of, how, place)
        }
    }
}

fn sorted(map: &Map) -> Vec<(&druse_object::Str, &Value)> {
    // The YAML became JSON with sorted keys, and the first mistake counts.
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by(|a, b| a.0.cmp(b.0));
    entries
}

fn structure(value: &Value, name: &str, of: &str, how: How, place: &Place<'_>) -> Result<Value, String> {
    let map = match value {
        Value::Map(map) => map,
        Value::Null => return Ok(Value::Map(Map::new())),
        other => return Err(wrong(other, of, place)),
    };
    let Some((name, fields)) = TYPES.get_key_value(name) else { return Ok(value.clone()) };
    let mut out = Map::with_capacity(map.len());
    for (key, value) in sorted(map) {
        let found = fields
            .get_key_value(key.as_str())
            .or_else(|| fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(key)));
        let Some((field, (of, embedded))) = found else {
            if how == How::Config {
                continue;
            }
            return Err(format!("json: unknown field {}", crate::error::go_quote(key)));
        };
        if value.is_null() {
            continue;
        }
        let shown = if *embedded == "-" { (*field).to_string() } else { format!("{embedded}.{field}") };
        let inner = Place { of: name, field: &shown, above: Some(place) };
        out.insert(*field, any(value, of, how, &inner)?);
    }
    Ok(Value::Map(out))
}

/// Drops what Go's `omitempty` leaves out when a configuration is shown; what is written in line for charts stays.
pub(crate) fn omit_empty(value: &mut Value) {
    match value {
        Value::Map(map) => {
            for (key, value) in map.iter_mut() {
                if key != "valuesInline" {
                    omit_empty(value);
                }
            }
            map.retain(|_, v| match v {
                Value::Null | Value::Bool(false) | Value::Int(0) => false,
                Value::String(s) => !s.is_empty(),
                Value::Array(a) => !a.is_empty(),
                Value::Map(m) => !m.is_empty(),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(omit_empty),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(json: &str) -> Value {
        druse_object::json::parse(json.as_bytes()).unwrap()
    }

    /// Seen with `kubectl kustomize`, except for the last.
    #[test]
    fn mistakes_are_named_in_kustomizes_types() {
        for (json, expected) in [
            (r#"{"apiVersion": 5}"#, "number into Go struct field Kustomization.TypeMeta.apiVersion of type string"),
            (
                r#"{"configMapGenerator": [{"literals": 5}]}"#,
                "number into Go struct field ConfigMapArgs.configMapGenerator.GeneratorArgs.KvPairSources.literals of \
                 type []string",
            ),
            (
                r#"{"patches": [{"target": {"kind": 5}}]}"#,
                "number into Go struct field Selector.patches.target.ResId.Gvk.kind of type string",
            ),
            (
                r#"{"vars": [{"fieldref": {"fieldpath": 5}}]}"#,
                "number into Go struct field FieldSelector.vars.fieldref.fieldPath of type string",
            ),
            (
                r#"{"replicas": [{"count": 1.5}]}"#,
                "number 1.5 into Go struct field Replica.replicas.count of type int64",
            ),
            (
                r#"{"replacements": [{"targets": {}}]}"#,
                "object into Go struct field ReplacementField.replacements.Replacement.targets of type \
                 []*types.TargetSelector",
            ),
            (r#"[]"#, "array into Go value of type types.Kustomization"),
        ] {
            let said = read(&value(json), "Kustomization", How::Strict).unwrap_err();
            assert_eq!(said, format!("json: cannot unmarshal {expected}"));
        }
        let said = read(&value(r#"{"resources": 5, "a": 1}"#), "Kustomization", How::Strict).unwrap_err();
        assert_eq!(said, "json: unknown field \"a\"");
    }

    #[test]
    fn configurations_take_any_scalar_for_a_text() {
        let config =
            value(r#"{"Labels": {"app": true, "n": 5}, "metadata": {"name": "x"}, "fieldspecs": [{"PATH": "a"}]}"#);
        let read = read(&config, "LabelTransformerPlugin", How::Config).unwrap();
        assert_eq!(read, value(r#"{"labels": {"app": "true", "n": "5"}, "fieldSpecs": [{"path": "a"}]}"#));
    }
}
