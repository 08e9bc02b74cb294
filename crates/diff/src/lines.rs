//! Texts compared line by line, as `diff -u` shows them.

use std::collections::HashMap;

use serde::Serialize;

use crate::align;

/// Lines of context around a change.
const CONTEXT: usize = 3;

/// A stretch of lines with changes in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hunk {
    /// Its first line in base, from 1.
    pub from_line: usize,
    /// Its first line in head, from 1.
    pub to_line: usize,
    /// The lines, each behind ` `, `-` or `+`.
    pub lines: Vec<String>,
}

/// The changed stretches of a text, with some lines around them. Empty when only the line end of the last line differs.
#[must_use]
pub fn hunks(from: &str, to: &str) -> Vec<Hunk> {
    let (a, b): (Vec<&str>, Vec<&str>) = (from.lines().collect(), to.lines().collect());
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut intern = |line| {
        let next = numbers.len();
        *numbers.entry(line).or_insert(next)
    };
    let a_numbers: Vec<usize> = a.iter().map(|l| intern(*l)).collect();
    let b_numbers: Vec<usize> = b.iter().map(|l| intern(*l)).collect();
    let mut pairs = align::common(&a_numbers, &b_numbers);
    pairs.push((a.len(), b.len()));
    // (sign, line of a, line of b) of every line.
    let mut all: Vec<(char, usize, usize)> = Vec::new();
    let (mut x, mut y) = (0, 0);
    for (next_x, next_y) in pairs {
        all.extend((x..next_x).map(|i| ('-', i, y)));
        all.extend((y..next_y).map(|j| ('+', next_x, j)));
        if next_x < a.len() {
            all.push((' ', next_x, next_y));
        }
        (x, y) = (next_x + 1, next_y + 1);
    }
    let changed: Vec<usize> = all.iter().enumerate().filter(|(_, l)| l.0 != ' ').map(|(i, _)| i).collect();
    let mut out = Vec::new();
    let mut rest = changed.as_slice();
    while let Some((first, _)) = rest.split_first() {
        let mut last = *first;
        let mut used = 0;
        for i in rest {
            if *i > last + 2 * CONTEXT + 1 {
                break;
            }
            (last, used) = (*i, used + 1);
        }
        rest = rest.get(used..).unwrap_or_default();
        let range = first.saturating_sub(CONTEXT)..(last + CONTEXT + 1).min(all.len());
        let shown = all.get(range).unwrap_or_default();
        let Some((_, from_line, to_line)) = shown.first() else { break };
        let text = |l: &(char, usize, usize)| {
            let line = if l.0 == '+' { b.get(l.2) } else { a.get(l.1) };
            format!("{}{}", l.0, line.copied().unwrap_or_default())
        };
        out.push(Hunk { from_line: from_line + 1, to_line: to_line + 1, lines: shown.iter().map(text).collect() });
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_stand_between_lines_that_stay() {
        let from = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\n";
        let to = "a\nb\nC\nd\ne\nf\ng\nh\ni\nj\nk\nl\nm\nn\n";
        let hunks = hunks(from, to);
        assert_eq!(hunks.len(), 2);
        assert_eq!(hunks[0].lines, [" a", " b", "-c", "+C", " d", " e", " f"]);
        assert_eq!((hunks[0].from_line, hunks[0].to_line), (1, 1));
        assert_eq!(hunks[1].lines, [" k", " l", " m", "+n"]);
        assert_eq!((hunks[1].from_line, hunks[1].to_line), (11, 11));
    }

    #[test]
    fn near_changes_share_a_hunk() {
        let hunks = hunks("1\n2\n3\n4\n5\n", "1\nx\n3\ny\n5\n");
        assert_eq!(hunks.len(), 1);
        assert_eq!(hunks[0].lines, [" 1", "-2", "+x", " 3", "-4", "+y", " 5"]);
    }
}
