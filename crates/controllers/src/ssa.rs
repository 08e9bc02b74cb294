//! Server-side apply of many objects as Flux' controllers do it: in stages, each with a dry run, drift detection by
//! comparing the dry run with what is there, and take-over of fields that kubectl once wrote.
//!
//! Follows `github.com/fluxcd/pkg/ssa` (manager_apply.go, manager_delete.go, sort.go). One difference, on purpose: an
//! object whose kind is not served yet does not keep the others of its stage from being applied; the stage still fails,
//! with upstream's words. A tree that declares an operator and its resources together so comes up by itself.

mod live;
mod order;

use std::sync::LazyLock;
use std::time::Duration;

use druse_object::{Map, Object, Value};
use druse_runtime::{Api, ApiError, DeleteOptions, Patch};
use futures::StreamExt;
use regex::Regex;

use live::{drifted, take_over};
pub use order::sort_for_apply;

/// What was done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was not there before.
    Created,
    /// It differed.
    Configured,
    /// It was as declared.
    Unchanged,
    /// Told not to touch it.
    Skipped,
    /// It is gone.
    Deleted,
}

impl Action {
    /// Flux' word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Unchanged => "unchanged",
            Self::Skipped => "skipped",
            Self::Deleted => "deleted",
        }
    }
}

/// One object's line of a change set.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// `Kind/ns/name`
    pub subject: String,
    /// Inventory id: `ns_name_group_kind`
    pub id: String,
    /// API version (without group) for the inventory.
    pub version: String,
    /// What was done.
    pub action: Action,
}

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.subject, self.action.word())
    }
}

/// A failed apply, with what had been done before.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApplyFailure {
    /// Flux' words: object, step, the API's answer.
    pub message: String,
    /// What was applied all the same.
    pub changes: Vec<Change>,
    /// Whether all that failed is kinds that are not served yet, or namespaces that are not there yet (waiting for them
    /// may help).
    pub missing_kinds: bool,
}

