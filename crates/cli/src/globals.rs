//! Options every command takes, and what follows from them: logging, colour.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// When to colour output.
#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Options every command takes.
#[derive(Args, Clone, Debug)]
pub struct Globals {
    /// A folder that stands in for the network: charts/ and sources/ are looked up there first (repeatable)
    #[arg(long, global = true, value_name = "DIR")]
    pub mirror: Vec<PathBuf>,
    /// Never use the network: what is neither in a mirror nor in the cache is reported by name
    #[arg(long, global = true)]
    pub offline: bool,
    /// Where fetched charts and sources, and what units render to, are kept [default: the user's cache folder]
    #[arg(long, global = true, value_name = "DIR", env = "DRUSE_CACHE")]
    pub cache: Option<PathBuf>,
    /// Use no cache and keep nothing
    #[arg(long, global = true)]
    pub no_cache: bool,
    /// Say less
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more (repeatable)
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to colour output
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: ColorChoice,
}

impl Globals {
    /// Where fetched artifacts are kept: `--cache`, else `$XDG_CACHE_HOME/druse`, else `~/.cache/druse`; nowhere with
    /// `--no-cache`.
    pub fn cache_dir(&self) -> Option<PathBuf> {
        if self.no_cache {
            return None;
        }
        self.cache.clone().or_else(|| {
            let base = std::env::var_os("XDG_CACHE_HOME")
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
                .or_else(|| std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".cache")))?;
            Some(base.join("druse"))
        })
    }

    /// Sends logs to standard error: warnings, more with `-v`, or what `DRUSE_LOG` says.
    pub fn init_logging(&self) {
        let default = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "druse=info,warn",
            (_, 2) => "druse=debug,info",
            _ => "trace",
        };
        let filter = tracing_subscriber::EnvFilter::try_from_env("DRUSE_LOG")
            .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
        let _already_set = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(self.colored(std::io::stderr().is_terminal()))
            .with_target(false)
            .try_init();
    }

    fn colored(&self, terminal: bool) -> bool {
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }

    /// Colours for standard error.
    pub fn paint_stderr(&self) -> Paint {
        Paint(self.colored(std::io::stderr().is_terminal()))
    }

    /// Colours for standard output.
    pub fn paint_stdout(&self) -> Paint {
        Paint(self.colored(std::io::stdout().is_terminal()))
    }
}

/// How many columns output may take: `COLUMNS`, the terminal's width, or 100 where there is none.
pub fn width() -> usize {
    let asked = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    let terminal = || terminal_size::terminal_size().map(|(w, _)| usize::from(w.0));
    asked.or_else(terminal).filter(|w| *w >= 40).unwrap_or(100)
}

/// Colours text, or leaves it alone.
#[derive(Clone, Copy, Debug)]
pub struct Paint(pub bool);

impl Paint {
    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    /// For failures.
    pub fn red(self, text: &str) -> String {
        self.wrap("31", text)
    }
    /// For success.
    pub fn green(self, text: &str) -> String {
        self.wrap("32", text)
    }
    /// For what waits or is simulated.
    pub fn yellow(self, text: &str) -> String {
        self.wrap("33", text)
    }
    /// For hints.
    pub fn cyan(self, text: &str) -> String {
        self.wrap("36", text)
    }
    /// For headings.
    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }
    /// For what matters less.
    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }
}
