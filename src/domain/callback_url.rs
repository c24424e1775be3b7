//! Callback URLs: where a completion may be reported, as pure verdicts.
//!
//! What is judged is the parsed host, never the text: the parser reads `2130706433`, `0x7f.1` and
//! full-width digits as the address they stand for. [`judge`] judges a URL when a batch is
//! submitted; [`judge_address`] judges each address its host resolves to when the callback is
//! delivered. Local networks are open only where `callbacks.allow_private_networks` says so, and
//! some ranges never are: multicast, documentation, link-local, and where clouds keep their
//! metadata. The ranges are those of the IANA special-purpose address registries (RFC 6890).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use url::{Host, Url};

/// The longest callback URL, in bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// A URL that callbacks may be sent to. Printed without its query.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl(Url);

/// Why callbacks are not sent there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Forbidden {
    /// It is longer than [`URL_BYTES_MAX`].
    #[error("a callback URL has at most {URL_BYTES_MAX} bytes")]
    TooLong,
    /// It is no URL.
    #[error("not a URL: {0}")]
    Malformed(url::ParseError),
    /// Its scheme is neither of the two.
    #[error("a callback URL begins with http:// or https://")]
    Scheme,
    /// It holds a user name or a password.
    #[error("a callback URL holds no user name and no password; use callback_headers")]
    UserInfo,
    /// Its host is a name with an empty part.
    #[error("the host's name has an empty part")]
    EmptyLabel,
    /// Its host is a name that only a local network knows.
    #[error("the host's name is a local one; only callbacks.allow_private_networks permits those")]
    LocalName,
    /// The address belongs to a local network.
    #[error("the address is {0}; only callbacks.allow_private_networks permits those")]
    Private(&'static str),
    /// The address is one that no callback is ever sent to.
    #[error("the address is {0}; callbacks are never sent there")]
    Never(&'static str),
}

/// What an address is, as far as callbacks are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Public,
    Private(&'static str),
    Never(&'static str),
}

use Reach::{Never, Private, Public};

/// The special ranges of IPv4: the first address, the prefix's length in bits, and what it is. The
/// first one that matches counts.
const SPECIAL_V4: [(Ipv4Addr, u32, Reach); 21] = [
    (Ipv4Addr::new(100, 100, 100, 200), 32, METADATA),
    (Ipv4Addr::new(168, 63, 129, 16), 32, METADATA),
    (Ipv4Addr::UNSPECIFIED, 8, Never("an unspecified one (0.0.0.0/8)")),
    (Ipv4Addr::new(10, 0, 0, 0), 8, PRIVATE),
    (Ipv4Addr::new(100, 64, 0, 0), 10, Private("one behind a carrier's NAT (100.64.0.0/10)")),
    (Ipv4Addr::new(127, 0, 0, 0), 8, LOOPBACK),
    (Ipv4Addr::new(169, 254, 0, 0), 16, LINK_LOCAL),
    (Ipv4Addr::new(172, 16, 0, 0), 12, PRIVATE),
    (Ipv4Addr::new(192, 0, 0, 0), 24, PROTOCOL),
    (Ipv4Addr::new(192, 0, 2, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(192, 31, 196, 0), 24, PROTOCOL),
    (Ipv4Addr::new(192, 52, 193, 0), 24, PROTOCOL),
    (Ipv4Addr::new(192, 88, 99, 0), 24, PROTOCOL),
    (Ipv4Addr::new(192, 168, 0, 0), 16, PRIVATE),
    (Ipv4Addr::new(192, 175, 48, 0), 24, PROTOCOL),
    (Ipv4Addr::new(198, 18, 0, 0), 15, Private("one for benchmarks (198.18.0.0/15)")),
    (Ipv4Addr::new(198, 51, 100, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(203, 0, 113, 0), 24, DOCUMENTATION),
    (Ipv4Addr::new(224, 0, 0, 0), 4, MULTICAST),
    (Ipv4Addr::BROADCAST, 32, Never("the broadcast one (255.255.255.255)")),
    (Ipv4Addr::new(240, 0, 0, 0), 4, Never("a reserved one (240.0.0.0/4)")),
];

/// The special ranges of IPv6, in the same form. What is in none of them is public if it lies in
/// `2000::/3`.
const SPECIAL_V6: [(Ipv6Addr, u32, Reach); 18] = [
    (Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), 128, METADATA),
    (Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254), 128, METADATA),
    (Ipv6Addr::UNSPECIFIED, 128, Never("the unspecified one (::)")),
    (Ipv6Addr::LOCALHOST, 128, LOOPBACK),
    (Ipv6Addr::UNSPECIFIED, 96, V4_INSIDE),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96, V4_INSIDE),
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96, V4_INSIDE),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48, V4_INSIDE),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32, V4_INSIDE),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23, PROTOCOL),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32, DOCUMENTATION),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16, V4_INSIDE),
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48, PROTOCOL),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20, DOCUMENTATION),
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7, Private("a private one (fc00::/7)")),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10, LINK_LOCAL),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8, MULTICAST),
    (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3, Public),
];

