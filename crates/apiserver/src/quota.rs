//! What ResourceQuotas count: how much of which resource an object uses, and which quotas it falls under.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use druse_object::{Quantity, Value};
use parking_lot::Mutex;

use crate::store::Key;

/// Amounts by resource name (`pods`, `requests.cpu`, `count/deployments.apps`).
pub type Usage = BTreeMap<String, Quantity>;

/// Quotas' stored type.
pub const QUOTAS: &str = "resourcequotas";

/// How long an admitted object may take until it is stored.
const PENDING: Duration = Duration::from_secs(10);

struct Booking {
    quota: Key,
    object: Key,
    more: Usage,
    since: Instant,
    written: bool,
}

/// What quotas have booked for objects that are admitted and not stored yet: whoever counts what is stored must not
/// forget them.
#[derive(Default)]
pub struct Bookings(Mutex<Vec<Booking>>);

impl Bookings {
    /// Says that a quota is about to book something for an object.
    pub fn begin(&self, quota: &Key, object: &Key, more: &Usage) {
        let mut all = self.0.lock();
        all.retain(|b| b.quota != *quota || b.object != *object);
        let (quota, object, more) = (quota.clone(), object.clone(), more.clone());
        all.push(Booking { quota, object, more, since: Instant::now(), written: false });
    }

    /// Says that the quota's status has it now.
    pub fn written(&self, quota: &Key, object: &Key) {
        let mut all = self.0.lock();
        all.iter_mut().filter(|b| b.quota == *quota && b.object == *object).for_each(|b| b.written = true);
    }

    /// Forgets what was booked for an object, now that it is stored or not going to be.
    pub fn settle(&self, object: &Key) {
        self.0.lock().retain(|b| b.object != *object);
    }

    /// What is booked in a quota, by object; `None` while somebody books, when nobody can say what the quota's status
    /// has already. To be asked before what is stored is listed: an object that is in neither was booked afterwards,
    /// and so the quota has changed since.
    pub fn of(&self, quota: &Key) -> Option<Vec<(Key, Usage)>> {
        let mut all = self.0.lock();
        all.retain(|b| b.since.elapsed() < PENDING);
        let mine = all.iter().filter(|b| b.quota == *quota);
        mine.map(|b| b.written.then(|| (b.object.clone(), b.more.clone()))).collect()
    }
}

/// A whole number as a quantity.
#[must_use]
pub fn whole(n: usize) -> Quantity {
    Quantity::parse(&n.to_string()).unwrap_or_default()
}

/// The amounts of a resource list.
#[must_use]
pub fn amounts(v: &Value) -> Usage {
    let entries = v.as_map().into_iter().flat_map(|m| m.iter());
    entries.filter_map(|(k, v)| Some((k.to_string(), Quantity::of(v)?))).collect()
}

/// Adds amounts.
pub fn add(to: &mut Usage, more: &Usage) {
    for (k, q) in more {
        let sum = to.get(k).map_or(*q, |had| had.plus(*q));
        to.insert(k.clone(), sum);
    }
}

/// A pod's sums: its containers together, or an init container that needs more, and its overhead.
fn pod_sum(pod: &Value, what: &str) -> Usage {
    let mut out = Usage::new();
    for c in pod["spec"]["containers"].items() {
        add(&mut out, &amounts(&c["resources"][what]));
    }
    let mut before = Usage::new();
    for c in pod["spec"]["initContainers"].items() {
        let own = amounts(&c["resources"][what]);
        // A sidecar goes on beside the containers.
        if c.str_at(["restartPolicy"]) == Some("Always") {
            add(&mut out, &own);
            add(&mut before, &own);
            continue;
        }
        let mut peak = before.clone();
        add(&mut peak, &own);
        for (k, q) in peak {
            let most = out.get(&k).map_or(q, |had| (*had).max(q));
            out.insert(k, most);
        }
    }
    let overhead = amounts(&pod["spec"]["overhead"]);
    if what == "requests" || !out.is_empty() {
        add(&mut out, &overhead);
    }
    out
}

/// Whether a pod has ended: it holds no resources then.
#[must_use]
pub fn ended(pod: &Value) -> bool {
    matches!(pod.str_at(["status", "phase"]), Some("Succeeded" | "Failed"))
}

