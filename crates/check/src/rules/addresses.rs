//! DR036: addresses that a Service (or the Service of a Gateway) asks for and no pool has, of MetalLB or of Cilium.

use std::net::IpAddr;

use druse_object::Value;
use druse_plan::{UnitKind, UnitState};

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::index::{Entry, Origin};
use crate::paths;
use crate::position::Step;

/// An annotation that asks for addresses, and the kind of pool that they are of.
const ASKED: &[(&str, &str)] = &[
    ("metallb.io/loadBalancerIPs", METALLB),
    ("metallb.universe.tf/loadBalancerIPs", METALLB),
    ("lbipam.cilium.io/ips", CILIUM),
    ("io.cilium/lb-ipam-ips", CILIUM),
];
/// Annotations that name a pool.
const NAMED: &[&str] = &["metallb.io/address-pool", "metallb.universe.tf/address-pool"];
const METALLB: &str = "IPAddressPool.metallb.io";
const CILIUM: &str = "CiliumLoadBalancerIPPool.cilium.io";

/// The addresses of all pools of a kind, from and to.
type Pools = Vec<(IpAddr, IpAddr)>;

pub(super) fn check(cx: &Context<'_>, out: &mut Vec<Finding>) {
    let (metallb, cilium) = (pools(cx, METALLB), pools(cx, CILIUM));
    let of = |kind: &str| if kind == METALLB { metallb.as_ref() } else { cilium.as_ref() };
    for entry in cx.own() {
        let base: &[&str] = match (entry.gvk.group.as_str(), entry.gvk.kind.as_str()) {
            ("", "Service") if entry.object.value.str_at(["spec", "type"]) == Some("LoadBalancer") => {
                &["metadata", "annotations"]
            }
            (super::gateway::GROUP, "Gateway") => &["spec", "infrastructure", "annotations"],
            _ => continue,
        };
        let annotations = base.iter().fold(&entry.object.value, |v, key| &v[*key]);
        for (key, kind) in ASKED {
            let (Some(text), Some(pools)) = (annotations.get(key).and_then(Value::as_str), of(kind)) else { continue };
            let path: Vec<Step> = base.iter().chain([key]).map(|k| Step::from(*k)).collect();
            text.split(',').for_each(|address| outside(cx, entry, &path, (address.trim(), text), pools, out));
        }
        // Whoever gives out addresses takes this field for its own; where there are both, it is not known whose it is.
        if let (Some(address), Some(pools)) =
            (entry.object.value.str_at(["spec", "loadBalancerIP"]), metallb.as_ref().xor(cilium.as_ref()))
        {
            let path = ["spec", "loadBalancerIP"].map(Step::from);
            outside(cx, entry, &path, (address, address), pools, out);
        }
        if metallb.is_some() {
            for key in NAMED {
                let Some(name) = annotations.get(key).and_then(Value::as_str).filter(|n| !n.contains('$')) else {
                    continue;
                };
                if cx.index.of_name(METALLB).any(|p| p.object.name() == name) {
                    continue;
                }
                let path: Vec<Step> = base.iter().chain([key]).map(|k| Step::from(*k)).collect();
                out.push(cx.at(entry, &path, &[name], "DR036", format!("IPAddressPool {name} does not exist")));
            }
        }
    }
}

/// The pools of a kind; `None` when there are none, or when what they hold is not all known.
fn pools(cx: &Context<'_>, kind: &str) -> Option<Pools> {
    let mut out = Pools::new();
    for entry in cx.index.of_name(kind) {
        let value = &entry.object.value;
        for (_, block) in paths::all(value, "spec.addresses[]").into_iter().chain(paths::all(value, "spec.blocks[]")) {
            let range = match block {
                Value::String(text) => match text.split_once('-') {
                    Some((from, to)) => address(from).zip(address(to)),
                    None => network(text),
                },
                block => match (block.str_at(["cidr"]), block.str_at(["start"]), block.str_at(["stop"])) {
                    (Some(cidr), ..) => network(cidr),
                    (_, Some(from), to) => address(from).zip(address(to.unwrap_or(from))),
                    _ => None,
                },
            };
            out.push(range?);
        }
    }
    // A Kustomization that does not render may bring others.
    let unknown = cx
        .index
        .opaque
        .iter()
        .any(|o| o.unit.id.kind == UnitKind::Kustomization && !matches!(o.unit.state, UnitState::StandIn { .. }));
    (!out.is_empty() && !unknown).then_some(out)
}

fn address(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok()
}

/// The first and last address of a network.
fn network(text: &str) -> Option<(IpAddr, IpAddr)> {
    let (base, length) = text.trim().split_once('/')?;
    let (base, length) = (address(base)?, length.parse::<u32>().ok()?);
    match base {
        IpAddr::V4(ip) => {
            let rest = u32::MAX.checked_shr(length).unwrap_or(0);
            let ip = u32::from(ip);
            Some((IpAddr::V4((ip & !rest).into()), IpAddr::V4((ip | rest).into())))
        }
        IpAddr::V6(ip) => {
            let rest = u128::MAX.checked_shr(length).unwrap_or(0);
            let ip = u128::from(ip);
            Some((IpAddr::V6((ip & !rest).into()), IpAddr::V6((ip | rest).into())))
        }
    }
}

fn outside(
    cx: &Context<'_>,
    entry: &Entry<'_>,
    path: &[Step],
    (text, whole): (&str, &str),
    pools: &Pools,
    out: &mut Vec<Finding>,
) {
    let Some(ip) = address(text) else { return };
    // Pools of the other family may be in use without being written down here.
    if !pools.iter().any(|(from, _)| from.is_ipv4() == ip.is_ipv4())
        || pools.iter().any(|(from, to)| (from..=to).contains(&&ip))
    {
        return;
    }
    if entry.origin == Origin::Chart && cx.in_values(entry.unit, &[whole]).is_none() {
        return;
    }
    let finding =
        cx.at(entry, path, &[whole], "DR036", format!("{} asks for {ip}, which no address pool has", entry.key()));
    out.push(finding.severity(Severity::Warning).help("ask for an address of a pool, or add it to one"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_their_first_and_last_address() {
        let shown = |text: &str| network(text).map(|(a, b)| format!("{a}-{b}"));
        assert_eq!(shown("10.0.0.7/24").as_deref(), Some("10.0.0.0-10.0.0.255"));
        assert_eq!(shown("10.0.0.7/32").as_deref(), Some("10.0.0.7-10.0.0.7"));
        assert_eq!(shown("fd00::/120").as_deref(), Some("fd00::-fd00::ff"));
        assert_eq!(shown("0.0.0.0/0").as_deref(), Some("0.0.0.0-255.255.255.255"));
        assert_eq!(shown("10.0.0.0"), None);
    }
}
