//! Twilio, as its customers use it: against one that keeps books, and whose answers get lost.

mod oracle;
mod reported;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ringback::{
    domain::{
        ids::{BatchId, MessageId},
        outcome::{Outcome, SendError},
        time::UnixMs,
    },
    providers::{
        Provider, Submission,
        registry::{self, ProviderSettings},
    },
};
use serde_json::{Value, json};

use crate::{
    harness::{
        ACCOUNT, API_KEY, API_SECRET, Backing, Client, Create, Kind, PATIENCE, Ringback, Setup,
        TOKEN, Twilio, eventually, free_port,
    },
    scene::{accepted, batch, counts, messages, number, numbers, shown, these},
};

const SENDER: &str = "+15550001111";
const SERVICE: &str = "MG0123456789abcdef0123456789abcdef";
const PUBLIC: &str = "https://sms.example.com";

/// A provider called `main` at `twilio`.
fn provider(twilio: &Twilio, further: &Value) -> Arc<dyn Provider> {
    provider_at(&twilio.base_url(), further)
}

fn provider_at(base_url: &str, further: &Value) -> Arc<dyn Provider> {
    let mut settings = json!({
        "kind": "twilio", "base_url": base_url, "account_sid": ACCOUNT, "auth_token": TOKEN,
    });
    for (key, value) in further.as_object().unwrap() {
        settings[key] = value.clone();
    }
    let settings: ProviderSettings = serde_json::from_value(settings).unwrap();
    registry::build("main", &settings, PUBLIC).unwrap()
}

fn id(index: u32) -> MessageId {
    MessageId { batch: BatchId::new(UnixMs(1_790_000_000_000), 99 << 30, 0), index }
}

/// What submitting the message of this index comes to.
async fn submitted(provider: &dyn Provider, index: u32, from: Option<&str>) -> Outcome {
    let to = number(0);
    let valid_for = Some(Duration::from_mins(5));
    let submission =
        Submission { id: id(index), to: &to, from, body: "Hi Ünn & co", attempts: 0, valid_for };
    provider.submit(submission).await
}

async fn outcome(provider: &dyn Provider) -> Outcome {
    submitted(provider, 0, Some(SENDER)).await
}

fn taken(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::Accepted { provider_message_id, receipt_follows } => {
            (provider_message_id.unwrap(), receipt_follows)
        }
        other => panic!("{other:?}"),
    }
}

fn unknown(outcome: Outcome) -> SendError {
    match outcome {
        Outcome::Unknown { error } => error,
        other => panic!("{other:?}"),
    }
}

/// What is said and what Twilio said, of whatever went wrong.
fn codes(outcome: &Outcome) -> (&str, Option<&str>) {
    match outcome {
        Outcome::Temporary { error, .. }
        | Outcome::Throttled { error, .. }
        | Outcome::Rejected { error }
        | Outcome::Unknown { error } => (&error.code, error.provider_code.as_deref()),
        Outcome::Accepted { .. } => panic!("{outcome:?}"),
    }
}

