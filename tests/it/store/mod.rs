//! The store's contract, and a search for orders of steps that break it.

mod contract;
mod fixture;
mod orders;
