//! Terraform's common functions. One that is not here makes its result unknown.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use druse_kustomize::tree::join;
use druse_object::{json, yaml};
use hcl_edit::expr::{Expression, FuncCall};

use crate::eval::Env;
use crate::load::{FileInfo, read};
use crate::value::{Kind, Place, Value, number, whole};

/// Calls a function.
pub(crate) fn call(env: &Env<'_, '_>, f: &FuncCall) -> Value {
    let name = f.name.name.as_str();
    let exprs: Vec<&Expression> = f.args.iter().collect();
    if !f.name.namespace.is_empty() {
        return Value::unknown(format!("function {name} of a provider is not known here"));
    }
    // These two look at whether an argument can be resolved at all.
    match name {
        "try" => {
            let mut last = Value::unknown("try found nothing");
            for e in exprs {
                last = env.eval(e);
                if !last.is_unknown() {
                    return last;
                }
            }
            return last;
        }
        "can" => {
            return match exprs.first().map(|e| env.eval(e)) {
                Some(v) if !v.is_unknown() => Kind::Bool(true).into(),
                _ => Value::unknown("whether an expression can be evaluated is not known"),
            };
        }
        _ => {}
    }
    let mut args: Vec<Value> = exprs.into_iter().map(|e| env.eval(e)).collect();
    if f.args.expand_final()
        && let Some(last) = args.pop()
    {
        match last.kind {
            Kind::List(items) => args.extend(items),
            _ => return Value::unknown("an expanded argument is not known"),
        }
    }
    apply(env, name, &args).unwrap_or_else(|| Value::unknown(format!("{name}() cannot be resolved here")))
}

fn list(v: &Value) -> Option<&[Value]> {
    match &v.kind {
        Kind::List(items) => Some(items),
        _ => None,
    }
}

fn map(v: &Value) -> Option<&BTreeMap<String, Value>> {
    match &v.kind {
        Kind::Map(m) => Some(m),
        _ => None,
    }
}

fn text(v: &Value) -> Option<String> {
    v.text()
}

/// A text without holes, for functions that look into it.
fn known(v: &Value) -> Option<String> {
    v.is_whole().then(|| v.text()).flatten()
}

fn count(n: usize) -> Value {
    Kind::Number(u32::try_from(n).map_or(f64::MAX, f64::from)).into()
}

fn integer(v: &Value) -> Option<i64> {
    v.number().and_then(whole)
}

fn strings(items: impl IntoIterator<Item = String>) -> Value {
    Kind::List(items.into_iter().map(Value::string).collect()).into()
}

