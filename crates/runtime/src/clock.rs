//! The time, in the forms statuses and events use, and a clock that a test can set.

use std::sync::Arc;

use jiff::Timestamp;

/// Now as RFC 3339 in whole seconds, as `metav1.Time` is written.
#[must_use]
pub fn now() -> String {
    text(Timestamp::now())
}

/// A time as RFC 3339 in whole seconds, as `metav1.Time` is written.
#[must_use]
pub fn text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Where a controller reads the time: the system's clock, or the one a test gives. Cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl Clock {
    /// Reads the time from a function.
    #[must_use]
    pub fn reading(time: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(time))
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::reading(Timestamp::now)
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now())
    }
}

/// Nanoseconds since 1970.
#[must_use]
pub fn unix_nanos() -> i128 {
    Timestamp::now().as_nanosecond()
}

/// Whole seconds from an RFC 3339 time until now; `None` when it is no such time, 0 when it lies ahead.
#[must_use]
pub fn seconds_since(time: &str) -> Option<u64> {
    let then: Timestamp = time.parse().ok()?;
    let seconds = Timestamp::now().as_second() - then.as_second();
    Some(u64::try_from(seconds).unwrap_or(0))
}
