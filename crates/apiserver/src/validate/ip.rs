//! Addresses and ranges of addresses in fields, with the words upstream refuses them in
//! (`k8s.io/apimachinery/pkg/util/validation/ip.go`, strict since 1.36).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use druse_object::Value;

use super::at::Errors;
use crate::field::FieldError;

/// A range of addresses: its first address and the bits that are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    /// The address as it was written, host bits and all.
    pub address: IpAddr,
    /// How many leading bits are fixed.
    pub bits: u8,
}

/// What a text says when leading zeros are read past, as upstream's older parser does.
pub(crate) fn sloppy(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    let mut parts = text.split('.').map(|p| {
        let plain = !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| p.trim_start_matches('0')).and_then(|p| if p.is_empty() { Some(0) } else { p.parse::<u8>().ok() })
    });
    let mut next = || parts.next().flatten();
    let octets = [next()?, next()?, next()?, next()?];
    parts.next().is_none().then(|| Ipv4Addr::from(octets).into())
}

/// Whether this is an IPv4 address in the form of an IPv6 one.
pub(crate) fn mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

/// An address as older fields take it; `None` after an error.
pub(super) fn legacy(text: &str, path: &str, out: &mut Errors) -> Option<IpAddr> {
    let Some(ip) = sloppy(text) else {
        let why = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
        out.push(FieldError::invalid(path, text, why));
        return None;
    };
    if text.parse::<IpAddr>().is_err() {
        out.push(FieldError::invalid(path, text, "must not have leading 0s"));
        return None;
    }
    if mapped(ip) {
        out.push(FieldError::invalid(path, text, "must not be an IPv4-mapped IPv6 address"));
        return None;
    }
    Some(ip)
}

/// An address in its one canonical form; `None` after an error.
pub(super) fn canonical(text: &str, path: &str, out: &mut Errors) -> Option<IpAddr> {
    let ip = legacy(text, path, out)?;
    if ip.to_string() == text {
        return Some(ip);
    }
    out.push(FieldError::invalid(path, text, format!("must be in canonical form (\"{ip}\")")));
    None
}

impl Cidr {
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let address = sloppy(address)?;
        let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
        let bits: u8 = plain.then(|| bits.parse().ok()).flatten()?;
        (bits <= if address.is_ipv4() { 32 } else { 128 }).then_some(Self { address, bits })
    }

    fn number(ip: IpAddr) -> (u128, u32) {
        match ip {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 32),
            IpAddr::V6(v6) => (u128::from(v6), 128),
        }
    }

    /// The first address of the range.
    pub(crate) fn first(self) -> IpAddr {
        let (n, width) = Self::number(self.address);
        let host = width - u32::from(self.bits);
        let n = if host == 128 { 0 } else { n >> host << host };
        match self.address {
            IpAddr::V4(_) => Ipv4Addr::from(u32::try_from(n).unwrap_or(u32::MAX)).into(),
            IpAddr::V6(_) => Ipv6Addr::from(n).into(),
        }
    }

    /// Whether `other` lies in this range and is smaller.
    pub(super) fn strictly_holds(self, other: Self) -> bool {
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.bits < other.bits
            && Self { address: other.address, bits: self.bits }.first() == self.first()
    }

    /// A range as older fields take it; `None` after an error that leaves nothing to look at.
    pub(super) fn legacy(text: &str, path: &str, out: &mut Errors) -> Option<Self> {
        let Some(cidr) = Self::read(text) else {
            let why = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";
            out.push(FieldError::invalid(path, text, why));
            return None;
        };
        let (address, bits) = text.split_once('/').unwrap_or_default();
        let why = if address.parse::<IpAddr>().is_err() || bits.len() > 1 && bits.starts_with('0') {
            "must not have leading 0s in IP or prefix length"
        } else if mapped(cidr.address) {
            "must not have an IPv4-mapped IPv6 address"
        } else if cidr.first() != cidr.address {
            "must not have bits set beyond the prefix length"
        } else {
            return Some(cidr);
        };
        out.push(FieldError::invalid(path, text, why));
        Some(cidr)
    }

    /// A range in its one canonical form; `None` after an error.
    pub(super) fn canonical(text: &str, path: &str, out: &mut Errors) -> Option<Self> {
        let before = out.len();
        let cidr = Self::legacy(text, path, out)?;
        if out.len() > before {
            return None;
        }
        let shown = format!("{}/{}", cidr.first(), cidr.bits);
        if shown == text {
            return Some(cidr);
        }
        out.push(FieldError::invalid(path, text, format!("must be in canonical form (\"{shown}\")")));
        None
    }
}

