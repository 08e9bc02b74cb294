//! The time, in the forms statuses and events use.

/// Now as RFC 3339 in whole seconds, as `metav1.Time` is written.
#[must_use]
pub fn now() -> String {
    let now = jiff::Timestamp::now();
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Nanoseconds since 1970.
#[must_use]
pub fn unix_nanos() -> i128 {
    jiff::Timestamp::now().as_nanosecond()
}

/// Whole seconds from an RFC 3339 time until now; `None` when it is no such time, 0 when it lies ahead.
#[must_use]
pub fn seconds_since(time: &str) -> Option<u64> {
    let then: jiff::Timestamp = time.parse().ok()?;
    let seconds = jiff::Timestamp::now().as_second() - then.as_second();
    Some(u64::try_from(seconds).unwrap_or(0))
}
