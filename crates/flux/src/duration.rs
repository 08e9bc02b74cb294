//! Durations as Go writes them: `10m0s`, `1h30m`, `1.5s`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration read from, and written as, Go's notation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

impl GoDuration {
    /// Reads Go's notation; `None` when it is not (negative durations are not accepted).
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let nanos = druse_object::go::duration(text).ok()?;
        u64::try_from(nanos).ok().map(|n| Self(Duration::from_nanos(n)))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.0.as_secs();
        let nanos = self.0.subsec_nanos();
        if total == 0 && nanos == 0 {
            return f.write_str("0s");
        }
        if total == 0 {
            let (value, unit) = match nanos {
                n if n < 1_000 => (f64::from(n), "ns"),
                n if n < 1_000_000 => (f64::from(n) / 1e3, "µs"),
                n => (f64::from(n) / 1e6, "ms"),
            };
            return write!(f, "{value}{unit}");
        }
        let (h, m, s) = (total / 3600, total / 60 % 60, total % 60);
        if h > 0 {
            write!(f, "{h}h")?;
        }
        if h > 0 || m > 0 {
            write!(f, "{m}m")?;
        }
        if nanos == 0 {
            write!(f, "{s}s")
        } else {
            let fraction = format!("{nanos:09}");
            write!(f, "{s}.{}s", fraction.trim_end_matches('0'))
        }
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!("{text:?} is not a duration (write it as 10m, 1h30m, 45s)"))
        })
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_go_notation() {
        for (text, secs, back) in [
            ("10m0s", 600, "10m0s"),
            ("1h", 3600, "1h0m0s"),
            ("90s", 90, "1m30s"),
            ("0", 0, "0s"),
            ("1h30m", 5400, "1h30m0s"),
        ] {
            let d = GoDuration::parse(text).unwrap();
            assert_eq!(d.0.as_secs(), secs, "{text}");
            assert_eq!(d.to_string(), back);
        }
        assert_eq!(GoDuration::parse("1.5s").unwrap().to_string(), "1.5s");
        assert_eq!(GoDuration::parse("150ms").unwrap().to_string(), "150ms");
        for bad in ["", "10", "5x", "-1s", "m"] {
            assert_eq!(GoDuration::parse(bad), None, "{bad}");
        }
    }
}
