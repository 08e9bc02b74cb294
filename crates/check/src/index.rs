//! All objects of a plan by name, and whether one exists: applied by a unit, made by something a unit applies, or by
//! nothing that is known.

use std::collections::{BTreeSet, HashMap};

use druse_flux::api::KUSTOMIZE_GROUP;
use druse_object::{Gvk, Object, Str, Value};
use druse_plan::{Plan, Unit, UnitId, UnitKind, UnitState};

use crate::files::{File, Files};
use crate::paths;
use crate::tables::{self, Producer};

/// Where an object comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file of the tree.
    Tree,
    /// A release's chart.
    Chart,
    /// Files of a source that is not the tree: written by others.
    Foreign,
}

/// An object of a plan.
pub struct Entry<'a> {
    /// The unit that applies it.
    pub unit: &'a Unit,
    /// The object.
    pub object: &'a Object,
    /// Its group, version and kind.
    pub gvk: Gvk,
    /// Where it comes from.
    pub origin: Origin,
    /// Whether it is a hook of a release.
    pub hook: bool,
}

impl Entry<'_> {
    /// Whether its values are encrypted by SOPS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.object.value.get("sops").is_some()
    }

    /// Whether it is of this kind.
    #[must_use]
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.gvk.kind == kind && self.gvk.group == group
    }

    /// `Kind/namespace/name`.
    #[must_use]
    pub fn key(&self) -> String {
        self.object.key().to_string()
    }
}

/// A unit of whose objects nothing is known, or not all.
pub struct Opaque<'a> {
    /// The unit.
    pub unit: &'a Unit,
    /// The namespace it applies to; any when not known.
    pub namespace: Option<&'a str>,
    /// What it reads by URL and nobody had; the rest of its objects is known.
    pub left_out: Vec<&'a str>,
}

impl Opaque<'_> {
    /// Whether its files are of another source than the tree.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_partial() || self.unit.source.as_ref().is_some_and(|s| !s.is_tree)
    }

    /// Whether only what it reads by URL is not known.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        !self.left_out.is_empty()
    }

    /// Whether it brings nothing but CustomResourceDefinitions, by the name of the folder or file that it reads.
    fn brings_definitions(&self) -> bool {
        let said = |path: &str| path.split(['/', '-', '_', '.']).any(|part| matches!(part, "crd" | "crds"));
        if self.is_partial() {
            return self.left_out.iter().all(|url| said(url));
        }
        said(self.unit.definition.value.str_at(["spec", "path"]).unwrap_or_default())
    }
}

/// Whether something exists.
#[derive(Clone, Debug, PartialEq)]
pub enum Existence {
    /// A unit applies it.
    Applied,
    /// Something that a unit applies makes it, with these keys where they are known.
    Made(Option<BTreeSet<String>>),
    /// Something may make it of which nothing is known.
    Unknown,
    /// Nothing makes it.
    Missing,
}

struct Made {
    kind: String,
    /// Empty for cluster-scoped objects, `*` for any.
    namespace: String,
    name: String,
    keys: Option<BTreeSet<String>>,
}

/// The objects of a plan.
pub struct Index<'a> {
    /// All of them, hooks after the rest of their unit.
    pub entries: Vec<Entry<'a>>,
    by_kind: HashMap<(Str, Str), Vec<usize>>,
    by_name: HashMap<(Str, Str, Str, Str), Vec<usize>>,
    made: HashMap<String, Vec<Made>>,
    /// The units of whose objects nothing is known.
    pub opaque: Vec<Opaque<'a>>,
}

