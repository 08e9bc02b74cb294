//! What two sequences have in common: the one algorithm behind line diffs and lists without keys.
//!
//! Myers' O(ND) algorithm ("An O(ND) Difference Algorithm and Its Variations", 1986) on what is left between the common
//! beginning and the common end. Its work is bounded: sequences too different to be worth it share only their ends.

/// With more differences than this, nothing between the common ends counts as common.
const MAX_DIFFERENCES: usize = 1500;

/// Index pairs `(a, b)`, rising in both, of elements that stay when `a` becomes `b`.
pub(crate) fn common<T: PartialEq>(a: &[T], b: &[T]) -> Vec<(usize, usize)> {
    let start = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let (a_rest, b_rest) = (a.get(start..).unwrap_or_default(), b.get(start..).unwrap_or_default());
    let end = a_rest.iter().rev().zip(b_rest.iter().rev()).take_while(|(x, y)| x == y).count();
    let a_mid = a_rest.get(..a_rest.len() - end).unwrap_or_default();
    let b_mid = b_rest.get(..b_rest.len() - end).unwrap_or_default();
    let mut out: Vec<(usize, usize)> = (0..start).map(|i| (i, i)).collect();
    out.extend(middle(a_mid, b_mid).into_iter().map(|(x, y)| (x + start, y + start)));
    out.extend((0..end).rev().map(|i| (a.len() - 1 - i, b.len() - 1 - i)));
    out
}

/// The furthest points reached on each diagonal after `d` differences, for diagonals `-d..=d`.
struct Front(Vec<usize>);

impl Front {
    fn at(&self, k: isize) -> usize {
        let half = (self.0.len() / 2).cast_signed();
        usize::try_from(k + half).ok().and_then(|i| self.0.get(i)).copied().unwrap_or(0)
    }
}

fn step_down(front: &Front, d: isize, k: isize) -> bool {
    k == -d || (k != d && front.at(k - 1) < front.at(k + 1))
}

fn middle<T: PartialEq>(a: &[T], b: &[T]) -> Vec<(usize, usize)> {
    if a.is_empty() || b.is_empty() {
        return Vec::new();
    }
    let mut fronts: Vec<Front> = vec![Front(vec![0])];
    let max = (a.len() + b.len()).min(MAX_DIFFERENCES);
    for d in 0..=max {
        let previous = match fronts.last() {
            Some(front) => front,
            None => return Vec::new(),
        };
        let d_signed = d.cast_signed();
        let mut front = vec![0; 2 * d + 1];
        for k in (-d_signed..=d_signed).step_by(2) {
            let mut x = match d {
                0 => 0,
                _ if step_down(previous, d_signed, k) => previous.at(k + 1),
                _ => previous.at(k - 1) + 1,
            };
            let Ok(mut y) = usize::try_from(x.cast_signed() - k) else { continue };
            while let (Some(p), Some(q)) = (a.get(x), b.get(y))
                && p == q
            {
                x += 1;
                y += 1;
            }
            if let Some(place) = usize::try_from(k + d_signed).ok().and_then(|i| front.get_mut(i)) {
                *place = x;
            }
            if x >= a.len() && y >= b.len() {
                return walk_back(&fronts, d, (a.len(), b.len()));
            }
        }
        if d == 0 {
            fronts.clear();
        }
        fronts.push(Front(front));
    }
    Vec::new()
}

/// From the end back to the start: the diagonal steps are what is common.
fn walk_back(fronts: &[Front], d: usize, end: (usize, usize)) -> Vec<(usize, usize)> {
    let mut out = Vec::new();
    let (mut x, mut y) = end;
    for d in (1..=d).rev() {
        let Some(front) = fronts.get(d - 1) else { break };
        let k = x.cast_signed() - y.cast_signed();
        let down = step_down(front, d.cast_signed(), k);
        let from_k = if down { k + 1 } else { k - 1 };
        let from_x = front.at(from_k);
        let Ok(from_y) = usize::try_from(from_x.cast_signed() - from_k) else { break };
        let after = if down { from_x } else { from_x + 1 };
        while x > after {
            x -= 1;
            y -= 1;
            out.push((x, y));
        }
        (x, y) = (from_x, from_y);
    }
    while x > 0 && y > 0 {
        x -= 1;
        y -= 1;
        out.push((x, y));
    }
    out.reverse();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn longest(a: &[u8], b: &[u8]) -> usize {
        let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
        for i in 0..a.len() {
            for j in 0..b.len() {
                table[i + 1][j + 1] = if a[i] == b[j] { table[i][j] + 1 } else { table[i][j + 1].max(table[i + 1][j]) };
            }
        }
        table[a.len()][b.len()]
    }

    #[test]
    fn finds_what_stays() {
        assert_eq!(common(b"abcabba", b"cbabac").len(), 4);
        assert_eq!(common(b"", b"x"), []);
        assert_eq!(common(b"same", b"same").len(), 4);
        assert_eq!(common(b"ac", b"abc"), [(0, 0), (1, 2)]);
    }

    #[test]
    fn sequences_without_anything_in_common_end_soon() {
        let a: Vec<usize> = (0..20_000).collect();
        let b: Vec<usize> = (20_000..40_000).collect();
        assert_eq!(common(&a, &b), []);
    }

    proptest! {
        #[test]
        fn the_result_is_common_rising_and_as_long_as_can_be(a in "[abc]{0,14}", b in "[abc]{0,14}") {
            let (a, b) = (a.as_bytes(), b.as_bytes());
            let pairs = common(a, b);
            prop_assert!(pairs.iter().all(|(x, y)| a[*x] == b[*y]));
            prop_assert!(pairs.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1));
            prop_assert_eq!(pairs.len(), longest(a, b));
        }
    }
}
