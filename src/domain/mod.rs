//! The pure heart: what a batch, a message and an outcome are, and how one follows from another.
//!
//! Nothing here waits, talks or looks at a clock. Time and randomness come in as arguments, so
//! every rule can be tested by calling it.

pub mod audit;
pub mod batch;
pub mod callback_headers;
pub mod callback_url;
pub mod chunk;
pub mod composer;
pub mod encoding;
pub mod event;
pub mod ids;
pub mod inbound;
pub(crate) mod list;
pub mod message;
pub mod number;
pub mod outcome;
pub mod past;
pub mod prefixes;
pub mod price;
pub mod quiet_hours;
pub mod receipt;
pub mod recipient;
pub mod record;
pub mod retry;
pub mod retry_after;
pub mod scope;
pub mod senders;
pub mod share;
pub mod signature;
pub mod signing_key;
pub mod state_byte;
pub mod template;
pub mod through;
pub mod time;
pub mod twilio_signature;
pub mod units;
