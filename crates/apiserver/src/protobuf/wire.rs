//! Fields on the wire.

/// A number of varying length.
#[allow(clippy::cast_possible_truncation)]
pub fn varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A field of text, bytes or a message.
pub fn bytes(out: &mut Vec<u8>, number: u64, content: &[u8]) {
    varint(out, (number << 3) | 2);
    varint(out, content.len() as u64);
    out.extend_from_slice(content);
}

/// A field of a whole number or a boolean.
#[allow(clippy::cast_sign_loss)]
pub fn int(out: &mut Vec<u8>, number: u64, n: i64) {
    varint(out, number << 3);
    varint(out, n as u64);
}

/// A field of a floating point number.
pub fn double(out: &mut Vec<u8>, number: u64, n: f64) {
    varint(out, (number << 3) | 1);
    out.extend_from_slice(&n.to_le_bytes());
}
