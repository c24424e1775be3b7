//! What is reported, where to, and how it proves who it is.

use super::*;
use crate::domain::batch::{CallbackSpec, Pace, Wanted};

/// 32 bytes.
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5";

/// A submission with a callback URL and `members` besides the required ones.
fn reporting(members: &str) -> String {
    with(&format!(r#""callback_url":"https://A.example/x?y=1",{members}"#))
}

fn callback(members: &str) -> CallbackSpec {
    parsed(reporting(members)).unwrap().spec.callback.unwrap()
}

#[test]
fn a_callback_is_kept_with_its_host_and_what_proves_it() {
    let given = callback(&format!(
        r#""callback_secret":"{SECRET}","callback_headers":{{"X-A":"b"}},
        "callback_auth":{{"type":"basic","username":"ann","password":"p:w é"}}"#
    ));
    assert_eq!(
        (given.url.as_str(), given.host.as_str()),
        ("https://A.example/x?y=1", "a.example:443")
    );
    assert_eq!(given.secret.as_deref(), Some(SECRET));
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let basic = pair("authorization", "Basic YW5uOnA6dyDDqQ==");
    assert_eq!(given.headers, [pair("X-A", "b"), basic]);
    let bearer = callback(r#""callback_auth":{"token":"t0k-._~+/=","type":"bearer"}"#);
    assert_eq!(bearer.headers, [pair("authorization", "Bearer t0k-._~+/=")]);
    assert_eq!((bearer.secret, bearer.events), (None, Wanted::default()));
}

#[test]
fn events_are_those_that_are_named() {
    let all = r#"["batch.dispatched","batch.progress","message.failed","batch.amended","batch.completed"]"#;
    for (members, expected) in [
        (r#""events":[]"#.to_owned(), Wanted::default()),
        (r#""events":["batch.completed"]"#.into(), Wanted::default()),
        (r#""events":["message.failed"]"#.into(), Wanted { failures: true, ..Wanted::default() }),
        (
            format!(r#""events":{all}"#),
            Wanted {
                dispatched: true,
                failures: true,
                progress: Some(Pace::Percent(10)),
                amended: true,
            },
        ),
    ] {
        assert_eq!(callback(&members).events, expected, "{members}");
    }
}

#[test]
fn progress_is_reported_by_the_percent_or_by_the_clock() {
    for (every, expected) in [
        ("1%", Pace::Percent(1)),
        ("99%", Pace::Percent(99)),
        ("1s", Pace::Every(1_000)),
        ("1h 30m", Pace::Every(5_400_000)),
        ("24h", Pace::Every(86_400_000)),
    ] {
        // Whichever comes first in the document.
        let (events, pace) =
            (r#""events":["batch.progress"]"#, format!(r#""progress_every":"{every}""#));
        for members in [format!("{events},{pace}"), format!("{pace},{events}")] {
            assert_eq!(callback(&members).events.progress, Some(expected), "{members}");
        }
    }
}

#[test]
fn each_wrong_field_has_its_pointer_and_code() {
    let auth = |auth: &str| format!(r#""callback_auth":{auth}"#);
    let every = |every: &str| format!(r#""events":["batch.progress"],"progress_every":{every}"#);
    let long = |bytes: usize| "x".repeat(bytes);
    for (members, pointer, code) in [
        (r#""events":{}"#.to_owned(), "/events", "wrong_type"),
        (r#""events":"batch.completed""#.into(), "/events", "wrong_type"),
        (r#""events":["batch.dispatched","batch.ended"]"#.into(), "/events/1", "invalid_value"),
        (r#""events":["message.failed","message.failed"]"#.into(), "/events/1", "duplicate_value"),
        (r#""events":[7]"#.into(), "/events/0", "wrong_type"),
        (r#""events":[null]"#.into(), "/events/0", "wrong_type"),
        (r#""progress_every":"10%""#.into(), "/progress_every", "invalid_value"),
        (every(r#""0%""#), "/progress_every", "out_of_range"),
        (every(r#""100%""#), "/progress_every", "out_of_range"),
        (every(r#""999ms""#), "/progress_every", "out_of_range"),
        (every(r#""25h""#), "/progress_every", "out_of_range"),
        (every(r#""%""#), "/progress_every", "invalid_value"),
        (every(r#""+5%""#), "/progress_every", "invalid_value"),
        (every(r#""1.5%""#), "/progress_every", "invalid_value"),
        (every(r#""10""#), "/progress_every", "invalid_value"),
        (every("10"), "/progress_every", "wrong_type"),
        (every(&format!("\"{}\"", long(33))), "/progress_every", "too_long"),
        (r#""callback_secret":"hush""#.into(), "/callback_secret", "invalid_value"),
        (r#""callback_secret":"whsec_aHVzaA==""#.into(), "/callback_secret", "invalid_value"),
        (r#""callback_secret":7"#.into(), "/callback_secret", "wrong_type"),
        (format!(r#""callback_secret":"{}""#, long(257)), "/callback_secret", "too_long"),
        (auth("[]"), "/callback_auth", "wrong_type"),
        (auth("{}"), "/callback_auth/type", "missing"),
        (auth(r#"{"type":"digest"}"#), "/callback_auth/type", "invalid_value"),
        (auth(r#"{"type":"bearer"}"#), "/callback_auth/token", "missing"),
        (auth(r#"{"type":"bearer","token":""}"#), "/callback_auth/token", "invalid_value"),
        (auth(r#"{"type":"bearer","token":"a b"}"#), "/callback_auth/token", "invalid_value"),
        (auth(r#"{"type":"bearer","token":"é"}"#), "/callback_auth/token", "invalid_value"),
        (
            auth(&format!(r#"{{"type":"bearer","token":"{}"}}"#, long(4_097))),
            "/callback_auth/token",
            "too_long",
        ),
        (
            auth(r#"{"type":"bearer","token":"t","username":"u"}"#),
            "/callback_auth/username",
            "unknown_field",
        ),
        (auth(r#"{"type":"basic","username":"u"}"#), "/callback_auth/password", "missing"),
        (
            auth(r#"{"type":"basic","username":"u:v","password":""}"#),
            "/callback_auth/username",
            "invalid_value",
        ),
        (
            auth(r#"{"type":"basic","username":"u","password":"a\u007f"}"#),
            "/callback_auth/password",
            "invalid_value",
        ),
        (
            auth(r#"{"type":"basic","username":"u","password":"p","realm":"r"}"#),
            "/callback_auth/realm",
            "unknown_field",
        ),
        (
            format!(
                "{},{}",
                r#""callback_headers":{"Authorization":"x"}"#,
                auth(r#"{"type":"bearer","token":"t"}"#)
            ),
            "/callback_auth",
            "invalid_value",
        ),
    ] {
        let found = faults(&reporting(&members));
        assert_eq!(found, [(pointer.to_owned(), code.to_owned())], "{members}");
    }
    let many = vec![r#""batch.completed""#; 17].join(",");
    let found = faults(&reporting(&format!(r#""events":[{many}]"#)));
    assert_eq!((found.len(), found[0].1.as_str()), (16, "too_many"));
}

#[test]
fn what_needs_a_url_is_refused_without_one() {
    for (members, pointer) in [
        (r#""callback_headers":{"a":"b"}"#.to_owned(), "/callback_headers"),
        (format!(r#""callback_secret":"{SECRET}""#), "/callback_secret"),
        (r#""callback_auth":{"type":"bearer","token":"t"}"#.into(), "/callback_auth"),
        (r#""events":["batch.completed"]"#.into(), "/events"),
        (r#""progress_every":"10%""#.into(), "/progress_every"),
    ] {
        let expected = [(pointer.to_owned(), "invalid_value".to_owned())];
        assert_eq!(faults(&with(&members)), expected, "{members}");
        // A URL that is none is fault enough.
        let no_url = with(&format!(r#""callback_url":7,"events":["batch.progress"],{members}"#));
        let no_url = no_url.replacen(r#""events":["batch.progress"],"events""#, r#""events""#, 1);
        assert_eq!(faults(&no_url)[0].0, "/callback_url", "{members}");
    }
    assert!(parsed(with(r#""callback_headers":{},"events":[]"#)).unwrap().spec.callback.is_none());
}

#[test]
fn no_fault_repeats_a_secret() {
    for members in [
        r#""callback_secret":"whsec_hush""#,
        r#""callback_auth":{"type":"bearer","token":"hush hush"}"#,
        r#""callback_auth":{"type":"basic","username":"hush:","password":"hush\u0001"}"#,
        r#""callback_headers":{"x-token":"hush\n"}"#,
    ] {
        let refused = parsed(reporting(members)).unwrap_err();
        assert!(!format!("{refused:?}").contains("hush"), "{refused:?}");
    }
}

#[test]
fn callback_headers_can_not_change_what_is_signed() {
    let headers = |headers: &str| {
        with(&format!(r#""callback_url":"https://a.example","callback_headers":{headers}"#))
    };
    for (given, pointer) in [
        (r#"{"Host":"x"}"#, "/callback_headers/Host"),
        (r#"{"CONTENT-TYPE":"x"}"#, "/callback_headers/CONTENT-TYPE"),
        (r#"{"webhook-id":"x"}"#, "/callback_headers/webhook-id"),
        (r#"{"User-Agent":"x"}"#, "/callback_headers/User-Agent"),
        (r#"{"Transfer-Encoding":"x"}"#, "/callback_headers/Transfer-Encoding"),
        (r#"{"a b":"x"}"#, "/callback_headers/a b"),
        (r#"{"":"x"}"#, "/callback_headers/"),
        (r#"{"é":"x"}"#, "/callback_headers/é"),
        (r#"{"a":"x\r\ny: z"}"#, "/callback_headers/a"),
        (r#"{"a":"é"}"#, "/callback_headers/a"),
        (r#"{"a":"\u0000"}"#, "/callback_headers/a"),
        (r#"{"a":1}"#, "/callback_headers/a"),
        (r#"{"a":"x","A":"y"}"#, "/callback_headers/A"),
    ] {
        let found = faults(&headers(given));
        assert_eq!(found.len(), 1, "{given}");
        assert_eq!(found[0].0, pointer, "{given}");
    }
    let many = (0..21).map(|n| format!("\"h{n}\":\"x\"")).collect::<Vec<_>>().join(",");
    assert_eq!(faults(&headers(&format!("{{{many}}}")))[0].1, "too_many");
    let long = format!(r#"{{"a":"{}","b":"{}"}}"#, "x".repeat(2_048), "x".repeat(2_048));
    assert_eq!(faults(&headers(&long))[0].1, "too_long");
}
