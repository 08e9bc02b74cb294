//! Server-side apply and the ownership of fields (structured-merge-diff and `k8s.io/apimachinery` managed fields).
//!
//! [`apply`] merges what an applier wants into what there is, refusing what others own unless forced, and removing
//! what the applier no longer wants and nobody else holds. [`record_update`] notes what any other write changed. Both
//! leave the object with its `managedFields`. Entries of another version are compared in its
//! words where the versions of a kind differ in them (autoscalers), and as they are otherwise.

mod managed;
mod set;
#[cfg(test)]
mod tests;
mod typed;

use druse_object::{Map, Value, value::Str};

use crate::field::go_quote;
use crate::schema::TypeSchema;
use managed::{Managed, Manager, Owned};
pub use set::{Elem, Set, path_text};
use typed::{Comparison, Ty};

/// `kubectl apply`'s annotation.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The owner as messages name it: `"kc"`, `"x" using v1`, `"x" with subresource "status" using v1`.
    pub manager: String,
    /// The field: `.spec.replicas`.
    pub field: String,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    /// 409 Conflict: others own fields with other values. Each is a cause with reason `FieldManagerConflict`, message
    /// `conflict with MANAGER` and the field.
    Conflicts(Vec<Conflict>),
    /// 400 BadRequest.
    BadRequest(String),
    /// 500 without a reason, as upstream answers a configuration that does not fit the schema.
    Schema(String),
}

impl std::error::Error for ApplyError {}
impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ApplyError::BadRequest(text) | ApplyError::Schema(text) => f.write_str(text),
            ApplyError::Conflicts(list) => match list.as_slice() {
                [one] => write!(f, "Apply failed with 1 conflict: conflict with {}: {}", one.manager, one.field),
                _ => {
                    write!(f, "Apply failed with {} conflicts: ", list.len())?;
                    let mut last = None;
                    for (i, c) in list.iter().enumerate() {
                        if i > 0 {
                            f.write_str("\n")?;
                        }
                        if last != Some(&c.manager) {
                            writeln!(f, "conflicts with {}:", c.manager)?;
                            last = Some(&c.manager);
                        }
                        write!(f, "- {}", c.field)?;
                    }
                    Ok(())
                }
            },
        }
    }
}

/// Fields whose ownership is never recorded.
fn unowned() -> Set {
    let mut set = Set::default();
    let field = |name: &str| Elem::Field(name.into());
    for name in ["apiVersion", "kind", "metadata"] {
        set.insert(&[field(name)]);
    }
    for name in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.insert(&[field("metadata"), field(name)]);
    }
    set
}

/// Kinds whose status is written without their metadata.
pub(crate) const STATUS_ALONE: [&str; 7] = [
    "APIService",
    "FlowSchema",
    "PriorityLevelConfiguration",
    "ResourceClaim",
    "ServiceCIDR",
    "ValidatingAdmissionPolicy",
    "VolumeAttachment",
];

/// The fields a write to this subresource cannot change (`GetResetFields` of upstream's strategies).
fn reset_fields(schema: &TypeSchema, subresource: &str) -> Set {
    let mut set = Set::default();
    let mut add = |path: &[&str]| set.insert(&path.iter().map(|p| Elem::Field((*p).into())).collect::<Vec<_>>());
    let kind = schema.gvk.kind.as_str();
    match (kind, subresource) {
        ("CertificateSigningRequest", _) if schema.is_builtin() => {
            add(&["spec"]);
            add(match subresource {
                "" => &["status"],
                "approval" => &["status", "certificate"],
                _ => &["status", "conditions"],
            });
        }
        ("Namespace", "finalize") => add(&["status"]),
        (_, "") if schema.resets_status() => add(&["status"]),
        (_, "status") if schema.is_builtin() => {
            add(&["spec"]);
            match kind {
                "Deployment" => add(&["metadata", "labels"]),
                "Pod" => {
                    add(&["metadata", "deletionTimestamp"]);
                    add(&["metadata", "ownerReferences"]);
                }
                _ if STATUS_ALONE.contains(&kind) => add(&["metadata"]),
                _ => {}
            }
        }
        (_, "status") => {
            add(&["spec"]);
            add(&["metadata"]);
        }
        _ => {}
    }
    set
}

struct Context<'a> {
    schema: &'a TypeSchema,
    version: Str,
    ignored: Set,
}

impl<'a> Context<'a> {
    fn new(schema: &'a TypeSchema, subresource: &str) -> Self {
        Self { schema, version: schema.gvk.api_version().into(), ignored: reset_fields(schema, subresource) }
    }

