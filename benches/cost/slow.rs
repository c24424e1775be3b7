//! What clients cost that hold connections open, and that send a byte a second: what healthy requests
//! wait for beside them, the memory they take, and when they are closed.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{
    harness::{Backing, Client, Crowd, Kind, Manner, Ringback},
    processes::{cpu_seconds, forget_peak, memory_mib, peak_mib},
    report::{milliseconds, quantile, whole},
};

const IDLE: usize = 10_000;
const DRIPPING: usize = 1_000;
const DRIP: Duration = Duration::from_secs(1);

/// Who posts healthy requests, each so often.
const CLIENTS: usize = 8;
const PACE: Duration = Duration::from_millis(20);
const MEASURED: Duration = Duration::from_secs(10);
const WARMING_UP: Duration = Duration::from_secs(1);

/// How long the crowd may take to gather, and to be closed.
const LONGEST: Duration = Duration::from_mins(2);

/// Files that a process needs besides its connections.
const OTHER_FILES: usize = 200;

/// Healthy requests alone, and beside the crowd: with the bound that the service has by default, which is
/// less than the crowd, and with one that is more.
pub(crate) async fn slow(on: Kind) {
    for connections_max in [10_000, 20_000] {
        println!("  connections_max {}:", whole(f64::from(connections_max)));
        compare(on, connections_max).await;
    }
}

async fn compare(on: Kind, connections_max: u32) {
    let store = Backing::start(on).await;
    let service = Ringback::on(&store)
        .set("log.filter", "warn")
        .set("server.connections_max", &connections_max.to_string())
        .files_max(None)
        .start()
        .await;
    let files = files_max(service.pid());
    if files < IDLE + DRIPPING + OTHER_FILES {
        println!("    this machine allows a process {files} files only: too few for this case");
        return;
    }
    let pid = service.pid();
    healthy(&service, WARMING_UP).await;
    let (before, cpu) = (memory_mib(pid), cpu_seconds(pid));
    let alone = healthy(&service, MEASURED).await;
    println!("    alone:       {}, {:.2} s of a core", shown(&alone), cpu_seconds(pid) - cpu);
    forget_peak(pid);
    let crowd = CrowdProcess::start(&service.address());
    let begun = Instant::now();
    let open = crowd.wait_until_open(IDLE.min(connections_max as usize * 9 / 10));
    let (gathered, cpu) = (begun.elapsed(), cpu_seconds(pid));
    let beside = healthy(&service, MEASURED).await;
    println!("    beside them: {}, {:.2} s of a core", shown(&beside), cpu_seconds(pid) - cpu);
    let (during, at_most) = (memory_mib(pid), peak_mib(pid));
    println!("    {open} connections held after {:.1} s; {}", gathered.as_secs_f64(), crowd.end());
    let after = memory_mib(pid);
    println!(
        "    memory {before:.0} MiB before, {during:.0} beside them, {at_most:.0} at most, {after:.0} after"
    );
}

/// The time of each of many requests at a steady pace, half of them on connections of their own.
async fn healthy(service: &Ringback, measured: Duration) -> Vec<f64> {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (address, client) = (service.address(), service.client());
        clients.spawn(async move { request_on_and_on(&address, &client, measured).await });
    }
    clients.join_all().await.concat()
}

async fn request_on_and_on(address: &str, kept: &Client, measured: Duration) -> Vec<f64> {
    let batch = json!({"body": "Hi", "recipients": ["+15550000001"]});
    let (mut times, mut turns) = (Vec::new(), tokio::time::interval(PACE));
    let begun = Instant::now();
    while begun.elapsed() < measured {
        // What comes late because the one before it was slow counts from when it was due.
        let due = turns.tick().await.into_std();
        let status = if times.len() % 2 == 0 {
            kept.post_batch(&batch).await.status
        } else {
            post(address, &batch.to_string()).await
        };
        assert_eq!(status, 202);
        times.push(milliseconds(due.elapsed()));
    }
    times
}

