//! What is asked of Twilio, and of whom its settings are asked. How the answers are taken is tested on a
//! server that keeps books, in `tests/it/twilio.rs`.

use std::sync::Arc;

use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::*;
use crate::{
    domain::{
        ids::{BatchId, MessageId},
        time::UnixMs,
    },
    providers::{
        CommonSettings,
        exchange::Target,
        registry::{InvalidSettings, Kind, Site},
    },
};

const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const KEY: &str = "SK0123456789abcdef0123456789ABCDEF";
const SERVICE: &str = "MG0123456789abcdef0123456789abcdef";
const PUBLIC: &str = "https://sms.example.com/";

fn id() -> MessageId {
    MessageId { batch: BatchId::new(UnixMs(1_790_000_000_000), 99 << 30, 0), index: 7 }
}

fn settings(further: &Value) -> TwilioSettings {
    let mut settings = json!({"account_sid": ACCOUNT, "auth_token": "hush"});
    for (key, value) in further.as_object().unwrap() {
        settings[key] = value.clone();
    }
    serde_json::from_value(settings).unwrap()
}

fn build(
    settings: &TwilioSettings,
    common: &CommonSettings,
    public_url: &str,
) -> Result<Arc<dyn Provider>, InvalidSettings> {
    settings.build(&Site { name: "main", common, public_url })
}

fn form(settings: &TwilioSettings, callback: Option<&str>) -> Form {
    let target = Target::parse("base_url", &settings.base_url).unwrap();
    let credentials = (&*settings.account_sid, &settings.auth_token);
    Form::new(&target, settings, credentials, callback.map(str::to_owned)).unwrap()
}