const LOOPBACK: Reach = Private("a loopback one");
const PRIVATE: Reach = Private("a private one (RFC 1918)");
const METADATA: Reach = Never("a cloud's metadata service");
const LINK_LOCAL: Reach = Never("a link-local one");
const PROTOCOL: Reach = Never("one set aside for a protocol");
const DOCUMENTATION: Reach = Never("one for documentation");
const MULTICAST: Reach = Never("a multicast one");
const V4_INSIDE: Reach = Never("an IPv6 one with an IPv4 one inside");

/// Judges the URL a client wants a completion reported to: its form, and its host as far as that
/// is known without resolving it.
///
/// # Errors
/// [`Forbidden`], which says why in one sentence.
pub fn judge(url: &str, allow_private_networks: bool) -> Result<CallbackUrl, Forbidden> {
    if url.len() > URL_BYTES_MAX {
        return Err(Forbidden::TooLong);
    }
    let url = Url::parse(url).map_err(Forbidden::Malformed)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Forbidden::Scheme);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Forbidden::UserInfo);
    }
    match url.host() {
        Some(Host::Domain(name)) => judge_name(name, allow_private_networks)?,
        Some(Host::Ipv4(ip)) => judge_address(ip.into(), allow_private_networks)?,
        Some(Host::Ipv6(ip)) => judge_address(ip.into(), allow_private_networks)?,
        None => return Err(Forbidden::Malformed(url::ParseError::EmptyHost)),
    }
    Ok(CallbackUrl(url))
}

/// Judges an address that a callback would be sent to.
///
/// # Errors
/// [`Forbidden::Private`] or [`Forbidden::Never`].
pub fn judge_address(ip: IpAddr, allow_private_networks: bool) -> Result<(), Forbidden> {
    let reach = match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    };
    match reach {
        Public => Ok(()),
        Private(_) if allow_private_networks => Ok(()),
        Private(what) => Err(Forbidden::Private(what)),
        Never(what) => Err(Forbidden::Never(what)),
    }
}

// === impl CallbackUrl ===

impl CallbackUrl {
    /// The parsed URL, with its query, which may hold secrets.
    #[must_use]
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The host and the port, as logs show them.
    #[must_use]
    pub fn host_and_port(&self) -> String {
        // `judge` lets no URL pass that lacks a host, and http and https have default ports.
        let host = self.0.host_str().unwrap_or_default();
        format!("{host}:{}", self.0.port_or_known_default().unwrap_or_default())
    }
}

impl fmt::Display for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.0.scheme(), self.host_and_port(), self.0.path())
    }
}

impl fmt::Debug for CallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CallbackUrl({self})")
    }
}

/// Judges a host's name, in the lower-case form that the parser gives.
fn judge_name(name: &str, allow_private_networks: bool) -> Result<(), Forbidden> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.split('.').any(str::is_empty) {
        return Err(Forbidden::EmptyLabel);
    }
    let is_local = match name.rsplit_once('.') {
        None => true,
        Some((_, last)) => matches!(last, "localhost" | "local" | "internal"),
    };
    if is_local && !allow_private_networks { Err(Forbidden::LocalName) } else { Ok(()) }
}

fn reach_v4(ip: Ipv4Addr) -> Reach {
    SPECIAL_V4
        .iter()
        .find(|(first, bits, _)| (ip.to_bits() ^ first.to_bits()) >> (32 - bits) == 0)
        .map_or(Public, |(.., reach)| *reach)
}

fn reach_v6(ip: Ipv6Addr) -> Reach {
    if let Some(mapped) = ip.to_ipv4_mapped() {
        return match reach_v4(mapped) {
            Public | Private(_) => Private("an IPv4 one written as an IPv6 one"),
            never @ Never(_) => never,
        };
    }
    if is_isatap(ip) {
        return V4_INSIDE;
    }
    SPECIAL_V6
        .iter()
        .find(|(first, bits, _)| (ip.to_bits() ^ first.to_bits()) >> (128 - bits) == 0)
        .map_or(Never("outside the public range (2000::/3)"), |(.., reach)| *reach)
}

