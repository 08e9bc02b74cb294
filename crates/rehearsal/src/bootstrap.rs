//! What a person does by hand when a cluster is new: serve the kinds that no chart brings, apply the tree's roots.

use std::collections::BTreeSet;

use druse_component::{Component, SIMULATED};
use druse_flux::api::{HELM_GROUP, KUSTOMIZE_GROUP, SOURCE_GROUP};
use druse_object::{Object, Value};
use druse_plan::{Plan, UnitState};
use druse_runtime::{Api, ApiError, Caches, Patch, Resource};

use crate::RehearsalError;

/// The field manager of what is applied here.
const MANAGER: &str = "druse-bootstrap";

pub(crate) fn kustomizations() -> Resource {
    Resource::new(KUSTOMIZE_GROUP, "v1", "Kustomization", "kustomizations", true)
}

pub(crate) fn helm_releases() -> Resource {
    Resource::new(HELM_GROUP, "v2", "HelmRelease", "helmreleases", true)
}

/// The components that are part of this rehearsal: always present, named by a chart of the plan, standing in, or serving
/// a kind that the plan uses and nothing else of it defines.
pub(crate) fn components(plan: &Plan) -> Vec<&'static Component> {
    let charts: BTreeSet<&str> = plan.units.iter().filter_map(|u| u.chart.as_ref()).map(|c| c.name.as_str()).collect();
    let stand_ins = standing_in(plan);
    let groups: BTreeSet<String> =
        plan.units.iter().flat_map(|u| &u.objects).map(|o| o.gvk().group.to_string()).collect();
    druse_component::all()
        .iter()
        .filter(|c| {
            c.always_present
                || stand_ins.contains(c.name.as_str())
                || c.charts.iter().any(|n| charts.contains(n.as_str()))
                || (c.registers_its_own_crds && c.crds.iter().any(|crd| groups.contains(&crd.group)))
        })
        .collect()
}

/// The components that stand in for something.
fn standing_in(plan: &Plan) -> BTreeSet<&str> {
    plan.units
        .iter()
        .filter_map(|u| match &u.state {
            UnitState::StandIn { component, .. } => Some(component.as_str()),
            _ => None,
        })
        .collect()
}

/// Makes what others look for of the charts that are stood in for, where nothing of the tree brings it; what an earlier
/// run made so goes once the chart is there, which would not take it over.
pub(crate) async fn stand_in_objects(api: &Api, plan: &Plan) -> Result<(), RehearsalError> {
    let standing_in = standing_in(plan);
    for component in druse_component::all() {
        for object in component.stand_in_objects() {
            let (key, stands) = (object.key(), standing_in.contains(component.name.as_str()));
            let brought = plan.units.iter().flat_map(|u| &u.objects).any(|o| o.key() == key);
            let resource = api.resource(&object.gvk()).await.map_err(|e| refused(&object, &e))?;
            let there = api.get(&resource, "", object.name()).await.map_err(|e| refused(&object, &e))?;
            let made_so = there.as_ref().is_some_and(|o| !o["metadata"]["annotations"][SIMULATED].is_null());
            let done = match (stands && !brought, there) {
                (true, None) => api.apply(&object, MANAGER, false).await.map(drop),
                (false, Some(_)) if made_so => {
                    api.delete(&resource, "", object.name(), &Default::default()).await.map(drop)
                }
                _ => Ok(()),
            };
            done.map_err(|e| refused(&object, &e))?;
        }
    }
    Ok(())
}

/// Serves the kinds of components that no chart of the plan brings: those the system registers itself, and those of
/// components that stand in. What is there already stays as it is.
///
/// Returns when they are served: definitions take effect a moment after they are written.
pub(crate) async fn serve_components(
    caches: &Caches,
    plan: &Plan,
    components: &[&Component],
) -> Result<(), RehearsalError> {
    let api = caches.api();
    let resource = crate::crd_resource();
    let brought: BTreeSet<&str> = plan
        .units
        .iter()
        .flat_map(|u| &u.objects)
        .filter(|o| o.kind() == "CustomResourceDefinition")
        .map(Object::name)
        .collect();
    let mut awaited = Vec::new();
    for (component, crd) in components.iter().flat_map(|c| c.crd_objects().into_iter().map(move |crd| (c, crd))) {
        // What is always present is needed before the first unit can go, even where a unit brings it as well (as the
        // `gotk-components.yaml` of Flux' own bootstrap does).
        if brought.contains(crd.name()) && !component.always_present {
            continue;
        }
        let there = api.get(&resource, "", crd.name()).await.map_err(|e| refused(&crd, &e))?;
        if there.is_none() {
            api.apply(&crd, MANAGER, false).await.map_err(|e| refused(&crd, &e))?;
        }
        awaited.push(crd.name().to_owned());
    }
    let definitions = caches.of(&resource);
    let mut changes = definitions.subscribe();
    definitions.synced().await;
    loop {
        let known = definitions.all();
        let decided = |name: &str| known.iter().any(|d| d.str_at(["metadata", "name"]) == Some(name) && is_decided(d));
        awaited.retain(|name| !decided(name));
        if awaited.is_empty() || changes.recv().await.is_none() {
            return Ok(());
        }
    }
}