impl<'a> Index<'a> {
    /// The index of a plan.
    #[must_use]
    pub fn new(plan: &'a Plan, files: &Files) -> Self {
        let mut entries = Vec::new();
        let mut opaque = Vec::new();
        for unit in &plan.units {
            let hooks = unit.hooks.iter().map(|h| (&h.object, true));
            for (object, hook) in unit.objects.iter().map(|o| (o, false)).chain(hooks) {
                let origin = if object.provenance.template.is_some() || unit.id.kind == UnitKind::HelmRelease {
                    Origin::Chart
                } else if object.provenance.file.as_deref().and_then(|f| files.get(f)).is_some_and(|f| !is_export(f)) {
                    Origin::Tree
                } else {
                    Origin::Foreign
                };
                entries.push(Entry { unit, object, gvk: object.gvk(), origin, hook });
            }
            let unknown =
                matches!(unit.state, UnitState::StandIn { .. } | UnitState::Suspended) || !unit.errors.is_empty();
            let spec = &unit.definition.value["spec"];
            let target = spec.str_at(["targetNamespace"]);
            let left_out = left_out(unit);
            if unknown && unit.objects.is_empty() {
                let own = (unit.id.kind == UnitKind::HelmRelease).then_some(unit.id.namespace.as_str());
                opaque.push(Opaque { unit, namespace: target.or(own), left_out: Vec::new() });
            } else if !left_out.is_empty() {
                // What is read beside it is most likely for the same namespace.
                let mut beside: Vec<&str> =
                    unit.objects.iter().map(|o| o.namespace()).filter(|n| !n.is_empty()).collect();
                beside.sort_unstable();
                beside.dedup();
                let only = beside.first().copied().filter(|_| beside.len() == 1);
                opaque.push(Opaque { unit, namespace: target.or(only), left_out });
            }
        }
        let mut by_kind: HashMap<(Str, Str), Vec<usize>> = HashMap::new();
        let mut by_name: HashMap<(Str, Str, Str, Str), Vec<usize>> = HashMap::new();
        for (i, e) in entries.iter().enumerate() {
            by_kind.entry((e.gvk.group.clone(), e.gvk.kind.clone())).or_default().push(i);
            by_name
                .entry((e.gvk.group.clone(), e.gvk.kind.clone(), e.object.namespace().into(), e.object.name().into()))
                .or_default()
                .push(i);
        }
        let mut index = Self { entries, by_kind, by_name, made: HashMap::new(), opaque };
        let mut made: HashMap<String, Vec<Made>> = HashMap::new();
        for producer in &tables::get().producers {
            let roots = plan
                .units
                .iter()
                .map(|u| &*u.definition)
                .filter(|o| o.gvk().group != KUSTOMIZE_GROUP && producer.of == tables::kind_name(&o.gvk()));
            for object in index.of_name(&producer.of).map(|e| e.object).chain(roots) {
                for m in produce(producer, object) {
                    made.entry(m.kind.clone()).or_default().push(m);
                }
            }
        }
        index.made = made;
        index
    }

