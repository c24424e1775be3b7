//! What the process says of itself: log lines for people, figures for Prometheus.
//!
//! Neither can hold up the work: a log line that nobody reads is dropped, and a figure is one
//! atomic addition. Both are of this process only; what the whole installation has done is in the
//! store, and the API reads it there.

mod logs;
mod metrics;
mod writer;

pub use logs::{InvalidFilter, LogFormat, LogSettings, start, start_into};
pub use metrics::{CallbackResult, Metrics};
pub use writer::Flush;
