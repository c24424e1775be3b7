//! Callback URLs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ringback::domain::callback_url::Rules;
use url::{Host, Url};

/// What is permitted is `http` or `https`, to a name or to an address that is public by another judge's
/// word, and it is the same place for the parser that the client connects by.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let local = Rules { allow_private_networks: true, ..Rules::default() };
    let secure = Rules { https_only: true, ..Rules::default() };
    let Ok(judged) = Rules::default().judge(&text) else {
        assert!(secure.judge(&text).is_err(), "a further rule permits it");
        return;
    };
    assert!(local.judge(&text).is_ok(), "a wider rule forbids it");
    let url = Url::parse(&text).expect("a URL that was permitted");
    assert_eq!(&url, judged.url());
    assert!(matches!(url.scheme(), "http" | "https"));
    assert_eq!(secure.judge(&text).is_ok(), url.scheme() == "https");
    assert!(url.username().is_empty() && url.password().is_none());
    let host = url.host().expect("a host");
    match &host {
        Host::Domain(name) => {
            assert!(name.parse::<IpAddr>().is_err(), "{name} is an address");
            let lower = name.trim_end_matches('.').to_ascii_lowercase();
            assert!(lower.contains('.') && !lower.ends_with(".localhost"), "{name} is local");
        }
        Host::Ipv4(ip) => assert!(is_public_v4(*ip), "{ip}"),
        Host::Ipv6(ip) => assert!(is_public_v6(*ip), "{ip}"),
    }
    if let Ok(ip) = url.host_str().unwrap_or_default().trim_matches(['[', ']']).parse::<IpAddr>() {
        assert!(Rules::default().judge_address(ip).is_ok());
    }
    // What is printed is judged alike, and the client's own parser reads the same place in it.
    assert!(Rules::default().judge(url.as_str()).is_ok(), "{url}");
    let uri: http::Uri = url.as_str().parse().expect("an address for the client");
    assert_eq!(uri.host(), url.host_str());
    let default = if url.scheme() == "https" { 443 } else { 80 };
    assert_eq!(uri.port_u16().unwrap_or(default), url.port_or_known_default().unwrap_or_default());
    let printed = judged.to_string();
    let query = url.query().filter(|query| query.len() > 8).unwrap_or("\0");
    assert!(!printed.contains(&format!("?{query}")), "{printed}");
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_special = ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast()
        || ip.is_documentation()
        || ip.is_unspecified()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || ip == Ipv4Addr::new(168, 63, 129, 16);
    !is_special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let is_special = ip.to_ipv4().is_some()
        || ip.is_loopback()
        || ip.is_multicast()
        || ip.is_unicast_link_local()
        || ip.is_unique_local()
        || (segments[0] == 0x2001 && segments[1] < 0x200)
        || (segments[0] == 0x2001 && segments[1] == 0xdb8)
        || segments[0] == 0x2002
        || (segments[0] == 0x3fff && segments[1] < 0x1000)
        || (segments[5] == 0x5efe && matches!(segments[4], 0 | 0x100 | 0x200 | 0x300));
    segments[0] & 0xe000 == 0x2000 && !is_special
}
