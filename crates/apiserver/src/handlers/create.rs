//! Create.

use std::sync::Arc;

use druse_object::{Map, Str, Value};

use super::{Answer, Call};
use crate::admission::Operation;
use crate::convert;
use crate::managed;
use crate::meta;
use crate::server::now;
use crate::status::Status;
use crate::store::{Encoded, Expect, Key, StoreError, Stored, Write};
use crate::strategy;

/// What a write made.
#[derive(Debug)]
pub enum Made {
    /// A stored object.
    Stored(Arc<Stored>),
    /// What a dry run would have stored, in the version asked for.
    Dry(Value),
}

impl Made {
    /// The answer.
    pub fn answer(&self, call: &Call, code: u16) -> Answer {
        match self {
            Made::Stored(o) => call.view.object(code, o),
            Made::Dry(v) => Ok(call.view.answer(code, v.clone())),
        }
    }
}

/// POST on a collection.
pub async fn create(call: &Call) -> Answer {
    if !call.info.name.is_empty() {
        return Err(Status::method_not_supported());
    }
    if call.resource.namespaced && call.info.namespace.is_empty() {
        return Err(Status::method_not_supported());
    }
    let dry = call.dry_run()?;
    let object = call.body_to_store()?;
    // Only the store minds, and a dry run does not reach it.
    if !dry && object.str_at(["metadata", "resourceVersion"]).is_some_and(|v| !v.is_empty()) {
        return Err(Status::internal("resourceVersion should not be set on objects to be created"));
    }
    let manager = call.manager();
    let made = insert(call, object, Some(&manager), dry).await?;
    made.answer(call, 201)
}

/// How often a generated name is tried anew when it is taken.
const NAME_TRIES: usize = 8;

/// Admits and stores a new object, read and defaulted. `manager` records field ownership as an update's; `None` leaves
/// what the object says (an apply has recorded it already).
pub async fn insert(call: &Call, mut object: Value, manager: Option<&str>, dry: bool) -> Result<Made, Status> {
    call.fit_namespace(&mut object)?;
    let schema = call.schema()?;
    let generated = meta::wants_generated_name(&object);
    let mut tries = 0;
    loop {
        let mut new = object.clone();
        if generated {
            meta::generate_name(&mut new);
        }
        if !call.keep_status {
            strategy::clear_for_create(&call.resource, &call.version, &mut new);
        }
        if call.resource.stored_as == strategy::CSRS {
            strategy::requested_by(&call.user, &mut new);
        }
        if let Some(manager) = manager {
            managed::record(None, &mut new, manager, "", &now(), &schema);
        }
        if call.resource.stored_as == "limitranges" && !generated {
            strategy::name_limit_range(&mut new);
        }
        let name = Str::from(new.str_at(["metadata", "name"]).unwrap_or_default());
        let mut review = call.review(Operation::Create, "", &name, Some(&mut new), None, dry);
        call.shared.admission.mutate(&call.shared, &mut review).await?;
        call.warnings.lock().extend(crate::warnings::one_of_each_owner(&mut new, true));
        meta::fill_for_create(&call.resource, &mut new);
        if let (Some(rv), Some(m)) = (object.at(["metadata", "resourceVersion"]), new.make_map_at(["metadata"]))
            && dry
        {
            m.insert("resourceVersion", rv.clone());
        }
        strategy::prepare_create(&call.resource, &mut new);
        if call.resource.stored_as == "jobs.batch" {
            share_labels(call, &mut new);
        }
        let mut errors = meta::validate_create(&call.resource, &new);
        if !call.resource.custom {
            errors.extend(super::devices::admin_access(call, "", &new, None));
            errors.extend(crate::validate::validate_create(&call.gvk(), &new));
        }
        errors.extend(schema.validate(&new, None));
        if !errors.is_empty() {
            return Err(call.invalid(&name, &errors));
        }
        call.warnings.lock().extend(crate::warnings::of_write(&call.gvk(), call.resource.custom, &new, None));
        let key = Key::new(call.resource.stored_as.clone(), call.namespace(), name.clone());
        if call.shared.store.get(&key).is_some() && !generated {
            return Err(Status::already_exists(call.named(&name)));
        }
        let allocated = call.resource.stored_as == "services";
        if allocated {
            call.shared
                .allocators
                .allocate(&mut new, None, dry)
                .map_err(|e| Status::invalid("", "Service", &name, &[e]))?;
        }
        let give_back = |new: &Value| {
            if allocated && !dry {
                call.shared.allocators.release(new, None);
            }
        };
        let mut review = call.review(Operation::Create, "", &name, Some(&mut new), None, dry);
        if let Err(e) = call.shared.admission.validate(&call.shared, &mut review).await {
            give_back(&new);
            return Err(e);
        }
        if !call.resource.custom {
            schema.forget_empty(&mut new);
        }
        strategy::show_labels(&call.resource, &mut new);
        if dry {
            return Ok(Made::Dry(new));
        }
        let stored = convert::to_stored(&call.shared, new.clone(), &call.resource, &call.version)?;
        let settled = key.clone();
        let write = Write { key, expect: Expect::Absent, object: Some(Encoded::of(&stored)), delete: false };
        let written = call.shared.store.write(write).await;
        call.shared.bookings.settle(&settled);
        match written {
            Ok(o) => {
                crate::controllers::after_write(&call.shared, &call.resource, Some(&stored), None);
                return Ok(Made::Stored(o));
            }
            Err(StoreError::Conflict) if generated && tries < NAME_TRIES => {
                give_back(&new);
                tries += 1;
            }
            Err(StoreError::Conflict) => {
                give_back(&new);
                return Err(Status::already_exists(call.named(&name)));
            }
            Err(e) => {
                give_back(&new);
                return Err(e.into());
            }
        }
    }
}

/// A job that says no labels has those of its template, the ones that its selector adds among them: upstream lets both
/// be one map.
fn share_labels(call: &Call, job: &mut Value) {
    let said = match call.method {
        http::Method::PATCH => super::call::parse_yaml(&call.body).unwrap_or_default(),
        _ => call.body_value("Job").unwrap_or_default(),
    };
    let says = said.at(["metadata", "labels"]).and_then(Value::as_map).is_some_and(|m| !m.is_empty());
    let theirs = said.at(["spec", "template", "metadata", "labels"]).and_then(Value::as_map);
    if says || theirs.is_none_or(Map::is_empty) {
        return;
    }
    if let (Some(labels), Some(m)) =
        (job.at(["spec", "template", "metadata", "labels"]).cloned(), job.make_map_at(["metadata"]))
    {
        m.insert("labels", labels);
    }
}
