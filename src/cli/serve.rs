//! `ringback serve`: runs the server.

use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::{ConfigFile, Failure};
use crate::{
    app::{self, Ending, Roles},
    settings::Settings,
    telemetry,
};

/// Run the server: all roles in one process, or those named
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  ringback serve --config ringback.toml --role worker")]
pub(super) struct Serve {
    #[command(flatten)]
    config: ConfigFile,

    /// A role of this process, may be given more than once; all of them if none is given
    #[arg(long = "role", value_enum, value_name = "ROLE")]
    roles: Vec<Role>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Answers the HTTP API
    Api,
    /// Sends messages
    Worker,
    /// Delivers callbacks
    Notifier,
}

// === impl Serve ===

impl Serve {
    pub(super) fn run(self) -> Result<(), Failure> {
        let settings = Settings::load(self.config.path.as_deref())?;
        let findings = settings.check();
        if !findings.errors.is_empty() {
            return Err(Failure::Configuration(findings.errors.join("; ")));
        }
        let flush = telemetry::start(&settings.log)
            .map_err(|error| Failure::Configuration(format!("can't log: {error}")))?;
        for warning in &findings.warnings {
            tracing::warn!("configuration: {warning}");
        }
        let (roles, file) = (self.roles(), self.config.path);
        let ending = app::run(settings, roles, Arc::new(move || Settings::load(file.as_deref())));
        drop(flush);
        match ending {
            Ending::Orderly => Ok(()),
            Ending::Cut | Ending::Failed => Err(Failure::Silent),
        }
    }

    fn roles(&self) -> Roles {
        let has = |role| self.roles.is_empty() || self.roles.contains(&role);
        Roles { api: has(Role::Api), worker: has(Role::Worker), notifier: has(Role::Notifier) }
    }
}
