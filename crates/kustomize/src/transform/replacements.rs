//! `replacements`: a value copied from one field to others.

use druse_object::{Map, Value, yaml};
use regex::Regex;

use crate::error::{Result, fail, go_quote};
use crate::fieldspec::{smart_split, wrong_kind};
use crate::generators::go_json;
use crate::ids::{ResId, text};
use crate::kustomization::{FieldOptions, ReplacementField, Source, Target};
use crate::resource::{Resource, Resources};
use crate::scalar;
use crate::selector::Matcher;

const DEFAULT_PATH: &str = "metadata.name";

/// What a missing field is made as.
#[derive(Clone, Copy, PartialEq)]
enum Create {
    No,
    Scalar,
    Map,
    List,
}

impl Create {
    fn like(value: &Value) -> Self {
        match value {
            Value::Map(_) => Self::Map,
            Value::Array(_) => Self::List,
            _ => Self::Scalar,
        }
    }

    /// What a field is made as when `next` follows it in the path.
    fn before(self, next: Option<&String>) -> Value {
        match next {
            Some(part) if is_list_index(part) || part.parse::<usize>().is_ok() => Value::Array(Vec::new()),
            Some(part) if !part.is_empty() => Value::Map(Map::new()),
            _ => match self {
                Self::Map => Value::Map(Map::new()),
                Self::List => Value::Array(Vec::new()),
                _ => Value::Null,
            },
        }
    }
}

fn is_list_index(part: &str) -> bool {
    part.starts_with('[') && part.ends_with(']')
}

fn name_value(part: &str) -> Result<(&str, &str)> {
    part.trim_start_matches('[')
        .trim_end_matches(']')
        .split_once('=')
        .ok_or_else(|| fail!("list path element must contain fieldName=fieldValue for element to match"))
}

pub(crate) fn apply(resources: &mut Resources, list: &[ReplacementField]) -> Result<()> {
    for replacement in list {
        let (None, None) = (&replacement.source_value, &replacement.source) else {
            let Some(targets) = &replacement.targets else {
                return Err(fail!("replacements must specify a source and at least one target"));
            };
            let value = read(resources, replacement)?;
            for target in targets {
                write(resources, &value, target)?;
            }
            continue;
        };
        return Err(fail!("replacements must specify a source and at least one target"));
    }
    Ok(())
}

fn read(resources: &Resources, replacement: &ReplacementField) -> Result<Value> {
    let source = match (&replacement.source_value, &replacement.source) {
        (Some(_), Some(_)) => return Err(fail!("value and resource selectors are mutually exclusive")),
        (Some(value), None) => return Ok(Value::from(value.as_str())),
        (None, Some(source)) => source,
        (None, None) => return Err(fail!("replacements must specify a source and at least one target")),
    };
    let from = select(resources, source)?;
    let path = if source.field_path.is_empty() { DEFAULT_PATH } else { &source.field_path };
    let found = lookup(&from.value, &smart_split(path))
        .map_err(|e| e.wrap("error looking up replacement source"))?
        .filter(|v| match v {
            Value::Null => false,
            Value::Map(m) => !m.is_empty(),
            Value::Array(a) => !a.is_empty(),
            _ => true,
        });
    let Some(value) = found else {
        return Err(fail!("fieldPath `{path}` is missing for replacement source {}", source_id(source)));
    };
    let Some(options) = source.options.as_ref().filter(|o| !o.delimiter.is_empty()) else {
        return Ok(value.clone());
    };
    if Create::like(value) != Create::Scalar {
        return Err(fail!("delimiter option can only be used with scalar nodes"));
    }
    let whole = text(value);
    let part = usize::try_from(options.index).ok().and_then(|i| whole.split(options.delimiter.as_str()).nth(i));
    part.map(Value::from).ok_or_else(|| fail!("options.index {} is out of bounds for value {whole}", options.index))
}

fn source_id(source: &Source) -> ResId {
    ResId {
        gvk: source.gvk(),
        name: source.name.as_str().into(),
        namespace: source.namespace.as_str().into(),
        cluster: false,
    }
}

