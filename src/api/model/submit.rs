//! The body of `POST /v1/batches`, as a client writes it.
//!
//! The server does not read it through these types: it reads in one pass, straight into chunks,
//! and lists everything that is wrong at once.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A batch to be sent. Only `body` and `recipients` are required; `from` too, where the provider
/// has no sender of its own and needs one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubmitBatch {
    /// The sender: 1 to 64 visible ASCII characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "+15550001111")]
    pub from: Option<String>,
    /// The text of every message, with variables in double braces; at most 16 KiB.
    #[schema(example = "Hi {{name}}, your code is {{code}}")]
    pub body: String,
    /// Whom to send it to.
    pub recipients: Vec<RecipientInput>,
    /// Values for variables that a recipient does not give; at most 100.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, VariableValue>,
    /// Where the completion is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://example.com/hooks/sms")]
    pub callback_url: Option<String>,
    /// Headers to report it with; at most 20, together at most 4 KiB. Never shown again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub callback_headers: BTreeMap<String, String>,
    /// The provider the messages leave through; the default one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The client's own name for the batch; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Any JSON, at most 4 KiB, echoed as given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    pub metadata: Option<Box<RawValue>>,
    /// What becomes of recipients that are no E.164 numbers.
    #[serde(default)]
    pub on_invalid: OnInvalid,
}

/// A recipient: its number, or an object with more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Recipient)]
pub enum RecipientInput {
    /// The number in E.164 form.
    #[schema(example = "+15551230001")]
    Number(String),
    /// The number with variables and a reference.
    Object(RecipientObject),
}

/// A recipient with its own variables.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RecipientObject {
    /// The number in E.164 form.
    #[schema(example = "+15551230002")]
    pub to: String,
    /// Its own values for variables; at most 100.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, VariableValue>,
    /// The client's own name for the message; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "user-42")]
    pub reference: Option<String>,
}

/// A variable's value. Numbers are put in as they were written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum VariableValue {
    /// A text, at most 16 KiB.
    Text(String),
    /// A number.
    #[schema(value_type = f64)]
    Number(serde_json::Number),
    /// `true` or `false`.
    Bool(bool),
}

/// What becomes of recipients that are no E.164 numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnInvalid {
    /// Each becomes a failed message, and the others are sent.
    #[default]
    FailMessage,
    /// The whole batch is refused.
    RejectBatch,
}
