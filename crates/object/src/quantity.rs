//! `resource.Quantity`: numbers with a suffix, read and written as `k8s.io/apimachinery/pkg/api/resource` does.
//!
//! Kept as whole nano units in 128 bits: upstream caps at 2^63-1 and rounds up what is finer than a nano.

use std::cmp::Ordering;

use crate::{Value, json};

const NANO: i128 = 1_000_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Decimal,
    Exponent,
    Binary,
}

/// A parsed quantity.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    style: Style,
}

impl Default for Quantity {
    /// Nothing.
    fn default() -> Self {
        Self { nano: 0, style: Style::Decimal }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}
impl Eq for Quantity {}
impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

/// The message for text that is no quantity.
pub const FORMAT: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const SUFFIX: &str = "unable to parse quantity's suffix";

fn pow(base: i128, exp: u32) -> Option<i128> {
    base.checked_pow(exp)
}

impl Quantity {
    /// Reads a quantity.
    ///
    /// # Errors
    /// Upstream's message when the text is not one.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, text.get(1..).unwrap_or_default()),
            Some(b'+') => (false, text.get(1..).unwrap_or_default()),
            Some(_) => (false, text),
            None => return Err(FORMAT),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return Err(FORMAT);
        }
        let (numerator, denominator, style) = scale(suffix)?;
        let cap = i128::from(i64::MAX) * NANO;
        // Digits beyond these cannot change a capped or rounded result by more than the rounding up.
        let digits: String = whole.trim_start_matches('0').chars().chain(fraction.chars().take(27)).collect();
        let cut = fraction.len() > 27 && fraction.chars().skip(27).any(|c| c != '0');
        let places = u32::try_from(fraction.len().min(27)).unwrap_or(27);
        let nano = if whole.trim_start_matches('0').len() > 20 {
            cap
        } else {
            let mantissa: i128 = if digits.is_empty() { 0 } else { digits.parse().unwrap_or(i128::MAX) };
            exact(mantissa, places, numerator, denominator, cut).map_or(cap, |v| v.min(cap))
        };
        Ok(Self { nano: if negative { -nano } else { nano }, style })
    }

    /// A field's quantity, which may be written as a number; `None` when it is none.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value.as_str() {
            Some(text) => Self::parse(text).ok(),
            None => Self::parse(&json::to_string(value)).ok(),
        }
    }

    /// This rounded up to whole thousandths, as values of resource lists are.
    #[must_use]
    pub fn rounded_to_milli(self) -> Self {
        let step = 1_000_000;
        let up = |v: i128| (v + step - 1) / step * step;
        Self { nano: if self.nano < 0 { -up(-self.nano) } else { up(self.nano) }, style: self.style }
    }

    /// Whether this is below zero.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// Whether this is zero.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    /// The sum of two, in this one's style.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_add(other.nano), style: self.style }
    }

    /// The difference of two, in this one's style.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self { nano: self.nano.saturating_sub(other.nano), style: self.style }
    }

    /// The value as a floating point number.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn approximate(self) -> f64 {
        self.nano as f64 / NANO as f64
    }

    /// The value in whole units, rounded up.
    #[must_use]
    pub fn value(self) -> i64 {
        let v = if self.nano > 0 { (self.nano + NANO - 1) / NANO } else { self.nano / NANO };
        i64::try_from(v).unwrap_or(if v > 0 { i64::MAX } else { i64::MIN })
    }
}

/// `mantissa / 10^places * numerator / denominator` in nano units, rounded up; `None` on overflow.
fn exact(mantissa: i128, places: u32, numerator: i128, denominator: i128, cut: bool) -> Option<i128> {
    // Cancel powers of ten first, so that large and small factors meet without overflow.
    let (mut places, mut num, mut den) = (places, numerator, denominator);
    let mut nano = NANO;
    let mut m = mantissa;
    while places > 0 && nano % 10 == 0 {
        nano /= 10;
        places -= 1;
    }
    while places > 0 && num % 10 == 0 {
        num /= 10;
        places -= 1;
    }
    while places > 0 && m % 10 == 0 && m != 0 {
        m /= 10;
        places -= 1;
    }
    while den % 10 == 0 && nano % 10 == 0 {
        den /= 10;
        nano /= 10;
    }
    let den = den.checked_mul(pow(10, places)?)?;
    let total = m.checked_mul(num)?.checked_mul(nano)?;
    let up = total % den != 0 || cut;
    Some(total / den + i128::from(up))
}