fn submission(from: Option<&'static str>, valid_for: Option<Duration>) -> Submission<'static> {
    let body = "Hi \"Ann\" & é+日本\n";
    Submission { id: id(), to: "+15551230001", from, body, attempts: 0, valid_for }
}

/// The names and values of a form or a query.
fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

fn own(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

async fn posted(form: &Form, submission: &Submission<'_>) -> Vec<(String, String)> {
    let request: Request<Full<_>> = form.post(submission, form.sender(submission));
    pairs(&request.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_message_is_asked_for_as_documented() {
    let settings = settings(&json!({"base_url": "https://proxy.example/twilio/"}));
    let form = form(&settings, Some("https://sms.example.com/v1/receipts/main?message="));
    let submission = submission(Some("+15550001111"), Some(Duration::from_millis(90_500)));
    let request = form.post(&submission, form.sender(&submission));
    assert_eq!(request.method(), Method::POST);
    let path = format!("/twilio/2010-04-01/Accounts/{ACCOUNT}/Messages.json");
    assert_eq!(request.uri().to_string(), path);
    let header = |name| request.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header(header::HOST), "proxy.example");
    assert_eq!(header(header::CONTENT_TYPE), "application/x-www-form-urlencoded");
    // The account and its token, as `printf 'AC…:hush' | base64` says.
    let basic = "Basic QUMwMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZjpodXNo";
    assert_eq!(header(header::AUTHORIZATION), basic);
    let callback = format!("https://sms.example.com/v1/receipts/main?message={}", id());
    let expected = own(&[
        ("To", "+15551230001"),
        ("From", "+15550001111"),
        ("Body", "Hi \"Ann\" & é+日本\n"),
        ("StatusCallback", &callback),
        ("ValidityPeriod", "90"),
    ]);
    assert_eq!(posted(&form, &submission).await, expected);
}

#[tokio::test]
async fn a_message_leaves_from_its_sender_or_else_through_the_service() {
    let sender = async |service: bool, from| {
        let service = if service { json!({"messaging_service_sid": SERVICE}) } else { json!({}) };
        let form = form(&settings(&service), None);
        posted(&form, &submission(from, None)).await.remove(1)
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(sender(true, None).await, pair("MessagingServiceSid", SERVICE));
    assert_eq!(sender(true, Some("+15550001111")).await, pair("From", "+15550001111"));
    assert_eq!(sender(false, Some("ACME")).await, pair("From", "ACME"));
    assert_eq!(sender(false, Some(SERVICE)).await, pair("MessagingServiceSid", SERVICE));
    assert_eq!(sender(false, Some("MG1")).await, pair("From", "MG1"));
    assert_eq!(sender(false, None).await.0, "Body");
}

#[test]
fn a_list_is_asked_for_by_recipient_and_sender() {
    let form = form(&settings(&json!({})), None);
    let sought = |sender| Sought { to: "+15551230001", sender, body: "Hi", since: Instant::now() };
    let asked = |sender| {
        let request = form.list(&sought(sender));
        assert_eq!(request.method(), Method::GET);
        let path = format!("/2010-04-01/Accounts/{ACCOUNT}/Messages.json");
        assert_eq!(request.uri().path(), path);
        pairs(request.uri().query().unwrap().as_bytes())
    };
    let expected = own(&[("To", "+15551230001"), ("From", "+15550001111"), ("PageSize", "50")]);
    assert_eq!(asked(form::Sender::From("+15550001111")), expected);
    let expected = own(&[("To", "+15551230001"), ("PageSize", "50")]);
    assert_eq!(asked(form::Sender::Service(SERVICE)), expected);
}

#[test]
fn settings_that_can_not_serve_are_refused_by_their_key() {
    let common = CommonSettings::default();
    let refused = |further: Value| {
        let error = build(&settings(&further), &common, PUBLIC).err().unwrap();
        assert!(!error.to_string().contains("hush"), "{error}");
        error.key
    };
    for base_url in ["", "api.twilio.com", "ftp://a.example", "https://a:hush@b.example", "http://"]
    {
        assert_eq!(refused(json!({"base_url": base_url})), "base_url", "{base_url}");
    }
    assert_eq!(refused(json!({"base_url": "https://a.example/?b=c"})), "base_url");
    for sid in ["", "AC", &ACCOUNT[1..], KEY, &format!("{ACCOUNT}0"), &ACCOUNT.replace('f', "g")] {
        assert_eq!(refused(json!({"account_sid": sid})), "account_sid", "{sid}");
    }
    for token in ["", "hush hush", "hush\n"] {
        assert_eq!(refused(json!({"auth_token": token})), "auth_token");
    }
    assert_eq!(refused(json!({"api_key_sid": ACCOUNT, "api_key_secret": "hush"})), "api_key_sid");
    assert_eq!(refused(json!({"api_key_sid": KEY})), "api_key_secret");
    assert_eq!(refused(json!({"api_key_secret": "hush"})), "api_key_sid");
    assert_eq!(refused(json!({"api_key_sid": KEY, "api_key_secret": ""})), "api_key_secret");
    assert_eq!(refused(json!({"messaging_service_sid": ACCOUNT})), "messaging_service_sid");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let service = settings(&json!({"messaging_service_sid": SERVICE}));
    let from = CommonSettings { from: Some("+15550001111".into()), ..CommonSettings::default() };
    let error = build(&service, &from, PUBLIC).err().unwrap();
    assert_eq!(error.key, "messaging_service_sid");
    assert!(build(&settings(&json!({})), &from, PUBLIC).is_ok());
    let senders = vec!["+15550001111".into(), "+15550002222".into()];
    let pool = CommonSettings { senders, ..CommonSettings::default() };
    let error = build(&service, &pool, PUBLIC).err().unwrap();
    assert_eq!(error.key, "messaging_service_sid");

    let with = |receipts| CommonSettings { receipts, ..CommonSettings::default() };
    for here in ["http://127.0.0.1:8080", "http://localhost", "https://[::1]/"] {
        let error = build(&service, &with(None), here).err().unwrap();
        assert_eq!(error.key, "receipts", "{here}");
        assert!(build(&service, &with(Some(false)), here).is_ok());
        let rehearsal = json!({"base_url": "http://127.0.0.1:1", "messaging_service_sid": SERVICE});
        assert!(build(&settings(&rehearsal), &with(None), here).is_ok());
    }
}

#[test]
fn a_sender_is_needed_where_there_is_no_service() {
    assert!(settings(&json!({})).needs_from());
    assert!(!settings(&json!({"messaging_service_sid": SERVICE})).needs_from());
}

#[test]
fn secrets_are_never_shown() {
    let settings = settings(&json!({"api_key_sid": KEY, "api_key_secret": "hush-too"}));
    let shown = settings.shown().unwrap();
    assert_eq!(
        (&shown["auth_token"], &shown["api_key_secret"]),
        (&json!("********"), &json!("********"))
    );
    assert_eq!((&shown["account_sid"], &shown["api_key_sid"]), (&json!(ACCOUNT), &json!(KEY)));
    assert_eq!(shown["base_url"], "https://api.twilio.com");
    assert!(!shown.to_string().contains("hush") && !format!("{settings:?}").contains("hush"));
}

#[test]
fn without_receipts_none_are_taken() {
    let common = CommonSettings { receipts: Some(false), ..CommonSettings::default() };
    let provider = build(&settings(&json!({})), &common, PUBLIC).unwrap();
    let headers = http::HeaderMap::new();
    let call = ReceiptCall { url: PUBLIC, headers: &headers, body: b"", now: UnixMs(1) };
    assert_eq!(provider.read_receipts(&call), Err(ReceiptRefusal::NotTaken));
    let provider = build(&settings(&json!({})), &CommonSettings::default(), PUBLIC).unwrap();
    assert_eq!(provider.read_receipts(&call), Err(ReceiptRefusal::Forged));
}