    /// All objects of a kind.
    pub fn of_kind(&self, group: &str, kind: &str) -> impl Iterator<Item = &Entry<'a>> {
        self.by_kind.get(&(group.into(), kind.into())).into_iter().flatten().filter_map(|i| self.entries.get(*i))
    }

    /// All objects of a kind written as `Kind.group`.
    pub fn of_name(&self, kind: &str) -> impl Iterator<Item = &Entry<'a>> {
        let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
        self.of_kind(group, kind)
    }

    /// The objects with this name; several when units fight over it.
    pub fn named(&self, group: &str, kind: &str, namespace: &str, name: &str) -> impl Iterator<Item = &Entry<'a>> {
        self.by_name
            .get(&(group.into(), kind.into(), namespace.into(), name.into()))
            .into_iter()
            .flatten()
            .filter_map(|i| self.entries.get(*i))
    }

    /// Whether an object exists once all units are applied. The namespace is empty for cluster-scoped kinds.
    #[must_use]
    pub fn exists(&self, group: &str, kind: &str, namespace: &str, name: &str) -> Existence {
        self.exists_but_for(None, group, kind, namespace, name)
    }

    /// As [`Index::exists`], without what one unit would bring.
    #[must_use]
    pub fn exists_but_for(
        &self,
        but: Option<&UnitId>,
        group: &str,
        kind: &str,
        namespace: &str,
        name: &str,
    ) -> Existence {
        if self.named(group, kind, namespace, name).next().is_some() {
            return Existence::Applied;
        }
        if is_always_there(kind, namespace, name) {
            return Existence::Made(None);
        }
        let mut keys: Option<Option<BTreeSet<String>>> = None;
        for m in self.made.get(kind).into_iter().flatten() {
            let here = m.namespace == "*" || m.namespace == namespace;
            if here && paths::matches(&m.name, name) {
                keys = Some(match (keys, &m.keys) {
                    (None, k) => k.clone(),
                    (Some(Some(a)), Some(b)) => Some(a.union(b).cloned().collect()),
                    _ => None,
                });
            }
        }
        if let Some(keys) = keys {
            return Existence::Made(keys);
        }
        let open = if namespace.is_empty() {
            self.may_bring(kind, name, but)
        } else {
            self.opaque_in(namespace, but).any(|o| self.may_make(o.unit, kind))
        };
        if open || self.may_be_made_by_its_namesake(namespace, name) {
            return Existence::Unknown;
        }
        Existence::Missing
    }

    /// Whether anything unknown may bring a cluster-scoped object: of releases, those whose charts are known to bring its
    /// kind, and of other kinds those whose name says something of theirs.
    fn may_bring(&self, kind: &str, name: &str, but: Option<&UnitId>) -> bool {
        let charts = tables::get().brought_by.get(kind);
        let definition = kind == "CustomResourceDefinition";
        // Who is called after definitions brings some, of whatever group.
        let crds = |of: &str| of.split(['-', '.']).any(|part| matches!(part, "crd" | "crds"));
        let alike = |of: &str| if definition { begins_a_word(of, name) || crds(of) } else { shares_a_word(of, name) };
        self.opaque.iter().filter(|o| but != Some(&o.unit.id)).any(|o| {
            let spec = &o.unit.definition.value["spec"];
            let named_alike = || {
                let own = [o.unit.id.name.as_str(), o.unit.id.namespace.as_str()];
                own.into_iter().chain(o.left_out.iter().copied()).any(alike)
            };
            if o.unit.id.kind == UnitKind::Kustomization {
                // Folders of definitions hold nothing else, and of what others write the name says something.
                return match (o.namespace, o.brings_definitions(), o.is_foreign()) {
                    (_, true, _) => definition,
                    (Some(target), ..) if kind == "Namespace" => target == name,
                    (_, _, true) => named_alike(),
                    _ => true,
                };
            }
            let chart =
                spec.str_at(["chart", "spec", "chart"]).or(spec.str_at(["chartRef", "name"])).unwrap_or_default();
            let fetched = o.unit.chart.as_ref().map_or("", |c| c.name.as_str());
            let anything =
                [chart, fetched].iter().any(|c| tables::get().bring_anything.iter().any(|b| paths::matches(b, c)));
            if anything && says(spec, kind) {
                return true;
            }
            // A release's own namespace must be there before it.
            if kind == "Namespace" {
                let makes = spec.at(["install", "createNamespace"]).and_then(Value::as_bool) == Some(true);
                return makes && spec.str_at(["targetNamespace"]).unwrap_or(&o.unit.id.namespace) == name
                    || alike(chart)
                    || alike(&o.unit.id.name);
            }
            match charts {
                Some(charts) => charts.iter().any(|c| paths::matches(c, chart) || paths::matches(c, fetched)),
                None => alike(chart) || definition && alike(fetched) || named_alike(),
            }
        })
    }

    /// Whether anything unknown may apply objects to a namespace (or, when empty, to the cluster).
    #[must_use]
    pub fn is_open(&self, namespace: &str) -> bool {
        self.open(namespace, None)
    }

    fn open(&self, namespace: &str, but: Option<&UnitId>) -> bool {
        self.opaque_in(namespace, but).next().is_some()
    }

    /// What is unknown and may apply objects to a namespace.
    fn opaque_in<'s>(&'s self, namespace: &'s str, but: Option<&'s UnitId>) -> impl Iterator<Item = &'s Opaque<'a>> {
        let all = self.opaque.iter().filter(move |o| but != Some(&o.unit.id));
        let others = all.filter(move |o| {
            namespace.is_empty() || o.unit.id.kind != UnitKind::Kustomization || !o.brings_definitions()
        });
        others.filter(move |o| namespace.is_empty() || o.namespace.is_none_or(|n| n == namespace))
    }

    /// Whether a unit of which nothing is known may make objects of a kind. What app-template makes is what its values
    /// say, whatever its version.
    fn may_make(&self, unit: &Unit, kind: &str) -> bool {
        let spec = &unit.definition.value["spec"];
        let plain = spec["valuesFrom"].items().is_empty() && spec["postRenderers"].items().is_empty();
        if !plain || !self.is_app_template(unit) {
            return true;
        }
        let values = &spec["values"];
        let some = |keys: &[&str]| keys.iter().any(|k| values[*k].as_map().is_some_and(|m| !m.is_empty()));
        let claims = || {
            let volumes = values["persistence"].as_map().into_iter().flat_map(|m| m.values());
            let made = |v: &Value| {
                let kind = v.str_at(["type"]).unwrap_or("pvc");
                matches!(kind, "pvc" | "persistentVolumeClaim") && v["existingClaim"].is_null()
            };
            volumes.into_iter().any(made) || says_key(values, "volumeClaimTemplates")
        };
        some(&["rawResources"])
            || match kind {
                "Secret" => some(&["secret", "secrets"]),
                "ConfigMap" => some(&["configmap", "configMaps", "configMapsFromFolder"]),
                "PersistentVolumeClaim" => claims(),
                "ServiceAccount" => !values["serviceAccount"].is_null(),
                "Gateway" | "ImageCatalog" | "ObjectStore" | "Middleware" | "SecretProviderClass" | "SecretStore" => {
                    false
                }
                _ => true,
            }
    }

    /// Whether the chart of a release is app-template, by its name or that of its artifact.
    #[must_use]
    pub fn is_app_template(&self, unit: &Unit) -> bool {
        const NAME: &str = "app-template";
        let spec = &unit.definition.value["spec"];
        let reference = &spec["chartRef"];
        let (kind, name) =
            (reference.str_at(["kind"]).unwrap_or_default(), reference.str_at(["name"]).unwrap_or_default());
        let namespace = reference.str_at(["namespace"]).unwrap_or(&unit.id.namespace);
        let mut artifact = self.named("source.toolkit.fluxcd.io", kind, namespace, name);
        unit.chart.as_ref().is_some_and(|c| c.name == NAME)
            || spec.at(["chart", "spec"]).and_then(|c| c.str_at(["chart"])) == Some(NAME)
            || artifact.any(|e| e.object.value.str_at(["spec", "url"]).is_some_and(|u| u.ends_with("/app-template")))
    }

    /// Operators name what they make after the resource that asks for it, or after what this says.
    fn may_be_made_by_its_namesake(&self, namespace: &str, name: &str) -> bool {
        self.entries.iter().any(|e| {
            e.object.namespace() == namespace
                && is_custom(&e.gvk.group)
                && !tables::get().makes_nothing.contains(&tables::kind_name(&e.gvk))
                && !tables::get().producers.iter().any(|p| p.of == tables::kind_name(&e.gvk))
                && !e.object.name().is_empty()
                && (name.starts_with(e.object.name()) || says_part(&e.object.value["spec"], name))
        })
    }
}

