//! A real redis-server on a directory of its own, which survives the server.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{PATIENCE, eventually, free_port, signal};

/// The server. Killed when dropped.
pub(crate) struct Redis {
    dir: TempDir,
    port: u16,
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
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = spawn(dir.path(), port, options);
        let mut redis = Self { dir, port, child };
        redis.wait_until_it_answers().await;
        redis
    }

    /// Its URL, for `store.url`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
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
        self.child = spawn(self.dir.path(), self.port, &[]);
        self.wait_until_it_answers().await;
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
        self.try_ask(command, PATIENCE).unwrap()
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
    async fn wait_until_it_answers(&mut self) {
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

fn spawn(dir: &Path, port: u16, options: &[&str]) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--logfile", "log", "--dir"]);
    command.arg(dir);
    command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--save", ""]);
    command.args(["--maxmemory-policy", "noeviction"]).args(options);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().expect("redis-server can't be started: scripts/test installs it")
}
