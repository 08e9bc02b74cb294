//! Name references: fields that name an object whose name or namespace has changed are brought up to date.

use std::collections::{HashMap, HashSet};

use druse_object::{Str, Value};

use crate::config::NameReference;
use crate::error::{Result, fail};
use crate::fieldspec::Make;
use crate::ids::{Gvk, ResId, meta_text, text};
use crate::resource::{Resource, Resources};

/// What is known of an object that may be named.
struct Candidate {
    id: ResId,
    namespace: Str,
    original_namespace: Str,
    previous: Vec<ResId>,
    prefixes: Vec<Str>,
    suffixes: Vec<Str>,
}

impl Candidate {
    fn of(resource: &Resource) -> Self {
        let id = resource.id();
        let previous = resource.previous_ids();
        let original_namespace = previous.first().unwrap_or(&id).effective_namespace().into();
        Self {
            namespace: meta_text(&resource.value, "namespace"),
            original_namespace,
            previous,
            prefixes: resource.prefixes.clone(),
            suffixes: resource.suffixes.clone(),
            id,
        }
    }

    fn was(&self, gvk: &Gvk) -> bool {
        self.previous.iter().any(|id| id.gvk.is_selected(gvk))
    }
}

/// Whether the shorter list is the end of the longer.
fn same_end(a: &[Str], b: &[Str]) -> bool {
    a.iter().rev().zip(b.iter().rev()).all(|(x, y)| x == y)
}

/// Updates all fields that name renamed objects.
pub(crate) fn apply(resources: &mut Resources, references: &[NameReference]) -> Result<()> {
    for resource in resources.iter() {
        bound_namespaces(&resource.value, &resource.id())?;
    }
    // Only objects that have been something else can be named by what they were.
    if !resources.iter().any(Resource::has_previous) {
        return Ok(());
    }
    let candidates: Vec<Candidate> = resources.iter().map(Candidate::of).collect();
    let mut by_name: HashMap<Str, Vec<usize>> = HashMap::new();
    for (i, candidate) in candidates.iter().enumerate() {
        let names: HashSet<&Str> = candidate.previous.iter().map(|id| &id.name).collect();
        for name in names {
            by_name.entry(name.clone()).or_default().push(i);
        }
    }
    for (i, resource) in resources.list_mut().iter_mut().enumerate() {
        let Some(own) = candidates.get(i) else { continue };
        let original = own.previous.first().unwrap_or(&own.id).clone();
        let bound = bound_namespaces(&resource.value, &own.id)?;
        for reference in references {
            for spec in reference.field_specs.0.iter().filter(|s| original.gvk.is_selected(&s.gvk)) {
                let role = if spec.path.ends_with("roleRef/name") { role_gvk(&resource.value) } else { None };
                let finder = Finder {
                    own,
                    candidates: &candidates,
                    by_name: &by_name,
                    named: &reference.gvk,
                    role,
                    bound: &bound,
                };
                let mut spec = spec.clone();
                // The object matched by what it was; the walk must not ask again by what it is.
                spec.gvk = Gvk::default();
                spec.create = false;
                spec.apply(&mut resource.value, &own.id, Make::Nothing, &mut |field| finder.set(field)).map_err(
                    |e| e.wrap(format_args!("updating name reference in '{}' field of '{}'", spec.path, own.id)),
                )?;
            }
        }
    }
    Ok(())
}

/// The namespaces of the service accounts that a role binding binds: it may name objects there.
fn bound_namespaces(object: &Value, id: &ResId) -> Result<HashSet<Str>> {
    let mut out = HashSet::new();
    if id.gvk.kind == "RoleBinding" {
        for subject in object.get("subjects").map(Value::items).unwrap_or_default() {
            let is_account = subject.str_at(["kind"]) == Some("ServiceAccount");
            match subject.get("namespace") {
                Some(Value::String(namespace)) if is_account => {
                    out.insert(namespace.clone());
                }
                Some(_) if is_account => {
                    return Err(fail!("Invalid Input: namespace is blank for resource \"{id}\"\n"));
                }
                _ => {}
            }
        }
    }
    Ok(out)
}

fn role_gvk(object: &Value) -> Option<Gvk> {
    let role = object.get("roleRef")?;
    Some(Gvk { group: text(role.get("apiGroup")?), version: Str::default(), kind: text(role.get("kind")?) })
}

struct Finder<'a> {
    own: &'a Candidate,
    candidates: &'a [Candidate],
    by_name: &'a HashMap<Str, Vec<usize>>,
    named: &'a Gvk,
    role: Option<Gvk>,
    bound: &'a HashSet<Str>,
}

