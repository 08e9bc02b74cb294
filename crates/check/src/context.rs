//! What every rule looks at: the plan, its objects by name, the tree's files; and where things are in these.

use std::collections::HashMap;
use std::sync::OnceLock;

use druse_object::{Object, Value};
use druse_plan::sources::Sources;
use druse_plan::{Plan, Unit};

use crate::files::{Document, File, Files, is_kustomization};
use crate::finding::{Finding, Place};
use crate::index::{Entry, Index, Origin};
use crate::pods::{self, Pod};
use crate::position::{self, Step, locate};

/// A Kubernetes version, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Minor(pub u32, pub u32);

impl Minor {
    /// From `1.22`, `v1.36.3`; `None` when it is no version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim_start_matches('v').split('.');
        Some(Self(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// Documents of files that units read, by kind and name: the file's path and which of its documents.
type Documents<'a> = HashMap<(String, String), Vec<(&'a str, usize)>>;

/// What every rule looks at.
pub struct Context<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The tree's files.
    pub files: &'a Files,
    /// The plan's objects.
    pub index: Index<'a>,
    /// How sources become charts.
    pub sources: &'a Sources,
    /// The Kubernetes version checked for.
    pub kube: Minor,
    /// Whether findings of codes that are off unless asked for are wanted.
    pub wanted: &'a (dyn Fn(&str) -> bool + Sync),
    documents: OnceLock<Documents<'a>>,
}

impl<'a> Context<'a> {
    /// The context of a plan.
    #[must_use]
    pub fn new(
        plan: &'a Plan,
        sources: &'a Sources,
        files: &'a Files,
        kube: Minor,
        wanted: &'a (dyn Fn(&str) -> bool + Sync),
    ) -> Self {
        Self { plan, files, index: Index::new(plan, files), sources, kube, wanted, documents: OnceLock::new() }
    }

    /// The objects that the tree's own units apply, without those of sources that others write.
    pub fn own(&self) -> impl Iterator<Item = &Entry<'a>> {
        self.index.entries.iter().filter(|e| e.origin != Origin::Foreign)
    }

