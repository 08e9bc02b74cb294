//! Update, and the one way every kind of change to an existing object goes.

use std::sync::Arc;

use druse_object::Value;

use super::create::Made;
use super::{Answer, Call};
use crate::admission::Operation;
use crate::convert;
use crate::managed;
use crate::meta;
use crate::server::now;
use crate::status::Status;
use crate::store::{Encoded, Expect, Key, StoreError, Stored, Write};
use crate::strategy;

/// How a change came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode<'a> {
    /// A whole object or a patch: ownership of what differs goes to this manager.
    Update(&'a str),
    /// As [`Mode::Update`], of which admission has judged another form (a `Scale`).
    Admitted(&'a str),
    /// A server-side apply, which has recorded ownership itself.
    Apply,
    /// The server's own bookkeeping: no ownership, no validation of what was there.
    System,
}

/// PUT on an object.
pub async fn update(call: &Call) -> Answer {
    update_sub(call, "").await
}

/// PUT on an object or on a subresource that has its form.
pub async fn update_sub(call: &Call, subresource: &str) -> Answer {
    let dry = call.dry_run()?;
    let mut object = call.body_to_store()?;
    let name = call.info.name.as_str();
    call.fit_namespace(&mut object)?;
    call.fits_name(&object)?;
    let exists = call.shared.stored(&call.resource, call.namespace(), name).is_some();
    if !exists && subresource.is_empty() && strategy::created_by_update(&call.resource) {
        if let Some(m) = object.make_map_at(["metadata"]) {
            m.remove("resourceVersion");
        }
        let made = super::create::insert(call, object, Some(&call.manager()), dry).await?;
        return made.answer(call, 201);
    }
    let conditional = call.resource.custom || strategy::updated_by_version_only(&call.resource);
    let unconditional = object.str_at(["metadata", "resourceVersion"]).unwrap_or_default().is_empty();
    if conditional && unconditional && exists {
        // Which object it is comes before which state of it.
        let there = call.shared.object(&call.resource.stored_as, call.namespace(), name).unwrap_or_default();
        if let (Some(uid), Some(is)) = (object.str_at(["metadata", "uid"]), there.str_at(["metadata", "uid"]))
            && !uid.is_empty()
            && uid != is
        {
            return Err(precondition(call, name, dry, "UID", &uid.into(), &is.into()));
        }
        let e = crate::FieldError::invalid("metadata.resourceVersion", 0i64, "must be specified for an update");
        // Upstream names the resource here, not the kind.
        return Err(Status::invalid(&call.resource.group, &call.resource.plural, name, &[e]));
    }
    let manager = call.manager();
    let made = change(call, name, subresource, Mode::Update(&manager), dry, &mut |_, _| Ok(object.clone())).await?;
    made.answer(call, 200)
}

/// Makes a new state out of the current one: gets the current object in the version asked for and its stored form.
pub type Step<'a> = dyn FnMut(&Value, &Arc<Stored>) -> Result<Value, Status> + Send + 'a;

/// Changes one object: computes the new state, admits and stores it, and starts over when another write came first.
/// `step` answers the whole new object, read and defaulted. A state equal to the old one is not written.
pub async fn change(
    call: &Call,
    name: &str,
    subresource: &str,
    mode: Mode<'_>,
    dry: bool,
    step: &mut Step<'_>,
) -> Result<Made, Status> {
    let schema = call.schema()?;
    let resource = &call.resource;
    let key = Key::new(resource.stored_as.clone(), call.namespace(), name);
    let admits = matches!(mode, Mode::Update(_) | Mode::Apply);
    loop {
        let Some(stored) = call.shared.store.get(&key) else {
            return Err(Status::not_found(call.named(name)));
        };
        let old_stored = stored.value()?;
        let old = convert::to_version(&call.shared, old_stored.clone(), resource, &call.version)?;
        let mut new = step(&old, &stored)?;
        let asked = new.str_at(["metadata", "resourceVersion"]).unwrap_or_default();
        if !asked.is_empty() && asked != "0" && asked != stored.rv.to_string() {
            return Err(Status::modified(call.named(name)));
        }
        if let (Some(uid), Some(is)) = (new.str_at(["metadata", "uid"]), old.str_at(["metadata", "uid"]))
            && !uid.is_empty()
            && uid != is
            // A patch is judged with the rest of what it says.
            && call.method != http::Method::PATCH
        {
            return Err(precondition(call, name, dry, "UID", &uid.into(), &is.into()));
        }
        meta::carry_over(&old, &mut new);
        strategy::reset_fields(resource, &call.version, subresource, &old, &mut new);
        if let Mode::Update(manager) | Mode::Admitted(manager) = mode {
            managed::record(Some(&old), &mut new, manager, subresource, &now(), &schema);
        }
        if admits {
            let mut review = call.review(Operation::Update, subresource, name, Some(&mut new), Some(&old), dry);
            call.shared.admission.mutate(&call.shared, &mut review).await?;
        }
        call.warnings.lock().extend(crate::warnings::one_of_each_owner(&mut new, true));
        strategy::prepare_update(resource, subresource, &old, &mut new);
        managed::keep_times_if_same(&old, &mut new);
        if mode != Mode::System {
            let mut errors = meta::validate_update(resource, &old, &new);
            if subresource.is_empty() && !resource.custom {
                errors.extend(crate::validate::validate_update(&call.gvk(), &new, &old));
            }
            if !subresource.is_empty() && !resource.custom {
                errors.extend(super::devices::admin_access(call, subresource, &new, Some(&old)));
                errors.extend(crate::validate::validate_subresource(&call.gvk(), subresource, &new, &old));
            }
            errors.extend(schema.validate(&new, Some(&old)));
            if !errors.is_empty() {
                return Err(call.invalid(name, &errors));
            }
            if subresource.is_empty() {
                let warned = crate::warnings::of_write(&call.gvk(), resource.custom, &new, Some(&old));
                call.warnings.lock().extend(warned);
            }
        }
        let service = resource.stored_as == "services" && subresource.is_empty();
        if service {
            call.shared
                .allocators
                .allocate(&mut new, Some(&old), dry)
                .map_err(|e| Status::invalid("", "Service", name, &[e]))?;
        }
        if admits {
            let mut review = call.review(Operation::Update, subresource, name, Some(&mut new), Some(&old), dry);
            call.shared.admission.validate(&call.shared, &mut review).await?;
        }
        if !resource.custom {
            schema.forget_empty(&mut new);
        }
        strategy::show_labels(resource, &mut new);
        if dry {
            // Nothing is written, so the resource version stays what it is.
            if let Some(m) = new.make_map_at(["metadata"]) {
                m.insert("resourceVersion", stored.rv.to_string());
            }
            return Ok(Made::Dry(new));
        }
        let next = convert::to_stored(&call.shared, new, resource, &call.version)?;
        let encoded = Encoded::of(&next);
        let gone = meta::is_finished_deletion(&next);
        if !gone && encoded.same_as(&stored) {
            return Ok(Made::Stored(stored));
        }
        let write = Write { key: key.clone(), expect: Expect::At(stored.rv), object: Some(encoded), delete: gone };
        match call.shared.store.write(write).await {
            Ok(o) => {
                if service {
                    call.shared.allocators.release(&old_stored, (!gone).then_some(&next));
                }
                let after = (!gone).then_some(&next);
                crate::controllers::after_write(&call.shared, resource, after, Some(&old_stored));
                return Ok(Made::Stored(o));
            }
            Err(StoreError::Conflict) => {
                if service {
                    call.shared.allocators.release(&next, Some(&old_stored));
                }
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// 409 for an object that is not in the state which its store is told to expect, in the words of the store.
pub(super) fn precondition(call: &Call, name: &str, dry: bool, what: &str, wanted: &Value, is: &Value) -> Status {
    let resource = &call.resource;
    let grouped = ["apiextensions.k8s.io", "apiregistration.k8s.io"].contains(&resource.group.as_str());
    let group = if resource.custom || grouped { format!("{}/", resource.group) } else { String::new() };
    // Where upstream keeps these is older than their name.
    let plural = match resource.stored_as.as_str() {
        "replicationcontrollers" => "controllers",
        "services" => "services/specs",
        "endpoints" => "services/endpoints",
        "nodes" => "minions",
        "ingresses.networking.k8s.io" => "ingress",
        _ => &resource.plural,
    };
    // A dry run asks no store, and knows no place in one.
    let prefix = if dry { "" } else { "/registry" };
    let place = [plural, call.namespace(), name];
    let place: Vec<&str> = place.into_iter().filter(|p| !p.is_empty()).collect();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let why = format!(
        "StorageError: invalid object, Code: 4, Key: {prefix}/{group}{}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: {what} in precondition: {}, {what} in object meta: {}",
        place.join("/"),
        text(wanted),
        text(is)
    );
    Status::conflict(call.named(name), why)
}
