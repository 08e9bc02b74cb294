//! Dates: sprig's `date.go`, and the times and other named integers templates get from it.

use std::any::Any;
use std::rc::Rc;

use druse_object::Value;

use crate::env::{Env, FuncError};
use crate::val::{GoObject, Val};

use super::args::{Args, Res, err};
use super::gotime::{self, Time, Zone};
use super::{Entry, duration, gofmt};

/// The functions of this theme.
pub const TABLE: &[Entry] = &[
    ("now", |env, a| Args::exact("now", a, 0).map(|_| time(now(env)))),
    ("ago", ago),
    ("date", |env, a| {
        let a = Args::exact("date", a, 2)?;
        in_zone(env, a.str(0)?, a.any(1), "Local")
    }),
    ("dateInZone", |env, a| date_in_zone("dateInZone", env, a)),
    ("date_in_zone", |env, a| date_in_zone("date_in_zone", env, a)),
    ("htmlDate", |env, a| in_zone(env, HTML, Args::exact("htmlDate", a, 1)?.any(0), "Local")),
    ("htmlDateInZone", |env, a| {
        let a = Args::exact("htmlDateInZone", a, 2)?;
        in_zone(env, HTML, a.any(0), a.str(1)?)
    }),
    ("dateModify", |_, a| modify("dateModify", a, false)),
    ("date_modify", |_, a| modify("date_modify", a, false)),
    ("mustDateModify", |_, a| modify("mustDateModify", a, true)),
    ("must_date_modify", |_, a| modify("must_date_modify", a, true)),
    ("toDate", |_, a| {
        let a = Args::exact("toDate", a, 2)?;
        Ok(time(gotime::parse(a.str(0)?, a.str(1)?).unwrap_or_else(|_| Time::zero())))
    }),
    ("mustToDate", |_, a| {
        let a = Args::exact("mustToDate", a, 2)?;
        gotime::parse(a.str(0)?, a.str(1)?).map(time).map_err(FuncError)
    }),
    ("unixEpoch", |_, a| {
        let a = Args::exact("unixEpoch", a, 1)?;
        Ok(Val::str(time_arg(a.any(0))?.at.as_second().to_string()))
    }),
];

const HTML: &str = "2006-01-02";

/// A time as a template value.
#[must_use]
pub fn time(t: Time) -> Val {
    Val::Object(Rc::new(GoTime(t)))
}

fn now(env: &Env<'_>) -> Time {
    Time::from_nanos(env.host.now_unix_nanos())
}

/// The time a value is, if it is one.
fn as_time(v: &Val) -> Option<&Time> {
    match v {
        Val::Object(o) => o.as_any().downcast_ref::<GoTime>().map(|t| &t.0),
        _ => None,
    }
}

fn time_arg(v: &Val) -> Result<&Time, FuncError> {
    match as_time(v) {
        Some(t) => Ok(t),
        None if v.is_nil() => err("invalid value; expected time.Time"),
        None => err(format!("wrong type for value; expected time.Time; got {}", gofmt::type_name(v))),
    }
}

/// A time, or an integer of seconds since 1970; anything else is now.
fn time_or_now(env: &Env<'_>, v: &Val) -> Time {
    match v {
        Val::Int(n) | Val::Int64(n) => Time::from_nanos(i128::from(*n) * 1_000_000_000),
        v => as_time(v).cloned().unwrap_or_else(|| now(env)),
    }
}

fn between(a: &Time, b: &Time) -> i64 {
    let nanos = a.at.as_nanosecond() - b.at.as_nanosecond();
    i64::try_from(nanos).unwrap_or(if nanos < 0 { i64::MIN } else { i64::MAX })
}

/// Nanoseconds from a time value until now.
pub(crate) fn since(env: &Env<'_>, v: &Val) -> Option<i64> {
    as_time(v).map(|t| between(&now(env), t))
}

fn ago(env: &mut Env<'_>, a: &[Val]) -> Res {
    let t = time_or_now(env, Args::exact("ago", a, 1)?.any(0));
    Ok(Val::str(duration::format(duration::round(between(&now(env), &t), duration::SECOND))))
}

fn in_zone(env: &Env<'_>, layout: &str, v: &Val, zone: &str) -> Res {
    let mut t = time_or_now(env, v);
    t.zone = Zone::load(zone).unwrap_or(Zone::Utc);
    Ok(Val::str(t.format(layout)))
}

