//! The recipients of a document.

use std::fmt::Write;

use super::*;

#[test]
fn no_recipients_make_an_empty_batch() {
    let submission = parsed(to("")).unwrap();
    assert_eq!((submission.chunks.len(), submission.messages), (0, 0));
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
