//! Stages: rules, written as data, that move a simulated object to its next state.
//!
//! A stage names a kind, conditions on the object's fields, and a Go template of what to merge into it. The first stage
//! of a kind whose conditions all hold is applied; the change makes the next one hold, until none does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use druse_gotemplate::{FuncMap, Host, Options, TemplateSet, Val};
use druse_object::{Gvk, Map, Value, yaml};
use druse_runtime::{Api, Cache, Caches, DeleteOptions, Key, Manager, Next, Patch, Reconciler, Resource, clock};
use serde::Deserialize;
use tracing::debug;

use crate::Hold;

/// A rule that moves objects of one kind to their next state.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Stage {
    /// Names the rule in messages.
    pub name: String,
    /// API version and kind it is for.
    #[serde(rename = "for")]
    pub target: Target,
    /// All must hold.
    #[serde(default)]
    pub when: Vec<Condition>,
    /// Whether it waits while the simulated cluster's [`Hold`](crate::Hold) holds the object.
    #[serde(default)]
    pub held: bool,
    /// How long the object stays in this state, in milliseconds of simulated work.
    #[serde(default)]
    pub delay_ms: u64,
    /// What happens.
    pub then: Then,
}

/// The kind a stage is for.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    /// `v1`, `apps/v1`
    pub api_version: String,
    /// `Pod`
    pub kind: String,
    /// The path segment it is served under (`pods`).
    pub plural: String,
    /// Whether it lives in namespaces.
    #[serde(default = "yes")]
    pub namespaced: bool,
}

fn yes() -> bool {
    true
}

/// A condition on a field. With neither `is` nor `not` the field must be there.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Dotted path; `status.conditions[Ready]` picks a list's item by its `type`.
    pub path: String,
    /// Must be one of these; `null` stands for absent.
    #[serde(default)]
    pub is: Option<Vec<Value>>,
    /// Must be none of these; `null` stands for absent.
    #[serde(default)]
    pub not: Option<Vec<Value>>,
}

/// What a stage does. Templates see the object as `.`, and `now`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Then {
    /// Merged into the status; a Go template of YAML.
    #[serde(default)]
    pub status: Option<String>,
    /// Merged into the object outside its status; a Go template of YAML.
    #[serde(default)]
    pub object: Option<String>,
    /// Deletes the object at once.
    #[serde(default)]
    pub delete: bool,
}

/// A stage that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("stage {stage}: {message}")]
pub struct StageError {
    /// Its name, or the file's.
    pub stage: String,
    /// What is wrong.
    pub message: String,
}

/// Reads stages from YAML: one list a document.
///
/// # Errors
/// When the text is not a list of stages; the error names `file`.
pub fn parse(file: &str, text: &str) -> Result<Vec<Stage>, StageError> {
    let failed = |message: String| StageError { stage: file.to_owned(), message };
    let mut stages = Vec::new();
    for document in yaml::documents(text, yaml::Dialect::Sigs) {
        let document = document.map_err(|e| failed(e.to_string()))?;
        let list: Vec<Stage> = document.value.to_typed().map_err(|e| failed(e.to_string()))?;
        stages.extend(list);
    }
    Ok(stages)
}

/// The stages every simulated cluster has.
pub(crate) fn builtin() -> Result<Vec<Stage>, StageError> {
    parse("data/stages.yaml", include_str!("../data/stages.yaml"))
}

impl Condition {
    /// Whether it holds for the object.
    #[must_use]
    pub fn holds(&self, object: &Value) -> bool {
        let found = look_up(object, &self.path);
        let among = |list: &[Value]| list.contains(found);
        match (&self.is, &self.not) {
            (None, None) => !found.is_null(),
            (is, not) => is.as_deref().is_none_or(among) && !not.as_deref().is_some_and(among),
        }
    }
}

