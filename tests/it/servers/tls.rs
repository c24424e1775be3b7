//! Encrypted connections, certificates and users.

use crate::{
    harness::{
        Authority, PATIENCE, Provider, Receiver, Redis, Ringback, Setup, StoreUrl, eventually,
        free_port, rule, run_to_end,
    },
    scene::{accepted, batch, counts, numbers, one_report, setup, these, with_callback},
};

/// A server with a port for TLS.
struct Secure {
    redis: Redis,
    port: u16,
}

// === impl Secure ===

impl Secure {
    /// Starts one with the authority's certificate. It asks its clients for theirs if `auth` is `yes`.
    async fn start(authority: &Authority, auth: &str) -> Self {
        let port = free_port();
        let redis = Redis::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &authority.path("server.pem"),
            "--tls-key-file",
            &authority.path("server.key"),
            "--tls-ca-cert-file",
            &authority.path("ca.pem"),
            "--tls-auth-clients",
            auth,
        ])
        .await;
        Self { redis, port }
    }
}

impl StoreUrl for Secure {
    fn store_url(&self) -> String {
        format!("rediss://{}127.0.0.1:{}", Redis::login(), self.port)
    }
}

/// The service brings a batch to its end, and reports it.
async fn serves(store: &impl StoreUrl, settings: impl FnOnce(Setup) -> Setup) {
    let (provider, receiver) = (Provider::start(), Receiver::start());
    let ringback = settings(setup(store, &provider)).start().await;
    let client = ringback.client();
    let id = accepted(&client, &with_callback(batch(numbers(0..50)), &receiver)).await;
    let complete = one_report(&client, &receiver, &id, PATIENCE).await;
    assert_eq!(counts(&complete), these([("sent", 50)]));
}

#[tokio::test]
async fn a_server_is_trusted_by_an_authority_of_ones_own() {
    let authority = Authority::new();
    let secure = Secure::start(&authority, "no").await;
    serves(&secure, |setup| setup.set("store.tls.ca", &authority.path("ca.pem"))).await;
    assert!(secure.redis.ask("DBSIZE") != ":0\r\n", "the batch is elsewhere");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_it() {
    let authority = Authority::new();
    let secure = Secure::start(&authority, "yes").await;
    serves(&secure, |setup| {
        setup
            .set("store.tls.ca", &authority.path("ca.pem"))
            .set("store.tls.cert", &authority.path("client.pem"))
            .set("store.tls.key", &authority.path("client.key"))
    })
    .await;
}

#[tokio::test]
async fn a_server_of_another_authority_is_waited_for_and_gets_nothing() {
    let secure = Secure::start(&Authority::new(), "no").await;
    let another = Authority::new();
    let ringback = Ringback::on(&secure).set("store.tls.ca", &another.path("ca.pem")).spawn();
    eventually("a word on the certificate", PATIENCE, async || {
        let log = ringback.log();
        let line = log.lines().find(|line| line.contains("waiting for the store"))?;
        assert!(line.contains("can't be reached") && line.contains("certificate"), "{line}");
        assert!(!log.contains("hush"), "{log}");
        Some(())
    })
    .await;
    assert_eq!(secure.redis.ask("DBSIZE"), ":0\r\n");
}

#[tokio::test]
async fn the_user_of_the_manual_can_do_nothing_else() {
    let redis = Redis::start().await;
    let url = redis.url();
    let client = redis::Client::open(url.as_str()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for command in [
        "SET other 1",
        "GET other",
        "FLUSHALL",
        "KEYS *",
        "CONFIG GET *",
        "ACL LIST",
        "SCRIPT FLUSH",
        "SUBSCRIBE other",
        "SHUTDOWN NOSAVE",
    ] {
        let mut words = command.split(' ');
        let mut asked = redis::cmd(words.next().unwrap());
        asked.arg(words.collect::<Vec<_>>());
        let answer = asked.query_async::<redis::Value>(&mut connection).await;
        let error = answer.expect_err(command);
        assert_eq!(error.code(), Some("NOPERM"), "{command}: {error}");
    }
    assert!(!rule().contains("nopass"));
}

#[tokio::test]
async fn a_wrong_password_ends_the_start_and_is_not_shown() {
    let redis = Redis::start().await;
    let url = redis.url().replace("hush", "wrong-and-secret");
    let mut ringback = crate::harness::command();
    ringback.arg("serve").env(crate::harness::variable("store.url"), url);
    let ran = run_to_end(ringback);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.to_lowercase().contains("authentication") || ran.err.contains("WRONGPASS"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("wrong-and-secret"), "{}", ran.err);
}
