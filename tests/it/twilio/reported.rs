//! What Twilio reports back, as it does: to the `StatusCallback` it was given, signed for the address that it
//! knows, while the service listens behind a proxy at another.

use std::time::Duration;

use ringback::{
    clock::Clock,
    domain::twilio_signature::{Content, HEADER, params, sign},
};
use serde_json::json;
use url::form_urlencoded::Serializer;

use super::{PUBLIC, SENDER, start};
use crate::{
    harness::{
        Answer, Asked, Backing, Client, Create, Kind, PATIENCE, Receiver, TOKEN, Twilio,
        eventually, on_each_store,
    },
    scene::{
        SECRET, accepted, batch, counts, messages, number, numbers, one_report, shown_when, these,
        with_callback,
    },
};

on_each_store! {
    receipts_of_twilio_end_a_batch
    what_twilio_says_of_opt_outs_is_learnt
}

/// Posts a form to where the service listens, signed with `token` for `signed_url`.
async fn post(
    client: &Client,
    url: &str,
    signed_url: &str,
    token: &str,
    fields: &[(&str, &str)],
) -> Answer {
    let body = Serializer::new(String::new()).extend_pairs(fields).finish();
    let signature = sign(token, signed_url, Content::Form(&params(body.as_bytes())));
    let headers = [
        ("content-type", "application/x-www-form-urlencoded; charset=UTF-8"),
        (HEADER, &*signature),
    ];
    client.post(url.strip_prefix(PUBLIC).unwrap(), &headers, body).await
}

/// Reports the status of the message that was asked for, as Twilio does.
async fn report(client: &Client, asked: &Asked, status: &str, code: Option<&str>) {
    let url = &asked.fields["StatusCallback"];
    let mut fields =
        vec![("MessageSid", "SM1"), ("MessageStatus", status), ("To", &*asked.fields["To"])];
    fields.extend(code.map(|code| ("ErrorCode", code)));
    let answer = post(client, url, url, TOKEN, &fields).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
}

async fn status_of(client: &Client, path: &str) -> u16 {
    client.get(path).await.status
}

async fn receipts_of_twilio_end_a_batch(on: Kind) {
    let (store, twilio, receiver) = (Backing::start(on).await, Twilio::start(), Receiver::start());
    let ringback = start(&store, &twilio, |setup| {
        setup
            .set("server.public_url", PUBLIC)
            .set("providers.carrier.receipts", "true")
            .set("providers.carrier.receipt_timeout", "1h")
            .set("callbacks.signing_secrets", SECRET)
    })
    .await;
    let client = &ringback.client();
    let mut wanted = with_callback(batch(numbers(0..4)), &receiver);
    wanted["from"] = SENDER.into();
    wanted["expire_at"] = in_an_hour().into();
    let id = accepted(client, &wanted).await;
    let asked = eventually("the submissions", PATIENCE, async || {
        Some(twilio.creations()).filter(|asked| asked.len() == 4)
    })
    .await;
    let of = |index| {
        let end = format!("/v1/receipts/carrier?message={id}.{index}");
        asked
            .iter()
            .find(|asked| asked.fields["StatusCallback"] == format!("{PUBLIC}{end}"))
            .unwrap()
    };
    for asked in &asked {
        let validity: u32 = asked.fields["ValidityPeriod"].parse().unwrap();
        assert!((3_500..=3_600).contains(&validity), "{validity}");
    }
    // Signed for another address, with another token, or for another message: nobody is believed.
    let url = &of(0).fields["StatusCallback"];
    let fields = [("MessageSid", "SM1"), ("MessageStatus", "delivered")];
    for (signed_url, token) in [
        (&*url.replace("https", "http"), TOKEN),
        (url, "another"),
        (&of(1).fields["StatusCallback"], TOKEN),
    ] {
        let forged = post(client, url, signed_url, token, &fields).await;
        assert_eq!((forged.status, &forged.json()["code"]), (401, &json!("invalid_signature")));
    }
    for status in ["queued", "sent", "delivered", "sent", "delivered", "undelivered"] {
        report(client, of(0), status, None).await;
    }
    report(client, of(1), "undelivered", Some("30003")).await;
    report(client, of(2), "failed", Some("30008")).await;
    assert!(receiver.deliveries().is_empty(), "one receipt is missing");
    report(client, of(3), "read", None).await;
    let complete = one_report(client, &receiver, &id, PATIENCE).await;
    assert_eq!(counts(&complete), these([("delivered", 2), ("undelivered", 2)]));
    let error = &messages(client, &id).await[1]["error"];
    assert_eq!((&error["code"], &error["provider_code"]), (&json!("unreachable"), &json!("30003")));
    let metrics = client.get("/metrics").await.text;
    for (result, number) in
        [("counted", 4), ("repeated", 1), ("contrary", 1), ("passing", 3), ("forged", 3)]
    {
        let line = format!(
            "ringback_process_receipts_total{{provider=\"carrier\",result=\"{result}\"}} {number}"
        );
        assert!(metrics.lines().any(|found| found == line), "{line}\n{metrics}");
    }
}

async fn what_twilio_says_of_opt_outs_is_learnt(on: Kind) {
    let (store, twilio) = (Backing::start(on).await, Twilio::start());
    let ringback = start(&store, &twilio, |setup| {
        setup.set("server.public_url", PUBLIC).set("providers.carrier.receipts", "true")
    })
    .await;
    let client = &ringback.client();
    twilio.set_for(&number(0), Create::Refuse(400, 21610));
    let mut wanted = batch(numbers(0..3));
    wanted["from"] = SENDER.into();
    let id = accepted(client, &wanted).await;
    shown_when(client, &id, "its dispatch", |batch| batch["counts"]["sent"] == 2).await;
    let asked = twilio.creations();
    let of = |index| asked.iter().find(|asked| asked.fields["To"] == number(index)).unwrap();
    // One by the answer, one by the receipt, one by what the recipient writes.
    report(client, of(1), "undelivered", Some("21610")).await;
    let url = format!("{PUBLIC}/v1/inbound/carrier");
    let stop = [("From", &*number(2)), ("To", SENDER), ("Body", "Stop")];
    assert_eq!(post(client, &url, &url, "another", &stop).await.status, 401);
    let listed = format!("/v1/suppressions/{}", number(2));
    assert_eq!(status_of(client, &listed).await, 404);
    assert_eq!(post(client, &url, &url, TOKEN, &stop).await.status, 204);
    for index in 0..3 {
        let path = format!("/v1/suppressions/{}", number(index));
        eventually("the entry", PATIENCE, async || {
            (status_of(client, &path).await == 200).then_some(())
        })
        .await;
    }
    let start = [("From", &*number(2)), ("To", SENDER), ("Body", "START")];
    assert_eq!(post(client, &url, &url, TOKEN, &start).await.status, 204);
    assert_eq!(status_of(client, &listed).await, 404);
    let again = accepted(client, &wanted).await;
    shown_when(client, &again, "its dispatch", |batch| batch["counts"]["sent"] == 1).await;
    let codes: Vec<_> =
        messages(client, &again).await.iter().map(|one| one["error"]["code"].clone()).collect();
    assert_eq!(codes, [json!("opted_out"), json!("opted_out"), json!(null)]);
}

fn in_an_hour() -> String {
    Clock::system().now().after(Duration::from_hours(1)).to_string()
}
