//! Tables: objects as rows for people, with the columns kubectl shows.
//!
//! Columns of built-in kinds are data (`data/columns.tsv`, written by `xtask api-columns` from the upstream printers);
//! what stands in their cells is in [`cells`]. Custom kinds bring their own columns; everything else has name and age.

mod cells;
mod columns;
mod path;
mod pods;
mod time;

use druse_object::{Map, Value};

use crate::negotiate::MetaVersion;
use crate::registry::{PrinterColumn, Resource};
use crate::response::{Include, View, metadata_only};

/// A column as it is sent.
fn definition(c: &PrinterColumn) -> Value {
    let mut m = Map::new();
    m.insert("name", c.name.clone());
    m.insert("type", c.kind.clone());
    m.insert("format", c.format.clone());
    m.insert("description", c.description.clone());
    m.insert("priority", c.priority);
    Value::Map(m)
}

/// Objects (in the version asked for) as a table, as a view wants it. `list` is a list's metadata; without it a single
/// object's resource version is shown. Later parts of a watch leave the columns out.
#[must_use]
pub fn of(view: &View, objects: &[Value], list: Option<Map>, with_columns: bool) -> Value {
    let (resource, version, meta_version) = (&*view.resource, view.version.as_str(), view.accepted.meta);
    let columns = columns::of(resource, version);
    let meta = list.unwrap_or_else(|| {
        let mut m = Map::new();
        if let Some(rv) = objects.first().and_then(|o| o.at(["metadata", "resourceVersion"])) {
            m.insert("resourceVersion", rv.clone());
        }
        m
    });
    let rows: Vec<Value> = in_order(resource, objects)
        .into_iter()
        .map(|o| {
            let mut row = Map::new();
            // Cells are made of the version that says most.
            let core = match resource.group.as_str() {
                "events.k8s.io" => Some(crate::convert::core_event(o.clone())),
                "autoscaling" if o.str_at(["apiVersion"]) == Some("autoscaling/v1") => {
                    Some(crate::convert::second_autoscaler(o.clone()))
                }
                _ => None,
            };
            row.insert("cells", cells::row(resource, &columns, core.as_ref().unwrap_or(o)));
            if resource.stored_as == "pods"
                && let Some(done) = completed(o)
            {
                row.insert("conditions", Value::Array(vec![done]));
            }
            match view.include {
                Include::None => row.insert("object", Value::Null),
                Include::Metadata => row.insert("object", metadata_only(&shown(resource, o), meta_version)),
                Include::Object if resource.stored_as == crate::autoscalers::STORED => {
                    let told = view.version.as_str();
                    let older = o.str_at(["apiVersion"]) == Some("autoscaling/v1");
                    let whole = (!older).then(|| crate::convert::to_version(&view.shared, o.clone(), resource, told));
                    row.insert("object", whole.and_then(Result::ok).unwrap_or_else(|| o.clone()))
                }
                Include::Object => row.insert("object", o.clone()),
            };
            Value::Map(row)
        })
        .collect();
    let mut m = table(meta, meta_version);
    let definitions = if with_columns { columns.iter().map(definition).collect() } else { Value::Null };
    m.insert("columnDefinitions", definitions);
    m.insert("rows", rows);
    Value::Map(m)
}

/// Objects in the order of their rows: flow schemas in the order in which they are tried, all others as they come.
fn in_order<'a>(resource: &Resource, objects: &'a [Value]) -> Vec<&'a Value> {
    let mut rows: Vec<&Value> = objects.iter().collect();
    if resource.stored_as == "flowschemas.flowcontrol.apiserver.k8s.io" {
        let precedence = |o: &Value| o.at(["spec", "matchingPrecedence"]).and_then(Value::as_i64).unwrap_or(0);
        rows.sort_by_key(|o| (precedence(o), o.str_at(["metadata", "name"]).unwrap_or_default()));
    }
    rows
}

/// The object as rows show it: tables are made of internal types, where a daemon set's counter of template changes and
/// what an older autoscaler cannot say are no annotations.
pub(crate) fn shown<'a>(resource: &Resource, o: &'a Value) -> std::borrow::Cow<'a, Value> {
    let mut out = std::borrow::Cow::Borrowed(o);
    let own: &[&str] = match resource.stored_as.as_str() {
        "daemonsets.apps" => &["deprecated.daemonset.template.generation"],
        "horizontalpodautoscalers.autoscaling" => &crate::autoscalers::KEPT,
        _ => &[],
    };
    if !own.is_empty()
        && o.at(["metadata", "annotations"]).is_some()
        && let Some(meta) = out.to_mut().make_map_at(["metadata"])
        && let Some(Value::Map(notes)) = meta.get_mut("annotations")
    {
        own.iter().for_each(|note| drop(notes.remove(note)));
        if notes.is_empty() {
            meta.remove("annotations");
        }
    }
    out
}

/// The row condition of a pod that has ended: kubectl leaves such rows out of some lists.
fn completed(pod: &Value) -> Option<Value> {
    let phase = pod.str_at(["status", "phase"])?;
    let message = match phase {
        "Succeeded" => "The pod has completed successfully.",
        "Failed" => "The pod failed.",
        _ => return None,
    };
    let mut m = Map::new();
    m.insert("type", "Completed");
    m.insert("status", "True");
    m.insert("reason", phase);
    m.insert("message", message);
    Some(Value::Map(m))
}

fn table(meta: Map, version: MetaVersion) -> Map {
    let mut m = Map::new();
    m.insert("kind", "Table");
    m.insert("apiVersion", version.api_version());
    m.insert("metadata", meta);
    m
}

/// A watch's bookmark as a table.
#[must_use]
pub fn bookmark(meta: Map, version: MetaVersion) -> Value {
    let mut m = table(meta, version);
    m.insert("columnDefinitions", Value::Null);
    m.insert("rows", Value::Array(Vec::new()));
    Value::Map(m)
}