fn date_in_zone(name: &str, env: &Env<'_>, a: &[Val]) -> Res {
    let a = Args::exact(name, a, 3)?;
    in_zone(env, a.str(0)?, a.any(1), a.str(2)?)
}

fn modify(name: &str, a: &[Val], must: bool) -> Res {
    let a = Args::exact(name, a, 2)?;
    let t = time_arg(a.any(1))?;
    match druse_object::go::duration(a.str(0)?) {
        Ok(d) => Ok(time(t.plus(d))),
        Err(e) if must => err(e),
        Err(_) => Ok(time(t.clone())),
    }
}

/// `time.Time` in a template.
pub struct GoTime(pub Time);

impl GoObject for GoTime {
    fn type_name(&self) -> &str {
        "time.Time"
    }

    fn field(&self, name: &str, _: &mut Env<'_>) -> Option<Res> {
        let f = self.0.fields();
        let (c, at) = (f.civil, self.0.at);
        let int = |n: i64| Val::Int(n);
        Some(Ok(match name {
            "Year" => int(i64::from(c.year())),
            "Month" => Val::Object(Rc::new(GoInt::month(i64::from(c.month())))),
            "Day" => int(i64::from(c.day())),
            "Hour" => int(i64::from(c.hour())),
            "Minute" => int(i64::from(c.minute())),
            "Second" => int(i64::from(c.second())),
            "Nanosecond" => int(i64::from(c.subsec_nanosecond())),
            "YearDay" => int(i64::from(c.date().day_of_year())),
            "Weekday" => Val::Object(Rc::new(GoInt::weekday(i64::from(c.weekday().to_sunday_zero_offset())))),
            "Unix" => Val::Int64(at.as_second()),
            "UnixMilli" => Val::Int64(at.as_millisecond()),
            "UnixMicro" => Val::Int64(at.as_microsecond()),
            "UnixNano" => Val::Int64(i64::try_from(at.as_nanosecond()).unwrap_or(0)),
            "UTC" | "Local" => time(Time { at, zone: Zone::Utc }),
            "IsZero" => Val::Bool(at == Time::zero().at),
            "String" => Val::str(self.0.text()),
            _ => return None,
        }))
    }

    fn call(&self, name: &str, args: &[Val], env: &mut Env<'_>) -> Option<Res> {
        if args.is_empty() {
            return self.field(name, env);
        }
        let a = |n| Args::exact(name, args, n);
        let other = || a(1).and_then(|a| time_arg(a.any(0)));
        Some(match name {
            "Format" => a(1).and_then(|a| Ok(Val::str(self.0.format(a.str(0)?)))),
            "Add" => a(1).and_then(|a| Ok(time(self.0.plus(nanos_arg(a.any(0))?)))),
            "AddDate" => a(3).and_then(|a| self.add_date(a.int(0)?, a.int(1)?, a.int(2)?)),
            "Truncate" | "Round" => a(1).and_then(|a| {
                let (m, at) = (i128::from(nanos_arg(a.any(0))?), self.0.at.as_nanosecond());
                if m <= 0 {
                    return Ok(time(self.0.clone()));
                }
                // Go counts from the first instant of year 1.
                let since = at - Time::zero().at.as_nanosecond();
                let past = since.rem_euclid(m);
                let up = name == "Round" && past * 2 >= m;
                let mut t = Time::from_nanos(at - past + if up { m } else { 0 });
                t.zone = self.0.zone.clone();
                Ok(time(t))
            }),
            "Sub" => other().map(|o| duration::value(between(&self.0, o))),
            "Before" => other().map(|o| Val::Bool(self.0.at < o.at)),
            "After" => other().map(|o| Val::Bool(self.0.at > o.at)),
            "Equal" => other().map(|o| Val::Bool(self.0.at == o.at)),
            "Compare" => other().map(|o| Val::Int(self.0.at.cmp(&o.at) as i64)),
            _ => return None,
        })
    }

    fn display(&self) -> String {
        self.0.text()
    }

