//! The source controller: says on each source object what it became.
//!
//! Units read sources through the same code ([`druse_plan::sources`]); this controller shows their state in Flux' words
//! and wakes units when a revision changes.

use std::sync::Arc;
use std::time::Duration;

use druse_flux::api::{SOURCE_GROUP, SourceRef};
use druse_flux::duration::GoDuration;
use druse_object::{Map, Value};
use druse_runtime::{Cache, Key, Manager, Next, Queue, Reconciler, Resource, clock};
use sha2::{Digest as _, Sha256};

use crate::context::{CacheLookup, Context, conditions, matters};

struct Controller {
    context: Arc<Context>,
    kind: String,
    cache: Arc<Cache>,
}

pub(crate) fn start(manager: &Manager, context: &Arc<Context>) -> Vec<(Arc<Cache>, Queue)> {
    let mut queues = Vec::new();
    for (kind, cache) in &context.sources {
        // Charts are published by the HelmRelease controller, which fetches them.
        if kind == "HelmChart" {
            continue;
        }
        let queue = manager.queue();
        let controller = Controller { context: context.clone(), kind: kind.clone(), cache: cache.clone() };
        manager.run("source", &queue, Arc::new(controller), 2);
        manager.watch_mapped(&queue, cache, |c| {
            if c.new.is_some() && matters(c.old.as_deref(), c.new.as_deref()) {
                vec![c.key.clone()]
            } else {
                Vec::new()
            }
        });
        queues.push((cache.clone(), queue));
    }
    queues
}

impl Reconciler for Controller {
    async fn reconcile(&self, key: Key) -> Next {
        let Some(object) = self.cache.get(&key) else { return Next::Wait };
        if !object["metadata"]["deletionTimestamp"].is_null() || object["spec"]["suspend"].as_bool() == Some(true) {
            return Next::Wait;
        }
        let interval = object.str_at(["spec", "interval"]).and_then(GoDuration::parse);
        let interval = interval.map_or(Duration::from_secs(3600), |d| d.0);
        let mut new = (*object).clone();
        let failed = if self.kind == "HelmRepository" {
            self.show_repository(&mut new);
            false
        } else {
            self.show_tree(&key, &object, &mut new).await
        };
        let generation = new["metadata"]["generation"].clone();
        if let Some(status) = new.make_map_at(["status"]) {
            status.insert("observedGeneration", generation);
        }
        let resource: &Resource = self.cache.resource();
        match self.context.write_status(resource, &object, &new).await {
            Ok(()) if failed => Next::After(interval.min(Duration::from_secs(60))),
            Ok(()) => Next::After(interval),
            Err(_) => Next::Retry,
        }
    }
}

/// An artifact with all that the published schema requires. Nothing is stored and served here: the path and address are
/// those that Flux would have given, and without a digest of its own a revision stands for its content.
pub(crate) fn artifact(kind: &str, key: &Key, revision: &str, digest: &str, now: &str) -> Map {
    let digest = match digest {
        "" => format!("sha256:{}", hex::encode(Sha256::digest(revision.as_bytes()))),
        given if given.contains(':') => given.to_owned(),
        bare => format!("sha256:{bare}"),
    };
    let file = digest.rsplit(':').next().unwrap_or_default();
    let path = format!("{}/{}/{}/{file}.tar.gz", kind.to_lowercase(), key.namespace, key.name);
    let mut out = Map::new();
    out.insert("digest", digest.as_str());
    out.insert("lastUpdateTime", now);
    out.insert("path", path.as_str());
    out.insert("revision", revision);
    out.insert("url", format!("http://source-controller.flux-system.svc.cluster.local./{path}"));
    out
}

impl Controller {
    /// A Helm repository is asked chart by chart: mirrors hold charts, not indexes.
    fn show_repository(&self, new: &mut Value) {
        let now = clock::now();
        let url = new.str_at(["spec", "url"]).unwrap_or_default().to_owned();
        let message = format!("charts of {url} are looked up by name and version");
        conditions(new, &now).set("Ready", "True", "Succeeded", &message);
    }

    /// Fetches a source of files and shows its revision. Says whether it failed.
    async fn show_tree(&self, key: &Key, object: &Value, new: &mut Value) -> bool {
        let reference = SourceRef { kind: self.kind.as_str().into(), name: key.name.clone(), ..SourceRef::default() };
        let secret = object["spec"]["secretRef"]["name"].as_str().map(str::to_owned);
        let wanted = secret.iter().map(|s| ("Secret", s.as_str()));
        let now = clock::now();
        let secrets = match self.context.configs(&key.namespace, wanted).await {
            Ok(s) => s,
            Err(e) => {
                conditions(new, &now).set("Ready", "False", "AuthenticationFailed", &e.to_string());
                return true;
            }
        };
        let (context, namespace) = (self.context.clone(), key.namespace.clone());
        let result = tokio::task::spawn_blocking(move || {
            let lookup = CacheLookup { context: &context, secrets };
            context.trees().tree(&lookup, &reference, &namespace).map_err(Box::new)
        })
        .await;
        match result {
            Ok(Ok(tree)) => {
                let revision = tree.info.revision;
                if let Some(status) = new.make_map_at(["status"]) {
                    let artifact = artifact(&self.kind, key, &revision, "", &now);
                    if status.get("artifact").is_none_or(|a| a["revision"].as_str() != Some(&revision)) {
                        status.insert("artifact", artifact);
                    }
                }
                let what = if tree.info.is_tree { "the working tree stands for it: " } else { "" };
                let message = format!("{what}stored artifact for revision '{revision}'");
                let mut c = conditions(new, &now);
                c.set("Ready", "True", "Succeeded", &message);
                c.set("ArtifactInStorage", "True", "Succeeded", &message);
                false
            }
            Ok(Err(failure)) => {
                let url = failure.source.as_ref().map(|s| s.url.clone()).unwrap_or_default();
                let stand_in = self.context.options.stand_ins.as_ref().filter(|_| failure.not_at_hand);
                if let Some(component) = stand_in.and_then(|s| s.for_source(&url)) {
                    let message = format!(
                        "stand-in: source {url} not fetched, the {} component does its work (simulated)",
                        component.component
                    );
                    conditions(new, &now).set("Ready", "True", "StandIn", &message);
                    return false;
                }
                conditions(new, &now).set("Ready", "False", "FetchFailed", &failure.error.to_string());
                true
            }
            Err(e) => {
                conditions(new, &now).set("Ready", "False", "FetchFailed", &format!("{SOURCE_GROUP}: {e}"));
                true
            }
        }
    }
}
