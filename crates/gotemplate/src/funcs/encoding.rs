//! Base64 and Base32, with Go's errors as the result where sprig gives them as text.

use crate::env::Env;
use crate::val::Val;

use super::args::{Args, Res};
use super::{Entry, bytes};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("b64enc", |_, a| Ok(Val::str(base64(&bytes::to_bytes(Args::exact("b64enc", a, 1)?.str(0)?))))),
    ("b64dec", b64dec),
    ("b32enc", b32enc),
    ("b32dec", b32dec),
];

/// Standard Base64 with padding.
pub(crate) fn base64(data: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(data)
}

/// An alphabet of 64 or 32 characters and how many make a group.
struct Code {
    bits: u32,
    group: usize,
    name: &'static str,
    value: fn(u8) -> Option<u8>,
}

const BASE64: Code = Code {
    bits: 6,
    group: 4,
    name: "base64",
    value: |b| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    },
};

const BASE32: Code = Code {
    bits: 5,
    group: 8,
    name: "base32",
    value: |b| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'2'..=b'7' => Some(b - b'2' + 26),
        _ => None,
    },
};

/// Go's strict decoding with padding; line breaks are skipped. The error is Go's text.
fn decode(code: &Code, text: &[u8]) -> Result<Vec<u8>, String> {
    let bad = |at: usize| Err(format!("illegal {} data at input byte {at}", code.name));
    let symbols: Vec<(usize, u8)> =
        text.iter().copied().enumerate().filter(|(_, b)| *b != b'\n' && *b != b'\r').collect();
    let mut out = Vec::with_capacity(symbols.len());
    let mut groups = symbols.chunks(code.group).peekable();
    while let Some(group) = groups.next() {
        let (mut acc, mut count) = (0u64, 0usize);
        for (at, b) in group {
            match (code.value)(*b) {
                Some(v) => {
                    acc = (acc << code.bits) | u64::from(v);
                    count += 1;
                }
                None if *b == b'=' => break,
                None => return bad(*at),
            }
        }
        let full = group.len() == code.group;
        let used = (count as u32 * code.bits / 8) as usize;
        if count < code.group {
            let padding_at = group.get(count).map_or(text.len(), |(at, _)| *at);
            let padding_ok = full && group.iter().skip(count).all(|(_, b)| *b == b'=');
            let count_ok = count > 0 && (count as u32 * code.bits) % 8 < code.bits;
            if !padding_ok || !count_ok {
                let at = if count_ok && !full { text.len() } else { padding_at };
                return bad(if !full && group.len() == count { text.len() - count } else { at });
            }
            if let Some((at, _)) = groups.peek().and_then(|g| g.first()) {
                return bad(*at);
            }
        }
        let total = code.group as u32 * code.bits;
        acc <<= total - count as u32 * code.bits;
        let word = acc.to_be_bytes();
        let start = 8 - (total / 8) as usize;
        out.extend_from_slice(word.get(start..start + used).unwrap_or(&[]));
    }
    Ok(out)
}

/// Standard Base64, strictly.
pub(crate) fn base64_decode(text: &str) -> Result<Vec<u8>, String> {
    decode(&BASE64, &bytes::to_bytes(text))
}

fn b64dec(_: &mut Env<'_>, a: &[Val]) -> Res {
    let s = Args::exact("b64dec", a, 1)?.str(0)?;
    Ok(match base64_decode(s) {
        Ok(data) => Val::Str(bytes::from_bytes(&data)),
        Err(e) => Val::str(e),
    })
}

fn b32enc(_: &mut Env<'_>, a: &[Val]) -> Res {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let data = bytes::to_bytes(Args::exact("b32enc", a, 1)?.str(0)?);
    let mut out = String::with_capacity(data.len().div_ceil(5) * 8);
    for group in data.chunks(5) {
        let word = group.iter().fold(0u64, |w, b| (w << 8) | u64::from(*b)) << (8 * (5 - group.len()));
        let used = (group.len() * 8).div_ceil(5);
        for i in 0..8 {
            let index = (word >> (35 - 5 * i)) & 31;
            let symbol = ALPHABET.get(usize::try_from(index).unwrap_or(0)).copied().unwrap_or(b'=');
            out.push(if i < used { char::from(symbol) } else { '=' });
        }
    }
    Ok(Val::str(out))
}

fn b32dec(_: &mut Env<'_>, a: &[Val]) -> Res {
    let s = Args::exact("b32dec", a, 1)?.str(0)?;
    Ok(match decode(&BASE32, &bytes::to_bytes(s)) {
        Ok(data) => Val::Str(bytes::from_bytes(&data)),
        Err(e) => Val::str(e),
    })
}
