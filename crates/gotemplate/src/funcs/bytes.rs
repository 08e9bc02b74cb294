//! Go strings are bytes; ours are Unicode. Bytes that are not UTF-8 are kept as characters of a private range, so a
//! binary file survives `b64enc`, `sha256sum` and the like.

use std::borrow::Cow;

use druse_object::Str;

/// The byte `0x80` is written as this character, `0x81` as the next, and so on.
const FIRST: u32 = 0x0010_FE80;

/// Text for bytes: UTF-8 as it is, every other byte as a private character ([`to_bytes`] undoes it).
#[must_use]
pub fn from_bytes(bytes: &[u8]) -> Str {
    match std::str::from_utf8(bytes) {
        Ok(s) => s.into(),
        Err(_) => {
            let mut out = String::with_capacity(bytes.len() + bytes.len() / 2);
            for chunk in bytes.utf8_chunks() {
                out.push_str(chunk.valid());
                for b in chunk.invalid() {
                    out.extend(char::from_u32(FIRST + u32::from(*b) - 0x80));
                }
            }
            out.into()
        }
    }
}

/// The bytes a Go program would see for this text.
#[must_use]
pub fn to_bytes(text: &str) -> Cow<'_, [u8]> {
    // Private characters are four bytes that start with these two.
    if !has_private(text) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut buf = [0u8; 4];
    for c in text.chars() {
        match byte_of(c) {
            Some(b) => out.push(b),
            None => out.extend_from_slice(c.encode_utf8(&mut buf).as_bytes()),
        }
    }
    Cow::Owned(out)
}

/// The byte a private character stands for.
pub(crate) fn byte_of(c: char) -> Option<u8> {
    let n = u32::from(c).checked_sub(FIRST)?;
    if n < 0x80 { u8::try_from(n + 0x80).ok() } else { None }
}

/// Whether the text may hold private characters.
pub(crate) fn has_private(text: &str) -> bool {
    text.as_bytes().windows(2).any(|w| w == [0xF4, 0x8F])
}

/// A slice of the text by bytes, as Go's `s[from..to]`; `None` when out of bounds.
pub(crate) fn slice(text: &str, from: usize, to: usize) -> Option<Str> {
    if let Some(s) = text.get(from..to)
        && !has_private(text)
    {
        return Some(s.into());
    }
    to_bytes(text).get(from..to).map(from_bytes)
}

/// The length in bytes, as Go's `len`.
pub(crate) fn len(text: &str) -> usize {
    if has_private(text) { to_bytes(text).len() } else { text.len() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_survives_the_way_there_and_back() {
        let all: Vec<u8> = (0..=255).chain([0xE2, 0x82, 0xAC]).collect();
        assert_eq!(to_bytes(&from_bytes(&all)).as_ref(), all.as_slice());
        assert_eq!(slice("é", 0, 1).map(|s| to_bytes(&s).into_owned()), Some(vec![0xC3]));
        assert_eq!(slice("abc", 2, 5), None);
    }
}
