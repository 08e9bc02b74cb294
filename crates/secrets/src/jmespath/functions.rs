//! The functions of JMESPath that take texts and structures apart.

use std::cmp::Ordering;
use std::collections::HashSet;

use druse_aws::sealed::Json;
use zeroize::Zeroizing;

use super::PathError;
use super::parse::Node;
use super::value::{Budget, evaluate, number};

/// Calls a function: `contains`, `ends_with`, `join`, `keys`, `length`, `map`, `max`, `merge`, `min`, `not_null`,
/// `reverse`, `sort`, `sort_by`, `starts_with`, `to_array`, `to_number`, `to_string`, `type`, `values`.
pub(super) fn call(name: &str, arguments: &[Node], input: &Json, budget: &Budget) -> Result<Json, PathError> {
    let wrong = |what: &'static str| PathError::Call { function: name.to_string(), what };
    let given: Vec<Json> = arguments.iter().map(|a| evaluate(a, input, budget)).collect::<Result<_, _>>()?;
    let text = |n: usize, what: &'static str| given[n].text().ok_or_else(|| wrong(what));
    let list = |n: usize| match &given[n] {
        Json::List(items) => Ok(items.as_slice()),
        _ => Err(wrong("it takes a list")),
    };
    let wanted = match name {
        "contains" | "ends_with" | "join" | "map" | "sort_by" | "starts_with" => Some(2),
        "keys" | "length" | "max" | "min" | "reverse" | "sort" | "to_array" | "to_number" | "to_string" | "type"
        | "values" => Some(1),
        "merge" | "not_null" if !given.is_empty() => None,
        "merge" | "not_null" => Some(1),
        _ => return Err(wrong("there is no such function here")),
    };
    if wanted.is_some_and(|n| n != given.len()) {
        return Err(wrong("it takes another number of arguments"));
    }
    Ok(match name {
        "contains" => match &given[0] {
            Json::Text(t) => Json::Bool(given[1].text().is_some_and(|part| t.contains(part))),
            Json::List(items) => Json::Bool(items.contains(&given[1])),
            _ => return Err(wrong("it takes a text or list")),
        },
        "starts_with" => Json::Bool(text(0, "it takes texts")?.starts_with(text(1, "it takes texts")?)),
        "ends_with" => Json::Bool(text(0, "it takes texts")?.ends_with(text(1, "it takes texts")?)),
        "join" => {
            let separator = text(0, "the separator is no text")?;
            let parts: Vec<&str> =
                list(1)?.iter().map(|i| i.text().ok_or_else(|| wrong("it joins texts"))).collect::<Result<_, _>>()?;
            budget.spend(separator.len().saturating_mul(parts.len()))?;
            // `join` allocates what is needed at once.
            Json::Text(Zeroizing::new(parts.join(separator)))
        }
        "keys" | "values" => {
            let Json::Map(entries) = &given[0] else { return Err(wrong("it takes a map")) };
            let part = |(k, v): &(Zeroizing<String>, Json)| match name {
                "keys" => Json::Text(k.clone()),
                _ => v.clone(),
            };
            Json::List(entries.iter().map(part).collect())
        }
        "length" => {
            let n = match &given[0] {
                Json::Text(t) => t.chars().count(),
                Json::List(items) => items.len(),
                Json::Map(entries) => entries.len(),
                _ => return Err(wrong("it takes a text, list or map")),
            };
            Json::Number(Zeroizing::new(n.to_string()))
        }
        "map" => {
            let found = list(1)?.iter().map(|i| applied(&arguments[0], i, budget));
            Json::List(found.collect::<Option<Result<_, _>>>().ok_or_else(|| wrong("it takes an &expression"))??)
        }
        "sort_by" => {
            let keyed = list(0)?.iter().map(|i| Some(applied(&arguments[1], i, budget)?.map(|key| (key, i.clone()))));
            let keyed: Option<Result<Vec<(Json, Json)>, _>> = keyed.collect();
            let mut keyed = keyed.ok_or_else(|| wrong("it takes an &expression"))??;
            sortable(keyed.iter().map(|(k, _)| k)).ok_or_else(|| wrong("it sorts by texts or by numbers"))?;
            keyed.sort_by(|(a, _), (b, _)| order(a, b));
            Json::List(keyed.into_iter().map(|(_, v)| v).collect())
        }
        "sort" | "max" | "min" => {
            let mut items = list(0)?.to_vec();
            sortable(items.iter()).ok_or_else(|| wrong("it takes a list of texts or of numbers"))?;
            items.sort_by(order);
            match name {
                "sort" => Json::List(items),
                "max" => items.pop().unwrap_or(Json::Null),
                _ => items.into_iter().next().unwrap_or(Json::Null),
            }
        }
        "merge" => {
            let mut all: Vec<&(Zeroizing<String>, Json)> = Vec::new();
            for v in &given {
                let Json::Map(entries) = v else { return Err(wrong("it takes maps")) };
                all.extend(entries);
            }
            // Of equal names the last one stays, where it stands.
            let mut seen = HashSet::new();
            all.reverse();
            all.retain(|(k, _)| seen.insert(k.as_str()));
            Json::Map(all.into_iter().rev().cloned().collect())
        }
        "not_null" => given.iter().find(|v| **v != Json::Null).cloned().unwrap_or(Json::Null),
        "reverse" => match &given[0] {
            Json::List(items) => Json::List(items.iter().rev().cloned().collect()),
            Json::Text(t) => {
                let mut out = Zeroizing::new(String::with_capacity(t.len()));
                out.extend(t.chars().rev());
                Json::Text(out)
            }
            _ => return Err(wrong("it takes a text or list")),
        },
        "to_array" => match &given[0] {
            list @ Json::List(_) => list.clone(),
            other => Json::List(vec![other.clone()]),
        },
        "to_number" => match &given[0] {
            Json::Text(t) => match Json::parse(t.as_bytes()) {
                Ok(n @ Json::Number(_)) => n,
                _ => Json::Null,
            },
            n @ Json::Number(_) => n.clone(),
            _ => Json::Null,
        },
        "to_string" => match &given[0] {
            t @ Json::Text(_) => t.clone(),
            other => Json::Text(other.to_json()),
        },
        _ => Json::Text(Zeroizing::new(
            match &given[0] {
                Json::Null => "null",
                Json::Bool(_) => "boolean",
                Json::Number(_) => "number",
                Json::Text(_) => "string",
                Json::List(_) => "array",
                Json::Map(_) => "object",
            }
            .to_string(),
        )),
    })
}

/// A given expression on a value; `None` when the argument is none.
fn applied(argument: &Node, value: &Json, budget: &Budget) -> Option<Result<Json, PathError>> {
    match argument {
        Node::Given(inner) => Some(evaluate(inner, value, budget)),
        _ => None,
    }
}

fn sortable<'a>(mut items: impl Iterator<Item = &'a Json> + Clone) -> Option<()> {
    let texts = items.clone().all(|i| i.text().is_some());
    (texts || items.all(|i| number(i).is_some())).then_some(())
}

fn order(a: &Json, b: &Json) -> Ordering {
    match (a.text(), b.text()) {
        (Some(a), Some(b)) => a.cmp(b),
        _ => number(a).partial_cmp(&number(b)).unwrap_or(Ordering::Equal),
    }
}
