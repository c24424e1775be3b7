//! Every range of the IANA special-purpose address registries, of IPv4 and IPv6, with multicast and
//! what is reserved; and every form in which an IPv6 address carries an IPv4 one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

/// What opens a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    /// `callbacks.allow_private_networks`.
    Private,
    /// Only its own entry in `callbacks.allow_networks`.
    Own,
}

use Key::{Own, Private};

/// A range, the document it comes from, and what opens it.
type Entry = (&'static str, &'static str, Key);

/// <https://www.iana.org/assignments/iana-ipv4-special-registry>, and multicast.
const V4: [Entry; 31] = [
    ("0.0.0.0/8", "RFC 791, this network", Own),
    ("0.0.0.0/32", "RFC 1122, this host", Own),
    ("10.0.0.0/8", "RFC 1918", Private),
    ("100.64.0.0/10", "RFC 6598, shared", Private),
    ("100.100.100.200/32", "a cloud's metadata, within the shared range", Own),
    ("127.0.0.0/8", "RFC 1122, loopback", Private),
    ("168.63.129.16/32", "a cloud's metadata, at a public address", Own),
    ("169.254.0.0/16", "RFC 3927, link-local", Own),
    ("172.16.0.0/12", "RFC 1918", Private),
    ("192.0.0.0/24", "RFC 6890, protocols", Own),
    ("192.0.0.0/29", "RFC 7335, DS-Lite", Own),
    ("192.0.0.8/32", "RFC 7600, dummy", Own),
    ("192.0.0.9/32", "RFC 7723, PCP anycast", Own),
    ("192.0.0.10/32", "RFC 8155, TURN anycast", Own),
    ("192.0.0.170/32", "RFC 8880, NAT64 discovery", Own),
    ("192.0.0.171/32", "RFC 8880, NAT64 discovery", Own),
    ("192.0.2.0/24", "RFC 5737, documentation", Own),
    ("192.31.196.0/24", "RFC 7535, AS112", Own),
    ("192.52.193.0/24", "RFC 7450, AMT", Own),
    ("192.88.99.0/24", "RFC 7526, 6to4 relays", Own),
    ("192.88.99.2/32", "RFC 6751, 6a44 relays", Own),
    ("192.168.0.0/16", "RFC 1918", Private),
    ("192.175.48.0/24", "RFC 7534, AS112", Own),
    ("198.18.0.0/15", "RFC 2544, benchmarks", Private),
    ("198.51.100.0/24", "RFC 5737, documentation", Own),
    ("203.0.113.0/24", "RFC 5737, documentation", Own),
    ("224.0.0.0/4", "RFC 5771, multicast", Own),
    ("233.252.0.0/24", "RFC 5771, documentation", Own),
    ("239.0.0.0/8", "RFC 2365, scoped multicast", Own),
    ("240.0.0.0/4", "RFC 1112, reserved", Own),
    ("255.255.255.255/32", "RFC 919, broadcast", Own),
];

