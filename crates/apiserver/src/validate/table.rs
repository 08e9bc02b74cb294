//! Rules of kinds that need few: data (`data/rules.tsv`), one rule a line: group and kind, the field, the check, what the
//! error adds. A check is `required`, `required without FIELD` (when that is empty too), `one of A,B` (exactly one of
//! these fields of it), `subdomain`, `ip`, `positive`, `positive when given`, or
//! `not negative`.

use std::net::IpAddr;

use druse_object::{Gvk, Value};

use super::at::each;
use super::names::is_dns1123_subdomain;
use crate::field::FieldError;

const RULES: &str = include_str!("../../data/rules.tsv");

fn at<'a>(v: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(v, |v, k| &v[k])
}

fn empty(v: &Value) -> bool {
    match v {
        Value::Null => true,
        Value::String(s) => s.is_empty(),
        Value::Array(a) => a.is_empty(),
        Value::Map(m) => m.is_empty(),
        _ => false,
    }
}

/// Judges an object by the rules of its kind, in the table's order.
pub(crate) fn check(gvk: &Gvk, object: &Value, out: &mut Vec<FieldError>) {
    let name = format!("{}/{}", gvk.group, gvk.kind);
    for line in RULES.lines().filter_map(|l| l.strip_prefix(name.as_str())?.strip_prefix('\t')) {
        let mut columns = line.splitn(3, '\t');
        let mut next = || columns.next().unwrap_or_default();
        let (path, check, detail) = (next(), next(), next());
        let v = at(object, path);
        let text = v.as_str().unwrap_or_default();
        let (check, argument) = match check {
            c if c.starts_with("required without ") => ("without", &c["required without ".len()..]),
            c if c.starts_with("one of ") => ("one of", &c["one of ".len()..]),
            c => (c, ""),
        };
        match check {
            "required" if empty(v) => out.push(FieldError::required(path, detail)),
            "without" if empty(v) && empty(at(object, argument)) => out.push(FieldError::required(path, detail)),
            "one of" if argument.split(',').filter(|k| !empty(&v[*k])).count() != 1 => {
                out.push(FieldError::required(path, detail));
            }
            "subdomain" => {
                each(is_dns1123_subdomain(text), path, text, out);
            }
            "ip" if text.parse::<IpAddr>().is_err() => {
                let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
                out.push(FieldError::invalid(path, text, why));
            }
            "positive when given" if v.as_i64().is_some_and(|n| n <= 0) => {
                out.push(FieldError::invalid(path, v.clone(), detail));
            }
            "not negative" if v.as_i64().is_some_and(|n| n < 0) => {
                out.push(FieldError::invalid(path, v.clone(), "must be greater than or equal to 0"));
            }
            "positive" if v.as_i64().unwrap_or(0) <= 0 => {
                out.push(FieldError::invalid(path, v.as_i64().unwrap_or(0), detail));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::json;

    #[test]
    fn the_table_names_what_is_missing() {
        let judged = |group: &str, kind: &str, text: &str| -> Vec<String> {
            let mut out = Vec::new();
            check(&Gvk::new(group, "v1", kind), &json::parse(text.as_bytes()).unwrap(), &mut out);
            out.iter().map(ToString::to_string).collect()
        };
        let class = r#"{"driverName":"a.b","parameters":{"a":"b"}}"#;
        assert_eq!(judged("storage.k8s.io", "VolumeAttributesClass", class), [""; 0]);
        let less = r#"{"parameters":{"a":"b"}}"#;
        assert_eq!(judged("storage.k8s.io", "VolumeAttributesClass", less), ["driverName: Required value"]);
        let policy = "admissionregistration.k8s.io";
        let some = r#"{"spec":{"matchConstraints":{"resourceRules":[1]},"validations":[1]}}"#;
        assert_eq!(judged(policy, "ValidatingAdmissionPolicy", some), [""; 0]);
        assert_eq!(judged(policy, "ValidatingAdmissionPolicy", "{}").len(), 3);
        let both = r#"{"spec":{"attacher":"a","nodeName":"n","source":{"persistentVolumeName":"p","inlineVolumeSpec":{"a":1}}}}"#;
        assert_eq!(judged("storage.k8s.io", "VolumeAttachment", both).len(), 1);
    }
}