/// Whether the values of a release may have an object of this kind in them: they say its kind, or are not all known.
fn says(spec: &Value, kind: &str) -> bool {
    fn has(value: &Value, word: &str) -> bool {
        match value {
            Value::Map(m) => m.values().any(|v| has(v, word)),
            Value::Array(a) => a.iter().any(|v| has(v, word)),
            Value::String(s) => s.contains(word),
            _ => false,
        }
    }
    !spec["valuesFrom"].items().is_empty() || has(&spec["values"], kind)
}

/// Whether a name begins or ends with a text that is anywhere in a value.
fn says_part(value: &Value, name: &str) -> bool {
    const LEAST: usize = 4;
    match value {
        Value::Map(m) => m.values().any(|v| says_part(v, name)),
        Value::Array(a) => a.iter().any(|v| says_part(v, name)),
        Value::String(s) => s.len() >= LEAST && (name.starts_with(s.as_str()) || name.ends_with(s.as_str())),
        _ => false,
    }
}

/// Whether a key is anywhere in a value.
fn says_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Map(m) => m.iter().any(|(k, v)| k.as_str() == key || says_key(v, key)),
        Value::Array(a) => a.iter().any(|v| says_key(v, key)),
        _ => false,
    }
}

/// Whether a file is what `flux install --export` writes and nobody is to edit: bindings name the accounts of components
/// that were left out, too.
fn is_export(file: &File) -> bool {
    file.path.ends_with("gotk-components.yaml") && file.text().contains("This manifest was generated by flux")
}

