//! DR020–DR032, DR036: references that lead nowhere. Which fields refer to what is data (`data/references.yaml`), and so
//! is what makes objects that no unit applies (`data/producers.yaml`).

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use druse_object::Value;

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::index::{Entry, Existence, Origin};
use crate::paths;
use crate::pods;
use crate::position::{self, Step};
use crate::rules::gateway;
use crate::tables::{self, Reference};
use crate::words::{is_one_letter_off, nearest};

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let tables = tables::get();
    let mut search = Search { cx, usual: OnceCell::new(), out };
    for entry in cx.own() {
        if let Some(pod) = pods::of(entry) {
            for r in &tables.pods {
                search.all(entry, r, pod.spec, &pod.path);
            }
            sub_paths(cx, &pod, search.out);
        }
        for r in tables.kinds.get(&tables::kind_name(&entry.gvk)).into_iter().flatten() {
            search.all(entry, r, &entry.object.value, &[]);
        }
        if entry.gvk.group == "gateway.networking.k8s.io" {
            gateway::check(cx, entry, search.out);
        }
    }
}

/// In how many places names are referred to, by what they are names of. What many units read from one place, as a
/// component, is one.
type Usual<'c> = BTreeMap<&'static str, BTreeMap<String, BTreeSet<(&'c str, u32)>>>;

/// The names that the tree's objects refer to: one that many do is meant where another is like it.
fn usual<'c>(cx: &'c Context<'_>) -> Usual<'c> {
    let tables = tables::get();
    let mut usual = Usual::new();
    let mut count = |r: &'static Reference, entry: &'c Entry<'_>, root: &Value| {
        let from = if entry.origin == Origin::Chart { &entry.unit.definition } else { entry.object };
        let place = (from.provenance.file.as_deref().unwrap_or_default(), from.provenance.line);
        for (_, holder) in holders(r, root) {
            let value = if r.name == "." { Some(holder) } else { holder.get(&r.name) };
            if let Some(name) = value.and_then(Value::as_str).filter(|n| !n.is_empty()) {
                usual.entry(&r.to).or_default().entry(name.to_string()).or_default().insert(place);
            }
        }
    };
    for entry in cx.own() {
        if let Some(pod) = pods::of(entry) {
            tables.pods.iter().for_each(|r| count(r, entry, pod.spec));
        }
        let own = tables.kinds.get(&tables::kind_name(&entry.gvk)).into_iter().flatten();
        own.for_each(|r| count(r, entry, &entry.object.value));
    }
    usual
}

/// The values in an object that hold a reference, each with its path.
fn holders<'v>(r: &Reference, root: &'v Value) -> Vec<(Vec<Step>, &'v Value)> {
    if r.at == "." { vec![(Vec::new(), root)] } else { paths::all(root, &r.at) }
}

/// The search for references that lead nowhere.
struct Search<'a, 'c> {
    cx: &'a Context<'c>,
    /// Counted when first asked for: mostly nobody does.
    usual: OnceCell<Usual<'a>>,
    out: &'a mut Vec<Finding>,
}

impl Search<'_, '_> {
    fn all(&mut self, entry: &Entry<'_>, r: &Reference, root: &Value, base: &[Step]) {
        for (at, holder) in holders(r, root) {
            let around = at.get(..at.len().saturating_sub(2)).unwrap_or_default();
            let outer = position::at(root, around).unwrap_or(&Value::Null);
            let field = |name: &str| match name.strip_prefix('^') {
                Some(name) => (around.to_vec(), outer.get(name), name.to_string()),
                None if name == "." => (at.clone(), Some(holder), String::new()),
                None => (at.clone(), holder.get(name), name.to_string()),
            };
            let (mut path, value, last) = field(&r.name);
            let Some(name) = value.and_then(Value::as_str).filter(|n| !n.is_empty() && *n != "*" && !n.contains("${"))
            else {
                continue;
            };
            if r.optional.as_ref().is_some_and(|o| field(o).1.and_then(Value::as_bool) == Some(true)) {
                continue;
            }
            if r.unless.as_ref().is_some_and(|u| holder.get(u).is_some_and(|v| !v.is_null())) {
                continue;
            }
            if !last.is_empty() {
                path.push(Step::Key(last));
            }
            let full = |path: &[Step]| -> Vec<Step> { base.iter().chain(path).cloned().collect() };
            self.one(entry, r, holder, name, &full(&path), &full(&at));
        }
    }