    fn ty(&self) -> Ty<'a> {
        Ty::Slot(self.schema.root())
    }

    /// The type in another version, for kinds whose versions say things in other words.
    fn other(&self, version: &str) -> Option<crate::schema::Slot> {
        let mine = &self.schema.gvk;
        if !self.schema.builtin || mine.group != "autoscaling" || mine.kind != "HorizontalPodAutoscaler" {
            return None;
        }
        let other = druse_object::Gvk::from_api_version(version, &mine.kind);
        (other != *mine && other.group == mine.group).then(|| crate::schema::builtin_slot(&other)).flatten()
    }

    /// Takes what changed from its other owners; refuses when not forced.
    fn take_over(
        &self,
        old: &Value,
        new: &Value,
        managed: &mut Managed,
        me: &Manager,
        force: bool,
    ) -> Result<Comparison, Vec<(Manager, Str, Set)>> {
        let diff = typed::compare(old, new, self.ty()).exclude(&self.ignored);
        let changed = diff.modified.clone().union(&diff.added);
        // What changed, in the words of each other version that somebody owns fields in.
        let mut told = std::collections::BTreeMap::new();
        for o in &managed.0 {
            if !told.contains_key(&o.version)
                && let Some(slot) = self.other(&o.version)
            {
                let [old, new] = [old, new].map(|v| crate::autoscalers::told(&o.version, v));
                let diff = typed::compare(&old, &new, Ty::Slot(&slot)).exclude(&self.ignored);
                told.insert(o.version.clone(), (diff.modified.union(&diff.added), diff.removed));
            }
        }
        let mut conflicts = Vec::new();
        for o in &managed.0 {
            if o.manager == *me {
                continue;
            }
            let changed = told.get(&o.version).map_or(&changed, |(changed, _)| changed);
            let both = o.set.clone().intersection(changed);
            if !both.is_empty() {
                conflicts.push((o.manager.clone(), o.version.clone(), both));
            }
        }
        if !force && !conflicts.is_empty() {
            return Err(conflicts);
        }
        for o in &mut managed.0 {
            if o.manager == *me {
                continue;
            }
            let set = std::mem::take(&mut o.set);
            let (changed, removed) = told.get(&o.version).map_or((&changed, &diff.removed), |(c, r)| (c, r));
            o.set = set.difference(changed).difference(removed);
        }
        managed.0.retain(|o| o.manager == *me || !o.set.is_empty());
        Ok(diff)
    }

    fn reconcile(&self, managed: &mut Managed) {
        for o in &mut managed.0 {
            let set = std::mem::take(&mut o.set);
            o.set = match self.other(&o.version) {
                Some(slot) => typed::reconcile(set, Ty::Slot(&slot)),
                None => typed::reconcile(set, self.ty()),
            };
        }
    }

    /// Records that `manager` changed `old` into `new`.
    fn update(&self, old: &Value, new: &Value, managed: &mut Managed, manager: Manager, now: &str) {
        // The change is recorded under a name of its own first: it must also be taken from the manager's own past.
        let own = Manager {
            applied: false,
            name: "\u{0}current-operation".into(),
            version: Str::default(),
            subresource: Str::default(),
        };
        self.reconcile(managed);
        let Ok(diff) = self.take_over(old, new, managed, &own, true) else { return };
        let set = diff.modified.union(&diff.added).recursive_difference(&self.ignored).difference(&unowned());
        if set.is_empty() {
            return;
        }
        let set = match managed.take(&manager) {
            Some(previous) => previous.set.union(&set),
            None => set,
        };
        managed.put(Owned { manager, version: self.version.clone(), set, time: Some(now.into()) });
    }

    /// Removes what the applier applied before, does not now, and nobody else holds.
    fn prune(&self, merged: Value, managed: &Managed, last: &Set) -> Value {
        if last.is_empty() {
            return merged;
        }
        let ty = self.ty();
        let named = |set: Set| typed::ensure_named(set, ty);
        let last = named(last.clone());
        let pruned = typed::remove(&merged, &last, ty, 0).unwrap_or_default();
        let merged_set = named(typed::to_set(&merged, ty));
        // What anyone still claims comes back.
        let claimed = managed.0.iter().fold(Set::default(), |set, o| set.union(&o.set));
        let keep = named(typed::to_set(&pruned, ty)).union(&named(claimed));
        let pruned = typed::remove(&merged, &merged_set.clone().difference(&keep), ty, 0).unwrap_or_default();
        // Only what this applier owned may go.
        let pruned_set = named(typed::to_set(&pruned, ty));
        let gone = merged_set.difference(&pruned_set).intersection(&last);
        typed::remove(&merged, &gone, ty, 0).unwrap_or_default()
    }
}

