//! What a real cluster needs for the secrets path, as manifests: the kinds, the driver, the provider, the webhook, each with
//! a ServiceAccount of its own that may do what it does and nothing more.
//!
//! The manifests are data (`data/cluster/`), with comments for whoever reads what is applied; here they are put together.

use druse_object::Value;
use druse_object::yaml::{self, Dialect, YamlError};

const KINDS: &str = include_str!("../data/cluster/kinds.yaml");
const DRIVER: &str = include_str!("../data/cluster/driver.yaml");
const SYNC: &str = include_str!("../data/cluster/sync.yaml");
const PROVIDER: &str = include_str!("../data/cluster/provider.yaml");
const WEBHOOK: &str = include_str!("../data/cluster/webhook.yaml");

/// A part that can be installed by itself: druse's driver works with upstream's provider and the other way round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The CRDs, which upstream's chart brings too.
    Kinds,
    /// The CSI driver.
    Driver,
    /// The driver's right to make Secrets of volumes, for classes with `secretObjects`.
    Sync,
    /// The AWS provider.
    Provider,
    /// The pod identity webhook.
    Webhook,
}

impl Part {
    const fn text(self) -> &'static str {
        match self {
            Self::Kinds => KINDS,
            Self::Driver => DRIVER,
            Self::Sync => SYNC,
            Self::Provider => PROVIDER,
            Self::Webhook => WEBHOOK,
        }
    }
}

/// What differs from cluster to cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Where everything is installed. It must admit privileged pods, as `kube-system` does.
    pub namespace: String,
    /// An image with druse as its entry point.
    pub image: String,
    /// The region of classes that name none; may be empty, then nodes must be labelled with theirs.
    pub region: String,
}

/// Why there are no manifests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} cannot be put into manifests: it must be letters, digits and any of {allowed}")]
pub struct ManifestError {
    /// What is wrong.
    pub what: &'static str,
    /// What it is.
    pub value: String,
    /// What else may be in it.
    pub allowed: &'static str,
}

impl Cluster {
    /// The manifests of these parts, as one YAML stream.
    ///
    /// # Errors
    /// When a field cannot be what it should be.
    pub fn manifests(&self, parts: &[Part]) -> Result<String, ManifestError> {
        check("the namespace", &self.namespace, "-", false)?;
        check("the image", &self.image, "-_./:@", false)?;
        check("the region", &self.region, "-", true)?;
        let texts: Vec<String> = parts.iter().map(|p| self.fill(p.text())).collect();
        Ok(texts.join("---\n"))
    }

    /// The objects of one part.
    ///
    /// # Errors
    /// When the part is no YAML, which would be a fault of this crate.
    pub fn objects(&self, part: Part) -> Result<Vec<Value>, YamlError> {
        yaml::documents(&self.fill(part.text()), Dialect::Sigs).into_iter().map(|d| Ok(d?.value)).collect()
    }

    fn fill(&self, text: &str) -> String {
        let text = text.replace("${NAMESPACE}", &self.namespace).replace("${IMAGE}", &self.image);
        text.replace("${REGION}", &self.region)
    }
}

fn check(what: &'static str, value: &str, allowed: &'static str, empty: bool) -> Result<(), ManifestError> {
    let fits = value.chars().all(|c| c.is_ascii_alphanumeric() || allowed.contains(c));
    if fits && (empty || !value.is_empty()) {
        return Ok(());
    }
    Err(ManifestError { what, value: value.into(), allowed })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> Cluster {
        Cluster {
            namespace: "kube-system".into(),
            image: "example.org/druse:1@sha256:0a".into(),
            region: "eu-x-1".into(),
        }
    }

    const ALL: [Part; 5] = [Part::Kinds, Part::Driver, Part::Sync, Part::Provider, Part::Webhook];

    /// `verbs resources` of the ClusterRoles of a part.
    fn rights(part: Part) -> Vec<String> {
        let list = |v: &Value| v.items().iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
        let roles = cluster().objects(part).unwrap();
        let roles = roles.iter().filter(|o| o["kind"].as_str() == Some("ClusterRole"));
        roles
            .flat_map(|r| r["rules"].items().to_vec())
            .map(|r| format!("{} {}", list(&r["verbs"]), list(&r["resources"])))
            .collect()
    }

    #[test]
    fn every_part_is_objects_with_nothing_left_to_fill_in() {
        for part in ALL {
            let objects = cluster().objects(part).unwrap();
            assert!(!objects.is_empty());
            for o in &objects {
                assert!(o.str_at(["kind"]).is_some() && o.str_at(["metadata", "name"]).is_some(), "{part:?}: {o:?}");
            }
        }
        let all = cluster().manifests(&ALL).unwrap();
        assert!(!all.contains("${"), "{all}");
        let one_by_one: usize = ALL.iter().map(|p| cluster().objects(*p).unwrap().len()).sum();
        assert_eq!(yaml::documents(&all, Dialect::Sigs).len(), one_by_one);
    }

    #[test]
    fn nobody_may_read_secrets_or_make_tokens_unless_that_is_its_work() {
        for part in [Part::Driver, Part::Provider, Part::Webhook] {
            for right in rights(part) {
                assert!(
                    !right.contains("secrets") && !right.contains("token") && !right.contains('*'),
                    "{part:?} {right}"
                );
            }
        }
        assert_eq!(rights(Part::Sync), ["get,create,update secrets"]);
        assert_eq!(rights(Part::Provider), ["get pods,serviceaccounts,nodes"]);
    }

    #[test]
    fn what_would_break_the_yaml_is_refused() {
        for (change, what) in [
            ((|c: &mut Cluster| c.namespace = "a: b".into()) as fn(&mut Cluster), "the namespace"),
            (|c| c.image = "x\n---".into(), "the image"),
            (|c| c.image.clear(), "the image"),
            (|c| c.region = "\"".into(), "the region"),
        ] {
            let mut cluster = cluster();
            change(&mut cluster);
            assert_eq!(cluster.manifests(&ALL).unwrap_err().what, what);
        }
    }
}