    fn one(
        &mut self,
        entry: &Entry<'_>,
        r: &Reference,
        holder: &Value,
        name: &str,
        path: &[Step],
        holder_path: &[Step],
    ) {
        let cx = self.cx;
        let text = |f: &Option<String>| f.as_ref().and_then(|f| holder.str_at([f.as_str()])).filter(|t| !t.is_empty());
        let mut choices = r.to.split('|').map(|to| to.split_once('.').unwrap_or((to, "")));
        let (first, said) = (choices.clone().next(), text(&r.kind));
        let named = said.and_then(|kind| choices.find(|c| c.0 == kind));
        let Some((to_kind, to_group)) = named.or(first) else { return };
        let kind = said.unwrap_or(to_kind);
        // An API version stands for its group.
        let group = match text(&r.group) {
            Some(g) if g.contains('/') => g.split('/').next().unwrap_or_default(),
            Some("v1") => "",
            Some(g) => g,
            None => to_group,
        };
        // Of kinds that nothing in the tree defines, the objects say what they are.
        let by_objects = || cx.index.of_kind(group, kind).next().map(|e| !e.object.namespace().is_empty());
        let Some(namespaced) = cx.plan.kinds.is_namespaced(group, kind).or_else(by_objects) else {
            self.of_another_kind(entry, r, (group, kind), name, path);
            return;
        };
        let own = entry.object.namespace();
        let namespace = match (namespaced, text(&r.namespace)) {
            (false, _) => "",
            (true, Some(other)) => other,
            (true, None) => own,
        };
        let somewhere = namespaced && namespace.is_empty();
        let existence = if somewhere || r.anywhere {
            anywhere(cx, group, kind, name)
        } else {
            cx.index.exists(group, kind, namespace, name)
        };
        let shown = if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") };
        match existence {
            Existence::Missing => {
                if !is_meant(cx, entry, name) {
                    return;
                }
                let mut finding = cx.at(entry, path, &[name], &r.code, format!("{shown} does not exist"));
                if r.soft {
                    finding = finding.severity(Severity::Warning);
                }
                let names: BTreeSet<&str> = cx
                    .index
                    .of_kind(group, kind)
                    .filter(|e| somewhere || e.object.namespace() == namespace)
                    .map(|e| e.object.name())
                    .collect();
                let elsewhere = cx.index.of_kind(group, kind).find(|e| e.object.name() == name);
                let like = nearest(name, names.into_iter());
                if r.alike && like.is_none() {
                    return;
                }
                if let Some(like) = like {
                    finding = finding.help(format!("correct the name ({like} exists), or add the {kind}"));
                } else if let Some(other) = elsewhere.filter(|_| namespaced) {
                    let there = other.object.namespace();
                    // Who names a namespace can name another; who names none has only the own one.
                    finding = finding.help(if text(&r.namespace).is_some() || somewhere {
                        format!("correct the namespace: there is one in {there}")
                    } else {
                        format!("there is one in namespace {there}; it cannot be used from {own}")
                    });
                }
                self.out.push(finding);
            }
            Existence::Applied | Existence::Made(_) => {
                if let Some(key) = &r.key
                    && let Some(key_name) = holder.str_at([key.as_str()])
                {
                    let mut at = holder_path.to_vec();
                    at.push(Step::from(key.as_str()));
                    has_key(cx, entry, (kind, namespace, name), key_name, &at, existence, self.out);
                }
                if let (Some(port), "Service") = (&r.port, kind) {
                    has_port(cx, entry, port, (namespace, name), holder, holder_path, self.out);
                }
            }
            // Something unknown may bring it; but where there is one of almost that name, it is most likely misspelt.
            Existence::Unknown => {
                let all = cx.index.of_kind(group, kind).filter(|e| somewhere || e.object.namespace() == namespace);
                // What the cluster has only one of by name, most others name as it is called.
                let usual = (!namespaced).then(|| self.usual.get_or_init(|| usual(cx)));
                let named = usual
                    .and_then(|u| u.get(r.to.as_str()))
                    .filter(|names| names.get(name).is_some_and(|places| places.len() == 1));
                let often =
                    named.into_iter().flatten().filter(|(_, places)| places.len() > 1).map(|(other, _)| other.as_str());
                let like = nearest(name, all.map(|e| e.object.name())).or_else(|| {
                    let mut often = often;
                    often.find(|other| is_one_letter_off(name, other))
                });
                let digits = |s: &str| s.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
                if let Some(like) = like.filter(|l| digits(l) != digits(name) && is_meant(cx, entry, name)) {
                    let finding = cx.at(entry, path, &[name], &r.code, format!("{shown} is not known to exist"));
                    self.out.push(
                        finding.severity(Severity::Warning).help(format!("correct the name, if {like} is meant")),
                    );
                }
            }
        }
    }
}