    fn to_value(&self) -> Value {
        Value::from(self.0.format("2006-01-02T15:04:05.999999999Z07:00"))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

fn nanos_arg(v: &Val) -> Result<i64, FuncError> {
    match v {
        Val::Int(n) | Val::Int64(n) => Ok(*n),
        Val::Object(o) => match o.as_any().downcast_ref::<GoInt>() {
            Some(i) if i.is_duration() => Ok(i.value),
            _ => err(format!("wrong type for value; expected time.Duration; got {}", o.type_name())),
        },
        v => err(format!("wrong type for value; expected time.Duration; got {}", gofmt::type_name(v))),
    }
}

impl GoTime {
    /// Go normalises: 31 January plus a month is early March.
    fn add_date(&self, years: i64, months: i64, days: i64) -> Res {
        let f = self.0.fields();
        let c = f.civil;
        let whole = i64::from(c.month()) - 1 + months;
        let year = i64::from(c.year()) + years + whole.div_euclid(12);
        let month = i8::try_from(whole.rem_euclid(12) + 1).unwrap_or(1);
        let moved = i16::try_from(year)
            .ok()
            .and_then(|y| jiff::civil::Date::new(y, month, 1).ok())
            .and_then(|d| d.checked_add(jiff::Span::new().try_days(i64::from(c.day()) - 1 + days).ok()?).ok())
            .map(|d| d.to_datetime(c.time()));
        let at = moved.and_then(|dt| match &self.0.zone {
            Zone::Named(tz) => tz.to_timestamp(dt).ok(),
            _ => jiff::tz::Offset::from_seconds(f.offset).ok()?.to_timestamp(dt).ok(),
        });
        match at {
            Some(at) => Ok(time(Time { at, zone: self.0.zone.clone() })),
            None => err("year out of range"),
        }
    }
}

/// A Go integer type with a name: `time.Duration`, `time.Month`, `time.Weekday`.
pub struct GoInt {
    ty: &'static str,
    kind: &'static str,
    value: i64,
}

impl GoInt {
    /// A duration in nanoseconds.
    #[must_use]
    pub fn duration(value: i64) -> Self {
        Self { ty: "time.Duration", kind: "int64", value }
    }
    /// A month, from 1.
    #[must_use]
    pub fn month(value: i64) -> Self {
        Self { ty: "time.Month", kind: "int", value }
    }
    /// A day of the week; Sunday is 0.
    #[must_use]
    pub fn weekday(value: i64) -> Self {
        Self { ty: "time.Weekday", kind: "int", value }
    }
    /// The number.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.value
    }
    /// Whether this is a `time.Duration`.
    #[must_use]
    pub fn is_duration(&self) -> bool {
        self.ty == "time.Duration"
    }
    /// What `int64` and the like make of it: `spf13/cast` knows months and weekdays, not durations.
    #[must_use]
    pub fn cast(&self) -> i64 {
        if self.is_duration() { 0 } else { self.value }
    }
}

impl GoObject for GoInt {
    fn type_name(&self) -> &str {
        self.ty
    }
    fn kind(&self) -> &str {
        self.kind
    }
    fn field(&self, name: &str, _: &mut Env<'_>) -> Option<Res> {
        use super::duration::{HOUR, MINUTE, SECOND, units};
        let d = self.value;
        Some(Ok(match name {
            "String" => Val::str(self.display()),
            _ if !self.is_duration() => return None,
            "Hours" => Val::Float(units(d, HOUR)),
            "Minutes" => Val::Float(units(d, MINUTE)),
            "Seconds" => Val::Float(units(d, SECOND)),
            "Milliseconds" => Val::Int64(d / 1_000_000),
            "Microseconds" => Val::Int64(d / 1_000),
            "Nanoseconds" => Val::Int64(d),
            "Abs" => duration::value(d.saturating_abs()),
            _ => return None,
        }))
    }
    fn call(&self, name: &str, args: &[Val], env: &mut Env<'_>) -> Option<Res> {
        if args.is_empty() {
            return self.field(name, env);
        }
        let arg = || Args::exact(name, args, 1).and_then(|a| nanos_arg(a.any(0)));
        match name {
            "Round" if self.is_duration() => Some(arg().map(|m| duration::value(duration::round(self.value, m)))),
            "Truncate" if self.is_duration() => {
                Some(arg().map(|m| duration::value(if m <= 0 { self.value } else { self.value - self.value % m })))
            }
            _ => None,
        }
    }
    fn display(&self) -> String {
        let name = match self.ty {
            "time.Month" => gotime::month_name(self.value).map(str::to_owned),
            "time.Weekday" => gotime::day_name(self.value).map(str::to_owned),
            _ => Some(duration::format(self.value)),
        };
        name.unwrap_or_else(|| self.value.to_string())
    }
    fn to_value(&self) -> Value {
        Value::Int(self.value)
    }
    fn truth(&self) -> bool {
        self.value != 0
    }
    fn as_any(&self) -> &dyn Any {
        self
    }
}