/// A configuration merged into an object as an apply would, without owners: what mutating policies make.
#[must_use]
pub fn merge_into(object: &Value, configuration: &Value, schema: &TypeSchema) -> Value {
    let cx = Context::new(schema, "");
    typed::merge(Some(object), Some(configuration), cx.ty(), 0).unwrap_or_default()
}

fn without_managed(value: &Value) -> Value {
    let mut v = value.clone();
    if let Some(m) = v.get_mut("metadata").and_then(Value::as_map_mut) {
        m.remove("managedFields");
    }
    v
}

fn updater(name: &str, version: &str, subresource: &str) -> Manager {
    let name = if name.is_empty() { "unknown" } else { name };
    Manager { applied: false, name: name.into(), version: version.into(), subresource: subresource.into() }
}

/// Applies a configuration: the merged object, decoded and defaulted, with its managed fields.
///
/// `live` is what is stored (`None` creates); `applied` is the request's body as it came, unknown fields and all;
/// `now` is RFC 3339 without a fraction. When nothing changes, the live object comes back as it is.
///
/// # Errors
/// Conflicts with other managers when not forced; a configuration that the schema refuses.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    manager: &str,
    force: bool,
    subresource: &str,
    now: &str,
    schema: &TypeSchema,
) -> Result<Value, ApplyError> {
    let cx = Context::new(schema, subresource);
    let given = applied.str_at(["apiVersion"]).unwrap_or_default();
    if given != cx.version {
        return Err(ApplyError::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {given}, expected: {}",
            cx.version
        )));
    }
    if applied.at(["metadata", "managedFields"]).is_some_and(|v| !v.is_null()) {
        return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
    }
    let mut problems = Vec::new();
    typed::check(applied, cx.ty(), &mut String::new(), 0, &mut problems);
    if !problems.is_empty() {
        let text =
            if let [one] = problems.as_slice() { one.clone() } else { format!("errors:\n  {}", problems.join("\n  ")) };
        let part = |key| applied.str_at(["metadata", key]).unwrap_or_default();
        return Err(ApplyError::Schema(format!(
            "failed to create typed patch object ({}/{}; {}/{}, Kind={}): {text}",
            part("namespace"),
            part("name"),
            schema.gvk.group,
            schema.gvk.version,
            schema.gvk.kind
        )));
    }
    let mut managed = match live {
        Some(v) => Managed::read(v).ok_or_else(|| ApplyError::Schema("failed to decode managed fields".into()))?,
        None => Managed::default(),
    };
    let base = live.map_or_else(|| schema.empty(), without_managed);
    if managed.0.is_empty() {
        let before = updater("before-first-apply", &cx.version, subresource);
        cx.update(&schema.empty(), &base, &mut managed, before, now);
    }
    let me = Manager { applied: true, name: manager.into(), version: Str::default(), subresource: subresource.into() };
    let result = apply_once(&cx, &base, applied, managed.clone(), &me, force);
    let (mut object, mut managed) = match result {
        Ok(done) => done,
        Err(conflicts) if manager == "kubectl" => {
            // Conflicts over values that `kubectl apply` itself set before are no conflicts.
            let own = last_applied_set(&base, &cx);
            let rest: Vec<_> = conflicts
                .into_iter()
                .map(|(m, v, s)| (m, v, s.difference(&own)))
                .filter(|(_, _, s)| !s.is_empty())
                .collect();
            if !rest.is_empty() {
                return Err(conflict_error(rest));
            }
            apply_once(&cx, &base, applied, managed, &me, true).map_err(conflict_error)?
        }
        Err(conflicts) => return Err(conflict_error(conflicts)),
    };
    if let Some(owned) = managed.take(&me) {
        let set = owned.set.difference(&unowned());
        // Who changes nothing gets no new time, and none at all when first met.
        let time = if object == base { owned.time } else { Some(now.into()) };
        managed.put(Owned { set, time, ..owned });
    }
    if object != base {
        schema.decode(&mut object).map_err(|e| ApplyError::BadRequest(e.0))?;
        schema.fill(&mut object);
    }
    if manager == "kubectl" && object.at(["metadata", "annotations"]).and_then(|a| a.get(LAST_APPLIED)).is_some() {
        set_last_applied(&mut object, applied);
    }
    managed.write(&mut object);
    Ok(keep_if_same(live, object))
}

type Conflicts = Vec<(Manager, Str, Set)>;

fn apply_once(
    cx: &Context<'_>,
    base: &Value,
    applied: &Value,
    mut managed: Managed,
    me: &Manager,
    force: bool,
) -> Result<(Value, Managed), Conflicts> {
    cx.reconcile(&mut managed);
    let merged = typed::merge(Some(base), Some(applied), cx.ty(), 0).unwrap_or_default();
    let last = managed.take(me);
    let set = typed::to_set(applied, cx.ty()).recursive_difference(&cx.ignored);
    managed.put(Owned {
        manager: me.clone(),
        version: cx.version.clone(),
        set,
        time: last.as_ref().and_then(|o| o.time.clone()),
    });
    let pruned = match last {
        Some(last) => cx.prune(merged, &managed, &last.set),
        None => merged,
    };
    cx.take_over(base, &pruned, &mut managed, me, force)?;
    Ok((pruned, managed))
}

