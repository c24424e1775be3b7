//! Headers that a client may give its callbacks: any but those that belong to the exchange itself.

/// Headers of the connection (RFC 9110, section 7.6.1), and those that say who asks whom for what.
const RESERVED: [&str; 12] = [
    "connection",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Families of headers that describe the body, and that sign it.
const RESERVED_PREFIXES: [&str; 2] = ["content-", "webhook-"];

/// Whether a header, its name in lower case, is not the client's to choose.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name) || RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
