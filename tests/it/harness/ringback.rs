//! The service: the real program, configured by its environment, on a port of its own.

use std::{
    fs::{File, OpenOptions},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::NamedTempFile;

use super::{Client, PATIENCE, StoreUrl, eventually, free_port, signal};

/// How much of the log is shown when a test fails, in bytes.
const LOG_BYTES_SHOWN: usize = 16 * 1024;

/// Where it is to crash.
const CRASH_AT: &str = "RINGBACK_CRASH_AT";

/// A process to be started.
pub(crate) struct Setup {
    command: Command,
    config: NamedTempFile,
    api: Option<u16>,
    health: u16,
    roles: Vec<&'static str>,
    /// Whether it has a listener for its health if it has no API.
    tells: bool,
}

/// A running process. Killed when dropped; its log is shown if the test fails.
pub(crate) struct Ringback {
    command: Command,
    config: NamedTempFile,
    child: Child,
    log: NamedTempFile,
    api: Option<u16>,
    health: u16,
}

// === impl Setup ===

impl Setup {
    /// Sets a key by its path, such as `worker.lease`.
    pub(crate) fn set(mut self, key: &str, value: &str) -> Self {
        self.command.env(variable(key), value);
        self
    }

    /// Has the process read this file of settings, which variables override.
    pub(crate) fn file(self, toml: &str) -> Self {
        std::fs::write(self.config.path(), toml).unwrap();
        self
    }

    /// Sets a variable of its environment.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Has it started by another command, which is given the program's path.
    pub(crate) fn by(mut self, starter: impl FnOnce(&str) -> Command) -> Self {
        let mut command = starter(self.command.get_program().to_str().unwrap());
        command.env_clear().args(self.command.get_args());
        command.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        self.command = command;
        self
    }

    /// Has it end as by a crash when it passes this point the `times`-th time.
    pub(crate) fn crash_at(self, point: &str, times: u32) -> Self {
        self.env(CRASH_AT, &format!("{point}:{times}"))
    }

    /// Adds a provider of kind `http` called `carrier`, and makes it the default.
    pub(crate) fn carrier(self, url: &str) -> Self {
        self.set("providers.carrier.kind", "http")
            .set("providers.carrier.url", url)
            .set("default_provider", "carrier")
    }

    /// Lets the process have so many files open, sockets included; as many as it may if nothing is said.
    pub(crate) fn files_max(mut self, files: Option<u32>) -> Self {
        let limit = files.map_or_else(|| "$(ulimit -H -n)".to_owned(), |files| files.to_string());
        let mut limited = Command::new("/bin/sh");
        limited.env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        // The shell becomes the program, so that its number is the program's.
        limited.arg("-c").arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\""));
        limited.arg(self.command.get_program()).args(self.command.get_args());
        let variables = self.command.get_envs();
        limited.envs(variables.filter_map(|(name, value)| Some((name, value?))));
        self.command = limited;
        self
    }

    /// Gives the process this role; without any it has all.
    pub(crate) fn role(mut self, role: &'static str) -> Self {
        self.roles.push(role);
        self
    }

    /// Without the API it listens nowhere, as by default.
    pub(crate) fn untold(mut self) -> Self {
        self.tells = false;
        self
    }

    /// Starts it, and waits until it is ready.
    pub(crate) async fn start(self) -> Ringback {
        let mut ringback = self.spawn();
        ringback.wait_until_ready().await;
        ringback
    }

    /// Starts it, and does not wait.
    pub(crate) fn spawn(mut self) -> Ringback {
        if !self.roles.is_empty() && !self.roles.contains(&"api") {
            self.api = None;
            if self.tells {
                let address = format!("127.0.0.1:{}", self.health);
                self.command.env(variable("server.metrics_listen"), address);
            }
        }
        let log = NamedTempFile::new().unwrap();
        self.command.args(self.roles.iter().flat_map(|role| ["--role", role]));
        let child = spawn(&mut self.command, &log);
        let Self { command, config, api, health, .. } = self;
        Ringback { command, config, child, log, api, health }
    }
}

