//! What is read of certificates: the subject of a client's (common name, the user, and organisations, the groups), and
//! from when until when one is valid.
//!
//! Certificates are verified elsewhere; this only walks their DER as far as the subject.

use std::ops::RangeInclusive;

use super::User;

/// Splits one DER element: its tag, its content, and what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = if *first < 0x80 {
        (usize::from(*first), rest)
    } else {
        let n = usize::from(first & 0x7f);
        if n == 0 || n > 4 {
            return None;
        }
        let (bytes, rest) = rest.split_at_checked(n)?;
        (bytes.iter().fold(0usize, |a, b| (a << 8) | usize::from(*b)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

const VALIDITY: usize = 3;
const SUBJECT: usize = 4;

/// A field of a certificate (DER): serial, algorithm, issuer, validity, subject.
fn field(certificate: &[u8], n: usize) -> Option<&[u8]> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut tbs, _) = element(certificate)?;
    // A version may stand before them.
    let (tag, _, rest) = element(tbs)?;
    if tag == 0xa0 {
        tbs = rest;
    }
    for _ in 0..n {
        tbs = element(tbs)?.2;
    }
    Some(element(tbs)?.1)
}

/// From when until when a certificate (DER) is valid, in seconds since 1970.
#[must_use]
pub fn validity(certificate: &[u8]) -> Option<RangeInclusive<i64>> {
    let (first, from, rest) = element(field(certificate, VALIDITY)?)?;
    let (last, to, _) = element(rest)?;
    Some(seconds(first, from)?..=seconds(last, to)?)
}

/// A time of a certificate: `YYMMDDhhmmssZ` (from 1950 to 2049) or `YYYYMMDDhhmmssZ`.
fn seconds(tag: u8, text: &[u8]) -> Option<i64> {
    const TWO_DIGITS: u8 = 0x17;
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        TWO_DIGITS if text >= "5" => format!("19{text}"),
        TWO_DIGITS => format!("20{text}"),
        _ => text.to_owned(),
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

/// The user a certificate (DER) stands for; `None` when it has no common name.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<User> {
    let mut user = named(field(certificate, SUBJECT)?)?;
    user.groups.push("system:authenticated".into());
    Some(user)
}

/// The user that a certificate request (PKCS #10, DER) asks to be; `None` when it has no common name.
#[must_use]
pub fn request_subject(request: &[u8]) -> Option<User> {
    let (_, request, _) = element(request)?;
    let (_, info, _) = element(request)?;
    // version, subject
    let (_, _, rest) = element(info)?;
    named(element(rest)?.1)
}

/// Why this (DER) is no certificate, as Go says it; nothing where its parts are in their places.
#[must_use]
pub fn malformed_certificate(der: &[u8]) -> Option<&'static str> {
    const SEQUENCE: u8 = 0x30;
    let Some((SEQUENCE, whole, [])) = element(der) else { return Some("x509: malformed certificate") };
    let Some((SEQUENCE, tbs, _)) = element(whole) else { return Some("x509: malformed tbs certificate") };
    let rest = match element(tbs) {
        Some((0xa0, _, rest)) => rest,
        Some(_) => tbs,
        None => return Some("x509: malformed version"),
    };
    let Some((0x02, _, _)) = element(rest) else { return Some("x509: malformed serial number") };
    validity(der).is_none().then_some("x509: malformed validity")
}

/// Whether this (DER) has the form of a certificate request (PKCS #10): what is asked, an algorithm, a signature.
#[must_use]
pub fn is_request(der: &[u8]) -> bool {
    let Some((0x30, whole, [])) = element(der) else { return false };
    let Some((0x30, info, rest)) = element(whole) else { return false };
    let Some((0x30, _, rest)) = element(rest) else { return false };
    matches!(element(rest), Some((0x03, _, []))) && matches!(element(info), Some((0x02, _, _)))
}

/// Common name and organisations of a distinguished name.
fn named(mut name: &[u8]) -> Option<User> {
    let mut common = None;
    let mut groups = Vec::new();
    while let Some((_, mut set, rest)) = element(name) {
        name = rest;
        while let Some((_, attribute, more)) = element(set) {
            set = more;
            let (_, oid, value) = element(attribute)?;
            let (_, text, _) = element(value)?;
            let text = std::str::from_utf8(text).ok()?;
            match oid {
                COMMON_NAME => common = Some(text),
                ORGANIZATION => groups.push(text),
                _ => {}
            }
        }
    }
    Some(User::new(common?, &groups))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_both_forms() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut p = rcgen::CertificateParams::default();
        p.not_before = rcgen::date_time_ymd(1999, 12, 31);
        p.not_after = rcgen::date_time_ymd(2060, 1, 1);
        let made = p.self_signed(&key).unwrap();
        assert_eq!(validity(made.der()), Some(946_598_400..=2_840_140_800));
        assert_eq!(validity(b"0"), None);
    }
}