/// Addresses that make no sense behind a Service (upstream `ValidateEndpointIP`).
pub(super) fn endpoint(text: &str, path: &str, out: &mut Errors) {
    let mut no = |why: String| out.push(FieldError::invalid(path, Value::from(text), why));
    let Some(ip) = sloppy(text) else {
        return no("must be a valid IP address".into());
    };
    if ip.is_unspecified() {
        no(format!("may not be unspecified ({text})"));
    }
    if ip.is_loopback() {
        no("may not be in the loopback range (127.0.0.0/8, ::1/128)".into());
    }
    let (link_local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    if link_local {
        no("may not be in the link-local range (169.254.0.0/16, fe80::/10)".into());
    }
    if multicast {
        no("may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into());
    }
}

/// The address of an interface with the length of its network's prefix.
pub(super) fn interface_address(at: &super::at::At, out: &mut Errors) {
    let Some(cidr) = Cidr::read(at.text()) else {
        return at.invalid("must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)", out);
    };
    // An IPv4 address in the form of an IPv6 one is shown as what it is.
    let (address, bits) = match cidr.address {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => (IpAddr::V4(v4), cidr.bits.saturating_sub(96)),
            None => (cidr.address, cidr.bits),
        },
        v4 => (v4, cidr.bits),
    };
    let shown = format!("{address}/{bits}");
    if at.text() != shown {
        at.invalid(format!("must be in canonical form (\"{shown}\")"), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T>(f: impl Fn(&mut Errors) -> Option<T>) -> Vec<String> {
        let mut out = Vec::new();
        f(&mut out);
        out.into_iter().map(|e| e.detail).collect()
    }

    #[test]
    fn addresses_have_one_way_to_be_written() {
        assert_eq!(said(|out| legacy("10.1.2.3", "x", out)), [""; 0]);
        assert_eq!(said(|out| legacy("010.1.2.3", "x", out)), ["must not have leading 0s"]);
        assert_eq!(said(|out| legacy("::ffff:1.2.3.4", "x", out)), ["must not be an IPv4-mapped IPv6 address"]);
        assert_eq!(said(|out| canonical("fd00:0::1", "x", out)), ["must be in canonical form (\"fd00::1\")"]);
        assert_eq!(
            said(|out| Cidr::legacy("10.1.2.3/8", "x", out)),
            ["must not have bits set beyond the prefix length"]
        );
        assert_eq!(said(|out| Cidr::canonical("0.0.0.0/0", "x", out)), [""; 0]);
        assert_eq!(said(|out| Cidr::canonical("::/0", "x", out)), [""; 0]);
        assert_eq!(said(|out| Cidr::canonical("10.0.0.0/33", "x", out)).len(), 1);
    }

    #[test]
    fn a_range_holds_smaller_ones_only() {
        let cidr = |s: &str| Cidr::read(s).unwrap();
        assert!(cidr("10.0.0.0/8").strictly_holds(cidr("10.1.0.0/16")));
        assert!(!cidr("10.0.0.0/8").strictly_holds(cidr("10.0.0.0/8")));
        assert!(!cidr("10.0.0.0/8").strictly_holds(cidr("11.0.0.0/16")));
        assert!(!cidr("::/0").strictly_holds(cidr("10.0.0.0/8")));
        assert!(cidr("::/0").strictly_holds(cidr("fd00::/8")));
    }
}
