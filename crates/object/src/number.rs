//! Floats as text the way Go's `strconv.FormatFloat` writes them with the shortest precision.

use std::fmt::Write;

/// Decimal digits and exponent of the shortest text that reads back as the float: `d.ddd × 10^exp`.
struct Shortest {
    negative: bool,
    digits: String,
    exp: i32,
}

fn split(text: &str) -> Shortest {
    let negative = text.starts_with('-');
    let body = text.trim_start_matches('-');
    let (mantissa, exp) = body.split_once('e').unwrap_or((body, "0"));
    Shortest { negative, digits: mantissa.replace('.', ""), exp: exp.parse().unwrap_or(0) }
}

impl Shortest {
    /// `d.ddde±dd` (at least two digits of exponent unless `short`).
    fn exponent_form(&self, out: &mut String, short: bool) {
        if self.negative {
            out.push('-');
        }
        let (first, rest) = self.digits.split_at(1.min(self.digits.len()));
        out.push_str(first);
        if !rest.is_empty() {
            out.push('.');
            out.push_str(rest);
        }
        out.push('e');
        out.push(if self.exp < 0 { '-' } else { '+' });
        let exp = self.exp.unsigned_abs();
        if exp < 10 && !short {
            out.push('0');
        }
        let _ = write!(out, "{exp}");
    }
}

/// `'g'` with the shortest precision and 64 bits; infinities and NaN as YAML writes them (`.inf`, `-.inf`, `.nan`).
#[must_use]
pub fn format_g(f: f64) -> String {
    let mut out = String::new();
    write_g(&mut out, f);
    out
}

/// Appends what [`format_g`] returns.
pub fn write_g(out: &mut String, f: f64) {
    if let Some(word) = special(f) {
        out.push_str(word);
        return;
    }
    g_of(out, &split(&format!("{f:e}")), || format!("{f}"));
}

/// As [`format_g`] after rounding to 32 bits: how `sigs.k8s.io/yaml` makes a map key of a float.
#[must_use]
#[allow(clippy::cast_possible_truncation)]
pub fn format_g32(f: f64) -> String {
    let f = f as f32;
    let mut out = String::new();
    match special(f64::from(f)) {
        Some(word) => out.push_str(word),
        None => g_of(&mut out, &split(&format!("{f:e}")), || format!("{f}")),
    }
    out
}

fn special(f: f64) -> Option<&'static str> {
    if f.is_nan() {
        Some(".nan")
    } else if f.is_infinite() {
        Some(if f > 0.0 { ".inf" } else { "-.inf" })
    } else {
        None
    }
}

fn g_of(out: &mut String, s: &Shortest, plain: impl Fn() -> String) {
    // Go decides as if the precision were six digits when it is the shortest one.
    if s.exp < -4 || s.exp >= 6 {
        s.exponent_form(out, false);
    } else {
        out.push_str(&plain());
    }
}

/// As `encoding/json` writes a float: plain unless very small or very large, then `1e-7`, `1e+21`. Infinities and NaN
/// have no JSON form; they are written as `null`.
pub fn write_json(out: &mut String, f: f64) {
    if !f.is_finite() {
        out.push_str("null");
        return;
    }
    let abs = f.abs();
    if abs != 0.0 && !(1e-6..1e21).contains(&abs) {
        split(&format!("{f:e}")).exponent_form(out, f.abs() < 1.0);
    } else {
        let _ = write!(out, "{f}");
    }
}