/// <https://www.iana.org/assignments/iana-ipv6-special-registry>, multicast, and what is not global
/// unicast.
const V6: [Entry; 37] = [
    ("::/128", "RFC 4291, unspecified", Own),
    ("::1/128", "RFC 4291, loopback", Private),
    ("::/3", "RFC 4291, not global unicast", Own),
    ("::/96", "RFC 4291, IPv4-compatible", Own),
    ("::ffff:0:0/96", "RFC 4291, IPv4-mapped", Private),
    ("::ffff:0:0:0/96", "RFC 2765, IPv4-translated", Own),
    ("64:ff9b::/96", "RFC 6052, NAT64", Own),
    ("64:ff9b:1::/48", "RFC 8215, NAT64 of a network", Own),
    ("100::/64", "RFC 6666, discarded", Own),
    ("100:0:0:1::/64", "RFC 9780, dummy prefix", Own),
    ("2001::/23", "RFC 2928, protocols", Own),
    ("2001::/32", "RFC 4380, Teredo", Own),
    ("2001:1::1/128", "RFC 7723, PCP anycast", Own),
    ("2001:1::2/128", "RFC 8155, TURN anycast", Own),
    ("2001:1::3/128", "RFC 9665, DNS-SD anycast", Own),
    ("2001:2::/48", "RFC 5180, benchmarks", Own),
    ("2001:3::/32", "RFC 7450, AMT", Own),
    ("2001:4:112::/48", "RFC 7535, AS112", Own),
    ("2001:10::/28", "RFC 4843, ORCHID", Own),
    ("2001:20::/28", "RFC 7343, ORCHIDv2", Own),
    ("2001:30::/28", "RFC 9374, drones", Own),
    ("2001:db8::/32", "RFC 3849, documentation", Own),
    ("2002::/16", "RFC 3056, 6to4", Own),
    ("2620:4f:8000::/48", "RFC 7534, AS112", Own),
    ("3fff::/20", "RFC 9637, documentation", Own),
    ("4000::/2", "RFC 4291, not global unicast", Own),
    ("5f00::/16", "RFC 9602, SRv6", Own),
    ("8000::/1", "RFC 4291, not global unicast", Own),
    ("fc00::/7", "RFC 4193, unique local", Private),
    ("fd00:ec2::254/128", "a cloud's metadata, within the unique local range", Own),
    ("fd20:ce::254/128", "a cloud's metadata, within the unique local range", Own),
    ("fe80::/10", "RFC 4291, link-local", Own),
    ("fec0::/10", "RFC 3879, site-local", Own),
    ("ff00::/8", "RFC 4291, multicast", Own),
    ("ff02::/16", "RFC 4291, multicast on a link", Own),
    ("2606:4700::5efe:0:0/96", "RFC 5214, ISATAP in some network", Own),
    ("2606:4700::200:5efe:0:0/96", "RFC 5214, ISATAP in some network", Own),
];

/// How an IPv6 address carries an IPv4 one.
type Carry = fn(Ipv4Addr) -> Ipv6Addr;

/// The forms, each with one that makes it.
const FORMS: [(&str, Carry); 11] = [
    ("mapped", |ip| behind([0, 0, 0, 0, 0, 0xffff], ip)),
    ("compatible", |ip| behind([0; 6], ip)),
    ("translated", |ip| behind([0, 0, 0, 0, 0xffff, 0], ip)),
    ("NAT64", |ip| behind([0x64, 0xff9b, 0, 0, 0, 0], ip)),
    ("NAT64 of a network", |ip| behind([0x64, 0xff9b, 1, 0, 0, 0], ip)),
    ("NAT64 of a network, subnet", |ip| behind([0x64, 0xff9b, 1, 7, 8, 9], ip)),
    ("6to4", |ip| Ipv6Addr::from_bits(0x2002 << 112 | u128::from(ip.to_bits()) << 80 | 1)),
    ("Teredo", |ip| {
        behind([0x2001, 0, 0x4136, 0xe378, 0x8000, 0x63bf], Ipv4Addr::from_bits(!ip.to_bits()))
    }),
    ("ISATAP", |ip| behind([0x2606, 0x4700, 0, 0, 0, 0x5efe], ip)),
    ("ISATAP, universal", |ip| behind([0x2606, 0x4700, 0, 0, 0x200, 0x5efe], ip)),
    ("ISATAP, unique local", |ip| behind([0xfd12, 0, 0, 0, 0, 0x5efe], ip)),
];

/// What the forms carry: public, private and loopback addresses, and a metadata service.
const CARRIED: [Ipv4Addr; 5] = [
    Ipv4Addr::new(8, 8, 8, 8),
    Ipv4Addr::new(10, 1, 2, 3),
    Ipv4Addr::LOCALHOST,
    Ipv4Addr::new(192, 168, 0, 1),
    Ipv4Addr::new(169, 254, 169, 254),
];

fn behind(first: [u16; 6], ip: Ipv4Addr) -> Ipv6Addr {
    let first = first.into_iter().fold(0, |bits, word| bits << 16 | u128::from(word));
    Ipv6Addr::from_bits(first << 32 | u128::from(ip.to_bits()))
}

/// The first and the last address of a range, and their neighbours outside.
fn edges(range: &str) -> ([IpAddr; 2], Vec<IpAddr>) {
    let network: ipnet::IpNet = range.parse().unwrap();
    let ends = [network.network(), network.broadcast()];
    let neighbour = |ip: IpAddr, step: i8| match ip {
        IpAddr::V4(ip) => {
            ip.to_bits().checked_add_signed(step.into()).map(Ipv4Addr::from_bits).map(IpAddr::from)
        }
        IpAddr::V6(ip) => {
            ip.to_bits().checked_add_signed(step.into()).map(Ipv6Addr::from_bits).map(IpAddr::from)
        }
    };
    (ends, [neighbour(ends[0], -1), neighbour(ends[1], 1)].into_iter().flatten().collect())
}