#[tokio::test]
async fn a_message_is_created_once_and_reported_to_its_own_url() {
    let twilio = Twilio::start();
    let (sid, receipt_follows) = taken(outcome(&*provider(&twilio, &json!({}))).await);
    assert_eq!(twilio.sids_to(&number(0)), [sid]);
    assert!(receipt_follows);
    let [asked] = &twilio.creations()[..] else { panic!("{:?}", twilio.creations()) };
    let callback = format!("{PUBLIC}/v1/receipts/main?message={}", id(0));
    let expected = [
        ("To", &*number(0)),
        ("From", SENDER),
        ("Body", "Hi Ünn & co"),
        ("StatusCallback", &callback),
        ("ValidityPeriod", "300"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(asked.fields, expected.into());
    assert_eq!(asked.user, ACCOUNT);
    assert!(twilio.lists().is_empty());
}

#[tokio::test]
async fn an_api_key_goes_before_the_auth_token_and_receipts_can_be_off() {
    let twilio = Twilio::start();
    let further = json!({
        "api_key_sid": API_KEY, "api_key_secret": API_SECRET, "receipts": false,
        "messaging_service_sid": SERVICE,
    });
    let (_, receipt_follows) = taken(submitted(&*provider(&twilio, &further), 0, None).await);
    assert!(!receipt_follows);
    let asked = &twilio.creations()[0];
    assert_eq!(asked.user, API_KEY);
    assert_eq!(asked.fields["MessagingServiceSid"], SERVICE);
    for absent in ["From", "StatusCallback"] {
        assert!(!asked.fields.contains_key(absent), "{absent}");
    }
    let stranger = provider(&twilio, &json!({"auth_token": "another"}));
    assert_eq!(codes(&outcome(&*stranger).await), ("provider_auth", Some("20003")));
}

#[tokio::test]
async fn refusals_are_final_or_passing_or_pause_and_are_never_looked_up() {
    let twilio = Twilio::start();
    let provider = provider(&twilio, &json!({}));
    let answered = async |create| {
        twilio.set(create);
        outcome(&*provider).await
    };
    for (code, word) in [
        (21211, "invalid_number"),
        (21610, "opted_out"),
        (21606, "invalid_sender"),
        (7, "provider_rejected"),
    ] {
        let refused = answered(Create::Refuse(400, code)).await;
        assert!(matches!(refused, Outcome::Rejected { .. }), "{refused:?}");
        assert_eq!(codes(&refused), (word, Some(&*code.to_string())));
    }
    let failed = answered(Create::Refuse(500, 20500)).await;
    assert!(matches!(failed, Outcome::Temporary { certain: false, .. }), "{failed:?}");
    let away = answered(Create::Balancer(503)).await;
    assert!(matches!(away, Outcome::Temporary { certain: true, .. }), "{away:?}");
    let full = answered(Create::Refuse(400, 21611)).await;
    assert_eq!(codes(&full), ("sender_queue_full", Some("21611")));
    assert!(
        matches!(full, Outcome::Throttled { after, .. } if after == Duration::from_secs(10)),
        "{full:?}"
    );
    let until = Instant::now() + Duration::from_mins(1);
    let throttled = answered(Create::Throttle { until, retry_after_s: 3 }).await;
    assert_eq!(codes(&throttled), ("provider_throttled", Some("20429")));
    assert!(
        matches!(throttled, Outcome::Throttled { after, .. } if after == Duration::from_secs(3)),
        "{throttled:?}"
    );
    assert!(twilio.lists().is_empty() && twilio.sids_to(&number(0)).is_empty());
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_found_in_the_list() {
    for create in [Create::TakeAndReset, Create::TakeAndHang] {
        let twilio = Twilio::start();
        // Another one to the same recipient, with other words.
        let others = provider(&twilio, &json!({"receipts": false}));
        let to = number(0);
        let other = Submission {
            id: id(9),
            to: &to,
            from: Some(SENDER),
            body: "Ho",
            attempts: 0,
            valid_for: None,
        };
        taken(others.submit(other).await);
        twilio.set(create);
        let (sid, receipt_follows) =
            taken(outcome(&*provider(&twilio, &json!({"timeout": "2s"}))).await);
        assert_eq!(sid, twilio.sids_to(&number(0))[0]);
        assert!(receipt_follows);
        assert_eq!((twilio.creations().len(), twilio.lists().len()), (2, 1), "{create:?}");
        let list = &twilio.lists()[0].fields;
        assert_eq!((&*list["To"], &*list["From"]), (&*number(0), SENDER));
    }
}

#[tokio::test]
async fn a_services_message_is_found_though_it_has_no_sender_yet() {
    let twilio = Twilio::start();
    twilio.set(Create::TakeAndReset);
    let provider = provider(&twilio, &json!({"messaging_service_sid": SERVICE}));
    let (sid, _) = taken(submitted(&*provider, 0, None).await);
    assert_eq!(twilio.sids_to(&number(0)), [sid]);
}

#[tokio::test]
async fn a_message_that_is_not_in_the_list_stays_unknown() {
    let twilio = Twilio::start();
    let provider = provider(&twilio, &json!({}));
    for (create, code) in [
        (Create::DropAndReset, "provider_broken_answer"),
        (Create::Balancer(502), "provider_unavailable"),
        (Create::Balancer(200), "provider_broken_answer"),
    ] {
        twilio.set(create);
        let error = unknown(outcome(&*provider).await);
        assert_eq!(error.code, code);
        assert!(error.detail.ends_with("the account's list does not show it"), "{}", error.detail);
    }
    assert_eq!(twilio.lists().len(), 3);
    twilio.set(Create::TakeAndReset);
    twilio.set_lists(false);
    let error = unknown(outcome(&*provider).await);
    assert!(error.detail.ends_with("it could not be looked up"), "{}", error.detail);
    assert_eq!(twilio.lists().len(), 4);
}

#[tokio::test]
async fn two_messages_that_say_the_same_are_never_taken_for_each_other() {
    let twilio = Twilio::start();
    let provider = provider(&twilio, &json!({}));
    taken(submitted(&*provider, 0, Some(SENDER)).await);
    twilio.set(Create::DropAndReset);
    // The list has one that fits in all it shows, and it is the other one's.
    let error = unknown(submitted(&*provider, 1, Some(SENDER)).await);
    assert!(error.detail.contains("another message says the same"), "{}", error.detail);
    assert_eq!(twilio.lists().len(), 1);
}

#[tokio::test]
async fn what_never_left_is_not_looked_up() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let outcome = outcome(&*provider_at(&nobody, &json!({}))).await;
    assert!(matches!(outcome, Outcome::Temporary { certain: true, .. }), "{outcome:?}");
    assert_eq!(codes(&outcome), ("provider_unreachable", None));
}

/// The program, with a provider `carrier` at `twilio` that takes no receipts.
async fn start(store: &Backing, twilio: &Twilio, more: impl FnOnce(Setup) -> Setup) -> Ringback {
    let setup = Ringback::on(store)
        .set("default_provider", "carrier")
        .set("providers.carrier.kind", "twilio")
        .set("providers.carrier.base_url", &twilio.base_url())
        .set("providers.carrier.account_sid", ACCOUNT)
        .set("providers.carrier.auth_token", TOKEN)
        .set("providers.carrier.receipts", "false")
        .set("providers.carrier.retry.first", "50ms");
    more(setup).start().await
}

/// Posts a batch and waits for its end; gives the batch and its messages.
async fn run(client: &Client, batch: &Value) -> (Value, Vec<Value>) {
    let id = accepted(client, batch).await;
    let complete = client.wait_until_complete(&id, Duration::from_mins(1)).await;
    (complete, messages(client, &id).await)
}

#[tokio::test]
async fn a_batch_ends_as_twilio_says_of_each_message() {
    let (store, twilio) = (Backing::start(Kind::Embedded).await, Twilio::start());
    let ringback = start(&store, &twilio, |setup| setup).await;
    let until = Instant::now() + Duration::from_millis(300);
    twilio.set_for(&number(1), Create::Refuse(400, 21211));
    twilio.set_for(&number(2), Create::Refuse(400, 21610));
    twilio.set_for(&number(3), Create::TakeAndReset);
    twilio.set_for(&number(4), Create::DropAndReset);
    twilio.set_for(&number(5), Create::Throttle { until, retry_after_s: 1 });
    let mut batch = batch(numbers(0..50));
    batch["from"] = SENDER.into();
    batch["delivery_guarantee"] = "at_most_once".into();
    let (complete, messages) = run(&ringback.client(), &batch).await;
    assert_eq!(counts(&complete), these([("sent", 47), ("failed", 2), ("unknown", 1)]));
    for (index, code, provider_code) in [
        (1, "invalid_number", json!("21211")),
        (2, "opted_out", json!("21610")),
        (4, "provider_broken_answer", Value::Null),
    ] {
        let error = &messages[index]["error"];
        assert_eq!((&error["code"], &error["provider_code"]), (&json!(code), &provider_code));
    }
    for index in [0, 3, 5, 49] {
        let sids = twilio.sids_to(&number(index));
        assert_eq!(json!(sids), json!([messages[index]["provider_message_id"]]), "{index}");
    }
    let to = |index| {
        let creations = twilio.creations();
        creations.iter().filter(|asked| asked.fields["To"] == number(index)).count()
    };
    assert_eq!([1, 2, 3, 4].map(to), [1; 4]);
    assert!((2..=3).contains(&to(5)), "{}", to(5));
    assert!(!ringback.log().contains(TOKEN));
}

#[tokio::test]
async fn what_is_unknown_is_tried_again_where_the_batch_asks_for_that() {
    let (store, twilio) = (Backing::start(Kind::Embedded).await, Twilio::start());
    let ringback =
        start(&store, &twilio, |setup| setup.set("providers.carrier.retry.attempts", "2")).await;
    twilio.set_for(&number(0), Create::DropAndReset);
    let mut batch = batch(numbers(0..2));
    batch["from"] = SENDER.into();
    let (complete, messages) = run(&ringback.client(), &batch).await;
    assert_eq!(counts(&complete), these([("sent", 1), ("unknown", 1)]));
    assert_eq!((&messages[0]["state"], &messages[0]["attempts"]), (&json!("unknown"), &json!(2)));
    assert_eq!((twilio.creations().len(), twilio.lists().len()), (3, 2));
}

#[tokio::test]
async fn a_sender_whose_queue_is_full_rests_and_the_others_go_on() {
    let (store, twilio) = (Backing::start(Kind::Embedded).await, Twilio::start());
    let ringback =
        start(&store, &twilio, |setup| setup.set("providers.carrier.sender_rate", "50/s")).await;
    let client = ringback.client();
    twilio.set_for(&number(0), Create::Refuse(400, 21611));
    let post = async |recipients, from: &str| {
        let mut batch = batch(recipients);
        batch["from"] = from.into();
        accepted(&client, &batch).await
    };
    let waits = post(numbers(0..1), SENDER).await;
    eventually("the refusal", PATIENCE, async || (!twilio.creations().is_empty()).then_some(()))
        .await;
    let refused = Instant::now();
    // Of this sender nothing leaves for 10 s, of another one all.
    let rests = post(numbers(1..11), SENDER).await;
    let goes_on = post(numbers(11..21), "+15550002222").await;
    client.wait_until_complete(&goes_on, Duration::from_secs(5)).await;
    let counts = shown(&client, &rests).await["counts"].clone();
    assert_eq!(counts["sent"], 0, "{counts}");
    let provider = client.get("/v1/providers").await.json();
    assert_eq!(provider["providers"][0]["paused_until"], Value::Null, "{provider}");
    assert!(refused.elapsed() < Duration::from_secs(9), "too late to see it rest");
    twilio.set_for(&number(0), Create::Accept);
    for id in [waits, rests] {
        let complete = client.wait_until_complete(&id, PATIENCE).await;
        assert_eq!(complete["counts"]["failed"], 0);
    }
    assert!(refused.elapsed() >= Duration::from_secs(9), "{:?}", refused.elapsed());
}

#[tokio::test]
async fn a_batch_needs_a_sender_where_no_service_is_configured() {
    let (store, twilio) = (Backing::start(Kind::Embedded).await, Twilio::start());
    let ringback = start(&store, &twilio, |setup| setup).await;
    let answer = ringback.client().post_batch(&batch(numbers(0..1))).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    assert_eq!(answer.json()["errors"][0]["pointer"], "/from");
    drop(ringback);
    let service = |setup: Setup| setup.set("providers.carrier.messaging_service_sid", SERVICE);
    let ringback = start(&store, &twilio, service).await;
    let (complete, _) = run(&ringback.client(), &batch(numbers(0..3))).await;
    assert_eq!(counts(&complete), these([("sent", 3)]));
    assert!(twilio.creations().iter().all(|asked| asked.fields["MessagingServiceSid"] == SERVICE));
}
