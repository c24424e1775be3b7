//! The notifier: delivers what batches have to tell to their callback URLs, signed, until it is
//! taken or its schedule ends.
//!
//! An event is taken from the store under a lease, its body rendered once and stored, and posted
//! as Standard Webhooks say: the same id and bytes at every attempt, a fresh timestamp. What an
//! attempt came to is recorded with what follows from it, for the event and for its receiver's
//! host. A notifier that dies leaves an attempt that is handed out to be recorded as interrupted.
//!
//! [`notifier`] is the loop, [`schedule`] decides what follows, [`client`] makes the guarded
//! exchange, [`secrets`] knows who signs, and [`verification`] checks as a receiver does.

pub mod client;
mod connector;
mod delivery;
#[cfg(test)]
mod fixture;
mod names;
pub mod notifier;
mod ping;
mod poster;
#[cfg(test)]
mod receiver;
pub mod schedule;
pub mod secrets;
mod settings;
pub mod verification;
mod welcomes;

pub use notifier::{Notifier, NotifierError};
pub use ping::Pinger;
pub use secrets::{SecretsError, Signers};
pub use settings::CallbackSettings;
