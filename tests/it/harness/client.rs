//! A client of the HTTP API.

use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use reqwest::{
    Method,
    header::{CONTENT_TYPE, HeaderMap},
};
use serde_json::Value;

use super::{PATIENCE, eventually};

/// The client. It follows no redirect and gives up after [`PATIENCE`].
#[derive(Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: String,
    key: Option<String>,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its status.
    pub(crate) status: u16,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) text: String,
}

// === impl Client ===

impl Client {
    /// A client of the API at `base`, without a key.
    pub(crate) fn of(base: &str) -> Self {
        let http = builder().build().unwrap();
        Self { http, base: base.to_owned(), key: None }
    }

    /// The same, of a server whose certificate leads to `root`. It keeps no connection open.
    pub(crate) fn trusting(base: &str, root: reqwest::Certificate) -> Self {
        let http = builder().tls_certs_only([root]).pool_max_idle_per_host(0).build().unwrap();
        Self { http, base: base.to_owned(), key: None }
    }

    /// The same client with an API key.
    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    /// Posts a batch as JSON.
    pub(crate) async fn post_batch(&self, batch: &Value) -> Answer {
        self.post("/v1/batches", &[], batch.to_string()).await
    }

    /// Posts a batch as JSON, under an idempotency key.
    pub(crate) async fn post_batch_once(&self, key: &str, batch: &Value) -> Answer {
        self.post("/v1/batches", &[("idempotency-key", key)], batch.to_string()).await
    }

    /// The same, if anybody answers.
    pub(crate) async fn try_post_batch_once(&self, key: &str, batch: &Value) -> Option<Answer> {
        let request = self.request(Method::POST, "/v1/batches").body(batch.to_string());
        let request = request.header(CONTENT_TYPE, "application/json");
        read(request.header("idempotency-key", key)).await.ok()
    }

    /// Posts a body, as JSON unless `headers` say otherwise.
    pub(crate) async fn post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Answer {
        let mut request = self.request(Method::POST, path).body(body);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str())) {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request).await.unwrap()
    }

    /// Posts JSON, if anybody answers.
    pub(crate) async fn try_post(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Option<Answer> {
        let request = self.request(Method::POST, path).header(CONTENT_TYPE, "application/json");
        let with =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        read(with.body(body)).await.ok()
    }

    /// Gets a path.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        read(self.request(Method::GET, path)).await.unwrap()
    }

    /// Deletes a path.
    pub(crate) async fn delete(&self, path: &str) -> Answer {
        read(self.request(Method::DELETE, path)).await.unwrap()
    }

    /// Patches what is at a path with JSON.
    pub(crate) async fn patch(&self, path: &str, body: &Value) -> Answer {
        let request = self.request(Method::PATCH, path).header(CONTENT_TYPE, "application/json");
        read(request.body(body.to_string())).await.unwrap()
    }

    /// Gets a path with these headers.
    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let request = self.request(Method::GET, path);
        let with =
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        read(with).await.unwrap()
    }

    /// What a path gives, piece by piece.
    pub(crate) async fn stream(
        &self,
        path: &str,
    ) -> impl Stream<Item = reqwest::Result<Bytes>> + Unpin + use<> {
        Box::pin(self.request(Method::GET, path).send().await.unwrap().bytes_stream())
    }

    /// Gets a path, if anybody answers.
    pub(crate) async fn try_get(&self, path: &str) -> Option<Answer> {
        read(self.request(Method::GET, path).timeout(Duration::from_secs(2))).await.ok()
    }

    /// Waits until every message of a batch is final, and gives the batch. The service may be down
    /// meanwhile.
    pub(crate) async fn wait_until_complete(&self, id: &str, longest: Duration) -> Value {
        eventually(&format!("the end of {id}"), longest, async || {
            let answer = self.try_get(&format!("/v1/batches/{id}")).await?;
            let batch = (answer.status == 200).then(|| answer.json())?;
            (!batch["completed_at"].is_null()).then_some(batch)
        })
        .await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        }
    }
}

// === impl Answer ===

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.text);
        parsed.unwrap_or_else(|error| panic!("{error} in the answer {}", self.text))
    }

    /// The id of the batch it tells of.
    pub(crate) fn batch_id(&self) -> String {
        let id = self.json()["id"].as_str().map(str::to_owned);
        id.unwrap_or_else(|| panic!("status {}: {}", self.status, self.text))
    }

    /// A header's value; empty if there is none.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(PATIENCE)
}

async fn read(request: reqwest::RequestBuilder) -> reqwest::Result<Answer> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer { status, headers, text: response.text().await? })
}
