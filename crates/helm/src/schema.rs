//! `values.schema.json`: validation of a chart's values and of its subcharts', with errors laid out as Helm lays them
//! out. A schema is compiled once a chart. Schemas that name a URL are not fetched.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, OnceLock};

use druse_gotemplate::Val;
use druse_object::Value;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use jsonschema::{Retrieve, Uri, ValidationError, Validator};
use parking_lot::Mutex;
use serde_json::Value as Json;

use crate::chart::Chart;
use crate::error::HelmError;
use crate::node::Node;

/// A chart's compiled schema, or why it does not compile.
#[derive(Default)]
pub(crate) struct SchemaCache(OnceLock<Result<Arc<Validator>, String>>);

impl std::fmt::Debug for SchemaCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SchemaCache")
    }
}

/// Answers references to other documents: a URN stands for anything, as in Helm. So does a URL at first, but it is noted:
/// documents are asked for in no certain order, and what is said of them must not depend on it.
#[derive(Clone, Default)]
struct Offline {
    noted: Arc<Mutex<BTreeSet<String>>>,
    /// What `$schema` names in the document. A dialect that nobody knows is none, and no reference.
    dialects: Arc<BTreeSet<String>>,
}

impl Offline {
    fn of(schema: &Json) -> Self {
        let mut dialects = BTreeSet::new();
        collect_dialects(schema, &mut dialects);
        Self { dialects: Arc::new(dialects), ..Self::default() }
    }
}

fn collect_dialects(schema: &Json, out: &mut BTreeSet<String>) {
    match schema {
        Json::Object(map) => {
            if let Some(dialect) = map.get("$schema").and_then(Json::as_str) {
                out.insert(dialect.trim_end_matches('#').to_owned());
            }
            map.values().for_each(|v| collect_dialects(v, out));
        }
        Json::Array(items) => items.iter().for_each(|v| collect_dialects(v, out)),
        _ => {}
    }
}

impl Retrieve for Offline {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Json, Box<dyn std::error::Error + Send + Sync>> {
        if self.dialects.contains(uri.as_str().trim_end_matches('#')) {
            return Err("an unknown dialect".into());
        }
        if !uri.as_str().starts_with("urn:") {
            self.noted.lock().insert(uri.as_str().to_owned());
        }
        Ok(Json::Bool(true))
    }
}

fn compile(chart: &Chart) -> Option<Result<Arc<Validator>, String>> {
    let text = chart.schema.as_ref()?;
    let cached = chart.compiled_schema.0.get_or_init(|| {
        let schema: Json = serde_json::from_slice(text).map_err(|e| e.to_string())?;
        let offline = Offline::of(&schema);
        let built = jsonschema::options().with_retriever(offline.clone()).build(&schema);
        if let Some(url) = offline.noted.lock().first() {
            return Err(format!(
                "failing loading {url:?}: schemas are not fetched from the network; use --skip-schema-validation to \
                 render without checking the values"
            ));
        }
        built.map(Arc::new).map_err(|e| match e.kind() {
            ValidationErrorKind::Referencing(r) => {
                std::error::Error::source(r).map_or_else(|| r.to_string(), ToString::to_string)
            }
            _ => format!("invalid schema: {e}"),
        })
    });
    Some(cached.clone())
}

/// Checks values against the schema of a chart and, below each subchart's name, against that subchart's.
///
/// # Errors
/// All violations of all charts, in Helm's layout.
pub(crate) fn validate(node: &Node, values: &Val) -> Result<(), HelmError> {
    let mut out = String::new();
    check(node, values, &mut out);
    if out.is_empty() { Ok(()) } else { Err(HelmError::Schema(out)) }
}

fn check(node: &Node, values: &Val, out: &mut String) {
    if let Some(compiled) = compile(&node.chart) {
        match compiled {
            Ok(validator) => {
                let instance = Json::from(whole_numbers(values.to_value()));
                let errors: Vec<_> = validator.iter_errors(&instance).collect();
                let message = render(&errors);
                if !message.is_empty() {
                    let _ = write!(out, "{}:\n{message}\n", node.name());
                }
            }
            // Helm ends only the report of values with a line's end.
            Err(message) => {
                let _ = write!(out, "{}:\n{message}", node.name());
            }
        }
    }
    let Val::Map(map) = values else { return };
    for sub in &node.dependencies {
        match map.get(sub.name()) {
            None | Some(Val::Nil | Val::Missing) => {}
            Some(v @ Val::Map(_)) => check(sub, &v, out),
            Some(other) => {
                let _ = write!(
                    out,
                    "{}:\ninvalid type for values: expected object (map), got {}\n",
                    sub.name(),
                    go_type(&other)
                );
            }
        }
    }
}