/// Whether a definition is served, or never will be since another has its names.
fn is_decided(definition: &Value) -> bool {
    let conditions = definition["status"]["conditions"].items();
    let has = |kind: &str, status: &str| {
        conditions.iter().any(|c| c.str_at(["type"]) == Some(kind) && c.str_at(["status"]) == Some(status))
    };
    has("Established", "True") || has("NamesAccepted", "False")
}

fn refused(object: &Object, e: &ApiError) -> RehearsalError {
    RehearsalError::Apply { object: object.key().to_string(), cause: e.to_string() }
}

/// Applies the definitions of the tree's roots, with the sources they read and the namespaces they live in.
pub(crate) async fn roots(api: &Api, plan: &Plan) -> Result<(), RehearsalError> {
    let roots: Vec<_> = plan.units.iter().filter(|u| u.is_root || u.made_by.iter().all(|m| *m == u.id)).collect();
    let mut namespaces: BTreeSet<String> = roots.iter().map(|u| u.id.namespace.to_string()).collect();
    let mut objects = Vec::new();
    for unit in &roots {
        let Some(source) = &unit.source else { continue };
        let mut parts = source.id.split('/');
        let (Some(kind), Some(namespace), Some(name)) = (parts.next(), parts.next(), parts.next()) else { continue };
        namespaces.insert(namespace.to_owned());
        let declared = plan.units.iter().flat_map(|u| &u.objects).find(|o| {
            o.kind() == kind && o.namespace() == namespace && o.name() == name && o.gvk().group == SOURCE_GROUP
        });
        objects.push(declared.cloned().unwrap_or_else(|| source_object(kind, namespace, name, &source.url)));
    }
    for name in namespaces {
        make_namespace(api, &name).await?;
    }
    objects.extend(roots.iter().map(|u| (*u.definition).clone()));
    for mut object in objects {
        // Flux' labels come when a unit renders it.
        if object.namespace().is_empty() {
            let namespace = roots.iter().find(|u| u.id.name == object.name()).map(|u| u.id.namespace.clone());
            if let (Some(m), Some(ns)) = (object.metadata_mut(), namespace) {
                m.insert("namespace", ns);
            }
        }
        apply_once(api, &object).await?;
    }
    Ok(())
}

/// Applies what is not there; what a unit already manages is left to it.
async fn apply_once(api: &Api, object: &Object) -> Result<(), RehearsalError> {
    let resource = api.resource(&object.gvk()).await.map_err(|e| refused(object, &e))?;
    let there = api.get(&resource, object.namespace(), object.name()).await.map_err(|e| refused(object, &e))?;
    if there.is_some_and(|v| !v["metadata"]["labels"][format!("{KUSTOMIZE_GROUP}/name").as_str()].is_null()) {
        return Ok(());
    }
    let how = Patch::Apply { manager: MANAGER, force: true, dry_run: false };
    api.patch(&resource, object.namespace(), object.name(), "", how, &object.value)
        .await
        .map(|_| ())
        .map_err(|e| refused(object, &e))
}

async fn make_namespace(api: &Api, name: &str) -> Result<(), RehearsalError> {
    let mut object = Value::default();
    if let Some(m) = object.make_map() {
        m.insert("apiVersion", "v1");
        m.insert("kind", "Namespace");
    }
    if let Some(m) = object.make_map_at(["metadata"]) {
        m.insert("name", name);
    }
    let object = Object::new(object);
    let resource = Resource::new("", "v1", "Namespace", "namespaces", false);
    match api.create(&resource, "", &object.value).await {
        Err(e) if e.reason() != "AlreadyExists" => Err(refused(&object, &e)),
        _ => Ok(()),
    }
}

/// A source that no file of the tree defines, as a bootstrap would have made it.
fn source_object(kind: &str, namespace: &str, name: &str, url: &str) -> Object {
    let mut object = Value::default();
    if let Some(m) = object.make_map() {
        m.insert("apiVersion", format!("{SOURCE_GROUP}/v1"));
        m.insert("kind", kind);
    }
    if let Some(m) = object.make_map_at(["metadata"]) {
        m.insert("name", name);
        m.insert("namespace", namespace);
    }
    if let Some(m) = object.make_map_at(["spec"]) {
        m.insert("interval", "1m");
        m.insert("url", if url.is_empty() { "https://localhost/tree" } else { url });
    }
    Object::new(object)
}
