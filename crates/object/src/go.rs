//! What Go's standard library makes of text, where Kubernetes' fields and messages repeat it.

/// A string as `%q` writes it.
#[must_use]
pub fn quote(s: &str) -> String {
    let mut out = String::with_capacity(s.len() + 2);
    out.push('"');
    for c in s.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let n = u32::from(c);
                if n < 0x80 { out.push_str(&format!("\\x{n:02x}")) } else { out.push_str(&format!("\\u{n:04x}")) }
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `time.ParseDuration`: nanoseconds.
///
/// # Errors
/// Go's own message, for text that is no duration.
pub fn duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quote(text));
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or("")),
        Some(b'+') => (false, text.get(1..).unwrap_or("")),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
        let (whole, r) = rest.split_at(digits(rest));
        let (fraction, r) = match r.strip_prefix('.') {
            Some(r) => r.split_at(digits(r)),
            None => ("", r),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = r.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(r.len());
        let (unit, r) = r.split_at(end);
        if unit.is_empty() {
            return Err(format!("time: missing unit in duration {}", quote(text)));
        }
        let scale: u64 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => {
                return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(text)));
            }
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let mut part = whole.checked_mul(scale).ok_or_else(invalid)?;
        if !fraction.is_empty() {
            // Digits beyond what 63 bits hold are dropped, as in Go.
            let kept = fraction.get(..fraction.len().min(18)).unwrap_or("0");
            let f: u64 = kept.parse().map_err(|_| invalid())?;
            let unit = 10u64.pow(u32::try_from(kept.len()).unwrap_or(0));
            let nanos = u128::from(f) * u128::from(scale) / u128::from(unit);
            part = part.checked_add(u64::try_from(nanos).map_err(|_| invalid())?).ok_or_else(invalid)?;
        }
        total = total.checked_add(part).filter(|t| *t <= 1 << 63).ok_or_else(invalid)?;
        rest = r;
    }
    if negative {
        return Ok(0i64.wrapping_sub_unsigned(total));
    }
    i64::try_from(total).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_refused_as_go_does() {
        for (text, nanos) in
            [("1h30m", 5_400_000_000_000), ("-1.5s", -1_500_000_000), ("+2ms", 2_000_000), (".5us", 500), ("0", 0)]
        {
            assert_eq!(duration(text), Ok(nanos), "{text}");
        }
        for (text, why) in [
            ("", "time: invalid duration \"\""),
            ("10", "time: missing unit in duration \"10\""),
            ("1.2.3s", "time: missing unit in duration \"1.2.3s\""),
            ("5x", "time: unknown unit \"x\" in duration \"5x\""),
            ("3000000h", "time: invalid duration \"3000000h\""),
        ] {
            assert_eq!(duration(text).unwrap_err(), why);
        }
    }
}