/// Whether the interface's part is one of ISATAP: 5efe and an IPv4 address (RFC 5214, 6.1).
fn is_isatap(ip: Ipv6Addr) -> bool {
    let [.., flags, word, _, _] = ip.segments();
    flags & 0xfcff == 0 && word == 0x5efe
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of `url` without and with private networks allowed.
    fn verdicts(url: &str) -> (Result<(), Forbidden>, Result<(), Forbidden>) {
        (judge(url, false).map(drop), judge(url, true).map(drop))
    }

    fn host_verdicts(host: &str) -> (Result<(), Forbidden>, Result<(), Forbidden>) {
        verdicts(&format!("http://{host}:8080/hook?x=1"))
    }

    #[test]
    fn public_hosts_are_allowed() {
        let hosts = [
            "example.com",
            "EXAMPLE.com.",
            "hooks.internal.example.com",
            "bücher.example",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "[2606:4700::1111]",
            "[2001:200::1]",
            "[2003::1]",
            "[3fff:1000::1]",
        ];
        for host in hosts {
            assert_eq!(host_verdicts(host), (Ok(()), Ok(())), "{host}");
        }
    }

    #[test]
    fn local_networks_need_the_key_whatever_their_spelling() {
        let hosts = [
            "127.0.0.1",
            "127.255.255.254",
            "2130706433",
            "0x7f.1",
            "0x7f000001",
            "017700000001",
            "127.1",
            "１２７.0.0.1",
            "127。0。0。1",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "[::1]",
            "[fc00::1]",
            "[fdff::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:8.8.8.8]",
        ];
        for host in hosts {
            let (closed, open) = host_verdicts(host);
            let refusal = closed.unwrap_err();
            assert!(matches!(refusal, Forbidden::Private(_)), "{host}: {refusal}");
            assert!(refusal.to_string().contains("callbacks.allow_private_networks"), "{refusal}");
            assert_eq!(open, Ok(()), "{host}");
        }
    }

    #[test]
    fn local_names_need_the_key() {
        let hosts =
            ["localhost", "LOCALHOST.", "a.localhost", "printer.local", "a.b.internal", "db"];
        for host in hosts {
            assert_eq!(host_verdicts(host), (Err(Forbidden::LocalName), Ok(())), "{host}");
        }
        assert!(Forbidden::LocalName.to_string().contains("callbacks.allow_private_networks"));
    }

    #[test]
    fn some_addresses_are_never_allowed() {
        let hosts = [
            "0.0.0.0",
            "0.1.2.3",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.2.1",
            "192.31.196.1",
            "192.52.193.1",
            "192.88.99.1",
            "192.175.48.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "[::]",
            "[fe80::1]",
            "[febf::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[fd00:ec2::254]",
            "[fd20:ce::254]",
            "[::2]",
            "[::127.0.0.1]",
            "[::8.8.8.8]",
            "[::ffff:0:8.8.8.8]",
            "[::ffff:169.254.169.254]",
            "[::ffff:0.0.0.0]",
            "[::ffff:224.0.0.1]",
            "[64:ff9b::8.8.8.8]",
            "[64:ff9b:1::1]",
            "[64:ff9b:2::1]",
            "[100::1]",
            "[2001::1]",
            "[2001:2::1]",
            "[2001:1ff::1]",
            "[2001:db8::1]",
            "[2002:808:808::1]",
            "[2620:4f:8000::1]",
            "[3fff:fff::1]",
            "[2606:4700::5efe:8.8.8.8]",
            "[2606:4700::200:5efe:808:808]",
            "[fd00::5efe:10.0.0.1]",
            "[5f00::1]",
            "[4000::1]",
        ];
        for host in hosts {
            let (closed, open) = host_verdicts(host);
            assert!(matches!(closed, Err(Forbidden::Never(_))), "{host}: {closed:?}");
            assert_eq!(closed, open, "{host}");
            let refusal = open.unwrap_err().to_string();
            assert!(!refusal.contains("allow_private_networks"), "{host}: {refusal}");
        }
    }

    #[test]
    fn the_form_is_judged_before_the_host() {
        let longest = format!("http://a.example/{}", "x".repeat(URL_BYTES_MAX - 17));
        assert_eq!(verdicts(&longest), (Ok(()), Ok(())));
        let cases = [
            (format!("{longest}x"), Forbidden::TooLong),
            ("ftp://127.0.0.1/".into(), Forbidden::Scheme),
            ("file:///etc/passwd".into(), Forbidden::Scheme),
            ("javascript:alert(1)".into(), Forbidden::Scheme),
            ("http://ann@a.example/".into(), Forbidden::UserInfo),
            ("http://:pw@a.example/".into(), Forbidden::UserInfo),
            ("http://a.example@127.0.0.1/".into(), Forbidden::UserInfo),
            ("http://a..example/".into(), Forbidden::EmptyLabel),
            ("http://a.example../".into(), Forbidden::EmptyLabel),
            ("http:///".into(), Forbidden::Malformed(url::ParseError::EmptyHost)),
            ("hooks/sms".into(), Forbidden::Malformed(url::ParseError::RelativeUrlWithoutBase)),
            ("http://[::1".into(), Forbidden::Malformed(url::ParseError::InvalidIpv6Address)),
            ("http://a.example:99999/".into(), Forbidden::Malformed(url::ParseError::InvalidPort)),
        ];
        for (url, expected) in cases {
            assert_eq!(verdicts(&url), (Err(expected), Err(expected)), "{url}");
        }
    }

    #[test]
    fn it_is_printed_without_its_query() {
        let url = judge("https://hooks.example/sms?token=hush#hush", false).unwrap();
        assert_eq!(url.to_string(), "https://hooks.example:443/sms");
        assert_eq!(format!("{url:?}"), "CallbackUrl(https://hooks.example:443/sms)");
        assert_eq!(url.host_and_port(), "hooks.example:443");
        assert_eq!(url.url().query(), Some("token=hush"));
        let v6 = judge("http://[2606:4700::1111]:81/", false).unwrap();
        assert_eq!(v6.host_and_port(), "[2606:4700::1111]:81");
    }
}