fn conflict_error(mut conflicts: Conflicts) -> ApplyError {
    // Upstream sorts managers by their entries as JSON.
    conflicts
        .sort_by_cached_key(|(m, version, _)| (go_quote(&m.name), !m.applied, version.clone(), m.subresource.clone()));
    let mut list = Vec::new();
    for (manager, version, set) in conflicts {
        let mut name = go_quote(&manager.name);
        if !manager.subresource.is_empty() {
            name.push_str(&format!(" with subresource {}", go_quote(&manager.subresource)));
        }
        if !manager.applied {
            name.push_str(&format!(" using {version}"));
        }
        list.extend(set.paths().iter().map(|p| Conflict { manager: name.clone(), field: path_text(p) }));
    }
    ApplyError::Conflicts(list)
}

/// The fields that still have the value `kubectl apply` last gave them.
fn last_applied_set(live: &Value, cx: &Context<'_>) -> Set {
    let annotation = live.at(["metadata", "annotations"]).and_then(|a| a.get(LAST_APPLIED)).and_then(Value::as_str);
    let Some(config) = annotation.and_then(|t| druse_object::json::parse(t.as_bytes()).ok()) else {
        return Set::default();
    };
    if config.str_at(["apiVersion"]) != Some(&cx.version) {
        return Set::default();
    }
    let diff = typed::compare(&config, live, cx.ty());
    typed::to_set(&config, cx.ty()).difference(&diff.modified).difference(&diff.added).difference(&diff.removed)
}

fn set_last_applied(object: &mut Value, applied: &Value) {
    let mut config = applied.clone();
    if let Some(a) = config.get_mut("metadata").and_then(|m| m.get_mut("annotations")).and_then(Value::as_map_mut) {
        a.remove(LAST_APPLIED);
    }
    config.sort_keys();
    let text = format!("{}\n", druse_object::json::to_string(&config));
    if let Some(annotations) = object.make_map_at(["metadata", "annotations"]) {
        annotations.insert(LAST_APPLIED, text);
    }
}

/// A write that changes nothing but times is no write.
fn keep_if_same(old: Option<&Value>, new: Value) -> Value {
    match old {
        Some(old) if managed::same_but_times(old, &new) => {
            let mut out = new;
            let entries = old.at(["metadata", "managedFields"]).cloned();
            if let (Some(entries), Some(meta)) = (entries, out.make_map_at(["metadata"])) {
                meta.insert("managedFields", entries);
            }
            out
        }
        _ => new,
    }
}

/// Records in `new`'s managed fields what a create, update or patch by `manager` changed against `old` (`None` for a
/// create). `new` is decoded, defaulted and admitted; what it says of managed fields itself is honoured as upstream
/// honours it: valid entries replace the stored ones, an empty list resets them.
pub fn record_update(
    old: Option<&Value>,
    new: &mut Value,
    manager: &str,
    subresource: &str,
    now: &str,
    schema: &TypeSchema,
) {
    let cx = Context::new(schema, subresource);
    let stored = || old.and_then(Managed::read).unwrap_or_default();
    let given = new.at(["metadata", "managedFields"]);
    let reset = match given.map(Value::items) {
        Some([]) => given.is_some_and(|v| !v.is_null()),
        Some([one]) => one.as_map().is_some_and(Map::is_empty),
        _ => false,
    };
    let mut managed = if !subresource.is_empty() {
        stored()
    } else if reset {
        Managed::default()
    } else {
        Managed::read(new).filter(|m| !m.0.is_empty()).unwrap_or_else(stored)
    };
    if let Some(m) = new.get_mut("metadata").and_then(Value::as_map_mut) {
        m.remove("managedFields");
    }
    if managed.0.is_empty() && old.is_some() {
        // Nothing was tracked before; tracking starts with the first apply.
        return;
    }
    let base = old.map_or_else(|| schema.empty(), without_managed);
    let me = updater(manager, &cx.version, subresource);
    cx.update(&base, new, &mut managed, me, now);
    managed.cap();
    managed.write(new);
    if let Some(old) = old
        && managed::same_but_times(old, new)
        && let (Some(entries), Some(meta)) =
            (old.at(["metadata", "managedFields"]).cloned(), new.make_map_at(["metadata"]))
    {
        meta.insert("managedFields", entries);
    }
}
