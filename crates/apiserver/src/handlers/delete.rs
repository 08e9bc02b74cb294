//! Delete: at once, after finalizers, or after a pod's grace period.

use std::sync::Arc;

use druse_object::Value;

use super::call::check_dry_run;
use super::create::Made;
use super::{Answer, Call};
use crate::admission::Operation;
use crate::convert;
use crate::response;
use crate::server::timestamp;
use crate::status::{Named, Status};
use crate::store::{Encoded, Expect, Key, StoreError, Stored, Write};

/// What a deletion asks for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Seconds; `None` is the kind's default.
    pub grace: Option<i64>,
    /// Only this object.
    pub uid: Option<String>,
    /// Only this state.
    pub resource_version: Option<String>,
    /// `Orphan`, `Background`, `Foreground`.
    pub propagation: Option<String>,
    /// Nothing is to be kept.
    pub dry_run: bool,
    /// It is one of a collection that is deleted.
    pub collection: bool,
}

impl Options {
    fn of(call: &Call) -> Result<Self, Status> {
        let mut out = Self::default();
        let body = if call.body.is_empty() { Value::Null } else { options_in(call)? };
        let query = &call.info.query;
        out.grace = body.get("gracePeriodSeconds").and_then(Value::as_i64);
        if let Some(g) = query.get("gracePeriodSeconds") {
            out.grace = Some(g.parse().map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {}: invalid syntax", crate::field::go_quote(g)))
            })?);
        }
        out.uid = body.str_at(["preconditions", "uid"]).map(str::to_owned);
        out.resource_version = body.str_at(["preconditions", "resourceVersion"]).map(str::to_owned);
        let orphan = match query.get("orphanDependents") {
            Some(_) => Some(query.flag("orphanDependents")),
            None => body.get("orphanDependents").and_then(Value::as_bool),
        };
        let propagation = query.get("propagationPolicy").or(body.str_at(["propagationPolicy"]));
        out.propagation = match (propagation, orphan) {
            (Some(p), _) => Some(p.to_owned()),
            (None, Some(true)) => Some("Orphan".to_owned()),
            (None, Some(false)) => Some("Background".to_owned()),
            // Their dependents outlive these kinds unless somebody says otherwise.
            (None, None) if matches!(&*call.resource.stored_as, "jobs.batch" | "replicationcontrollers") => {
                if call.resource.stored_as == "jobs.batch" {
                    call.warnings.lock().push(JOBS_LEAVE_PODS.to_owned());
                }
                Some("Orphan".to_owned())
            }
            (None, None) => None,
        };
        check_propagation(propagation, orphan)?;
        out.dry_run = call.dry_run()? | check_dry_run("DeleteOptions", body["dryRun"].items())?;
        Ok(out)
    }
}

/// Whether options say in one way what becomes of an object's dependents.
pub(super) fn check_propagation(propagation: Option<&str>, orphan: Option<bool>) -> Result<(), Status> {
    let mut errors = Vec::new();
    if let (Some(p), Some(_)) = (propagation, orphan) {
        let why = "orphanDependents and deletionPropagation cannot be both set";
        errors.push(crate::FieldError::invalid("propagationPolicy", p, why));
    }
    const POLICIES: [&str; 4] = ["Foreground", "Background", "Orphan", "nil"];
    if let Some(p) = propagation.filter(|p| !POLICIES[..3].contains(p)) {
        errors.push(crate::FieldError::not_supported("propagationPolicy", p, &POLICIES));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", &errors));
    }
    Ok(())
}

