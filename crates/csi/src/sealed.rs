//! JSON that holds secrets, as text that is zeroed when dropped.

use std::io;

use serde_json::Error;
use zeroize::Zeroizing;

/// Something as JSON, in a buffer that never grows: growing would leave copies behind.
pub(crate) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<Zeroizing<Vec<u8>>, Error> {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut size = Counter(0);
    serde_json::to_writer(&mut size, value)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(size.0));
    serde_json::to_writer(&mut *bytes, value)?;
    Ok(bytes)
}

/// The same as text.
pub(crate) fn to_json_text<T: serde::Serialize + ?Sized>(value: &T) -> Option<Zeroizing<String>> {
    let mut bytes = to_json(value).ok()?;
    String::from_utf8(std::mem::take(&mut *bytes)).ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_is_exactly_as_large_as_its_text() {
        let text = to_json(&["\u{e9}\n\"", "x"]).unwrap();
        assert_eq!((text.as_slice(), text.capacity()), ("[\"\u{e9}\\n\\\"\",\"x\"]".as_bytes(), text.len()));
    }
}