fn shown(source: &Source) -> String {
    let mut out = source_id(source).to_string();
    if !source.field_path.is_empty() {
        out.push(':');
        out.push_str(&source.field_path);
    }
    if let Some(o) = source.options.as_ref().filter(|o| !o.delimiter.is_empty() || o.create) {
        out.push_str(&format!(":{}({}), create={}", o.delimiter, o.index, o.create));
    }
    out
}

fn select<'a>(resources: &'a Resources, source: &Source) -> Result<&'a Resource> {
    let wanted = source_id(source);
    let mut found = resources.iter().filter(|r| {
        r.matches_any_id(&|id| {
            (wanted.name.is_empty() || wanted.name == id.name)
                && (wanted.namespace.is_empty() || wanted.effective_namespace() == id.effective_namespace())
                && id.gvk.is_selected(&wanted.gvk)
        })
    });
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(fail!("nothing selected by {}", shown(source))
            .help("the source of a replacement must be among the objects of this kustomization")),
        _ => Err(fail!("multiple matches for selector {}", shown(source))),
    }
}

/// The value at a path; `None` when there is none.
pub(super) fn lookup<'a>(value: &'a Value, path: &[String]) -> Result<Option<&'a Value>> {
    let mut at = value;
    for part in path.iter().map(|p| p.trim()).filter(|p| !p.is_empty()) {
        if at.is_null() {
            return Ok(None);
        }
        let next = if let Ok(index) = part.parse::<i64>() {
            let Value::Array(items) = at else { return Err(wrong_kind("SequenceNode", at)) };
            let index = usize::try_from(index).map_err(|_| fail!("array index {part} cannot be negative"))?;
            items.get(index)
        } else if part == "-" {
            let Value::Array(items) = at else { return Err(wrong_kind("SequenceNode", at)) };
            items.last()
        } else if part == "*" {
            return Err(fail!("wildcard is not supported in PathGetter"));
        } else if is_list_index(part) {
            let (name, wanted) = name_value(part)?;
            let Value::Array(items) = at else { return Err(wrong_kind("SequenceNode", at)) };
            items.iter().find(|item| match name {
                "" => text(item) == wanted,
                name => item.get(name).is_some_and(|v| text(v) == wanted),
            })
        } else {
            let Value::Map(map) = at else { return Err(wrong_kind("MappingNode", at)) };
            map.get(part)
        };
        match next {
            Some(v) => at = v,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn lookup_mut<'a>(value: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    let mut at = value;
    for part in path.iter().map(|p| p.trim()).filter(|p| !p.is_empty()) {
        at = match at {
            Value::Map(map) => map.get_mut(part)?,
            Value::Array(items) => {
                if let Ok(index) = part.parse::<usize>() {
                    items.get_mut(index)?
                } else if part == "-" {
                    items.last_mut()?
                } else {
                    let (name, wanted) = name_value(part).ok()?;
                    items.iter_mut().find(|item| match name {
                        "" => text(item) == wanted,
                        name => item.get(name).is_some_and(|v| text(v) == wanted),
                    })?
                }
            }
            _ => return None,
        };
    }
    Some(at)
}

fn write(resources: &mut Resources, value: &Value, target: &Target) -> Result<()> {
    let Some(selector) = &target.select else { return Err(fail!("target must specify resources to select")) };
    let select = Matcher::new(selector).map_err(|e| e.wrap("error creating target selector"))?;
    let mut rejects = Vec::new();
    for reject in &target.reject {
        let matcher = Matcher::new(reject).map_err(|e| e.wrap("error creating target selector"))?;
        let by_metadata = !reject.label_selector.is_empty() || !reject.annotation_selector.is_empty();
        let by_id = [&reject.group, &reject.version, &reject.kind, &reject.name, &reject.namespace]
            .iter()
            .any(|s| !s.is_empty());
        rejects.push((matcher, by_metadata, by_id));
    }
    let default_paths = [DEFAULT_PATH.to_string()];
    let paths = if target.field_paths.is_empty() { &default_paths[..] } else { &target.field_paths[..] };
    for resource in resources.list_mut() {
        if !select.metadata(&resource.value)
            || rejects.iter().any(|(m, by_metadata, _)| *by_metadata && m.metadata(&resource.value))
        {
            continue;
        }
        let is = |m: &Matcher| {
            resource.matches_any_id(&|id| m.gvk(&id.gvk) && m.name(&id.name) && m.namespace(&id.namespace))
        };
        if rejects.iter().any(|(m, _, by_id)| *by_id && is(m)) || !is(&select) {
            continue;
        }
        for path in paths {
            write_field(&mut resource.value, value, path, target.options.as_ref())
                .map_err(|e| e.at(resource.provenance.file.as_deref().unwrap_or_default(), resource.provenance.line))?;
        }
    }
    Ok(())
}

fn write_field(object: &mut Value, value: &Value, path: &str, options: Option<&FieldOptions>) -> Result<()> {
    let create = if options.is_some_and(|o| o.create) { Create::like(value) } else { Create::No };
    let parts = smart_split(path);
    if write_inside_text(object, value, &parts, create).is_some() {
        return Ok(());
    }
    let unable = || {
        let verb = if create == Create::No { "find" } else { "find or create" };
        format!("unable to {verb} field {} in replacement target", go_quote(path))
    };
    let found = visit(object, &parts, create, &mut |field, fresh| set(options, field, fresh, value))
        .map_err(|e| if e.message.starts_with('\u{0}') { strip(e) } else { e.wrap(unable()) })?;
    if found == 0 { Err(fail!("{}", unable())) } else { Ok(()) }
}

/// Errors of setting are told from errors of finding by a mark that never leaves this file.
fn mark(mut e: crate::KustomizeError) -> crate::KustomizeError {
    e.message.insert(0, '\u{0}');
    e
}

fn strip(mut e: crate::KustomizeError) -> crate::KustomizeError {
    e.message.remove(0);
    e
}

/// Sets a found field. A scalar keeps its type unless it was just made.
fn set(options: Option<&FieldOptions>, field: &mut Value, fresh: bool, value: &Value) -> Result<()> {
    let is_scalar = Create::like(field) == Create::Scalar;
    let mut new = value.clone();
    if let Some(options) = options.filter(|o| !o.delimiter.is_empty()) {
        if !is_scalar {
            return Err(mark(fail!("delimiter option can only be used with scalar nodes")));
        }
        let old = text(field);
        let mut parts: Vec<String> = old.split(options.delimiter.as_str()).map(str::to_string).collect();
        let word = text(value).to_string();
        match usize::try_from(options.index) {
            Err(_) => parts.insert(0, word),
            Ok(i) => match parts.get_mut(i) {
                Some(part) => *part = word,
                None => parts.push(word),
            },
        }
        new = Value::from(parts.join(&options.delimiter));
    }
    *field = match (is_scalar, fresh) {
        (true, _) if Create::like(&new) != Create::Scalar => scalar::retype(field, "").unwrap_or_default(),
        (true, true) => scalar::resolve(&text(&new)),
        (true, false) => scalar::retype(field, &text(&new)).map_err(mark)?,
        (false, _) => new,
    };
    Ok(())
}

/// Calls `set` on every field at a path and counts them. `[name=value]` finds items by a regular expression, `*` all.
fn visit(
    value: &mut Value,
    path: &[String],
    create: Create,
    set: &mut dyn FnMut(&mut Value, bool) -> Result<()>,
) -> Result<usize> {
    visit_at(value, path, create, false, set)
}

fn visit_at(
    value: &mut Value,
    path: &[String],
    create: Create,
    fresh: bool,
    set: &mut dyn FnMut(&mut Value, bool) -> Result<()>,
) -> Result<usize> {
    let Some((part, rest)) = path.split_first() else {
        set(value, fresh)?;
        return Ok(1);
    };
    if let Ok(index) = part.parse::<usize>() {
        let items = list_of(value)?;
        let fresh = items.len() == index && create != Create::No;
        if fresh {
            items.push(create.before(rest.first()));
        }
        let length = items.len();
        return match items.get_mut(index) {
            Some(item) => visit_at(item, rest, create, fresh, set),
            None => Err(fail!("index {index} specified but only {length} elements found")),
        };
    }
    if is_list_index(part) {
        return visit_items(value, part, rest, create, set);
    }
    if part == "*" {
        let mut found = 0;
        for item in list_of(value)? {
            found += visit_at(item, rest, create, false, set)?;
        }
        return Ok(found);
    }
    if value.is_null() && create != Create::No {
        *value = Value::Map(Map::new());
    }
    let map = match value {
        Value::Map(map) => map,
        Value::Null => return Ok(0),
        other => return Err(wrong_kind("MappingNode", other)),
    };
    let fresh = !map.contains_key(part);
    if fresh {
        if create == Create::No {
            return Ok(0);
        }
        map.insert(part.as_str(), create.before(rest.first()));
    }
    let field = map.entry_or_null(part);
    if !fresh && !rest.is_empty() && Create::like(field) == Create::Scalar && !field.is_null() {
        // A text with structure inside was tried before; what is found in it now would be lost.
        return Err(wrong_kind("MappingNode", field));
    }
    visit_at(field, rest, create, fresh, set)
}

fn list_of(value: &mut Value) -> Result<&mut Vec<Value>> {
    if value.is_null() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(items) => Ok(items),
        other => Err(wrong_kind("SequenceNode", other)),
    }
}

