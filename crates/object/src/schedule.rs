//! Cron schedules, read and run as the standard parser of `robfig/cron` v3 does, which upstream's CronJobs use.
//!
//! Five fields (names, lists, ranges, steps), the descriptors (`@daily`, `@every 1h`) and a zone in front (`TZ=…`). What
//! is refused is refused in that parser's words.

use jiff::Timestamp;
use jiff::civil::{DateTime, date};
use jiff::tz::TimeZone;

use crate::go;

/// When something runs, again and again.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    when: When,
    /// The zone the text itself names.
    zone: Option<TimeZone>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    /// At these minutes, hours, days of the month, months and days of the week.
    At([Field; 5]),
    /// Every so many seconds.
    Every(i64),
}

/// The values of a field, one bit each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// Whether it was written `*`: days of the month and of the week that both say something add up.
    any: bool,
}

impl Field {
    fn has(self, value: i64) -> bool {
        u32::try_from(value).is_ok_and(|v| self.bits.checked_shr(v).is_some_and(|b| b & 1 == 1))
    }
}

const MINUTE: usize = 0;
const HOUR: usize = 1;
const DAY: usize = 2;
const MONTH: usize = 3;
const WEEKDAY: usize = 4;

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// The least and greatest value of each field, and the names of its values.
const BOUNDS: [(u32, u32, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, MONTHS), (0, 6, DAYS)];

/// The zone of a name as Go knows it; no name is UTC.
#[must_use]
pub fn zone(name: &str) -> Option<TimeZone> {
    match name {
        "" | "UTC" => Some(TimeZone::UTC),
        "Local" => Some(TimeZone::system()),
        name if name.eq_ignore_ascii_case("local") => None,
        name => TimeZone::get(name).ok(),
    }
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// The parser's message.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut text = text;
        let mut named = None;
        if let Some(zoned) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
            let (name, rest) = zoned.split_once(' ').unwrap_or((zoned, ""));
            let found = zone(name).ok_or_else(|| format!("provided bad location {name}: unknown time zone {name}"))?;
            named = Some(found);
            text = rest.trim();
        }
        if text.starts_with('@') {
            return Ok(Self { when: descriptor(text)?, zone: named });
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        if fields.len() != BOUNDS.len() {
            return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
        }
        Ok(Self { when: When::At(read(&fields)?), zone: named })
    }

    /// The first time after this one, in the schedule's own zone or else in `zone`; `None` when there is none within five
    /// years (30 February).
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let fields = match &self.when {
            When::Every(seconds) => return Timestamp::from_second(after.as_second().checked_add(*seconds)?).ok(),
            When::At(fields) => fields,
        };
        let zone = self.zone.as_ref().unwrap_or(zone);
        let second = Search { fields, zone }.first_from(after.as_second().checked_add(1)?)?;
        Timestamp::from_second(second).ok()
    }
}

fn descriptor(text: &str) -> Result<When, String> {
    let fields = match text {
        "@yearly" | "@annually" => ["0", "0", "1", "1", "*"],
        "@monthly" => ["0", "0", "1", "*", "*"],
        "@weekly" => ["0", "0", "*", "*", "0"],
        "@daily" | "@midnight" => ["0", "0", "*", "*", "*"],
        "@hourly" => ["0", "*", "*", "*", "*"],
        _ => {
            let every = text.strip_prefix("@every ").ok_or_else(|| format!("unrecognized descriptor: {text}"))?;
            let nanos = go::duration(every).map_err(|why| format!("failed to parse duration {text}: {why}"))?;
            return Ok(When::Every((nanos / 1_000_000_000).max(1)));
        }
    };
    read(&fields).map(When::At)
}

fn read(texts: &[&str]) -> Result<[Field; 5], String> {
    let mut fields = [Field::default(); 5];
    for ((field, text), (min, max, names)) in fields.iter_mut().zip(texts).zip(BOUNDS) {
        for part in text.split(',').filter(|p| !p.is_empty()) {
            let range = read_range(part, min, max, names)?;
            field.bits |= range.bits;
            field.any |= range.any;
        }
    }
    Ok(fields)
}

