//! Bech32 (BIP 173) as age uses it: 32 bytes under a human-readable part, in one letter case.

const ALPHABET: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const CHECKSUM: usize = 6;

fn polymod(values: impl Iterator<Item = u8>) -> u32 {
    const GENERATORS: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    values.fold(1, |sum, v| {
        let top = sum >> 25;
        let sum = ((sum & 0x1ff_ffff) << 5) ^ u32::from(v);
        GENERATORS.iter().enumerate().filter(|(i, _)| (top >> i) & 1 == 1).fold(sum, |s, (_, g)| s ^ g)
    })
}

fn expand(hrp: &str) -> impl Iterator<Item = u8> + '_ {
    hrp.bytes().map(|b| b >> 5).chain([0]).chain(hrp.bytes().map(|b| b & 31))
}

/// Regroups bits: `from` to `to` bits a value. `None` when what is left over is not padding.
fn regroup(input: impl Iterator<Item = u8>, from: u32, to: u32, pad: bool) -> Option<Vec<u8>> {
    let (mut acc, mut bits) = (0u32, 0u32);
    let mut out = Vec::new();
    let mask = (1u32 << to) - 1;
    for value in input {
        acc = ((acc << from) | u32::from(value)) & 0xfff;
        bits += from;
        while bits >= to {
            bits -= to;
            out.push(u8::try_from((acc >> bits) & mask).ok()?);
        }
    }
    if pad {
        if bits > 0 {
            out.push(u8::try_from((acc << (to - bits)) & mask).ok()?);
        }
    } else if bits >= from || (acc << (to - bits)) & mask != 0 {
        return None;
    }
    Some(out)
}

/// Encodes 32 bytes under `hrp`, in lower case.
pub(crate) fn encode(hrp: &str, data: &[u8; 32]) -> String {
    let values = regroup(data.iter().copied(), 8, 5, true).unwrap_or_default();
    let sum = polymod(expand(hrp).chain(values.iter().copied()).chain([0; CHECKSUM])) ^ 1;
    let check = (0..CHECKSUM).map(|i| u8::try_from((sum >> (5 * (5 - i))) & 31).unwrap_or(0));
    let mut out = format!("{hrp}1");
    out.extend(values.iter().copied().chain(check).map(|v| char::from(ALPHABET[usize::from(v)])));
    out
}

/// Decodes a text under `hrp` (lower case); both letter cases are read, but not mixed. `None` when it is not one, its
/// checksum is wrong, or it does not hold 32 bytes.
pub(crate) fn decode(hrp: &str, text: &str) -> Option<[u8; 32]> {
    let lower = text.to_ascii_lowercase();
    if text != lower && text != text.to_ascii_uppercase() {
        return None;
    }
    let rest = lower.strip_prefix(hrp)?.strip_prefix('1')?;
    let values: Vec<u8> = rest
        .bytes()
        .map(|b| ALPHABET.iter().position(|a| *a == b).and_then(|i| u8::try_from(i).ok()))
        .collect::<Option<_>>()?;
    let data = values.len().checked_sub(CHECKSUM)?;
    if polymod(expand(hrp).chain(values.iter().copied())) != 1 {
        return None;
    }
    regroup(values.get(..data)?.iter().copied(), 5, 8, false)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded_again_and_damage_is_seen() {
        let data: [u8; 32] = std::array::from_fn(|i| u8::try_from(i * 7).unwrap_or(255));
        let text = encode("age", &data);
        assert!(text.starts_with("age1"));
        assert_eq!(decode("age", &text), Some(data));
        assert_eq!(decode("age", &text.to_ascii_uppercase()), Some(data));
        assert_eq!(decode("age-secret-key-", &text), None);
        let mut damaged = text.into_bytes();
        let last = damaged.len() - 1;
        damaged[last] = if damaged[last] == b'q' { b'p' } else { b'q' };
        assert_eq!(decode("age", std::str::from_utf8(&damaged).unwrap()), None);
        assert_eq!(decode("age", "age1"), None);
        assert_eq!(decode("age", ""), None);
    }
}
