//! Percent-encoding as SigV4 wants it: everything but unreserved characters, in upper-case hex.

/// Encodes a text; slashes stay when `keep_slash`.
#[must_use]
pub fn encode(text: &str, keep_slash: bool) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~') || (keep_slash && b == b'/') {
            out.push(char::from(b));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(b >> 4)]));
            out.push(char::from(HEX[usize::from(b & 15)]));
        }
    }
    out
}

/// Decodes percent-encoding; `plus` is a space when `form`. Bytes that are no UTF-8 become replacement characters.
#[must_use]
pub fn decode(text: &str, form: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let digit = |n: usize| bytes.get(n).and_then(|b| char::from(*b).to_digit(16));
        match (bytes[i], digit(i + 1), digit(i + 2)) {
            (b'%', Some(a), Some(b)) => {
                out.push(u8::try_from(a * 16 + b).unwrap_or_default());
                i += 3;
                continue;
            }
            (b'+', ..) if form => out.push(b' '),
            (b, ..) => out.push(b),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The pairs of a query or form, decoded, in their order.
#[must_use]
pub fn pairs(query: &str) -> Vec<(String, String)> {
    query
        .split('&')
        .filter(|p| !p.is_empty())
        .map(|p| {
            let (k, v) = p.split_once('=').unwrap_or((p, ""));
            (decode(k, true), decode(v, true))
        })
        .collect()
}

/// A form or query of pairs.
#[must_use]
pub fn form<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let parts: Vec<String> =
        pairs.into_iter().map(|(k, v)| format!("{}={}", encode(k, false), encode(v, false))).collect();
    parts.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_alike(text in ".{0,40}", form in any::<bool>()) {
            prop_assert_eq!(decode(&encode(&text, false), form), text);
        }
        #[test]
        fn decoding_takes_anything(text in "\\PC{0,40}") {
            let _ = (decode(&text, true), pairs(&text));
        }
    }

    #[test]
    fn forms_are_read_back() {
        let f = form([("Action", "GetCallerIdentity"), ("a b", "x&y=z/ü")]);
        assert_eq!(f, "Action=GetCallerIdentity&a%20b=x%26y%3Dz%2F%C3%BC");
        assert_eq!(pairs(&f), [("Action".into(), "GetCallerIdentity".into()), ("a b".to_string(), "x&y=z/ü".into())]);
        assert_eq!(pairs("a+b=%zz&c"), [("a b".into(), "%zz".into()), ("c".to_string(), String::new())]);
    }
}
