//! Kind `http`: each message is a POST of a small JSON object to one URL.
//!
//! The answer's head decides what came of it, and for a 2xx its end: see `answer`. The message's
//! id is the idempotency key, the same at every try. Nothing is followed: no redirect, no proxy.
//! This is the hot path of a bulk send, so the request's fixed parts are made once, and
//! connections are kept and shared by all submissions.

mod answer;
mod form;
mod pool;
mod receipts;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http::{Request, response::Parts};
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, crypto::aws_lc_rs};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::timeout;

use self::{form::Form, pool::Pool};
use super::{
    CommonSettings, Provider, ReceiptCall, ReceiptRefusal, Submission,
    registry::{InvalidSettings, Kind, KindSettings, Site},
};
use crate::domain::{outcome::Outcome, receipt::Receipt, signature::SigningSecret};

/// The longest time to wait for a connection, within the time-out of the whole exchange.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// What stands for a secret value where settings are shown.
const MASK: &str = "********";

/// An HTTP provider's own settings.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpSettings {
    /// Where messages are posted to.
    #[serde(serialize_with = "without_query")]
    pub url: String,
    /// Headers to add. Their values are secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", serialize_with = "masked")]
    pub headers: BTreeMap<String, SecretString>,
    /// What its receipts are signed with: `whsec_` and base64.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "masked_one")]
    pub receipt_secret: Option<SecretString>,
}

struct Http {
    pool: Pool,
    form: Form,
    timeout: Duration,
    /// What its receipts are signed with, if it reports any.
    receipts: Option<SigningSecret>,
}

// === impl HttpSettings ===

impl KindSettings for HttpSettings {
    const WORD: &'static str = "http";
    const KEYS: &'static [&'static str] = &["url", "headers", "receipt_secret"];
}

impl Kind for HttpSettings {
    fn word(&self) -> &'static str {
        Self::WORD
    }

    fn shown(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self)
    }

    fn build(&self, site: &Site<'_>) -> Result<Arc<dyn Provider>, InvalidSettings> {
        let form = Form::new(self)?;
        let common = site.common;
        let connector = connector(common, form.is_https())?;
        let idle_max = usize::try_from(common.max_in_flight).unwrap_or(usize::MAX);
        let pool = Pool::new(connector, form.target().clone(), idle_max);
        let receipts = self.receipts(common)?;
        Ok(Arc::new(Http { pool, form, timeout: common.timeout, receipts }))
    }
}

impl HttpSettings {
    /// What receipts are signed with, if they are waited for.
    fn receipts(&self, common: &CommonSettings) -> Result<Option<SigningSecret>, InvalidSettings> {
        let key = "receipt_secret";
        let secret =
            self.receipt_secret.as_ref().map(|text| SigningSecret::parse(text.expose_secret()));
        let secret =
            secret.transpose().map_err(|error| InvalidSettings::new(key, error.to_string()))?;
        match (common.receipts.unwrap_or(false), secret) {
            (true, None) => Err(InvalidSettings::new(key, "receipts = true needs it")),
            (receipts, secret) => Ok(secret.filter(|_| receipts)),
        }
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings")
            .field("url", &shown_url(&self.url))
            .field("headers", &self.headers)
            .field("receipt_secret", &self.receipt_secret)
            .finish()
    }
}

// === impl Http ===

impl Provider for Http {
    fn submit<'a>(&'a self, submission: Submission<'a>) -> BoxFuture<'a, Outcome> {
        self.exchange(submission).boxed()
    }

    fn read_receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefusal> {
        let secret = self.receipts.as_ref().ok_or(ReceiptRefusal::NotTaken)?;
        receipts::read(secret, call)
    }
}

impl Http {
    async fn exchange(&self, submission: Submission<'_>) -> Outcome {
        let request = self.form.request(&submission);
        let mut head = None;
        let read = timeout(self.timeout, self.read(request, &mut head)).await;
        match (head, read) {
            // The head says that it was not accepted; the body could only say why.
            (Some(head), read) if !head.status.is_success() => {
                answer::refused(&head, &read.ok().and_then(Result::ok).unwrap_or_default())
            }
            (_, Ok(Ok(body))) => answer::accepted(&body, self.receipts.is_some()),
            (_, Ok(Err(outcome))) => outcome,
            (_, Err(_)) => answer::timed_out(self.timeout),
        }
    }

    /// Makes the exchange; gives the answer's body, and its head as soon as it is there.
    async fn read(
        &self,
        request: Request<Full<Bytes>>,
        head: &mut Option<Parts>,
    ) -> Result<Bytes, Outcome> {
        let taken = self.pool.take().await;
        let mut connection = taken.map_err(|error| answer::unreachable(&error))?;
        let sent = connection.send(request).await;
        let (parts, body) = sent.map_err(|error| unanswered(&error))?.into_parts();
        *head = Some(parts);
        let body = connection.during(answer::read(body)).await;
        let body = body.map_err(|error| answer::broken(&error))?;
        self.pool.put(connection);
        Ok(body)
    }
}

/// A request that hyper took back was never written.
fn unanswered(error: &hyper::Error) -> Outcome {
    if error.is_canceled() { answer::unreachable(error) } else { answer::broken(error) }
}

fn connector(
    common: &CommonSettings,
    https: bool,
) -> Result<HttpsConnector<HttpConnector>, InvalidSettings> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(common.timeout.min(CONNECT_MAX)));
    let tls = tls(https).map_err(|error| InvalidSettings::new("url", error.to_string()))?;
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    Ok(builder.enable_http1().wrap_connector(tcp))
}

/// Trusts what the machine trusts. A provider without TLS needs no machine that trusts anyone.
fn tls(https: bool) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = if https {
        builder.try_with_platform_verifier()?
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}

/// The URL as an operator may see it: a query often holds a key.
fn shown_url(url: &str) -> String {
    match url.split_once('?') {
        Some((before, _)) => format!("{before}?{MASK}"),
        None => url.to_owned(),
    }
}

fn without_query<S: Serializer>(url: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&shown_url(url))
}

#[expect(clippy::ref_option, reason = "serde gives a reference to the field")]
fn masked_one<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(|_| MASK).serialize(serializer)
}

fn masked<S: Serializer>(
    headers: &BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.keys().map(|name| (name, MASK)))
}
