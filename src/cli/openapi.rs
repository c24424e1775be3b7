//! `ringback openapi`: the HTTP API's description.

use clap::Args;

use super::{Failure, print};
use crate::app;

/// Print the description of the HTTP API, for tools that read such
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ringback openapi > openapi.json")]
pub(super) struct Openapi {}

// === impl Openapi ===

impl Openapi {
    #[expect(clippy::unused_self, reason = "every command is run in the same way")]
    pub(super) fn run(self) -> Result<(), Failure> {
        print(&(app::openapi_json() + "\n"))
    }
}