    /// All pods that come to be: those of every object that has a pod's spec in it.
    pub fn pods<'s>(&'s self) -> impl Iterator<Item = Pod<'s, 'a>> {
        self.index.entries.iter().filter_map(pods::of)
    }

    /// A finding about a field of an object. For objects of charts, `texts` are what the fault may be written as in the
    /// release's values: the first that is there is the place, else the release.
    #[must_use]
    pub fn at(
        &self,
        entry: &Entry<'_>,
        path: &[Step],
        texts: &[&str],
        code: &str,
        message: impl Into<String>,
    ) -> Finding {
        let place = match entry.origin {
            Origin::Chart => self.in_values(entry.unit, texts).unwrap_or_else(|| self.of_unit(entry.unit, &[])),
            _ => self.of_object_in(entry.object, path, Some(entry.unit)),
        };
        let mut finding = Finding::new(code, place, message).unit(&entry.unit.id);
        finding.object = Some(entry.key());
        finding.template = entry.object.provenance.template.as_deref().map(str::to_string);
        if !path.is_empty() {
            finding.field = Some(position::show(path));
        }
        finding
    }

    /// A finding about a field of a unit's definition.
    #[must_use]
    pub fn unit(&self, unit: &Unit, path: &[Step], code: &str, message: impl Into<String>) -> Finding {
        let mut finding = Finding::new(code, self.of_unit(unit, path), message).unit(&unit.id);
        if !path.is_empty() {
            finding.field = Some(position::show(path));
        }
        finding
    }

    /// Where a field of a unit's definition is.
    #[must_use]
    pub fn of_unit(&self, unit: &Unit, path: &[Step]) -> Place {
        self.of_object(&unit.definition, path)
    }

    /// Where a field of an object of the tree is: in its own document, in a patch of it, or beside what holds it.
    #[must_use]
    pub fn of_object(&self, object: &Object, path: &[Step]) -> Place {
        self.of_object_in(object, path, None)
    }

    fn of_object_in(&self, object: &Object, path: &[Step], unit: Option<&Unit>) -> Place {
        let Some(file) = object.provenance.file.as_deref() else { return Place::default() };
        let Some(source) = self.files.get(file) else { return Place::new(file, object.provenance.line) };
        let first = object.provenance.line;
        if first == 0 {
            return Place::new(file, line_with(source, object.name()).unwrap_or(1));
        }
        let value = position::at(&object.value, path);
        let Some(document) = source.document_at(first) else { return Place::new(file, first) };
        let own = realign(&document.value, &object.value, path);
        let written = position::at(&document.value, &own);
        let same = match (written, value) {
            (Some(w), Some(v)) => w == v || !is_scalar(v) || w.as_str().is_some_and(|t| t.contains("${")),
            (w, v) => w.is_some() == v.is_some(),
        };
        if let Some(place) = unit.and_then(|u| self.in_substitute(u, file, written)) {
            return place;
        }
        let found = locate(source.text(), document.line, &own);
        if same && found.depth == own.len() {
            return Place::new(file, found.line);
        }
        if let Some(place) = value.and_then(|v| self.in_patches(object, path, v)) {
            return place;
        }
        // A kustomization's own fields (namespace, images, …) change objects, and so do its inline patches.
        if let Some(place) = value.and_then(|v| self.in_kustomizations(file, path, v, unit)) {
            return place;
        }
        Place::new(file, found.line)
    }

    /// Where a unit gives a variable that all of a value is made of, in a file that several units read: each answers for
    /// its own.
    fn in_substitute(&self, unit: &Unit, file: &str, written: Option<&Value>) -> Option<Place> {
        let inner = written?.as_str()?.strip_prefix("${")?.strip_suffix('}')?;
        let end = inner.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(inner.len());
        let name = inner.get(..end)?;
        let path = ["spec", "postBuild", "substitute", name].map(Step::from);
        position::at(&unit.definition.value, &path)?;
        let reads = |e: &Entry<'_>| e.object.provenance.file.as_deref() == Some(file);
        let mut readers = self.index.entries.iter().filter(|e| reads(e)).map(|e| &e.unit.id);
        if !readers.any(|id| *id != unit.id) {
            return None;
        }
        let place = self.of_unit(unit, &path);
        let said =
            self.files.get(&place.file)?.text().lines().nth(usize::try_from(place.line).ok()?.checked_sub(1)?)?;
        said.contains(name).then_some(place)
    }

    /// The document of the tree that an object was read from.
    #[must_use]
    pub fn document(&self, object: &Object) -> Option<&Value> {
        let line = Some(object.provenance.line).filter(|line| *line > 0)?;
        self.files.get(object.provenance.file.as_deref()?)?.document_at(line).map(|d| &d.value)
    }

    /// Looks for a field in other documents about the same object.
    fn in_patches(&self, object: &Object, path: &[Step], value: &Value) -> Option<Place> {
        let documents = self.documents.get_or_init(|| {
            let mut out: Documents<'a> = HashMap::new();
            for file in self.files.iter().filter(|f| self.files.was_read(&f.path)) {
                for (i, d) in file.documents().iter().enumerate().filter(|(_, d)| !d.kind().is_empty()) {
                    out.entry((d.kind().into(), d.name().into())).or_default().push((&file.path, i));
                }
            }
            out
        });
        for (path_of, i) in documents.get(&(object.kind().to_string(), object.name().to_string()))? {
            let file = self.files.get(path_of)?;
            let document = file.documents().get(*i)?;
            if object.provenance.file.as_deref() == Some(*path_of) && document.line == object.provenance.line {
                continue;
            }
            let own = realign(&document.value, &object.value, path);
            if position::at(&document.value, &own) == Some(value) {
                return Some(Place::new(*path_of, locate(file.text(), document.line, &own).line));
            }
        }
        None
    }

    /// Looks for a field in the kustomizations around a file, and in the definition of the unit: their own fields
    /// (`namespace`, `images`, …) and their inline patches.
    fn in_kustomizations(&self, file: &str, path: &[Step], value: &Value, unit: Option<&Unit>) -> Option<Place> {
        let Some(Step::Key(key)) = path.last() else { return None };
        let text = match value {
            Value::String(s) if s.len() > 2 => s.to_string(),
            Value::Int(i) => i.to_string(),
            _ => return None,
        };
        let tag = if key == "image" { text.rsplit_once(':').map(|(_, tag)| tag) } else { None };
        let says = |line: &str| {
            let line = line.trim_start().trim_start_matches("- ");
            let Some((name, rest)) = line.split_once(':') else { return false };
            let rest = rest.trim().trim_matches(['"', '\'']);
            ((name == key || name == "value") && rest == text) || (name == "newTag" && tag == Some(rest))
        };
        let mut around = Vec::new();
        let mut dir = file;
        while let Some((parent, _)) = dir.rsplit_once('/') {
            dir = parent;
            around.extend(druse_kustomize::FILE_NAMES.iter().map(|name| format!("{dir}/{name}")));
        }
        around.extend(unit.and_then(|u| u.definition.provenance.file.as_deref()).map(str::to_string));
        around.iter().filter_map(|path| self.files.get(path)).find_map(|file| {
            let i = file.text().lines().position(says)?;
            Some(Place::new(&file.path, u32::try_from(i + 1).unwrap_or(0)))
        })
    }

    /// Where a release's values say one of these texts, as they stand in the tree: the first of them that is there.
    #[must_use]
    pub fn in_values(&self, unit: &Unit, texts: &[&str]) -> Option<Place> {
        texts.iter().find_map(|text| self.in_values_once(unit, text, true))
    }

    /// As [`Context::in_values`], without keys.
    #[must_use]
    pub fn value_in(&self, unit: &Unit, texts: &[&str]) -> Option<Place> {
        texts.iter().find_map(|text| self.in_values_once(unit, text, false))
    }

    fn in_values_once(&self, unit: &Unit, text: &str, keys: bool) -> Option<Place> {
        if text.is_empty() {
            return None;
        }
        let file = self.files.get(unit.definition.provenance.file.as_deref()?)?;
        let document = file.document_at(unit.definition.provenance.line)?;
        let spec = ["spec"].map(Step::from);
        for part in ["values", "postRenderers"] {
            let part: Vec<Step> = spec.iter().cloned().chain([Step::from(part)]).collect();
            let written = position::at(&document.value, &part).and_then(|v| find(v, text, keys));
            // What variables make of it is only in the definition as rendered.
            let path =
                written.or_else(|| position::at(&unit.definition.value, &part).and_then(|v| find(v, text, keys)));
            if let Some(path) = path {
                let full: Vec<Step> = part.into_iter().chain(path).collect();
                let found = locate(file.text(), document.line, &full);
                if found.depth > 2 {
                    return Some(Place::new(&file.path, found.line));
                }
            }
        }
        self.values_files(unit).find_map(|(file, document)| {
            let path = find(&document.value, text, keys)?;
            Some(Place::new(&file.path, locate(file.text(), document.line, &path).line))
        })
    }

    /// Where a release's values have a path.
    #[must_use]
    pub fn values_path(&self, unit: &Unit, path: &[Step]) -> Place {
        let full: Vec<Step> = ["spec", "values"].map(Step::from).into_iter().chain(path.iter().cloned()).collect();
        let inline = unit.definition.provenance.file.as_deref().and_then(|f| self.files.get(f)).and_then(|file| {
            let document = file.document_at(unit.definition.provenance.line)?;
            Some((file, locate(file.text(), document.line, &full)))
        });
        if let Some((file, found)) = inline
            && found.depth == full.len()
        {
            return Place::new(&file.path, found.line);
        }
        for (file, document) in self.values_files(unit) {
            let found = locate(file.text(), document.line, path);
            if found.depth == path.len() && !path.is_empty() {
                return Place::new(&file.path, found.line);
            }
        }
        match inline {
            Some((file, found)) => Place::new(&file.path, found.line),
            None => self.of_unit(unit, &[]),
        }
    }

    /// Files beside a release that are no manifests: values that a generator puts into a ConfigMap.
    fn values_files(&self, unit: &Unit) -> impl Iterator<Item = (&File, &Document)> {
        let from = !unit.definition.value["spec"]["valuesFrom"].items().is_empty();
        let dir = unit.definition.provenance.file.as_deref().and_then(|f| f.rsplit_once('/')).map_or("", |(d, _)| d);
        self.files
            .iter()
            .filter(move |f| {
                from && f.path.strip_prefix(dir).is_some_and(|r| r.starts_with('/'))
                    && self.files.was_read(&f.path)
                    && !is_kustomization(&f.path)
            })
            .filter_map(|f| Some((f, f.documents().first().filter(|d| d.kind().is_empty())?)))
    }
}

