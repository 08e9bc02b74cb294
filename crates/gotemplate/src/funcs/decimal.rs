//! Decimal arithmetic for `addf` and its kin, which sprig does with `shopspring/decimal` so that 0.1 + 0.2 is 0.3.
//!
//! Exact while the digits fit 128 bits (two float64s always do), plain float arithmetic beyond.

use crate::env::FuncError;

use super::args::err;

/// What to do with two numbers.
#[derive(Clone, Copy)]
pub enum Op {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`, to 16 places, halves away from zero.
    Div,
}

/// `mantissa × 10^exp`, or a float where that got too large.
#[derive(Clone, Copy)]
pub enum Decimal {
    /// Exact.
    Exact(i128, i32),
    /// Approximate.
    Float(f64),
}

/// Decimal places of a division.
const PLACES: i32 = 16;

impl Decimal {
    /// The shortest decimal that is this float.
    pub fn from_float(f: f64) -> Result<Self, FuncError> {
        if !f.is_finite() {
            return err(format!("Cannot create a Decimal from {}", super::gofmt::float_g(f)));
        }
        let text = format!("{f:e}");
        let (mantissa, exp) = text.split_once('e').unwrap_or((&text, "0"));
        let exp: i32 = exp.parse().unwrap_or(0);
        let fraction = mantissa.split_once('.').map_or(0, |(_, f)| i32::try_from(f.len()).unwrap_or(0));
        let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
        Ok(digits.parse().map_or(Self::Float(f), |m| Self::Exact(m, exp - fraction)))
    }

    /// The nearest float.
    pub fn to_float(self) -> f64 {
        match self {
            Self::Exact(m, e) => format!("{m}e{e}").parse().unwrap_or(0.0),
            Self::Float(f) => f,
        }
    }

    /// One operation.
    pub fn apply(self, op: Op, other: Self) -> Result<Self, FuncError> {
        if let (Op::Div, Self::Exact(0, _)) = (op, other) {
            return err("decimal division by 0");
        }
        if let (Self::Exact(m1, e1), Self::Exact(m2, e2)) = (self, other) {
            let exact = match op {
                Op::Mul => m1.checked_mul(m2).map(|m| (m, e1 + e2)),
                Op::Add => sum(m1, e1, m2, e2),
                Op::Sub => sum(m1, e1, -m2, e2),
                Op::Div => quotient(m1, e1, m2, e2),
            };
            if let Some((m, e)) = exact {
                return Ok(Self::Exact(m, e));
            }
        }
        let (x, y) = (self.to_float(), other.to_float());
        Ok(Self::Float(match op {
            Op::Add => x + y,
            Op::Sub => x - y,
            Op::Mul => x * y,
            Op::Div => x / y,
        }))
    }
}

fn scaled(m: i128, by: i32) -> Option<i128> {
    m.checked_mul(10i128.checked_pow(u32::try_from(by).ok()?)?)
}

fn sum(m1: i128, e1: i32, m2: i128, e2: i32) -> Option<(i128, i32)> {
    let e = e1.min(e2);
    Some((scaled(m1, e1 - e)?.checked_add(scaled(m2, e2 - e)?)?, e))
}

fn quotient(m1: i128, e1: i32, m2: i128, e2: i32) -> Option<(i128, i32)> {
    // m1·10^e1 ÷ m2·10^e2 in units of 10^-16.
    let shift = PLACES + e1 - e2;
    let (n, d) = if shift >= 0 { (scaled(m1, shift)?, m2) } else { (m1, scaled(m2, -shift)?) };
    let (q, r) = (n.checked_div(d)?, n.checked_rem(d)?);
    let up = r.checked_abs()?.checked_mul(2)? >= d.checked_abs()?;
    let away = if (n < 0) == (d < 0) { 1 } else { -1 };
    Some((if up { q + away } else { q }, -PLACES))
}