#[expect(clippy::too_many_lines, reason = "one table of functions, in the order of Terraform's manual")]
fn apply(env: &Env<'_, '_>, name: &str, args: &[Value]) -> Option<Value> {
    let arg = |n: usize| args.get(n);
    let one = || args.first();
    let string = |f: &dyn Fn(&str) -> String| Some(Value::string(f(&text(one()?)?)));
    Some(match name {
        // Texts
        "upper" => string(&|s| s.to_uppercase())?,
        "lower" => string(&|s| s.to_lowercase())?,
        "trimspace" => string(&|s| s.trim().to_string())?,
        "chomp" => string(&|s| s.trim_end_matches(['\n', '\r']).to_string())?,
        "trim" => {
            let cut = known(arg(1)?)?;
            string(&|s| s.trim_matches(|c| cut.contains(c)).to_string())?
        }
        "trimprefix" => {
            let cut = known(arg(1)?)?;
            string(&|s| s.strip_prefix(cut.as_str()).unwrap_or(s).to_string())?
        }
        "trimsuffix" => {
            let cut = known(arg(1)?)?;
            string(&|s| s.strip_suffix(cut.as_str()).unwrap_or(s).to_string())?
        }
        "replace" => {
            let (from, to) = (known(arg(1)?)?, text(arg(2)?)?);
            if from.len() > 1 && from.starts_with('/') && from.ends_with('/') {
                return None;
            }
            string(&|s| s.replace(&from, &to))?
        }
        "split" => {
            let (by, s) = (known(one()?)?, known(arg(1)?)?);
            if s.is_empty() { strings([]) } else { strings(s.split(by.as_str()).map(str::to_string)) }
        }
        "join" => {
            let by = text(one()?)?;
            let parts: Option<Vec<String>> =
                args[1..].iter().map(list).collect::<Option<Vec<_>>>()?.concat().iter().map(text).collect();
            Value::string(parts?.join(&by))
        }
        "substr" => {
            let (s, from, n) = (known(one()?)?, integer(arg(1)?)?, integer(arg(2)?)?);
            let chars: Vec<char> = s.chars().collect();
            let len = i64::try_from(chars.len()).ok()?;
            let from = if from < 0 { from + len } else { from }.clamp(0, len);
            let end = if n < 0 { len } else { from.saturating_add(n).min(len) };
            let (from, end) = (usize::try_from(from).ok()?, usize::try_from(end).ok()?);
            Value::string(chars[from..end].iter().collect::<String>())
        }
        "startswith" => Kind::Bool(known(one()?)?.starts_with(&known(arg(1)?)?)).into(),
        "endswith" => Kind::Bool(known(one()?)?.ends_with(&known(arg(1)?)?)).into(),
        "strcontains" => Kind::Bool(known(one()?)?.contains(&known(arg(1)?)?)).into(),
        "title" => string(&|s| {
            let mut start = true;
            s.chars()
                .map(|c| {
                    let upper = std::mem::replace(&mut start, !c.is_alphanumeric());
                    if upper { c.to_ascii_uppercase() } else { c }
                })
                .collect()
        })?,
        "format" => Value::string(format(&known(one()?)?, &args[1..])?),
        "formatlist" => {
            let n = args[1..].iter().filter_map(list).map(<[Value]>::len).max()?;
            let line = |i: usize| {
                let row: Option<Vec<Value>> = args[1..]
                    .iter()
                    .map(|a| list(a).map_or_else(|| Some(a.clone()), |items| items.get(i).cloned()))
                    .collect();
                format(&known(one()?)?, &row?)
            };
            strings((0..n).map(line).collect::<Option<Vec<_>>>()?)
        }
        "indent" => {
            let pad = " ".repeat(usize::try_from(integer(one()?)?).ok()?.min(1000));
            Value::string(text(arg(1)?)?.replace('\n', &format!("\n{pad}")))
        }
        "urlencode" => Value::string(druse_aws::encoding::encode(&known(one()?)?, false).replace("%20", "+")),
        "base64encode" => Value::string(STANDARD.encode(known(one()?)?)),
        "base64decode" => Value::string(String::from_utf8(STANDARD.decode(known(one()?)?).ok()?).ok()?),
        // Collections
        "length" => match &one()?.kind {
            Kind::List(items) => count(items.len()),
            Kind::Map(m) => count(m.len()),
            _ => count(known(one()?)?.chars().count()),
        },
        "keys" => strings(map(one()?)?.keys().cloned()),
        "values" => Kind::List(map(one()?)?.values().cloned().collect()).into(),
        "lookup" => match (map(one()?)?.get(&known(arg(1)?)?), arg(2)) {
            (Some(v), _) => v.clone(),
            (None, default) => default?.clone(),
        },
        "element" => {
            let items = list(one()?)?;
            let n = integer(arg(1)?)?.rem_euclid(i64::try_from(items.len()).ok().filter(|n| *n > 0)?);
            items.get(usize::try_from(n).ok()?)?.clone()
        }
        "index" => {
            let wanted = arg(1)?.plain();
            count(list(one()?)?.iter().position(|v| v.plain() == wanted)?)
        }
        "contains" => {
            let (items, wanted) = (list(one()?)?, arg(1)?);
            let found = items.iter().any(|v| v.plain() == wanted.plain());
            let sure = wanted.is_whole() && items.iter().all(Value::is_whole);
            (sure || found).then_some(Kind::Bool(found))?.into()
        }
        "merge" => {
            let mut all = BTreeMap::new();
            for a in args.iter().filter(|a| !a.is_null()) {
                all.extend(map(a)?.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
            Kind::Map(all).into()
        }
        "concat" => Kind::List(args.iter().map(list).collect::<Option<Vec<_>>>()?.concat()).into(),
        "flatten" => {
            let mut out = Vec::new();
            flatten(one()?, &mut out)?;
            Kind::List(out).into()
        }
        "distinct" => Kind::List(distinct(list(one()?)?)).into(),
        "toset" => {
            let mut items = distinct(list(one()?)?);
            if items.iter().all(Value::is_whole) {
                items.sort_by_key(|v| v.text().unwrap_or_default());
            }
            Kind::List(items).into()
        }
        "tolist" => Kind::List(list(one()?)?.to_vec()).into(),
        "tomap" => Kind::Map(map(one()?)?.clone()).into(),
        "tostring" => Value::string(text(one()?)?),
        "tonumber" => Kind::Number(one()?.number()?).into(),
        "tobool" => Kind::Bool(one()?.bool()?).into(),
        "compact" => {
            let filled = |v: &&Value| !v.is_null() && v.text().is_some_and(|t| !t.is_empty());
            Kind::List(list(one()?)?.iter().filter(filled).cloned().collect()).into()
        }
        "coalesce" => args.iter().find(|v| !v.is_null() && v.text().is_none_or(|t| !t.is_empty()))?.clone(),
        "coalescelist" => args.iter().find(|v| list(v).is_some_and(|l| !l.is_empty()))?.clone(),
        "one" => match list(one()?)? {
            [] => Value::null(),
            [v] => v.clone(),
            _ => return None,
        },
        "reverse" => Kind::List(list(one()?)?.iter().rev().cloned().collect()).into(),
        "sort" => {
            let mut items: Vec<String> = list(one()?)?.iter().map(known).collect::<Option<_>>()?;
            items.sort();
            strings(items)
        }
        "slice" => {
            let (from, to) = (usize::try_from(integer(arg(1)?)?).ok()?, usize::try_from(integer(arg(2)?)?).ok()?);
            Kind::List(list(one()?)?.get(from..to)?.to_vec()).into()
        }
        "range" => {
            let (from, to) = match args {
                [to] => (0, integer(to)?),
                [from, to] => (integer(from)?, integer(to)?),
                _ => return None,
            };
            let numbers = (from..to).take(10_000).map(|n| i32::try_from(n).map(f64::from).ok());
            Kind::List(numbers.map(|n| n.map(|n| Kind::Number(n).into())).collect::<Option<_>>()?).into()
        }
        "zipmap" => {
            let keys: Vec<String> = list(one()?)?.iter().map(text).collect::<Option<_>>()?;
            Kind::Map(keys.into_iter().zip(list(arg(1)?)?.iter().cloned()).collect()).into()
        }
        "setunion" => Kind::List(distinct(&args.iter().map(list).collect::<Option<Vec<_>>>()?.concat())).into(),
        "setproduct" => {
            let mut rows: Vec<Vec<Value>> = vec![Vec::new()];
            for a in args {
                let items = list(a)?;
                if rows.len().saturating_mul(items.len()) > 10_000 {
                    return None;
                }
                let with = |row: &Vec<Value>, v: &Value| row.iter().cloned().chain([v.clone()]).collect::<Vec<_>>();
                rows = rows.iter().flat_map(|row| items.iter().map(move |v| with(row, v))).collect();
            }
            Kind::List(rows.into_iter().map(|r| Kind::List(r).into()).collect()).into()
        }
        "max" | "min" => {
            let numbers: Vec<f64> = args.iter().map(Value::number).collect::<Option<_>>()?;
            let pick = if name == "max" { f64::max } else { f64::min };
            Kind::Number(numbers.into_iter().reduce(pick)?).into()
        }
        "sensitive" | "nonsensitive" => one()?.clone(),
        // Encodings and files
        "jsonencode" => {
            let value = one()?;
            let mut v = Value::string(json::to_string(&value.plain()));
            v.encodes = Some(std::sync::Arc::new(value.clone()));
            v
        }
        "jsondecode" => match &one()?.encodes {
            Some(v) => (**v).clone(),
            None => Value::from_plain(&json::parse(known(one()?)?.as_bytes()).ok()?, one()?.place.as_ref()),
        },
        "yamldecode" => json_or_yaml(&known(one()?)?, true, one()?.place.as_ref()),
        "yamlencode" => Value::string(yaml::to_string(&one()?.plain())),
        "file" | "fileexists" | "templatefile" | "filebase64" => file(env, name, args)?,
        "basename" => Value::string(known(one()?)?.rsplit('/').next()?),
        "dirname" => Value::string(known(one()?)?.rsplit_once('/').map_or(".", |(d, _)| d)),
        _ => return None,
    })
}

fn file(env: &Env<'_, '_>, name: &str, args: &[Value]) -> Option<Value> {
    // Paths are relative to where Terraform runs, which is the root module's folder; `path.module` and `path.root`
    // are given from the tree's root, so a path that exists from there is taken as such.
    let given = known(args.first()?)?;
    let scope = env.scope;
    let from_root = join("", &given).filter(|p| scope.tree.kind(p).is_some());
    let path = from_root.or_else(|| join(&scope.root, &given))?;
    if name == "fileexists" {
        return Some(Kind::Bool(scope.tree.kind(&path).is_some()).into());
    }
    let text = read(scope.tree, &path)?;
    let info = std::rc::Rc::new(FileInfo::new(&path, &text));
    let place = info.place(Some(0..0));
    match name {
        "file" => Some(Value::string(text).at(place)),
        "filebase64" => Some(Value::string(STANDARD.encode(text)).at(place)),
        _ => {
            if crate::load::is_too_deep(&text) {
                return None;
            }
            let template = hcl_edit::parser::parse_template(&text).ok()?;
            let mut inner = Env::new(scope, &info);
            for (k, v) in map(args.get(1)?)? {
                inner = inner.with(k, v.clone());
            }
            Some(crate::template::template_text(&inner, &template).at(place))
        }
    }
}

/// A value from JSON or YAML text.
pub(crate) fn json_or_yaml(text: &str, is_yaml: bool, place: Option<&Place>) -> Value {
    let parsed = if is_yaml { yaml::parse_strict(text).ok() } else { json::parse(text.as_bytes()).ok() };
    parsed.map_or_else(|| Value::unknown("this text cannot be decoded"), |v| Value::from_plain(&v, place))
}

fn flatten(v: &Value, out: &mut Vec<Value>) -> Option<()> {
    match &v.kind {
        Kind::List(items) => items.iter().try_for_each(|i| flatten(i, out)),
        Kind::Unknown(_) => None,
        _ => {
            out.push(v.clone());
            Some(())
        }
    }
}

fn distinct(items: &[Value]) -> Vec<Value> {
    let mut seen = std::collections::BTreeSet::new();
    // A hole may be anything: two of them are not taken for one.
    items.iter().filter(|v| !v.is_whole() || seen.insert(json::to_string_sorted(&v.plain()))).cloned().collect()
}

/// `format`, for the verbs that configurations use.
fn format(spec: &str, args: &[Value]) -> Option<String> {
    let mut out = String::new();
    let mut next = args.iter();
    let mut chars = spec.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut flags = String::new();
        let verb = loop {
            match chars.next()? {
                c if c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | ' ') => flags.push(c),
                c => break c,
            }
        };
        let v = next.next()?;
        let shown = match verb {
            's' => text(v)?,
            'v' => text(v).unwrap_or_else(|| json::to_string(&v.plain())),
            'q' => format!("{:?}", text(v)?),
            'd' => number(v.number()?.trunc()),
            't' => v.bool()?.to_string(),
            'f' => {
                let digits = flags.split_once('.').and_then(|(_, d)| d.parse().ok()).unwrap_or(6usize).min(50);
                format!("{:.digits$}", v.number()?)
            }
            _ => return None,
        };
        let width = flags.split('.').next().unwrap_or_default();
        let zero = width.starts_with('0') && verb != 's';
        let left = width.starts_with('-');
        let n: usize = width.trim_matches(['-', '+', ' ']).parse().unwrap_or(0).min(1000);
        let pad = n.saturating_sub(shown.chars().count());
        match (left, zero) {
            (true, _) => out.push_str(&format!("{shown}{}", " ".repeat(pad))),
            (false, true) => out.push_str(&format!("{}{shown}", "0".repeat(pad))),
            (false, false) => out.push_str(&format!("{}{shown}", " ".repeat(pad))),
        }
    }
    Some(out)
}
