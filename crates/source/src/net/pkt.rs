//! Git's pkt-lines, read from an answer that is in memory whole.

/// One line, or what stands between lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pkt<'a> {
    /// `0000`
    Flush,
    /// `0001`
    Delimiter,
    /// Content, as it is.
    Data(&'a [u8]),
}

impl Pkt<'_> {
    /// The content as text without its line end, when it is that.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Data(data) => std::str::from_utf8(data).ok().map(|t| t.trim_end_matches('\n')),
            _ => None,
        }
    }
}

/// Reads lines one after the other; an error, once, where the bytes are none or end early.
pub(crate) struct Lines<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<Pkt<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let mut read = || {
            let (head, rest) = self.0.split_at_checked(4)?;
            let length = usize::from_str_radix(std::str::from_utf8(head).ok()?, 16).ok()?;
            let (pkt, rest) = match length {
                0 => (Pkt::Flush, rest),
                1 => (Pkt::Delimiter, rest),
                // The end of a response, which only other transports send.
                2 => (Pkt::Flush, rest),
                n => {
                    let (data, rest) = rest.split_at_checked(n.checked_sub(4)?)?;
                    (Pkt::Data(data), rest)
                }
            };
            self.0 = rest;
            Some(pkt)
        };
        match read() {
            Some(pkt) => Some(Ok(pkt)),
            None => {
                self.0 = &[];
                Some(Err("the answer is not what a Git server sends, or broke off".to_string()))
            }
        }
    }
}

/// Appends a line.
pub(crate) fn line(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_written() {
        let mut out = Vec::new();
        line(&mut out, "command=fetch");
        out.extend_from_slice(b"00010000");
        assert_eq!(&out[..4], b"0012");
        let got: Vec<Pkt<'_>> = Lines(&out).collect::<Result<_, _>>().unwrap();
        assert_eq!(got, [Pkt::Data(b"command=fetch\n"), Pkt::Delimiter, Pkt::Flush]);
        for bad in [&b"zzzz"[..], b"00", b"0010x", b"0003"] {
            assert!(Lines(bad).next().unwrap().is_err());
        }
    }
}
