//! Whom a request is for: the `Host` that each request of HTTP/1.1 has once (RFC 9112, section 3.2).
//!
//! The server answers for every name. But what is in front of it may go by another `Host` than the
//! one it would read, so a request that leaves this open is refused.

use http::{HeaderValue, Request, StatusCode, Version, header::HOST, uri::Authority};

use super::problem::Problem;

/// # Errors
/// [`Problem`] if it is not said once, and well.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Problem> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let is_one = match (hosts.next(), hosts.next()) {
        (None, _) => request.version() < Version::HTTP_11,
        (Some(host), None) => is_host(host),
        (Some(_), Some(_)) => false,
    };
    if is_one {
        return Ok(());
    }
    let detail = "A request has one Host header, with a host and maybe a port.";
    Err(Problem::new(StatusCode::BAD_REQUEST, "invalid_host", detail))
}

/// Whether it names a host. It is empty where the address has none.
fn is_host(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    bytes.is_empty() || (!bytes.contains(&b'@') && Authority::try_from(bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(version: Version, hosts: &[&'static str]) -> bool {
        let mut request = Request::builder().version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&request.body(()).unwrap()).is_ok()
    }

    #[test]
    fn a_request_has_one_host() {
        for host in ["a", "a.example:443", "127.0.0.1:80", "[::1]:8080", ""] {
            assert!(is_taken(Version::HTTP_11, &[host]), "{host}");
        }
        for host in ["a b", "a/b", "x@a", "a:b:c", "[::1", "http://a"] {
            assert!(!is_taken(Version::HTTP_11, &[host]), "{host}");
        }
        assert!(!is_taken(Version::HTTP_11, &[]));
        assert!(!is_taken(Version::HTTP_11, &["a", "a"]));
        assert!(is_taken(Version::HTTP_10, &[]));
        assert!(!is_taken(Version::HTTP_10, &["a", "b"]));
    }
}