/// The value at a dotted path, null when absent. `name[Key]` picks the list item whose `type` (or `name`) is `Key`.
fn look_up<'a>(object: &'a Value, path: &str) -> &'a Value {
    const NULL: &Value = &Value::Null;
    let mut v = object;
    for part in path.split('.') {
        let (field, item) = match part.split_once('[') {
            Some((field, rest)) => (field, Some(rest.trim_end_matches(']'))),
            None => (part, None),
        };
        v = &v[field];
        if let Some(item) = item {
            v = v
                .items()
                .iter()
                .find(|i| i["type"].as_str() == Some(item) || i["name"].as_str() == Some(item))
                .unwrap_or(NULL);
        }
    }
    v
}

struct Compiled {
    stage: Stage,
    status: Option<Template>,
    object: Option<Template>,
}

struct Template {
    set: Arc<TemplateSet>,
    name: String,
}

impl Template {
    fn parse(name: &str, text: &str) -> Result<Self, StageError> {
        let mut set = TemplateSet::new(&FuncMap::go().with(druse_gotemplate::funcs::helm_funcs()));
        set.parse(name, text).map_err(|e| StageError { stage: name.to_owned(), message: e.to_string() })?;
        Ok(Self { set: Arc::new(set), name: name.to_owned() })
    }

    fn run(&self, object: &Value) -> Result<Value, StageError> {
        let failed = |message: String| StageError { stage: self.name.clone(), message };
        let text = self
            .set
            .execute(&self.name, Val::from_value_with_ints(object), &Clock, Options::default())
            .map_err(|e| failed(e.to_string()))?;
        yaml::parse(&text, yaml::Dialect::Sigs).map_err(|e| failed(format!("its output is not YAML: {e}")))
    }
}

/// Templates of stages may ask the time, nothing else.
struct Clock;
impl Host for Clock {
    fn random(&self, _: &str, _: &str, count: u32, out: &mut [u8]) {
        for (i, b) in out.iter_mut().enumerate() {
            *b = (count as usize).wrapping_mul(31).wrapping_add(i).to_le_bytes()[0];
        }
    }
    fn now_unix_nanos(&self) -> i128 {
        clock::unix_nanos()
    }
    fn lookup(&self, _: &str, _: &str, _: &str, _: &str) -> Result<Value, String> {
        Ok(Value::Map(Map::new()))
    }
    fn resolve_host(&self, _: &str) -> String {
        String::new()
    }
}

struct Runner {
    api: Api,
    cache: Arc<Cache>,
    resource: Resource,
    stages: Vec<Compiled>,
    hold: Hold,
}

pub(crate) fn start(manager: &Manager, caches: &Caches, stages: Vec<Stage>, hold: &Hold) -> Result<(), StageError> {
    let mut by_kind: BTreeMap<Target, Vec<Compiled>> = BTreeMap::new();
    for stage in stages {
        let compile = |t: &Option<String>| t.as_ref().map(|t| Template::parse(&stage.name, t)).transpose();
        let compiled = Compiled { status: compile(&stage.then.status)?, object: compile(&stage.then.object)?, stage };
        by_kind.entry(compiled.stage.target.clone()).or_default().push(compiled);
    }
    for (target, stages) in by_kind {
        let gvk = Gvk::from_api_version(&target.api_version, &target.kind);
        let resource = Resource { gvk, plural: target.plural.into(), namespaced: target.namespaced };
        let cache = caches.of(&resource);
        let queue = manager.queue();
        let runner = Runner { api: caches.api().clone(), cache: cache.clone(), resource, stages, hold: hold.clone() };
        manager.run("stage", &queue, Arc::new(runner), 4);
        manager.watch(&queue, &cache);
    }
    Ok(())
}

impl Reconciler for Runner {
    async fn reconcile(&self, key: Key) -> Next {
        let Some(object) = self.cache.get(&key) else { return Next::Wait };
        let Some(compiled) = self.stages.iter().find(|s| s.stage.when.iter().all(|c| c.holds(&object))) else {
            return Next::Wait;
        };
        if compiled.stage.held && self.hold.holds(&object) {
            // Whoever holds it changes it when it may go on.
            return Next::Wait;
        }
        if compiled.stage.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(compiled.stage.delay_ms)).await;
        }
        match self.apply(compiled, &key, &object).await {
            Ok(()) => Next::Wait,
            Err(e) => {
                debug!(stage = compiled.stage.name, %key, "{e}");
                Next::Retry
            }
        }
    }
}

