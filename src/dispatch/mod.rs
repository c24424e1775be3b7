//! The worker: claims chunks, sends their messages through a provider, and settles what came of
//! them.

mod settings;

pub use settings::WorkerSettings;
