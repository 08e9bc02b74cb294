//! The rules of a CRD's schema: whether they compile, and whether they may cost too much
//! (`k8s.io/apiextensions-apiserver` `pkg/apis/apiextensions/validation`, `pkg/apiserver/schema/cel/compilation.go`).

use druse_object::{Map, Value};

use super::declared::Declared;
use super::{flag, text};
use crate::cel::{Checked, Program, Type};
use crate::field::{FieldError, FieldErrorKind};

type Errors = Vec<FieldError>;

/// What a rule may cost: as often as its value can be in an object.
const EACH: u64 = 10_000_000;
/// What all rules of a schema may cost together.
const ALL: u64 = 100_000_000;

/// Judges the rules of a whole schema. Where the schema is the one that was there before, no rule is too expensive by
/// itself.
pub(super) fn judge(schema: &Value, path: &str, unchanged: bool, out: &mut Errors) {
    let mut judge = Judge { unchanged, total: 0, largest: Vec::new(), out };
    judge.schema(schema, path, Place { root: true, times: Some(1), uncorrelated: None });
    if judge.total > ALL {
        judge.largest.sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, at) in judge.largest.iter().take(4) {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            judge.out.push(FieldError::forbidden(at.as_str(), why));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        judge.out.push(FieldError::forbidden(path, too_much(what, judge.total, ALL)));
    }
}

/// Where a schema stands in the whole.
#[derive(Clone, Copy)]
struct Place<'a> {
    root: bool,
    /// How often its value can be in an object, where limits above say so.
    times: Option<u64>,
    /// The list above whose items have no old value.
    uncorrelated: Option<&'a str>,
}

struct Judge<'a> {
    unchanged: bool,
    total: u64,
    /// The costs worth naming, and whose they are.
    largest: Vec<(u64, String)>,
    out: &'a mut Errors,
}

impl Judge<'_> {
    fn schema(&mut self, schema: &Value, path: &str, place: Place<'_>) {
        let below = |times: Option<u64>| {
            let times = place.times.zip(times).map(|(a, b)| a.saturating_mul(b));
            Place { root: false, times, uncorrelated: place.uncorrelated }
        };
        let limit = |key: &str| schema.get(key).and_then(Value::as_i64).map(|n| u64::try_from(n).unwrap_or(0));
        let is = |ty: &str| text(schema, &["type"]) == ty;
        let times = match () {
            () if is("array") => limit("maxItems"),
            () if is("object") && schema.get("additionalProperties").is_some() => limit("maxProperties"),
            () => Some(1),
        };
        if let Some(v) = schema.get("additionalProperties").filter(|v| v.as_map().is_some()) {
            self.schema(v, &format!("{path}.additionalProperties"), below(times));
        }
        for (k, v) in schema.get("properties").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
            self.schema(v, &format!("{path}.properties[{k}]"), below(times));
        }
        if let Some(v) = schema.get("items").filter(|v| v.as_map().is_some()) {
            let mut place = below(times);
            if schema.str_at(["x-kubernetes-list-type"]) != Some("map") {
                place.uncorrelated = place.uncorrelated.or(Some(path));
            }
            self.schema(v, &format!("{path}.items"), place);
        }
        let rules = schema.get("x-kubernetes-validations").map(Value::items).unwrap_or_default();
        if rules.is_empty() {
            return;
        }
        let Some(declared) = Declared::of(schema, place.root || flag(schema, "x-kubernetes-embedded-resource")) else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: \
                       unable to convert structural schema to CEL declarations";
            let at = format!("{path}.x-kubernetes-validations");
            self.out.push(FieldError::new(FieldErrorKind::Internal, at, None, why));
            return;
        };
        for (i, rule) in rules.iter().enumerate() {
            self.rule(rule, &format!("{path}.x-kubernetes-validations[{i}]"), &declared, place);
        }
    }

    fn rule(&mut self, rule: &Value, at: &str, declared: &Declared, place: Place<'_>) {
        let optional = flag(rule, "optionalOldSelf");
        let scope = declared.scope(optional);
        let invalid = |key: &str, why: String| FieldError::invalid(format!("{at}.{key}"), shown(rule), why);
        let checked = |code: &str| -> Result<(Checked, bool), String> {
            let program = Program::compile(code).map_err(|e| e.0)?;
            let old = program.reads("oldSelf");
            Ok((program.check(code, &scope).map_err(|e| e.0)?, old))
        };
        let (code, message) = (text(rule, &["rule"]), text(rule, &["messageExpression"]));
        let old = match checked(code) {
            Err(why) => {
                self.out.push(invalid("rule", format!("compilation failed: {why}")));
                None
            }
            Ok((checked, _)) if *checked.output() != Type::Bool => {
                self.out.push(invalid("rule", "cel expression must evaluate to a bool".into()));
                None
            }
            Ok((checked, _)) if let Err(why) = checked.constants() => {
                self.out.push(invalid("rule", format!("program instantiation failed: {why}")));
                None
            }
            Ok((checked, old)) => {
                let times = place.times.unwrap_or_else(|| declared.times());
                let cost = checked.most(declared).saturating_mul(times);
                self.costs(cost, "estimated rule cost", format!("{at}.rule"));
                Some(old)
            }
        };
        // What a message needs is looked at once the rule is right.
        if old.is_some() && !message.trim().is_empty() {
            match checked(message) {
                Err(why) => {
                    self.out.push(invalid("messageExpression", format!("messageExpression compilation failed: {why}")));
                }
                Ok((checked, _)) if *checked.output() != Type::Str => {
                    self.out.push(invalid("messageExpression", "messageExpression must evaluate to a string".into()));
                }
                Ok((checked, _)) if let Err(why) = checked.constants() => {
                    let why = format!("messageExpression instantiation failed: {why}");
                    self.out.push(invalid("messageExpression", why));
                }
                Ok((checked, _)) => {
                    let cost = checked.most(declared);
                    self.costs(cost, "estimated messageExpression cost", format!("{at}.messageExpression"));
                }
            }
        }
        if old == Some(true) {
            if let Some(list) = place.uncorrelated {
                let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {list}");
                self.out.push(FieldError::invalid(format!("{at}.rule"), code, why));
            }
        } else if let Some(set) = rule.get("optionalOldSelf").filter(|v| !v.is_null()) {
            let why = "may not be set if oldSelf is not used in rule";
            self.out.push(FieldError::invalid(format!("{at}.optionalOldSelf"), set.clone(), why));
        }
    }

    /// Counts a cost, and tells when it is too much.
    fn costs(&mut self, cost: u64, what: &str, at: String) {
        if !self.unchanged && cost > EACH {
            self.out.push(FieldError::forbidden(at.as_str(), too_much(what, cost, EACH)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= ALL / 100 {
            self.largest.push((cost, at));
        }
    }
}

/// By how much a cost is too high.
#[allow(clippy::cast_precision_loss)]
fn too_much(what: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let factor = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as Go shows the struct.
fn shown(rule: &Value) -> Value {
    let mut m = Map::new();
    for (name, key) in [("Rule", "rule"), ("Message", "message"), ("MessageExpression", "messageExpression")] {
        m.insert(name, text(rule, &[key]));
    }
    m.insert("Reason", rule["reason"].clone());
    m.insert("FieldPath", text(rule, &["fieldPath"]));
    m.insert("OptionalOldSelf", rule["optionalOldSelf"].clone());
    Value::Map(m)
}
