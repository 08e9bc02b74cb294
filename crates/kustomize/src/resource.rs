//! The objects of a build with what kustomize remembers of each, and the list they are kept in.
//!
//! kustomize keeps the memory in annotations and removes them at the end; here it is beside the object.

use std::collections::HashSet;
use std::sync::Arc;

use druse_object::{Map, Object, Provenance, Str, Value, yaml};

use crate::docs::Notes;
use crate::error::{Result, fail};
use crate::ids::{Gvk, IdKey, ResId, meta_text, text};
use crate::kustomization::{PatchOptions, Selector};
use crate::scalar;
use crate::selector::Matcher;

/// What a generated object does to one that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behavior {
    #[default]
    Unspecified,
    Create,
    Replace,
    Merge,
}

impl Behavior {
    pub(crate) fn parse(word: &str) -> Self {
        match word {
            "create" => Self::Create,
            "replace" => Self::Replace,
            "merge" => Self::Merge,
            _ => Self::Unspecified,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::Create => "create",
            Self::Replace => "replace",
            Self::Merge => "merge",
        }
    }
}

/// An identity an object had before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Previous {
    kind: Str,
    name: Str,
    namespace: Str,
}

/// An object of a build.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resource {
    pub value: Value,
    pub provenance: Provenance,
    previous: Vec<Previous>,
    pub prefixes: Vec<Str>,
    pub suffixes: Vec<Str>,
    pub behavior: Behavior,
    pub needs_hash: bool,
    /// Variables that read this object.
    pub variables: Vec<String>,
    /// The text of the origin annotation, where origins are tracked.
    pub origin: Option<Arc<str>>,
    /// The text of the transformations annotation.
    pub transformations: String,
    /// A chart made it: its namespace is the chart's own affair.
    pub by_helm: bool,
    /// The ways to nulls that nothing is written for, while no patch has removed them.
    pub blanks: Vec<Vec<yaml::Step>>,
    /// Keys that are no texts as they are written.
    pub typed_keys: Vec<Str>,
    /// For a patch, what it may change.
    pub options: PatchOptions,
}

impl Resource {
    pub(crate) fn new(value: Value, provenance: Provenance) -> Self {
        Self { value, provenance, ..Self::default() }
    }

    pub(crate) fn with_notes(self, notes: Option<&Notes>) -> Self {
        let notes = notes.cloned().unwrap_or_default();
        Self { blanks: notes.blanks, typed_keys: notes.typed_keys, ..self }
    }

