//! Kind `http`: each message is a POST of a small JSON object to one URL.
//!
//! The answer's head decides what came of it, and for a 2xx its end: see `answer`. The message's
//! id is the idempotency key, the same at every try. Nothing is followed: no redirect, no proxy.
//! This is the hot path of a bulk send, so the request's fixed parts are made once, and
//! connections are kept and shared by all submissions.

mod answer;
mod form;
mod inbound;
mod receipts;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};

use self::form::Form;
use super::{
    Provider, ReceiptCall, ReceiptRefusal, Submission,
    exchange::{BODY_BYTES_MAX, Line, MASK},
    registry::{InvalidSettings, Kind, KindSettings, Site},
};
use crate::domain::{
    inbound::Inbound, outcome::Outcome, receipt::Receipt, signature::SigningSecret,
};

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
    /// What its receipts, and the answers it reports, are signed with: `whsec_` and base64.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "masked_one")]
    pub receipt_secret: Option<SecretString>,
}

struct Http {
    line: Line,
    form: Form,
    /// What its reports are signed with, if it makes any.
    secret: Option<SigningSecret>,
    /// Whether it reports receipts.
    receipts: bool,
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
        let line = Line::new("url", form.target(), site)?;
        let secret = self.secret()?;
        let receipts = site.common.receipts.unwrap_or(false);
        if receipts && secret.is_none() {
            return Err(InvalidSettings::new("receipt_secret", "receipts = true needs it"));
        }
        Ok(Arc::new(Http { line, form, secret, receipts }))
    }
}

impl HttpSettings {
    /// What its reports are signed with.
    fn secret(&self) -> Result<Option<SigningSecret>, InvalidSettings> {
        let parse = |text: &SecretString| SigningSecret::parse(text.expose_secret());
        let secret = self.receipt_secret.as_ref().map(parse).transpose();
        secret.map_err(|error| InvalidSettings::new("receipt_secret", error.to_string()))
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
        let secret = self.secret.as_ref().filter(|_| self.receipts);
        receipts::read(secret.ok_or(ReceiptRefusal::NotTaken)?, call)
    }

    fn read_inbound(&self, call: &ReceiptCall<'_>) -> Result<Inbound, ReceiptRefusal> {
        let secret = self.secret.as_ref().ok_or(ReceiptRefusal::NotTaken)?;
        inbound::read(secret, call)
    }
}

impl Http {
    async fn exchange(&self, submission: Submission<'_>) -> Outcome {
        let request = self.form.request(&submission);
        match self.line.exchange(request, BODY_BYTES_MAX).await {
            // The head says that it was not accepted; the body could only say why.
            Ok(refusal) if !refusal.head.status.is_success() => {
                answer::refused(&refusal.head, &refusal.body.unwrap_or_default())
            }
            Ok(answer) => match answer.body {
                Ok(body) => answer::accepted(&body, self.receipts),
                Err(outcome) => outcome,
            },
            Err(outcome) => outcome,
        }
    }
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
