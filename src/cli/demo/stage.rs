//! What the demo plays on: a service and a receiver in this process, on free ports of loopback.

use std::{ffi::OsString, net::Ipv4Addr, path::Path};

use anyhow::{Context, bail};
use tokio::sync::mpsc;

use super::{
    super::listen::{
        receiver::{Desk, Receiver, Reply},
        report::Report,
    },
    Failure, Interrupt, LOG_FILE, pour, print,
};
use crate::{
    app::{self, Ending, Roles, Service, receiving::Verifier},
    client::Client,
    settings::{Layers, Settings},
};

/// Where callbacks go at the receiver.
const CALLBACK_PATH: &str = "/hooks/sms";

/// See the module.
pub(super) struct Stage {
    service: Service,
    receiver: Receiver,
    /// What the receiver gets.
    pub(super) reports: mpsc::Receiver<Report>,
    /// A client of the service.
    pub(super) client: Client,
}

// === impl Stage ===

impl Stage {
    /// Starts both; the service keeps its store in `folder`.
    pub(super) async fn set(folder: &Path) -> anyhow::Result<Self> {
        let secret = app::new_signing_secret();
        let settings = settings(folder, &secret)?;
        let desk = Desk::new(vec![Verifier::parse(&secret)?], Reply::Taken);
        let started = Receiver::start((Ipv4Addr::LOCALHOST, 0).into(), desk).await;
        let (receiver, reports) = started.context("can't listen for callbacks")?;
        let service = Service::start(settings, Roles::ALL).await.context("can't start")?;
        let address = service.api_address().context("the service has no address")?;
        let client = Client::new(&format!("http://{address}"), None)?;
        Ok(Self { service, receiver, reports, client })
    }

    /// Where the receiver takes callbacks.
    pub(super) fn callback_url(&self) -> String {
        format!("http://{}{CALLBACK_PATH}", self.receiver.address())
    }

    /// How many callbacks have come that nobody has looked at.
    pub(super) fn further_callbacks(&mut self) -> usize {
        let mut further = 0;
        while self.reports.try_recv().is_ok() {
            further += 1;
        }
        further
    }

    /// Leaves both running until Ctrl-C, and prints what callbacks come.
    pub(super) async fn keep(
        &mut self,
        folder: &Path,
        interrupt: &mut Interrupt,
    ) -> Result<(), Failure> {
        print(&self.invitation(folder))?;
        loop {
            tokio::select! {
                Some(report) = self.reports.recv() => if !pour(&report.text())? {
                    return Ok(());
                },
                _ = self.service.ended() => {
                    return Err(anyhow::anyhow!("the service has ended by itself").into());
                }
                () = interrupt.next() => return Ok(()),
            }
        }
    }

    /// Ends both in order. Unless callbacks were waited for to the last, none may have come
    /// meanwhile.
    pub(super) async fn strike(mut self, callbacks_may_come: bool) -> Result<(), Failure> {
        let ending = self.service.stop().await;
        self.receiver.stop();
        let mut late = 0;
        while self.reports.recv().await.is_some() {
            late += 1;
        }
        if ending != Ending::Orderly {
            return Err(anyhow::anyhow!("the service did not stop in order").into());
        }
        if late > 0 && !callbacks_may_come {
            return Err(anyhow::anyhow!("{late} more callbacks came at the end").into());
        }
        Ok(())
    }

    fn invitation(&self, folder: &Path) -> String {
        let (url, callback_url) = (self.client.url(), self.callback_url());
        let log = folder.join(LOG_FILE);
        format!(
            "Both go on until Ctrl-C, and callbacks are printed here. In another terminal:\n\n  \
             curl -i {url}/v1/batches --json '{{\n    \
             \"body\": \"Hi {{{{name}}}}\", \"callback_url\": \"{callback_url}\",\n    \
             \"recipients\": [{{\"to\": \"+15551230001\", \"variables\": {{\"name\": \"Ann\"}}}}]}}'\n  \
             ringback batch list --url {url}\n  \
             tail -f {}\n\n",
            log.display()
        )
    }
}

/// The built-in configuration, and over it only what the demo needs.
fn settings(folder: &Path, secret: &str) -> anyhow::Result<Settings> {
    let mut store = OsString::from("embedded:");
    store.push(folder.join("store"));
    let variables = [
        ("RINGBACK__STORE__URL", store),
        ("RINGBACK__SERVER__LISTEN", "127.0.0.1:0".into()),
        ("RINGBACK__CALLBACKS__ALLOW_PRIVATE_NETWORKS", "true".into()),
        ("RINGBACK__CALLBACKS__SIGNING_SECRETS", secret.into()),
    ];
    let variables = variables.map(|(name, value)| (name.into(), value));
    let settings = Layers::read(None, variables)?.settings()?;
    match settings.check().errors.as_slice() {
        [] => Ok(settings),
        errors => bail!("{}", errors.join("; ")),
    }
}