fn visit_items(
    value: &mut Value,
    part: &str,
    rest: &[String],
    create: Create,
    set: &mut dyn FnMut(&mut Value, bool) -> Result<()>,
) -> Result<usize> {
    let (name, pattern) = name_value(part)?;
    let regex = Regex::new(pattern).map_err(|_| fail!("error parsing regexp: invalid pattern: `{pattern}`"))?;
    if value.is_null() && create == Create::No {
        return Ok(0);
    }
    let items = list_of(value)?;
    let matches = |item: &Value| match name {
        "" => regex.is_match(&text(item)),
        name => item.get(name).is_some_and(|v| regex.is_match(&text(v))),
    };
    if create != Create::No && !items.iter().any(&matches) {
        items.push(match name {
            "" => scalar::resolve(pattern),
            name => Value::Map([(name, scalar::resolve(pattern))].into_iter().collect()),
        });
    }
    let mut found = 0;
    for item in items.iter_mut().filter(|i| matches(i)) {
        found += match name {
            "" => {
                set(item, false)?;
                1
            }
            _ => visit_at(item, rest, create, false, set)?,
        };
    }
    Ok(found)
}

/// Writes into JSON or YAML held by a text field on the path; `None` when the path leads into no such text.
fn write_inside_text(object: &mut Value, value: &Value, path: &[String], create: Create) -> Option<()> {
    let split = (1..path.len()).find(|i| {
        let head = path.get(..*i).unwrap_or_default();
        matches!(lookup(object, head), Ok(Some(v)) if Create::like(v) == Create::Scalar && !v.is_null())
    })?;
    let (head, tail) = path.split_at(split);
    let field = lookup_mut(object, head)?;
    let old = text(field);
    let mut inner = yaml::parse(&old, yaml::Dialect::Kyaml).ok()?;
    let found = visit(&mut inner, tail, create, &mut |field, fresh| {
        *field = match (Create::like(field) == Create::Scalar, fresh) {
            (true, true) => scalar::resolve(&text(value)),
            (true, false) => scalar::retype(field, &text(value))?,
            (false, _) => value.clone(),
        };
        Ok(())
    })
    .ok()?;
    if found == 0 {
        return None;
    }
    let new = if old.trim_start().starts_with(['{', '[']) {
        inner.sort_keys();
        if old.contains('\n') && old.contains("  ") { pretty(&inner) } else { go_json(&inner) }
    } else {
        yaml::to_string_ordered(&inner).trim().to_string()
    };
    *field = Value::from(new);
    Some(())
}

/// Indented JSON as Go writes it.
fn pretty(value: &Value) -> String {
    let plain = serde_json::to_string_pretty(value).unwrap_or_default();
    plain.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
