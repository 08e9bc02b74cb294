//! Go's `time.Duration` in nanoseconds: reading, writing, rounding, and Helm's own functions on durations.

use std::rc::Rc;

use druse_object::go;

use crate::env::{Env, FuncError};
use crate::val::Val;

use super::args::{Args, Res, err};
use super::times::GoInt;
use super::{Entry, gofmt, numeric};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("duration", duration),
    ("durationRound", duration_round),
    ("mustToDuration", must_to_duration),
    ("durationSeconds", |_, a| of("durationSeconds", a, Val::Float(0.0), |d| Val::Float(units(d, SECOND)))),
    ("durationMinutes", |_, a| of("durationMinutes", a, Val::Float(0.0), |d| Val::Float(units(d, MINUTE)))),
    ("durationHours", |_, a| of("durationHours", a, Val::Float(0.0), |d| Val::Float(units(d, HOUR)))),
    ("durationDays", |_, a| of("durationDays", a, Val::Float(0.0), |d| Val::Float(units(d, HOUR) / 24.0))),
    ("durationWeeks", |_, a| of("durationWeeks", a, Val::Float(0.0), |d| Val::Float(units(d, HOUR) / 24.0 / 7.0))),
    ("durationMilliseconds", |_, a| of("durationMilliseconds", a, Val::Int64(0), |d| Val::Int64(d / 1_000_000))),
    ("durationMicroseconds", |_, a| of("durationMicroseconds", a, Val::Int64(0), |d| Val::Int64(d / 1_000))),
    ("durationNanoseconds", |_, a| of("durationNanoseconds", a, Val::Int64(0), Val::Int64)),
    ("durationRoundTo", |_, a| to_multiple("durationRoundTo", a, round)),
    ("durationTruncateTo", |_, a| to_multiple("durationTruncateTo", a, |d, m| if m <= 0 { d } else { d - d % m })),
];

/// Nanoseconds of a second, and so on.
pub const SECOND: i64 = 1_000_000_000;
/// Nanoseconds of a minute.
pub const MINUTE: i64 = 60 * SECOND;
/// Nanoseconds of an hour.
pub const HOUR: i64 = 60 * MINUTE;

/// As Go's `Duration.Seconds` and the like: whole units and fraction apart, for precision.
#[allow(clippy::cast_precision_loss)]
pub fn units(d: i64, unit: i64) -> f64 {
    (d / unit) as f64 + (d % unit) as f64 / unit as f64
}

/// A duration as a template value.
#[must_use]
pub fn value(nanos: i64) -> Val {
    Val::Object(Rc::new(GoInt::duration(nanos)))
}

/// Go's `Duration.String`: `1h2m3.5s`, `1.5ms`, `0s`.
#[must_use]
pub fn format(nanos: i64) -> String {
    let n = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let fraction = |whole: u64, rest: u64, digits: usize| {
        let tail = format!("{rest:0digits$}");
        let tail = tail.trim_end_matches('0');
        if tail.is_empty() { whole.to_string() } else { format!("{whole}.{tail}") }
    };
    if n == 0 {
        return "0s".to_owned();
    }
    if n < 1_000 {
        return format!("{sign}{n}ns");
    }
    if n < 1_000_000 {
        return format!("{sign}{}µs", fraction(n / 1_000, n % 1_000, 3));
    }
    if n < 1_000_000_000 {
        return format!("{sign}{}ms", fraction(n / 1_000_000, n % 1_000_000, 6));
    }
    let seconds = n / 1_000_000_000;
    let s = fraction(seconds % 60, n % 1_000_000_000, 9);
    let (h, m) = (seconds / 3600, seconds / 60 % 60);
    if h > 0 {
        format!("{sign}{h}h{m}m{s}s")
    } else if m > 0 {
        format!("{sign}{m}m{s}s")
    } else {
        format!("{sign}{s}s")
    }
}