/// The narrowest range that holds an address. A mapped address is no better than the one it
/// carries.
fn holder(ip: IpAddr) -> Option<Entry> {
    let carried = match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(ip) => ip.to_ipv4_mapped().and_then(|ip| holder(ip.into())),
    };
    let holding =
        V4.into_iter().chain(V6).filter(|(range, ..)| range.parse::<Network>().unwrap().holds(ip));
    let length = |range: &str| range.rsplit('/').next().unwrap().parse::<u8>().unwrap();
    carried.filter(|(.., key)| *key == Own).or(holding.max_by_key(|(range, ..)| length(range)))
}

/// Checks one address against what the table says of it; gives whether it is special.
fn check(ip: IpAddr) -> bool {
    let url = match ip {
        IpAddr::V4(ip) => format!("http://{ip}/"),
        IpAddr::V6(ip) => format!("http://[{ip}]/"),
    };
    let (closed, open) = (rules(false).judge_address(ip), rules(true).judge_address(ip));
    assert_eq!(verdicts(&url), (closed, open), "{ip}: the URL is judged as its address");
    let holder = holder(ip);
    match holder {
        None => assert_eq!((closed, open), (Ok(()), Ok(())), "{ip} is in no special range"),
        Some((range, what, Own)) => {
            assert!(
                matches!(closed, Err(Forbidden::Never(_))),
                "{ip}, {range} ({what}): {closed:?}"
            );
            assert_eq!(closed, open, "{ip}, {range} ({what})");
        }
        Some((range, what, Private)) => {
            assert!(
                matches!(closed, Err(Forbidden::Private(_))),
                "{ip}, {range} ({what}): {closed:?}"
            );
            assert_eq!(open, Ok(()), "{ip}, {range} ({what})");
        }
    }
    holder.is_some()
}

#[test]
fn the_edges_of_every_special_range_are_refused_and_their_neighbours_are_not() {
    let (mut refused, mut permitted) = (0, 0);
    for (range, what, _) in V4.into_iter().chain(V6) {
        let (ends, neighbours) = edges(range);
        for ip in ends {
            assert!(check(ip), "{ip} of {range} ({what})");
            refused += 1;
        }
        for ip in neighbours {
            if check(ip) {
                refused += 1;
            } else {
                permitted += 1;
            }
        }
    }
    let ranges = V4.len() + V6.len();
    println!("{ranges} ranges: {refused} edges refused, {permitted} neighbours permitted");
    assert_eq!((V4.len(), V6.len()), (31, 37));
    assert!(permitted >= 50, "only {permitted} neighbours are in no other range");
}

#[test]
fn every_form_that_carries_an_ipv4_address_is_refused() {
    let nothing = Rules::default();
    let everything_v4 =
        Rules { allow_networks: ["0.0.0.0/0".parse().unwrap()].into(), ..rules(false) };
    for (form, carry) in FORMS {
        for inside in CARRIED {
            let ip = IpAddr::from(carry(inside));
            for rules in [&nothing, &everything_v4] {
                assert!(rules.judge_address(ip).is_err(), "{form}: {ip}");
            }
            let open = rules(true).judge_address(ip);
            let is_mapped = form == "mapped" && inside != CARRIED[4];
            assert_eq!(open.is_ok(), is_mapped, "{form}: {ip}: {open:?}");
        }
    }
    println!("{} forms, {} cases", FORMS.len(), FORMS.len() * CARRIED.len());
}

#[test]
fn a_denied_network_of_ipv4_refuses_what_carries_its_addresses() {
    let rules = Rules {
        allow_networks: ["::/0".parse().unwrap()].into(),
        deny_networks: ["10.0.0.0/8".parse().unwrap()].into(),
        ..Rules::default()
    };
    for (form, carry) in FORMS {
        for inside in CARRIED {
            let verdict = rules.judge_address(carry(inside).into());
            let expected = if inside.octets()[0] == 10 { Err(Forbidden::Denied) } else { Ok(()) };
            assert_eq!(verdict, expected, "{form} of {inside}");
        }
    }
}