// === impl Ringback ===

impl Ringback {
    /// A process on this store: it allows callbacks to loopback, and logs what it does.
    pub(crate) fn on(store: &impl StoreUrl) -> Setup {
        let (api, health) = (free_port(), free_port());
        let mut command = command();
        let config = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        command.arg("serve").stdin(Stdio::null()).stdout(Stdio::null());
        command.arg("--config").arg(config.path());
        let setup =
            Setup { command, config, api: Some(api), health, roles: Vec::new(), tells: true };
        setup
            .set("store.url", &store.store_url())
            .set("server.listen", &format!("127.0.0.1:{api}"))
            .set("callbacks.allow_private_networks", "true")
            .set("log.filter", "info,ringback=debug")
    }

    /// All roles in one process, with everything as it is by default.
    pub(crate) async fn start(store: &impl StoreUrl) -> Self {
        Self::on(store).start().await
    }

    /// The number the system knows it by.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its API listens, for a socket of one's own.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.api.expect("the process has no API"))
    }

    /// A client of its API.
    pub(crate) fn client(&self) -> Client {
        Client::of(&format!("http://{}", self.address()))
    }

    /// A client of what every process answers: metrics and health. One without the API has a listener
    /// for them.
    pub(crate) fn health(&self) -> Client {
        Client::of(&format!("http://127.0.0.1:{}", self.api.unwrap_or(self.health)))
    }

    /// Waits until it says that it is ready.
    pub(crate) async fn wait_until_ready(&mut self) {
        let client = if self.api.is_some() { self.client() } else { self.health() };
        eventually("readiness of ringback", PATIENCE, async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ringback ended ({status})");
            }
            client.try_get("/readyz").await.filter(|answer| answer.status == 200)
        })
        .await;
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        // Killing fails only if it has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Ends it as a crash would, and starts it again at once: on the same store and the same ports,
    /// with the same settings.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&mut self.command, &self.log);
        self.wait_until_ready().await;
    }

    /// Changes its file of settings, and has it read all of them again.
    pub(crate) fn reload(&self, toml: &str) {
        std::fs::write(self.config.path(), toml).unwrap();
        signal("HUP", self.child.id());
    }

    /// Waits until it has crashed where it was told to, and starts it again, to go on this time.
    pub(crate) async fn restart_after_its_crash(&mut self) {
        let status = self.wait_for_exit(PATIENCE).await;
        assert_eq!(status.code(), None, "it ended by itself");
        self.command.env_remove(CRASH_AT);
        self.restart().await;
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        signal("TERM", self.child.id());
    }

    /// Stops it in its tracks.
    pub(crate) fn pause(&self) {
        signal("STOP", self.child.id());
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        signal("CONT", self.child.id());
    }

    /// Waits for its end.
    pub(crate) async fn wait_for_exit(&mut self, longest: Duration) -> ExitStatus {
        eventually("the end of ringback", longest, async || self.child.try_wait().unwrap()).await
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        let mut text = String::new();
        let mut log = File::open(self.log.path()).unwrap();
        std::io::Read::read_to_string(&mut log, &mut text).unwrap();
        text
    }
}

impl Drop for Ringback {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let start = log.floor_char_boundary(log.len().saturating_sub(LOG_BYTES_SHOWN));
            eprintln!("the log of process {}:\n{}", self.child.id(), &log[start..]);
        }
    }
}

/// Starts a process whose lines are added to the log.
fn spawn(command: &mut Command, log: &NamedTempFile) -> Child {
    let log = OpenOptions::new().append(true).open(log.path()).unwrap();
    command.stderr(log).spawn().unwrap()
}

/// The program, with nothing in its environment that would configure it.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringback"));
    command.env_clear();
    command
}

/// The variable that sets a key.
pub(crate) fn variable(key: &str) -> String {
    format!("RINGBACK__{}", key.replace('.', "__").to_uppercase())
}
