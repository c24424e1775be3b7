//! One role's connections to the servers.
//!
//! In a cluster a server that is away must cost the work on the others as little as possible. So one
//! that gave no answer is left alone but for a call now and then; the others fail at once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use redis::{
    ErrorKind, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use super::{
    place::{Form, Node},
    servers::Servers,
};

/// How long a reply may take. A server that is slower than this is as good as gone.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// So long after its first failure a server that has not answered is left alone.
const SILENCE_MAX: Duration = Duration::from_millis(500);
/// How often one that is left alone is tried.
const TRY_EVERY: Duration = Duration::from_millis(250);

pub(super) struct Peers {
    servers: Arc<Servers>,
    /// Those that were used. They connect when they are first used, and again whenever they must.
    known: Mutex<HashMap<Node, Peer>>,
}

struct Peer {
    connection: ConnectionManager,
    /// Since when it has given no answer.
    silent_since: Option<Instant>,
    /// If it is left alone: when a call may try it next.
    next_try: Option<Instant>,
}

// === impl Peers ===

impl Peers {
    pub(super) fn of(servers: &Arc<Servers>) -> Self {
        Self { servers: Arc::clone(servers), known: Mutex::default() }
    }

    /// The connection to a server.
    ///
    /// # Errors
    /// It is away, and it is not time to try it; or the settings make no connection.
    pub(super) fn connection(&self, node: &Node) -> Result<ConnectionManager, RedisError> {
        let mut known = self.known.lock();
        if let Some(peer) = known.get_mut(node) {
            if let Some(next_try) = &mut peer.next_try {
                let now = Instant::now();
                if now < *next_try {
                    let kind = ErrorKind::ClusterConnectionNotFound;
                    return Err((kind, "its server gave no answer a moment ago").into());
                }
                *next_try = now + TRY_EVERY;
            }
            return Ok(peer.connection.clone());
        }
        let servers = self.servers.all();
        known.retain(|node, _| servers.contains(node));
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_millis(200))
            .set_pipeline_buffer_size(1024);
        let client = self.servers.place().client(node)?;
        let connection = ConnectionManager::new_lazy_with_config(client, config)?;
        let peer = Peer { connection: connection.clone(), silent_since: None, next_try: None };
        known.insert(node.clone(), peer);
        Ok(connection)
    }

    /// Whether a server is left alone.
    pub(super) fn is_left_alone(&self, node: &Node) -> bool {
        self.known.lock().get(node).is_some_and(|peer| peer.next_try.is_some())
    }

    /// A server has answered, or not.
    pub(super) fn note(&self, node: &Node, answer: Result<(), &RedisError>) {
        if self.servers.place().form != Form::Cluster {
            return;
        }
        let mut known = self.known.lock();
        let Some(peer) = known.get_mut(node) else { return };
        match answer {
            Err(error) if error.is_io_error() => {
                let now = Instant::now();
                let since = *peer.silent_since.get_or_insert(now);
                if error.is_timeout() || now.duration_since(since) > SILENCE_MAX {
                    peer.next_try = Some(now + TRY_EVERY);
                }
            }
            _ => (peer.silent_since, peer.next_try) = (None, None),
        }
    }
}
