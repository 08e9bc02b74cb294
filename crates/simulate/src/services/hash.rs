//! The order that upstream puts ports and subsets in: by the FNV hash of how the `spew` library prints them
//! (`k8s.io/utils/dump.ForHash`).
//!
//! The order means nothing, and people see it: ports are listed here as a real cluster lists them.

use std::fmt::Write as _;

use druse_object::Value;

use super::port::Port;
use super::subsets::Subset;

/// FNV-1a with 128 bits, as Go's `hash/fnv.New128a`.
pub fn fnv128(text: &str) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    text.bytes().fold(BASIS, |h, b| (h ^ u128::from(b)).wrapping_mul(PRIME))
}

/// Sorts the ports of a slice (upstream's `portsInOrder` of `k8s.io/endpointslice/util`).
pub fn sort_slice_ports(ports: &mut [Port]) {
    ports.sort_by_cached_key(|p| fnv128(&format!("(v1.EndpointPort){}", slice_port(p))));
}

/// Sorts the ports of a subset (upstream's `portsByHash` of `pkg/api/v1/endpoints`).
pub fn sort_subset_ports(ports: &mut [Port]) {
    ports.sort_by_cached_key(|p| fnv128(&format!("(v1.EndpointPort){}", subset_port(p))));
}

/// Sorts the subsets of Endpoints (upstream's `subsetsByHash`).
pub fn sort_subsets(subsets: &mut [Subset]) {
    subsets.sort_by_cached_key(|s| fnv128(&subset(s)));
}

/// A text of which only the pointer is there or not.
fn pointer(kind: &str, text: Option<&str>) -> String {
    match text {
        Some(text) => format!("(*{kind}){text}"),
        None => format!("(*{kind})<nil>"),
    }
}

fn slice_port(p: &Port) -> String {
    let number = p.port.map(|n| n.to_string());
    format!(
        "{{Name:{} Protocol:{} Port:{} AppProtocol:{}}}",
        pointer("string", p.name.as_deref()),
        pointer("v1.Protocol", p.protocol.as_deref()),
        pointer("int32", number.as_deref()),
        pointer("string", p.app_protocol.as_deref()),
    )
}

fn subset_port(p: &Port) -> String {
    format!(
        "{{Name:(string){} Port:(int32){} Protocol:(v1.Protocol){} AppProtocol:{}}}",
        p.name.as_deref().unwrap_or_default(),
        p.port.unwrap_or_default(),
        p.protocol.as_deref().unwrap_or_default(),
        pointer("string", p.app_protocol.as_deref()),
    )
}

fn address(a: &Value) -> String {
    let mut out = format!(
        "{{IP:(string){} Hostname:(string){} NodeName:{} TargetRef:(*v1.ObjectReference)",
        a["ip"].as_str().unwrap_or_default(),
        a["hostname"].as_str().unwrap_or_default(),
        pointer("string", a["nodeName"].as_str()),
    );
    if a["targetRef"].is_null() {
        out.push_str("<nil>}");
        return out;
    }
    let fields = [
        ("Kind", "string", "kind"),
        ("Namespace", "string", "namespace"),
        ("Name", "string", "name"),
        ("UID", "types.UID", "uid"),
        ("APIVersion", "string", "apiVersion"),
        ("ResourceVersion", "string", "resourceVersion"),
        ("FieldPath", "string", "fieldPath"),
    ];
    let fields = fields.map(|(go, kind, key)| format!("{go}:({kind}){}", a.str_at(["targetRef", key]).unwrap_or("")));
    let _infallible = write!(out, "{{{}}}}}", fields.join(" "));
    out
}

fn subset(s: &Subset) -> String {
    let list = |kind: &str, items: Vec<String>| match items.len() {
        0 => format!("([]{kind})<nil>"),
        _ => format!("([]{kind})[{}]", items.join(" ")),
    };
    format!(
        "(v1.EndpointSubset){{Addresses:{} NotReadyAddresses:{} Ports:{}}}",
        list("v1.EndpointAddress", s.ready.iter().map(address).collect()),
        list("v1.EndpointAddress", s.not_ready.iter().map(address).collect()),
        list("v1.EndpointPort", s.ports.iter().map(subset_port).collect()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::value;

    // The hashes are those that Go computes.

    #[test]
    fn ports_of_slices_hash_as_upstreams_do() {
        for (port, hash) in [
            ("{name: http, port: 8080, protocol: TCP}", 0x0e87_4d56_7709_0ee5_c32a_fa85_f637_c347),
            (
                "{name: 'http\"s', port: 53, protocol: UDP, appProtocol: kubernetes.io/h2c}",
                0x4247_1036_9b9b_a8f8_e2df_cb27_8479_e721,
            ),
            ("{name: '', port: 80, protocol: TCP}", 0x73b5_2e07_5e78_e707_87d5_e6ff_d221_2eef),
        ] {
            let port = Port::read(&value(port));
            assert_eq!(fnv128(&format!("(v1.EndpointPort){}", slice_port(&port))), hash, "{port:?}");
        }
    }

    #[test]
    fn ports_and_subsets_of_endpoints_hash_as_upstreams_do() {
        let ports =
            "ports: [{name: http, port: 8080, protocol: TCP}, {name: dns, port: 53, protocol: UDP, appProtocol: x}]";
        let target = "targetRef: {kind: Pod, namespace: ns, name: p, uid: u}";
        let text = format!(
            "[{{addresses: [{{ip: 10.0.0.1, hostname: h, nodeName: 'n', {target}}}, {{ip: 10.0.0.2}}], {ports}}}]"
        );
        let all = Subset::read_all(&value(&text));
        let hashes: Vec<u128> =
            all[0].ports.iter().map(|p| fnv128(&format!("(v1.EndpointPort){}", subset_port(p)))).collect();
        assert_eq!(hashes, [0x2530_4a33_da9e_6ece_350a_4142_a45f_5b75, 0x7750_d9c3_07e1_0be5_638b_da4b_035c_ae27]);
        assert_eq!(fnv128(&subset(&all[0])), 0x4f25_85af_bc22_5dfe_9543_ea7a_8b78_9398);
    }
}