/// `*`, `5`, `mon-fri`, `*/15`, `10/5`: a range, with or without steps.
fn read_range(part: &str, min: u32, max: u32, names: &[&str]) -> Result<Field, String> {
    let named = |s: &str| {
        let found = names.iter().position(|n| n.eq_ignore_ascii_case(s));
        found.map_or_else(|| integer(s), |i| Ok(u32::try_from(i).unwrap_or_default() + min))
    };
    let steps: Vec<&str> = part.split('/').collect();
    let ends: Vec<&str> = steps[0].split('-').collect();
    let mut any = matches!(ends[0], "*" | "?");
    let (low, mut high) = if any {
        (min, max)
    } else {
        let low = named(ends[0])?;
        match ends.as_slice() {
            [_] => (low, low),
            [_, high] => (low, named(high)?),
            _ => return Err(format!("too many hyphens: {part}")),
        }
    };
    let step = match steps.as_slice() {
        [_] => 1,
        [_, step] => {
            let step = integer(step)?;
            if ends.len() == 1 {
                high = max;
            }
            any &= step <= 1;
            step
        }
        _ => return Err(format!("too many slashes: {part}")),
    };
    if low < min {
        return Err(format!("beginning of range ({low}) below minimum ({min}): {part}"));
    }
    if high > max {
        return Err(format!("end of range ({high}) above maximum ({max}): {part}"));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {part}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    let bits = (low..=high).step_by(usize::try_from(step).unwrap_or(usize::MAX)).fold(0, |bits, v| bits | 1 << v);
    Ok(Field { bits, any })
}

fn integer(text: &str) -> Result<u32, String> {
    let read: i64 = text.parse().map_err(|_| {
        format!("failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax", go::quote(text))
    })?;
    if read < 0 {
        return Err(format!("negative number ({read}) not allowed: {text}"));
    }
    // Whatever lies beyond is above every field's maximum, and as a step leaves the first value alone.
    Ok(u32::try_from(read).unwrap_or(u32::MAX))
}

/// Looks for the first time that all fields have, in seconds since 1970.
struct Search<'a> {
    fields: &'a [Field; 5],
    zone: &'a TimeZone,
}

