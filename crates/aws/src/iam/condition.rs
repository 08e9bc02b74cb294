//! Conditions of statements.

use druse_object::Value;

use std::net::IpAddr;

use super::glob::{HOLE, glob};
use super::{PolicyError, Request, Truth};

/// One operator over one key.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// As written: `StringEquals`, `ForAnyValue:StringLikeIfExists`, …
    pub operator: String,
    /// As written.
    pub key: String,
    /// What is compared with.
    pub values: Vec<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum Set {
    /// No set operator: one value of the key is compared.
    None,
    Any,
    All,
}

impl Condition {
    pub(super) fn parse(value: &Value) -> Result<Vec<Self>, PolicyError> {
        let bad = |m: &str| PolicyError(m.to_string());
        let mut all = Vec::new();
        for (operator, keys) in value.as_map().ok_or_else(|| bad("Condition is an object"))?.iter() {
            for (key, values) in keys.as_map().ok_or_else(|| bad("a condition operator holds an object"))?.iter() {
                let one = |v: &Value| match v {
                    Value::String(s) => Ok(s.to_string()),
                    Value::Bool(b) => Ok(b.to_string()),
                    Value::Int(i) => Ok(i.to_string()),
                    _ => Err(bad("a condition compares with strings")),
                };
                let values = match values {
                    Value::Array(items) => items.iter().map(one).collect::<Result<_, _>>()?,
                    v => vec![one(v)?],
                };
                all.push(Self { operator: operator.to_string(), key: key.to_string(), values });
            }
        }
        Ok(all)
    }

    /// Whether it holds; `None` when the operator is not known.
    #[must_use]
    pub fn holds(&self, request: &Request) -> Option<Truth> {
        let (set, operator) = match self.operator.split_once(':') {
            Some(("ForAnyValue", o)) => (Set::Any, o),
            Some(("ForAllValues", o)) => (Set::All, o),
            Some(_) => return None,
            None => (Set::None, self.operator.as_str()),
        };
        let key = self.key.to_ascii_lowercase();
        let present = request.context.get(&key).filter(|v| !v.is_empty());
        if key.contains(HOLE) {
            return Some(Truth::Maybe);
        }
        if operator == "Null" {
            let absent = match (present, request.leaves_open(&key)) {
                (Some(_), _) => Truth::No,
                (None, false) => Truth::Yes,
                (None, true) => Truth::Maybe,
            };
            let wants = |v: &String| v.eq_ignore_ascii_case("true");
            return Some(
                self.values.iter().map(|v| if wants(v) { absent } else { !absent }).max().unwrap_or(Truth::No),
            );
        }
        let (operator, if_exists) = match operator.strip_suffix("IfExists") {
            Some(o) => (o, true),
            None => (operator, false),
        };
        let (compare, negated) = comparison(operator)?;
        let Some(values) = present else {
            return Some(match (request.leaves_open(&key), set) {
                (true, _) => Truth::Maybe,
                // A negated operator holds for a key that is not there, as does ForAllValues.
                (false, Set::All) => Truth::Yes,
                (false, _) => (if_exists || negated).into(),
            });
        };
        let one = |value: &String| {
            let any = self.values.iter().map(|wanted| compare(wanted, value)).max().unwrap_or(Truth::No);
            if negated { !any } else { any }
        };
        let each = values.iter().map(one);
        Some(match set {
            Set::All => each.min().unwrap_or(Truth::Yes),
            Set::Any => each.max().unwrap_or(Truth::No),
            // A key of several values without a set operator: every value must hold for a negated operator.
            Set::None if negated => each.min().unwrap_or(Truth::Yes),
            Set::None => each.max().unwrap_or(Truth::No),
        })
    }
}

type Compare = fn(&str, &str) -> Truth;

