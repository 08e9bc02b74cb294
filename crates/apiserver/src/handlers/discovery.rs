//! Discovery: which groups, versions and resources there are, one by one and aggregated.

use druse_object::{Map, Str, Value};
use http::HeaderMap;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, VARY};
use sha2::{Digest as _, Sha256};

use super::Answer;
use crate::registry::{Resource, Subresource, Table};
use crate::response;
use crate::server::Shared;
use crate::status::Status;

fn words(list: &[Str]) -> Value {
    list.iter().cloned().collect()
}

/// `/api`
#[must_use]
pub fn core_versions(shared: &Shared) -> Value {
    let mut address = Map::new();
    address.insert("clientCIDR", "0.0.0.0/0");
    address.insert("serverAddress", shared.address.read().as_str());
    let mut m = Map::new();
    m.insert("kind", "APIVersions");
    m.insert("versions", Value::Array(vec!["v1".into()]));
    m.insert("serverAddressByClientCIDRs", Value::Array(vec![Value::Map(address)]));
    Value::Map(m)
}

fn group_value(group: &str, versions: &[Str], typed: bool) -> Value {
    let version = |v: &Str| {
        let mut m = Map::new();
        m.insert("groupVersion", format!("{group}/{v}"));
        m.insert("version", v.clone());
        Value::Map(m)
    };
    let mut m = Map::new();
    if typed {
        m.insert("kind", "APIGroup");
        m.insert("apiVersion", "v1");
    }
    m.insert("name", group);
    m.insert("versions", versions.iter().map(version).collect::<Value>());
    if let Some(first) = versions.first() {
        m.insert("preferredVersion", version(first));
    }
    Value::Map(m)
}

/// `/apis`
#[must_use]
pub fn groups(shared: &Shared) -> Value {
    let table = shared.registry.table();
    let mut m = Map::new();
    m.insert("kind", "APIGroupList");
    m.insert("apiVersion", "v1");
    let named = table.groups.iter().filter(|(g, _)| !g.is_empty());
    m.insert("groups", named.map(|(g, v)| group_value(g, v, false)).collect::<Value>());
    Value::Map(m)
}

/// `/apis/GROUP`
///
/// # Errors
/// 404.
pub fn group(shared: &Shared, name: &str) -> Result<Value, Status> {
    let table = shared.registry.table();
    let versions = table.group_versions(name).filter(|_| !name.is_empty()).ok_or_else(Status::no_path)?;
    Ok(group_value(name, versions, true))
}

fn entry(r: &Resource, version: &str, sub: Option<&Subresource>) -> Value {
    let mut m = Map::new();
    m.insert("name", sub.map_or_else(|| r.plural.to_string(), |s| format!("{}/{}", r.plural, s.name)));
    m.insert("singularName", if sub.is_some() { Str::default() } else { r.singular.clone() });
    m.insert("namespaced", r.namespaced);
    if let Some(k) = sub.map(|s| &s.kind) {
        if !k.version.is_empty() {
            m.insert("group", k.group.clone());
            m.insert("version", k.version.clone());
        }
        m.insert("kind", k.kind.clone());
    } else {
        m.insert("kind", r.kind.clone());
    }
    m.insert("verbs", words(sub.map_or(&r.verbs, |s| &s.verbs)));
    if sub.is_none() {
        if !r.short_names.is_empty() {
            m.insert("shortNames", words(&r.short_names));
        }
        if !r.categories.is_empty() {
            m.insert("categories", words(&r.categories));
        }
        if r.is_stored() && r.allows("create") {
            let hash = if r.storage_hash.is_empty() {
                crate::registry::storage_hash(&r.group, &r.storage_version, &r.kind)
            } else {
                r.storage_hash.clone()
            };
            m.insert("storageVersionHash", hash);
        }
    }
    let _ = version;
    Value::Map(m)
}

