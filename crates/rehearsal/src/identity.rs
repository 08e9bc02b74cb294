//! The pod identity webhook in process: where a tree installs it, pods get what the real one would give them.

use std::sync::{Arc, OnceLock};

use druse_apiserver::admission::{Plugin, Review};
use druse_apiserver::server::Shared;
use druse_apiserver::status::Status;
use druse_identity::webhook::Settings;
use druse_object::Value;
use druse_plan::Plan;
use futures::future::{BoxFuture, ready};

/// The chart that installs the webhook.
const CHART: &str = "amazon-eks-pod-identity-webhook";

/// The webhook's settings, known once the plan is made. Pods come later.
#[derive(Clone, Default)]
pub(crate) struct Webhook(Arc<OnceLock<Settings>>);

impl Webhook {
    /// Takes the settings of the release that installs the webhook; without one pods are left alone.
    pub(crate) fn configure(&self, plan: &Plan) {
        let unit = plan.units.iter().find(|u| u.chart.as_ref().is_some_and(|c| c.name == CHART));
        if let Some(unit) = unit {
            // Set once: a rehearsal has one plan.
            let _ = self.0.set(settings(&unit.definition.value["spec"]["values"]["config"]));
        }
    }

    /// The admission plugin that does the webhook's work.
    pub(crate) fn plugin(&self) -> Box<dyn Plugin> {
        Box::new(self.clone())
    }
}

/// The chart's values in the webhook's terms.
fn settings(config: &Value) -> Settings {
    let mut s = Settings::default();
    let text = |name: &str| config.str_at([name]).filter(|t| !t.is_empty()).map(str::to_string);
    let fields = [
        ("annotationPrefix", &mut s.annotation_prefix),
        ("defaultAwsRegion", &mut s.region),
        ("tokenAudience", &mut s.audience),
        ("tokenMountPath", &mut s.mount_path),
    ];
    for (name, field) in fields {
        if let Some(value) = text(name) {
            *field = value;
        }
    }
    if let Some(b) = config.get("stsRegionalEndpoint").and_then(Value::as_bool) {
        s.regional_sts = b;
    }
    if let Some(n) = config.get("tokenExpiration").and_then(Value::as_i64) {
        s.expiration = n;
    }
    s
}

impl Plugin for Webhook {
    fn name(&self) -> &'static str {
        "PodIdentityWebhook"
    }

    fn mutate<'a>(&'a self, shared: &'a Shared, review: &'a mut Review<'_>) -> BoxFuture<'a, Result<(), Status>> {
        if let Some(settings) = self.0.get().filter(|_| review.creates("pods")) {
            let namespace = review.namespace.to_string();
            let schema = shared.schema(&review.resource.gvk(review.version));
            if let Some(pod) = review.object.as_deref_mut() {
                let name = pod.str_at(["spec", "serviceAccountName"]).unwrap_or_default();
                let account = shared.object("serviceaccounts", &namespace, name);
                if let Some(asked) = account.and_then(|a| settings.account(&a)) {
                    settings.mutate(pod, &asked);
                    // Defaulted as what a client sends: else each later write of the pod would seem to change it.
                    match schema {
                        Ok(schema) => schema.default(pod),
                        Err(status) => return Box::pin(ready(Err(status))),
                    }
                }
            }
        }
        Box::pin(ready(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::yaml;

    #[test]
    fn the_charts_values_are_the_webhooks_settings() {
        let values =
            "{annotationPrefix: my.aws, defaultAwsRegion: us-west-2, stsRegionalEndpoint: true, tokenExpiration: 3600}";
        let s = settings(&yaml::parse_strict(values).unwrap());
        assert_eq!(
            (s.annotation_prefix.as_str(), s.region.as_str(), s.regional_sts, s.expiration),
            ("my.aws", "us-west-2", true, 3600)
        );
        assert_eq!(settings(&Value::Null), Settings::default());
    }
}
