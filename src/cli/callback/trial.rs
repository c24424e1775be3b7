//! `ringback callback test`: tries a receiver out.

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use crate::{
    api::model::{Hidden, TestCallback, TestedCallback},
    cli::{
        Failure, print,
        remote::Remote,
        table::{self, Table},
    },
    client::Client,
};

#[derive(Debug, Args)]
pub(super) struct Trial {
    /// Where the ping is sent, by the server and by its rules
    #[arg(value_name = "URL")]
    to: String,

    /// A header to send it with; may be given more than once
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = header)]
    headers: Vec<(String, Hidden)>,

    /// The secret to sign with, `whsec_…`; that of the account if not given
    #[arg(long, value_name = "SECRET", env = "RINGBACK_CALLBACK_SECRET", hide_env_values = true)]
    secret: Option<SecretString>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

// === impl Trial ===

impl Trial {
    pub(super) fn run(self) -> Result<(), Failure> {
        // A variable that is set to nothing gives no secret.
        let secret = self.secret.filter(|secret| !secret.expose_secret().is_empty());
        let test = TestCallback {
            url: self.to,
            headers: BTreeMap::from_iter(self.headers),
            secret: secret.map(|secret| Hidden(secret.expose_secret().to_owned())),
        };
        let request = |client: Client| async move { Ok(client.test_callback(&test).await?) };
        let tested = self.remote.run(request)?;
        print(&if self.json { table::json_line(&tested)? } else { text(&tested) })?;
        if tested.delivered { Ok(()) } else { Err(Failure::Silent) }
    }
}

/// Reads a header as it is written in HTTP.
fn header(text: &str) -> Result<(String, Hidden), String> {
    let (name, value) = text.split_once(':').ok_or("this is a name, a colon and a value")?;
    Ok((name.trim().to_owned(), Hidden(value.trim().to_owned())))
}

fn text(tested: &TestedCallback) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let about = Table::of_pairs([
        ("host", tested.url_host.clone()),
        ("status", or_dash(tested.status.map(|status| status.to_string()))),
        ("took", table::duration(Duration::from_millis(tested.latency_ms))),
        ("answer", or_dash(tested.answer.clone())),
        ("error", or_dash(tested.error.clone())),
    ]);
    let verdict = if tested.delivered {
        "The receiver has taken the ping."
    } else {
        "The receiver has not taken the ping."
    };
    format!("{}{verdict}\n", about.text())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_is_told_with_its_verdict() {
        let tested = TestedCallback {
            url_host: "hooks.example:443".into(),
            status: Some(401),
            latency_ms: 12,
            answer: Some("who\n are you?".into()),
            error: Some("the receiver answered 401".into()),
            delivered: false,
        };
        assert_eq!(
            text(&tested),
            "host    hooks.example:443\nstatus  401\ntook    12ms\nanswer  who\u{fffd} are you?\n\
             error   the receiver answered 401\nThe receiver has not taken the ping.\n"
        );
    }

    #[test]
    fn a_header_is_a_name_and_a_value_that_is_never_printed() {
        let (name, value) = header("X-Token: hu:sh").unwrap();
        assert_eq!((name.as_str(), value.0.as_str()), ("X-Token", "hu:sh"));
        assert!(!format!("{value:?}").contains("hu"));
        assert!(header("X-Token").is_err());
    }
}
