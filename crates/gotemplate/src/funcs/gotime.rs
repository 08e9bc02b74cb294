//! Go's `time.Time` with its layouts: `2006-01-02T15:04:05Z07:00` is how a time is written and read.
//!
//! The local time zone of druse is always UTC: what a repository renders to must not depend on where it is rendered.

use jiff::civil;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use super::gofmt;

/// Where a time is shown.
#[derive(Clone, Debug)]
pub enum Zone {
    /// UTC (also the local zone).
    Utc,
    /// A zone of the IANA database.
    Named(TimeZone),
    /// An offset in seconds, perhaps with an abbreviation, as read from text.
    Fixed(String, i32),
}

/// An instant and where it is shown.
#[derive(Clone, Debug)]
pub struct Time {
    /// The instant.
    pub at: Timestamp,
    /// The zone.
    pub zone: Zone,
}

/// A time's fields in its zone.
pub struct Fields {
    /// Date and time of day.
    pub civil: civil::DateTime,
    /// Seconds east of UTC.
    pub offset: i32,
    /// The zone's abbreviation, empty when it has none.
    pub abbreviation: String,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// The English name of a month, from 1.
#[must_use]
pub fn month_name(n: i64) -> Option<&'static str> {
    usize::try_from(n - 1).ok().and_then(|i| MONTHS.get(i)).copied()
}

/// The English name of a day of the week; Sunday is 0.
#[must_use]
pub fn day_name(n: i64) -> Option<&'static str> {
    usize::try_from(n).ok().and_then(|i| DAYS.get(i)).copied()
}

impl Zone {
    /// Go's `time.LoadLocation`.
    #[must_use]
    pub fn load(name: &str) -> Option<Self> {
        match name {
            "" | "UTC" | "Local" => Some(Self::Utc),
            name => TimeZone::get(name).ok().map(Self::Named),
        }
    }
}

impl Time {
    /// A time in UTC from nanoseconds since 1970; instants out of range become the nearest that is not.
    #[must_use]
    pub fn from_nanos(nanos: i128) -> Self {
        let at = Timestamp::from_nanosecond(nanos).unwrap_or(if nanos < 0 { Timestamp::MIN } else { Timestamp::MAX });
        Self { at, zone: Zone::Utc }
    }

    /// Go's zero time: the first instant of year 1.
    #[must_use]
    pub fn zero() -> Self {
        Self::from_nanos(-62_135_596_800 * 1_000_000_000)
    }

    /// Fields in the time's zone.
    #[must_use]
    pub fn fields(&self) -> Fields {
        let (offset, abbreviation) = match &self.zone {
            Zone::Utc => (Offset::UTC, "UTC".to_owned()),
            Zone::Named(tz) => {
                let info = tz.to_offset_info(self.at);
                let name = info.abbreviation();
                // The database writes zones without an abbreviation as an offset; so does Go.
                (info.offset(), name.to_owned())
            }
            Zone::Fixed(name, seconds) => (Offset::from_seconds(*seconds).unwrap_or(Offset::UTC), name.clone()),
        };
        Fields { civil: offset.to_datetime(self.at), offset: offset.seconds(), abbreviation }
    }

    /// This time plus nanoseconds.
    #[must_use]
    pub fn plus(&self, nanos: i64) -> Self {
        let at = self.at.saturating_add(SignedDuration::from_nanos(nanos)).unwrap_or(self.at);
        Self { at, zone: self.zone.clone() }
    }

    /// Written by a layout.
    #[must_use]
    pub fn format(&self, layout: &str) -> String {
        let f = self.fields();
        let mut out = String::new();
        let mut rest = layout;
        loop {
            let (literal, token, after) = next_token(rest);
            out.push_str(literal);
            let Some((token, _)) = token else {
                return out;
            };
            write(&mut out, token, &f);
            rest = after;
        }
    }

    /// What `String` gives.
    #[must_use]
    pub fn text(&self) -> String {
        self.format("2006-01-02 15:04:05.999999999 -0700 MST")
    }
}

/// One element of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    LongMonth,
    Month,
    NumMonth,
    ZeroMonth,
    LongWeekDay,
    WeekDay,
    Day,
    UnderDay,
    ZeroDay,
    UnderYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    Pm,
    LowerPm,
    ZoneName,
    /// An offset: whether UTC is `Z`, whether colons separate, and how many parts (hours, minutes, seconds).
    Offset {
        z: bool,
        colon: bool,
        parts: u8,
    },
    /// A point or comma and a fraction with this many digits, trailing zeros kept.
    Fraction0(char, usize),
    /// A point or comma and a fraction of up to this many digits.
    Fraction9(char, usize),
}

