//! Numbers: sprig's `numeric.go` with the casts of `spf13/cast`.

use crate::env::{Env, FuncError};
use crate::val::Val;

use super::args::{Args, MAX_LIST, Res, err};
use super::decimal::{Decimal, Op};
use super::{Entry, gofmt};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("atoi", atoi),
    ("int64", |_, a| Ok(Val::Int64(to_i64(Args::exact("int64", a, 1)?.any(0))))),
    ("int", |_, a| Ok(Val::Int(to_i64(Args::exact("int", a, 1)?.any(0))))),
    ("float64", |_, a| Ok(Val::Float(to_f64(Args::exact("float64", a, 1)?.any(0))))),
    ("toDecimal", to_decimal),
    ("seq", seq),
    ("until", until),
    ("untilStep", until_step_fn),
    ("add1", |_, a| Ok(Val::Int64(to_i64(Args::exact("add1", a, 1)?.any(0)).wrapping_add(1)))),
    ("add", |_, a| Ok(Val::Int64(a.iter().fold(0, |x: i64, y| x.wrapping_add(to_i64(y)))))),
    ("sub", |_, a| pair("sub", a, |x, y| Ok(x.wrapping_sub(y)))),
    ("div", |_, a| pair("div", a, |x, y| if y == 0 { err(DIVIDE) } else { Ok(x.wrapping_div(y)) })),
    ("mod", |_, a| pair("mod", a, |x, y| if y == 0 { err(DIVIDE) } else { Ok(x.wrapping_rem(y)) })),
    ("mul", |_, a| fold("mul", a, i64::wrapping_mul)),
    ("max", |_, a| fold("max", a, i64::max)),
    ("biggest", |_, a| fold("biggest", a, i64::max)),
    ("min", |_, a| fold("min", a, i64::min)),
    ("maxf", |_, a| foldf("maxf", a, |x, y| if x.is_nan() || y.is_nan() { f64::NAN } else { x.max(y) })),
    ("minf", |_, a| foldf("minf", a, |x, y| if x.is_nan() || y.is_nan() { f64::NAN } else { x.min(y) })),
    ("floor", |_, a| Ok(Val::Float(to_f64(Args::exact("floor", a, 1)?.any(0)).floor()))),
    ("ceil", |_, a| Ok(Val::Float(to_f64(Args::exact("ceil", a, 1)?.any(0)).ceil()))),
    ("round", round),
    ("add1f", |_, a| {
        let a = Args::exact("add1f", a, 1)?;
        decimals(a.any(0), &[Val::Int(1)], Op::Add)
    }),
    ("addf", |_, a| decimals(&Val::Float(0.0), a, Op::Add)),
    ("subf", |_, a| decimals1("subf", a, Op::Sub)),
    ("divf", |_, a| decimals1("divf", a, Op::Div)),
    ("mulf", |_, a| decimals1("mulf", a, Op::Mul)),
];

const DIVIDE: &str = "runtime error: integer divide by zero";

/// Go's conversion of a float to an integer on amd64: the least integer when it does not fit.
#[allow(clippy::cast_possible_truncation)]
pub(crate) fn float_to_i64(f: f64) -> i64 {
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&f) { f as i64 } else { i64::MIN }
}

/// `strconv.ParseInt(s, 0, 64)`: prefixes `0x`, `0o`, `0b` and `0`, underscores between digits.
pub(crate) fn parse_int_any_base(s: &str) -> Option<i64> {
    let (negative, body) = match s.as_bytes().first()? {
        b'-' => (true, s.get(1..)?),
        b'+' => (false, s.get(1..)?),
        _ => (false, s),
    };
    let lower = body.to_ascii_lowercase();
    let (radix, digits) = if let Some(d) = lower.strip_prefix("0x") {
        (16, d)
    } else if let Some(d) = lower.strip_prefix("0o") {
        (8, d)
    } else if let Some(d) = lower.strip_prefix("0b") {
        (2, d)
    } else if lower.len() > 1 && lower.starts_with('0') {
        (8, lower.get(1..)?)
    } else {
        (10, lower.as_str())
    };
    let plain = if digits.contains('_') {
        // Only between digits, or after a prefix.
        if radix == 10 && digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
            return None;
        }
        digits.replace('_', "")
    } else {
        digits.to_owned()
    };
    if plain.is_empty() || plain.starts_with(['+', '-']) {
        return None;
    }
    let n = i128::from(u64::from_str_radix(&plain, radix).ok()?);
    i64::try_from(if negative { -n } else { n }).ok()
}

/// Cuts a fraction of zeros (`"1.00"` is 1).
fn trim_zero_decimal(s: &str) -> &str {
    match s.rfind(|c| c != '0') {
        Some(i) if s.as_bytes().get(i) == Some(&b'.') && i + 1 < s.len() => s.get(..i).unwrap_or(s),
        _ => s,
    }
}

/// `cast.ToInt64`; what cannot be converted is 0.
pub(crate) fn to_i64(v: &Val) -> i64 {
    match v {
        Val::Int(i) | Val::Int64(i) => *i,
        #[allow(clippy::cast_possible_wrap)]
        Val::UInt64(u) => *u as i64,
        Val::Float(f) => float_to_i64(*f),
        Val::Bool(b) => i64::from(*b),
        Val::Str(s) => parse_int_any_base(trim_zero_decimal(s)).unwrap_or(0),
        Val::Object(o) => o.as_any().downcast_ref::<super::times::GoInt>().map_or(0, super::times::GoInt::cast),
        Val::Nil | Val::Missing | Val::List(_) | Val::Map(_) => 0,
    }
}