impl Search<'_, '_> {
    /// A name of a kind of which there is nothing, while the one for the whole cluster (or for a namespace) has it.
    fn of_another_kind(
        &mut self,
        entry: &Entry<'_>,
        r: &Reference,
        (group, kind): (&str, &str),
        name: &str,
        path: &[Step],
    ) {
        let other = kind.strip_prefix("Cluster").map_or_else(|| format!("Cluster{kind}"), str::to_string);
        if !self.cx.index.of_kind(group, &other).any(|e| e.object.name() == name) || !is_meant(self.cx, entry, name) {
            return;
        }
        let finding = self.cx.at(entry, path, &[name], &r.code, format!("{kind} {name} does not exist"));
        self.out.push(finding.severity(Severity::Warning).help(format!("correct the kind: there is a {other} {name}")));
    }
}

/// Whether something exists in any namespace.
fn anywhere(cx: &Context<'_>, group: &str, kind: &str, name: &str) -> Existence {
    let namespaces: BTreeSet<&str> =
        cx.index.entries.iter().map(|e| e.object.namespace()).filter(|n| !n.is_empty()).collect();
    let mut out = Existence::Missing;
    for namespace in namespaces {
        match cx.index.exists(group, kind, namespace, name) {
            Existence::Missing => {}
            Existence::Unknown => out = Existence::Unknown,
            found => return found,
        }
    }
    out
}

/// Whether the tree's people wrote a name: what only a chart says, the chart (or what it runs) answers for.
pub(super) fn is_meant(cx: &Context<'_>, entry: &Entry<'_>, name: &str) -> bool {
    entry.origin == Origin::Tree || cx.value_in(entry.unit, &[name]).is_some()
}

/// The keys of an applied ConfigMap or Secret.
fn keys(cx: &Context<'_>, kind: &str, namespace: &str, name: &str) -> Option<BTreeSet<String>> {
    let mut out = BTreeSet::new();
    for e in cx.index.named("", kind, namespace, name) {
        for field in ["data", "stringData", "binaryData"] {
            out.extend(e.object.value[field].as_map().into_iter().flat_map(|m| m.keys()).map(ToString::to_string));
        }
    }
    // An empty one is filled by somebody.
    (!out.is_empty()).then_some(out)
}

