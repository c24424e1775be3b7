//! Whether receivers can trust callbacks: real ones, as they arrived, judged by the libraries that
//! receivers use.

mod oracles;

use std::{io::Write, iter};

use serde_json::{Value, json};
use tempfile::NamedTempFile;

use self::oracles::{Case, LIBRARIES, Oracle};
use crate::{
    harness::{
        Client, Delivery, Kind, PATIENCE, Ran, Watched, command, eventually, key_hash, run_to_end,
        variable,
    },
    scene::{SECRET, Scene, accepted, numbers},
};

/// Other secrets than the scene's.
const NEW_SECRET: &str = "whsec_OTg3NjU0MzIxMDk4NzY1NDMyMTA5ODc2NTQzMjEw";
const THIRD_SECRET: &str = "whsec_dGhlIHRoaXJkIHNlY3JldCBvZiB0aGVzZSB0ZXN0cw==";

/// An account's API key.
const ACME: &str = "rbk_the-key-of-acme";
const ZETA: &str = "rbk_the-key-of-zeta";

/// Posts a batch and gives its callback as it arrived.
async fn callback(scene: &Scene, client: &Client, further: Value) -> Delivery {
    let mut batch = scene.batch(numbers(0..2));
    for (field, value) in further.as_object().unwrap() {
        batch[field] = value.clone();
    }
    let id = accepted(client, &batch).await;
    let event = format!("evt_{}", id.strip_prefix("bat_").unwrap());
    eventually("the callback", PATIENCE, async || {
        let mut deliveries = scene.receiver.deliveries().into_iter();
        deliveries.find(|delivery| delivery.header("webhook-id") == event)
    })
    .await
}

/// Each of `oracles` accepts the callback, and refuses it with any bit flipped.
fn trusted_by(oracles: &[Oracle], verifier: &str, delivery: &Delivery) {
    let genuine = Case { verifier: verifier.to_owned(), delivery: delivery.clone() };
    let (flipped, forged): (Vec<_>, Vec<_>) = genuine.forgeries().into_iter().unzip();
    let cases: Vec<_> = iter::once(genuine).chain(forged).collect();
    for oracle in oracles {
        let verdicts = oracle.judge(&cases);
        let signatures = delivery.header("webhook-signature");
        assert!(verdicts[0], "{oracle:?} refuses {signatures}");
        for (what, accepted) in flipped.iter().zip(&verdicts[1..]) {
            assert!(!accepted, "{oracle:?} accepts another {what}");
        }
    }
}

/// Each of the libraries refuses the callback.
fn refused_with(secret: &str, delivery: &Delivery) {
    let case = Case { verifier: secret.to_owned(), delivery: delivery.clone() };
    for oracle in LIBRARIES {
        assert_eq!(oracle.judge(std::slice::from_ref(&case)), [false], "{oracle:?}");
    }
}

/// How many signatures of `v1` and of `v1a` there are.
fn signatures(delivery: &Delivery) -> (usize, usize) {
    let of = |version: &str| {
        let all = delivery.header("webhook-signature").split(' ');
        all.filter(|signature| signature.starts_with(version)).count()
    };
    (of("v1,"), of("v1a,"))
}

/// Runs the program with arguments and settings from the environment.
fn run(arguments: &[&str], settings: &[(&str, &str)]) -> Ran {
    let mut command = command();
    command.args(arguments);
    command.envs(settings.iter().map(|(key, value)| (variable(key), value)));
    run_to_end(command)
}

/// A new Ed25519 key, private and public, as the program makes it.
fn new_key() -> (String, String) {
    let made = run(&["secret", "new", "--ed25519", "--json"], &[]);
    let made: Value = serde_json::from_str(&made.out).unwrap();
    let key = |name: &str| made[name].as_str().unwrap().to_owned();
    (key("private_key"), key("public_key"))
}

#[tokio::test]
async fn three_libraries_accept_a_callback_as_it_arrived_and_refuse_it_with_a_bit_flipped() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let delivery = callback(&scene, &scene.client, json!({"reference": "Grüße, мир"})).await;
    assert_eq!(signatures(&delivery), (1, 0));
    trusted_by(&LIBRARIES, SECRET, &delivery);
    refused_with(NEW_SECRET, &delivery);
}

#[tokio::test]
async fn receivers_with_the_old_and_with_the_new_secret_both_accept_while_it_is_replaced() {
    let both = format!("{SECRET},{NEW_SECRET}");
    let scene =
        Scene::start_on_with(Kind::Embedded, |setup| setup.set("callbacks.signing_secrets", &both))
            .await;
    let delivery = callback(&scene, &scene.client, json!({})).await;
    assert_eq!(signatures(&delivery), (2, 0));
    for secret in [SECRET, NEW_SECRET] {
        trusted_by(&LIBRARIES, secret, &delivery);
    }
    refused_with(THIRD_SECRET, &delivery);
}

