//! The images that workloads run, before and after.

use std::collections::BTreeMap;

use druse_object::Value;

use crate::model::{ImageChange, ImageUse, Step};
use crate::objects::Pair;
use crate::versions::{self, Image};

/// How deep objects are searched for images.
const MAX_DEPTH: usize = 24;

/// The images of an object, by what uses them: a container's name, or the field that names an image.
pub(crate) fn images(object: &Value) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    // What renders workloads is not a workload, and a schema describes fields, not images.
    if matches!(object.str_at(["kind"]), Some("HelmRelease" | "Kustomization" | "CustomResourceDefinition")) {
        return out;
    }
    if let Some(spec) = object.get("spec") {
        collect(spec, "", 0, &mut out);
    }
    out
}

fn collect(value: &Value, name: &str, depth: usize, out: &mut BTreeMap<String, String>) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Map(m) => {
            let own = m.get("name").and_then(Value::as_str).unwrap_or(name);
            for (key, v) in m.iter() {
                match (key.as_str(), v) {
                    ("image" | "imageName", Value::String(s)) if !s.is_empty() && !s.contains(char::is_whitespace) => {
                        let label = if own.is_empty() { key.as_str() } else { own };
                        out.entry(label.to_string()).or_insert_with(|| s.to_string());
                    }
                    // A name within a list's item names that item, not what lies deeper.
                    _ => collect(v, "", depth + 1, out),
                }
            }
        }
        Value::Array(a) => a.iter().for_each(|v| collect(v, "", depth + 1, out)),
        _ => {}
    }
}

/// The images that differ in objects that both sides have, the same change told once.
pub(crate) fn changes<'a>(pairs: impl Iterator<Item = &'a Pair<'a>>) -> Vec<ImageChange> {
    let mut out: BTreeMap<(Image, Image), Vec<ImageUse>> = BTreeMap::new();
    for pair in pairs {
        let (Some(base), Some(head)) = (pair.base, pair.head) else { continue };
        let (old, new) = (images(&base.object.value), images(&head.object.value));
        for (container, to) in new {
            if let Some(from) = old.get(&container).filter(|from| **from != to) {
                out.entry((Image::parse(from), Image::parse(&to))).or_default().push(ImageUse {
                    unit: head.unit.id.to_string(),
                    object: head.object.key().to_string(),
                    container,
                });
            }
        }
    }
    out.into_iter()
        .map(|((from, to), mut used_by)| {
            used_by.sort();
            ImageChange {
                step: step(&from, &to),
                image_from: (from.name != to.name).then(|| from.name.clone()),
                image: to.name.clone(),
                from: from.version(),
                to: to.version(),
                used_by,
            }
        })
        .collect()
}

/// How an image stands to the one before; of another repository, no order is known.
pub(crate) fn step(from: &Image, to: &Image) -> Step {
    // The same repository may move to another registry or mirror.
    let last = |i: &Image| i.name.rsplit('/').next().unwrap_or_default().to_string();
    if last(from) == last(to) { versions::step(&from.tag, &to.tag) } else { Step::Other }
}
