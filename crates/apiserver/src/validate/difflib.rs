//! The difference of two texts as Python's `difflib` (and its port to Go) finds it: longest common runs first, lines
//! that occur very often in a long text not counted. Other algorithms find other, as good differences; messages are
//! compared to the byte.

use std::collections::HashMap;
use std::fmt::Write as _;

/// From this many lines on, very frequent ones do not start a run.
const LONG: usize = 200;

/// A common run: where in both texts, how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    a: usize,
    b: usize,
    size: usize,
}

struct Matcher<'t> {
    a: Vec<&'t str>,
    b: Vec<&'t str>,
    places: HashMap<&'t str, Vec<usize>>,
}

impl<'t> Matcher<'t> {
    fn new(a: &'t str, b: &'t str) -> Self {
        let (a, b): (Vec<&str>, Vec<&str>) = (a.split('\n').collect(), b.split('\n').collect());
        let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
        for (i, line) in b.iter().enumerate() {
            places.entry(line).or_default().push(i);
        }
        if b.len() >= LONG {
            let often = b.len() / 100 + 1;
            places.retain(|_, p| p.len() <= often);
        }
        Self { a, b, places }
    }

    /// The longest common run within two ranges, the first of those in `a`, then in `b`.
    fn longest(&self, (from_a, to_a): (usize, usize), (from_b, to_b): (usize, usize)) -> Run {
        let mut best = Run { a: from_a, b: from_b, size: 0 };
        let mut lengths: HashMap<usize, usize> = HashMap::new();
        for i in from_a..to_a {
            let mut next = HashMap::new();
            for &j in self.places.get(self.a[i]).into_iter().flatten() {
                if j < from_b {
                    continue;
                }
                if j >= to_b {
                    break;
                }
                let before = if j == 0 { None } else { lengths.get(&(j - 1)) };
                let k = before.copied().unwrap_or(0) + 1;
                next.insert(j, k);
                if k > best.size {
                    best = Run { a: i + 1 - k, b: j + 1 - k, size: k };
                }
            }
            lengths = next;
        }
        // Frequent lines do not start a run, but they lengthen one.
        while best.a > from_a && best.b > from_b && self.a[best.a - 1] == self.b[best.b - 1] {
            best = Run { a: best.a - 1, b: best.b - 1, size: best.size + 1 };
        }
        while best.a + best.size < to_a
            && best.b + best.size < to_b
            && self.a[best.a + best.size] == self.b[best.b + best.size]
        {
            best.size += 1;
        }
        best
    }

    fn runs(&self, a: (usize, usize), b: (usize, usize), out: &mut Vec<Run>) {
        let run = self.longest(a, b);
        if run.size == 0 {
            return;
        }
        if a.0 < run.a && b.0 < run.b {
            self.runs((a.0, run.a), (b.0, run.b), out);
        }
        match out.last_mut() {
            Some(last) if last.a + last.size == run.a && last.b + last.size == run.b => last.size += run.size,
            _ => out.push(run),
        }
        if run.a + run.size < a.1 && run.b + run.size < b.1 {
            self.runs((run.a + run.size, a.1), (run.b + run.size, b.1), out);
        }
    }
}

/// A piece of the difference: equal lines, or lines of `a` that became lines of `b`.
#[derive(Clone, Copy, Debug)]
struct Piece {
    equal: bool,
    a: (usize, usize),
    b: (usize, usize),
}

fn pieces(runs: &[Run], lengths: (usize, usize)) -> Vec<Piece> {
    let mut out = Vec::new();
    let (mut i, mut j) = (0, 0);
    let end = Run { a: lengths.0, b: lengths.1, size: 0 };
    for r in runs.iter().chain(std::iter::once(&end)) {
        if i < r.a || j < r.b {
            out.push(Piece { equal: false, a: (i, r.a), b: (j, r.b) });
        }
        (i, j) = (r.a + r.size, r.b + r.size);
        if r.size > 0 {
            out.push(Piece { equal: true, a: (r.a, i), b: (r.b, j) });
        }
    }
    out
}

/// Pieces in groups, with at most `context` equal lines around what differs.
fn groups(mut all: Vec<Piece>, context: usize) -> Vec<Vec<Piece>> {
    if let Some(first) = all.first_mut().filter(|p| p.equal) {
        first.a.0 = first.a.0.max(first.a.1.saturating_sub(context));
        first.b.0 = first.b.0.max(first.b.1.saturating_sub(context));
    }
    if let Some(last) = all.last_mut().filter(|p| p.equal) {
        last.a.1 = last.a.1.min(last.a.0 + context);
        last.b.1 = last.b.1.min(last.b.0 + context);
    }
    let (mut out, mut group) = (Vec::new(), Vec::new());
    for p in all {
        if p.equal && p.a.1 - p.a.0 > 2 * context {
            group.push(Piece { equal: true, a: (p.a.0, p.a.0 + context), b: (p.b.0, p.b.0 + context) });
            out.push(std::mem::take(&mut group));
            group.push(Piece { equal: true, a: (p.a.1 - context, p.a.1), b: (p.b.1 - context, p.b.1) });
        } else {
            group.push(p);
        }
    }
    if group.iter().any(|p| !p.equal) {
        out.push(group);
    }
    out.retain(|g| g.iter().any(|p| !p.equal));
    out
}

fn range(from: usize, to: usize) -> String {
    match to - from {
        1 => format!("{}", from + 1),
        0 => format!("{from},0"),
        n => format!("{},{n}", from + 1),
    }
}

/// The unified difference of two texts, without file names; empty when they are equal.
#[must_use]
pub fn unified(a: &str, b: &str, context: usize) -> String {
    let m = Matcher::new(a, b);
    let mut runs = Vec::new();
    m.runs((0, m.a.len()), (0, m.b.len()), &mut runs);
    let mut out = String::new();
    for group in groups(pieces(&runs, (m.a.len(), m.b.len())), context) {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { continue };
        let _ = writeln!(out, "@@ -{} +{} @@", range(first.a.0, last.a.1), range(first.b.0, last.b.1));
        for p in group {
            let (old, new) = (&m.a[p.a.0..p.a.1], &m.b[p.b.0..p.b.1]);
            if p.equal {
                old.iter().for_each(|l| _ = writeln!(out, " {l}"));
            } else {
                old.iter().for_each(|l| _ = writeln!(out, "-{l}"));
                new.iter().for_each(|l| _ = writeln!(out, "+{l}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn what_differs_is_shown_between_three_lines_that_do_not() {
        let a = "1\n2\n3\n4\n5\n6\n7\n8\n9";
        assert_eq!(unified(a, a, 3), "");
        assert_eq!(unified(a, &a.replace('5', "five"), 3), "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n");
        assert_eq!(unified("a\nb", "a", 3), "@@ -1,2 +1 @@\n a\n-b\n");
        assert_eq!(unified("a", "b", 3), "@@ -1 +1 @@\n-a\n+b\n");
    }

    #[test]
    fn far_changes_are_shown_apart() {
        let lines: Vec<String> = (0..40).map(|i| format!("line {i}")).collect();
        let a = lines.join("\n");
        let said = unified(&a, &a.replace("line 3\n", "").replace("line 30", "line x"), 3);
        assert_eq!(said.matches("@@ -").count(), 2, "{said}");
        assert!(said.contains("@@ -28,7 +27,7 @@"), "{said}");
    }
}