/// The URLs that a unit reads and nobody had.
fn left_out(unit: &Unit) -> Vec<&str> {
    let said = unit.unresolved.iter().filter_map(|u| u.strip_prefix("remote resource "));
    said.map(|u| u.split_once(": ").map_or(u, |(url, _)| url)).collect()
}

/// Whether a word of a name begins one of a definition's, as `external-dns` does in `dnsendpoints.externaldns.k8s.io`.
fn begins_a_word(of: &str, definition: &str) -> bool {
    of.split(['-', '.'])
        .filter(|w| w.len() > 2 && !matches!(*w, "operator" | "system" | "controller" | "crds"))
        .any(|w| definition.split('.').any(|part| part.starts_with(w)))
}

/// Whether two names have a part in common, as those of what a chart brings have with the chart's or the release's.
fn shares_a_word(a: &str, b: &str) -> bool {
    let word = |w: &str| w.trim_end_matches(|c: char| c.is_ascii_digit()).to_string();
    let words = |s: &str| -> Vec<String> { s.split(['-', ':', '.', '/']).map(word).collect() };
    let of_b = words(b);
    words(a).iter().any(|w| w.len() > 2 && of_b.contains(w))
}

/// Whether a group is that of a CustomResourceDefinition.
#[must_use]
pub fn is_custom(group: &str) -> bool {
    group.contains('.') && !group.ends_with(".k8s.io") && !group.ends_with(".toolkit.fluxcd.io")
}

fn is_always_there(kind: &str, namespace: &str, name: &str) -> bool {
    let always = &tables::get().always;
    [kind.to_string(), format!("{kind}/{namespace}")]
        .iter()
        .any(|k| always.get(k).is_some_and(|names| names.iter().any(|n| paths::matches(n, name))))
}

fn produce(producer: &Producer, object: &Object) -> Vec<Made> {
    let root = &object.value;
    let items: Vec<&Value> = match &producer.each {
        Some(path) => paths::all(root, path).into_iter().map(|(_, v)| v).collect(),
        None => vec![root],
    };
    let there = |item: &Value, path: &str| {
        let (value, path) = path.strip_prefix('^').map_or((item, path), |p| (root, p));
        if let Some((path, text)) = path.split_once('=') {
            return paths::get(value, path).and_then(Value::as_str) == Some(text);
        }
        paths::get(value, path).is_some_and(|v| !v.is_null() && *v != Value::Bool(false))
    };
    let mut out = Vec::new();
    for item in items {
        let lacks = producer.when.as_ref().is_some_and(|w| !there(item, w));
        if lacks || producer.unless.as_ref().is_some_and(|u| there(item, u)) {
            continue;
        }
        let Some(name) = paths::fill(&producer.name, item, root) else { continue };
        let Some(kind) = paths::fill(&producer.kind, item, root) else { continue };
        let namespace = match &producer.namespace {
            Some(template) => paths::fill(template, item, root).unwrap_or_default(),
            None => object.namespace().to_string(),
        };
        let mut keys: Option<BTreeSet<String>> = None;
        if !producer.keys_open_when.iter().any(|p| there(item, p))
            && (!producer.keys.is_empty() || !producer.keys_from.is_empty())
        {
            let mut all: BTreeSet<String> = producer.keys.iter().cloned().collect();
            for path in &producer.keys_from {
                for (_, v) in paths::all(item, path) {
                    match v {
                        Value::Map(m) => all.extend(m.keys().map(ToString::to_string)),
                        other => all.extend(other.as_str().map(str::to_string)),
                    }
                }
            }
            keys = Some(all);
        }
        out.push(Made { kind, namespace, name, keys });
    }
    out
}