impl Runner {
    async fn apply(&self, c: &Compiled, key: &Key, object: &Value) -> Result<(), String> {
        let (ns, name) = (key.namespace.as_str(), key.name.as_str());
        let settle = |r: Result<Value, druse_runtime::ApiError>| match r {
            Err(e) if !e.is_not_found() => Err(e.to_string()),
            _ => Ok(()),
        };
        if c.stage.then.delete {
            let options = DeleteOptions { grace_seconds: Some(0), ..DeleteOptions::default() };
            return self.api.delete(&self.resource, ns, name, &options).await.map(|_| ()).map_err(|e| e.to_string());
        }
        if let Some(t) = &c.object {
            let patch = t.run(object).map_err(|e| e.to_string())?;
            settle(self.api.patch(&self.resource, ns, name, "", Patch::Merge, &patch).await)?;
        }
        if let Some(t) = &c.status {
            let mut status = t.run(object).map_err(|e| e.to_string())?;
            keep_other_conditions(&mut status, &object["status"]);
            let mut patch = Map::new();
            patch.insert("status", status);
            let patch = Value::Map(patch);
            let result = self.api.patch(&self.resource, ns, name, "status", Patch::Merge, &patch).await;
            match result {
                // Kinds without a status subresource keep their status in the object itself.
                Err(e) if e.is_not_found() => {
                    settle(self.api.patch(&self.resource, ns, name, "", Patch::Merge, &patch).await)?;
                }
                other => settle(other)?,
            }
        }
        Ok(())
    }
}

/// A merge patch replaces lists whole: conditions of other types must be carried over.
fn keep_other_conditions(status: &mut Value, old: &Value) {
    let Some(Value::Array(new)) = status.get_mut("conditions") else { return };
    for c in old["conditions"].items() {
        if !new.iter().any(|n| n["type"] == c["type"]) {
            new.push(c.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn conditions_look_at_fields_and_at_list_items_by_type() {
        let pod = object(r#"{"spec":{"nodeName":"n"},"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#);
        let c = |json: &str| -> Condition { object(json).to_typed().unwrap() };
        assert!(c(r#"{"path":"spec.nodeName"}"#).holds(&pod));
        assert!(c(r#"{"path":"status.phase","is":[null,"Pending"]}"#).holds(&pod));
        assert!(c(r#"{"path":"status.conditions[Ready].status","is":["False"]}"#).holds(&pod));
        assert!(!c(r#"{"path":"status.conditions[Ready].status","not":["False",null]}"#).holds(&pod));
        assert!(!c(r#"{"path":"metadata.deletionTimestamp"}"#).holds(&pod));
    }

    #[test]
    fn conditions_of_other_types_survive_a_stage() {
        let mut new = object(r#"{"conditions":[{"type":"Ready","status":"True"}]}"#);
        keep_other_conditions(&mut new, &object(r#"{"conditions":[{"type":"Ready","status":"False"},{"type":"X"}]}"#));
        assert_eq!(new["conditions"].items().len(), 2);
        assert_eq!(new["conditions"].items()[0]["status"].as_str(), Some("True"));
    }

    #[test]
    fn built_in_stages_parse_and_make_a_scheduled_pod_run() {
        let stages = builtin().unwrap();
        let run = stages.iter().find(|s| s.name == "pod-runs").unwrap();
        let t = Template::parse("pod-runs", run.then.status.as_deref().unwrap()).unwrap();
        let pod = object(
            r#"{"metadata":{"name":"a","namespace":"b","uid":"u"},
                "spec":{"nodeName":"node-1","containers":[{"name":"c","image":"i:1"}]},"status":{"phase":"Pending"}}"#,
        );
        assert!(run.when.iter().all(|c| c.holds(&pod)));
        let status = t.run(&pod).unwrap();
        assert_eq!(status["phase"].as_str(), Some("Running"));
        assert_eq!(status["containerStatuses"].items()[0]["ready"], Value::Bool(true));
    }
}