const FIXED: [(&str, Token); 32] = [
    ("January", Token::LongMonth),
    ("Monday", Token::LongWeekDay),
    ("MST", Token::ZoneName),
    ("2006", Token::LongYear),
    ("__2", Token::UnderYearDay),
    ("002", Token::ZeroYearDay),
    ("01", Token::ZeroMonth),
    ("02", Token::ZeroDay),
    ("03", Token::ZeroHour12),
    ("04", Token::ZeroMinute),
    ("05", Token::ZeroSecond),
    ("06", Token::Year),
    ("15", Token::Hour),
    ("_2", Token::UnderDay),
    ("PM", Token::Pm),
    ("pm", Token::LowerPm),
    ("-070000", Token::Offset { z: false, colon: false, parts: 3 }),
    ("-07:00:00", Token::Offset { z: false, colon: true, parts: 3 }),
    ("-0700", Token::Offset { z: false, colon: false, parts: 2 }),
    ("-07:00", Token::Offset { z: false, colon: true, parts: 2 }),
    ("-07", Token::Offset { z: false, colon: false, parts: 1 }),
    ("Z070000", Token::Offset { z: true, colon: false, parts: 3 }),
    ("Z07:00:00", Token::Offset { z: true, colon: true, parts: 3 }),
    ("Z0700", Token::Offset { z: true, colon: false, parts: 2 }),
    ("Z07:00", Token::Offset { z: true, colon: true, parts: 2 }),
    ("Z07", Token::Offset { z: true, colon: false, parts: 1 }),
    ("1", Token::NumMonth),
    ("2", Token::Day),
    ("3", Token::Hour12),
    ("4", Token::Minute),
    ("5", Token::Second),
    // Never first: checked apart, as lower case letters must not follow.
    ("Jan", Token::Month),
];

fn token_at(s: &str) -> Option<(Token, usize)> {
    let b = s.as_bytes();
    if matches!(b.first(), Some(b'.' | b',')) && matches!(b.get(1), Some(b'0' | b'9')) {
        let digit = b.get(1).copied().unwrap_or(b'0');
        let mark = if b.first() == Some(&b',') { ',' } else { '.' };
        let n = b.iter().skip(1).take_while(|c| **c == digit).count();
        // The digits must end there.
        if b.get(1 + n).is_none_or(|c| !c.is_ascii_digit()) {
            return Some((if digit == b'0' { Token::Fraction0(mark, n) } else { Token::Fraction9(mark, n) }, 1 + n));
        }
        return None;
    }
    // "_2006" is a literal underscore and a year.
    if s.starts_with("_2006") {
        return None;
    }
    let lower_follows = |n: usize| b.get(n).is_some_and(u8::is_ascii_lowercase);
    if s.starts_with("Mon") && !s.starts_with("Monday") {
        return (!lower_follows(3)).then_some((Token::WeekDay, 3));
    }
    let (text, token) = FIXED.iter().find(|(text, _)| s.starts_with(text))?;
    if *token == Token::Month && lower_follows(3) {
        return None;
    }
    Some((*token, text.len()))
}

/// A layout cut at its first element: literal text, the element (with its own text), the rest.
fn next_token(s: &str) -> (&str, Option<(Token, &str)>, &str) {
    for (i, _) in s.char_indices() {
        let tail = s.get(i..).unwrap_or("");
        if let Some((token, n)) = token_at(tail) {
            let (text, rest) = tail.split_at(n);
            return (s.get(..i).unwrap_or(""), Some((token, text)), rest);
        }
    }
    (s, None, "")
}