#[tokio::test]
async fn an_accounts_callbacks_are_signed_with_its_own_secrets_alone() {
    let scene = Scene::start_on_with(Kind::Embedded, |setup| {
        setup
            .set("accounts.acme.api_key_hashes", &key_hash(ACME))
            .set("accounts.acme.signing_secrets", &format!("{NEW_SECRET},{THIRD_SECRET}"))
            .set("accounts.zeta.api_key_hashes", &key_hash(ZETA))
    })
    .await;
    let acmes = callback(&scene, &scene.client.with_key(ACME), json!({})).await;
    assert_eq!(signatures(&acmes), (2, 0));
    for secret in [NEW_SECRET, THIRD_SECRET] {
        trusted_by(&LIBRARIES, secret, &acmes);
    }
    refused_with(SECRET, &acmes);
    let zetas = callback(&scene, &scene.client.with_key(ZETA), json!({})).await;
    trusted_by(&LIBRARIES, SECRET, &zetas);
    refused_with(NEW_SECRET, &zetas);
    let log = scene.ringback.log();
    assert!([SECRET, NEW_SECRET].iter().all(|secret| !log.contains(&secret[6..])), "{log}");
}

#[tokio::test]
async fn a_batchs_own_secret_signs_its_callback_alone_and_is_never_shown() {
    let scene = Scene::start_on_with(Kind::Embedded, |setup| {
        setup
            .set("accounts.acme.api_key_hashes", &key_hash(ACME))
            .set("accounts.acme.signing_secrets", NEW_SECRET)
    })
    .await;
    let client = scene.client.with_key(ACME);
    let delivery = callback(&scene, &client, json!({"callback_secret": THIRD_SECRET})).await;
    assert_eq!(signatures(&delivery), (1, 0));
    trusted_by(&LIBRARIES, THIRD_SECRET, &delivery);
    for secret in [SECRET, NEW_SECRET] {
        refused_with(secret, &delivery);
    }
    let listed = client.get("/v1/batches").await.text;
    let hidden = &THIRD_SECRET[6..];
    assert!(!listed.contains(hidden) && !scene.ringback.log().contains(hidden), "{listed}");
}

#[tokio::test]
async fn a_callback_verifies_with_the_published_key_and_the_receivers_secret_too() {
    let (private, public) = new_key();
    let (old_private, old_public) = new_key();
    let scene = Scene::start_on_with(Kind::Embedded, |setup| {
        setup
            .set("callbacks.signing_keys", &format!("{private},{old_private}"))
            .set("accounts.acme.api_key_hashes", &key_hash(ACME))
    })
    .await;
    // Without an API key.
    let published = scene.client.get("/.well-known/webhook-keys").await;
    assert_eq!(published.status, 200, "{}", published.text);
    assert_eq!(published.header("cache-control"), "public, max-age=300");
    let key = |public: &str| json!({"type": "ed25519", "public_key": public});
    assert_eq!(published.json(), json!({"keys": [key(&public), key(&old_public)]}));
    let delivery = callback(&scene, &scene.client.with_key(ACME), json!({})).await;
    assert_eq!(signatures(&delivery), (1, 2));
    // The libraries pass over signatures they don't know.
    trusted_by(&LIBRARIES, SECRET, &delivery);
    trusted_by(&[Oracle::Node], &public, &delivery);
    trusted_by(&[Oracle::Node], &old_public, &delivery);
    let stranger = Case { verifier: new_key().1, delivery: delivery.clone() };
    assert_eq!(Oracle::Node.judge(&[stranger]), [false]);
    let told = listen(&public, &Case { verifier: public.clone(), delivery }).await;
    let verdicts: Vec<_> = told.iter().map(|told| &told["signature"]["verdict"]).collect();
    let refused = "does_not_hold";
    assert_eq!(verdicts, ["holds", refused, refused, refused, refused]);
}

