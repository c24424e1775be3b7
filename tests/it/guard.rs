//! Callbacks go nowhere they must not, whatever names and receivers do; and a receiver that does
//! its worst harms nobody but itself.

use std::{
    cell::Cell,
    net::{Ipv4Addr, TcpListener},
    time::{Duration, Instant},
};

use ringback::clock::Clock;
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, time::timeout};

use crate::{
    faults::{Found, Row},
    harness::{
        Habit, Hostile, Kind, NameServer, PATIENCE, Receiver, Records, Reply, Setup, eventually,
        free_port, memory_kib,
    },
    scene::{Scene, accepted, latency, shown_when, with_callback},
};

/// An address that the tests permit, while they leave loopback forbidden.
const PERMITTED: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// What must not be reached.
const FORBIDDEN: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Where nobody should ever arrive.
struct Trap {
    listener: TcpListener,
    arrivals: Cell<usize>,
}

/// Status, error and time of an attempt.
type Told = (Option<u64>, String, Duration);

// === impl Trap ===

impl Trap {
    fn at(port: u16) -> Self {
        let listener = TcpListener::bind((FORBIDDEN, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener, arrivals: Cell::new(0) }
    }

    fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// How many have arrived: the system takes them in before anybody looks.
    fn arrivals(&self) -> usize {
        while self.listener.accept().is_ok() {
            self.arrivals.set(self.arrivals.get() + 1);
        }
        self.arrivals.get()
    }
}

/// Loopback is forbidden but for one address, and there are three attempts.
fn guarded(setup: Setup) -> Setup {
    setup
        .set("callbacks.allow_private_networks", "false")
        .set("callbacks.allow_networks", "127.0.0.2/32")
        .set("callbacks.schedule", "50ms,50ms")
        .set("callbacks.timeout", "2s")
}

/// The same, with a name server.
async fn guarded_by(names: &NameServer) -> Scene {
    Scene::start_with(|setup| guarded(setup).set("callbacks.dns_servers", &names.address())).await
}

/// A batch that is complete at once, and reports to `url`.
fn to(url: &str) -> Value {
    json!({"body": "Hello", "recipients": [], "callback_url": url})
}

/// Waits until the callback of a batch is in `state`; gives what is told of its attempts.
async fn ended(scene: &Scene, id: &str, state: &str) -> Vec<Told> {
    let what = format!("a callback that is {state}");
    shown_when(&scene.client, id, &what, |batch| batch["callback"]["state"] == state).await;
    let told = scene.client.get(&format!("/v1/batches/{id}/callbacks")).await.json();
    let attempts = told["attempts"].as_array().unwrap().iter();
    attempts
        .map(|attempt| {
            let error = attempt["error"].as_str().unwrap_or_default().to_owned();
            let latency = Duration::from_millis(attempt["latency_ms"].as_u64().unwrap());
            (attempt["status"].as_u64(), error, latency)
        })
        .collect()
}

#[tokio::test]
async fn a_name_that_turns_to_a_forbidden_address_leads_nobody_there() {
    let port = free_port();
    let trap = Trap::at(port);
    // It resets the first callback, so that the second needs a connection of its own.
    let receiver = Receiver::scripted_at((PERMITTED, port).into(), [Reply::Reset]);
    let [first, then] = [PERMITTED, FORBIDDEN].map(|ip| Records::Addresses(vec![ip]));
    let names = NameServer::start([("rebind.example", vec![first, then])]);
    let scene = guarded_by(&names).await;
    let id = accepted(&scene.client, &to(&format!("http://rebind.example:{port}/"))).await;
    let told = ended(&scene, &id, "exhausted").await;
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].1.starts_with("no answer: "), "{told:?}");
    for (status, error, _) in &told[1..] {
        assert_eq!(*status, None);
        assert!(error.starts_with("the address is a loopback one; "), "{error}");
        assert!(error.contains("callbacks.allow_private_networks"), "{error}");
    }
    assert_eq!((receiver.deliveries().len(), trap.arrivals()), (1, 0));
    // One lookup each: the address that was judged is the one that is connected to.
    assert_eq!(names.asked_for("rebind.example"), 3);
}

