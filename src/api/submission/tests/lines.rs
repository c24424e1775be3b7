//! A batch as lines, in pieces of any size.

use super::*;

const BATCH: &str = r#"{"body":"Hi"}"#;

/// What `body` comes to when it arrives in pieces of `piece_bytes`.
fn streamed_by(body: &[u8], piece_bytes: usize) -> Result<Submission, Refusal> {
    let (first, rest) = match body.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&body[..end], &body[end + 1..]),
        None => (body, &body[body.len()..]),
    };
    let (spec, mut lines) = begin(first, &rules(&providers()))?;
    let mut chunks = Vec::new();
    for piece in rest.chunks(piece_bytes) {
        chunks.extend(lines.take(piece)?);
    }
    let rest = lines.finish()?;
    chunks.extend(rest.chunks);
    Ok(Submission {
        spec,
        chunks,
        messages: rest.messages,
        invalid: rest.invalid,
        skipped: rest.skipped,
    })
}

fn streamed(body: impl AsRef<[u8]>) -> Result<Submission, Refusal> {
    streamed_by(body.as_ref(), usize::MAX)
}

/// A batch with these further lines.
fn of(lines: &str) -> String {
    format!("{BATCH}\n{lines}")
}

/// The only error of a body that is refused: its pointer, code and detail.
fn error(body: impl AsRef<[u8]>) -> (String, String, String) {
    match streamed(body) {
        Err(Refusal::Fields(mut errors)) if errors.len() == 1 => {
            let error = errors.remove(0);
            (error.pointer, error.code, error.detail)
        }
        other => panic!("it gave {other:?}"),
    }
}