    /// Remembers those of the keys, which are about to be added, that are no texts as kustomize writes them.
    pub(crate) fn note_keys<'k>(&mut self, keys: impl Iterator<Item = &'k str>) {
        self.typed_keys.extend(keys.filter(|k| !scalar::is_text(k)).map(Str::from));
    }

    /// Fails where a map below the first level has a key that is no text, as kustomize does: it turns the object into
    /// JSON, which has no such keys.
    pub(crate) fn check_keys(&self) -> Result<()> {
        let found = self.typed_keys.iter().find_map(|key| {
            let top = self.value.as_map().into_iter().flat_map(Map::iter);
            top.filter_map(|(field, value)| has_key(value, key, 0).then_some((field, key))).next()
        });
        let Some((field, key)) = found else { return Ok(()) };
        Err(fail!(
            "the key {key} in {field} of {} is no text: json: unsupported type: map[interface {{}}]interface {{}}",
            self.id()
        )
        .at(self.provenance.file.as_deref().unwrap_or_default(), self.provenance.line)
        .help(format!("put the key in quotes: \"{key}\"")))
    }

    /// The identity now.
    pub(crate) fn id(&self) -> ResId {
        ResId::of(&self.value)
    }

    pub(crate) fn kind(&self) -> Str {
        self.value.get("kind").map_or_else(Str::default, text)
    }

    pub(crate) fn name(&self) -> Str {
        meta_text(&self.value, "name")
    }

    /// The identities it had, oldest first. They carry the group and version of now, and kustomize does not count
    /// them as cluster-scoped.
    pub(crate) fn previous_ids(&self) -> Vec<ResId> {
        if self.previous.is_empty() {
            return Vec::new();
        }
        let api_version = self.value.get("apiVersion").map_or_else(Str::default, text);
        self.previous
            .iter()
            .map(|p| ResId {
                gvk: Gvk::from_api_version(&api_version, &p.kind),
                name: p.name.clone(),
                namespace: p.namespace.clone(),
                cluster: false,
            })
            .collect()
    }

    pub(crate) fn has_previous(&self) -> bool {
        !self.previous.is_empty()
    }

    /// The first identity.
    pub(crate) fn original_id(&self) -> ResId {
        self.previous_ids().into_iter().next().unwrap_or_else(|| self.id())
    }

    /// Remembers the identity of now.
    pub(crate) fn store_previous(&mut self) {
        let id = self.id();
        self.previous.push(Previous { namespace: id.effective_namespace().into(), name: id.name, kind: id.gvk.kind });
    }

    pub(crate) fn matches_any_id(&self, matches: &dyn Fn(&ResId) -> bool) -> bool {
        matches(&self.id()) || self.previous_ids().iter().any(matches)
    }

    pub(crate) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::Map(m) => m.is_empty(),
            Value::Array(a) => a.is_empty(),
            _ => false,
        }
    }

    pub(crate) fn set_name(&mut self, name: &str) {
        if let Some(meta) = self.value.make_map_at(["metadata"]) {
            meta.insert("name", name);
        }
    }

    pub(crate) fn set_namespace(&mut self, namespace: &str) {
        if let Some(meta) = self.value.make_map_at(["metadata"]) {
            if namespace.is_empty() {
                meta.remove("namespace");
            } else {
                meta.insert("namespace", namespace);
            }
        }
    }

    fn set_top(&mut self, field: &str, value: &str) {
        if let Some(map) = self.value.as_map_mut() {
            map.insert(field, value);
        }
    }

    /// A map of texts in the metadata as kustomize reads and writes it back: every value a text, no map when empty.
    /// `null` is the text of an explicit null.
    fn stringify(&mut self, field: &str, null: &str) {
        let Some(meta) = self.value.make_map_at(["metadata"]) else { return };
        let Some(map) = meta.get_mut(field) else { return };
        let empty = match map {
            Value::Map(m) => {
                for v in m.values_mut() {
                    match v {
                        Value::String(_) => {}
                        Value::Null => *v = null.into(),
                        other => *other = Value::String(text(other)),
                    }
                }
                m.is_empty()
            }
            _ => true,
        };
        if empty {
            meta.remove(field);
        }
    }

    /// A patch as it is when applied by a target: its labels and annotations have become texts (a null one the text
    /// `null`, so that it removes nothing), and its kind's group and version are those of the object.
    pub(crate) fn as_target_patch(&self, target: &Resource) -> Resource {
        let mut patch = self.clone();
        patch.stringify("labels", "null");
        patch.stringify("annotations", "null");
        let namespace = meta_text(&patch.value, "namespace");
        patch.set_namespace(&namespace);
        if let Some(api_version) = target.value.get("apiVersion").map(text) {
            patch.set_top("apiVersion", &api_version);
        }
        patch
    }

    /// Applies a strategic merge patch. The object is empty afterwards when the patch deletes it.
    pub(crate) fn apply_patch(&mut self, patch: &Resource, schemas: &crate::schema::Known) -> Result<()> {
        let (name, namespace, kind) = (self.name(), meta_text(&self.value, "namespace"), self.kind());
        if patch.options.allow_name_change || patch.options.allow_kind_change {
            self.store_previous();
        }
        if patch.value.get("$patch").map(text).as_deref() == Some("replace") {
            // What kustomize makes of this goes nowhere: the object stays as it is.
            return Ok(());
        }
        let mut value = std::mem::take(&mut self.value);
        crate::merge::drop_blanks(&mut value, &std::mem::take(&mut self.blanks), schemas);
        self.typed_keys.extend(patch.typed_keys.iter().cloned());
        self.value = crate::merge::merge(value, &patch.value, schemas)?.unwrap_or_default();
        if self.is_empty() {
            self.value = Value::Null;
            return Ok(());
        }
        if !patch.options.allow_kind_change {
            self.set_top("kind", &kind);
        }
        if !patch.options.allow_name_change {
            self.set_name(&name);
        }
        self.set_namespace(&namespace);
        Ok(())
    }

    /// Takes over what the object it replaces was: name, namespace, labels, annotations and memory.
    fn take_over(&mut self, old: &Resource) {
        for field in ["labels", "annotations"] {
            let mut merged = Map::new();
            for from in [&old.value, &self.value] {
                if let Some(map) = from.at(["metadata", field]).and_then(Value::as_map) {
                    for (k, v) in map.iter() {
                        merged.insert(k.clone(), text(v));
                    }
                }
            }
            if let Some(meta) = self.value.make_map_at(["metadata"]) {
                meta.remove(field);
                if !merged.is_empty() {
                    meta.insert(field, merged);
                }
            }
        }
        self.typed_keys.extend(old.typed_keys.iter().cloned());
        self.needs_hash &= old.needs_hash;
        self.behavior = old.behavior;
        self.previous.clone_from(&old.previous);
        self.prefixes.clone_from(&old.prefixes);
        self.suffixes.clone_from(&old.suffixes);
        self.variables.clone_from(&old.variables);
        self.set_name(&old.name());
        self.set_namespace(&meta_text(&old.value, "namespace"));
    }

    fn merge_data(&mut self, old: &Resource) {
        let mut values: std::collections::BTreeMap<Str, (bool, Str)> = std::collections::BTreeMap::new();
        for (field, binary) in [("data", false), ("binaryData", true)] {
            for from in [&old.value, &self.value] {
                if let Some(map) = from.get(field).and_then(Value::as_map) {
                    for (k, v) in map.iter() {
                        values.insert(k.clone(), (binary, text(v)));
                    }
                }
            }
        }
        let Some(map) = self.value.as_map_mut() else { return };
        map.remove("data");
        map.remove("binaryData");
        for (key, (binary, value)) in values {
            let field = if binary { "binaryData" } else { "data" };
            if let Some(m) = map.entry_or_null(field).make_map() {
                m.insert(key, value);
            }
        }
    }

    /// The object as kustomize prints it: annotations are texts, whole floats are integers, memory is gone.
    ///
    /// # Errors
    /// When it has keys that cannot be printed.
    pub(crate) fn finish(mut self, origins: bool, transformations: bool) -> Result<Object> {
        self.check_keys()?;
        if let Some(annotations) = self.value.make_map_at(["metadata"]).and_then(|m| m.get_mut("annotations"))
            && let Some(map) = annotations.as_map_mut()
        {
            for key in INTERNAL_ANNOTATIONS {
                map.remove(key);
            }
            if !origins || self.origin.is_none() {
                map.remove(ORIGIN);
            }
            map.remove(TRANSFORMATIONS);
        }
        self.stringify("annotations", "");
        if let Some(origin) = self.origin.take().filter(|_| origins) {
            self.annotate(ORIGIN, &origin);
        }
        if transformations && !self.transformations.is_empty() {
            let text = std::mem::take(&mut self.transformations);
            self.annotate(TRANSFORMATIONS, &text);
        }
        whole_floats(&mut self.value, 0);
        Ok(Object { value: self.value, provenance: self.provenance })
    }

    /// The object with its memory as JSON, as kustomize shows it in messages.
    pub(crate) fn to_json(&self) -> String {
        let mut copy = self.clone();
        let list =
            |f: &dyn Fn(&Previous) -> &Str| self.previous.iter().map(|p| f(p).as_str()).collect::<Vec<_>>().join(",");
        let memory = [
            ("previousKinds", list(&|p| &p.kind)),
            ("previousNames", list(&|p| &p.name)),
            ("previousNamespaces", list(&|p| &p.namespace)),
            ("prefixes", self.prefixes.join(",")),
            ("suffixes", self.suffixes.join(",")),
        ];
        for (key, value) in memory.iter().filter(|(_, value)| !value.is_empty()) {
            copy.annotate(&format!("internal.config.kubernetes.io/{key}"), value);
        }
        copy.value.sort_keys();
        crate::generators::go_json(&copy.value)
    }

    fn annotate(&mut self, key: &str, value: &str) {
        if let Some(map) = self.value.make_map_at(["metadata", "annotations"]) {
            map.insert(key, value);
        }
    }
}

