//! DR020–DR022, DR024, DR036, DR070: what the values of releases say whose charts are not at hand, where it means the
//! same in every chart: claims and Secrets that exist, keys of them, Gateways, images.

use std::collections::BTreeSet;

use druse_object::Value;
use druse_plan::{Unit, UnitKind};

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::index::{Entry, Existence, Origin};
use crate::position::Step;
use crate::rules::{gateway, references};
use crate::words::nearest;

/// How deep values are looked into.
const MAX_DEPTH: usize = 40;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for unit in cx.plan.units.iter().filter(|u| u.id.kind == UnitKind::HelmRelease && u.objects.is_empty()) {
        let (namespace, name) = (unit.definition.namespace(), unit.definition.name());
        let mut entries = cx.index.named("helm.toolkit.fluxcd.io", "HelmRelease", namespace, name);
        let Some(entry) = entries.find(|e| e.origin == Origin::Tree) else { continue };
        let spec = &unit.definition.value["spec"];
        let look = Look {
            cx,
            unit,
            entry,
            namespace: spec.str_at(["targetNamespace"]).unwrap_or(namespace),
            release: spec.str_at(["releaseName"]).unwrap_or(name),
        };
        look.value(&spec["values"], &mut ["spec", "values"].map(Step::from).to_vec(), out);
    }
}

/// A look into the values of a release.
struct Look<'a, 'c> {
    cx: &'a Context<'c>,
    unit: &'a Unit,
    entry: &'a Entry<'c>,
    namespace: &'a str,
    release: &'a str,
}

impl Look<'_, '_> {
    fn value(&self, value: &Value, path: &mut Vec<Step>, out: &mut Vec<Finding>) {
        if path.len() > MAX_DEPTH {
            return;
        }
        match value {
            Value::Map(map) => {
                self.map(value, path, out);
                for (key, inner) in map.iter() {
                    path.push(Step::from(key.as_str()));
                    self.value(inner, path, out);
                    path.pop();
                }
            }
            Value::Array(items) => {
                for (i, inner) in items.iter().enumerate() {
                    path.push(Step::Index(i));
                    self.value(inner, path, out);
                    path.pop();
                }
            }
            _ => {}
        }
    }

    fn map(&self, map: &Value, path: &[Step], out: &mut Vec<Finding>) {
        let below =
            |keys: &[&str]| -> Vec<Step> { path.iter().cloned().chain(keys.iter().map(|k| Step::from(*k))).collect() };
        self.exists(
            ("", "PersistentVolumeClaim"),
            map.str_at(["existingClaim"]),
            &below(&["existingClaim"]),
            "DR024",
            out,
        );
        for (key, kind, code) in [
            ("secretRef", "Secret", "DR021"),
            ("secretKeyRef", "Secret", "DR021"),
            ("configMapRef", "ConfigMap", "DR020"),
            ("configMapKeyRef", "ConfigMap", "DR020"),
        ] {
            let reference = &map[key];
            if reference["optional"].as_bool() == Some(true) {
                continue;
            }
            let at = below(&[key, "name"]);
            let Some(existence) = self.exists(("", kind), reference.str_at(["name"]), &at, code, out) else { continue };
            let (Some(name), Some(wanted)) = (self.filled(reference.str_at(["name"])), reference.str_at(["key"]))
            else {
                continue;
            };
            if !wanted.contains("{{") {
                let names = (kind, self.namespace, name.as_str());
                references::has_key(self.cx, self.entry, names, wanted, &below(&[key, "key"]), existence, out);
            }
        }
        // Volumes of app-template.
        let volume = matches!(path.get(2), Some(Step::Key(k)) if k == "persistence") && path.len() == 4;
        let named = match map.str_at(["type"]).filter(|_| volume && map["enabled"].as_bool() != Some(false)) {
            Some("configMap") => Some(("ConfigMap", "DR020")),
            Some("secret") => Some(("Secret", "DR021")),
            _ => None,
        };
        if let Some((kind, code)) = named {
            self.exists(("", kind), map.str_at(["name"]), &below(&["name"]), code, out);
        }
        for (i, parent) in map["parentRefs"].items().iter().enumerate() {
            let mut at = below(&["parentRefs"]);
            at.push(Step::Index(i));
            self.parent(parent, at, out);
        }
        let image = (map.str_at(["repository"]), map.str_at(["tag"]));
        if let (Some(repository), Some("latest")) = image
            && map["digest"].is_null()
        {
            let message = format!("image {repository}:latest is whatever is latest");
            out.push(self.cx.at(self.entry, &below(&["tag"]), &[], "DR070", message));
        }
    }