/// The options in a body.
fn options_in(call: &Call) -> Result<Value, Status> {
    let mut body = call.body_value("DeleteOptions").map_err(|s| {
        // Upstream names no type here.
        let why = s.message.strip_prefix("the object provided is unrecognized (must be of type DeleteOptions): ");
        match why.and_then(|w| w.rsplit_once(" (")) {
            Some((why, _)) => Status::bad_request(why),
            None => s,
        }
    })?;
    let kind = body.str_at(["kind"]).unwrap_or_default();
    if !["", "DeleteOptions"].contains(&kind) {
        let version = body.str_at(["apiVersion"]).filter(|v| !v.is_empty()).unwrap_or("meta.k8s.io/v1");
        return Err(Status::bad_request(format!(
            "no kind \"{kind}\" is registered for version \"{version}\" in scheme \"pkg/runtime/scheme.go:111\""
        )));
    }
    delete_options_form(call, &mut body)?;
    Ok(body)
}

/// Whether the fields of a deletion's options are of their types.
fn delete_options_form(call: &Call, body: &mut Value) -> Result<(), Status> {
    if body.is_null() {
        return Ok(());
    }
    if body.as_map().is_none() {
        return Err(Status::bad_request(super::forms::no_type(body)));
    }
    let gvk = druse_object::Gvk::new("", "v1", "DeleteOptions");
    let schema = call.shared.schema(&gvk)?;
    schema.decode(body).map(drop).map_err(|e| Status::bad_request(e.to_string()))
}

/// What a deletion came to.
pub enum Removed {
    /// It is gone; its last state.
    Gone(Arc<Stored>),
    /// It waits: for finalizers, or its grace period.
    Waits(Made),
}

/// DELETE on an object.
pub async fn delete(call: &Call) -> Answer {
    let options = Options::of(call)?;
    let name = call.info.name.as_str();
    match remove(call, name, &options).await? {
        Removed::Waits(made) => made.answer(call, 200),
        Removed::Gone(o) if returns_object(call) => call.view.object(200, &o),
        Removed::Gone(o) => {
            let uid = o.value()?;
            let mut details = call.named(name).details();
            details.insert("uid", uid.str_at(["metadata", "uid"]).unwrap_or_default());
            Ok(response::value(200, &Status::success(200, Some(details)).to_value(), call.view.accepted.format))
        }
    }
}

/// Kinds whose deletion answers the object even when it is gone at once.
fn returns_object(call: &Call) -> bool {
    matches!(
        call.resource.stored_as.as_str(),
        "pods"
            | "services"
            | "serviceaccounts"
            | "persistentvolumes"
            | "persistentvolumeclaims"
            | "resourcequotas"
            | "podtemplates"
    ) || matches!(call.resource.group.as_str(), "storage.k8s.io" | "resource.k8s.io")
        && call.resource.plural != "csistoragecapacities"
}

/// DELETE on a collection.
pub async fn collection(call: &Call) -> Answer {
    let options = Options { collection: true, ..Options::of(call)? };
    let (items, meta) = super::read::page(call)?;
    for o in &items {
        let one = Call { info: call.info.clone(), ..call.for_namespace(&o.namespace) };
        match remove(&one, &o.name, &options).await {
            Err(e) if e.reason != "NotFound" => return Err(e),
            _ => {}
        }
    }
    call.view.list(&items, meta)
}

impl Call {
    /// The same request on another namespace.
    #[must_use]
    pub fn for_namespace(&self, namespace: &str) -> Self {
        let info = crate::request::RequestInfo { namespace: namespace.into(), ..(*self.info).clone() };
        Self {
            shared: self.shared.clone(),
            info: Arc::new(info),
            user: self.user.clone(),
            method: self.method.clone(),
            headers: self.headers.clone(),
            body: self.body.clone(),
            resource: self.resource.clone(),
            version: self.version.clone(),
            table: self.table.clone(),
            view: self.view.clone(),
            warnings: parking_lot::Mutex::default(),
            keep_status: false,
        }
    }
}

impl Call {
    /// The same request on a subresource.
    #[must_use]
    pub fn on_subresource(&self, subresource: &str) -> Self {
        let mut call = self.for_namespace(&self.info.namespace);
        call.info = Arc::new(crate::request::RequestInfo { subresource: subresource.into(), ..(*self.info).clone() });
        call
    }
}