fn write(out: &mut String, token: Token, f: &Fields) {
    use std::fmt::Write as _;
    let c = &f.civil;
    let month = i64::from(c.month());
    let weekday = i64::from(c.weekday().to_sunday_zero_offset());
    let hour12 = match c.hour() % 12 {
        0 => 12,
        h => h,
    };
    let _ = match token {
        Token::LongMonth => write!(out, "{}", month_name(month).unwrap_or("")),
        Token::Month => write!(out, "{:.3}", month_name(month).unwrap_or("")),
        Token::NumMonth => write!(out, "{month}"),
        Token::ZeroMonth => write!(out, "{month:02}"),
        Token::LongWeekDay => write!(out, "{}", day_name(weekday).unwrap_or("")),
        Token::WeekDay => write!(out, "{:.3}", day_name(weekday).unwrap_or("")),
        Token::Day => write!(out, "{}", c.day()),
        Token::UnderDay => write!(out, "{:2}", c.day()),
        Token::ZeroDay => write!(out, "{:02}", c.day()),
        Token::UnderYearDay => write!(out, "{:3}", c.date().day_of_year()),
        Token::ZeroYearDay => write!(out, "{:03}", c.date().day_of_year()),
        Token::Hour => write!(out, "{:02}", c.hour()),
        Token::Hour12 => write!(out, "{hour12}"),
        Token::ZeroHour12 => write!(out, "{hour12:02}"),
        Token::Minute => write!(out, "{}", c.minute()),
        Token::ZeroMinute => write!(out, "{:02}", c.minute()),
        Token::Second => write!(out, "{}", c.second()),
        Token::ZeroSecond => write!(out, "{:02}", c.second()),
        Token::LongYear if c.year() < 0 => write!(out, "-{:04}", c.year().unsigned_abs()),
        Token::LongYear => write!(out, "{:04}", c.year()),
        Token::Year => write!(out, "{:02}", c.year().rem_euclid(100)),
        Token::Pm => write!(out, "{}", if c.hour() >= 12 { "PM" } else { "AM" }),
        Token::LowerPm => write!(out, "{}", if c.hour() >= 12 { "pm" } else { "am" }),
        Token::ZoneName if f.abbreviation.is_empty() => write!(out, "{}", offset(f.offset, false, 2)),
        Token::ZoneName => write!(out, "{}", f.abbreviation),
        Token::Offset { z: true, .. } if f.offset == 0 => write!(out, "Z"),
        Token::Offset { colon, parts, .. } => write!(out, "{}", offset(f.offset, colon, parts)),
        Token::Fraction0(mark, n) => {
            let digits = format!("{:09}", c.subsec_nanosecond());
            write!(out, "{mark}{}", digits.get(..n.min(9)).unwrap_or(""))
        }
        Token::Fraction9(mark, n) => {
            let digits = format!("{:09}", c.subsec_nanosecond());
            let digits = digits.get(..n.min(9)).unwrap_or("").trim_end_matches('0');
            if digits.is_empty() { Ok(()) } else { write!(out, "{mark}{digits}") }
        }
    };
}

fn offset(seconds: i32, colon: bool, parts: u8) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let s = seconds.unsigned_abs();
    let sep = if colon { ":" } else { "" };
    let mut out = format!("{sign}{:02}", s / 3600);
    if parts > 1 {
        out.push_str(&format!("{sep}{:02}", s / 60 % 60));
    }
    if parts > 2 {
        out.push_str(&format!("{sep}{:02}", s % 60));
    }
    out
}

/// Up to `max` digits (at least `min`) from the start.
fn digits(s: &str, min: usize, max: usize) -> Option<(i64, &str)> {
    let n = s.bytes().take(max).take_while(u8::is_ascii_digit).count();
    if n < min {
        return None;
    }
    let (head, tail) = s.split_at(n);
    Some((head.parse().ok()?, tail))
}

fn name<'s>(s: &'s str, names: &[&str], short: bool) -> Option<(i64, &'s str)> {
    names.iter().zip(0..).find_map(|(n, i)| {
        let n = if short { n.get(..3)? } else { n };
        let head = s.get(..n.len())?;
        head.eq_ignore_ascii_case(n).then(|| (i, s.get(n.len()..).unwrap_or("")))
    })
}

#[derive(Default)]
struct Read {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanos: i64,
    pm: Option<bool>,
    offset: Option<i32>,
    utc: bool,
    zone: String,
}