#[tokio::test]
async fn names_that_lead_astray_or_nowhere_end_with_a_clear_error() {
    let port = free_port();
    let (trap, receiver) = (Trap::at(port), Receiver::start_at((PERMITTED, port).into()));
    let addresses = |all: &[Ipv4Addr]| Records::Addresses(all.to_vec());
    let last = [[PERMITTED; 20].as_slice(), &[FORBIDDEN]].concat();
    let metadata = Ipv4Addr::new(169, 254, 169, 254);
    let local = "the address is a loopback one; ";
    let cases = [
        ("mixed.example", addresses(&[PERMITTED, FORBIDDEN]), local),
        ("last.example", addresses(&last), local),
        ("inside.example", addresses(&[FORBIDDEN]), local),
        ("alias.example", Records::Alias("db.internal", vec![FORBIDDEN]), local),
        ("metadata.example", addresses(&[metadata]), "the address is a link-local one; "),
        ("failing.example", Records::Failure, "could not connect: the name server failed: "),
        ("gone.example", Records::Unknown, "could not connect: the host's name was not found"),
        ("empty.example", addresses(&[]), "could not connect: the host's name has no address"),
        ("silent.example", Records::Silence, "could not connect: the name server did not answer"),
        // Known without asking anybody.
        ("localhost", Records::Unknown, local),
    ];
    let names = NameServer::start(cases.clone().map(|(name, records, _)| (name, vec![records])));
    let scene = guarded_by(&names).await;
    let mut ids = Vec::new();
    for (name, _, expected) in &cases {
        let id = accepted(&scene.client, &to(&format!("http://{name}:{port}/"))).await;
        ids.push((id, name, expected));
    }
    for (id, name, expected) in ids {
        let told = ended(&scene, &id, "exhausted").await;
        assert_eq!(told.len(), 3, "{name}: {told:?}");
        for (status, error, latency) in told {
            assert_eq!(status, None, "{name}");
            assert!(error.starts_with(expected), "{name}: {error}");
            assert!(latency < Duration::from_millis(1_900), "{name}: {latency:?}");
        }
    }
    assert_eq!((receiver.deliveries().len(), trap.arrivals()), (0, 0));
    let good = accepted(&scene.client, &to(&format!("http://{PERMITTED}:{port}/"))).await;
    ended(&scene, &good, "delivered").await;
    assert_eq!((receiver.deliveries().len(), trap.arrivals()), (1, 0));
}

#[tokio::test]
async fn what_the_systems_resolver_says_is_judged_as_well() {
    let trap = Trap::at(0);
    let scene = Scene::start_with(guarded).await;
    let id = accepted(&scene.client, &to(&format!("http://localhost:{}/", trap.port()))).await;
    for (status, error, _) in ended(&scene, &id, "exhausted").await {
        assert_eq!(status, None);
        assert!(error.contains("callbacks.allow_private_networks"), "{error}");
    }
    assert_eq!(trap.arrivals(), 0);
}

#[tokio::test]
async fn a_redirect_to_a_forbidden_address_reaches_nobody() {
    let trap = Trap::at(0);
    let place = format!("http://127.0.0.1:{}/", trap.port());
    let redirect =
        format!("HTTP/1.1 307 Go\r\nlocation: {place}\r\ncontent-length: 0\r\n\r\n").into_bytes();
    let receiver = Hostile::start(Habit::Write(redirect), PERMITTED.octets());
    let scene = Scene::start_with(guarded).await;
    let id = accepted(&scene.client, &to(&receiver.url())).await;
    for (status, error, _) in ended(&scene, &id, "exhausted").await {
        assert_eq!(status, Some(307));
        assert!(error.contains("redirects are not followed"), "{error}");
    }
    assert_eq!((receiver.requests(), trap.arrivals()), (3, 0));
}