impl Search<'_> {
    /// From the greatest unit to the least, each is raised until its field has it; what overflows begins again with the
    /// year. Over changes of the clocks this goes the parser's way: hours are hours that pass, days begin at what the
    /// zone has of midnight.
    fn first_from(&self, start: i64) -> Option<i64> {
        let mut t = start;
        let last_year = i64::from(self.civil(t)?.year()) + 5;
        // Units below one that was raised begin at their least value.
        let mut raised = false;
        'wrap: loop {
            let mut now = self.civil(t)?;
            if i64::from(now.year()) > last_year {
                return None;
            }
            while !self.fields[MONTH].has(now.month().into()) {
                raised = true;
                let (year, month) = if now.month() == 12 { (now.year() + 1, 1) } else { (now.year(), now.month() + 1) };
                t = self.begins(year, month, 1)?;
                now = self.civil(t)?;
                if month == 1 {
                    continue 'wrap;
                }
            }
            while !self.day_fits(now) {
                raised = true;
                let next = now.date().tomorrow().ok()?;
                t = self.begins(next.year(), next.month(), next.day())?;
                // A day without its midnight begins an hour off.
                t += match i64::from(self.civil(t)?.hour()) {
                    0 => 0,
                    hour if hour > 12 => (24 - hour) * 3600,
                    hour => -hour * 3600,
                };
                now = self.civil(t)?;
                if now.day() == 1 {
                    continue 'wrap;
                }
            }
            while !self.fields[HOUR].has(now.hour().into()) {
                if !raised {
                    raised = true;
                    t -= i64::from(now.minute()) * 60 + i64::from(now.second());
                }
                t += 3600;
                now = self.civil(t)?;
                if now.hour() == 0 {
                    continue 'wrap;
                }
            }
            while !self.fields[MINUTE].has(now.minute().into()) {
                if !raised {
                    raised = true;
                    t -= i64::from(now.second());
                }
                t += 60;
                now = self.civil(t)?;
                if now.minute() == 0 {
                    continue 'wrap;
                }
            }
            // Seconds are always 0.
            if now.second() == 0 {
                return Some(t);
            }
            // The minute that begins next may not be one of those asked for.
            raised = true;
            t += 60 - i64::from(now.second());
        }
    }

    fn civil(&self, second: i64) -> Option<DateTime> {
        Some(self.zone.to_datetime(Timestamp::from_second(second).ok()?))
    }

    /// When a day begins, as Go's `time.Date` finds it: where clocks change at midnight, by one of the two offsets.
    fn begins(&self, year: i16, month: i8, day: i8) -> Option<i64> {
        let utc = TimeZone::UTC.to_timestamp(date(year, month, day).at(0, 0, 0, 0)).ok()?.as_second();
        let offset =
            |second: i64| Timestamp::from_second(second).ok().map(|at| i64::from(self.zone.to_offset(at).seconds()));
        Some(utc - offset(utc - offset(utc)?)?)
    }

    fn day_fits(&self, now: DateTime) -> bool {
        let (day, weekday) = (self.fields[DAY], self.fields[WEEKDAY]);
        let of_month = day.has(now.day().into());
        let of_week = weekday.has(now.weekday().to_sunday_zero_offset().into());
        if day.any || weekday.any { of_month && of_week } else { of_month || of_week }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone_name: &str) -> String {
        let next = Schedule::parse(schedule).unwrap().next(after.parse().unwrap(), &zone(zone_name).unwrap());
        next.map_or_else(|| "never".to_owned(), |t| t.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_that_all_fields_have() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-01-31T23:59:30Z", "2026-02-01T00:00:00Z"),
            ("* * * * *", "2026-01-31T23:59:00.5Z", "2026-02-01T00:00:00Z"),
            ("*/15 * * * *", "2026-01-01T00:15:00Z", "2026-01-01T00:30:00Z"),
            ("7/20 * * * *", "2026-01-01T00:27:00Z", "2026-01-01T00:47:00Z"),
            ("30 6-16/4 * * 1-5", "2026-01-02T14:30:00Z", "2026-01-05T06:30:00Z"),
            ("0 3 * * sun", "2026-01-01T00:00:00Z", "2026-01-04T03:00:00Z"),
            ("0 0 29 feb *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            // Days of the month and of the week add up when both say something.
            ("0 0 13 * fri", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 13 * *", "2026-01-01T00:00:00Z", "2026-01-13T00:00:00Z"),
            ("0 0 */2 * mon", "2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z"),
            ("0 0 31 2 *", "2026-01-01T00:00:00Z", "never"),
            ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@hourly", "2026-12-31T23:00:01Z", "2027-01-01T00:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:10.7Z", "2026-01-01T01:30:10Z"),
            ("@every 10ms", "2026-01-01T00:00:10Z", "2026-01-01T00:00:11Z"),
        ] {
            assert_eq!(next(schedule, after, "UTC"), expected, "{schedule}");
        }
    }

    #[test]
    fn a_zone_moves_the_times_and_its_clocks_may_change() {
        for (schedule, zone_name, after, expected) in [
            ("0 2 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("TZ=Asia/Tokyo 0 9 * * *", "Europe/Berlin", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            // 02:30 is left out on the day the clocks go forward, and comes twice on the day they go back.
            ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
            // In Santiago the clocks go forward at midnight: the day begins at 01:00.
            ("0 12 6 9 *", "America/Santiago", "2026-09-01T00:00:00Z", "2026-09-06T15:00:00Z"),
        ] {
            assert_eq!(next(schedule, after, zone_name), expected, "{schedule} in {zone_name}");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_in_the_parsers_words() {
        for (schedule, why) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("* * * * 5-2", "beginning of range (5) beyond end of range (2): 5-2"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("*/-5 * * * *", "negative number (-5) not allowed: -5"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("1/2/3 * * * *", "too many slashes: 1/2/3"),
            ("* * * * never", "failed to parse int from never: strconv.Atoi: parsing \"never\": invalid syntax"),
            ("@sometimes", "unrecognized descriptor: @sometimes"),
            ("@every day", "failed to parse duration @every day: time: invalid duration \"day\""),
            ("TZ=Mars/Base 0 0 * * *", "provided bad location Mars/Base: unknown time zone Mars/Base"),
        ] {
            assert_eq!(Schedule::parse(schedule).unwrap_err(), why, "{schedule}");
        }
        assert!(Schedule::parse(", * ?/1 JAN,feb mon").is_ok());
    }
}
