//! What becomes of a folded text (`>`) that kyaml writes and reads again.
//!
//! kustomize writes every object as YAML once more before it prints it, each scalar in the style it was read in.
//! go-yaml doubles line ends when it writes a folded text, also before lines that are indented further, where readers
//! do not fold them: such a text comes back with more empty lines. What kustomize prints has them.

use std::borrow::Cow;

use super::reader::Reader;
use super::writer::Facts;
use super::{Dialect, ReadOptions};

/// The text after it was written folded and read again.
pub(super) fn refold(text: Cow<'_, str>) -> Cow<'_, str> {
    if !text.trim_end_matches('\n').contains('\n') && !text.ends_with("\n\n") {
        return text;
    }
    let facts = Facts::of(&text);
    // These are written quoted, which loses nothing.
    if facts.special || facts.space_break || facts.trailing_space || text.contains(['\u{2028}', '\u{2029}']) {
        return text;
    }
    let written = write(&text);
    let options = ReadOptions::from(Dialect::Kyaml);
    match Reader::new(&written, options, true).raw_block_scalar(0) {
        Ok(again) => Cow::Owned(again),
        Err(_) => text,
    }
}

/// As go-yaml's emitter writes a folded scalar at column 2.
fn write(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    out.push('>');
    if text.starts_with([' ', '\n']) {
        out.push('2');
    }
    if !text.ends_with('\n') {
        out.push('-');
    } else if text == "\n" || text.ends_with("\n\n") {
        out.push('+');
    }
    out.push('\n');
    // The emitter means to look at the character after this line end and looks at the first one of the whole text.
    let doubled = text.trim_start_matches('\n').starts_with(|c| c != ' ' && c != '\t');
    let (mut fresh, mut led_blank) = (true, true);
    for c in text.chars() {
        if c == '\n' {
            if !fresh && !led_blank && doubled {
                out.push('\n');
            }
            out.push('\n');
            fresh = true;
            continue;
        }
        if fresh {
            out.push_str("  ");
            led_blank = c == ' ' || c == '\t';
        }
        out.push(c);
        fresh = false;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each pair was seen with `kubectl kustomize`.
    #[test]
    fn folded_text_comes_back_as_kustomize_prints_it() {
        for (text, expected) in [
            ("a b", "a b"),
            ("a\nb", "a\nb"),
            ("a\n\nb\n", "a\n\nb\n"),
            ("[\n  x\n]", "[\n\n  x\n]"),
            ("a\n  b\n  c\nd", "a\n\n  b\n  c\nd"),
        ] {
            assert_eq!(refold(Cow::Borrowed(text)), expected, "{text:?}");
        }
    }
}