/// Whole floats as integers: Helm's library takes `3.0` for an integer whatever the draft says.
fn whole_numbers(v: Value) -> Value {
    match v {
        #[allow(clippy::cast_possible_truncation)]
        Value::Float(f) if f.fract() == 0.0 && f.abs() < 9e15 => Value::Int(f as i64),
        Value::Array(a) => Value::Array(a.into_iter().map(whole_numbers).collect()),
        Value::Map(m) => Value::Map(m.into_iter().map(|(k, v)| (k, whole_numbers(v))).collect()),
        v => v,
    }
}

fn go_type(v: &Val) -> &'static str {
    match v {
        Val::Bool(_) => "bool",
        Val::Str(_) => "string",
        Val::List(_) => "[]interface {}",
        Val::Int64(_) | Val::Int(_) => "int64",
        _ => "float64",
    }
}

/// One line of Helm's report and what is below it.
struct Line {
    at: String,
    text: String,
    below: Vec<Line>,
}

fn render(errors: &[ValidationError<'_>]) -> String {
    let refs: Vec<&ValidationError<'_>> = errors.iter().collect();
    let mut out = String::new();
    for line in lines(&refs, "") {
        write_line(&line, 0, &mut out);
    }
    out.trim_end().to_owned()
}

fn write_line(line: &Line, indent: usize, out: &mut String) {
    let _ = writeln!(out, "{}- at {}: {}", "  ".repeat(indent), quote(&line.at), line.text);
    for below in &line.below {
        write_line(below, indent + 1, out);
    }
}

/// Groups errors by where in the values they are: several below one place make a group, as Helm's library reports them.
fn lines(errors: &[&ValidationError<'_>], at: &str) -> Vec<Line> {
    let (mut own, mut last) = (Vec::new(), Vec::new());
    let mut below: Vec<(String, Vec<&ValidationError<'_>>)> = Vec::new();
    let mut missing: Vec<(String, Vec<String>)> = Vec::new();
    for e in errors {
        let path = e.instance_path().as_str();
        let rest = path.strip_prefix(at).unwrap_or("");
        if let Some(inner) = rest.strip_prefix('/') {
            let segment = inner.split('/').next().unwrap_or("").to_owned();
            match below.iter_mut().find(|(s, _)| *s == segment) {
                Some((_, list)) => list.push(e),
                None => below.push((segment, vec![e])),
            }
            continue;
        }
        match e.kind() {
            ValidationErrorKind::Required { property } => {
                let name = property.as_str().unwrap_or_default().to_owned();
                let schema = e.schema_path().as_str().to_owned();
                match missing.iter_mut().find(|(s, _)| *s == schema) {
                    Some((_, list)) => list.push(name),
                    None => missing.push((schema, vec![name])),
                }
            }
            ValidationErrorKind::AdditionalProperties { .. } | ValidationErrorKind::UnevaluatedProperties { .. } => {
                last.push(line(e, at));
            }
            _ => own.push(line(e, at)),
        }
    }
    for (_, names) in missing {
        let word = if names.len() == 1 { "property" } else { "properties" };
        own.push(Line { at: at.into(), text: format!("missing {word} {}", quoted(&names)), below: Vec::new() });
    }
    for (segment, list) in below {
        let place = format!("{at}/{segment}");
        own.extend(group(lines(&list, &place), &place));
    }
    own.extend(last);
    own
}

fn group(mut found: Vec<Line>, at: &str) -> Option<Line> {
    if found.len() > 1 {
        return Some(Line { at: at.into(), text: "validation failed".into(), below: found });
    }
    found.pop()
}

fn quote(text: &str) -> String {
    let quoted = format!("{text:?}").replace("\\\"", "\"").replace('\'', "\\'");
    format!("'{}'", quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or(""))
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|n| quote(n)).collect::<Vec<_>>().join(", ")
}

fn display(v: &Json) -> String {
    match v {
        Json::String(s) => quote(s),
        Json::Array(_) | Json::Object(_) => "value".into(),
        Json::Null => "<nil>".into(),
        Json::Number(n) => number(n.as_f64().unwrap_or(0.0)),
        Json::Bool(b) => b.to_string(),
    }
}

fn number(f: f64) -> String {
    crate::metadata::go_float(f)
}

fn got(v: &Json) -> &'static str {
    match v {
        Json::Null => "null",
        Json::Bool(_) => "boolean",
        Json::Number(_) => "number",
        Json::String(_) => "string",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
    }
}

fn line(e: &ValidationError<'_>, at: &str) -> Line {
    use ValidationErrorKind as K;
    let v = e.instance().as_ref();
    let float = |j: &Json| number(j.as_f64().unwrap_or(0.0));
    let length = |v: &Json| match v {
        Json::String(s) => s.chars().count(),
        Json::Array(a) => a.len(),
        Json::Object(o) => o.len(),
        _ => 0,
    };
    let alternatives = |context: &[Vec<ValidationError<'static>>]| -> Vec<Line> {
        context
            .iter()
            .filter_map(|errors| {
                let refs: Vec<&ValidationError<'_>> = errors.iter().collect();
                group(lines(&refs, at), at)
            })
            .collect()
    };
    let mut below = Vec::new();
    let text = match e.kind() {
        K::Type { kind } => {
            let mut want: Vec<&str> = match kind {
                TypeKind::Single(t) => vec![t.as_str()],
                TypeKind::Multiple(set) => set.iter().map(jsonschema::JsonType::as_str).collect(),
            };
            let rank = |t: &&str| {
                ["null", "boolean", "number", "integer", "string", "array", "object"].iter().position(|k| k == t)
            };
            want.sort_by_key(rank);
            format!("got {}, want {}", got(v), want.join(" or "))
        }
        K::AdditionalProperties { unexpected } | K::UnevaluatedProperties { unexpected } => {
            let mut names = unexpected.clone();
            names.sort();
            let word = if matches!(e.kind(), K::AdditionalProperties { .. }) { "additional" } else { "unevaluated" };
            format!("{word} properties {} not allowed", quoted(&names))
        }
        K::Enum { options } => match options.as_array().map(Vec::as_slice) {
            Some([one]) if !one.is_array() && !one.is_object() => format!("value must be {}", display(one)),
            Some(all) if !all.iter().any(|o| o.is_array() || o.is_object()) => {
                format!("value must be one of {}", all.iter().map(display).collect::<Vec<_>>().join(", "))
            }
            _ => "'enum' failed".into(),
        },
        K::Constant { expected_value } => match expected_value.as_ref() {
            Json::Array(_) | Json::Object(_) => "'const' failed".into(),
            want => format!("value must be {}", display(want)),
        },
        K::AnyOf { context } => {
            below = alternatives(context);
            "'anyOf' failed".into()
        }
        K::OneOfNotValid { context } => {
            below = alternatives(context);
            "'oneOf' failed, none matched".into()
        }
        K::OneOfMultipleValid { context } => {
            let mut hits = context.iter().enumerate().filter(|(_, c)| c.is_empty()).map(|(i, _)| i);
            format!("'oneOf' failed, subschemas {}, {} matched", hits.next().unwrap_or(0), hits.next().unwrap_or(1))
        }
        K::Not { .. } => "'not' failed".into(),
        K::FalseSchema => "false schema".into(),
        K::Pattern { pattern } => {
            format!("{} does not match pattern {}", quote(v.as_str().unwrap_or("")), quote(pattern))
        }
        K::Format { format } => format!("{} is not valid {format}", display(v)),
        K::Minimum { limit } => format!("minimum: got {}, want {}", float(v), float(limit)),
        K::Maximum { limit } => format!("maximum: got {}, want {}", float(v), float(limit)),
        K::ExclusiveMinimum { limit } => format!("exclusiveMinimum: got {}, want {}", float(v), float(limit)),
        K::ExclusiveMaximum { limit } => format!("exclusiveMaximum: got {}, want {}", float(v), float(limit)),
        K::MultipleOf { multiple_of } => format!("multipleOf: got {}, want {}", float(v), number(*multiple_of)),
        K::MinLength { limit } => format!("minLength: got {}, want {limit}", length(v)),
        K::MaxLength { limit } => format!("maxLength: got {}, want {limit}", length(v)),
        K::MinItems { limit } => format!("minItems: got {}, want {limit}", length(v)),
        K::MaxItems { limit } => format!("maxItems: got {}, want {limit}", length(v)),
        K::MinProperties { limit } => format!("minProperties: got {}, want {limit}", length(v)),
        K::MaxProperties { limit } => format!("maxProperties: got {}, want {limit}", length(v)),
        K::Contains => "no items match contains schema".into(),
        _ => e.to_string(),
    };
    Line { at: at.into(), text, below }
}