const ORPHAN: &str = "orphan";
const JOBS_LEAVE_PODS: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
const FOREGROUND: &str = "foregroundDeletion";

/// Deletes one object, or starts its deletion.
pub async fn remove(call: &Call, name: &str, options: &Options) -> Result<Removed, Status> {
    let resource = &call.resource;
    let key = Key::new(resource.stored_as.clone(), call.namespace(), name);
    if resource.stored_as == "namespaces" && matches!(name, "default" | "kube-system" | "kube-public") {
        return Err(Status::forbidden(call.named(name), "this namespace may not be deleted"));
    }
    if resource.stored_as == crate::strategy::PRIORITY_CLASSES
        && crate::validate::is_system_priority(name)
        && !options.collection
    {
        return Err(Status::forbidden(call.named(name), "this is a system priority class and cannot be deleted"));
    }
    loop {
        let Some(stored) = call.shared.store.get(&key) else {
            return Err(Status::not_found(call.named(name)));
        };
        let old = stored.value()?;
        check_preconditions(call, name, options, &old, stored.rv)?;
        let seen = convert::to_version(&call.shared, old.clone(), resource, &call.version)?;
        let mut review = call.review(Operation::Delete, "", name, None, Some(&seen), options.dry_run);
        call.shared.admission.mutate(&call.shared, &mut review).await?;
        call.shared.admission.validate(&call.shared, &mut review).await?;
        let mut new = old.clone();
        let deleting = old.str_at(["metadata", "deletionTimestamp"]).is_some();
        let mut finalizers = wanted_finalizers(&old, options);
        if resource.stored_as == crate::controllers::CRDS
            && !deleting
            && !finalizers.iter().any(|f| f == crate::controllers::CRD_CLEANUP)
        {
            // Its objects go first.
            finalizers.push(crate::controllers::CRD_CLEANUP.to_owned());
        }
        let grace = grace_of(resource.stored_as.as_str(), &old, options);
        let namespace = resource.stored_as == "namespaces";
        let crd = resource.stored_as == crate::controllers::CRDS;
        let holds_namespace = namespace && !old["spec"]["finalizers"].items().is_empty();
        let at_once = finalizers.is_empty() && grace == 0 && !holds_namespace;
        if let Some(meta) = new.make_map_at(["metadata"]) {
            if finalizers.is_empty() {
                meta.remove("finalizers");
            } else {
                meta.insert("finalizers", finalizers.iter().map(String::as_str).map(Value::from).collect::<Value>());
            }
            let mut begin = !deleting;
            if deleting {
                let had = meta.get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
                // A second request may only shorten the wait.
                begin = grace < had;
            }
            // A pod that waited already is shown with how the wait ended.
            let pod = resource.stored_as == "pods";
            if begin && (!at_once || deleting || pod) {
                let now = jiff::Timestamp::now().as_second();
                meta.insert("deletionTimestamp", timestamp(now + grace));
                meta.insert("deletionGracePeriodSeconds", if namespace { Value::Null } else { Value::Int(grace) });
                if namespace || crd {
                    meta.remove("deletionGracePeriodSeconds");
                }
                if !deleting
                    && !crd
                    && (!at_once || pod)
                    && meta.get("generation").and_then(Value::as_i64).is_some_and(|g| g > 0)
                    && let Some(Value::Int(g)) = meta.get_mut("generation")
                {
                    *g += 1;
                }
            }
        }
        if crd && !at_once {
            if !deleting {
                crate::controllers::start_terminating(&mut new);
            } else if let Some(meta) = new.make_map_at(["metadata"]) {
                meta.insert("deletionGracePeriodSeconds", 0);
            }
        }
        if namespace
            && !at_once
            && let Some(status) = new.make_map_at(["status"])
        {
            status.insert("phase", "Terminating");
        }
        if options.dry_run {
            return Ok(if at_once && resource.stored_as != "pods" {
                Removed::Gone(stored)
            } else {
                Removed::Waits(Made::Dry(convert::to_version(&call.shared, new, resource, &call.version)?))
            });
        }
        let encoded = Encoded::of(&new);
        if !at_once && encoded.same_as(&stored) {
            return Ok(Removed::Waits(Made::Stored(stored)));
        }
        let write = Write { key: key.clone(), expect: Expect::At(stored.rv), object: Some(encoded), delete: at_once };
        match call.shared.store.write(write).await {
            Ok(o) => {
                if at_once && resource.stored_as == "services" {
                    call.shared.allocators.release(&old, None);
                }
                crate::controllers::after_write(&call.shared, resource, (!at_once).then_some(&new), Some(&old));
                return Ok(if at_once { Removed::Gone(o) } else { Removed::Waits(Made::Stored(o)) });
            }
            Err(StoreError::Conflict) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether an object is the one, and in the state, that a deletion asks for.
pub(super) fn check_preconditions(
    call: &Call,
    name: &str,
    options: &Options,
    old: &Value,
    rv: u64,
) -> Result<(), Status> {
    // Upstream names the kind here, not the resource.
    let n = Named { group: &call.resource.group, resource: &call.resource.kind, name };
    let uid = old.str_at(["metadata", "uid"]).unwrap_or_default();
    if matches!(call.resource.stored_as.as_str(), "namespaces" | crate::controllers::CRDS) {
        // These look for themselves before the store does.
        let now = rv.to_string();
        for (what, want, is) in [("UID", &options.uid, uid), ("ResourceVersion", &options.resource_version, &now)] {
            if let Some(want) = want.as_deref().filter(|want| *want != is) {
                let why = format!("Precondition failed: {what} in precondition: {want}, {what} in object meta: {is}");
                return Err(Status::conflict(call.named(name), why));
            }
        }
    }
    if let Some(want) = &options.uid
        && want != uid
    {
        return Err(Status::conflict(
            n,
            format!(
                "the UID in the precondition ({want}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            ),
        ));
    }
    if let Some(want) = &options.resource_version
        && *want != rv.to_string()
    {
        return Err(Status::conflict(
            n,
            format!(
                "the ResourceVersion in the precondition ({want}) does not match the ResourceVersion in record ({rv}). The object might have been modified"
            ),
        ));
    }
    Ok(())
}

fn wanted_finalizers(old: &Value, options: &Options) -> Vec<String> {
    let mut list: Vec<String> =
        old["metadata"]["finalizers"].items().iter().filter_map(Value::as_str).map(str::to_owned).collect();
    if options.propagation.is_none() {
        return list;
    }
    let want = match options.propagation.as_deref() {
        Some("Orphan") => Some(ORPHAN),
        Some("Foreground") => Some(FOREGROUND),
        _ => None,
    };
    list.retain(|f| f != ORPHAN && f != FOREGROUND || Some(f.as_str()) == want);
    if let Some(w) = want
        && !list.iter().any(|f| f == w)
    {
        list.push(w.to_owned());
    }
    list
}

/// A pod's grace period: what is asked, or its own; none for a pod that runs nowhere or has ended.
fn grace_of(stored_as: &str, old: &Value, options: &Options) -> i64 {
    if stored_as != "pods" {
        return 0;
    }
    let own = old.at(["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64).unwrap_or(30);
    let mut grace = options.grace.unwrap_or(own);
    let placed = old.str_at(["spec", "nodeName"]).is_some_and(|n| !n.is_empty());
    let ended = matches!(old.str_at(["status", "phase"]), Some("Succeeded" | "Failed"));
    if !placed || ended {
        grace = 0;
    }
    // A grace that makes no sense is the shortest one.
    if grace < 0 { 1 } else { grace }
}
