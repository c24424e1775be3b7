//! Exchanges that are no good HTTP, or none at all.

use super::{Case, End, with};

const BROKEN: (u16, &str) = (400, "body_broken");

/// The HTTP library's own answers, which have no body.
const BAD: (u16, &str) = (400, "");
const TOO_MUCH: (u16, &str) = (431, "");

/// The connection is closed without a word.
const CLOSED: (u16, &str) = (0, "");

pub(super) fn cases() -> Vec<Case> {
    let mut cases = heads();
    cases.extend(framing());
    cases.extend(addresses());
    cases
}

/// A request of this line and these header lines, without a body.
fn bare(line: &str, headers: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n")
}

fn heads() -> Vec<Case> {
    let get = |headers: &str| bare("GET /healthz", headers);
    let no_host =
        |headers: &str| format!("GET /healthz HTTP/1.1\r\nConnection: close\r\n{headers}\r\n");
    let host = (400, "invalid_host");
    [
        ("no Host", no_host(""), host),
        ("Host twice", no_host("Host: a\r\nHost: b\r\n"), host),
        ("Host twice, the same", no_host("Host: a\r\nhost: a\r\n"), host),
        ("a Host with a blank", no_host("Host: a b\r\n"), host),
        ("a Host with user info", no_host("Host: x@a\r\n"), host),
        ("a Host with a path", no_host("Host: a/b\r\n"), host),
        ("101 headers", get(&"X: y\r\n".repeat(101)), TOO_MUCH),
        ("10,000 headers", get(&"X: y\r\n".repeat(10_000)), TOO_MUCH),
        ("a header of 40 KB", get(&format!("X: {}\r\n", "y".repeat(40_000))), TOO_MUCH),
        ("a header of 1 MB", get(&format!("X: {}\r\n", "y".repeat(1_000_000))), TOO_MUCH),
        ("a header that never ends", get("X: y").trim_end().repeat(20_000), TOO_MUCH),
        ("a blank before the colon", get("X : y\r\n"), BAD),
        ("a header without a name", get(": y\r\n"), BAD),
        ("a header without a colon", get("X\r\n"), BAD),
        ("a folded header", get("X: y\r\n z\r\n"), BAD),
        ("a NUL in a header", get("X: a\0b\r\n"), BAD),
        ("a bare CR in a header", get("X: a\rb\r\n"), BAD),
        ("a control in a name", get("X\u{1}: a\r\n"), BAD),
        ("no HTTP", "nonsense\r\n\r\n".to_owned(), BAD),
        ("a NUL", "\0\r\n\r\n".to_owned(), BAD),
        ("a line without a version", "GET /healthz\r\nHost: a\r\n\r\n".to_owned(), BAD),
        ("HTTP/9.9", "GET /healthz HTTP/9.9\r\nHost: a\r\n\r\n".to_owned(), BAD),
        ("HTTP/2's first words", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), CLOSED),
        ("the hello of TLS", "\u{16}\u{3}\u{1}\0\u{5}\u{1}\0\0\u{1}\r\n\r\n".to_owned(), BAD),
        ("a method that is none", bare("G<T /healthz", ""), BAD),
        (
            "a method of 10 KB",
            bare(&format!("{} /healthz", "G".repeat(10_000)), ""),
            (405, "method_not_allowed"),
        ),
        ("a method that nobody knows", bare("BREW /healthz", ""), (405, "method_not_allowed")),
        ("a line break in the path", bare("GET /a\r\nb", ""), BAD),
        // RFC 9112, section 2.2, lets a server take a bare LF as the end of a line.
        ("bare LF", bare("GET /nothing", "").replace('\r', ""), (404, "not_found")),
    ]
    .into_iter()
    .map(|(what, bytes, answer)| Case::new("HTTP", what, bytes, answer))
    .collect()
}

