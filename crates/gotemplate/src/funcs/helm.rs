//! Helm's own functions: `include`, `tpl`, `required`, `fail`, `lookup`, and YAML.

use druse_object::Value;
use druse_object::yaml::{self, Dialect};

use crate::env::{Env, FuncError};
use crate::val::Val;

use super::args::{Args, Res, err};
use super::{Entry, json, pretty};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("include", include),
    ("tpl", tpl),
    ("required", required),
    ("fail", fail),
    ("lookup", lookup),
    ("getHostByName", |env, a| {
        let name = Args::exact("getHostByName", a, 1)?.str(0)?;
        Ok(Val::str(env.host.resolve_host(name)))
    }),
    ("toYaml", |_, a| Ok(Val::str(to_yaml(Args::exact("toYaml", a, 1)?.any(0)).unwrap_or_default()))),
    ("mustToYaml", |_, a| to_yaml(Args::exact("mustToYaml", a, 1)?.any(0)).map(Val::str)),
    ("toYamlPretty", |_, a| Ok(Val::str(pretty::to_yaml(Args::exact("toYamlPretty", a, 1)?.any(0))))),
    ("fromYaml", |_, a| Ok(json::map_or_error(from_yaml(Args::exact("fromYaml", a, 1)?.str(0)?), UNMARSHAL))),
    ("fromYamlArray", |_, a| {
        let list = match from_yaml(Args::exact("fromYamlArray", a, 1)?.str(0)?) {
            Ok(Value::Null) => Ok(Value::Array(Vec::new())),
            other => other,
        };
        Ok(json::list_or_error(list, UNMARSHAL))
    }),
];

/// What stands around the message of `fail` and `required` in an error: whoever reports the error shows only what is
/// between them, as Helm does.
pub const MESSAGE_START: &str = "HELM_ERR_START";
/// See [`MESSAGE_START`].
pub const MESSAGE_END: &str = "HELM_ERR_END";

/// The message `fail` or `required` gave, if an error text holds one (from the first mark to the last).
#[must_use]
pub fn message_in(error: &str) -> Option<&str> {
    let (_, rest) = error.split_once(MESSAGE_START)?;
    rest.rsplit_once(MESSAGE_END).map(|(message, _)| message)
}

const UNMARSHAL: &str = "error unmarshaling JSON: while decoding JSON: ";

fn marked<T>(message: &str) -> Result<T, FuncError> {
    err(format!("{MESSAGE_START}{message}{MESSAGE_END}"))
}

fn include(env: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("include", a, 2)?;
    env.exec.include(a.str(0)?, a.own(1)).map(Val::str)
}

fn tpl(env: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("tpl", a, 2)?;
    env.exec.tpl(a.str(0)?, a.own(1)).map(Val::str)
}

fn required(env: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("required", a, 2)?;
    let message = a.str(0)?;
    match a.any(1) {
        Val::Nil | Val::Missing => {}
        Val::Str(s) if s.is_empty() => {}
        v => return Ok(v.clone()),
    }
    if env.lint { Ok(Val::str("")) } else { marked(message) }
}

fn fail(env: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("fail", a, 1)?;
    let message = a.str(0)?;
    if env.lint { Ok(Val::str("")) } else { marked(message) }
}

fn lookup(env: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("lookup", a, 4)?;
    let found = env.host.lookup(a.str(0)?, a.str(1)?, a.str(2)?, a.str(3)?).map_err(FuncError)?;
    Ok(match found {
        Value::Null => Val::Map(crate::val::MapRef::default()),
        v => Val::from_value_with_ints(&v),
    })
}

fn to_yaml(v: &Val) -> Result<String, FuncError> {
    let value = json::plain(v).map_err(|e| FuncError(format!("error marshaling into JSON: {e}")))?;
    let mut text = yaml::to_string(&value);
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}

fn from_yaml(text: &str) -> Result<Value, String> {
    yaml::parse(text, Dialect::Sigs)
        .map_err(|e| format!("error converting YAML to JSON: yaml: line {}: {}", e.line, e.message))
}