#[tokio::test]
async fn tls_asks_for_the_name_and_not_for_the_address_that_was_judged() {
    let listener = tokio::net::TcpListener::bind((PERMITTED, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = NameServer::start([("hooks.example", vec![Records::Addresses(vec![PERMITTED])])]);
    let scene = guarded_by(&names).await;
    accepted(&scene.client, &to(&format!("https://hooks.example:{port}/"))).await;
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut hello = Vec::new();
    // The client's first message names the server in plain text.
    while !hello.windows(13).any(|part| part == b"hooks.example") {
        assert!(timeout(PATIENCE, stream.read_buf(&mut hello)).await.unwrap().unwrap() > 0);
    }
    assert_eq!(hello[0], 22, "a handshake");
}

#[tokio::test]
async fn what_the_rules_forbid_is_refused_at_once_and_the_key_is_named() {
    let scene = Scene::start_with(|setup| {
        guarded(setup)
            .set("callbacks.allow_networks", "127.0.0.2/32,10.1.0.0/16,93.184.216.0/24")
            .set("callbacks.deny_networks", "10.1.2.0/24,93.0.0.0/8")
            .set("callbacks.allow_ports", "443,8000-8999")
            .set("callbacks.deny_ports", "8443")
    })
    .await;
    let strict = Scene::start_with(|setup| setup.set("callbacks.https_only", "true")).await;
    let refused = [
        (&scene, "http://127.0.0.1:8000/", "callbacks.allow_private_networks"),
        (&scene, "http://10.2.0.1:8000/", "callbacks.allow_networks"),
        (&scene, "http://169.254.169.254:8000/", "callbacks.allow_networks"),
        (&scene, "http://10.1.2.3:8000/", "callbacks.deny_networks"),
        (&scene, "http://[::ffff:10.1.2.3]:8000/", "callbacks.deny_networks"),
        (&scene, "http://93.1.1.1:8000/", "callbacks.deny_networks"),
        (&scene, "http://hooks.example/", "callbacks.allow_ports"),
        (&scene, "https://hooks.example:8443/", "callbacks.deny_ports"),
        (&strict, "http://hooks.example/", "callbacks.https_only"),
    ];
    for (scene, url, key) in refused {
        let answer = scene.client.post_batch(&to(url)).await;
        assert_eq!(answer.status, 422, "{url}: {}", answer.text);
        let problem = answer.json();
        assert_eq!(problem["code"], "callback_url_forbidden", "{url}");
        assert!(problem["detail"].as_str().unwrap().contains(key), "{url}: {problem}");
        let test = scene.client.post("/v1/callbacks/test", &[], json!({"url": url}).to_string());
        assert_eq!(test.await.json()["code"], "callback_url_forbidden", "{url}");
    }
}

/// How many callbacks go to each of the bad receivers, and how many to the good one.
const BAD: usize = 32;
const GOOD: usize = 100;

/// The longest attempt.
const TIMEOUT: Duration = Duration::from_secs(1);

/// From the completion to the good receiver, for 99 of 100 callbacks: less than a bad one takes, on a
/// machine that is busy with other tests.
const LATENCY_MAX: Duration = Duration::from_millis(800);

/// By how much the process may grow, in KiB.
const GROWTH_KIB_MAX: u64 = 48 * 1024;

/// What the bad receivers do, and how each attempt at them ends.
fn worst() -> [(&'static str, Habit, Option<u64>, &'static str); 8] {
    let flood = |head, unit: &str, bytes| Habit::Flood(head, unit.to_owned(), bytes);
    let header = format!("x: {}\r\n", "y".repeat(1_000));
    let (refused, late) = ("the receiver answered 500", "no answer within 1s");
    let refusal = "HTTP/1.1 500 Oh\r\n\r\n";
    let many = "no answer: more than 131072 bytes came in answer";
    let large = "no answer: message head is too large";
    let hint = "HTTP/1.1 103 Hints\r\n\r\n";
    [
        ("drips its head", Habit::Drip("HTTP/1.1 200 O"), None, late),
        ("drips its body", Habit::Drip(refusal), Some(500), refused),
        ("answers 1 GB", flood(refusal, "x", 1 << 30), Some(500), refused),
        ("answers a gzip bomb", Habit::bomb(), Some(500), refused),
        ("answers 10 MB of headers", flood("HTTP/1.1 200 OK\r\n", &header, 10 << 20), None, large),
        ("answers 1 GB of hints", flood("", hint, 1 << 30), None, many),
        ("resets", Habit::Reset, None, "no answer: "),
        ("says nothing", Habit::Silence, None, late),
    ]
}

#[tokio::test]
async fn receivers_that_do_their_worst_harm_nobody_else() {
    let mut row =
        Row::begin(16, "receivers that do their worst", Kind::Redis, "ends in time, memory");
    let scene = Scene::start_with(|setup| {
        setup
            .set("callbacks.timeout", "1s")
            .set("callbacks.schedule", "100ms,100ms")
            // They are not left alone.
            .set("callbacks.breaker_failures", "100000")
    })
    .await;
    let alone = latencies(&scene, 0).await;
    let before_kib = memory_kib(scene.ringback.pid(), "VmRSS");

    let bad = worst().map(|(what, habit, status, error)| {
        (what, Hostile::start(habit, FORBIDDEN.octets()), status, error)
    });
    let mut ids = Vec::new();
    for _ in 0..BAD {
        for (what, receiver, status, error) in &bad {
            let id = accepted(&scene.client, &to(&receiver.url())).await;
            ids.push((id, *what, *status, *error));
        }
    }
    eventually("a callback at each bad receiver", PATIENCE, async || {
        bad.iter().all(|(_, receiver, ..)| receiver.requests() > 0).then_some(())
    })
    .await;
    let beside = latencies(&scene, GOOD).await;
    let waiting = scene.client.get("/v1/callbacks?state=pending&limit=1000").await.json();
    let waiting = waiting["callbacks"].as_array().unwrap().len();

    let mut longest = Duration::ZERO;
    for (id, what, status, error) in &ids {
        let told = ended(&scene, id, "exhausted").await;
        assert_eq!(told.len(), 3, "{what}: {told:?}");
        for (its_status, its_error, latency) in told {
            assert_eq!(its_status, *status, "{what}: {its_error}");
            assert!(its_error.starts_with(error), "{what}: {its_error}");
            longest = longest.max(latency);
        }
    }
    let [peak_kib, after_kib] = ["VmHWM", "VmRSS"].map(|key| memory_kib(scene.ringback.pid(), key));
    assert!(longest < TIMEOUT * 2, "{longest:?}");
    assert!(waiting > 0, "the bad receivers were done before the good one was");
    assert!(peak_kib < before_kib + GROWTH_KIB_MAX, "{before_kib} KiB became {peak_kib}");
    assert!(beside.1 <= LATENCY_MAX, "{:?}", beside.1);
    row.inject_times("attempt at a bad receiver", u32::try_from(ids.len() * 3).unwrap());
    let measured = format!(
        "the longest {longest:.2?} of {TIMEOUT:?}; memory {before_kib} KiB before, {peak_kib} at \
         most, {after_kib} after; completion to callback: median {:.1?}, p99 {:.1?} alone, median \
         {:.1?}, p99 {:.1?} beside them",
        alone.0, alone.1, beside.0, beside.1
    );
    let good = scene.receiver.deliveries().len();
    row.end(&Found::reports(good, good), measured);
}

/// Median and 99th percentile of the time from a completion to the good receiver, which has had so
/// many deliveries before.
async fn latencies(scene: &Scene, had: usize) -> (Duration, Duration) {
    let (zero, now) = (Instant::now(), Clock::system().now());
    let good = with_callback(json!({"body": "Hello", "recipients": []}), &scene.receiver);
    for _ in 0..GOOD {
        accepted(&scene.client, &good).await;
    }
    let deliveries = scene.receiver.wait_for(had + GOOD, PATIENCE).await;
    let mut latencies: Vec<_> =
        deliveries[had..].iter().map(|delivery| latency(delivery, zero, now)).collect();
    latencies.sort_unstable();
    (latencies[GOOD / 2], latencies[GOOD * 99 / 100])
}
