//! What a batch would come to, as clients see it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a batch would come to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// The provider its messages would leave through.
    #[schema(example = "carrier")]
    pub provider: String,
    /// How many messages it would have. Each is counted in one of `encodings`, `invalid_recipients`,
    /// `opted_out_recipients`, `missing_variables`, `too_long` and `too_many_segments`.
    pub messages: u64,
    /// The segments of all that would be sent.
    pub segments: u64,
    /// How many messages would be sent in each encoding.
    pub encodings: Encodings,
    /// Those whose recipients are no E.164 numbers.
    pub invalid_recipients: Unsendable,
    /// Those whose recipients have opted out.
    pub opted_out_recipients: Unsendable,
    /// How many recipients have a number that the batch has already. With `"duplicates": "skip"` they
    /// are no messages.
    pub duplicate_recipients: u64,
    /// Those for which neither the recipient nor the batch gives all variables of the body.
    pub missing_variables: Unsendable,
    /// Those whose text would be longer than 16 KiB.
    pub too_long: Unsendable,
    /// Those that would take more segments than the batch's `max_segments`.
    #[serde(default)]
    pub too_many_segments: Unsendable,
    /// When the last one would have left, if all that the provider has to send now goes first, and
    /// nothing fails. Quiet hours are not reckoned with. Null if neither the provider nor the batch has
    /// a rate, or while the provider is stopped.
    #[schema(format = DateTime)]
    pub finish_at: Option<String>,
    /// What the segments would cost; null if the provider has no `price_per_segment`.
    pub cost: Option<Cost>,
}

/// Messages by encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Encodings {
    /// In the GSM 7-bit alphabet: 160 septets a segment, 153 if there are several.
    pub gsm7: u64,
    /// In UCS-2: 70 units a segment, 67 if there are several.
    pub ucs2: u64,
}

/// Messages that would not be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Unsendable {
    /// How many there are.
    pub count: u64,
    /// The indexes of the first 100, as the batch's messages would have them.
    pub indexes: Vec<u32>,
}

/// An amount of money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cost {
    /// A decimal number, exact.
    #[schema(example = "7900.0000")]
    pub amount: String,
    /// The code of three letters (ISO 4217).
    #[schema(example = "USD")]
    pub currency: String,
}
