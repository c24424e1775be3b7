//! The connections to the servers, as one role uses them: each call goes to the server that has its
//! key, scripts by their hash; errors are sorted by what they say of the call, and a few calls
//! repeated where a repeat is harmless.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use redis::{
    Arg, Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value, aio::ConnectionLike,
};

use super::{peers::Peers, place::Node, scripts::Script, servers::Servers, slots::slot};
use crate::store::StoreError;

/// A call that failed is repeated for so long; then its error is given to the caller.
const REPEAT_FOR: Duration = Duration::from_secs(2);
/// The waits between the repeats.
const REPEATS: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(400)];
/// So often a call follows from one server to another.
const HOPS_MAX: usize = 4;

#[derive(Clone)]
pub(super) struct Link {
    servers: Arc<Servers>,
    peers: Arc<Peers>,
}

/// How much longer a call is repeated.
struct Patience {
    begun: Instant,
    waits: std::slice::Iter<'static, Duration>,
}

// === impl Link ===

impl Link {
    pub(super) fn new(servers: &Arc<Servers>) -> Self {
        Self { servers: Arc::clone(servers), peers: Arc::new(Peers::of(servers)) }
    }

    /// Runs a script, and again after a lost reply: every script is idempotent.
    pub(super) async fn run(
        &self,
        script: &Script,
        key: &str,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        let slots = [slot(key.as_bytes())];
        let mut patience = Patience::default();
        loop {
            match self.run_once(script, key, &arguments).await {
                Err(error) => self.once_more(&mut patience, &slots, error).await?,
                answer => return answer,
            }
        }
    }

    /// Runs a script whose repetition would do something again.
    pub(super) async fn run_once(
        &self,
        script: &Script,
        key: &str,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        let call = |name: &str, script: &str| {
            let mut command = redis::cmd(name);
            command.arg(script).arg(1).arg(key);
            arguments(&mut command);
            command
        };
        let slot = slot(key.as_bytes());
        match self.command(slot, &call("EVALSHA", &script.sha)).await {
            // A server that was started again, or is another one: it learns the script by this.
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.command(slot, &call("EVAL", &script.code)).await
            }
            answer => answer,
        }
        .map_err(|error| sort(&error))
    }

    /// Asks one plain command, which must be harmless to repeat.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, StoreError> {
        let slot = key_slot(command).unwrap_or_default();
        let mut patience = Patience::default();
        loop {
            match self.command(slot, command).await {
                Err(error) => self.once_more(&mut patience, &[slot], sort(&error)).await?,
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// Asks several plain commands, in one round trip to each server that is concerned. They must be
    /// harmless to repeat. One without a key goes to the server of the next that has one, or else of
    /// the one before.
    pub(super) async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let slots = slots_of(commands);
        let mut patience = Patience::default();
        loop {
            match self.commands(commands, &slots).await {
                Err(error) => self.once_more(&mut patience, &slots, sort(&error)).await?,
                Ok(answers) => return Ok(answers),
            }
        }
    }

    /// Asks every server that holds something the same commands.
    pub(super) async fn ask_each(
        &self,
        commands: &Pipeline,
    ) -> Result<Vec<(Node, Vec<Value>)>, StoreError> {
        let asked = self.servers.all().into_iter().map(|node| async move {
            let answers = self.commands_of(&node, commands).await;
            answers.map(|answers| (node, answers)).map_err(|error| sort(&error))
        });
        join_all(asked).await.into_iter().collect()
    }

    async fn command(&self, slot: u16, command: &Cmd) -> Result<Value, RedisError> {
        let mut hops = 0;
        loop {
            let node = self.servers.having(slot)?;
            let mut connection = self.peers.connection(&node)?;
            let answer = connection.req_packed_command(command).await;
            match answer.and_then(Value::extract_error) {
                // It did nothing but name another server.
                Err(error) if hops < HOPS_MAX && self.servers.takes_word(&node, &error) => {
                    hops += 1;
                }
                answer => {
                    self.judge(&node, &answer);
                    return answer;
                }
            }
        }
    }

    /// Waits until a call that failed may be repeated.
    ///
    /// # Errors
    /// The call's own, if a repeat would not help or enough were made.
    async fn once_more(
        &self,
        patience: &mut Patience,
        slots: &[u16],
        error: StoreError,
    ) -> Result<(), StoreError> {
        let mut nodes = slots.iter().filter_map(|slot| self.servers.having(*slot).ok());
        if nodes.any(|node| self.peers.is_left_alone(&node)) {
            return Err(error);
        }
        patience.after(error).await
    }

    /// Sends each command to the server of its slot. All are sent at once.
    async fn commands(&self, commands: &Pipeline, slots: &[u16]) -> Result<Vec<Value>, RedisError> {
        let mut parts: Vec<(Node, Vec<usize>)> = Vec::new();
        for (place, slot) in slots.iter().enumerate() {
            let node = self.servers.having(*slot)?;
            match parts.iter_mut().find(|(known, _)| *known == node) {
                Some((_, places)) => places.push(place),
                None => parts.push((node, vec![place])),
            }
        }
        if let [(node, _)] = &parts[..] {
            return self.commands_of(node, commands).await;
        }
        let all: Vec<&Cmd> = commands.cmd_iter().collect();
        let asked = parts.iter().map(|(node, places)| {
            let mut part = Pipeline::new();
            for place in places {
                part.add_command(all[*place].clone());
            }
            async move { self.commands_of(node, &part).await }
        });
        let mut answers = vec![Value::Nil; all.len()];
        for ((_, places), part) in parts.iter().zip(join_all(asked).await) {
            for (place, answer) in places.iter().zip(part?) {
                answers[*place] = answer;
            }
        }
        Ok(answers)
    }

    async fn commands_of(
        &self,
        node: &Node,
        commands: &Pipeline,
    ) -> Result<Vec<Value>, RedisError> {
        let mut connection = self.peers.connection(node)?;
        let answers = connection.req_packed_commands(commands, 0, commands.len()).await;
        let answers: Result<Vec<_>, _> =
            answers.and_then(|values| values.into_iter().map(Value::extract_error).collect());
        self.judge(node, &answers);
        answers
    }

    /// Draws from an answer what it says of the server, and of where things are.
    fn judge<T>(&self, node: &Node, answer: &Result<T, RedisError>) {
        self.peers.note(node, answer.as_ref().map(|_| ()));
        if let Err(error) = answer
            && !self.servers.takes_word(node, error)
            && matches!(sort(error), StoreError::Unreachable(_) | StoreError::ReplyLost(_))
        {
            self.servers.doubt();
        }
    }
}

