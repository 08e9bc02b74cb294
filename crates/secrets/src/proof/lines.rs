//! The line of the words that a finding is about, in the document that it names.
//!
//! Objects are known by the first line of their document, and a chart's by that of their release. The words that are wrong
//! (a parameter's name, a role's ARN) mostly stand in that document as they are.

use druse_terraform::Place;

use super::Proof;

impl Proof {
    /// Lets findings name the lines of their words. `read` gives the text of a file of the tree.
    pub fn find_lines(&mut self, read: impl Fn(&str) -> Option<String>) {
        for f in &mut self.findings {
            for (place, words) in [(&mut f.from, &f.words.0), (&mut f.to, &f.words.1)] {
                if let Some(place) = place.as_mut().filter(|_| !words.is_empty())
                    && let Some(line) = read(&place.file).and_then(|text| line(&text, place, words))
                {
                    place.line = line;
                }
            }
        }
    }
}

/// The first line with these words, whole, in the document that begins at a place.
fn line(text: &str, from: &Place, words: &str) -> Option<u32> {
    let begin = usize::try_from(from.line).ok()?.checked_sub(1)?;
    let lines = text.lines().enumerate().skip(begin);
    let document = lines.take_while(|(n, l)| *n == begin || !(*l == "---" || l.starts_with("--- ")));
    let has = |l: &str| {
        l.match_indices(words).any(|(at, _)| {
            let inside = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
            let (before, after) = (&l[..at], &l[at + words.len()..]);
            !before.ends_with(inside) && !after.starts_with(inside)
        })
    };
    let (found, _) = document.into_iter().find(|(_, l)| has(l.split(" #").next().unwrap_or(l)))?;
    u32::try_from(found + 1).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_whole_and_in_their_document() {
        let text = "a: /home/app\n---\nb: /home/app/db\nc: '/home/app'  # /home/none\n---\nd: /home/none\n";
        let at = |from, words| line(text, &Place { file: "f".into(), line: from }, words);
        assert_eq!(at(1, "/home/app"), Some(1));
        assert_eq!(at(3, "/home/app"), Some(4), "not the beginning of another");
        assert_eq!(at(2, "/home/app/db"), Some(3), "a document that begins at its dashes");
        assert_eq!(at(3, "/home/none"), None, "neither in a comment nor in another document");
        assert_eq!(at(0, "d"), None);
        assert_eq!(at(99, "d"), None);
    }
}