fn is_scalar(v: &Value) -> bool {
    !matches!(v, Value::Map(_) | Value::Array(_))
}

/// The first line with a word.
pub(crate) fn line_with(file: &File, word: &str) -> Option<u32> {
    if word.is_empty() {
        return None;
    }
    file.text()
        .lines()
        .position(|l| !l.trim_start().starts_with('#') && l.contains(word))
        .and_then(|i| u32::try_from(i + 1).ok())
}

/// A path of the rendered object as the path in another state of it: list items are found by their name where they have
/// one.
fn realign(document: &Value, rendered: &Value, path: &[Step]) -> Vec<Step> {
    let (mut theirs, mut ours) = (Some(document), Some(rendered));
    let mut out = Vec::with_capacity(path.len());
    for step in path {
        let mut step = step.clone();
        if let (Step::Index(i), Some(list), Some(item)) = (
            &step,
            theirs.and_then(Value::as_array),
            ours.and_then(|o| {
                o.items().get(match &step {
                    Step::Index(i) => *i,
                    Step::Key(_) => 0,
                })
            }),
        ) {
            let same = |other: &Value| {
                ["name", "key", "mountPath", "containerPort", "port", "host"]
                    .iter()
                    .find_map(|k| Some((item.get(k)?, other.get(k)?)))
                    .map_or(item == other, |(a, b)| a == b)
            };
            if !list.get(*i).is_some_and(same)
                && let Some(other) = list.iter().position(same)
            {
                ours = Some(item);
                theirs = list.get(other);
                out.push(Step::Index(other));
                continue;
            }
        }
        theirs = theirs.and_then(|v| position::at(v, std::slice::from_ref(&step)));
        ours = ours.and_then(|v| position::at(v, std::slice::from_ref(&step)));
        if let Step::Index(i) = &mut step {
            out.push(Step::Index(*i));
        } else {
            out.push(step);
        }
    }
    out
}

/// The path to the first text, or number, of a value that is this text, or to the first key.
fn find(value: &Value, text: &str, keys: bool) -> Option<Vec<Step>> {
    match value {
        Value::Map(m) => m
            .iter()
            .find_map(|(k, v)| {
                let mut inner = find(v, text, keys)?;
                inner.insert(0, Step::Key(k.to_string()));
                Some(inner)
            })
            .or_else(|| m.get(text).filter(|_| keys).map(|_| vec![Step::Key(text.to_string())])),
        Value::Array(a) => a.iter().enumerate().find_map(|(i, v)| {
            let mut inner = find(v, text, keys)?;
            inner.insert(0, Step::Index(i));
            Some(inner)
        }),
        Value::String(s) => (s == text).then(Vec::new),
        Value::Int(i) => (i.to_string() == text).then(Vec::new),
        _ => None,
    }
}
