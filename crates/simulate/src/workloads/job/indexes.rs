//! Completion indexes: sets of them in the notation of statuses (`1,3-5`), and where pods carry theirs.

use std::collections::BTreeSet;

use druse_object::Value;

/// The label and annotation of a pod's index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The index a pod carries; `None` when it carries none.
pub fn of_pod(pod: &Value) -> Option<u32> {
    pod["metadata"]["annotations"][INDEX].as_str()?.parse().ok()
}

/// Reads a set of indexes below `completions`. Parts that are not numbers are passed over.
pub fn parse(text: &str, completions: u32) -> BTreeSet<u32> {
    let mut out = BTreeSet::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) else { continue };
        if first >= completions {
            break;
        }
        out.extend(first..=last.min(completions.saturating_sub(1)));
    }
    out
}

/// Writes a set of indexes: three and more in a row as a range.
pub fn text(indexes: &BTreeSet<u32>) -> String {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for i in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *i => *last = *i,
            _ => runs.push((*i, *i)),
        }
    }
    let parts = runs.into_iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    parts.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_written_as_ranges_and_read_back() {
        for (written, list, again) in [
            ("", vec![], ""),
            ("1,3-5", vec![1, 3, 4, 5], "1,3-5"),
            ("0-1,2", vec![0, 1, 2], "0-2"),
            ("4-9", vec![4, 5], "4,5"),
            ("0,9", vec![0], "0"),
            ("x,2", vec![2], "2"),
        ] {
            let set = parse(written, 6);
            assert_eq!(set.iter().copied().collect::<Vec<_>>(), list, "{written}");
            assert_eq!(text(&set), again, "{written}");
        }
    }
}
