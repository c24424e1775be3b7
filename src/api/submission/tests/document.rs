//! The document's own fields.

use std::num::NonZeroU8;

use super::*;

#[test]
fn a_whole_submission_is_read() {
    let body = r#"{
        "recipients": ["+15551230001",
            {"reference": "user-42", "variables": {"name": "Ann", "code": 81}, "to": "+15551230002"}],
        "from": "+15550001111", "body": "Hi {{name}}", "variables": {"name": "there", "ok": true},
        "callback_url": "https://example.com/hooks?a=1", "callback_headers": {"X-Api-Token": "t"},
        "provider": "carrier", "reference": "spring", "metadata": {"n": [1.10, null]},
        "on_invalid": "fail_message", "priority": "normal", "delivery_guarantee": "at_least_once"
    }"#;
    let submission = parsed(body).unwrap();
    let spec = &submission.spec;
    assert_eq!((spec.account.as_str(), spec.provider.as_str()), ("acme", "carrier"));
    assert_eq!(spec.from.as_deref(), Some("+15550001111"));
    assert_eq!(spec.body, "Hi {{name}}");
    assert_eq!(spec.variables["name"], "there");
    assert_eq!(spec.variables["ok"], "true");
    assert_eq!(spec.reference.as_deref(), Some("spring"));
    assert_eq!(spec.metadata.as_deref(), Some(r#"{"n": [1.10, null]}"#));
    let callback = spec.callback.as_ref().unwrap();
    assert_eq!(callback.url, "https://example.com/hooks?a=1");
    assert_eq!(callback.headers, [("X-Api-Token".to_owned(), "t".to_owned())]);
    assert_eq!((submission.messages, submission.invalid), (2, 0));
    let variables = vec![("name".into(), "Ann".into()), ("code".into(), "81".into())];
    let expected = [
        ("+15551230001".into(), None, vec![]),
        ("+15551230002".into(), Some("user-42".into()), variables),
    ];
    assert_eq!(recipients(&submission), expected);
}

#[test]
fn what_is_not_given_and_what_is_null_is_the_same() {
    let given = with(
        r#""from":null,"variables":null,"callback_url":null,"callback_headers":null,
        "callback_secret":null,"callback_auth":null,"events":null,"progress_every":null,
        "provider":null,"reference":null,"on_invalid":null,"send_at":null,"priority":null,
        "smart_encoding":null,"max_segments":null"#,
    );
    assert_eq!(parsed(given).unwrap().spec, parsed(to(r#""+15551230001""#)).unwrap().spec);
    let recipient = to(r#"{"to":"+15551230001","reference":null,"variables":null}"#);
    assert_eq!(recipients(&parsed(recipient).unwrap())[0].1, None);
}

#[test]
fn each_wrong_field_has_its_pointer_and_code() {
    let long = |bytes: usize| "x".repeat(bytes);
    for (body, pointer, code) in [
        ("[]".to_owned(), "", "wrong_type"),
        ("null".into(), "", "wrong_type"),
        (r#"{"recipients":[]}"#.into(), "/body", "missing"),
        (r#"{"body":null,"recipients":[]}"#.into(), "/body", "missing"),
        (r#"{"body":"Hi"}"#.into(), "/recipients", "missing"),
        (r#"{"body":"Hi","recipients":null}"#.into(), "/recipients", "wrong_type"),
        (r#"{"body":"Hi","recipients":"+15551230001"}"#.into(), "/recipients", "wrong_type"),
        (r#"{"body":"Hi","recipients":{"a":[1]}}"#.into(), "/recipients", "wrong_type"),
        (r#"{"body":["Hi"],"recipients":[]}"#.into(), "/body", "wrong_type"),
        (r#"{"body":"","recipients":[]}"#.into(), "/body", "empty"),
        (r#"{"body":"{{a","recipients":[]}"#.into(), "/body", "template_invalid"),
        (r#"{"body":"a\u0000","recipients":[]}"#.into(), "/body", "invalid_text"),
        (r#"{"body":"\udc00","recipients":[]}"#.into(), "/body", "invalid_text"),
        (format!(r#"{{"body":"{}","recipients":[]}}"#, long(16_385)), "/body", "too_long"),
        (with(r#""sender":"x""#), "/sender", "unknown_field"),
        (with(r#""a/b~c":1e400"#), "/a~1b~0c", "unknown_field"),
        (with(r#""body":"again""#), "/body", "duplicate_field"),
        (with(r#""\u0062ody":"again""#), "/body", "duplicate_field"),
        (with(r#""recipients":["+15551230009"]"#), "/recipients", "duplicate_field"),
        (with(r#""from":"""#), "/from", "invalid_value"),
        (with(r#""from":"a\u0007""#), "/from", "invalid_value"),
        (with(r#""from":"é""#), "/from", "invalid_value"),
        (with(&format!(r#""from":"{}""#, long(65))), "/from", "too_long"),
        (with(r#""from":1e400"#), "/from", "out_of_range"),
        (with(r#""from":15550001111"#), "/from", "wrong_type"),
        (with(r#""provider":"carrier""#), "/from", "missing"),
        (with(r#""provider":"nobody""#), "/provider", "unknown_provider"),
        (with(&format!(r#""reference":"{}""#, long(257))), "/reference", "too_long"),
        (with(r#""reference":true"#), "/reference", "wrong_type"),
        (with(r#""on_invalid":"skip""#), "/on_invalid", "invalid_value"),
        (with(r#""callback_url":"ftp://example.com""#), "/callback_url", "callback_url_forbidden"),
        (with(r#""callback_url":"http://127.1/""#), "/callback_url", "callback_url_forbidden"),
        (with(r#""callback_url":7"#), "/callback_url", "wrong_type"),
        (with(r#""callback_headers":[]"#), "/callback_headers", "wrong_type"),
        (with(r#""send_at":"tomorrow""#), "/send_at", "invalid_value"),
        (with(r#""send_at":"2026-12-01""#), "/send_at", "invalid_value"),
        (with(r#""send_at":1"#), "/send_at", "wrong_type"),
        (with(r#""send_at":"2099-12-01T09:00:00Z""#), "/send_at", "out_of_range"),
        (with(r#""expire_at":1"#), "/expire_at", "wrong_type"),
        (with(r#""expire_at":"2026-09-21T14:13:20Z""#), "/expire_at", "out_of_range"),
        (with(r#""expire_at":"2099-12-01T09:00:00Z""#), "/expire_at", "out_of_range"),
        (
            with(r#""send_at":"2026-12-01T09:00:00Z","expire_at":"2026-12-01T09:00:00Z""#),
            "/expire_at",
            "out_of_range",
        ),
        (with(r#""priority":"urgent""#), "/priority", "invalid_value"),
        (with(r#""priority":5"#), "/priority", "wrong_type"),
        (with(r#""delivery_guarantee":"exactly_once""#), "/delivery_guarantee", "invalid_value"),
        (with(r#""duplicates":"drop""#), "/duplicates", "invalid_value"),
        (with(r#""rate":"0/s""#), "/rate", "invalid_value"),
        (with(r#""rate":5"#), "/rate", "wrong_type"),
        (with(r#""smart_encoding":"true""#), "/smart_encoding", "wrong_type"),
        (with(r#""smart_encoding":1"#), "/smart_encoding", "wrong_type"),
        (with(r#""max_segments":"3""#), "/max_segments", "wrong_type"),
        (with(r#""max_segments":true"#), "/max_segments", "wrong_type"),
        (with(r#""max_segments":0"#), "/max_segments", "invalid_value"),
        (with(r#""max_segments":256"#), "/max_segments", "invalid_value"),
        (with(r#""max_segments":-1"#), "/max_segments", "invalid_value"),
        (with(r#""max_segments":1.5"#), "/max_segments", "invalid_value"),
        (with(r#""max_segments":1e999"#), "/max_segments", "out_of_range"),
        (with(r#""quiet_hours":[]"#), "/quiet_hours", "wrong_type"),
        (
            with(r#""quiet_hours":{"start":"8:00","end":"21:00","time_zone":"UTC"}"#),
            "/quiet_hours/start",
            "invalid_value",
        ),
        (
            with(r#""quiet_hours":{"start":"08:00","end":"08:00","time_zone":"UTC"}"#),
            "/quiet_hours/end",
            "invalid_value",
        ),
        (
            with(r#""quiet_hours":{"start":"08:00","end":"09:00","time_zone":"Mars/Olympus"}"#),
            "/quiet_hours/time_zone",
            "invalid_value",
        ),
        (
            with(r#""quiet_hours":{"start":"08:00","end":"09:00"}"#),
            "/quiet_hours/time_zone",
            "missing",
        ),
        (
            with(r#""quiet_hours":{"start":"08:00","end":"09:00","time_zone":"UTC","days":7}"#),
            "/quiet_hours/days",
            "unknown_field",
        ),
    ] {
        assert_eq!(faults(&body), [(pointer.to_owned(), code.to_owned())], "{body}");
    }
}

#[test]
fn what_is_wanted_of_the_texts_is_read() {
    let spec = |members: &str| parsed(with(members)).unwrap().spec;
    let wanted = spec(r#""smart_encoding":true,"max_segments":255"#);
    assert_eq!((wanted.smart_encoding, wanted.segments_max), (true, NonZeroU8::new(255)));
    let wanted = spec(r#""smart_encoding":false,"max_segments":1"#);
    assert_eq!((wanted.smart_encoding, wanted.segments_max), (false, NonZeroU8::new(1)));
}

#[test]
fn a_batch_begins_at_its_time_or_at_once() {
    let send_at = |text: &str| {
        let body = with(&format!(r#""send_at":{text}"#));
        parsed(body).map(|submission| submission.spec.send_at.map(|at| at.to_string()))
    };
    for (given, read) in [
        ("null", None),
        (r#""2026-12-01T09:00:00Z""#, Some("2026-12-01T09:00:00.000Z")),
        (r#""2026-12-01T09:00:00.25+02:00""#, Some("2026-12-01T07:00:00.250Z")),
        (r#""2020-01-01T00:00:00Z""#, Some("2020-01-01T00:00:00.000Z")),
        (r#""2027-09-21T14:13:20Z""#, Some("2027-09-21T14:13:20.000Z")),
    ] {
        assert_eq!(send_at(given).unwrap().as_deref(), read, "{given}");
    }
    assert!(send_at(r#""2027-09-21T14:13:21Z""#).is_err());
}

#[test]
fn everything_wrong_is_listed_at_once() {
    let body = r#"{"body":"{{","recipients":[1,{"to":"+1","variables":{"":1,"b":[]}},{"x":0}],
        "metadata":{"a":1,"a":2},"color":"red","priority": "urgent"}"#;
    let listed: Vec<String> = faults(body).into_iter().map(|(pointer, _)| pointer).collect();
    let expected = [
        "/recipients/0",
        "/recipients/1/variables/",
        "/recipients/1/variables/b",
        "/recipients/2/x",
        "/recipients/2/to",
        "/metadata/a",
        "/color",
        "/priority",
        "/body",
    ];
    assert_eq!(listed, expected);
}

#[test]
fn at_most_a_hundred_faults_are_listed() {
    let listed = faults(&to(&vec!["7"; 5_000].join(",")));
    assert_eq!(listed.len(), 100);
    assert_eq!(listed[99].0, "/recipients/99");
}

#[test]
fn metadata_is_kept_verbatim_and_judged_at_every_depth() {
    let given = "{ \"a\" : [1.50, 1E2, {\"é\":\"\\u00e9\\n\"}],\n\"b\":null }";
    let submission = parsed(with(&format!("\"metadata\":{given}"))).unwrap();
    assert_eq!(submission.spec.metadata.as_deref(), Some(given));
    let deep = format!("{}{}", "[".repeat(70), "]".repeat(70));
    let deep_at = format!("/metadata{}", "/0".repeat(64));
    for (metadata, pointer, code) in [
        (r#"{"a":{"b":1,"b":2}}"#, "/metadata/a/b", "duplicate_field"),
        (r#"[{"a":1,"\u0061":2}]"#, "/metadata/0/a", "duplicate_field"),
        (r#"[0,"a\u0000"]"#, "/metadata/1", "invalid_text"),
        (r#"{"x":"\udfff"}"#, "/metadata/x", "invalid_text"),
        (r#"{"x":{"\udfff":1}}"#, "/metadata/x", "invalid_text"),
        (r#"{"x":[1e400]}"#, "/metadata/x/0", "out_of_range"),
        (deep.as_str(), deep_at.as_str(), "too_deep"),
        (&format!("\"{}\"", "x".repeat(4_095)), "/metadata", "too_long"),
    ] {
        let body = with(&format!("\"metadata\":{metadata}"));
        assert_eq!(faults(&body), [(pointer.to_owned(), code.to_owned())], "{metadata:.80}");
    }
}

#[test]
fn a_sender_is_needed_only_where_the_provider_has_none() {
    assert_eq!(parsed(with(r#""provider":"housed""#)).unwrap().spec.from, None);
    assert!(parsed(with(r#""provider":"carrier","from":"Shop""#)).is_ok());
}