/// Bodies that are not as long as they are said to be, or said to be two things.
fn framing() -> Vec<Case> {
    let body = with(r#""reference":"framed""#);
    let (half, length) = (body.len() / 2, body.len());
    let framed = |headers: &str, body: &str| {
        bare("POST /v1/batches", &format!("Content-Type: application/json\r\n{headers}")) + body
    };
    let chunked = |chunks: &str| framed("Transfer-Encoding: chunked\r\n", chunks);
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    let both = format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n");
    let turned = format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n");
    // What follows is a request of its own, if the body ends where the other header says.
    let smuggled = format!("0\r\n\r\n{}", framed(&format!("Content-Length: {length}\r\n"), &body));
    let lasting = |headers: &str| framed(headers, &smuggled).replace("Connection: close\r\n", "");
    let length_of = |length: &str| framed(&format!("Content-Length: {length}\r\n"), &body);
    let open = |what, bytes, answer| Case::new("HTTP", what, bytes, answer);
    vec![
        // The chunks count, and the connection ends with the answer: what follows is no request.
        open("TE and CL", lasting(&both), (400, "invalid_json")),
        open("CL and TE", lasting(&turned), (400, "invalid_json")),
        open("two lengths", framed("Content-Length: 1\r\nContent-Length: 2\r\n", "{}"), BAD),
        open("two lengths in one", length_of("1, 2"), BAD),
        open("a negative length", length_of("-1"), BAD),
        open("a length with a sign", length_of("+5"), BAD),
        open("a length that is none", length_of("ten"), BAD),
        open("a length beyond 64 bits", length_of("18446744073709551616"), BAD),
        open("TE: gzip", framed("Transfer-Encoding: gzip\r\n", &body), BAD),
        open("TE: chunked, gzip", framed("Transfer-Encoding: chunked, gzip\r\n", &body), BAD),
        open("TE: xchunked", framed("Transfer-Encoding: xchunked\r\n", &body), BAD),
        open("a length that is short", length_of(&half.to_string()), (400, "invalid_json")),
        open("a length that is long", length_of(&(2 * length).to_string()), BROKEN)
            .ending(End::Closes),
        open("a chunk's size that is none", chunked("zz\r\n{}\r\n0\r\n\r\n"), BROKEN),
        open("a chunk's size beyond 64 bits", chunked("fffffffffffffffff\r\n{}"), BROKEN),
        open("a chunk longer than its size", chunked("1\r\n{}\r\n0\r\n\r\n"), BROKEN),
        open("a chunk's extension of 1 MB", chunked(&format!("2;{}", "x".repeat(1 << 20))), BROKEN),
        open("chunks without an end", chunked(&chunk(&body)), BROKEN).ending(End::Closes),
        open(
            "trailers of 1 MB",
            chunked(&format!("{}0\r\nx: {}", chunk(&body), "y".repeat(1 << 20))),
            BROKEN,
        )
        .ending(End::Closes),
        open("a reset after the head", length_of("100000"), CLOSED).ending(End::Resets),
        open("a reset in a chunk", chunked("ffff\r\n{\"body\""), CLOSED).ending(End::Resets),
        open("a reset in the head", bare("POST /v1/ba", "").replace("\r\n\r\n", ""), (0, ""))
            .ending(End::Resets),
    ]
}

fn addresses() -> Vec<Case> {
    let (absent, long) = ((404, "not_found"), "x".repeat(20_000));
    [
        ("a path of 20 KB", format!("GET /{long}"), absent),
        ("a query of 20 KB", format!("GET /v1/batches?x={long}"), (422, "invalid_request")),
        ("a URL of 70 KB", format!("GET /{}", "x".repeat(70_000)), TOO_MUCH),
        ("a URL of 1 MB", format!("GET /{}", "x".repeat(1_000_000)), TOO_MUCH),
        ("a path without a slash", "GET healthz".into(), absent),
        ("a NUL in the path", "GET /v1/batches/%00".into(), absent),
        ("no UTF-8 in the path", "GET /v1/batches/%ff%fe".into(), absent),
        ("dots in the path", "GET /v1/../../etc/passwd".into(), absent),
        ("10,000 slashes", format!("GET {}", "/".repeat(10_000)), absent),
        ("a percent sign alone", "GET /v1/batches/%".into(), absent),
        ("a raw character in the path", "GET /v1/batches/é".into(), absent),
        ("a fragment", "GET /nothing#x".into(), absent),
        ("CONNECT", "CONNECT a.example:443".into(), absent),
        ("an asterisk", "OPTIONS *".into(), absent),
        ("another server's URL", "GET http://a.example/nothing".into(), absent),
        ("a query that is no UTF-8", "GET /v1/batches?limit=%ff".into(), (422, "invalid_request")),
    ]
    .into_iter()
    .map(|(what, line, answer)| Case::new("HTTP", what, bare(&line, ""), answer))
    .collect()
}
