use std::fmt::Write;

use super::*;
use crate::domain::chunk::{Entry, entry_at, offsets};

fn providers() -> BTreeMap<String, ProviderFacts> {
    BTreeMap::from([
        ("mock".to_owned(), ProviderFacts::default()),
        ("carrier".to_owned(), ProviderFacts { needs_from: true, has_default_from: false }),
        ("housed".to_owned(), ProviderFacts { needs_from: true, has_default_from: true }),
    ])
}

fn parsed(body: impl AsRef<[u8]>) -> Result<Submission, Refusal> {
    let rules = Rules {
        account: "acme",
        providers: &providers(),
        default_provider: "mock",
        chunk_size: 500,
        allow_private_networks: false,
    };
    parse(body.as_ref(), &rules)
}

/// The pointers and codes of everything wrong with `body`.
fn faults(body: &str) -> Vec<(String, String)> {
    match parsed(body) {
        Err(Refusal::Fields(errors)) => {
            errors.into_iter().map(|error| (error.pointer, error.code)).collect()
        }
        other => panic!("{body} gave {other:?}"),
    }
}

/// A submission with `members` besides the required ones.
fn with(members: &str) -> String {
    format!(r#"{{"body":"Hi","recipients":["+15551230001"],{members}}}"#)
}

/// A submission of `recipients`.
fn to(recipients: &str) -> String {
    format!(r#"{{"body":"Hi","recipients":[{recipients}]}}"#)
}

/// Number, reference, and variables of every recipient.
type Read = (String, Option<String>, Vec<(String, String)>);

fn recipients(submission: &Submission) -> Vec<Read> {
    let read = |entry: Entry<'_>| {
        let variables =
            entry.variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        (entry.to.to_owned(), entry.reference.map(str::to_owned), variables.collect())
    };
    let of_chunk = |chunk: &NewChunk| {
        let offsets = offsets(&chunk.recipients, chunk.states.len());
        let entries = offsets.iter().take(chunk.states.len());
        entries.map(|offset| read(entry_at(&chunk.recipients, *offset))).collect::<Vec<_>>()
    };
    submission.chunks.iter().flat_map(of_chunk).collect()
}

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
        "provider":null,"reference":null,"on_invalid":null,"send_at":null,"priority":null"#,
    );
    assert_eq!(parsed(given).unwrap().spec, parsed(to(r#""+15551230001""#)).unwrap().spec);
    let recipient = to(r#"{"to":"+15551230001","reference":null,"variables":null}"#);
    assert_eq!(recipients(&parsed(recipient).unwrap())[0].1, None);
}

#[test]
fn no_recipients_make_an_empty_batch() {
    let submission = parsed(to("")).unwrap();
    assert_eq!((submission.chunks.len(), submission.messages), (0, 0));
}

#[test]
fn what_is_no_json_is_refused_with_its_place() {
    let deep = format!("{}{}", to(&"[".repeat(200)), "]".repeat(200));
    for (body, place) in [
        ("", "line 1 column 0"),
        ("{", "line 1 column 1"),
        ("\u{feff}{}", "line 1 column 1"),
        ("{\n \"body\": NaN}", "line 2 column 10"),
        (r#"{"body":"a"} x"#, "line 1 column 14"),
        (r#"{"body":"a",}"#, "line 1 column 13"),
        (r#"{"body":"a" "b"}"#, "line 1 column 13"),
        ("{\"body\":\"a\nb\"}", "line 1 column 10"),
        (r#"{"body":01}"#, "line 1 column 10"),
        (r#"{"\ud800":1}"#, "line 1"),
        (deep.as_str(), "line 1"),
    ] {
        match parsed(body) {
            Err(Refusal::Syntax(detail)) => assert!(detail.contains(place), "{body}: {detail}"),
            other => panic!("{body} gave {other:?}"),
        }
    }
    let Err(Refusal::Syntax(detail)) = parsed(b"{\n\"body\":\"\xff\"}") else { panic!() };
    assert_eq!(detail, "invalid UTF-8 at line 2 column 9");
    let Err(Refusal::Syntax(_)) = parsed(b"{\"unknown\":\"\xc3\"}") else { panic!() };
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
        (with(r#""callback_headers":{"a":"b"}"#), "/callback_headers", "invalid_value"),
        (with(r#""callback_headers":[]"#), "/callback_headers", "wrong_type"),
        (with(r#""send_at":"2026-12-01T09:00:00Z""#), "/send_at", "not_supported"),
        (with(r#""expire_at":1"#), "/expire_at", "not_supported"),
        (with(r#""priority":"high""#), "/priority", "not_supported"),
        (with(r#""priority":5"#), "/priority", "wrong_type"),
        (with(r#""delivery_guarantee":"at_most_once""#), "/delivery_guarantee", "not_supported"),
        (with(r#""events":{}"#), "/events", "not_supported"),
        (with(r#""duplicates":"drop""#), "/duplicates", "not_supported"),
        (with(r#""rate":"1/s""#), "/rate", "not_supported"),
        (with(r#""quiet_hours":[]"#), "/quiet_hours", "not_supported"),
        (with(r#""callback_secret":"whsec_""#), "/callback_secret", "not_supported"),
    ] {
        assert_eq!(faults(&body), [(pointer.to_owned(), code.to_owned())], "{body}");
    }
}

#[test]
fn each_wrong_recipient_has_its_pointer_and_code() {
    let long = |bytes: usize| "x".repeat(bytes);
    let fat = (0..5).map(|n| format!(r#""v{n}":"{}""#, long(16_000))).collect::<Vec<_>>().join(",");
    for (recipients, pointer, code) in [
        ("15551230001".to_owned(), "/recipients/0", "wrong_type"),
        ("null".into(), "/recipients/0", "wrong_type"),
        (r#""+15551230001", ["+15551230002"]"#.into(), "/recipients/1", "wrong_type"),
        ("1.5".into(), "/recipients/0", "wrong_type"),
        ("false".into(), "/recipients/0", "wrong_type"),
        (r#""+1555\u0000""#.into(), "/recipients/0", "invalid_text"),
        ("{}".into(), "/recipients/0/to", "missing"),
        (r#"{"to":null}"#.into(), "/recipients/0/to", "missing"),
        (r#"{"to":15551230001}"#.into(), "/recipients/0/to", "wrong_type"),
        (r#"{"to":"\u0000"}"#.into(), "/recipients/0/to", "invalid_text"),
        (r#"{"to":"+1","to":"+2"}"#.into(), "/recipients/0/to", "duplicate_field"),
        (r#"{"to":"+1","name":"Ann"}"#.into(), "/recipients/0/name", "unknown_field"),
        (r#"{"to":"+1","reference":[1]}"#.into(), "/recipients/0/reference", "wrong_type"),
        (
            format!(r#"{{"to":"+1","reference":"{}"}}"#, long(257)),
            "/recipients/0/reference",
            "too_long",
        ),
        (r#"{"to":"+1","variables":[]}"#.into(), "/recipients/0/variables", "wrong_type"),
        (r#"{"to":"+1","variables":{"a":null}}"#.into(), "/recipients/0/variables/a", "wrong_type"),
        (r#"{"to":"+1","variables":{"a":{}}}"#.into(), "/recipients/0/variables/a", "wrong_type"),
        (
            r#"{"to":"+1","variables":{"a":1e400}}"#.into(),
            "/recipients/0/variables/a",
            "out_of_range",
        ),
        (
            r#"{"to":"+1","variables":{"a":1,"a":2}}"#.into(),
            "/recipients/0/variables/a",
            "duplicate_field",
        ),
        (
            r#"{"to":"+1","variables":{"a b":1}}"#.into(),
            "/recipients/0/variables/a b",
            "invalid_name",
        ),
        (
            format!(r#"{{"to":"+1","variables":{{"a":"{}"}}}}"#, long(16_385)),
            "/recipients/0/variables/a",
            "too_long",
        ),
        (
            r#"{"to":"+1","variables":{"a":"\ud83d"}}"#.into(),
            "/recipients/0/variables/a",
            "invalid_text",
        ),
        (format!(r#"{{"to":"+1","variables":{{{fat}}}}}"#), "/recipients/0", "too_long"),
        (format!(r#""{}""#, long(65_537)), "/recipients/0", "too_long"),
    ] {
        let expected = [(pointer.to_owned(), code.to_owned())];
        assert_eq!(faults(&to(&recipients)), expected, "{recipients:.80}");
    }
}

#[test]
fn a_hundred_variables_are_enough() {
    let variables = |count: usize| {
        let pairs = (0..count).map(|n| format!("\"v{n}\":{n}")).collect::<Vec<_>>().join(",");
        format!("{{{pairs}}}")
    };
    let recipient = |count| to(&format!(r#"{{"to":"+1","variables":{}}}"#, variables(count)));
    assert_eq!(recipients(&parsed(recipient(100)).unwrap())[0].2.len(), 100);
    let too_many = |pointer: &str| [(pointer.to_owned(), "too_many".to_owned())];
    assert_eq!(faults(&recipient(101)), too_many("/recipients/0/variables"));
    assert_eq!(faults(&recipient(10_000)), too_many("/recipients/0/variables"));
    let top = with(&format!(r#""variables":{}"#, variables(101)));
    assert_eq!(faults(&top), too_many("/variables"));
}

#[test]
fn everything_wrong_is_listed_at_once() {
    let body = r#"{"body":"{{","recipients":[1,{"to":"+1","variables":{"":1,"b":[]}},{"x":0}],
        "metadata":{"a":1,"a":2},"color":"red","priority":"high"}"#;
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
fn a_syntax_error_after_wrong_fields_is_still_a_syntax_error() {
    assert!(matches!(parsed(r#"{"color":"red","recipients":[1,"#), Err(Refusal::Syntax(_))));
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

#[test]
fn values_keep_the_digits_and_characters_they_were_written_with() {
    let body =
        to(r#"{"to":"+15551230001","variables":{"a":1.10,"b":-0,"c":12345678901234567890123,
        "d":1E+2,"e":false,"f":"tab\t \"q\" \u00e9 \ud83d\ude00","g":"日本","h":""}}"#);
    let read = recipients(&parsed(body).unwrap());
    let values: Vec<&str> = read[0].2.iter().map(|(_, value)| value.as_str()).collect();
    let expected =
        ["1.10", "-0", "12345678901234567890123", "1E+2", "false", "tab\t \"q\" é 😀", "日本", ""];
    assert_eq!(values, expected);
}

#[test]
fn an_escaped_number_is_a_number() {
    let submission = parsed(to(r#""\u002b15551230001""#)).unwrap();
    assert_eq!(submission.invalid, 0);
    assert_eq!(recipients(&submission)[0].0, "+15551230001");
}

#[test]
fn invalid_numbers_are_counted_or_refuse_the_batch() {
    let numbers = r#""+15551230001","nobody",{"to":""},"+1555 123""#;
    let submission = parsed(to(numbers)).unwrap();
    assert_eq!((submission.messages, submission.invalid), (4, 3));
    let body = format!(r#"{{"on_invalid":"reject_batch","body":"Hi","recipients":[{numbers}]}}"#);
    let Err(Refusal::InvalidRecipients { errors, count }) = parsed(body) else { panic!() };
    let pointers: Vec<&str> = errors.iter().map(|error| error.pointer.as_str()).collect();
    assert_eq!((pointers, count), (vec!["/recipients/1", "/recipients/2", "/recipients/3"], 3));
    let many = vec!["\"x\""; 1_200].join(",");
    let body = format!(r#"{{"body":"Hi","recipients":[{many}],"on_invalid":"reject_batch"}}"#);
    let Err(Refusal::InvalidRecipients { errors, count }) = parsed(body) else { panic!() };
    assert_eq!((errors.len(), count), (100, 1_200));
}

#[test]
fn a_sender_is_needed_only_where_the_provider_has_none() {
    assert_eq!(parsed(with(r#""provider":"housed""#)).unwrap().spec.from, None);
    assert!(parsed(with(r#""provider":"carrier","from":"Shop""#)).is_ok());
}

#[test]
fn many_recipients_go_into_chunks_in_order() {
    let mut list = String::new();
    for n in 0..200_000 {
        let separator = if n == 0 { "" } else { "," };
        write!(list, "{separator}\"+1555{n:07}\"").unwrap();
    }
    let submission = parsed(to(&list)).unwrap();
    assert_eq!((submission.messages, submission.invalid), (200_000, 0));
    assert_eq!(submission.chunks.len(), 400);
    for (number, chunk) in (0..).zip(&submission.chunks) {
        assert_eq!((chunk.number, chunk.first, chunk.messages()), (number, number * 500, 500));
    }
    assert_eq!(recipients(&submission)[123_456].0, "+15550123456");
}
