//! The name of a receiver's host, as clients ask for it.

use url::Host;

/// The text is no host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is a host, or a host and its port, as in example.com or example.com:443")]
pub(super) struct InvalidHost;

/// Reads a host, with its port or without, and writes it as the store does: in lower case, an
/// address in its one form.
pub(super) fn host(text: &str) -> Result<String, InvalidHost> {
    let (name, port) = match text.rsplit_once(':') {
        // A colon within an address is none before a port.
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (text, None),
    };
    let host = Host::parse(name).map_err(|_| InvalidHost)?;
    let Some(port) = port else { return Ok(host.to_string()) };
    let is_plain = port.bytes().all(|byte| byte.is_ascii_digit());
    let port: u16 = port.parse().ok().filter(|_| is_plain).ok_or(InvalidHost)?;
    Ok(format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_as_a_url_would_be() {
        for (text, expected) in [
            ("A.example", "a.example"),
            ("a.example:443", "a.example:443"),
            ("127.1:08090", "127.0.0.1:8090"),
            ("[2001:DB8::1]", "[2001:db8::1]"),
            ("[2001:db8::1]:80", "[2001:db8::1]:80"),
            ("bücher.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for text in ["", ":", ":80", "a b", "a.example:", "a.example:x", "a.example:+1", "a:99999"]
        {
            assert_eq!(host(text), Err(InvalidHost), "{text}");
        }
        for text in ["https://a.example", "a.example/x", "u@a.example", "2001:db8::1"] {
            assert_eq!(host(text), Err(InvalidHost), "{text}");
        }
    }
}
