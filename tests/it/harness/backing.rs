//! What the service keeps its batches in: the stores that tests run on.

use tempfile::TempDir;

use super::Redis;

/// The kinds of store there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A server, which several processes may share.
    Redis,
    /// A folder, which one process has for itself.
    Embedded,
}

/// A store of one kind. It survives the processes that use it, and ends when dropped.
pub(crate) enum Backing {
    Redis(Redis),
    Embedded(TempDir),
}

/// What `store.url` can name.
pub(crate) trait StoreUrl {
    /// Its URL.
    fn store_url(&self) -> String;
}

// === impl Backing ===

impl Backing {
    /// A new store with nothing in it.
    pub(crate) async fn start(kind: Kind) -> Self {
        match kind {
            Kind::Redis => Self::Redis(Redis::start().await),
            Kind::Embedded => Self::Embedded(tempfile::tempdir().unwrap()),
        }
    }

    /// The server, for what only a server can suffer.
    pub(crate) fn redis(&mut self) -> &mut Redis {
        match self {
            Self::Redis(redis) => redis,
            Self::Embedded(_) => panic!("the store is no server"),
        }
    }
}

impl StoreUrl for Backing {
    fn store_url(&self) -> String {
        match self {
            Self::Redis(redis) => redis.store_url(),
            Self::Embedded(folder) => folder.store_url(),
        }
    }
}

impl StoreUrl for Redis {
    fn store_url(&self) -> String {
        self.url()
    }
}

impl StoreUrl for TempDir {
    fn store_url(&self) -> String {
        format!("embedded:{}", self.path().display())
    }
}