#[test]
fn lines_come_to_what_a_document_comes_to_however_they_are_cut() {
    let first = r#"{"body":"Hi {{name}}","variables":{"name":"there"},"reference":"spring","metadata":[1.10]"#;
    let recipients: Vec<String> = (0..1_200)
        .map(|n| match n % 4 {
            0 => format!("\"+1555{n:07}\""),
            1 => format!(r#"{{"to":"+1555{n:07}","variables":{{"name":"A\n{n}"}}}}"#),
            2 => format!(r#" {{"reference":"user-{n}", "to":"+1555{n:07}" }} "#),
            _ => "\"nobody\"".to_owned(),
        })
        .collect();
    let document = parsed(format!("{first},\"recipients\":[{}]}}", recipients.join(","))).unwrap();
    for (end, last) in [("\n", "\n"), ("\n", ""), ("\r\n", "\r\n"), ("\n", "\n\n \r\n\t")] {
        let body = format!("{first}}}{end}{}{last}", recipients.join(end));
        for piece_bytes in [1, 2, 7, 100, 4_096, usize::MAX] {
            let lines = streamed_by(body.as_bytes(), piece_bytes).unwrap();
            assert_eq!(lines.spec, document.spec);
            assert_eq!((lines.messages, lines.invalid), (1_200, 300));
            assert_eq!(lines.chunks, document.chunks, "{piece_bytes} bytes, {end:?} {last:?}");
        }
    }
}

#[test]
fn chunks_are_given_as_soon_as_they_are_full() {
    let providers = providers();
    let (_, mut lines) = begin(BATCH.as_bytes(), &rules(&providers)).unwrap();
    let piece = "\"+15551230001\"\n".repeat(499);
    assert_eq!(lines.take(piece.as_bytes()).unwrap(), []);
    let chunks = lines.take(b"\"+15551230001\"\n\"+15551").unwrap();
    assert_eq!(chunks.iter().map(NewChunk::messages).collect::<Vec<_>>(), [500]);
    assert_eq!(lines.take(b"230001\"").unwrap(), []);
    let rest = lines.finish().unwrap();
    assert_eq!((rest.chunks.len(), rest.messages), (1, 501));
}

#[test]
fn a_batch_may_have_no_line_but_the_first() {
    for body in [BATCH.to_owned(), of(""), of("\n\r\n")] {
        assert_eq!(streamed(&body).unwrap().messages, 0, "{body:?}");
    }
}

#[test]
fn the_first_line_is_judged_as_a_document_is() {
    for (line, pointer, code) in [
        ("", "/1", "empty"),
        (" \r", "/1", "empty"),
        ("null", "/1", "wrong_type"),
        ("\"+15551230001\"", "/1", "wrong_type"),
        ("{", "/1", "invalid_json"),
        ("{}", "/1/body", "missing"),
        (r#"{"body":"{{"}"#, "/1/body", "template_invalid"),
        (r#"{"body":"Hi","recipients":["+15551230001"]}"#, "/1/recipients", "unknown_field"),
        (r#"{"body":"Hi","provider":"carrier"}"#, "/1/from", "missing"),
        (r#"{"body":"Hi","events":["batch.ended"]}"#, "/1/events/0", "invalid_value"),
        (r#"{"body":"Hi","callback_auth":{}}"#, "/1/callback_auth/type", "missing"),
        (r#"{"body":"Hi","provider":"nobody"}"#, "/1/provider", "unknown_provider"),
        (r#"{"body":"Hi","metadata":{"a":1,"a":2}}"#, "/1/metadata/a", "duplicate_field"),
        (
            r#"{"body":"Hi","callback_url":"http://127.1"}"#,
            "/1/callback_url",
            "callback_url_forbidden",
        ),
    ] {
        let body = format!("{line}\n\"+15551230001\"\n");
        let (found, found_code, _) = error(&body);
        assert_eq!((found.as_str(), found_code.as_str()), (pointer, code), "{body}");
    }
}

#[test]
fn everything_wrong_within_one_line_is_told_and_no_later_one() {
    let both = streamed(r#"{"color":1,"from":2}"#.to_owned() + "\n[]");
    assert_eq!(listed(both).len(), 3);
    let body = of("\"+15551230001\"\n{\"to\":1,\"variables\":{\"a b\":[]},\"x\":0}\n[]\n");
    let expected = [
        ("/3/to", "wrong_type"),
        ("/3/variables/a b", "invalid_name"),
        ("/3/variables/a b", "wrong_type"),
        ("/3/x", "unknown_field"),
    ];
    let expected = expected.map(|(pointer, code)| (pointer.to_owned(), code.to_owned()));
    assert_eq!(listed(streamed(&body)), expected);
}

#[test]
fn a_line_that_is_no_json_is_named_with_its_column() {
    let at = |lines: &[u8], detail: &str| {
        let mut body = of("\"+15551230001\"\n").into_bytes();
        body.extend_from_slice(lines);
        let expected = ("/3".to_owned(), "invalid_json".to_owned(), detail.to_owned());
        assert_eq!(error(body), expected);
    };
    at(b"nobody\n\"+1\"\n", "expected ident at line 3 column 2");
    at(b"{\"to\":\"+1\",}\n", "trailing comma at line 3 column 12");
    at(b"{\"to\":\"+15551230002\"\n}\n", "EOF while parsing an object at line 3 column 20");
    at(b"\"+1\" \"+2\"", "trailing characters at line 3 column 6");
    at(b"\"+1\xff\"\n", "invalid UTF-8 at line 3 column 4");
    at(b"\xef\xbb\xbf\"+1\"\n", "JSON has no byte order mark at line 3 column 1");
    at(b"\0\n", "expected value at line 3 column 1");
    let deep = format!("{}\n", "[".repeat(60_000));
    at(deep.as_bytes(), "EOF while parsing a list at line 3 column 60000");
    let (pointer, code, detail) = error(format!("\u{feff}{BATCH}\n"));
    assert_eq!((pointer.as_str(), code.as_str()), ("/1", "invalid_json"));
    assert!(detail.contains("byte order mark"), "{detail}");
}

#[test]
fn only_the_last_lines_may_be_empty() {
    let expected = |line: u64| (format!("/{line}"), "empty".to_owned());
    for (body, line) in [
        (of("\n\"+15551230001\"\n"), 2),
        (of("\"+15551230001\"\n \t\n\r\n\"+15551230002\""), 3),
        (of(&"\n".repeat(70_000)), 2),
    ] {
        let (pointer, code, _) = error(&body);
        assert_eq!((pointer, code), expected(line));
    }
}

#[test]
fn a_line_has_at_most_64_kib() {
    let line = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let fits = of(&format!("\"+15551230001\"\n{}\n", line(LINE_BYTES_MAX)));
    assert_eq!(streamed(&fits).unwrap().messages, 2);
    for end in ["\n", ""] {
        let long = of(&format!("\"+15551230001\"\n{}{end}", line(LINE_BYTES_MAX + 1)));
        for piece_bytes in [1_000, usize::MAX] {
            let refused = streamed_by(long.as_bytes(), piece_bytes);
            assert!(matches!(refused, Err(Refusal::LineTooLong { line: 3 })), "{refused:?}");
        }
    }
    let first = format!("{BATCH}{}", " ".repeat(LINE_BYTES_MAX));
    assert!(matches!(streamed(first), Err(Refusal::LineTooLong { line: 1 })));
    // It is not read to its end first.
    let providers = providers();
    let (_, mut lines) = begin(BATCH.as_bytes(), &rules(&providers)).unwrap();
    assert!(lines.take(&vec![b'x'; LINE_BYTES_MAX]).is_ok());
    assert!(matches!(lines.take(b"x"), Err(Refusal::LineTooLong { line: 2 })));
}

#[test]
fn a_client_can_have_a_stream_with_invalid_numbers_refused() {
    let mut body = format!("{}\n", r#"{"body":"Hi","on_invalid":"reject_batch"}"#);
    (0..1_200).for_each(|n| body.push_str(["\"x\"\n", "\"+15551230001\"\n"][n % 2]));
    let Err(Refusal::InvalidRecipients { errors, count }) = streamed(&body) else { panic!() };
    assert_eq!((errors.len(), count), (100, 600));
    assert_eq!((errors[0].pointer.as_str(), errors[99].pointer.as_str()), ("/2", "/200"));
    let body = body.replace("\"x\"", "\"+15551230002\"");
    assert_eq!(streamed(body).unwrap().messages, 1_200);
}
