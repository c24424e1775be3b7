//! Callback URLs, headers and secrets that are refused. Each has a secret in it.

use super::{Case, HUSH, post, with};

const FORBIDDEN: (u16, &str) = (422, "callback_url_forbidden");
const WRONG: (u16, &str) = (422, "invalid_request");

/// What may not be called: schemes, hosts by name, and addresses in all the ways they can be written.
const URLS: [&str; 70] = [
    "",
    "hooks",
    "//a.example/",
    "http:",
    "http://",
    "https:///",
    "ftp://a.example/",
    "file:///etc/passwd",
    "gopher://a.example/",
    "data:text/plain,x",
    "javascript:alert(1)",
    "unix:/run/redis.sock",
    "ws://a.example/",
    "http://user@a.example/",
    "http://user:hush@a.example/",
    "http://:hush@a.example/",
    "http://a.example:99999/",
    "http://a.example:x/",
    "http://a b.example/",
    "http://a..example/",
    "http://{a}.example/",
    "http://a$.example/",
    "http://localhost/",
    "http://LOCALHOST./",
    "http://a.localhost/",
    "http://printer.local/",
    "http://metadata.google.internal/",
    "http://intranet/",
    "http://127.0.0.1/",
    "http://127.0.0.1:80@127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://0x7f.1/",
    "http://0177.0.0.1/",
    "http://017700000001/",
    "http://127.0.0.1./",
    "http://%31%32%37.0.0.1/",
    "http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/",
    "http://\u{2460}\u{2461}\u{2466}.0.0.1/",
    "http://127\u{3002}0\u{3002}0\u{3002}1/",
    "http:\\\\127.0.0.1\\",
    "http://0/",
    "http://0.0.0.0/",
    "http://10.0.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://172.16.0.1/",
    "http://192.0.2.1/",
    "http://192.168.1.1/",
    "http://198.18.0.1/",
    "http://198.51.100.1/",
    "http://203.0.113.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::]/",
    "http://[::1]/",
    "http://[::ffff:93.184.216.34]/",
    "http://[::93.184.216.34]/",
    "http://[::ffff:0:93.184.216.34]/",
    "http://[64:ff9b::5db8:d822]/",
    "http://[64:ff9b:1::5db8:d822]/",
    "http://[2001:0:5db8:d822::1]/",
    "http://[2001:db8::1]/",
    "http://[2002:5db8:d822::1]/",
    "http://[2606:4700::5efe:5db8:d822]/",
    "http://[fc00::1]/",
    "http://[fe80::1]/",
    "http://[ff02::1]/",
    "http://[fe80::1%25eth0]/",
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = URLS
        .iter()
        .map(|url| {
            let given = serde_json::json!(format!("{url}?token={HUSH}"));
            let given = if url.is_empty() { "\"\"".to_owned() } else { given.to_string() };
            let body = with(&format!("\"callback_url\":{given}"));
            Case::new("callback URL", *url, post(body), FORBIDDEN)
        })
        .collect();
    let long = format!("https://a.example/{}", HUSH.repeat(600));
    let body = with(&format!("\"callback_url\":\"{long}\""));
    cases.push(Case::new("callback URL", "one of 2,418 bytes", post(body), FORBIDDEN));
    cases.extend(headers());
    cases.extend(secrets());
    cases
}

fn headers() -> Vec<Case> {
    let many = (0..21).map(|n| format!("\"h{n}\":\"{HUSH}\"")).collect::<Vec<_>>().join(",");
    let long = format!("\"a\":\"{HUSH}{}\"", "x".repeat(4_096));
    let names = [
        "Host",
        "content-type",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Keep-Alive",
        "Upgrade",
        "TE",
        "Trailer",
        "Expect",
        "User-Agent",
        "Proxy-Authorization",
        "webhook-id",
        "Webhook-Signature",
        "",
        "a b",
        "a:b",
        "é",
        "a\\u0000",
        "a\\r\\nb",
    ];
    let values =
        ["\\r\\nx: y", "\\n", "\\r", "\\u0000", "\\u0007", "\\u007f", "é", "\\u202e", "\\ud800"];
    let names = names.map(|name| (format!("the name {name:?}"), format!("\"{name}\":\"{HUSH}\"")));
    let values =
        values.map(|value| (format!("the value {value:?}"), format!("\"a\":\"{HUSH}{value}\"")));
    let others = [
        ("21 of them".to_owned(), many),
        ("more than 4 KiB".to_owned(), long),
        ("a number".to_owned(), "\"a\":1".to_owned()),
    ];
    let all = names.into_iter().chain(values).chain(others);
    all.map(|(what, pairs)| {
        let members =
            format!("\"callback_url\":\"https://a.example/\",\"callback_headers\":{{{pairs}}}");
        Case::new("callback headers", what, post(with(&members)), WRONG)
    })
    .collect()
}

/// Secrets in requests that are refused for them, or for something else.
fn secrets() -> Vec<Case> {
    [
        ("a callback_secret that is none", format!(r#""callback_secret":"whsec_{HUSH}""#)),
        (
            "a token with a blank",
            format!(r#""callback_auth":{{"type":"bearer","token":"{HUSH} x"}}"#),
        ),
        (
            "a password with a line break",
            format!(r#""callback_auth":{{"type":"basic","username":"u","password":"{HUSH}\n"}}"#),
        ),
        (
            "a good token beside a bad field",
            format!(r#""colour":1,"callback_auth":{{"type":"bearer","token":"{HUSH}"}}"#),
        ),
        ("a secret in the wrong place", format!(r#""callback_headers":"{HUSH}""#)),
        ("a secret in a text of the wrong type", format!(r#""variables":"{HUSH}""#)),
    ]
    .into_iter()
    .map(|(what, members)| {
        let members = format!("\"callback_url\":\"https://a.example/\",{members}");
        Case::new("secrets", what, post(with(&members)), WRONG)
    })
    .collect()
}