/// The slot of a command's key, its first argument in all that are used here.
fn key_slot(command: &Cmd) -> Option<u16> {
    match command.args_iter().nth(1)? {
        Arg::Simple(key) => Some(slot(key)),
        _ => None,
    }
}

fn slots_of(commands: &Pipeline) -> Vec<u16> {
    let keyed: Vec<_> = commands.cmd_iter().map(key_slot).collect();
    let mut slots = vec![0; keyed.len()];
    let mut near = keyed.iter().rev().flatten().next().copied().unwrap_or_default();
    for (place, slot) in keyed.iter().enumerate().rev() {
        near = slot.unwrap_or(near);
        slots[place] = near;
    }
    slots
}

// === impl Patience ===

impl Default for Patience {
    fn default() -> Self {
        Self { begun: Instant::now(), waits: REPEATS.iter() }
    }
}

impl Patience {
    /// Waits until a call that failed may be repeated.
    ///
    /// # Errors
    /// The call's own, if a repeat would not help or enough were made.
    async fn after(&mut self, error: StoreError) -> Result<(), StoreError> {
        let repeats = error.is_passing() && self.begun.elapsed() < REPEAT_FOR;
        let Some(wait) = self.waits.next().filter(|_| repeats) else { return Err(error) };
        tracing::debug!(%error, "a store call is repeated");
        tokio::time::sleep(*wait).await;
        Ok(())
    }
}

/// Sorts an error by what it says of the call: not done, perhaps done, or not understood.
pub(super) fn sort(error: &RedisError) -> StoreError {
    let text = error.to_string();
    match error.code() {
        Some("OOM" | "MISCONF") => return StoreError::Full(text),
        Some(
            // In a cluster ASK says that a slot is being moved. It is not followed: keys that a
            // script needs may still be here, or there already, and each would find but a part.
            "LOADING" | "BUSY" | "READONLY" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN"
            | "NOREPLICAS" | "MOVED" | "ASK",
        ) => {
            return StoreError::Unreachable(text);
        }
        _ => {}
    }
    let is_unknown = error.kind() == ErrorKind::ClusterConnectionNotFound;
    if is_unknown || error.is_connection_refusal() || is_of_certificate(error) {
        StoreError::Unreachable(text)
    } else if error.is_timeout() || error.is_connection_dropped() || error.is_io_error() {
        StoreError::ReplyLost(text)
    } else {
        StoreError::Unexpected(text)
    }
}

type Kept = dyn Error + Send + Sync;

/// Whether a connection was given up because of the server's certificate.
fn is_of_certificate(error: &RedisError) -> bool {
    // The driver keeps what went wrong behind an `Arc`.
    let kept = error.source().and_then(|source| source.downcast_ref::<Arc<Kept>>());
    let io = kept.and_then(|kept| kept.downcast_ref::<std::io::Error>());
    let tls = io.and_then(|io| io.get_ref()?.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_without_a_key_go_with_the_next_that_has_one() {
        let mut commands = redis::pipe();
        commands.cmd("TIME").cmd("GET").arg("foo").cmd("TIME").cmd("GET").arg("bar").cmd("TIME");
        let (foo, bar) = (slot(b"foo"), slot(b"bar"));
        assert_eq!(slots_of(&commands), [foo, foo, bar, bar, bar]);
        assert_eq!(slots_of(redis::pipe().cmd("TIME")), [0]);
    }
}