impl Finder<'_> {
    fn set(&self, field: &mut Value) -> Result<()> {
        match field {
            Value::Null => Ok(()),
            Value::Map(_) => self.set_map(field),
            Value::Array(items) => {
                for item in items {
                    match item {
                        Value::Null => {}
                        Value::Map(_) => self.set_map(item)?,
                        Value::Array(_) => {
                            return Err(fail!("item is expected to be either a string or a map of string"));
                        }
                        _ => self.set_scalar(item)?,
                    }
                }
                Ok(())
            }
            _ => self.set_scalar(field),
        }
    }

    fn set_scalar(&self, field: &mut Value) -> Result<()> {
        let old = text(field);
        if let Some(found) = self.find(&old, None, &|a, b| a.id.name == b.id.name)?
            && found.id.name != old
        {
            *field = Value::String(found.id.name.clone());
        }
        Ok(())
    }

    fn set_map(&self, field: &mut Value) -> Result<()> {
        let Some(name) = field.get("name").map(text) else {
            return Err(fail!("path config error; no 'name' field in node"));
        };
        let namespace = field.get("namespace").map(text);
        let same = |a: &Candidate, b: &Candidate| a.id.name == b.id.name && a.namespace == b.namespace;
        let Some(found) = self.find(&name, namespace.as_ref(), &same)? else { return Ok(()) };
        let Some(map) = field.as_map_mut() else { return Ok(()) };
        if found.id.name != name || !found.namespace.is_empty() {
            map.insert("name", found.id.name.clone());
            if !found.namespace.is_empty() {
                map.insert("namespace", found.namespace.clone());
            }
        }
        Ok(())
    }

    /// Whether the object may name another at all.
    fn could_name(&self, c: &Candidate) -> bool {
        self.own.id.cluster
            || c.id.cluster
            || c.id.effective_namespace() == self.own.id.effective_namespace()
            || self.bound.contains(&c.namespace)
    }

    fn same_namespace(&self, c: &Candidate) -> bool {
        self.own.id.cluster
            || c.id.cluster
            || c.id.gvk.kind == "ServiceAccount"
            || c.id.effective_namespace() == self.own.id.effective_namespace()
    }

    fn find(
        &self,
        name: &Str,
        namespace: Option<&Str>,
        same: &dyn Fn(&Candidate, &Candidate) -> bool,
    ) -> Result<Option<&Candidate>> {
        let Some(named) = self.by_name.get(name) else { return Ok(None) };
        let all: Vec<&Candidate> = named.iter().filter_map(|i| self.candidates.get(*i)).collect();
        let mut list: Vec<&Candidate> = all.into_iter().filter(|c| self.could_name(c)).collect();
        if let Some(namespace) = namespace {
            // Objects that were in the namespace count before those that are; kustomize looks whether any object at
            // all was there, not only those with the name.
            let any_was = self.candidates.iter().any(|c| self.could_name(c) && c.original_namespace == *namespace);
            if any_was {
                list.retain(|c| c.original_namespace == *namespace);
            } else {
                list.retain(|c| !c.id.cluster && c.id.effective_namespace() == namespace.as_str());
            }
        }
        list.retain(|c| c.was(self.named));
        if let Some(role) = &self.role {
            list.retain(|c| c.was(role));
        }
        list.retain(|c| self.same_namespace(c));
        if let [one] = list.as_slice() {
            return Ok(Some(one));
        }
        let empty_or_same = |a: &[Str], b: &[Str]| a.is_empty() || b.is_empty() || same_end(a, b);
        list.retain(|c| {
            empty_or_same(&c.prefixes, &self.own.prefixes) && empty_or_same(&c.suffixes, &self.own.suffixes)
        });
        if list.len() > 1 {
            list.retain(|c| same_lists(&c.prefixes, &self.own.prefixes) && same_lists(&c.suffixes, &self.own.suffixes));
        }
        match list.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            [first, rest @ ..] if rest.iter().all(|c| same(first, c)) => Ok(Some(first)),
            many => {
                let ids: Vec<String> = many.iter().map(|c| c.id.to_string()).collect();
                Err(fail!("found multiple possible referrals: {}", ids.join(", "))
                    .help("give the objects different names before prefixes and suffixes"))
            }
        }
    }
}

/// kustomize's comparison: both empty, or the shorter the end of the longer.
fn same_lists(a: &[Str], b: &[Str]) -> bool {
    if a.is_empty() || b.is_empty() { a.is_empty() && b.is_empty() } else { same_end(a, b) }
}
