//! DR085: pods that reach the node they run on.

use druse_object::Value;

use crate::context::Context;
use crate::finding::Finding;
use crate::index::Origin;
use crate::pods;
use crate::position::Step;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    for entry in cx.own() {
        let Some(pod) = pods::of(entry) else { continue };
        let mut what: Vec<String> = Vec::new();
        let mut folders: Vec<&str> = Vec::new();
        let mut at: Option<Vec<Step>> = None;
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            if pod.spec[field].as_bool() == Some(true) {
                what.push(field.to_string());
                at.get_or_insert_with(|| pod.path.iter().cloned().chain([Step::from(field)]).collect());
            }
        }
        for (path, container) in pod.containers() {
            if container["securityContext"]["privileged"].as_bool() == Some(true) {
                what.push(format!("privileged container {}", container.str_at(["name"]).unwrap_or_default()));
                at.get_or_insert_with(|| {
                    path.iter().cloned().chain(["securityContext", "privileged"].map(Step::from)).collect()
                });
            }
        }
        for (i, volume) in pod.spec["volumes"].items().iter().enumerate() {
            if let Some(path) = volume.at(["hostPath", "path"]).and_then(Value::as_str) {
                folders.push(path);
                at.get_or_insert_with(|| {
                    let tail = [Step::from("volumes"), Step::Index(i), Step::from("hostPath")];
                    pod.path.iter().cloned().chain(tail).collect()
                });
            }
        }
        let Some(path) = at else { continue };
        match folders.as_slice() {
            [] => {}
            [one] => what.push(format!("folder {one} of the node")),
            [first, rest @ ..] => what.push(format!("folder {first} and {} more of the node", rest.len())),
        }
        let text = match path.last() {
            Some(Step::Key(k)) if entry.origin == Origin::Chart => k.clone(),
            _ => String::new(),
        };
        out.push(cx.at(entry, &path, &[&text], "DR085", format!("{} has {}", entry.key(), what.join(", "))));
    }
}
