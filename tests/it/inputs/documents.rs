//! Documents that are none, or no batch: as JSON, as lines, as tables, packed or not, and too large.

use std::iter::repeat_n;

use super::{BODY_BYTES_MAX, Case, UNPACKED_BYTES_MAX, post, request, with};
use crate::{packed::packed, scene::number};

const JSON: (&str, &str) = ("Content-Type", "application/json");
const NDJSON: (&str, &str) = ("Content-Type", "application/x-ndjson");
const CSV: (&str, &str) = ("Content-Type", "text/csv");

const NO_JSON: (u16, &str) = (400, "invalid_json");
const WRONG: (u16, &str) = (422, "invalid_request");

pub(super) async fn cases(over: &str, waiting: &str) -> Vec<Case> {
    let mut cases = syntax();
    cases.extend(members());
    cases.extend(other_calls(over, waiting));
    cases.extend(texts());
    cases.extend(lines_and_tables());
    cases.extend(sizes());
    cases.extend(compression().await);
    cases
}

fn syntax() -> Vec<Case> {
    let good = with(r#""reference":"r""#);
    let mut cases: Vec<Case> = [
        ("nothing", String::new()),
        ("a blank", " ".into()),
        ("half a document", good[..good.len() - 1].into()),
        ("a byte order mark", format!("\u{feff}{good}")),
        ("trailing bytes", format!("{good} x")),
        ("a trailing NUL", format!("{good}\0")),
        ("two documents", format!("{good}{good}")),
        ("NaN", with(r#""metadata":NaN"#)),
        ("-Infinity", with(r#""metadata":-Infinity"#)),
        ("a number with a leading 0", with(r#""metadata":01"#)),
        ("a trailing comma", with(r#""metadata":1,"#)),
        ("a comment", format!("/* x */{good}")),
        ("single quotes", good.replace('"', "'")),
        ("a bare line break in a string", with("\"reference\":\"a\nb\"")),
        ("an unknown escape", with(r#""reference":"\x41""#)),
        ("100,000 brackets", "[".repeat(100_000)),
        ("100,000 objects", "{\"a\":".repeat(100_000)),
        ("100,000 brackets in metadata", with(&format!("\"metadata\":{}", "[".repeat(100_000)))),
    ]
    .into_iter()
    .map(|(what, body)| Case::new("JSON", what, post(body), NO_JSON))
    .collect();
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_le_bytes).collect();
    cases.push(Case::new("JSON", "UTF-16", post(utf16), NO_JSON));
    for (what, bytes) in [
        ("a lone byte", &b"\xff"[..]),
        ("half a character", b"\xc3"),
        ("an overlong form", b"\xc0\x80"),
        ("a surrogate as UTF-8", b"\xed\xa0\x80"),
        ("beyond the last character", b"\xf5\x80\x80\x80"),
    ] {
        for field in ["reference", "metadata", "unknown"] {
            let [before, after] = [format!(r#"{{"{field}":""#), r#""}"#.to_owned()];
            let body = [before.as_bytes(), bytes, after.as_bytes()].concat();
            cases.push(Case::new("JSON", format!("{what} in {field}"), post(body), NO_JSON));
        }
    }
    cases
}

fn members() -> Vec<Case> {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let to = |recipient: &str| format!(r#"{{"body":"Hi","recipients":[{recipient}]}}"#);
    [
        ("a list", "[]".to_owned()),
        ("a string", "\"x\"".into()),
        ("null", "null".into()),
        ("an empty object", "{}".into()),
        ("a body that is a number", r#"{"body":1,"recipients":[]}"#.into()),
        ("recipients that are an object", r#"{"body":"Hi","recipients":{}}"#.into()),
        ("an unknown field", with(r#""colour":1"#)),
        ("1e400 in metadata", with(r#""metadata":{"a":1e400}"#)),
        ("-1e400 as a variable", with(r#""variables":{"a":-1e400}"#)),
        ("metadata 65 deep", with(&format!("\"metadata\":{}", deep(65)))),
        ("metadata 128 objects deep", with(&format!("\"metadata\":{}", objects(128)))),
        ("metadata 1,000 deep", with(&format!("\"metadata\":{}", deep(1_000)))),
        ("an unknown field 100,000 deep", with(&format!("\"x\":{}", deep(100_000)))),
        ("a recipient 1,000 deep", to(&deep(1_000))),
        ("a variable 1,000 deep", with(&format!("\"variables\":{{\"a\":{}}}", objects(1_000)))),
        ("callback headers 1,000 deep", with(&format!("\"callback_headers\":{}", deep(1_000)))),
        ("events 1,000 deep", with(&format!("\"events\":[{}]", deep(1_000)))),
        ("max_segments 1,000 deep", with(&format!("\"max_segments\":{}", deep(1_000)))),
        (
            "max_segments of a thousand digits",
            with(&format!("\"max_segments\":{}", "1".repeat(1_000))),
        ),
        ("smart_encoding as a word", with(r#""smart_encoding":"true""#)),
        ("quiet hours 1,000 objects deep", with(&format!("\"quiet_hours\":{}", objects(1_000)))),
        ("a field twice", with(r#""body":"Ho""#)),
        ("a field twice, once escaped", with(r#""bod\u0079":"Ho""#)),
        ("a metadata key twice", with(r#""metadata":{"a":1,"a":1}"#)),
        ("a nested metadata key twice", with(r#""metadata":[{"a":{"b":1,"\u0062":1}}]"#)),
        ("a variable twice", with(r#""variables":{"a":1,"a":1}"#)),
        ("a recipient's field twice", to(r#"{"to":"+15550000000","to":"+15550000001"}"#)),
        ("a recipient's variable twice", to(r#"{"to":"+15550000000","variables":{"a":1,"a":2}}"#)),
        (
            "a callback header twice",
            with(r#""callback_url":"https://a.example","callback_headers":{"a":"b","A":"b"}"#),
        ),
        ("callback_auth's field twice", with(r#""callback_auth":{"type":"basic","type":"basic"}"#)),
        ("a lone surrogate", with(r#""reference":"\ud800""#)),
        ("a lone surrogate in a metadata key", with(r#""metadata":{"\udfff":1}"#)),
        ("surrogates the wrong way round", with(r#""reference":"\udc00\ud800""#)),
    ]
    .into_iter()
    .map(|(what, body)| Case::new("JSON", what, post(body), WRONG))
    .collect()
}

/// The other calls that take a document.
fn other_calls(over: &str, waiting: &str) -> Vec<Case> {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let calls = [
        (format!("POST /v1/batches/{over}/retry"), "states"),
        (format!("PATCH /v1/batches/{waiting}"), "body"),
        ("POST /v1/callbacks/replay".to_owned(), "since"),
        ("POST /v1/callbacks/test".to_owned(), "url"),
    ];
    let mut cases = Vec::new();
    for (line, field) in &calls {
        let name = line.replace(over, "…").replace(waiting, "…");
        for (what, body, answer) in [
            ("nothing", String::new(), NO_JSON),
            ("trailing bytes", "{} {}".into(), NO_JSON),
            ("a byte order mark", "\u{feff}{}".into(), NO_JSON),
            ("20,000 brackets", "[".repeat(20_000), NO_JSON),
            ("a list", "[]".into(), WRONG),
            ("an unknown field", r#"{"colour":1}"#.into(), WRONG),
            ("its field twice", format!(r#"{{"{field}":"x","{field}":"x"}}"#), WRONG),
            ("its field 1,000 deep", format!(r#"{{"{field}":{}}}"#, deep(1_000)), WRONG),
            ("its field with a NUL", format!(r#"{{"{field}":"\u0000"}}"#), WRONG),
            ("65 KiB", " ".repeat(65 * 1024), (413, "body_too_large")),
        ] {
            let bytes = request(line, &[JSON], body.as_bytes());
            cases.push(Case::new("JSON", format!("{name}: {what}"), bytes, answer));
        }
        let bytes = request(line, &[("Content-Type", "text/plain")], b"{}");
        let answer = (415, "unsupported_media_type");
        cases.push(Case::new("JSON", format!("{name}: as text"), bytes, answer));
    }
    cases
}

fn texts() -> Vec<Case> {
    let saying = |body: &str| format!(r#"{{"body":"{body}","recipients":[]}}"#);
    let mut cases: Vec<Case> = [
        ("NUL in the body", saying(r"a\u0000b")),
        ("NUL in a reference", with(r#""reference":"\u0000""#)),
        ("NUL in metadata", with(r#""metadata":["\u0000"]"#)),
        ("NUL in a metadata key", with(r#""metadata":{"\u0000":1}"#)),
        ("NUL in a variable", with(r#""variables":{"a":"\u0000"}"#)),
        ("NUL in a number", r#"{"body":"Hi","recipients":["+1555\u00000000"]}"#.into()),
        ("a control character in the sender", with(r#""from":"a\u0007""#)),
        ("a bidi mark in the sender", with(r#""from":"a\u202e""#)),
        ("a variable's name with a ZWJ", with(r#""variables":{"a\u200d":1}"#)),
    ]
    .into_iter()
    .map(|(what, body)| Case::new("text", what, post(body), WRONG))
    .collect();
    for (what, body) in
        [("an open variable", "{{a"), ("a variable without a name", "{{ }}"), ("{{é}}", "{{é}}")]
    {
        cases.push(Case::new("text", what, post(saying(body)), (422, "template_invalid")));
    }
    cases
}

fn lines_and_tables() -> Vec<Case> {
    let head = r#"{"body":"Hi"}"#;
    let line = format!("\"{}\"", number(0));
    let long = "x".repeat(10 << 20);
    let settings = "/v1/batches?settings=%7B%22body%22%3A%22Hi%22%7D";
    let lines = [
        ("nothing", String::new(), WRONG),
        ("a first line of recipients", format!("{line}\n"), WRONG),
        ("a first line with recipients", format!("{}\n", with("\"reference\":\"x\"")), WRONG),
        (
            "a line twice as long as may be",
            format!("{head}\n\"{}\"", "x".repeat(130_000)),
            (413, "line_too_long"),
        ),
        ("a line of 10 MB", format!("{head}\n\"{long}\"\n"), (413, "line_too_long")),
        ("a first line of 10 MB", long.clone(), (413, "line_too_long")),
        ("an empty line between", format!("{head}\n{line}\n\n{line}\n"), WRONG),
        ("half a line at the end", format!("{head}\n{line}\n\"+1"), WRONG),
        ("two values in a line", format!("{head}\n{line} {line}\n"), WRONG),
        ("a byte order mark", format!("\u{feff}{head}\n{line}\n"), WRONG),
        ("a line 20,000 deep", format!("{head}\n{}\n", "[".repeat(20_000)), WRONG),
        ("70,000 empty lines", format!("{head}\n{}", "\n".repeat(70_000)), WRONG),
    ];
    let tables = [
        ("nothing", String::new(), WRONG),
        ("no column `to`", "number\n+15550000000\n".into(), WRONG),
        ("a quote that never closes", "to\n\"+15550000000\n".into(), WRONG),
        ("a record too long", format!("to,x\n+1,{}\n", "x".repeat(70_000)), (413, "line_too_long")),
        ("70,000 columns", format!("to{}\n", ",".repeat(70_000)), (413, "line_too_long")),
        ("a NUL", "to\n+1555\0\n".into(), WRONG),
        ("a field too many", "to\n+15550000000,x\n".into(), WRONG),
    ];
    let lines = lines.into_iter().map(|(what, body, answer)| {
        let bytes = request("POST /v1/batches", &[NDJSON], body.as_bytes());
        Case::new("NDJSON", what, bytes, answer)
    });
    let tables = tables.into_iter().map(|(what, body, answer)| {
        let bytes = request(&format!("POST {settings}"), &[CSV], body.as_bytes());
        Case::new("CSV", what, bytes, answer)
    });
    let odd = [b"to\n\xff\n".as_slice(), b"\xff\xfet\0o\0"].map(|body| {
        Case::new("CSV", "no UTF-8", request(&format!("POST {settings}"), &[CSV], body), WRONG)
    });
    lines.chain(tables).chain(odd).collect()
}

fn sizes() -> Vec<Case> {
    let variables: Vec<_> = (0..1_000_000).map(|n| format!("\"v{n}\":1")).collect();
    let variables = with(&format!("\"variables\":{{{}}}", variables.join(",")));
    let wrong: String = repeat_n("5,", 1_000_000).collect();
    let wrong = format!(r#"{{"body":"Hi","recipients":[{}]}}"#, wrong.trim_end_matches(','));
    let mut chunked = b"POST /v1/batches HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
        Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        .to_vec();
    let spaces = " ".repeat(BODY_BYTES_MAX + 1);
    for piece in spaces.as_bytes().chunks(1 << 20) {
        chunked.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        chunked.extend_from_slice(piece);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let said = |length: u64| {
        format!(
            "POST /v1/batches HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: \
             application/json\r\nContent-Length: {length}\r\n\r\n"
        )
    };
    let long = |field: &str, bytes: usize| with(&format!("\"{field}\":\"{}\"", "x".repeat(bytes)));
    vec![
        Case::new("size", "the limit + 1", post(&spaces), (413, "body_too_large")),
        Case::new("size", "the limit + 1, in chunks", chunked, (413, "body_too_large")),
        Case::new(
            "size",
            "a length of 2^60 that does not come",
            said(1 << 60),
            (413, "body_too_large"),
        ),
        Case::new("size", "a length of 2^64 - 1 that does not come", said(u64::MAX), (431, "")),
        Case::new("size", "1,000,000 variables", post(variables), WRONG),
        Case::new("size", "1,000,000 recipients of the wrong type", post(wrong), WRONG),
        Case::new("size", "a reference of 257 bytes", post(long("reference", 257)), WRONG),
        Case::new("size", "metadata of 5,000 bytes", post(long("metadata", 5_000)), WRONG),
        Case::new("size", "a sender of 10 MB", post(long("from", 10 << 20)), WRONG),
        Case::new(
            "size",
            "a provider of 10 MB",
            post(long("provider", 10 << 20)),
            (422, "unknown_provider"),
        ),
        Case::new(
            "size",
            "a field's name of 10 MB",
            post(with(&format!("\"{}\":1", "x".repeat(10 << 20)))),
            WRONG,
        ),
    ]
}

async fn compression() -> Vec<Case> {
    let good = with(r#""reference":"packed""#);
    let mut cases = Vec::new();
    for encoding in ["gzip", "zstd"] {
        let bomb = packed(encoding, &vec![b' '; 64 << 20]).await;
        let line = format!("\"{}\"\n", number(0));
        let lines =
            format!("{{\"body\":\"Hi\"}}\n{}", line.repeat(UNPACKED_BYTES_MAX / line.len() + 1));
        let once = packed(encoding, good.as_bytes()).await;
        let tail = [once.as_slice(), b"and more"].concat();
        let (broken, large) = ((400, "body_encoding"), (413, "body_too_large"));
        for (what, form, body, answer) in [
            ("a bomb of 64 MiB", JSON, bomb.clone(), large),
            ("a bomb of one line", NDJSON, bomb, (413, "line_too_long")),
            ("more lines than may be", NDJSON, packed(encoding, lines.as_bytes()).await, large),
            ("what is not packed", JSON, good.clone().into_bytes(), broken),
            ("a half", JSON, once[..once.len() / 2].to_vec(), broken),
            ("a tail", JSON, tail, broken),
            ("nothing", JSON, Vec::new(), broken),
            ("packed twice", JSON, packed(encoding, &once).await, NO_JSON),
        ] {
            let headers = [form, ("Content-Encoding", encoding)];
            let bytes = request("POST /v1/batches", &headers, &body);
            cases.push(Case::new("compression", format!("{encoding}: {what}"), bytes, answer));
        }
    }
    for encoding in ["br", "deflate", "gzip, gzip", "identity, br", "\u{1f4a3}", ""] {
        let headers = [JSON, ("Content-Encoding", encoding)];
        let bytes = request("POST /v1/batches", &headers, good.as_bytes());
        let answer = (415, "unsupported_encoding");
        cases.push(Case::new("compression", format!("{encoding:?}"), bytes, answer));
    }
    cases
}
