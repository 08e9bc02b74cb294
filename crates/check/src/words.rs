//! Words that may have been meant, and those that stand for what is not known.

/// Whether a text holds what stands for a value that is not known, as it is or as a substitution changed it
/// (`${DOMAIN//./-}`).
pub(crate) fn is_placeholder(text: &str) -> bool {
    text.contains(druse_sops::PLACEHOLDER_PREFIX.trim_start_matches('.'))
}

/// The word most like another, when it is like enough to be meant.
pub(crate) fn nearest<'w>(word: &str, known: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let limit = match word.chars().count() {
        0..=2 => return None,
        3..=5 => 1,
        6..=11 => 2,
        _ => 3,
    };
    known.map(|k| (distance(word, k), k)).filter(|(d, _)| *d <= limit && *d > 0).min().map(|(_, k)| k)
}

/// Whether two names differ by one letter, in a word of more than two.
pub(crate) fn is_one_letter_off(a: &str, b: &str) -> bool {
    let short = || a.split('-').zip(b.split('-')).any(|(a, b)| a != b && a.len().min(b.len()) < 3);
    a.to_lowercase() != b.to_lowercase() && distance(a, b) == 1 && !short()
}

/// How many letters must be changed, added, removed or swapped with their neighbour; letter case is half a change.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    if a == b {
        return 1;
    }
    if a.len().abs_diff(b.len()) > 3 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let at = |v: &[usize], n: usize| v.get(n).copied().unwrap_or(usize::MAX - 1);
            let mut best = (at(&last, j) + usize::from(ca != cb)).min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            if i > 0 && j > 0 && a.get(i - 1) == Some(cb) && b.get(j - 1) == Some(ca) {
                best = best.min(at(&before, j - 1) + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_close_to_known_ones_are_recognised_and_others_not() {
        let known = ["replicas", "selector", "template", "strategy"];
        assert_eq!(nearest("replicsa", known.into_iter()), Some("replicas"));
        assert_eq!(nearest("Selector", known.into_iter()), Some("selector"));
        assert_eq!(nearest("ports", known.into_iter()), None);
        assert_eq!(nearest("x", ["y"].into_iter()), None);
    }
}
