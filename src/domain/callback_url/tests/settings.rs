//! What networks, ports and `https_only` change.

use std::net::IpAddr;

use super::*;

fn networks(texts: &[&str]) -> std::sync::Arc<[Network]> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn ports(texts: &[&str]) -> std::sync::Arc<[Ports]> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn with(allow: &[&str], deny: &[&str]) -> Rules {
    Rules { allow_networks: networks(allow), deny_networks: networks(deny), ..Rules::default() }
}

fn judged(rules: &Rules, ip: &str) -> Result<(), Forbidden> {
    rules.judge_address(ip.parse::<IpAddr>().unwrap())
}

#[test]
fn an_allowed_network_opens_what_its_range_forbids_and_nothing_beside_it() {
    let rules = with(&["10.1.0.0/16", "127.0.0.2", "fd12::/16", "169.254.7.7/32"], &[]);
    for ip in ["10.1.0.0", "10.1.255.255", "127.0.0.2", "fd12::1", "169.254.7.7", "8.8.8.8"] {
        assert_eq!(judged(&rules, ip), Ok(()), "{ip}");
    }
    for ip in ["10.0.255.255", "10.2.0.0", "127.0.0.1", "::1", "fd13::", "169.254.7.8"] {
        assert!(judged(&rules, ip).is_err(), "{ip}");
    }
    assert!(judged(&rules, "::ffff:10.1.0.1").is_err(), "networks of IPv4 open no IPv6 address");
    assert_eq!(judged(&with(&["::ffff:10.1.0.0/112"], &[]), "::ffff:10.1.0.1"), Ok(()));
}

#[test]
fn the_longest_network_decides_and_a_denial_between_equals() {
    let rules =
        with(&["10.0.0.0/8", "10.1.2.0/24", "10.3.0.0/16"], &["10.1.0.0/16", "10.3.0.0/16"]);
    let cases = [
        ("10.0.0.1", Ok(())),
        ("10.1.0.1", Err(Forbidden::Denied)),
        ("10.1.2.3", Ok(())),
        ("10.3.0.1", Err(Forbidden::Denied)),
    ];
    for (ip, expected) in cases {
        assert_eq!(judged(&rules, ip), expected, "{ip}");
    }
    assert!(Forbidden::Denied.to_string().contains("callbacks.deny_networks"));
}

#[test]
fn denying_everything_leaves_what_is_allowed() {
    let rules = with(&["203.0.114.0/24", "::1"], &["0.0.0.0/0", "::/0"]);
    let rules = Rules { allow_private_networks: true, ..rules };
    assert_eq!(judged(&rules, "203.0.114.9"), Ok(()));
    assert_eq!(judged(&rules, "::1"), Ok(()));
    for ip in ["8.8.8.8", "127.0.0.1", "2606:4700::1", "::ffff:203.0.114.9", "::2"] {
        assert_eq!(judged(&rules, ip), Err(Forbidden::Denied), "{ip}");
    }
}

#[test]
fn local_names_pass_once_some_network_is_open() {
    let named = |rules: &Rules| rules.judge("http://db.internal/").map(drop);
    assert_eq!(named(&Rules::default()), Err(Forbidden::LocalName));
    assert_eq!(named(&with(&[], &["10.0.0.0/8"])), Err(Forbidden::LocalName));
    assert_eq!(named(&with(&["10.1.0.0/16"], &[])), Ok(()));
    let refusal = Forbidden::LocalName.to_string();
    assert!(refusal.contains("callbacks.allow_networks"), "{refusal}");
}

#[test]
fn with_https_only_nothing_else_passes() {
    let rules = Rules { https_only: true, ..Rules::default() };
    assert!(rules.judge("https://a.example/").is_ok());
    let refusal = rules.judge("http://a.example/").unwrap_err();
    assert_eq!(refusal, Forbidden::HttpsOnly);
    assert!(refusal.to_string().contains("callbacks.https_only"), "{refusal}");
    assert_eq!(rules.judge("ftp://a.example/").unwrap_err(), Forbidden::Scheme);
}

#[test]
fn ports_are_judged_the_default_ones_too() {
    let rules = Rules {
        allow_ports: ports(&["443", "8000-8999"]),
        deny_ports: ports(&["8080-8089"]),
        ..Rules::default()
    };
    let judged = |url: &str| rules.judge(url).map(drop);
    for url in ["https://a.example/", "http://a.example:443/", "http://a.example:8000/"] {
        assert_eq!(judged(url), Ok(()), "{url}");
    }
    assert_eq!(judged("http://a.example:8999/"), Ok(()));
    assert_eq!(judged("http://a.example/"), Err(Forbidden::PortNotAllowed(80)));
    assert_eq!(judged("https://a.example:9000/"), Err(Forbidden::PortNotAllowed(9000)));
    assert_eq!(judged("https://8.8.8.8:8089/"), Err(Forbidden::PortDenied(8089)));
    let none = Rules { deny_ports: ports(&["80"]), ..Rules::default() };
    assert_eq!(none.judge("http://a.example/").unwrap_err(), Forbidden::PortDenied(80));
    assert!(none.judge("http://a.example:81/").is_ok());
    for (refusal, key) in [
        (Forbidden::PortNotAllowed(80), "callbacks.allow_ports"),
        (Forbidden::PortDenied(80), "callbacks.deny_ports"),
    ] {
        assert!(refusal.to_string().contains(key), "{refusal}");
    }
}

#[test]
fn networks_and_ports_are_read_as_they_are_written() {
    for text in ["10.1.0.0/16", "127.0.0.2/32", "fd12::/16", "::ffff:10.0.0.0/104"] {
        assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
    }
    assert!("127.0.0.2".parse::<Network>().unwrap().is_single());
    assert_eq!("::1".parse::<Network>().unwrap().to_string(), "::1/128");
    for text in ["", "10.1.0.0/33", "10.1/16", "a.example", "fd12::/129", "10.1.0.0/"] {
        assert_eq!(text.parse::<Network>(), Err(InvalidNetwork::Form), "{text}");
    }
    let refusal = "10.1.2.3/16".parse::<Network>().unwrap_err().to_string();
    assert!(refusal.contains("10.1.0.0/16"), "{refusal}");

    for text in ["443", "1-65535", "8000-8999"] {
        assert_eq!(text.parse::<Ports>().unwrap().to_string(), text);
    }
    for text in ["", "0", "0-80", "65536", "90-80", "-80", "80-", "1-2-3", "http"] {
        assert_eq!(text.parse::<Ports>(), Err(InvalidPorts), "{text}");
    }
}
