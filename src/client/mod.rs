//! A client of the HTTP API, typed with the server's own requests and answers.
//!
//! Every call ends, in what the server says or in a [`ClientError`] that tells a refusal from a
//! server that can't be reached. Each request has a time limit, but for a streamed upload: that goes
//! on for as long as the server takes some of it. A batch under an idempotency key is submitted up
//! to five times. Redirects are not
//! followed. What is read into memory is bounded; lists are read page by page. The API key is
//! never printed.

mod callbacks;
mod error;
mod exchange;
mod pages;
mod providers;
mod submit;
mod suppressions;
#[cfg(test)]
mod tests;
mod upload;

use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use reqwest::{RequestBuilder, redirect::Policy};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

pub use self::{
    callbacks::CallbackFilter, error::ClientError, pages::BatchFilter, submit::Submitted,
};
use crate::{api::model::BatchResource, domain::ids::BatchId};

/// How long a connection may take.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// How long the server may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// How long an unused connection is kept: less than servers and balancers do.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// A client of one server. Clones share its connections.
///
/// ```no_run
/// # use ringback::{api::model::{RecipientInput, SubmitBatch}, client::{Client, ClientError}};
/// # async fn greet() -> Result<(), ClientError> {
/// let client = Client::new("http://127.0.0.1:8080", None)?;
/// let batch = SubmitBatch {
///     body: "Hello".into(),
///     recipients: vec![RecipientInput::Number("+15551230001".into())],
///     ..SubmitBatch::default()
/// };
/// // Under a key, what may have been lost is repeated, and is never sent twice.
/// let submitted = client.submit(&batch, Some("greeting-1")).await?;
/// println!("{}", submitted.batch.id);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// Without a slash at its end.
    base: Arc<str>,
}

// === impl Client ===

impl Client {
    /// A client of the server at `url`, which may have a path that the API's paths are put after.
    /// The environment's proxies serve it unless `url` is on this machine.
    ///
    /// # Errors
    /// [`ClientError::Settings`] if the URL or the key can't be used.
    pub fn new(url: &str, api_key: Option<SecretString>) -> Result<Self, ClientError> {
        let base = base(url)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("ringback/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIME)
            .pool_idle_timeout(IDLE_TIME)
            .tcp_nodelay(true);
        if is_loopback(&base) {
            builder = builder.no_proxy();
        }
        if let Some(key) = api_key {
            builder = builder.default_headers(authorization(&key)?);
        }
        let http = builder.build().map_err(|error| {
            ClientError::Settings(format!("can't speak HTTPS: {}", error::innermost(&error)))
        })?;
        Ok(Self { http, base: base.as_str().trim_end_matches('/').into() })
    }

    /// The server's URL, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.base
    }

    /// A batch as it stands.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn batch(&self, id: BatchId) -> Result<BatchResource, ClientError> {
        self.json(self.get(&format!("/v1/batches/{id}"))).await
    }

    /// Cancels a batch; gives it as it stands then.
    ///
    /// # Errors
    /// [`ClientError`]; `batch_state` if it is over.
    pub async fn cancel(&self, id: BatchId) -> Result<BatchResource, ClientError> {
        self.json(self.post(&format!("/v1/batches/{id}/cancel"))).await
    }

    /// Pauses a batch; gives it as it stands then.
    ///
    /// # Errors
    /// [`ClientError`]; `batch_state` if it is over.
    pub async fn pause(&self, id: BatchId) -> Result<BatchResource, ClientError> {
        self.json(self.post(&format!("/v1/batches/{id}/pause"))).await
    }

    /// Resumes a paused batch; gives it as it stands then.
    ///
    /// # Errors
    /// [`ClientError`]; `batch_state` if it is over.
    pub async fn resume(&self, id: BatchId) -> Result<BatchResource, ClientError> {
        self.json(self.post(&format!("/v1/batches/{id}/resume"))).await
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.http.get(format!("{}{path}", self.base)).timeout(ANSWER_TIME)
    }

    fn delete(&self, path: &str) -> RequestBuilder {
        self.http.delete(format!("{}{path}", self.base)).timeout(ANSWER_TIME)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.base)).timeout(ANSWER_TIME)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Reads a server's URL. What it says of a wrong one does not repeat it: it may hold a password.
fn base(url: &str) -> Result<Url, ClientError> {
    let wrong = |why: &str| {
        ClientError::Settings(format!(
            "the server's URL {why}; it is given as in http://127.0.0.1:8080"
        ))
    };
    let base = Url::parse(url).map_err(|error| wrong(&format!("is none ({error})")))?;
    if !matches!(base.scheme(), "http" | "https") {
        return Err(wrong("is neither http nor https"));
    }
    if !base.username().is_empty() || base.password().is_some() {
        return Err(wrong("has a user in it"));
    }
    if base.query().is_some() || base.fragment().is_some() {
        return Err(wrong("has a query or fragment"));
    }
    Ok(base)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

fn authorization(key: &SecretString) -> Result<HeaderMap, ClientError> {
    let mut value =
        HeaderValue::from_str(&format!("Bearer {}", key.expose_secret())).map_err(|_| {
            ClientError::Settings("the API key has characters that no key has".to_owned())
        })?;
    value.set_sensitive(true);
    Ok(HeaderMap::from_iter([(AUTHORIZATION, value)]))
}
