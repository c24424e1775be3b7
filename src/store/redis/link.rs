//! A connection to the server, as one role uses it: scripts by their hash, errors sorted by what
//! they say of the call, and a few repeats where a repeat is harmless.

use std::time::{Duration, Instant};

use redis::{
    Client, Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value,
    aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig},
};

use super::scripts::Script;
use crate::store::StoreError;

/// How long a reply may take. A server that is slower than this is as good as gone.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A call that failed is repeated for so long; then its error is given to the caller.
const REPEAT_FOR: Duration = Duration::from_secs(2);
/// The waits between the repeats.
const REPEATS: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(100), Duration::from_millis(400)];

#[derive(Clone)]
pub(super) struct Link {
    connection: ConnectionManager,
}

/// How much longer a call is repeated.
struct Patience {
    begun: Instant,
    waits: std::slice::Iter<'static, Duration>,
}

// === impl Link ===

impl Link {
    /// A link that connects when it is first used, and again whenever it must.
    pub(super) fn new(client: &Client) -> Result<Self, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(RESPONSE_TIMEOUT))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(20))
            .set_max_delay(Duration::from_millis(200))
            .set_pipeline_buffer_size(1024);
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config)
            .map_err(|error| sort(&error))?;
        Ok(Self { connection })
    }

    /// Runs a script, and again after a lost reply: every script is idempotent.
    pub(super) async fn run(
        &self,
        script: &Script,
        key: &str,
        arguments: impl Fn(&mut Cmd),
    ) -> Result<Value, StoreError> {
        let mut patience = Patience::default();
        loop {
            match self.run_once(script, key, &arguments).await {
                Err(error) => patience.after(error).await?,
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
        let mut command = redis::cmd("EVALSHA");
        command.arg(&script.sha).arg(1).arg(key);
        arguments(&mut command);
        match self.command(&command).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let mut load = redis::cmd("SCRIPT");
                load.arg("LOAD").arg(&script.code);
                self.command(&load).await.map_err(|error| sort(&error))?;
                self.command(&command).await.map_err(|error| sort(&error))
            }
            answer => answer.map_err(|error| sort(&error)),
        }
    }

    /// Asks one plain command, which must be harmless to repeat.
    pub(super) async fn ask(&self, command: &Cmd) -> Result<Value, StoreError> {
        let mut patience = Patience::default();
        loop {
            match self.command(command).await {
                Err(error) => patience.after(sort(&error)).await?,
                Ok(answer) => return Ok(answer),
            }
        }
    }

    /// Asks several plain commands in one round trip, which must be harmless to repeat.
    pub(super) async fn ask_all(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let count = commands.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let mut patience = Patience::default();
        loop {
            let mut connection = self.connection.clone();
            let answers = connection.req_packed_commands(commands, 0, count).await;
            let answers =
                answers.and_then(|values| values.into_iter().map(Value::extract_error).collect());
            match answers {
                Err(error) => patience.after(sort(&error)).await?,
                Ok(answers) => return Ok(answers),
            }
        }
    }

    async fn command(&self, command: &Cmd) -> Result<Value, RedisError> {
        let mut connection = self.connection.clone();
        connection.req_packed_command(command).await.and_then(Value::extract_error)
    }
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
            "LOADING" | "BUSY" | "READONLY" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN"
            | "NOREPLICAS",
        ) => {
            return StoreError::Unreachable(text);
        }
        _ => {}
    }
    if error.is_connection_refusal() {
        StoreError::Unreachable(text)
    } else if error.is_timeout() || error.is_connection_dropped() || error.is_io_error() {
        StoreError::ReplyLost(text)
    } else {
        StoreError::Unexpected(text)
    }
}
