//! A master with a replica, and three sentinels that watch them and agree within a second or two that
//! the master is gone.

use std::{
    io::Write,
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::{PATIENCE, Redis, StoreUrl, eventually, free_port};

/// What the sentinels call the master.
const NAME: &str = "main";
/// The password of the sentinels' user `watcher`, and of their default user.
pub(crate) const SENTINEL_PASSWORD: &str = "hush-hush";
/// What `watcher` may do: what the manual gives it.
const RULE: &str =
    "+@connection +subscribe &+switch-master +sentinel|master +sentinel|get-master-addr-by-name";

/// The servers and their sentinels. Killed when dropped.
pub(crate) struct Sentinels {
    pub(crate) master: Redis,
    pub(crate) replica: Redis,
    watchers: Vec<Sentinel>,
}

struct Sentinel {
    port: u16,
    child: Child,
    _dir: TempDir,
}

// === impl Sentinels ===

impl Sentinels {
    /// Starts all of it, and waits until a failover could succeed.
    pub(crate) async fn start() -> Self {
        let master = Redis::start_with(&["--repl-diskless-sync-delay", "0"]).await;
        let port = master.port().to_string();
        let replica = Redis::start_with(&["--replicaof", "127.0.0.1", &port]).await;
        eventually("a replica in step", PATIENCE, async || {
            replica.ask("INFO replication").contains("master_link_status:up").then_some(())
        })
        .await;
        let watchers = (0..3).map(|_| Sentinel::start(&port)).collect();
        let all = Self { master, replica, watchers };
        for sentinel in &all.watchers {
            eventually("sentinels that know each other", PATIENCE, async || {
                let known = sentinel.ask(&format!("SENTINEL MASTER {NAME}"))?;
                let known: Vec<_> = known.lines().collect();
                let says = |name: &str, value: &str| {
                    let at = known.iter().position(|line| *line == name);
                    at.is_some_and(|at| known[at + 2] == value)
                };
                let knows_all = says("num-slaves", "1") && says("num-other-sentinels", "2");
                knows_all.then_some(())
            })
            .await;
        }
        all
    }

    /// Has the sentinels replace the master, which is well.
    pub(crate) fn order_failover(&self) {
        let answer = self.watchers[0].ask(&format!("SENTINEL FAILOVER {NAME}"));
        assert_eq!(answer.as_deref(), Some("+OK\r\n"));
    }

    /// Waits until every sentinel names the replica as the master.
    pub(crate) async fn wait_for_failover(&self) {
        let port = self.replica.port().to_string();
        for sentinel in &self.watchers {
            eventually("a failover", PATIENCE, async || {
                let named = sentinel.ask(&format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}"))?;
                named.contains(&port).then_some(())
            })
            .await;
        }
    }
}

impl StoreUrl for Sentinels {
    fn store_url(&self) -> String {
        let hosts = self.watchers.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port));
        let hosts = hosts.collect::<Vec<_>>().join(",");
        format!("redis-sentinel://{}{hosts}/{NAME}", Redis::login())
    }
}

// === impl Sentinel ===

impl Sentinel {
    fn start(master: &str) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let config = dir.path().join("sentinel.conf");
        let lines = [
            format!("port {port}\nbind 127.0.0.1\ndir {}", dir.path().display()),
            format!("sentinel monitor {NAME} 127.0.0.1 {master} 2"),
            format!("sentinel down-after-milliseconds {NAME} 500"),
            format!("sentinel failover-timeout {NAME} 3000"),
            format!("requirepass {SENTINEL_PASSWORD}\nsentinel sentinel-pass {SENTINEL_PASSWORD}"),
            format!("user watcher on >{SENTINEL_PASSWORD} {RULE}\n"),
        ];
        std::fs::write(&config, lines.join("\n")).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&config).arg("--sentinel");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { port, child: command.spawn().unwrap(), _dir: dir }
    }

    fn ask(&self, command: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
        // It answers what it has read before it sees that there is no more.
        let login = format!("AUTH {SENTINEL_PASSWORD}\r\n");
        stream.write_all(format!("{login}{command}\r\n").as_bytes()).ok()?;
        stream.shutdown(std::net::Shutdown::Write).ok()?;
        std::io::read_to_string(stream).ok()?.strip_prefix("+OK\r\n").map(str::to_owned)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // It fails only if it has ended already.
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }
}
