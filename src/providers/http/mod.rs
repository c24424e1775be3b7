//! Kind `http`: each message is a POST of a small JSON object to one URL.
//!
//! The answer's head decides what came of it, and for a 2xx its end: see `answer`. The message's
//! id is the idempotency key, the same at every try. Nothing is followed: no redirect, no proxy.
//! This is the hot path of a bulk send, so the request's fixed parts are made once, and
//! connections are kept and shared by all submissions.

mod answer;
mod form;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use http_body_util::Full;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, crypto::aws_lc_rs};
use secrecy::SecretString;
use serde::{Deserialize, Serialize, Serializer};
use tokio::time::{Instant, timeout_at};

use self::form::Form;
use super::{
    CommonSettings, Provider, Submission,
    registry::{InvalidSettings, Kind, KindSettings},
};
use crate::domain::outcome::Outcome;

/// How long an unused connection is kept: shorter than servers and balancers keep theirs, so that
/// few are found closed.
const IDLE: Duration = Duration::from_secs(15);

/// The longest time to wait for a connection, within the time-out of the whole exchange.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The most an answer's head may hold, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

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
}

struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    form: Form,
    timeout: Duration,
}

// === impl HttpSettings ===

impl KindSettings for HttpSettings {
    const WORD: &'static str = "http";
    const KEYS: &'static [&'static str] = &["url", "headers"];
}

impl Kind for HttpSettings {
    fn word(&self) -> &'static str {
        Self::WORD
    }

    fn shown(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self)
    }

    fn build(&self, common: &CommonSettings) -> Result<Arc<dyn Provider>, InvalidSettings> {
        let form = Form::new(self)?;
        let client = client(common, form.is_https())?;
        Ok(Arc::new(Http { client, form, timeout: common.timeout }))
    }
}

impl fmt::Debug for HttpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSettings")
            .field("url", &shown_url(&self.url))
            .field("headers", &self.headers)
            .finish()
    }
}

// === impl Http ===

impl Provider for Http {
    fn submit<'a>(&'a self, submission: Submission<'a>) -> BoxFuture<'a, Outcome> {
        self.exchange(submission).boxed()
    }
}

impl Http {
    async fn exchange(&self, submission: Submission<'_>) -> Outcome {
        let deadline = Instant::now() + self.timeout;
        let request = self.form.request(&submission);
        let (head, body) = match timeout_at(deadline, self.client.request(request)).await {
            Ok(Ok(response)) => response.into_parts(),
            Ok(Err(error)) if error.is_connect() => return answer::unreachable(&error),
            Ok(Err(error)) => return answer::broken(&error),
            Err(_) => return answer::timed_out(self.timeout),
        };
        let body = timeout_at(deadline, answer::read(body)).await;
        if !head.status.is_success() {
            // The head says that it was not accepted; the body could only say why.
            return answer::refused(&head, &body.ok().and_then(Result::ok).unwrap_or_default());
        }
        match body {
            Ok(Ok(body)) => answer::accepted(&body),
            Ok(Err(error)) => answer::broken(&error),
            Err(_) => answer::timed_out(self.timeout),
        }
    }
}

fn client(
    common: &CommonSettings,
    https: bool,
) -> Result<Client<HttpsConnector<HttpConnector>, Full<Bytes>>, InvalidSettings> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(common.timeout.min(CONNECT_MAX)));
    let tls = tls(https).map_err(|error| InvalidSettings::new("url", error.to_string()))?;
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let idle_max = usize::try_from(common.max_in_flight).unwrap_or(usize::MAX);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(idle_max)
        .http1_max_buf_size(HEAD_BYTES_MAX)
        .set_host(false)
        .build(connector))
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

fn masked<S: Serializer>(
    headers: &BTreeMap<String, SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.keys().map(|name| (name, MASK)))
}
