//! What the driver counts, as Prometheus text. Names and labels are upstream's, so that dashboards keep working.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the histograms' buckets, in seconds.
const BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Every metric, its type and what it says.
const ALL: [(&str, &str, &str); 9] = [
    ("node_publish_total", "counter", "Volumes published"),
    ("node_unpublish_total", "counter", "Volumes unpublished"),
    ("node_publish_error_total", "counter", "Volumes that could not be published"),
    ("node_unpublish_error_total", "counter", "Volumes that could not be unpublished"),
    ("sync_k8s_secret_total", "counter", "Secrets made or updated from volumes"),
    ("k8s_secret_duration_sec", "histogram", "How long making a volume's Secrets took"),
    ("rotation_reconcile_total", "counter", "Published volumes looked at again"),
    ("rotation_reconcile_error_total", "counter", "Published volumes that could not be renewed and kept what they had"),
    ("rotation_reconcile_duration_sec", "histogram", "How long renewing a published volume took"),
];

#[derive(Default)]
struct Histogram {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

#[derive(Default)]
struct Series {
    /// By metric, then by labels as they are printed.
    counters: BTreeMap<(&'static str, String), u64>,
    histograms: BTreeMap<&'static str, Histogram>,
}

/// Counts since the driver started.
#[derive(Default)]
pub struct Metrics(Mutex<Series>);

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

impl Metrics {
    pub(crate) fn published(&self, provider: &str) {
        self.count("node_publish_total", &[("provider", provider)]);
    }
    pub(crate) fn not_published(&self, provider: &str, why: &str) {
        self.count("node_publish_error_total", &[("provider", provider), ("error_type", why)]);
    }
    pub(crate) fn unpublished(&self) {
        self.count("node_unpublish_total", &[]);
    }
    pub(crate) fn not_unpublished(&self) {
        self.count("node_unpublish_error_total", &[]);
    }
    pub(crate) fn synced(&self, provider: &str, took: Duration) {
        self.count("sync_k8s_secret_total", &[("provider", provider)]);
        self.time("k8s_secret_duration_sec", took);
    }
    pub(crate) fn rotated(&self, provider: &str, changed: bool, took: Duration) {
        let rotated = if changed { "true" } else { "false" };
        self.count("rotation_reconcile_total", &[("provider", provider), ("rotated", rotated)]);
        self.time("rotation_reconcile_duration_sec", took);
    }
    pub(crate) fn not_rotated(&self, provider: &str, why: &str) {
        let labels = [("provider", provider), ("error_type", why), ("rotated", "false")];
        self.count("rotation_reconcile_error_total", &labels);
    }

    fn count(&self, name: &'static str, labels: &[(&str, &str)]) {
        let mut text = String::from("os_type=\"linux\"");
        for (key, value) in labels {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _infallible = write!(text, ",{key}=\"{value}\"");
        }
        *self.0.lock().counters.entry((name, text)).or_default() += 1;
    }

    fn time(&self, name: &'static str, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut series = self.0.lock();
        let h = series.histograms.entry(name).or_default();
        for (bound, n) in BUCKETS.iter().zip(&mut h.buckets) {
            *n += u64::from(seconds <= *bound);
        }
        h.count += 1;
        h.sum += seconds;
    }

    /// All of it in Prometheus' text format (0.0.4).
    #[must_use]
    pub fn text(&self) -> String {
        let series = self.0.lock();
        let mut out = String::new();
        for (name, kind, help) in ALL {
            let _infallible = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for ((_, labels), n) in series.counters.range((name, String::new())..).take_while(|((m, _), _)| *m == name)
            {
                let _infallible = writeln!(out, "{name}{{{labels}}} {n}");
            }
            if let Some(h) = series.histograms.get(name) {
                for (bound, n) in BUCKETS.iter().zip(h.buckets) {
                    let _infallible = writeln!(out, "{name}_bucket{{os_type=\"linux\",le=\"{bound}\"}} {n}");
                }
                let _infallible = writeln!(out, "{name}_bucket{{os_type=\"linux\",le=\"+Inf\"}} {}", h.count);
                let _infallible = writeln!(out, "{name}_sum{{os_type=\"linux\"}} {}", h.sum);
                let _infallible = writeln!(out, "{name}_count{{os_type=\"linux\"}} {}", h.count);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_histograms_read_as_prometheus_wants_them() {
        let m = Metrics::default();
        m.published("aws");
        m.published("aws");
        m.not_published("a\"b\\c\nd", "GRPCProviderError");
        m.rotated("aws", true, Duration::from_millis(30));
        let text = m.text();
        for line in [
            "# TYPE node_publish_total counter",
            "node_publish_total{os_type=\"linux\",provider=\"aws\"} 2",
            "node_publish_error_total{os_type=\"linux\",provider=\"a\\\"b\\\\c\\nd\",error_type=\"GRPCProviderError\"} 1",
            "rotation_reconcile_duration_sec_bucket{os_type=\"linux\",le=\"0.025\"} 0",
            "rotation_reconcile_duration_sec_bucket{os_type=\"linux\",le=\"0.05\"} 1",
            "rotation_reconcile_duration_sec_bucket{os_type=\"linux\",le=\"+Inf\"} 1",
            "rotation_reconcile_duration_sec_sum{os_type=\"linux\"} 0.03",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
