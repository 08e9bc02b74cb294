//! Ages and durations as kubectl shows them (`k8s.io/apimachinery` `duration.HumanDuration`).

/// A duration in seconds, short.
#[must_use]
pub fn human(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".into();
    }
    let s = seconds.max(0);
    let pair = |a: i64, x: &str, b: i64, y: &str| {
        if b == 0 { format!("{a}{x}") } else { format!("{a}{x}{b}{y}") }
    };
    let (minutes, hours) = (s / 60, s / 3600);
    let days = hours / 24;
    if s < 120 {
        format!("{s}s")
    } else if minutes < 10 {
        pair(minutes, "m", s % 60, "s")
    } else if minutes < 180 {
        format!("{minutes}m")
    } else if hours < 8 {
        pair(hours, "h", minutes % 60, "m")
    } else if hours < 48 {
        format!("{hours}h")
    } else if hours < 24 * 8 {
        pair(days, "d", hours % 24, "h")
    } else if days < 365 * 2 {
        format!("{days}d")
    } else if days < 365 * 8 {
        pair(days / 365, "y", days % 365, "d")
    } else {
        format!("{}y", days / 365)
    }
}

/// Seconds since 1970 of an API timestamp.
#[must_use]
pub fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// How long ago a timestamp was.
#[must_use]
pub fn ago(text: Option<&str>) -> String {
    match text.and_then(seconds) {
        Some(t) => human(jiff::Timestamp::now().as_second() - t),
        None => "<unknown>".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::human;

    #[test]
    fn durations_keep_two_units_while_they_are_small() {
        let all = [0, 119, 120, 130, 599, 600, 10_799, 10_800, 14_460, 28_800, 172_800, 176_400, 691_200];
        let shown: Vec<String> = all.into_iter().map(human).collect();
        assert_eq!(
            shown,
            ["0s", "119s", "2m", "2m10s", "9m59s", "10m", "179m", "3h", "4h1m", "8h", "2d", "2d1h", "8d"]
        );
    }
}
