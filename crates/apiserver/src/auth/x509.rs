//! The subject of a client certificate: common name (the user) and organisations (the groups).
//!
//! The certificate itself is verified by the TLS layer; this only walks its DER as far as the subject.

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

/// The user a certificate (DER) stands for; `None` when it has no common name.
#[must_use]
pub fn subject(certificate: &[u8]) -> Option<User> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut tbs, _) = element(certificate)?;
    // version [0] (optional), serial, algorithm, issuer, validity, subject
    let (tag, _, rest) = element(tbs)?;
    if tag == 0xa0 {
        tbs = rest;
    }
    for _ in 0..4 {
        tbs = element(tbs)?.2;
    }
    let mut user = named(element(tbs)?.1)?;
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
