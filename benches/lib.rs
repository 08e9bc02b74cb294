//! Runs a piece of work until its time is known, and says what it was: no more than `cargo bench` needs.

use std::hint::black_box;
use std::time::{Duration, Instant};

/// How long one piece of work is repeated for.
const LONG_ENOUGH: Duration = Duration::from_millis(700);
/// How often at least.
const OFTEN_ENOUGH: usize = 5;

/// Chosen pieces of work, by words in their names.
pub struct Bench {
    wanted: Vec<String>,
}

impl Bench {
    /// Those that the command line names; all when it names none. What `cargo bench` itself passes is no name.
    #[must_use]
    pub fn from_arguments() -> Self {
        Self { wanted: std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect() }
    }

    /// Times a piece of work that goes through so many bytes (0 when that says nothing): prints the median, the least,
    /// and the bytes a second.
    #[allow(clippy::print_stdout, reason = "it is what a bench is for")]
    pub fn run<T>(&self, name: &str, bytes: usize, mut work: impl FnMut() -> T) {
        if !self.wanted.is_empty() && !self.wanted.iter().any(|w| name.contains(w.as_str())) {
            return;
        }
        black_box(work());
        let started = Instant::now();
        let mut times = Vec::new();
        while started.elapsed() < LONG_ENOUGH || times.len() < OFTEN_ENOUGH {
            let start = Instant::now();
            black_box(work());
            times.push(start.elapsed());
        }
        times.sort();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let least = times.first().copied().unwrap_or_default();
        let mut line = format!("{name:<44} {:>10} median {:>10} least", shown(median), shown(least));
        if bytes > 0 {
            #[allow(clippy::cast_precision_loss, reason = "a rate to three digits")]
            let rate = bytes as f64 / 1e6 / median.as_secs_f64();
            line += &format!(" {rate:>8.0} MB/s");
        }
        println!("{line}");
    }
}

fn shown(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1000.0 { format!("{micros:.1} us") } else { format!("{:.2} ms", micros / 1000.0) }
}