fn comparison(operator: &str) -> Option<(Compare, bool)> {
    fn equals(wanted: &str, value: &str) -> Truth {
        glob(wanted, value, false)
    }
    fn like(wanted: &str, value: &str) -> Truth {
        glob(wanted, value, true)
    }
    fn equals_any_case(wanted: &str, value: &str) -> Truth {
        glob(&wanted.to_lowercase(), &value.to_lowercase(), false)
    }
    fn arn(wanted: &str, value: &str) -> Truth {
        let (a, b): (Vec<&str>, Vec<&str>) = (wanted.splitn(6, ':').collect(), value.splitn(6, ':').collect());
        if a.len() != 6 || b.len() != 6 {
            return if wanted.contains(HOLE) { Truth::Maybe } else { Truth::No };
        }
        a.iter().zip(&b).map(|(x, y)| glob(x, y, true)).min().unwrap_or(Truth::No)
    }
    fn ordered(wanted: &str, value: &str, holds: fn(std::cmp::Ordering) -> bool) -> Truth {
        match (wanted.parse::<f64>(), value.parse::<f64>()) {
            (Ok(w), Ok(v)) => v.partial_cmp(&w).is_some_and(holds).into(),
            _ => Truth::No,
        }
    }
    fn dated(wanted: &str, value: &str, holds: fn(std::cmp::Ordering) -> bool) -> Truth {
        let read = |t: &str| t.parse::<jiff::Timestamp>().ok();
        match (read(wanted), read(value)) {
            (Some(w), Some(v)) => holds(v.cmp(&w)).into(),
            _ => Truth::No,
        }
    }
    fn within(wanted: &str, value: &str) -> Truth {
        if wanted.contains(HOLE) {
            return Truth::Maybe;
        }
        let Ok(value) = value.parse::<IpAddr>() else { return Truth::No };
        let (net, bits) = wanted.split_once('/').map_or((wanted, None), |(n, b)| (n, Some(b)));
        let Ok(net) = net.parse::<IpAddr>() else { return Truth::No };
        let of = |a: IpAddr| match a {
            IpAddr::V4(a) => (u128::from(u32::from(a)) << 96, 32),
            IpAddr::V6(a) => (u128::from(a), 128),
        };
        let ((value, width), (net, of_width)) = (of(value), of(net));
        let bits = bits.map_or(Some(of_width), |b| b.parse::<u32>().ok().filter(|b| *b <= of_width));
        let Some(bits) = bits else { return Truth::No };
        let same = bits == 0 || (value ^ net) >> (128 - bits) == 0;
        (width == of_width && same).into()
    }
    let compare: (Compare, bool) = match operator {
        "IpAddress" => (within, false),
        "NotIpAddress" => (within, true),
        "BinaryEquals" => (equals, false),
        "StringEquals" => (equals, false),
        "StringNotEquals" => (equals, true),
        "StringEqualsIgnoreCase" => (equals_any_case, false),
        "StringNotEqualsIgnoreCase" => (equals_any_case, true),
        "StringLike" => (like, false),
        "StringNotLike" => (like, true),
        "ArnEquals" | "ArnLike" => (arn, false),
        "ArnNotEquals" | "ArnNotLike" => (arn, true),
        "Bool" => (equals_any_case, false),
        "NumericEquals" => (|w, v| ordered(w, v, std::cmp::Ordering::is_eq), false),
        "NumericNotEquals" => (|w, v| ordered(w, v, std::cmp::Ordering::is_eq), true),
        "NumericLessThan" => (|w, v| ordered(w, v, std::cmp::Ordering::is_lt), false),
        "NumericLessThanEquals" => (|w, v| ordered(w, v, std::cmp::Ordering::is_le), false),
        "NumericGreaterThan" => (|w, v| ordered(w, v, std::cmp::Ordering::is_gt), false),
        "NumericGreaterThanEquals" => (|w, v| ordered(w, v, std::cmp::Ordering::is_ge), false),
        "DateEquals" => (|w, v| dated(w, v, std::cmp::Ordering::is_eq), false),
        "DateNotEquals" => (|w, v| dated(w, v, std::cmp::Ordering::is_eq), true),
        "DateLessThan" => (|w, v| dated(w, v, std::cmp::Ordering::is_lt), false),
        "DateLessThanEquals" => (|w, v| dated(w, v, std::cmp::Ordering::is_le), false),
        "DateGreaterThan" => (|w, v| dated(w, v, std::cmp::Ordering::is_gt), false),
        "DateGreaterThanEquals" => (|w, v| dated(w, v, std::cmp::Ordering::is_ge), false),
        _ => return None,
    };
    Some(compare)
}
