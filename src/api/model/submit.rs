//! The body of `POST /v1/batches`, as a client writes it.
//!
//! The server does not read it through these types: it reads in one pass, straight into chunks,
//! and lists everything that is wrong at once.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::EventType;
use crate::domain::{
    batch::{DeliveryGuarantee, Priority},
    message::MessageState,
    quiet_hours,
};

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
    /// Where the completion is reported. `callback_headers`, `callback_secret`, `callback_auth`,
    /// `events` and `progress_every` need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "https://example.com/hooks/sms")]
    pub callback_url: Option<String>,
    /// Headers to report it with; at most 20, together at most 4 KiB. Never shown again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, String>)]
    pub callback_headers: BTreeMap<String, Hidden>,
    /// The secret to sign with instead of the account's: `whsec_` and the base64 of 24 to 64 bytes.
    /// Never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(write_only, value_type = Option<String>, example = "whsec_…")]
    pub callback_secret: Option<Hidden>,
    /// What to authenticate with: it becomes the header `authorization`. Never shown again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(write_only, example = json!({"type": "bearer", "token": "…"}))]
    pub callback_auth: Option<CallbackAuth>,
    /// What is reported; `batch.completed` always is, named or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(example = json!(["batch.completed", "batch.progress"]))]
    pub events: Vec<EventType>,
    /// How often `batch.progress` is reported: whenever so many more percent of the messages are
    /// final (`1%` to `99%`), or at most once in a duration (`1s` to `24h`). `10%` if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "10%")]
    pub progress_every: Option<String>,
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
    /// When the first message may leave, at most 365 days ahead; at once if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2026-12-01T09:00:00Z")]
    pub send_at: Option<String>,
    /// What has not left by then never does, and ends as `expired`; at most 365 days ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2026-12-01T12:00:00Z")]
    pub expire_at: Option<String>,
    /// How often it has a turn, beside batches of other priorities: of 21 turns high ones have 16,
    /// normal ones 4 and low ones 1.
    #[serde(default)]
    pub priority: Priority,
    /// What becomes of messages that may or may not have been accepted: they are submitted again
    /// (`at_least_once`), or end as `unknown` (`at_most_once`).
    #[serde(default)]
    pub delivery_guarantee: DeliveryGuarantee,
    /// How fast its messages may leave, over all workers, beside the provider's own rate: so it is spread
    /// over time. A number and `/s`, `/m` or `/h`. No limit of its own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = "50/s")]
    pub rate: Option<String>,
    /// Local hours in which none of its messages leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet_hours: Option<QuietHours>,
    /// Whether typographic characters, such as curly quotes, dashes and non-breaking spaces, are
    /// replaced by characters of GSM-7 after rendering, in texts that become GSM-7 by that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub smart_encoding: bool,
    /// The most segments that a message may take. One that takes more ends as `failed` with
    /// `too_many_segments`, and is never sent. No limit if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 255, example = 3)]
    pub max_segments: Option<u8>,
    /// What becomes of recipients that are no E.164 numbers.
    #[serde(default)]
    pub on_invalid: OnInvalid,
    /// What becomes of recipients whose number the batch has already.
    #[serde(default)]
    pub duplicates: Duplicates,
}

/// A window of local hours, every day. It may go over midnight.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietHours {
    /// The local time from which on nothing leaves.
    #[schema(example = "21:00")]
    pub start: String,
    /// The local time from which on messages leave again.
    #[schema(example = "08:00")]
    pub end: String,
    /// The zone of these times, for all recipients of the batch.
    #[schema(example = "Europe/Berlin")]
    pub time_zone: String,
}

/// A batch as a form: two parts, in this order.
#[derive(Clone, Debug, ToSchema)]
pub struct BatchForm {
    /// The batch without `recipients`, as JSON; at most 64 KiB.
    #[schema(example = "{\"body\": \"Hi {{name}}\"}")]
    pub settings: String,
    /// The recipients, as `text/csv`; of any size. The part may be called `file` as well.
    #[schema(format = Binary, content_media_type = "text/csv")]
    pub list: String,
}

/// What of a batch is to be another way. What is absent stays; `null` takes a time or a limit away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AmendBatch {
    /// The text of every message; at most 16 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// When the first message may leave, at most 365 days ahead; at once if `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2026-12-01T09:00:00Z")]
    pub send_at: Option<String>,
    /// What has not left by then never does; at most 365 days ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, example = "2026-12-01T12:00:00Z")]
    pub expire_at: Option<String>,
    /// Whether typographic characters are replaced by characters of GSM-7.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smart_encoding: Option<bool>,
    /// The most segments that a message may take; no limit if `null`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 255)]
    pub max_segments: Option<u8>,
}

/// Which messages of a batch are to be tried again, as a new batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryBatch {
    /// The states they ended in: `failed`, `expired`, `canceled`, `undelivered` or `unknown`. One that
    /// is `unknown` may have been sent.
    #[schema(example = json!(["failed", "expired"]))]
    pub states: Vec<MessageState>,
}

/// What a callback authenticates itself with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum CallbackAuth {
    /// Basic (RFC 7617).
    Basic {
        /// Without a colon; at most 256 bytes.
        username: String,
        /// At most 1 KiB.
        #[schema(write_only, value_type = String)]
        password: Hidden,
    },
    /// Bearer (RFC 6750).
    Bearer {
        /// Visible ASCII characters; at most 4 KiB.
        #[schema(write_only, value_type = String)]
        token: Hidden,
    },
}

/// A secret on its way to the server: it is written in requests, and printed as stars.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

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

/// What becomes of recipients whose number the batch has already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// Each gets a message of its own.
    #[default]
    Keep,
    /// Only the first one gets a message; the others are left out, and are no part of the counts.
    Skip,
}

// === impl QuietHours ===

impl From<quiet_hours::QuietHours> for QuietHours {
    fn from(quiet: quiet_hours::QuietHours) -> Self {
        Self {
            start: quiet.start.to_string(),
            end: quiet.end.to_string(),
            time_zone: quiet.time_zone,
        }
    }
}

// === impl Hidden ===

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("********")
    }
}
