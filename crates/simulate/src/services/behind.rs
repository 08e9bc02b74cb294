//! What a pod is to the Services in front of it: whether it stands behind them, with which addresses, and which of its
//! changes they have to hear of. As upstream's `k8s.io/endpointslice/util`.

use std::net::IpAddr;

use druse_object::{Map, Value};
use druse_runtime::Change;

use crate::workloads::pods::{going, has_ended, is_ready};

/// An IP family, as EndpointSlices (`addressType`) and Services (`ipFamilies`) name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    pub fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The families that a Service has endpoints of.
    pub fn of_service(service: &Value) -> Vec<Self> {
        let named = service["spec"]["ipFamilies"].items().iter().filter_map(Value::as_str);
        let mut out: Vec<Self> = named
            .filter_map(|f| match f {
                "IPv4" => Some(Self::V4),
                "IPv6" => Some(Self::V6),
                _ => None,
            })
            .collect();
        if out.is_empty() {
            // A Service that no API has completed: that of its address, or both.
            match service.str_at(["spec", "clusterIP"]).and_then(ip) {
                Some(address) => out.push(Self::of(address)),
                None => out.extend([Self::V4, Self::V6]),
            }
        }
        out.sort_unstable();
        out.dedup();
        out
    }
}

/// Whether a Service has no address of its own.
pub fn is_headless(service: &Value) -> bool {
    matches!(service.str_at(["spec", "clusterIP"]), None | Some("" | "None"))
}

/// Whether a Service has endpoints that controllers make: it selects pods, and is not only a name for a host.
pub fn is_selecting(service: &Value) -> bool {
    has_selector(service) && service.str_at(["spec", "type"]) != Some("ExternalName")
}

/// Whether a Service has a selector. An empty one does not outlive the wire format of upstream's controllers.
pub fn has_selector(service: &Value) -> bool {
    service["spec"]["selector"].as_map().is_some_and(|s| !s.is_empty())
}

/// Whether a Service's selector chooses a pod with these labels.
pub fn selects(service: &Value, labels: &Value) -> bool {
    let selector = service["spec"]["selector"].as_map();
    selector.is_some_and(|s| !s.is_empty() && s.iter().all(|(k, v)| labels[k.as_str()] == *v))
}

/// An address in its usual form. As Go reads it: numbers of IPv4 addresses may begin with zeros.
pub fn ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    let parts = text.split('.').map(|p| {
        let digits = !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| p.parse::<u8>().ok()).flatten()
    });
    let parts: Option<Vec<u8>> = parts.collect();
    <[u8; 4]>::try_from(parts?).ok().map(IpAddr::from)
}

/// The addresses of a pod, in the order it has them.
pub fn addresses(pod: &Value) -> impl Iterator<Item = IpAddr> + '_ {
    let all = pod["status"]["podIPs"].items();
    let one = if all.is_empty() { pod.str_at(["status", "podIP"]) } else { None };
    all.iter().filter_map(|a| a["ip"].as_str()).chain(one).filter_map(ip)
}

/// Whether a pod belongs to the endpoints of a Service that selects it; one that is asked to go only when `going_too`.
pub fn stands(pod: &Value, going_too: bool) -> bool {
    let addressed =
        pod.str_at(["status", "podIP"]).is_some_and(|ip| !ip.is_empty()) || !pod["status"]["podIPs"].items().is_empty();
    addressed && !has_ended(pod) && (going_too || !going(pod))
}

/// The name of a pod's host, when it has one within the Service's domain.
pub fn hostname<'a>(pod: &'a Value, service: &Value) -> Option<&'a str> {
    let name = pod.str_at(["spec", "hostname"]).filter(|h| !h.is_empty())?;
    let within = pod.str_at(["spec", "subdomain"]).unwrap_or_default();
    (Some(within) == service.str_at(["metadata", "name"])).then_some(name)
}

/// The reference that leads from an endpoint to its pod.
pub fn target(pod: &Value) -> Map {
    let mut m = Map::new();
    m.insert("kind", "Pod");
    for field in ["namespace", "name", "uid"] {
        m.insert(field, pod["metadata"][field].clone());
    }
    m
}

/// The labels (old and new) by which to find the Services that must hear of a pod's change; none when it is no matter to
/// any (upstream's `GetPodUpdateProjectionKey`).
pub fn concerned(change: &Change) -> Vec<&Value> {
    match (&change.old, &change.new) {
        (Some(old), Some(new)) => {
            let (was, is) = (&old["metadata"]["labels"], &new["metadata"]["labels"]);
            if was != is {
                vec![was, is]
            } else if differs(old, new) {
                vec![is]
            } else {
                Vec::new()
            }
        }
        (Some(pod), None) | (None, Some(pod)) => vec![&pod["metadata"]["labels"]],
        (None, None) => Vec::new(),
    }
}

/// Whether a pod changed in what its endpoints say.
///
/// Upstream hears of a pod's end by its readiness alone; a pod that ends while it is called ready is heard of here too.
fn differs(old: &Value, new: &Value) -> bool {
    let other = |field: &str| {
        let [old, new] = [old, new].map(|pod| pod.str_at(["spec", field]).unwrap_or_default());
        old != new
    };
    going(old)
        || going(new)
        || is_ready(old) != is_ready(new)
        || has_ended(old) != has_ended(new)
        || old["status"]["podIPs"] != new["status"]["podIPs"]
        || old["status"]["podIP"] != new["status"]["podIP"]
        || other("hostname")
        || other("subdomain")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::value;
    use druse_runtime::Key;
    use std::sync::Arc;

    fn pod(labels: &str, more: &str, status: &str) -> Value {
        value(&format!(
            "{{metadata: {{name: p, namespace: home, labels: {{{labels}}}, {more}}}, spec: {{}}, status: {{podIPs: [{{ip: 10.0.0.1}}], {status}}}}}"
        ))
    }

    #[test]
    fn services_hear_of_what_their_endpoints_say_and_of_nothing_else() {
        let ready = "phase: Running, conditions: [{type: Ready, status: 'True'}]";
        let before = || pod("app: a", "", ready);
        let heard = |old: Option<Value>, new: Option<Value>| {
            let change = Change { key: Key::new("home", "p"), old: old.map(Arc::new), new: new.map(Arc::new) };
            concerned(&change).iter().map(|l| l["app"].as_str().unwrap_or("-").to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(heard(None, Some(before())), "a");
        assert_eq!(heard(Some(before()), None), "a");
        for (new, expected) in [
            (before(), ""),
            (pod("app: a", "annotations: {b: c}, resourceVersion: '9'", ready), ""),
            (pod("app: b", "", ready), "a b"),
            (pod("", "", ready), "a -"),
            (pod("app: a", "deletionTimestamp: x", ready), "a"),
            (pod("app: a", "", "phase: Running, conditions: [{type: Ready, status: 'False'}]"), "a"),
            (pod("app: a", "", &ready.replace("Running", "Failed")), "a"),
            (pod("app: a", "", &format!("{ready}, podIP: 10.0.0.1")), "a"),
        ] {
            assert_eq!(heard(Some(before()), Some(new.clone())), expected, "{new:?}");
        }
    }

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        for (text, expected) in [
            ("10.0.0.1", Some("10.0.0.1")),
            ("010.000.0.1", Some("10.0.0.1")),
            ("::ffff:10.0.0.1", Some("10.0.0.1")),
            ("FD00:0::1", Some("fd00::1")),
            ("10.0.0", None),
            ("10.0.0.256", None),
            ("+1.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(ip(text).map(|ip| ip.to_string()).as_deref(), expected, "{text}");
        }
    }
}