/// Go's `Duration.Round`: halves away from zero, saturating.
#[must_use]
pub fn round(d: i64, m: i64) -> i64 {
    if m <= 0 {
        return d;
    }
    let (d, m) = (i128::from(d), i128::from(m));
    let r = (d % m).abs();
    let toward = d - d % m;
    let rounded = if r * 2 < m { toward } else { toward + m * d.signum() };
    i64::try_from(rounded).unwrap_or(if d < 0 { i64::MIN } else { i64::MAX })
}

/// Helm's reading of a duration: a duration, its text, or a number of seconds.
fn as_duration(v: &Val) -> Result<i64, FuncError> {
    match v {
        Val::Nil | Val::Missing => err("invalid duration"),
        Val::Int(s) | Val::Int64(s) => match s.checked_mul(SECOND) {
            Some(d) => Ok(d),
            None => err(format!("duration seconds overflow: {s}")),
        },
        Val::UInt64(s) => match i64::try_from(*s).ok().and_then(|s| s.checked_mul(SECOND)) {
            Some(d) => Ok(d),
            None => err(format!("duration seconds overflow: {s}")),
        },
        Val::Float(s) => from_seconds(*s),
        Val::Str(text) => {
            let s = text.trim();
            if s.is_empty() {
                return err("empty duration");
            }
            if let Ok(d) = go::duration(s) {
                return Ok(d);
            }
            match numeric::parse_float(s) {
                Some(f) => from_seconds(f),
                None => err(format!("could not parse duration {}", gofmt::quote(text))),
            }
        }
        Val::Object(o) => match o.as_any().downcast_ref::<GoInt>() {
            Some(i) if i.is_duration() => Ok(i.number()),
            Some(i) => as_duration(&Val::Int64(i.number())),
            None => err(format!("unsupported duration type {}", o.type_name())),
        },
        other => err(format!("unsupported duration type {}", gofmt::type_name(other))),
    }
}

fn from_seconds(s: f64) -> Result<i64, FuncError> {
    if !s.is_finite() {
        return err(format!("invalid duration seconds: {}", gofmt::float_g(s)));
    }
    if s.abs() > 9_223_372_036.854_775 {
        return err(format!("duration seconds overflow: {}", gofmt::float_g(s)));
    }
    Ok(numeric::float_to_i64(s * 1e9))
}

fn of(name: &str, a: &[Val], bad: Val, f: impl Fn(i64) -> Val) -> Res {
    Ok(as_duration(Args::exact(name, a, 1)?.any(0)).map_or(bad, f))
}

fn to_multiple(name: &str, a: &[Val], f: impl Fn(i64, i64) -> i64) -> Res {
    let a = Args::exact(name, a, 2)?;
    let Ok(d) = as_duration(a.any(0)) else {
        return Ok(value(0));
    };
    Ok(value(as_duration(a.any(1)).map_or(d, |m| f(d, m))))
}

fn must_to_duration(_: &mut Env<'_>, a: &[Val]) -> Res {
    as_duration(Args::exact("mustToDuration", a, 1)?.any(0)).map(value)
}

fn duration(_: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("duration", a, 1)?;
    let seconds = match a.any(0) {
        Val::Str(s) => s.parse::<i64>().unwrap_or(0),
        Val::Int64(n) => *n,
        _ => 0,
    };
    Ok(Val::str(format(seconds.wrapping_mul(SECOND))))
}

fn duration_round(env: &mut Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact("durationRound", a, 1)?;
    let nanos = match a.any(0) {
        Val::Str(s) => go::duration(s).unwrap_or(0),
        Val::Int64(n) => *n,
        v => super::times::since(env, v).unwrap_or(0),
    };
    let n = nanos.unsigned_abs();
    let hour = HOUR.unsigned_abs();
    for (unit, name) in [
        (hour * 24 * 365, "y"),
        (hour * 24 * 30, "mo"),
        (hour * 24, "d"),
        (hour, "h"),
        (MINUTE.unsigned_abs(), "m"),
        (SECOND.unsigned_abs(), "s"),
    ] {
        if n > unit {
            return Ok(Val::str(format!("{}{name}", n / unit)));
        }
    }
    Ok(Val::str("0s"))
}