/// `/api/v1`, `/apis/GROUP/VERSION`
///
/// # Errors
/// 404.
pub fn resources(shared: &Shared, group: &str, version: &str) -> Result<Value, Status> {
    let table = shared.registry.table();
    if !table.group_versions(group).is_some_and(|v| v.iter().any(|x| x == version)) {
        let builtin = table.resources.iter().any(|r| !r.custom && r.group == group);
        return Err(if builtin { Status::no_resource() } else { Status::no_path() });
    }
    let mut list = Vec::new();
    for r in table.resources.iter().filter(|r| r.group == group) {
        let Some(v) = r.version(version) else { continue };
        list.push(entry(r, version, None));
        list.extend(v.subresources.iter().map(|s| entry(r, version, Some(s))));
    }
    let mut m = Map::new();
    m.insert("kind", "APIResourceList");
    if !group.is_empty() {
        m.insert("apiVersion", "v1");
    }
    m.insert("groupVersion", if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") });
    m.insert("resources", list);
    Ok(Value::Map(m))
}

fn aggregated_type(headers: &HeaderMap) -> Option<bool> {
    for value in headers.get_all(ACCEPT) {
        for part in value.to_str().unwrap_or_default().split(',') {
            if part.contains("as=APIGroupDiscoveryList")
                && part.contains("g=apidiscovery.k8s.io")
                && part.trim_start().starts_with("application/json")
            {
                if part.contains("v=v2beta1") {
                    return Some(false);
                }
                if part.contains("v=v2") {
                    return Some(true);
                }
            }
        }
    }
    None
}

/// Whether a client asks for all of discovery at once.
#[must_use]
pub fn wants_aggregated(headers: &HeaderMap) -> bool {
    aggregated_type(headers).is_some()
}

/// All groups of one root (`/api`: core; `/apis`: all others) at once.
///
/// # Errors
/// None; the type is the handlers' own.
pub fn aggregated(shared: &Shared, headers: &HeaderMap, core: bool) -> Answer {
    let v2 = aggregated_type(headers).unwrap_or(true);
    let table = shared.registry.table();
    let mut items = Vec::new();
    for (group, versions) in table.groups.iter().filter(|(g, _)| g.is_empty() == core) {
        items.push(aggregated_group(&table, group, versions));
    }
    let api_version = if v2 { "apidiscovery.k8s.io/v2" } else { "apidiscovery.k8s.io/v2beta1" };
    let mut m = Map::new();
    m.insert("kind", "APIGroupDiscoveryList");
    m.insert("apiVersion", api_version);
    m.insert("metadata", Map::new());
    m.insert("items", items);
    let text = druse_object::json::to_string(&Value::Map(m));
    let tag = format!("\"{}\"", hex::encode_upper(Sha256::digest(text.as_bytes())));
    if headers.get(http::header::IF_NONE_MATCH).is_some_and(|v| v.as_bytes() == tag.as_bytes()) {
        let mut r = response::not_modified();
        r.headers_mut().insert(ETAG, http::HeaderValue::from_str(&tag).map_err(Status::internal)?);
        return Ok(r);
    }
    let mut r = response::text(200, "application/json", text);
    let kind = if v2 {
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    } else {
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"
    };
    r.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
    r.headers_mut().insert(VARY, http::HeaderValue::from_static("Accept"));
    r.headers_mut().insert(ETAG, http::HeaderValue::from_str(&tag).map_err(Status::internal)?);
    Ok(r)
}

fn aggregated_group(table: &Table, group: &str, versions: &[Str]) -> Value {
    let list = versions
        .iter()
        .map(|v| {
            let resources = table.resources.iter().filter(|r| r.group == group);
            let mut m = Map::new();
            m.insert("version", v.clone());
            m.insert("resources", resources.filter_map(|r| aggregated_resource(r, v)).collect::<Value>());
            m.insert("freshness", "Current");
            Value::Map(m)
        })
        .collect::<Value>();
    let mut meta = Map::new();
    if !group.is_empty() {
        meta.insert("name", group);
    }
    let mut m = Map::new();
    m.insert("metadata", meta);
    m.insert("versions", list);
    Value::Map(m)
}

fn aggregated_resource(r: &Resource, version: &str) -> Option<Value> {
    let v = r.version(version)?;
    let kind = |group: &str, version: &str, kind: &str| {
        let mut m = Map::new();
        m.insert("group", group);
        m.insert("version", version);
        m.insert("kind", kind);
        m
    };
    let mut m = Map::new();
    m.insert("resource", r.plural.clone());
    // Built-in resources leave group and version to the list around them.
    let (g, ver) = if r.custom { (r.group.as_str(), version) } else { ("", "") };
    m.insert("responseKind", kind(g, ver, &r.kind));
    m.insert("scope", if r.namespaced { "Namespaced" } else { "Cluster" });
    m.insert("singularResource", r.singular.clone());
    m.insert("verbs", words(&r.verbs));
    if !r.short_names.is_empty() {
        m.insert("shortNames", words(&r.short_names));
    }
    if !r.categories.is_empty() {
        m.insert("categories", words(&r.categories));
    }
    if !v.subresources.is_empty() {
        let subs = v
            .subresources
            .iter()
            .map(|s| {
                let mut sub = Map::new();
                sub.insert("subresource", s.name.clone());
                let (g, ver) = if r.custom && s.kind.version.is_empty() {
                    (r.group.as_str(), version)
                } else {
                    (s.kind.group.as_str(), s.kind.version.as_str())
                };
                sub.insert("responseKind", kind(g, ver, &s.kind.kind));
                sub.insert("verbs", words(&s.verbs));
                Value::Map(sub)
            })
            .collect::<Value>();
        m.insert("subresources", subs);
    }
    Some(Value::Map(m))
}
