//! One version of a CRD: whether it is deprecated, what tables show of it, its subresources.

use druse_object::{Map, Value};

use super::Errors;
use crate::crd::{flag, text};
use crate::field::FieldError;

/// A version as Go shows the struct when every version has the same schema, which then stands elsewhere.
pub(super) fn go_version(v: &Value) -> Value {
    let mut m = Map::new();
    m.insert("Name", v["name"].clone());
    for (name, key) in [("Served", "served"), ("Storage", "storage"), ("Deprecated", "deprecated")] {
        m.insert(name, v[key].as_bool().unwrap_or(false));
    }
    m.insert("DeprecationWarning", v["deprecationWarning"].clone());
    for name in ["Schema", "Subresources", "AdditionalPrinterColumns", "SelectableFields"] {
        m.insert(name, Value::Null);
    }
    Value::Map(m)
}

pub(super) fn deprecation(version: &Value, path: &str, out: &mut Errors) {
    const LONGEST: usize = 256;
    let Some(warning) = version.str_at(["deprecationWarning"]) else { return };
    let mut no = |why: String| out.push(FieldError::invalid(path, warning, why));
    if !flag(version, "deprecated") {
        return no("can only be set for deprecated versions".into());
    }
    if warning.len() > LONGEST {
        no(format!("must be <= {LONGEST} characters long"));
    }
    if warning.is_empty() {
        no("must not be an empty string".into());
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        no(format!("must only contain printable UTF-8 characters; non-printable character found at index {i}"));
    }
}

/// What tables show of a version's objects, and what they can be selected by.
pub(super) fn columns(version: &Value, path: &str, out: &mut Errors) {
    const TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
    const FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
    for (i, c) in version["additionalPrinterColumns"].items().iter().enumerate() {
        let path = format!("{path}.additionalPrinterColumns[{i}]");
        if text(c, &["name"]).is_empty() {
            out.push(FieldError::required(format!("{path}.name"), ""));
        }
        for (key, allowed) in [("type", &TYPES[..]), ("format", &FORMATS[..])] {
            let (v, why) = (text(c, &[key]), format!("must be one of {}", allowed.join(",")));
            if v.is_empty() && key == "type" {
                out.push(FieldError::required(format!("{path}.{key}"), why));
            } else if !v.is_empty() && !allowed.contains(&v) {
                out.push(FieldError::invalid(format!("{path}.{key}"), v, why));
            }
        }
        let at = format!("{path}.JSONPath");
        match text(c, &["jsonPath"]) {
            "" => out.push(FieldError::required(at, "")),
            p if !p.starts_with('.') => {
                out.push(FieldError::invalid(at, p, "must be a simple json path starting with ."));
            }
            _ => {}
        }
    }
    let mut seen: Vec<&str> = Vec::new();
    for (i, f) in version["selectableFields"].items().iter().enumerate() {
        let at = format!("{path}.selectableFields[{i}].jsonPath");
        let p = text(f, &["jsonPath"]);
        if p.is_empty() {
            out.push(FieldError::required(at, ""));
            continue;
        }
        if seen.contains(&p) {
            out.push(FieldError::duplicate(at, p));
            continue;
        }
        seen.push(p);
        let Some(rest) = p.strip_prefix('.') else {
            let word = p.split(['.', '[']).next().unwrap_or_default();
            out.push(FieldError::invalid(at, p, format!("is an invalid path: expected [ or . but got: {word}")));
            continue;
        };
        let schema = version.at(["schema", "openAPIV3Schema"]);
        let found = rest.split('.').try_fold(schema, |s, key| {
            let s = s.and_then(|s| s.get("properties")).and_then(|p| p.get(key));
            s.map(Some).filter(|_| key != "metadata")
        });
        match found.flatten().map(|s| text(s, &["type"])) {
            None => {
                out.push(FieldError::invalid(at, p, "is an invalid path: does not refer to a valid field"));
            }
            Some("string" | "boolean" | "integer") => {}
            Some(_) => {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                out.push(FieldError::invalid(at, p, why));
            }
        }
    }
}

pub(super) fn subresources(version: &Value, path: &str, skip: bool, out: &mut Errors) {
    let Some(scale) = version.at(["subresources", "scale"]).filter(|_| !skip) else { return };
    for (key, under, words) in [
        ("specReplicasPath", ".spec.", "should be a json path under .spec"),
        ("statusReplicasPath", ".status.", "should be a json path under .status"),
    ] {
        let v = text(scale, &[key]);
        if v.is_empty() {
            out.push(FieldError::required(format!("{path}.scale.{key}"), ""));
        } else if !v.starts_with('.') {
            out.push(FieldError::invalid(
                format!("{path}.scale.{key}"),
                v,
                "must be a simple json path starting with .",
            ));
        } else if !v.starts_with(under) {
            out.push(FieldError::invalid(format!("{path}.scale.{key}"), v, words));
        }
    }
    let v = text(scale, &["labelSelectorPath"]);
    if !v.is_empty() && !v.starts_with('.') {
        let why = "must be a simple json path starting with .";
        out.push(FieldError::invalid(format!("{path}.scale.labelSelectorPath"), v, why));
    } else if !v.is_empty() && !v.starts_with(".spec.") && !v.starts_with(".status.") {
        out.push(FieldError::invalid(
            format!("{path}.scale.labelSelectorPath"),
            v,
            "should be a json path under either .spec or .status",
        ));
    }
}
