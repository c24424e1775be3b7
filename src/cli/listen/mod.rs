//! `ringback listen`: a receiver to try callbacks with.
//!
//! It takes any request on loopback, tells what it is and whether its signature holds, and answers
//! as it is told to: with 200, with failures first, or as another receiver does. A signature that
//! does not hold is told and answered like any other: this is to look, not to judge.

mod attempts;
mod forward;
mod pretty;
pub(super) mod receiver;
pub(super) mod report;
pub(super) mod visible;

use std::net::Ipv4Addr;

use anyhow::Context;
use clap::{Args, value_parser};
use http::StatusCode;
use parking_lot::Mutex;
use secrecy::{ExposeSecret, SecretString};
use tokio::{runtime, sync::mpsc};
use url::Url;

use self::{
    forward::Forwarder,
    receiver::{Desk, Receiver, Reply},
    report::{Report, Signature},
};
use super::{Failure, interrupt::Interrupt, pour, say};
use crate::app::receiving::Verifier;

/// Receive callbacks and print them: headers, body, and whether the signature holds
///
/// It listens on 127.0.0.1 and answers every request with 200 until it is interrupted. To let a
/// server deliver to it, start that with `RINGBACK__CALLBACKS__ALLOW_PRIVATE_NETWORKS=true`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ringback listen --secret \"$(ringback secret show)\"
  ringback listen --status 500 --times 3                          # to see retries
  ringback listen --forward http://127.0.0.1:3000/hooks/sms       # to look on
  ringback listen --json | jq .headers")]
pub(super) struct Listen {
    /// The port on 127.0.0.1; 0 takes a free one and prints it
    // Beside 8080, where the server listens by default.
    #[arg(long, default_value_t = 8090)]
    port: u16,

    /// A signing secret to check with, `whsec_…`, or a public key, `whpk_…`; may be given more than
    /// once, or several at once with commas or blanks between them
    #[arg(
        long = "secret",
        value_name = "SECRET",
        env = "RINGBACK_WEBHOOK_SECRET",
        hide_env_values = true,
        value_parser = value_parser!(SecretString)
    )]
    secrets: Vec<SecretString>,

    /// Answer with this status instead of 200
    #[arg(long, value_parser = status, conflicts_with = "forward")]
    status: Option<StatusCode>,

    /// Answer so only this many times, then with 200
    #[arg(long, value_name = "N", requires = "status")]
    times: Option<u64>,

    /// Pass each request on to this URL, and answer as it does; 502 if it does not
    #[arg(long, value_name = "URL", value_parser = http_url)]
    forward: Option<Url>,

    /// Print one JSON object a request, each on a line
    #[arg(long)]
    json: bool,
}

/// What came, to sum it up.
#[derive(Default)]
struct Tally {
    requests: u64,
    repeats: u64,
    holding: u64,
    failing: u64,
}

// === impl Listen ===

impl Listen {
    pub(super) fn run(self) -> Result<(), Failure> {
        let verifiers = self.verifiers()?;
        let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.context("can't start")?;
        runtime.block_on(self.receive(verifiers))
    }

    fn verifiers(&self) -> Result<Vec<Verifier>, Failure> {
        let texts = self.secrets.iter().flat_map(|texts| {
            let texts = texts.expose_secret().split([',', ' ', '\n']).map(str::trim);
            texts.filter(|text| !text.is_empty())
        });
        let parsed = texts.enumerate().map(|(place, text)| {
            Verifier::parse(text)
                .map_err(|error| Failure::Usage(format!("--secret, number {}: {error}", place + 1)))
        });
        parsed.collect()
    }

    async fn receive(self, verifiers: Vec<Verifier>) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new().context("can't start")?;
        let address = (Ipv4Addr::LOCALHOST, self.port).into();
        let desk = Desk::new(verifiers, self.reply()?);
        let started = Receiver::start(address, desk).await;
        let (receiver, mut reports) =
            started.with_context(|| format!("can't listen on {address}"))?;
        say(&format!("listening on http://{}; Ctrl-C ends it", receiver.address()));
        let mut tally = Tally::default();
        tokio::select! {
            printed = self.print(&mut reports, &mut tally) => printed?,
            () = interrupt.next() => {}
        }
        // What is open is still answered and told of, unless a second Ctrl-C cuts it short.
        receiver.stop();
        tokio::select! {
            printed = self.print(&mut reports, &mut tally) => printed?,
            () = interrupt.next() => {}
        }
        say(&tally.summary());
        Ok(())
    }

    fn reply(&self) -> anyhow::Result<Reply> {
        Ok(match (&self.forward, self.status) {
            (Some(url), _) => {
                let forwarder = Forwarder::new(url.clone());
                Reply::Forward(forwarder.context("can't forward")?)
            }
            (None, Some(status)) => {
                Reply::Status { status, times: self.times, given: Mutex::new(0) }
            }
            (None, None) => Reply::Taken,
        })
    }

    /// Prints reports until there are no more, or nobody reads them.
    async fn print(
        &self,
        reports: &mut mpsc::Receiver<Report>,
        tally: &mut Tally,
    ) -> Result<(), Failure> {
        while let Some(report) = reports.recv().await {
            tally.count(&report);
            let text = if self.json { report.json() } else { report.text() };
            if !pour(&text)? {
                break;
            }
        }
        Ok(())
    }
}

// === impl Tally ===

impl Tally {
    fn count(&mut self, report: &Report) {
        self.requests += 1;
        self.repeats += u64::from(report.attempt.is_some_and(|attempt| attempt.number > 1));
        self.holding += u64::from(report.signature.holds());
        self.failing += u64::from(matches!(report.signature, Signature::Fails(_)));
    }

    fn summary(&self) -> String {
        let Self { requests, repeats, holding, failing } = self;
        let word = if *requests == 1 { "request" } else { "requests" };
        format!(
            "{requests} {word}: {repeats} repeated, {holding} with a signature that holds, \
             {failing} with one that does not"
        )
    }
}

fn status(text: &str) -> Result<StatusCode, String> {
    let status = text.parse().ok().filter(|status| (200..=599).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    status.ok_or_else(|| "a status is a number from 200 to 599".to_owned())
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err("give an http or https URL".to_owned()),
    }
}