const ORIGIN: &str = "config.kubernetes.io/origin";
const TRANSFORMATIONS: &str = "alpha.config.kubernetes.io/transformations";
/// Annotations that kustomize takes for its own and removes from every object.
const INTERNAL_ANNOTATIONS: [&str; 19] = [
    "internal.config.kubernetes.io/previousKinds",
    "internal.config.kubernetes.io/previousNames",
    "internal.config.kubernetes.io/prefixes",
    "internal.config.kubernetes.io/suffixes",
    "internal.config.kubernetes.io/previousNamespaces",
    "internal.config.kubernetes.io/allowNameChange",
    "internal.config.kubernetes.io/allowKindChange",
    "internal.config.kubernetes.io/refBy",
    "internal.config.kubernetes.io/generatorBehavior",
    "internal.config.kubernetes.io/needsHashSuffix",
    "internal.config.kubernetes.io/path",
    "internal.config.kubernetes.io/index",
    "internal.config.kubernetes.io/seqindent",
    "internal.config.kubernetes.io/id",
    "internal.config.kubernetes.io/annotations-migration-resource-id",
    "config.kubernetes.io/path",
    "config.kubernetes.io/index",
    "config.k8s.io/id",
    "internal.config.kubernetes.io/helm-generated",
];

/// Deeper than any document the reader accepts.
const MAX_DEPTH: usize = 2000;

