//! The pods that objects make: their specs and labels, wherever these are.

use druse_object::Value;
pub use druse_object::selector::{has_all, selects};

use crate::index::Entry;
use crate::position::Step;

/// The pod that an object is, or makes.
pub struct Pod<'s, 'a> {
    /// The object.
    pub entry: &'s Entry<'a>,
    /// The pod's spec.
    pub spec: &'s Value,
    /// Where it is in the object.
    pub path: Vec<Step>,
    /// The pod's labels; null when it has none.
    pub labels: &'s Value,
}

/// The pod of an object, if it makes one.
#[must_use]
pub fn of<'s, 'a>(entry: &'s Entry<'a>) -> Option<Pod<'s, 'a>> {
    let path: &[&str] = match (entry.gvk.group.as_str(), entry.gvk.kind.as_str()) {
        ("", "Pod") => &[],
        ("apps", "Deployment" | "DaemonSet" | "StatefulSet" | "ReplicaSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => &["spec", "template"],
        ("batch", "CronJob") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    };
    let template = path.iter().try_fold(&entry.object.value, |v, k| v.get(k))?;
    let mut steps: Vec<Step> = path.iter().map(|k| Step::from(*k)).collect();
    steps.push(Step::from("spec"));
    Some(Pod { entry, spec: template.get("spec")?, path: steps, labels: &template["metadata"]["labels"] })
}

impl<'s> Pod<'s, '_> {
    /// All its containers, with their paths.
    #[must_use]
    pub fn containers(&self) -> Vec<(Vec<Step>, &'s Value)> {
        ["initContainers", "containers", "ephemeralContainers"]
            .iter()
            .flat_map(|field| {
                self.spec[field].items().iter().enumerate().map(|(i, c)| {
                    let mut path = self.path.clone();
                    path.extend([Step::from(*field), Step::Index(i)]);
                    (path, c)
                })
            })
            .collect()
    }

    /// Whether it has a container port of this name.
    #[must_use]
    pub fn has_port_named(&self, name: &str) -> bool {
        self.containers().iter().flat_map(|(_, c)| c["ports"].items()).any(|p| p.str_at(["name"]) == Some(name))
    }
}