/// What `ringback listen --secret` tells of a callback, and of its forgeries.
async fn listen(verifier: &str, genuine: &Case) -> Vec<Value> {
    let mut command = command();
    command.args(["listen", "--port", "0", "--json", "--secret", verifier]);
    let listening = Watched::start(command);
    listening.wait_for("Ctrl-C ends it").await;
    let said = listening.err();
    let (_, url) = said.split_once("listening on ").unwrap();
    let client = Client::of(url.split_once(';').unwrap().0);
    let forged = genuine.forgeries().into_iter().map(|(_, forged)| forged);
    for (place, case) in iter::once(genuine.clone()).chain(forged).enumerate() {
        let names = ["webhook-id", "webhook-timestamp", "webhook-signature"];
        let headers = names.map(|name| (name, case.delivery.header(name)));
        assert_eq!(client.post("/", &headers, case.delivery.body.clone()).await.status, 200);
        eventually("the report", PATIENCE, async || {
            (listening.out().lines().count() > place).then_some(())
        })
        .await;
    }
    listening.out().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn without_ed25519_keys_none_are_published() {
    let scene = Scene::start_on(Kind::Embedded).await;
    let published = scene.client.get("/.well-known/webhook-keys").await;
    assert_eq!((published.status, published.json()), (200, json!({"keys": []})));
}

#[test]
fn a_new_ed25519_key_can_be_configured_as_it_is_printed_and_is_shown_by_its_public_half() {
    let made = run(&["secret", "new", "--ed25519"], &[]);
    assert_eq!(made.code, 0, "{}", made.err);
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let section = &made.out[made.out.find("[callbacks]").unwrap()..];
    let section = &section[..section.find("\n\n").unwrap()];
    file.write_all(section.as_bytes()).unwrap();
    let public = made.out.trim().rsplit('\n').next().unwrap();
    let path = file.path().to_str().unwrap();
    let settings = [("callbacks.signing_secrets", SECRET)];
    assert_eq!(run(&["config", "check", "--config", path], &settings).code, 0);
    let shown = run(&["secret", "show", "--config", path], &settings);
    assert_eq!(shown.out, format!("{SECRET}\n{public}\n"), "{}", shown.err);
    assert!(public.starts_with("whpk_"), "{public}");
    let private = &section[section.find("whsk_").unwrap()..][..40];
    let config = run(&["config", "show", "--config", path], &settings);
    assert!(!config.out.contains(private) && config.out.contains("signing_keys"), "{}", config.out);
}

#[test]
fn secrets_are_shown_with_whom_they_sign_for() {
    let (private, public) = new_key();
    let file = accounts();
    let arguments = ["secret", "show", "--config", file.path().to_str().unwrap()];
    let settings = [
        ("callbacks.signing_secrets", SECRET),
        ("callbacks.signing_keys", private.as_str()),
        ("accounts.acme.signing_secrets", NEW_SECRET),
    ];
    let shown = run(&arguments, &settings);
    // What is on stdout can be given to `ringback listen --secret` as it is.
    assert_eq!(shown.out, format!("{SECRET}\n{NEW_SECRET}\n{public}\n"));
    assert!(shown.err.contains("for the account acme:"), "{}", shown.err);
    assert!(!shown.err.contains("zeta"), "{}", shown.err);
    let shown = run(&[&arguments[..], &["--json"]].concat(), &settings);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    let expected = json!({"secrets": [SECRET], "accounts": {"acme": [NEW_SECRET]},
        "public_keys": [public]});
    assert_eq!(shown, expected);
    assert!(run(&["config", "show"], &settings[..2]).out.contains("********"));
}

#[test]
fn an_accounts_secret_that_is_none_keeps_the_server_from_starting_and_is_not_shown() {
    let file = accounts();
    let path = file.path().to_str().unwrap();
    let settings = [("accounts.acme.signing_secrets", "whsec_aHVzaGh1c2g=")];
    let checked = run(&["config", "check", "--config", path], &settings);
    assert_eq!(checked.code, 1);
    let served = run(&["serve", "--config", path], &settings);
    assert_eq!(served.code, 2);
    for said in [checked.err, served.err] {
        assert!(said.contains("accounts.acme.signing_secrets[0]: "), "{said}");
        assert!(!said.contains("aHVz"), "{said}");
    }
    let settings = [("accounts.acme.signing_secrets", NEW_SECRET)];
    let shown = run(&["config", "show", "--config", path], &settings);
    assert!(shown.out.contains("signing_secrets = [\"********\"]"), "{}", shown.out);
    assert!(!shown.out.contains(&NEW_SECRET[6..]), "{}", shown.out);
}

#[test]
fn a_private_key_is_no_receivers() {
    let (private, _) = new_key();
    let refused = run(&["listen", "--secret", &private], &[]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.err.contains("whpk_") && !refused.err.contains(&private[5..]),
        "{}",
        refused.err
    );
}

/// A configuration with two accounts.
fn accounts() -> NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let (acme, zeta) = (key_hash(ACME), key_hash(ZETA));
    write!(
        file,
        "[accounts.acme]\napi_key_hashes = [\"{acme}\"]\n\
         [accounts.zeta]\napi_key_hashes = [\"{zeta}\"]\n"
    )
    .unwrap();
    file
}
