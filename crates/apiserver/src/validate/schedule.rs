//! Cron schedules, refused in the words of the parser that upstream uses (`robfig/cron`).

use crate::field::go_quote;

/// Whether Go knows a time zone by this name.
pub(crate) fn known_zone(zone: &str) -> bool {
    matches!(zone, "" | "UTC" | "Local")
        || jiff::tz::TimeZone::get(zone).is_ok_and(|_| !zone.eq_ignore_ascii_case("local"))
}

/// Whether Go reads this as a duration (`1h30m`).
fn go_duration(text: &str) -> Result<(), String> {
    const UNITS: [&str; 8] = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
    let invalid = || format!("time: invalid duration {}", go_quote(text));
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(digits);
        if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(invalid());
        }
        let end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, next) = tail.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", go_quote(text)));
        }
        if !UNITS.contains(&unit) {
            return Err(format!("time: unknown unit {} in duration {}", go_quote(unit), go_quote(text)));
        }
        rest = next;
    }
    Ok(())
}

/// Reads a schedule; the error is the parser's.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let mut text = text;
    if let Some(zoned) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        let (zone, rest) = zoned.split_once(' ').unwrap_or((zoned, ""));
        if !known_zone(zone) {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        text = rest.trim();
    }
    if let Some(rest) = text.strip_prefix('@') {
        const KNOWN: [&str; 7] = ["yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly"];
        return match rest.strip_prefix("every ") {
            Some(d) => go_duration(d).map_err(|why| format!("failed to parse duration {text}: {why}")),
            None if KNOWN.contains(&rest) => Ok(()),
            None => Err(format!("unrecognized descriptor: {text}")),
        };
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
    let bounds: [(u32, u32, &[&str]); 5] = [(0, 59, &[]), (0, 23, &[]), (1, 31, &[]), (1, 12, MONTHS), (0, 6, DAYS)];
    for (field, (min, max, names)) in fields.iter().zip(bounds) {
        for part in field.split(',') {
            check_part(part, min, max, names)?;
        }
    }
    Ok(())
}

fn check_part(part: &str, min: u32, max: u32, names: &[&str]) -> Result<(), String> {
    let number = |s: &str| -> Result<u32, String> {
        if let Some(i) = names.iter().position(|n| n.eq_ignore_ascii_case(s)) {
            return Ok(u32::try_from(i).unwrap_or(0) + min);
        }
        s.parse::<u32>()
            .map_err(|_| format!("failed to parse int from {s}: strconv.Atoi: parsing {}: invalid syntax", go_quote(s)))
    };
    let mut steps = part.split('/');
    let range = steps.next().unwrap_or_default();
    let step = steps.next();
    if steps.next().is_some() {
        return Err(format!("too many slashes: {part}"));
    }
    let (low, high) = if range == "*" || range == "?" {
        (min, max)
    } else {
        let mut ends = range.split('-');
        let low = number(ends.next().unwrap_or_default())?;
        let high = match ends.next() {
            Some(h) => number(h)?,
            None if step.is_some() => max,
            None => low,
        };
        if ends.next().is_some() {
            return Err(format!("too many hyphens: {part}"));
        }
        (low, high)
    };
    if let Some(step) = step
        && number(step)? == 0
    {
        return Err(format!("step of range should be a positive number: {part}"));
    }
    if low < min {
        return Err(format!("beginning of range ({low}) below minimum ({min}): {part}"));
    }
    if high > max {
        return Err(format!("end of range ({high}) above maximum ({max}): {part}"));
    }
    if low > high {
        return Err(format!("beginning of range ({low}) beyond end of range ({high}): {part}"));
    }
    Ok(())
}
