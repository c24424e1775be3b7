//! What Twilio says in a request that it makes, once its signature is known to hold.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::{
    domain::twilio_signature::{self, Content},
    providers::{ReceiptCall, ReceiptRefusal},
};

/// What a request says, by name.
pub(super) struct Report(Vec<(String, String)>);

// === impl Report ===

impl Report {
    /// What the request says, if it is signed with `token`.
    ///
    /// # Errors
    /// [`ReceiptRefusal`], if it is not, or can't be read.
    pub(super) fn read(
        token: &SecretString,
        call: &ReceiptCall<'_>,
    ) -> Result<Self, ReceiptRefusal> {
        let header = |name: &str| call.headers.get(name).and_then(|value| value.to_str().ok());
        let signature = header(twilio_signature::HEADER).ok_or(ReceiptRefusal::Forged)?;
        let kind = header("content-type").map_or("", |text| text.split(';').next().unwrap_or(text));
        let is_form = kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded");
        let params = if is_form { twilio_signature::params(call.body) } else { Vec::new() };
        let content = if is_form { Content::Form(&params) } else { Content::Body(call.body) };
        if !twilio_signature::verify(token.expose_secret(), call.url, content, signature) {
            return Err(ReceiptRefusal::Forged);
        }
        if is_form {
            let owned = |(name, value): (_, _)| (String::from(name), String::from(value));
            return Ok(Self(params.into_iter().map(owned).collect()));
        }
        let Ok(Value::Object(fields)) = serde_json::from_slice(call.body) else {
            return Err(malformed("it is neither a form nor a JSON object"));
        };
        let texts = fields.into_iter().filter_map(|(name, value)| match value {
            Value::String(text) => Some((name, text)),
            Value::Number(number) => Some((name, number.to_string())),
            _ => None,
        });
        Ok(Self(texts.collect()))
    }

    /// The value of a field, if there is one.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }
}

pub(super) fn malformed(what: &str) -> ReceiptRefusal {
    ReceiptRefusal::Malformed(what.to_owned())
}
