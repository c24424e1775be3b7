//! What is known of every address without asking: the ranges of the IANA special-purpose address
//! registries for IPv4 and IPv6 (RFC 6890 and its successors), multicast, where clouds keep their
//! metadata, and the forms in which an IPv6 address carries an IPv4 one.
//!
//! Of IPv6 only `2000::/3` less its special ranges is public. Whatever carries an IPv4 address is
//! not, whichever address it carries: which network it leads to is not known here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What an address is, as far as callbacks are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
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

/// What this address is.
pub(super) fn reach(ip: IpAddr) -> Reach {
    match ip {
        IpAddr::V4(ip) => reach_v4(ip),
        IpAddr::V6(ip) => reach_v6(ip),
    }
}

/// The IPv4 address that an IPv6 address of a known form carries: mapped, compatible, translated
/// (RFC 2765), NAT64 (RFC 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380) or ISATAP (RFC 5214).
pub(super) fn v4_inside(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match ip.segments() {
        // The unspecified and the loopback one carry nothing.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x64, 0xff9b, 1, .., high, low]
        | [0x2002, high, low, ..] => Some(of(high, low)),
        [0x2001, 0, .., high, low] => Some(of(!high, !low)),
        [.., high, low] if is_isatap(ip) => Some(of(high, low)),
        _ => None,
    }
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
