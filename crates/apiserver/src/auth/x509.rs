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