/// Whether a map in a value has a key.
fn has_key(value: &Value, key: &str, depth: usize) -> bool {
    match value {
        _ if depth > MAX_DEPTH => false,
        Value::Map(map) => map.contains_key(key) || map.values().any(|v| has_key(v, key, depth + 1)),
        Value::Array(items) => items.iter().any(|v| has_key(v, key, depth + 1)),
        _ => false,
    }
}

/// kustomize writes objects through Go's JSON, in which `1.0` is `1`.
fn whole_floats(value: &mut Value, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Float(f) if f.fract() == 0.0 && f.abs() < 9.0e15 => {
            #[allow(clippy::cast_possible_truncation)]
            let whole = *f as i64;
            *value = Value::Int(whole);
        }
        Value::Array(items) => items.iter_mut().for_each(|v| whole_floats(v, depth + 1)),
        Value::Map(map) => map.values_mut().for_each(|v| whole_floats(v, depth + 1)),
        _ => {}
    }
}

/// The objects of a build in order; no two have the same identity.
#[derive(Clone, Debug, Default)]
pub(crate) struct Resources {
    list: Vec<Resource>,
    /// The identities in `list`, while nothing may have changed them.
    ids: Option<HashSet<IdKey>>,
}

impl Resources {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.list.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// The objects, to change.
    pub(crate) fn list_mut(&mut self) -> &mut Vec<Resource> {
        self.ids = None;
        &mut self.list
    }

    /// The objects, to change in ways that leave identities alone.
    pub(crate) fn contents_mut(&mut self) -> &mut [Resource] {
        &mut self.list
    }

    pub(crate) fn into_list(self) -> Vec<Resource> {
        self.list
    }

    /// Adds an object.
    ///
    /// # Errors
    /// When one with its identity is there.
    pub(crate) fn append(&mut self, resource: Resource) -> Result<()> {
        let id = resource.id();
        let list = &self.list;
        let ids = self.ids.get_or_insert_with(|| list.iter().map(|r| r.id().key()).collect());
        if !ids.insert(id.key()) {
            return Err(fail!("may not add resource with an already registered id: {id}")
                .at(resource.provenance.file.as_deref().unwrap_or_default(), resource.provenance.line)
                .help(first_of(&self.list, &id)));
        }
        self.list.push(resource);
        Ok(())
    }