    /// A name with what templates say of the release filled in; none when they say more.
    fn filled(&self, name: Option<&str>) -> Option<String> {
        let mut text = name.filter(|n| !n.is_empty() && !n.contains("${"))?.to_string();
        for (variable, value) in [("Name", self.release), ("Namespace", self.namespace)] {
            for form in [format!("{{{{ .Release.{variable} }}}}"), format!("{{{{.Release.{variable}}}}}")] {
                text = text.replace(&form, value);
            }
        }
        (!text.contains("{{")).then_some(text)
    }

    /// Whether an object of the release's namespace is there, with a finding when it is not.
    fn exists(
        &self,
        (group, kind): (&str, &str),
        name: Option<&str>,
        path: &[Step],
        code: &str,
        out: &mut Vec<Finding>,
    ) -> Option<Existence> {
        let name = self.filled(name)?;
        // What exists already, the release does not make.
        let but = matches!(path.last(), Some(Step::Key(k)) if k == "existingClaim").then_some(&self.unit.id);
        let existence = self.cx.index.exists_but_for(but, group, kind, self.namespace, &name);
        let of_kind = self.cx.index.of_kind(group, kind).filter(|e| e.object.namespace() == self.namespace);
        let names: BTreeSet<&str> = of_kind.map(|e| e.object.name()).collect();
        let shown = format!("{kind} {}/{name}", self.namespace);
        match existence {
            Existence::Missing => {
                let finding = self.cx.at(self.entry, path, &[&name], code, format!("{shown} does not exist"));
                out.push(match nearest(&name, names.into_iter()) {
                    Some(like) => finding.help(format!("correct the name ({like} exists), or add the {kind}")),
                    None => finding,
                });
                None
            }
            Existence::Unknown => {
                let digits = |s: &str| s.chars().filter(|c| !c.is_ascii_digit()).collect::<String>();
                let like = nearest(&name, names.into_iter()).filter(|like| digits(like) != digits(&name))?;
                let finding = self.cx.at(self.entry, path, &[&name], code, format!("{shown} is not known to exist"));
                out.push(finding.severity(Severity::Warning).help(format!("correct the name, if {like} is meant")));
                None
            }
            known => Some(known),
        }
    }

    /// A Gateway, and its listener.
    fn parent(&self, parent: &Value, mut path: Vec<Step>, out: &mut Vec<Finding>) {
        if parent.str_at(["kind"]).is_some_and(|k| k != "Gateway") {
            return;
        }
        let Some(name) = self.filled(parent.str_at(["name"])) else { return };
        let namespace = parent.str_at(["namespace"]).unwrap_or(self.namespace);
        let gateways: Vec<&Entry<'_>> = self.cx.index.of_kind(gateway::GROUP, "Gateway").collect();
        let meant: Vec<&&Entry<'_>> =
            gateways.iter().filter(|g| g.object.namespace() == namespace && g.object.name() == name).collect();
        if meant.is_empty() {
            let there = gateways.iter().filter(|g| g.object.namespace() == namespace).map(|g| g.object.name());
            let missing = self.cx.index.exists(gateway::GROUP, "Gateway", namespace, &name) == Existence::Missing;
            let like = nearest(&name, there);
            if gateways.is_empty() || !missing && like.is_none() {
                return;
            }
            path.push(Step::from("name"));
            let message = format!("Gateway {namespace}/{name} does not exist");
            let finding = self.cx.at(self.entry, &path, &[&name], "DR036", message);
            let finding = if missing { finding } else { finding.severity(Severity::Warning) };
            out.push(match like {
                Some(like) => finding.help(format!("correct the name ({like} exists)")),
                None => finding,
            });
            return;
        }
        let Some(section) = self.filled(parent.str_at(["sectionName"])) else { return };
        let listeners = meant.iter().flat_map(|g| g.object.value["spec"]["listeners"].items());
        let names: Vec<&str> = listeners.filter_map(|l| l.str_at(["name"])).collect();
        if names.is_empty() || names.contains(&section.as_str()) || names.iter().any(|n| n.contains("${")) {
            return;
        }
        path.push(Step::from("sectionName"));
        let message = format!("Gateway {namespace}/{name} has no listener {section}; it has {}", names.join(", "));
        out.push(self.cx.at(self.entry, &path, &[&section], "DR036", message));
    }
}
