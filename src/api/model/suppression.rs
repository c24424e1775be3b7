//! Numbers that get nothing, as clients see them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A number on the account's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Suppression {
    /// In E.164 form.
    #[schema(example = "+15551230001")]
    pub number: String,
}

/// A page of the account's list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SuppressionList {
    /// The numbers, in an order that never changes and means nothing.
    #[schema(example = json!(["+15551230001"]))]
    pub numbers: Vec<String>,
    /// How many are on the list in all.
    pub count: u64,
    /// What to ask for the next page with; null at the end.
    pub next_cursor: Option<String>,
}

/// Numbers to put on the account's list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SuppressNumbers {
    /// 1 to 1,000 numbers in E.164 form.
    #[schema(min_items = 1, max_items = 1000, example = json!(["+15551230001"]))]
    pub numbers: Vec<String>,
}

/// What came of numbers that were to be put on the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Suppressed {
    /// How many are on the list now and were not before.
    pub added: u64,
    /// How many were on it already, or are there twice.
    pub already_there: u64,
    /// How many lines of a table have no E.164 number.
    pub invalid: u64,
    /// The first 100 of these lines.
    pub invalid_lines: Vec<InvalidLine>,
}

/// A line of a table that has no number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InvalidLine {
    /// The line that its record begins in, from 1.
    pub line: u64,
    /// What is wrong.
    pub detail: String,
}