/// Reads a time by a layout, in UTC where it names no zone; the error is Go's text.
pub fn parse(layout: &str, value: &str) -> Result<Time, String> {
    let mut read = Read::default();
    let mut rest_layout = layout;
    let mut rest = value;
    let cannot = |rest: &str, element: &str| {
        Err(format!(
            "parsing time {} as {}: cannot parse {} as {}",
            gofmt::quote(value),
            gofmt::quote(layout),
            gofmt::quote(rest),
            gofmt::quote(element)
        ))
    };
    let range = |what: &str| Err(format!("parsing time {}: {what} out of range", gofmt::quote(value)));
    loop {
        let (literal, token, after) = next_token(rest_layout);
        let Some(r) = skip(rest, literal) else {
            return cannot(rest, literal);
        };
        rest = r;
        let Some((token, element)) = token else {
            if !rest.is_empty() {
                return Err(format!("parsing time {}: extra text: {}", gofmt::quote(value), gofmt::quote(rest)));
            }
            break;
        };
        rest_layout = after;
        let Some(r) = read_token(token, rest, &mut read) else {
            return cannot(rest, element);
        };
        rest = r;
        // A fraction may follow the seconds even where the layout has none.
        if matches!(token, Token::Second | Token::ZeroSecond)
            && !matches!(next_token(rest_layout), ("", Some((Token::Fraction0(..) | Token::Fraction9(..), _)), _))
            && rest.starts_with(['.', ','])
            && let Some((nanos, r)) = fraction(rest, 1, 9)
        {
            read.nanos = nanos;
            rest = r;
        }
        for (bad, what) in [
            (read.month.is_some_and(|m| !(1..=12).contains(&m)), "month"),
            (read.hour > 23, "hour"),
            (read.minute > 59, "minute"),
            (read.second > 59, "second"),
        ] {
            if bad {
                return range(what);
            }
        }
    }
    match read.pm {
        Some(true) if read.hour < 12 => read.hour += 12,
        Some(false) if read.hour == 12 => read.hour = 0,
        _ => {}
    }
    let narrow = |n: i64| i8::try_from(n).unwrap_or(-1);
    let year = i16::try_from(read.year).unwrap_or(-1);
    let date = match read.year_day {
        Some(n) => civil::Date::new(year, 1, 1)
            .and_then(|d| d.with().day_of_year(i16::try_from(n).unwrap_or(-1)).build())
            .map_err(|_| "day-of-year"),
        None => {
            civil::Date::new(year, narrow(read.month.unwrap_or(1)), narrow(read.day.unwrap_or(1))).map_err(|_| "day")
        }
    };
    let date = match date {
        Ok(d) => d,
        Err(what) => return range(what),
    };
    let nanos = i32::try_from(read.nanos).unwrap_or(0);
    let dt = date.at(narrow(read.hour), narrow(read.minute), narrow(read.second), nanos);
    let (zone, seconds) = match read.offset {
        _ if read.utc => (Zone::Utc, 0),
        Some(0) if read.zone.is_empty() || read.zone == "UTC" => (Zone::Utc, 0),
        Some(o) => (Zone::Fixed(read.zone, o), o),
        None if read.zone.is_empty() || read.zone == "UTC" => (Zone::Utc, 0),
        // An abbreviation alone says nothing certain: Go makes up a zone of that name at UTC.
        None => {
            let seconds = read.zone.strip_prefix("GMT").and_then(|h| h.parse::<i32>().ok()).map_or(0, |h| h * 3600);
            (Zone::Fixed(read.zone, seconds), seconds)
        }
    };
    let offset = Offset::from_seconds(seconds).unwrap_or(Offset::UTC);
    match offset.to_timestamp(dt) {
        Ok(at) => Ok(Time { at, zone }),
        Err(_) => range("year"),
    }
}

/// Skips literal text; runs of spaces match any number of spaces.
fn skip<'s>(mut value: &'s str, prefix: &str) -> Option<&'s str> {
    let mut prefix = prefix;
    while let Some(c) = prefix.chars().next() {
        if c == ' ' {
            if !value.is_empty() && !value.starts_with(' ') {
                return None;
            }
            prefix = prefix.trim_start_matches(' ');
            value = value.trim_start_matches(' ');
            continue;
        }
        value = value.strip_prefix(c)?;
        prefix = prefix.strip_prefix(c)?;
    }
    Some(value)
}

fn fraction(s: &str, min: usize, max: usize) -> Option<(i64, &str)> {
    let body = s.strip_prefix(['.', ','])?;
    let all = body.bytes().take_while(u8::is_ascii_digit).count();
    if all < min || (max < 9 && all > max) {
        return None;
    }
    let (head, tail) = body.split_at(all);
    let head = head.get(..head.len().min(9)).unwrap_or("");
    let scale = 10i64.pow(9 - u32::try_from(head.len()).unwrap_or(9));
    Some((head.parse::<i64>().ok()? * scale, tail))
}

