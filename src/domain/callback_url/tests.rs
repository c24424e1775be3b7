//! The verdicts on every form of URL and host, and on every special range.

use super::*;

mod registry;
mod settings;

/// Rules that permit public addresses, or private ones too.
fn rules(allow_private_networks: bool) -> Rules {
    Rules { allow_private_networks, ..Rules::default() }
}

/// What becomes of `url` without and with private networks allowed.
fn verdicts(url: &str) -> (Result<(), Forbidden>, Result<(), Forbidden>) {
    (rules(false).judge(url).map(drop), rules(true).judge(url).map(drop))
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
    let hosts = ["localhost", "LOCALHOST.", "a.localhost", "printer.local", "a.b.internal", "db"];
    for host in hosts {
        assert_eq!(host_verdicts(host), (Err(Forbidden::LocalName), Ok(())), "{host}");
    }
    assert!(Forbidden::LocalName.to_string().contains("callbacks.allow_private_networks"));
}

#[test]
fn some_addresses_are_opened_by_no_general_key() {
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
        assert!(refusal.contains("callbacks.allow_networks"), "{host}: {refusal}");
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
        ("http://{a}.example/".into(), Forbidden::NameCharacter),
        ("http://a$.example/".into(), Forbidden::NameCharacter),
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
    let url = rules(false).judge("https://hooks.example/sms?token=hush#hush").unwrap();
    assert_eq!(url.to_string(), "https://hooks.example:443/sms");
    assert_eq!(format!("{url:?}"), "CallbackUrl(https://hooks.example:443/sms)");
    assert_eq!(url.host_and_port(), "hooks.example:443");
    assert_eq!(url.url().query(), Some("token=hush"));
    let v6 = rules(false).judge("http://[2606:4700::1111]:81/").unwrap();
    assert_eq!(v6.host_and_port(), "[2606:4700::1111]:81");
}