    pub(crate) fn append_all(&mut self, others: impl IntoIterator<Item = Resource>) -> Result<()> {
        others.into_iter().try_for_each(|r| self.append(r))
    }

    /// Adds a generated object, or merges it into the one with its identity.
    pub(crate) fn absorb(&mut self, mut resource: Resource) -> Result<()> {
        let id = resource.id();
        let matches: Vec<usize> = (0..self.list.len())
            .filter(|i| self.list.get(*i).is_some_and(|r| r.matches_any_id(&|x| x.same(&id))))
            .collect();
        let go_id = || {
            format!(
                "resid.ResId{{Gvk:resid.Gvk{{Group:{:?}, Version:{:?}, Kind:{:?}, isClusterScoped:{}}}, Name:{:?}, \
                 Namespace:{:?}}}",
                id.gvk.group.as_str(),
                id.gvk.version.as_str(),
                id.gvk.kind.as_str(),
                id.cluster,
                id.name.as_str(),
                id.namespace.as_str()
            )
        };
        let old = match matches.as_slice() {
            [] if matches!(resource.behavior, Behavior::Merge | Behavior::Replace) => {
                return Err(fail!("id {} does not exist; cannot merge or replace", go_id()));
            }
            [] => return self.append(resource),
            [one] => *one,
            _ => return Err(fail!("found multiple objects that could accept merge of {id}")),
        };
        let Some(old_resource) = self.list.get(old) else { return Ok(()) };
        match resource.behavior {
            Behavior::Replace => resource.take_over(old_resource),
            Behavior::Merge => {
                resource.take_over(old_resource);
                resource.merge_data(old_resource);
                resource.origin.clone_from(&old_resource.origin);
            }
            behavior => {
                return Err(fail!(
                    "id {} exists; can not use behavior: '{}', behavior must be merge or replace",
                    go_id(),
                    behavior.name()
                ));
            }
        }
        resource.transformations.clone_from(&old_resource.transformations);
        if let Some(place) = self.list_mut().get_mut(old) {
            *place = resource;
        }
        Ok(())
    }

    /// The one object that has or had an identity.
    pub(crate) fn find(&self, id: &ResId) -> Result<usize> {
        let mut found = (0..self.list.len())
            .filter(|i| self.list.get(*i).is_some_and(|r| !r.is_empty() && r.matches_any_id(&|x| x.same(id))));
        let problem = match (found.next(), found.next()) {
            (Some(one), None) => return Ok(one),
            (None, _) => "no",
            _ => "multiple",
        };
        Err(fail!("{problem} matches for Id {id}; failed to find unique target for patch {id}"))
    }

    /// The objects that a selector names, by what they are or were first.
    pub(crate) fn select(&self, selector: &Selector) -> Result<Vec<usize>> {
        let matcher = Matcher::new(selector)?;
        let mut out = Vec::new();
        for (i, resource) in self.list.iter().enumerate() {
            let id = resource.id();
            let original = if resource.has_previous() { resource.original_id() } else { id.clone() };
            if (matcher.namespace(original.effective_namespace()) || matcher.namespace(id.effective_namespace()))
                && (matcher.name(&original.name) || matcher.name(&id.name))
                && matcher.gvk(&id.gvk)
                && matcher.metadata(&resource.value)
            {
                out.push(i);
            }
        }
        Ok(out)
    }

    pub(crate) fn drop_empty(&mut self) {
        if self.list.iter().any(Resource::is_empty) {
            self.list_mut().retain(|r| !r.is_empty());
        }
    }

    /// Checks that no two objects have the same identity, as adding them all again would.
    pub(crate) fn check_unique(&mut self) -> Result<()> {
        let list = std::mem::take(&mut self.list);
        self.ids = None;
        self.append_all(list)
    }
}

fn first_of(list: &[Resource], id: &ResId) -> String {
    match list.iter().find(|r| r.id().same(id)).map(|r| r.provenance.to_string()) {
        Some(place) => format!("the first one is in {place}: remove one of the two, or turn one into a patch"),
        None => String::new(),
    }
}
