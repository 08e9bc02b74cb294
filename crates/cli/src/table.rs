//! Tables as kubectl prints them: columns by their widest cell, two spaces between.

use crate::globals::Paint;

/// A table. `color` is given the column and the cell, and returns the cell as it is shown.
pub fn table<const N: usize>(
    header: [&str; N],
    rows: &[[String; N]],
    paint: Paint,
    color: impl Fn(usize, &str) -> String,
) -> String {
    let header = header.map(str::to_string);
    let width = |i: usize| rows.iter().chain([&header]).map(|r| r[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = String::new();
    for (n, row) in std::iter::once(&header).chain(rows).enumerate() {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            line.push_str(&if n == 0 { paint.bold(cell) } else { color(i, cell) });
            if i + 1 < N {
                line.push_str(&" ".repeat(widths[i] + 2 - cell.chars().count()));
            }
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
