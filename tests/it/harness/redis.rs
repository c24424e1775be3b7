//! A real redis-server on a directory of its own, which survives the server.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{PATIENCE, eventually, free_port, signal};

/// The password of the user `ringback`.
const PASSWORD: &str = "hush";

/// The server. Killed when dropped.
pub(crate) struct Redis {
    dir: TempDir,
    port: u16,
    /// How it is started.
    command: Box<Command>,
    child: Child,
}

// === impl Redis ===

impl Redis {
    /// Starts a server that appends to a file and syncs it every second.
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a server with further options, such as `["--maxmemory", "10mb"]`.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        Self::start_by(Command::new("redis-server"), options).await
    }

    /// Starts a server by a command that puts its arguments behind `redis-server`.
    pub(crate) async fn start_by(command: Command, options: &[&str]) -> Self {
        let mut redis = Self::spawn_by(command, options);
        redis.wait_until_it_answers().await;
        redis
    }

    /// Starts one, and does not wait.
    pub(super) fn spawn_with(options: &[&str]) -> Self {
        Self::spawn_by(Command::new("redis-server"), options)
    }

    fn spawn_by(mut command: Command, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        configure(&mut command, dir.path(), port, options);
        let child = spawn(&mut command);
        Self { dir, port, command: Box::new(command), child }
    }

    /// Its URL, for `store.url`, as the user that the manual describes.
    pub(crate) fn url(&self) -> String {
        format!("redis://{}127.0.0.1:{}", Self::login(), self.port)
    }

    /// The user that the manual describes, as URLs have it before the host.
    pub(crate) fn login() -> String {
        format!("ringback:{PASSWORD}@")
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The number the system knows it by.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&mut self) {
        // Killing fails only if it has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same port and the same directory.
    pub(crate) async fn restart(&mut self) {
        self.kill();
        self.child = spawn(&mut self.command);
        self.wait_until_it_answers().await;
    }

    /// Has it write all that it has into a new file, as the manual says after a tail was lost: what is left of
    /// a torn transaction at the end of the old one would be executed at the next start.
    pub(crate) async fn rewrite_log(&self) {
        self.ask("BGREWRITEAOF");
        eventually("a new file of writes", PATIENCE, async || {
            let info = self.ask("INFO persistence");
            let is_over = ["aof_rewrite_in_progress:0", "aof_rewrite_scheduled:0"];
            is_over.iter().all(|line| info.contains(line)).then_some(())
        })
        .await;
    }

    /// The file that it appends to.
    pub(crate) fn log_of_writes(&self) -> PathBuf {
        let folder = std::fs::read_dir(self.dir.path().join("appendonlydir")).unwrap();
        let files = folder.map(|entry| entry.unwrap().path());
        let files = files.filter(|path| path.to_string_lossy().ends_with(".incr.aof"));
        // They are numbered; the one before is deleted in its own time.
        files
            .max_by_key(|path| (path.as_os_str().len(), path.clone()))
            .expect("a file that is appended to")
    }

    /// Takes away all that it has kept. It must not run.
    pub(crate) fn forget_all(&self) {
        std::fs::remove_dir_all(self.dir.path().join("appendonlydir")).unwrap();
    }

    /// Stops it in its tracks: connections stay open, and nothing is answered.
    pub(crate) fn pause(&self) {
        signal("STOP", self.child.id());
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        signal("CONT", self.child.id());
    }

    /// The raw answer to a command of plain words, such as `DBSIZE`.
    pub(crate) fn ask(&self, command: &str) -> String {
        // A busy machine resets a connection now and then before anything was asked.
        let answer = self.try_ask(command, PATIENCE);
        answer.or_else(|_| self.try_ask(command, PATIENCE)).unwrap()
    }

    /// The memory that it uses, in bytes.
    pub(crate) fn used_memory(&self) -> u64 {
        let info = self.ask("INFO memory");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
        line.and_then(|bytes| bytes.trim().parse().ok()).expect("used_memory")
    }

    /// The same, if there is an answer within `longest`.
    pub(crate) fn try_ask(&self, command: &str, longest: Duration) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(longest))?;
        stream.write_all(format!("{command}\r\nQUIT\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.trim_end_matches("+OK\r\n").to_owned())
    }

    /// Another server may have been given the port meanwhile: the answer must come from ours.
    pub(super) async fn wait_until_it_answers(&mut self) {
        let ours = format!("process_id:{}\r", self.child.id());
        eventually("an answer of redis-server", PATIENCE, async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("redis-server ended ({status}): {}", self.log());
            }
            let info = self.try_ask("INFO", Duration::from_secs(1)).ok()?;
            (info.contains(&ours) && info.contains("\nloading:0\r")).then_some(())
        })
        .await;
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What the user `ringback` may do: the rule that the manual gives, word for word.
pub(crate) fn rule() -> String {
    let manual = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    let rule = manual.split("ACL SETUSER ringback ").nth(1).expect("the manual has a rule");
    let rule = rule.split("```").next().unwrap().replace("PASSWORD", PASSWORD);
    rule.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn configure(command: &mut Command, dir: &Path, port: u16, options: &[&str]) {
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--logfile", "log", "--dir"]);
    command.arg(dir);
    command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
    command.args(["--maxmemory-policy", "noeviction"]).args(options);
    command.args(["--user", "ringback"]).args(rule().split(' '));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().expect("redis-server can't be started: scripts/test installs it")
}
