//! What stands in the cells.

use druse_object::{Value, json};

use super::{path, time};
use crate::registry::{PrinterColumn, Resource};

/// The cells of one object.
pub fn row(resource: &Resource, columns: &[PrinterColumn], o: &Value) -> Value {
    columns.iter().map(|c| cell(resource, c, o)).collect()
}

fn cell(resource: &Resource, c: &PrinterColumn, o: &Value) -> Value {
    if !c.json_path.is_empty() {
        return custom(c, o);
    }
    let created = || o.str_at(["metadata", "creationTimestamp"]);
    match c.name.as_str() {
        "Name" => o["metadata"]["name"].clone(),
        "Age" => time::ago(created()).into(),
        "Created At" => created().unwrap_or_default().into(),
        _ => {
            let _ = resource;
            Value::from("")
        }
    }
}

fn custom(c: &PrinterColumn, o: &Value) -> Value {
    let found = path::lookup(o, &c.json_path);
    let Some(first) = found.first() else { return Value::Null };
    match c.kind.as_str() {
        "date" => match first.as_str() {
            Some(_) => time::ago(first.as_str()).into(),
            None => Value::Null,
        },
        "integer" | "number" | "boolean" => (*first).clone(),
        _ if found.len() == 1 => match first {
            Value::String(_) => (*first).clone(),
            other => json::to_string(other).into(),
        },
        _ => {
            let texts: Vec<String> = found
                .iter()
                .map(|v| v.as_str().map_or_else(|| json::to_string(v), str::to_owned))
                .collect();
            texts.join(",").into()
        }
    }
}
