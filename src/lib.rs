//! Ringback: a self-hosted, callback-based bulk message dispatcher.
//!
//! The way of a batch, and the map of the folders: [`api`] takes it in and writes it to the
//! [`store`] in chunks; [`dispatch`] claims chunks, sends their messages through [`providers`] and
//! settles what came of them; the step that makes the last message final creates the completion
//! event, which [`callbacks`] signs and delivers. What carriers say of messages later comes in by [`receipts`]. [`domain`] holds the rules, free of I/O. [`app`]
//! puts the parts together as [`settings`] say, and [`cli`] is how people start it. [`client`] calls
//! the HTTP API, for the command line and for other programs.

pub mod api;
pub mod app;
pub mod callbacks;
pub mod cli;
pub mod client;
pub mod clock;
mod crash;
pub mod dispatch;
pub mod domain;
pub mod providers;
pub mod receipts;
pub mod settings;
pub mod store;
pub mod telemetry;