/// All that an object of a stored type uses.
#[must_use]
pub fn usage(stored_as: &str, o: &Value) -> Usage {
    let mut out = Usage::from([(format!("count/{stored_as}"), whole(1))]);
    let mut one = |name: &str| {
        out.insert(name.to_owned(), whole(1));
    };
    match stored_as {
        "configmaps" | "secrets" | "replicationcontrollers" | "resourcequotas" => one(stored_as),
        "services" => {
            one("services");
            let kind = o.str_at(["spec", "type"]).unwrap_or("ClusterIP");
            let ports = o["spec"]["ports"].items();
            let without = o.at(["spec", "allocateLoadBalancerNodePorts"]).and_then(Value::as_bool) == Some(false);
            if kind == "LoadBalancer" {
                one("services.loadbalancers");
            }
            if kind == "NodePort" || kind == "LoadBalancer" && !without {
                out.insert("services.nodeports".into(), whole(ports.len()));
            }
        }
        "persistentvolumeclaims" => {
            one("persistentvolumeclaims");
            let storage = amounts(&o["spec"]["resources"]["requests"]).get("storage").copied();
            let class = o.str_at(["spec", "storageClassName"]).filter(|c| !c.is_empty());
            let mut put = |prefix: String| {
                out.insert(format!("{prefix}persistentvolumeclaims"), whole(1));
                if let Some(s) = storage {
                    out.insert(format!("{prefix}requests.storage"), s);
                }
            };
            put(String::new());
            if let Some(c) = class {
                put(format!("{c}.storageclass.storage.k8s.io/"));
            }
        }
        "pods" if !ended(o) => {
            one("pods");
            for (k, q) in pod_sum(o, "requests") {
                if matches!(k.as_str(), "cpu" | "memory" | "ephemeral-storage") || k.starts_with("hugepages-") {
                    out.insert(k.clone(), q);
                }
                out.insert(format!("requests.{k}"), q);
            }
            for (k, q) in pod_sum(o, "limits") {
                out.insert(format!("limits.{k}"), q);
            }
        }
        _ => {}
    }
    out
}

/// Whether an object falls under a quota's scopes. Only pods have scopes.
#[must_use]
pub fn in_scope(quota: &Value, stored_as: &str, o: &Value) -> bool {
    let plain = quota["spec"]["scopes"].items().iter().filter_map(Value::as_str).map(|s| (s, "Exists", &[][..]));
    let selected = quota["spec"]["scopeSelector"]["matchExpressions"].items().iter().map(|e| {
        let text = |k: &str| e.str_at([k]).unwrap_or_default();
        (text("scopeName"), text("operator"), e["values"].items())
    });
    let mut all = plain.chain(selected).peekable();
    if all.peek().is_some() && stored_as != "pods" {
        return false;
    }
    let ends = o.at(["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|s| s >= 0);
    let effort = pod_sum(o, "requests").is_empty() && pod_sum(o, "limits").is_empty();
    let class = o.str_at(["spec", "priorityClassName"]).unwrap_or_default();
    all.all(|(scope, operator, values)| match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => effort,
        "NotBestEffort" => !effort,
        "PriorityClass" => {
            let named = values.iter().any(|v| v.as_str() == Some(class));
            match operator {
                "In" => named,
                "NotIn" => !named,
                "DoesNotExist" => class.is_empty(),
                _ => !class.is_empty(),
            }
        }
        "CrossNamespacePodAffinity" => {
            let terms = ["podAffinity", "podAntiAffinity"].map(|k| &o["spec"]["affinity"][k]);
            let lists = terms.iter().flat_map(|t| {
                [
                    &t["requiredDuringSchedulingIgnoredDuringExecution"],
                    &t["preferredDuringSchedulingIgnoredDuringExecution"],
                ]
            });
            let crosses = |t: &Value| !t["namespaces"].items().is_empty() || t.get("namespaceSelector").is_some();
            lists.into_iter().flat_map(Value::items).any(|t| crosses(t) || crosses(&t["podAffinityTerm"]))
        }
        _ => false,
    })
}

/// What a quota limits, of an object's usage.
#[must_use]
pub fn limited(quota: &Value, usage: &Usage) -> Usage {
    let hard = amounts(&quota["spec"]["hard"]);
    usage.iter().filter(|(k, _)| hard.contains_key(*k)).map(|(k, q)| (k.clone(), *q)).collect()
}

/// Amounts as a resource list.
#[must_use]
pub fn list(usage: &Usage) -> Value {
    usage
        .iter()
        .map(|(k, q)| (druse_object::Str::from(k.as_str()), Value::from(q.to_string())))
        .collect::<druse_object::Map>()
        .into()
}

/// Amounts as messages write them: `cpu=1,pods=2`.
#[must_use]
pub fn shown(usage: &Usage) -> String {
    usage.iter().map(|(k, q)| format!("{k}={q}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use druse_object::json;

    #[test]
    fn a_pod_uses_the_most_it_needs_at_once() {
        let pod = json::parse(
            br#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"100m"}}},{"resources":{"requests":{"cpu":"200m"}}}],
            "initContainers":[{"resources":{"requests":{"cpu":"1"}}},{"restartPolicy":"Always","resources":{"requests":{"cpu":"50m"}}}]}}"#,
        )
        .unwrap();
        let used = usage("pods", &pod);
        assert_eq!(used["requests.cpu"].to_string(), "1050m");
        assert_eq!((used["pods"].to_string(), used["count/pods"].to_string()), ("1".into(), "1".into()));
    }

    #[test]
    fn scopes_choose_pods_and_leave_everything_else_out() {
        let quota = json::parse(br#"{"spec":{"scopes":["BestEffort"],"hard":{"pods":"1"}}}"#).unwrap();
        let idle = json::parse(br#"{"spec":{"containers":[{}]}}"#).unwrap();
        let busy = json::parse(br#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"1"}}}]}}"#).unwrap();
        assert!(in_scope(&quota, "pods", &idle) && !in_scope(&quota, "pods", &busy));
        assert!(!in_scope(&quota, "services", &idle));
    }
}