/// A suffix's factor as a fraction.
fn scale(suffix: &str) -> Result<(i128, i128, Style), &'static str> {
    let decimal = |n: i128, d: i128| Ok((n, d, Style::Decimal));
    let binary = |e: u32| Ok((1_i128 << (10 * e), 1, Style::Binary));
    match suffix {
        "" => decimal(1, 1),
        "n" => decimal(1, NANO),
        "u" => decimal(1, 1_000_000),
        "m" => decimal(1, 1000),
        "k" => decimal(1000, 1),
        "M" => decimal(1_000_000, 1),
        "G" => decimal(NANO, 1),
        "T" => decimal(1000 * NANO, 1),
        "P" => decimal(1_000_000 * NANO, 1),
        "E" => decimal(NANO * NANO, 1),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => {
            let exp = suffix.strip_prefix(['e', 'E']).ok_or_else(|| {
                let known = suffix.chars().all(|c| "eEinumkKMGTP+-".contains(c) || c.is_ascii_digit());
                if known { SUFFIX } else { FORMAT }
            })?;
            let exp: i32 = exp.parse().map_err(|_| {
                if exp.chars().all(|c| c.is_ascii_digit() || "+-".contains(c)) { SUFFIX } else { FORMAT }
            })?;
            let size = exp.unsigned_abs().min(36);
            let factor = pow(10, size).ok_or(SUFFIX)?;
            Ok(if exp < 0 { (1, factor, Style::Exponent) } else { (factor, 1, Style::Exponent) })
        }
    }
}

impl std::fmt::Display for Quantity {
    /// The canonical form.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        if self.nano < 0 {
            f.write_str("-")?;
        }
        let size = self.nano.unsigned_abs();
        let nano = NANO.unsigned_abs();
        if self.style == Style::Binary && size >= 1024 * nano {
            let mut v = size.div_ceil(nano);
            let mut power = 0;
            while v.is_multiple_of(1024) && power < 6 {
                v /= 1024;
                power += 1;
            }
            let suffix = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].get(power).copied().unwrap_or_default();
            return write!(f, "{v}{suffix}");
        }
        let mut v = size;
        let mut power: i32 = -9;
        while v.is_multiple_of(1000) && power < 18 {
            v /= 1000;
            power += 3;
        }
        if self.style == Style::Exponent {
            return if power == 0 { write!(f, "{v}") } else { write!(f, "{v}e{power}") };
        }
        let suffix = match power {
            -9 => "n",
            -6 => "u",
            -3 => "m",
            3 => "k",
            6 => "M",
            9 => "G",
            12 => "T",
            15 => "P",
            18 => "E",
            _ => "",
        };
        write!(f, "{v}{suffix}")
    }
}

/// The canonical form of a quantity's text, as a decoded and encoded object holds it.
///
/// # Errors
/// Upstream's message when the text is not a quantity.
pub fn canonical(text: &str) -> Result<String, &'static str> {
    Quantity::parse(text).map(|q| q.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms_are_upstreams() {
        for (from, to) in [
            ("1000m", "1"),
            ("1500m", "1500m"),
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1536Mi", "1536Mi"),
            ("1.5Gi", "1536Mi"),
            ("100Ki", "100Ki"),
            ("1000", "1k"),
            ("1024", "1024"),
            ("0", "0"),
            ("0Mi", "0"),
            ("0.5Ki", "512"),
            ("1e3", "1e3"),
            ("1000000", "1M"),
            ("12E", "9223372036854775807"),
            ("100m", "100m"),
            ("0.0001", "100u"),
            ("-1500m", "-1500m"),
            ("2E", "2E"),
            ("1Ei", "1Ei"),
            ("0.1n", "1n"),
            (" 5 ", "5"),
        ] {
            assert_eq!(canonical(from).as_deref(), Ok(to), "{from}");
        }
        for bad in ["", "1x", "a", "1.2.3", "--1", "1mm", "Mi"] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hostile_text_neither_panics_nor_overflows() {
        for bad in [
            "9".repeat(400),
            format!("0.{}", "1".repeat(400)),
            "1e999999999".into(),
            "1e-2147483648".into(),
            format!("{}Ei", "9".repeat(19)),
        ] {
            let _ = canonical(&bad);
        }
    }
}
