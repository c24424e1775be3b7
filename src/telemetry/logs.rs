//! Log lines: readable sentences with dotted fields, as text for people or JSON for machines.
//!
//! They go to stderr, or where a command wants them. A panic becomes a log line too, with its place and without its message,
//! which may hold what no log should.

use std::{
    io::{self, IsTerminal, Write},
    panic,
};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt, util::SubscriberInitExt};

use super::writer::{Flush, Lines};

/// The `[log]` section.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LogSettings {
    /// How lines are written.
    pub format: LogFormat,
    /// Which lines are written: a level ("info"), or levels by part ("warn,ringback=debug"). The
    /// variable `RUST_LOG` overrides it.
    pub filter: String,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people; with colours on a terminal.
    Text,
    /// One JSON object a line.
    Json,
}

/// The text is not a filter.
#[derive(Debug, thiserror::Error)]
#[error("not a log filter: {0}")]
pub struct InvalidFilter(String);

// === impl LogSettings ===

impl LogSettings {
    /// The configured filter, parsed.
    ///
    /// # Errors
    /// [`InvalidFilter`].
    pub fn parse_filter(&self) -> Result<EnvFilter, InvalidFilter> {
        EnvFilter::try_new(&self.filter).map_err(|error| InvalidFilter(error.to_string()))
    }
}

/// Begins to log to stderr. Keep what it gives until the end of the process. Where the process logs
/// already, nothing changes.
///
/// # Errors
/// If `RUST_LOG` or the filter is not one, or the system gives no thread.
pub fn start(settings: &LogSettings) -> io::Result<Flush> {
    let filter = match std::env::var(EnvFilter::DEFAULT_ENV) {
        Ok(text) if !text.is_empty() => {
            EnvFilter::try_new(&text).map_err(|error| InvalidFilter(format!("RUST_LOG: {error}")))
        }
        _ => settings.parse_filter(),
    };
    begin(io::stderr(), io::stderr().is_terminal(), settings.format, filter)
}

/// Begins to log to `out` as text without colours, whatever `RUST_LOG` says: the lines that `filter`
/// lets through. Else as [`start`].
///
/// # Errors
/// If `filter` is none, or the system gives no thread.
pub fn start_into(out: impl Write + Send + 'static, filter: &str) -> io::Result<Flush> {
    let settings = LogSettings { format: LogFormat::Text, filter: filter.to_owned() };
    begin(out, false, settings.format, settings.parse_filter())
}

fn begin(
    out: impl Write + Send + 'static,
    is_terminal: bool,
    format: LogFormat,
    filter: Result<EnvFilter, InvalidFilter>,
) -> io::Result<Flush> {
    let filter = filter.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let (lines, flush) = Lines::to(out)?;
    // Errors of the log itself are not printed: printing to a closed stderr would panic.
    let layer = tracing_subscriber::fmt::layer().with_writer(lines).log_internal_errors(false);
    let layer = match format {
        LogFormat::Text => layer.compact().with_ansi(is_terminal).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_span_list(false).boxed(),
    };
    // An error says that somebody logs already, and their choice stands.
    let _ = tracing_subscriber::registry().with(layer.with_filter(filter)).try_init();
    panic::set_hook(Box::new(log_panic));
    Ok(flush)
}

fn log_panic(panic: &panic::PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    tracing::error!(panic.place = place, thread.name = thread, "a task panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_checked_before_it_is_used() {
        let settings =
            |filter: &str| LogSettings { format: LogFormat::Text, filter: filter.to_owned() };
        assert!(settings("warn,ringback=debug").parse_filter().is_ok());
        assert!(settings("ringback=loud").parse_filter().is_err());
    }
}