/// `strconv.ParseFloat`.
pub(crate) fn parse_float(s: &str) -> Option<f64> {
    let lower = s.to_ascii_lowercase();
    if lower.contains("infinity") || lower.contains("inf") || lower.contains("nan") {
        if lower.contains("nan") && lower.len() > 3 {
            return None;
        }
        return lower.parse().ok();
    }
    // Out of range is an error in Go.
    s.parse::<f64>().ok().filter(|f| f.is_finite())
}

/// `cast.ToFloat64`; what cannot be converted is 0.
#[allow(clippy::cast_precision_loss)]
pub(crate) fn to_f64(v: &Val) -> f64 {
    match v {
        Val::Int(i) | Val::Int64(i) => *i as f64,
        Val::UInt64(u) => *u as f64,
        Val::Float(f) => *f,
        Val::Bool(b) => f64::from(u8::from(*b)),
        Val::Str(s) => parse_float(s).unwrap_or(0.0),
        Val::Object(_) => to_i64(v) as f64,
        Val::Nil | Val::Missing | Val::List(_) | Val::Map(_) => 0.0,
    }
}

fn pair(name: &str, a: &[Val], f: impl Fn(i64, i64) -> Result<i64, FuncError>) -> Res {
    let a = Args::exact(name, a, 2)?;
    f(to_i64(a.any(0)), to_i64(a.any(1))).map(Val::Int64)
}

fn fold(name: &str, a: &[Val], f: impl Fn(i64, i64) -> i64) -> Res {
    let a = Args::at_least(name, a, 1)?;
    Ok(Val::Int64(a.from(1).iter().fold(to_i64(a.any(0)), |x, y| f(x, to_i64(y)))))
}

fn foldf(name: &str, a: &[Val], f: impl Fn(f64, f64) -> f64) -> Res {
    let a = Args::at_least(name, a, 1)?;
    Ok(Val::Float(a.from(1).iter().fold(to_f64(a.any(0)), |x, y| f(x, to_f64(y)))))
}

fn decimals1(name: &str, a: &[Val], op: Op) -> Res {
    let a = Args::at_least(name, a, 1)?;
    decimals(a.any(0), a.from(1), op)
}

fn decimals(first: &Val, rest: &[Val], op: Op) -> Res {
    let mut sum = Decimal::from_float(to_f64(first))?;
    for v in rest {
        sum = sum.apply(op, Decimal::from_float(to_f64(v))?)?;
    }
    Ok(Val::Float(sum.to_float()))
}

fn atoi(_: &mut Env<'_>, a: &[Val]) -> Res {
    let s = Args::exact("atoi", a, 1)?.str(0)?;
    // Go's Atoi gives the nearest integer with its range error.
    Ok(Val::Int(match s.parse::<i64>() {
        Ok(n) => n,
        Err(e) => match e.kind() {
            std::num::IntErrorKind::PosOverflow => i64::MAX,
            std::num::IntErrorKind::NegOverflow => i64::MIN,
            _ => 0,
        },
    }))
}

fn to_decimal(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("toDecimal", a, 1)?;
    Ok(Val::Int64(i64::from_str_radix(&gofmt::strval(a.any(0)), 8).unwrap_or(0)))
}

fn round(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::at_least("round", a, 2)?;
    let value = to_f64(a.any(0));
    let places = a.int(1)?;
    let on = if a.len() > 2 { a.float(2)? } else { 0.5 };
    #[allow(clippy::cast_possible_truncation)]
    let pow = 10f64.powi(places.clamp(-400, 400) as i32);
    let digit = pow * value;
    let fraction = digit - digit.trunc();
    Ok(Val::Float(if fraction >= on { digit.ceil() } else { digit.floor() } / pow))
}

/// sprig's `untilStep`.
fn steps(start: i64, stop: i64, step: i64) -> Result<Vec<i64>, FuncError> {
    let mut out = Vec::new();
    if (stop < start && step >= 0) || (stop >= start && step <= 0) {
        return Ok(out);
    }
    let mut i = start;
    while if stop < start { i > stop } else { i < stop } {
        if out.len() >= MAX_LIST {
            return err("the resulting list would be too long");
        }
        out.push(i);
        match i.checked_add(step) {
            Some(n) => i = n,
            None => break,
        }
    }
    Ok(out)
}

fn ints(list: Vec<i64>) -> Val {
    Val::list(list.into_iter().map(Val::Int).collect())
}

fn until(_: &mut Env<'_>, a: &[Val]) -> Res {
    let n = Args::exact("until", a, 1)?.int(0)?;
    steps(0, n, if n < 0 { -1 } else { 1 }).map(ints)
}

fn until_step_fn(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("untilStep", a, 3)?;
    steps(a.int(0)?, a.int(1)?, a.int(2)?).map(ints)
}

fn seq(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::at_least("seq", a, 0)?;
    let n = (0..a.len()).map(|i| a.int(i)).collect::<Result<Vec<_>, _>>()?;
    let list = match n.as_slice() {
        [end] => {
            let by = if *end < 1 { -1 } else { 1 };
            steps(1, end.saturating_add(by), by)?
        }
        [start, end] => {
            let by = if end < start { -1 } else { 1 };
            steps(*start, end.saturating_add(by), by)?
        }
        [start, step, end] => {
            if end < start && *step > 0 {
                Vec::new()
            } else {
                steps(*start, end.saturating_add(if end < start { -1 } else { 1 }), *step)?
            }
        }
        _ => Vec::new(),
    };
    Ok(Val::str(list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")))
}