fn read_token<'s>(token: Token, s: &'s str, r: &mut Read) -> Option<&'s str> {
    let set = |slot: &mut i64, found: (i64, &'s str)| {
        *slot = found.0;
        Some(found.1)
    };
    let some = |slot: &mut Option<i64>, found: (i64, &'s str)| {
        *slot = Some(found.0);
        Some(found.1)
    };
    match token {
        Token::LongMonth | Token::Month => {
            let (i, rest) = name(s, &MONTHS, token == Token::Month)?;
            some(&mut r.month, (i + 1, rest))
        }
        Token::NumMonth => some(&mut r.month, digits(s, 1, 2)?),
        Token::ZeroMonth => some(&mut r.month, digits(s, 2, 2)?),
        Token::LongWeekDay => Some(name(s, &DAYS, false)?.1),
        Token::WeekDay => Some(name(s, &DAYS, true)?.1),
        Token::Day => some(&mut r.day, digits(s, 1, 2)?),
        Token::UnderDay => some(&mut r.day, digits(s.strip_prefix(' ').unwrap_or(s), 1, 2)?),
        Token::ZeroDay => some(&mut r.day, digits(s, 2, 2)?),
        Token::UnderYearDay => some(&mut r.year_day, digits(s.trim_start_matches(' '), 1, 3)?),
        Token::ZeroYearDay => some(&mut r.year_day, digits(s, 3, 3)?),
        Token::Hour => set(&mut r.hour, digits(s, 1, 2)?),
        Token::Hour12 | Token::ZeroHour12 => {
            let found = digits(s, if token == Token::Hour12 { 1 } else { 2 }, 2)?;
            set(&mut r.hour, found)
        }
        Token::Minute => set(&mut r.minute, digits(s, 1, 2)?),
        Token::ZeroMinute => set(&mut r.minute, digits(s, 2, 2)?),
        Token::Second => set(&mut r.second, digits(s, 1, 2)?),
        Token::ZeroSecond => set(&mut r.second, digits(s, 2, 2)?),
        Token::LongYear => set(&mut r.year, digits(s, 4, 4)?),
        Token::Year => {
            let (y, rest) = digits(s, 2, 2)?;
            set(&mut r.year, (if y >= 69 { 1900 + y } else { 2000 + y }, rest))
        }
        Token::Pm | Token::LowerPm => {
            let (head, rest) = s.split_at_checked(2)?;
            let (am, pm) = if token == Token::Pm { ("AM", "PM") } else { ("am", "pm") };
            r.pm = if head == pm {
                Some(true)
            } else if head == am {
                Some(false)
            } else {
                return None;
            };
            Some(rest)
        }
        Token::ZoneName => {
            if let Some(rest) = s.strip_prefix("UTC") {
                r.utc = true;
                return Some(rest);
            }
            let letters = s.bytes().take_while(u8::is_ascii_uppercase).count();
            if !(3..=5).contains(&letters) {
                return None;
            }
            let (zone, rest) = s.split_at(letters);
            r.zone = zone.to_owned();
            Some(rest)
        }
        Token::Offset { z, colon, parts } => {
            if z && let Some(rest) = s.strip_prefix('Z') {
                r.utc = true;
                return Some(rest);
            }
            let negative = match s.as_bytes().first()? {
                b'-' => true,
                b'+' => false,
                _ => return None,
            };
            let (hours, mut rest) = digits(s.get(1..)?, 2, 2)?;
            let mut seconds = hours * 3600;
            for unit in [60, 1].into_iter().take(usize::from(parts) - 1) {
                if colon {
                    rest = rest.strip_prefix(':')?;
                }
                let (n, after) = digits(rest, 2, 2)?;
                if n > 59 {
                    return None;
                }
                seconds += n * unit;
                rest = after;
            }
            if hours > 24 {
                return None;
            }
            r.offset = i32::try_from(if negative { -seconds } else { seconds }).ok();
            Some(rest)
        }
        Token::Fraction0(_, n) => {
            let (nanos, rest) = fraction(s, n, n)?;
            r.nanos = nanos;
            Some(rest)
        }
        Token::Fraction9(..) => match fraction(s, 1, 9) {
            Some((nanos, rest)) => {
                r.nanos = nanos;
                Some(rest)
            }
            None => Some(s),
        },
    }
}
