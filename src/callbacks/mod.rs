//! The notifier: reports each batch's end to its callback URL, signed, until it is taken.
//!
//! An event is taken from the store under a lease, its body rendered once and stored, and posted
//! as Standard Webhooks say: the same id and bytes at every attempt, a fresh timestamp. What an
//! attempt came to is recorded with what follows from it. A notifier that dies leaves an attempt
//! that reads `interrupted`, and the event comes due again.
//!
//! [`notifier`] is the loop, [`schedule`] decides what follows, [`client`] makes the guarded
//! exchange, [`signature`] signs, and [`verification`] checks as a receiver does.

pub mod client;
mod delivery;
pub mod notifier;
#[cfg(test)]
mod receiver;
pub mod schedule;
mod settings;
pub mod signature;
pub mod verification;

pub use notifier::{Notifier, NotifierError};
pub use settings::CallbackSettings;
pub use signature::{SigningSecret, signing_secrets};