/// Keys that opt objects in or out, each `(label or annotation, value)`.
#[derive(Clone, Debug, Default)]
pub struct ApplyOptions {
    /// Recreate objects whose immutable fields changed.
    pub force: bool,
    /// Recreate these when their immutable fields changed.
    pub force_selector: Vec<(String, &'static str)>,
    /// Never touch these.
    pub exclusions: Vec<(String, &'static str)>,
    /// Only create these.
    pub if_not_present: Vec<(String, &'static str)>,
    /// Leave the fields other managers own in these.
    pub merge: Vec<(String, &'static str)>,
    /// What only a server-side apply is refused for, is written as client-side tools write it, and dropped by the API:
    /// fields that a kind's schema does not know, and nulls where a custom kind allows none.
    pub drop_refused_fields: bool,
    /// The namespace of objects that name none, where their kind has one; such objects are refused when it is empty.
    pub default_namespace: String,
    /// How many requests at once.
    pub concurrency: usize,
}

/// Applies and deletes on behalf of one controller.
#[derive(Clone, Debug)]
pub struct ResourceManager {
    api: Api,
    /// Field manager: `kustomize-controller`, `helm-controller`.
    pub manager: &'static str,
    /// Label prefix: `kustomize.toolkit.fluxcd.io`, `helm.toolkit.fluxcd.io`.
    pub group: &'static str,
}

enum DryRun {
    Apply(Change),
    /// Apply without server-side apply, which refuses what is to be dropped.
    Replace(Change),
    Leave(Change),
}

/// What a dry run came to; the error says whether only its kind or namespace is missing.
type Checked = Result<DryRun, (String, bool)>;

impl ResourceManager {
    /// For a controller.
    #[must_use]
    pub fn new(api: Api, manager: &'static str, group: &'static str) -> Self {
        Self { api, manager, group }
    }

    /// Applies objects in stages: definitions (CRDs, namespaces, cluster roles), classes, everything else; waits for
    /// each of the first two to be served.
    ///
    /// # Errors
    /// At the first stage with an object that is refused; the stages after it are not begun.
    pub async fn apply_all(&self, objects: Vec<Object>, o: &ApplyOptions) -> Result<Vec<Change>, ApplyFailure> {
        let mut stages: [Vec<Object>; 3] = Default::default();
        for object in objects {
            let gvk = object.gvk();
            let stage = match (gvk.group.as_str(), gvk.kind.as_str()) {
                ("apiextensions.k8s.io", "CustomResourceDefinition")
                | ("", "Namespace")
                | ("rbac.authorization.k8s.io", "ClusterRole") => 0,
                (_, kind) if kind.ends_with("Class") => 1,
                _ => 2,
            };
            stages[stage].push(object);
        }
        let mut done = Vec::new();
        let mut missing = None;
        for (i, stage) in stages.into_iter().enumerate() {
            if stage.is_empty() {
                continue;
            }
            let crds: Vec<(String, String)> = stage
                .iter()
                .filter(|o| o.kind() == "CustomResourceDefinition")
                .map(|o| (o.name().to_owned(), o.value.str_at(["spec", "group"]).unwrap_or_default().to_owned()))
                .collect();
            match self.apply_stage(stage, o).await {
                Ok(changes) => done.extend(changes),
                Err(mut failure) if failure.missing_kinds => {
                    done.append(&mut failure.changes);
                    missing.get_or_insert(failure.message);
                }
                Err(mut failure) => {
                    done.append(&mut failure.changes);
                    failure.changes = done;
                    return Err(failure);
                }
            }
            if i == 0
                && let Err(message) = self.wait_established(&crds).await
            {
                return Err(ApplyFailure { message, changes: done, missing_kinds: false });
            }
        }
        match missing {
            Some(message) => Err(ApplyFailure { message, changes: done, missing_kinds: true }),
            None => Ok(done),
        }
    }

    async fn apply_stage(&self, mut objects: Vec<Object>, o: &ApplyOptions) -> Result<Vec<Change>, ApplyFailure> {
        sort_for_apply(&mut objects);
        let concurrency = o.concurrency.max(1);
        let checked: Vec<(Object, Checked)> = futures::stream::iter(objects)
            .map(|mut object| async move {
                let result = self.dry_run(&mut object, o).await;
                (object, result)
            })
            .buffered(concurrency)
            .collect()
            .await;
        let mut refused = None;
        let mut missing = None;
        for (_, result) in &checked {
            if let Err((message, no_match)) = result {
                let slot = if *no_match { &mut missing } else { &mut refused };
                slot.get_or_insert_with(|| message.clone());
            }
        }
        if let Some(message) = refused {
            return Err(ApplyFailure { message, changes: Vec::new(), missing_kinds: false });
        }
        let mut changes = Vec::with_capacity(checked.len());
        let mut applies = futures::stream::iter(checked.into_iter().filter_map(|(object, result)| match result {
            Ok(step) => Some((object, step)),
            Err(_) => None,
        }))
        .map(|(object, step)| async move {
            match step {
                DryRun::Leave(change) => Ok(change),
                DryRun::Apply(change) => match self.api.apply_blindly(&object, self.manager).await {
                    Ok(()) => Ok(change),
                    Err(e) => Err(format!("{} apply failed: {e}", object.key())),
                },
                DryRun::Replace(change) => match self.write_plainly(&object, change.action).await {
                    Ok(_) => Ok(change),
                    Err(e) => Err(format!("{} apply failed: {e}", object.key())),
                },
            }
        })
        // Sequential like upstream: objects are sorted so that what others refer to comes first.
        .buffered(1);
        while let Some(result) = applies.next().await {
            match result {
                Ok(change) => changes.push(change),
                Err(message) => return Err(ApplyFailure { message, changes, missing_kinds: false }),
            }
        }
        drop(applies);
        match missing {
            Some(message) => Err(ApplyFailure { message, changes, missing_kinds: true }),
            None => Ok(changes),
        }
    }

    /// What applying the object would do. The error says whether only its kind is missing.
    async fn dry_run(&self, object: &mut Object, o: &ApplyOptions) -> Result<DryRun, (String, bool)> {
        let subject = object.key().to_string();
        let resource = match self.api.resource(&object.gvk()).await {
            Ok(r) => r,
            Err(e @ ApiError::NoMatch(_)) => return Err((format!("{subject} dry-run failed: {e}"), true)),
            Err(e) => return Err((format!("{subject} dry-run failed: {e}"), false)),
        };
        // Only now is it known whether the kind has a namespace: it may just have come to be served.
        if resource.namespaced
            && object.namespace().is_empty()
            && !o.default_namespace.is_empty()
            && let Some(m) = object.metadata_mut()
        {
            m.insert("namespace", o.default_namespace.as_str());
        }
        let object: &Object = object;
        let subject = object.key().to_string();
        let change = |action| Change { action, ..describe(object) };
        // Who may write but not read is told by the dry run what it is that he may not.
        let mut existing = self.api.get(&resource, object.namespace(), object.name()).await.unwrap_or_default();
        let there = existing.as_ref();
        if any_in_metadata(&object.value, &o.exclusions)
            || there.is_some_and(|v| any_in_metadata(v, &o.exclusions))
            || (there.is_some() && any_in_metadata(&object.value, &o.if_not_present))
        {
            return Ok(DryRun::Leave(change(Action::Skipped)));
        }
        let how = Patch::Apply { manager: self.manager, force: true, dry_run: true };
        let patch = || self.api.patch(&resource, object.namespace(), object.name(), "", how, &object.value);
        let dry = match patch().await {
            Ok(v) => v,
            Err(e) if o.drop_refused_fields && is_refused_applied_only(&e) => {
                tracing::warn!("{subject}: a field that server-side apply refuses is dropped: {e}");
                let action = if there.is_some() { Action::Configured } else { Action::Created };
                return Ok(DryRun::Replace(change(action)));
            }
            Err(e) => {
                let force = o.force
                    || any_in_metadata(&object.value, &o.force_selector)
                    || there.is_some_and(|v| any_in_metadata(v, &o.force_selector));
                if there.is_none() || !force || !is_immutable(&e) {
                    return Err((dry_run_error(&subject, object, &e), missing_namespace(object, &e)));
                }
                self.recreate(&resource, object).await.map_err(|m| (m, false))?;
                existing = None;
                patch().await.map_err(|e| (dry_run_error(&subject, object, &e), false))?
            }
        };
        let mut patched = false;
        if let Some(v) = &existing
            && !any_in_metadata(&object.value, &o.merge)
            && !any_in_metadata(v, &o.merge)
        {
            patched = self
                .clean_up(&resource, object, v)
                .await
                .map_err(|e| (format!("{subject} metadata.managedFields cleanup failed: {e}"), false))?;
        }
        Ok(match &existing {
            None => DryRun::Apply(change(Action::Created)),
            Some(v) if patched || drifted(v, &dry) => DryRun::Apply(change(Action::Configured)),
            Some(_) => DryRun::Leave(change(Action::Unchanged)),
        })
    }

    /// Creates or merge-patches, as Helm did before it applied server-side: the API drops what it does not know.
    async fn write_plainly(&self, object: &Object, action: Action) -> Result<Value, ApiError> {
        let resource = self.api.resource(&object.gvk()).await?;
        if action == Action::Created {
            self.api.create(&resource, object.namespace(), &object.value).await
        } else {
            self.api.patch(&resource, object.namespace(), object.name(), "", Patch::Merge, &object.value).await
        }
    }

    async fn recreate(&self, resource: &druse_runtime::Resource, object: &Object) -> Result<(), String> {
        let subject = object.key();
        let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
        self.api
            .delete(resource, object.namespace(), object.name(), &options)
            .await
            .map_err(|e| format!("{subject} immutable field detected, failed to delete object: {e}"))?;
        let gone = async {
            while let Ok(Some(_)) = self.api.get(resource, object.namespace(), object.name()).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), gone)
            .await
            .map_err(|_| format!("{subject} immutable field detected, failed to wait for object to be deleted"))
    }

    /// Removes kubectl's traces, so that fields it once set go when they are no longer declared.
    async fn clean_up(
        &self,
        resource: &druse_runtime::Resource,
        object: &Object,
        existing: &Value,
    ) -> Result<bool, ApiError> {
        let mut operations = Vec::new();
        for key in [
            "kubectl.kubernetes.io/last-applied-configuration",
            "kustomize.toolkit.fluxcd.io/checksum",
            "fluxcd.io/sync-checksum",
        ] {
            if existing.at(["metadata", "annotations"]).and_then(|a| a.get(key)).is_some() {
                operations.push(operation("remove", &format!("/metadata/annotations/{}", escape(key)), None));
            }
        }
        if let Some(entries) = take_over(existing["metadata"]["managedFields"].items(), self.manager) {
            operations.push(operation("replace", "/metadata/managedFields", Some(Value::Array(entries))));
        }
        if operations.is_empty() {
            return Ok(false);
        }
        let patch = Value::Array(operations);
        self.api.patch(resource, object.namespace(), object.name(), "", Patch::Json, &patch).await?;
        Ok(true)
    }

    async fn wait_established(&self, crds: &[(String, String)]) -> Result<(), String> {
        if crds.is_empty() {
            return Ok(());
        }
        let resource = druse_runtime::Resource::new(
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            "customresourcedefinitions",
            false,
        );
        let all = async {
            for (name, _) in crds {
                loop {
                    let crd = self.api.get(&resource, "", name).await.map_err(|e| e.to_string())?;
                    if crd.as_ref().is_some_and(|c| condition_is(c, "Established", "True")) {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
            Ok(())
        };
        let result = tokio::time::timeout(Duration::from_secs(60), all).await.unwrap_or_else(|_| {
            Err(format!("timeout waiting for CustomResourceDefinition/{} to be established", crds[0].0))
        });
        crds.iter().for_each(|(_, group)| self.api.forget_group(group));
        result
    }

    /// Deletes objects that carry the owner's labels, in reverse apply order; what is told to stay stays.
    ///
    /// # Errors
    /// What could not be deleted, and why; the rest is deleted all the same. The second part holds the inventory ids
    /// whose deletion was not confirmed.
    pub async fn delete_all(
        &self,
        mut objects: Vec<Object>,
        owner: (&str, &str),
        exclusions: &[(String, &'static str)],
    ) -> (Vec<Change>, Result<(), (String, Vec<Change>)>) {
        sort_for_apply(&mut objects);
        objects.reverse();
        let mut changes = Vec::new();
        let mut survivors = Vec::new();
        let mut errors = String::new();
        for object in objects {
            match self.delete_one(&object, owner, exclusions).await {
                Ok(action) => changes.push(Change { action, ..describe(&object) }),
                Err(e) => {
                    errors.push_str(&e);
                    errors.push(';');
                    survivors.push(describe(&object));
                }
            }
        }
        let result =
            if errors.is_empty() { Ok(()) } else { Err((format!("delete failed, errors: {errors}"), survivors)) };
        (changes, result)
    }

    async fn delete_one(
        &self,
        object: &Object,
        owner: (&str, &str),
        exclusions: &[(String, &'static str)],
    ) -> Result<Action, String> {
        let subject = object.key();
        let resource = match self.api.resource(&object.gvk()).await {
            Ok(r) => r,
            Err(ApiError::NoMatch(_)) => return Ok(Action::Deleted),
            Err(e) => return Err(format!("{subject} query failed: {e}")),
        };
        let Some(existing) = self
            .api
            .get(&resource, object.namespace(), object.name())
            .await
            .map_err(|e| format!("{subject} query failed: {e}"))?
        else {
            return Ok(Action::Deleted);
        };
        let labels = &existing["metadata"]["labels"];
        let ours = labels[format!("{}/namespace", self.group).as_str()].as_str() == Some(owner.0)
            && labels[format!("{}/name", self.group).as_str()].as_str() == Some(owner.1);
        if !ours || any_in_metadata(&existing, exclusions) {
            return Ok(Action::Skipped);
        }
        let options = DeleteOptions { propagation: Some("Background"), ..DeleteOptions::default() };
        self.api
            .delete(&resource, object.namespace(), object.name(), &options)
            .await
            .map_err(|e| format!("{subject} delete failed: {e}"))?;
        Ok(Action::Deleted)
    }
}

/// A change with no action yet (`Unchanged`), naming the object.
#[must_use]
pub fn describe(object: &Object) -> Change {
    let key = object.key();
    Change {
        subject: key.to_string(),
        id: druse_flux::inventory::id(&key),
        version: object.gvk().version.to_string(),
        action: Action::Unchanged,
    }
}

/// Whether a condition of the object has this status.
#[must_use]
pub fn condition_is(object: &Value, kind: &str, status: &str) -> bool {
    object["status"]["conditions"]
        .items()
        .iter()
        .any(|c| c["type"].as_str() == Some(kind) && c["status"].as_str() == Some(status))
}

fn any_in_metadata(v: &Value, pairs: &[(String, &'static str)]) -> bool {
    pairs.iter().any(|(key, want)| {
        ["labels", "annotations"]
            .iter()
            .any(|m| v["metadata"][m][key.as_str()].as_str().is_some_and(|got| got.eq_ignore_ascii_case(want)))
    })
}

static IMMUTABLE: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"is\simmutable|immutable\sfield").ok());

/// Whether an object would be taken when it was created or patched: there the API drops what it does not know, and nulls of
/// custom objects, as it reads them; what is applied it judges as it is.
fn is_refused_applied_only(e: &ApiError) -> bool {
    let message = e.to_string();
    message.contains("field not declared in schema")
        || e.reason() == "Invalid" && message.contains("in body must be of type") && message.contains(": \"null\"")
}

fn is_immutable(e: &ApiError) -> bool {
    matches!(e.reason(), "Conflict" | "Invalid") || IMMUTABLE.as_ref().is_some_and(|r| r.is_match(&e.to_string()))
}

/// Whether an object was refused because its namespace does not exist (yet).
fn missing_namespace(object: &Object, e: &ApiError) -> bool {
    let ApiError::Status { code: 404, status, .. } = e else { return false };
    !object.namespace().is_empty() && status["details"]["kind"].as_str() == Some("namespaces")
}

fn dry_run_error(subject: &str, object: &Object, e: &ApiError) -> String {
    if e.is_not_found() {
        return if object.namespace().is_empty() {
            format!("{subject} namespace not specified: {e}")
        } else {
            format!("{subject} not found: {e}")
        };
    }
    let mut reason = e.reason().to_owned();
    if let ApiError::Status { status, .. } = e
        && status["details"]["causes"].items().iter().any(|c| c["reason"].as_str() == Some("FieldManagerConflict"))
    {
        "FieldManagerConflict".clone_into(&mut reason);
    }
    if reason.is_empty() {
        format!("{subject} dry-run failed: {e}")
    } else {
        format!("{subject} dry-run failed ({reason}): {e}")
    }
}

fn escape(pointer_token: &str) -> String {
    pointer_token.replace('~', "~0").replace('/', "~1")
}

fn operation(op: &str, path: &str, value: Option<Value>) -> Value {
    let mut m = Map::new();
    m.insert("op", op);
    m.insert("path", path);
    if let Some(v) = value {
        m.insert("value", v);
    }
    Value::Map(m)
}
