//! The store's contract and a search for orders of steps that break it, on each store; and what the
//! embedded store and the one on Redis promise beyond.

mod contract;
mod embedded;
pub(crate) mod fixture;
mod orders;
mod redis;