/// Posts a batch on a connection of its own; gives the status of the answer.
async fn post(address: &str, batch: &str) -> u16 {
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let request = format!(
        "POST /v1/batches HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: \
         application/json\r\ncontent-length: {}\r\n\r\n{batch}",
        batch.len()
    );
    stream.write_all(request.as_bytes()).await.expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.get(9..12).and_then(|digits| digits.parse().ok()).expect("a status")
}

fn shown(times: &[f64]) -> String {
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(|share| quantile(times, share));
    format!("{} requests, p50 {p50:.2} ms, p99 {p99:.2} ms, at most {most:.1} ms", times.len())
}

/// How many files a process may have open.
fn files_max(pid: u32) -> usize {
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("the process");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()).expect("the limit");
    soft.parse().unwrap_or(usize::MAX)
}

/// The crowd in a process of its own, which may have as many files open as the machine allows.
struct CrowdProcess {
    child: Child,
    lines: std::cell::RefCell<std::io::Lines<BufReader<std::process::ChildStdout>>>,
}

// === impl CrowdProcess ===

impl CrowdProcess {
    fn start(address: &str) -> Self {
        let program = std::env::current_exe().expect("this program");
        let mut child = Command::new("/bin/sh")
            .args(["-c", "ulimit -n $(ulimit -H -n) && exec \"$0\" crowd \"$1\""])
            .arg(program)
            .arg(address)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the crowd");
        let out = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, lines: out.lines().into() }
    }

    /// Waits until it holds so many connections; gives how many it has.
    fn wait_until_open(&self, connections: usize) -> String {
        self.ask(&connections.to_string())
    }

    /// Lets it not come back any more; gives what became of its connections.
    fn end(&self) -> String {
        self.ask("end")
    }

    fn ask(&self, words: &str) -> String {
        let mut input = self.child.stdin.as_ref().expect("its input");
        writeln!(input, "{words}").expect("the crowd");
        self.lines.borrow_mut().next().expect("an answer").expect("an answer")
    }
}

impl Drop for CrowdProcess {
    fn drop(&mut self) {
        // Killing fails only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is the crowd at this address, and answers what it is asked on stdin.
pub(crate) async fn crowd(address: &str) {
    let each = IDLE / 4;
    let idle = [Manner::Silent, Manner::Half, Manner::Kept, Manner::DripsHead];
    let mut members: Vec<_> = idle.map(|manner| (manner, each)).into();
    members.push((Manner::DripsBody, DRIPPING));
    let crowd = Crowd::gather(address, DRIP, &members);
    loop {
        let line = tokio::task::spawn_blocking(|| std::io::stdin().lines().next());
        let Ok(Some(Ok(line))) = line.await else { return };
        if let Ok(connections) = line.parse() {
            crowd.wait_until_open(connections, LONGEST).await;
            println!("{}", crowd.open());
        } else {
            println!("{}", ended(&crowd).await);
        }
    }
}

async fn ended(crowd: &Crowd) -> String {
    let open = crowd.open();
    let begun = Instant::now();
    let held = crowd.wait_until_closed(LONGEST).await;
    let closed = begun.elapsed();
    let of = |is_body: bool| {
        let held = held.iter().filter(|held| (held.manner == Manner::DripsBody) == is_body);
        let times: Vec<f64> = held.map(|held| held.time.as_secs_f64()).collect();
        match times.as_slice() {
            [] => "none".to_owned(),
            times => format!(
                "{} after {:.1} to {:.1} s",
                times.len(),
                quantile(times, 0.0),
                quantile(times, 1.0)
            ),
        }
    };
    let late = held.iter().filter(|held| held.status == 408).count();
    format!(
        "all {open} of the end were closed within {:.1} s: idle or slow heads {}, slow bodies {}; {late} \
         were answered 408",
        closed.as_secs_f64(),
        of(false),
        of(true)
    )
}
