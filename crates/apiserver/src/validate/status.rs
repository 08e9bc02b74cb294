//! What controllers report of autoscalers and quotas (`k8s.io/kubernetes/pkg/apis/autoscaling/validation`,
//! `pkg/apis/core/validation`).

use druse_object::Value;

use super::at::{At, Errors};

/// What is reported of an autoscaler (`ValidateHorizontalPodAutoscalerStatusUpdate`).
pub(super) fn autoscaler(new: &Value, out: &mut Errors) {
    let status = At::new(&new["status"], "status");
    for key in ["currentReplicas", "desiredReplicas"] {
        status.child(key).nonnegative(out);
    }
}

/// What is reported of a quota (`ValidateResourceQuotaStatusUpdate`).
pub(super) fn quota(new: &Value, out: &mut Errors) {
    let status = At::new(&new["status"], "status");
    for part in ["hard", "used"] {
        let part = status.child(part);
        for (name, amount) in part.entries() {
            if let Some(q) = amount.quantity().filter(|q| q.is_negative()) {
                part.entry(name).bad(q.to_string(), "must be greater than or equal to 0", out);
            }
        }
    }
}