pub(super) fn has_key(
    cx: &Context<'_>,
    entry: &Entry<'_>,
    (kind, namespace, name): (&str, &str, &str),
    key: &str,
    path: &[Step],
    existence: Existence,
    out: &mut Vec<Finding>,
) {
    let known = match existence {
        Existence::Made(known) => known,
        _ if matches!(kind, "ConfigMap" | "Secret") => keys(cx, kind, namespace, name),
        _ => None,
    };
    let Some(known) = known.filter(|k| !k.contains(key)) else { return };
    if key.contains("${") || !is_meant(cx, entry, key) {
        return;
    }
    let list: Vec<&str> = known.iter().take(12).map(String::as_str).collect();
    let message = format!("{kind} {namespace}/{name} has no key {key}; it has {}", list.join(", "));
    out.push(cx.at(entry, path, &[key], "DR022", message));
}

fn has_port(
    cx: &Context<'_>,
    entry: &Entry<'_>,
    fields: &str,
    (namespace, name): (&str, &str),
    holder: &Value,
    holder_path: &[Step],
    out: &mut Vec<Finding>,
) {
    let services: Vec<&Entry<'_>> = cx.index.named("", "Service", namespace, name).collect();
    let external = services.iter().any(|s| s.object.value.str_at(["spec", "type"]) == Some("ExternalName"));
    if services.is_empty() || external {
        return;
    }
    for field in fields.split('|') {
        let Some(port) = paths::get(holder, field).filter(|p| !p.is_null()) else { continue };
        let ports: Vec<&Value> = services.iter().flat_map(|s| s.object.value["spec"]["ports"].items()).collect();
        let fits = |p: &&Value| p["port"] == *port || port.as_str().is_some_and(|n| p.str_at(["name"]) == Some(n));
        if ports.iter().any(fits) {
            continue;
        }
        let shown = port.as_str().map_or_else(|| druse_object::json::to_string(port), str::to_string);
        if !is_meant(cx, entry, &shown) {
            continue;
        }
        let has: Vec<String> = ports
            .iter()
            .map(|p| {
                let number = druse_object::json::to_string(&p["port"]);
                p.str_at(["name"]).map_or_else(|| number.clone(), |n| format!("{n} ({number})"))
            })
            .collect();
        let mut path = holder_path.to_vec();
        path.extend(field.split('.').map(Step::from));
        let message = format!("Service {namespace}/{name} has no port {shown}; it has {}", has.join(", "));
        out.push(cx.at(entry, &path, &[&shown], "DR029", message));
    }
}

/// A mounted file of a ConfigMap or Secret (`subPath`) that it does not have: a folder is mounted in its place.
fn sub_paths(cx: &Context<'_>, pod: &pods::Pod<'_, '_>, out: &mut Vec<Finding>) {
    let namespace = pod.entry.object.namespace();
    for (at, container) in pod.containers() {
        for (i, mount) in container["volumeMounts"].items().iter().enumerate() {
            let (Some(volume), Some(key)) = (mount.str_at(["name"]), mount.str_at(["subPath"])) else { continue };
            let Some(volume) = pod.spec["volumes"].items().iter().find(|v| v.str_at(["name"]) == Some(volume)) else {
                continue;
            };
            let (kind, source, name) = match (volume.get("configMap"), volume.get("secret")) {
                (Some(c), _) => ("ConfigMap", c, c.str_at(["name"])),
                (_, Some(s)) => ("Secret", s, s.str_at(["secretName"])),
                _ => continue,
            };
            let (Some(name), true) = (name, source["items"].items().is_empty()) else { continue };
            if source["optional"].as_bool() == Some(true) || key.contains(['/', '$']) {
                continue;
            }
            let existence = cx.index.exists("", kind, namespace, name);
            if matches!(existence, Existence::Applied | Existence::Made(_)) {
                let mut path = at.clone();
                path.extend([Step::from("volumeMounts"), Step::Index(i), Step::from("subPath")]);
                has_key(cx, pod.entry, (kind, namespace, name), key, &path, existence, out);
            }
        }
    }
}
