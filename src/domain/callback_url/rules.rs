//! What an installation says of callback URLs: schemes, networks and ports.
//!
//! Of the networks that hold an address, allowed or denied, the longest decides, and a denial where
//! two are equal; where none holds it, its range does. An IPv6 address that carries an IPv4 one is
//! permitted by networks of IPv6 alone, but refused by a denied network of IPv4 too.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::{Host, Url};

use super::{
    CallbackUrl, Forbidden, URL_BYTES_MAX,
    ranges::{Reach, reach, v4_inside},
};

/// Where callbacks may go. Cheap to clone. By default: to public addresses.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Whether private and loopback addresses are permitted.
    pub allow_private_networks: bool,
    /// Whether only `https` is permitted.
    pub https_only: bool,
    /// Networks that are permitted whatever they are.
    pub allow_networks: Arc<[Network]>,
    /// Networks that are refused whatever they are.
    pub deny_networks: Arc<[Network]>,
    /// The only ports that are permitted; all if there are none.
    pub allow_ports: Arc<[Ports]>,
    /// Ports that are refused.
    pub deny_ports: Arc<[Ports]>,
}

/// A network of IPv4 or IPv6: `10.1.0.0/16`, `fd12::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

/// The text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNetwork {
    /// It is neither an address nor one with a prefix's length.
    #[error("not a network: give an address and the length of its prefix, as in \"10.1.0.0/16\"")]
    Form,
    /// Bits are set beyond the prefix, so that it is not clear what is meant.
    #[error("not a network: bits are set beyond the prefix; {0} is one")]
    HostBits(IpNet),
}

/// Ports from the first to the last: `443`, or `8000-8999`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// The text is neither a port nor a range of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a port: give one from 1 to 65535, or the first and the last, as in \"8000-8999\"")]
pub struct InvalidPorts;

// === impl Rules ===

impl Rules {
    /// Judges the URL a client wants a completion reported to: its form, and its host as far as
    /// that is known without resolving it.
    ///
    /// # Errors
    /// [`Forbidden`], which says why in one sentence.
    pub fn judge(&self, url: &str) -> Result<CallbackUrl, Forbidden> {
        if url.len() > URL_BYTES_MAX {
            return Err(Forbidden::TooLong);
        }
        let url = CallbackUrl(Url::parse(url).map_err(Forbidden::Malformed)?);
        self.judge_again(&url)?;
        Ok(url)
    }

    /// Judges a URL that was judged before, by other rules maybe.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn judge_again(&self, CallbackUrl(url): &CallbackUrl) -> Result<(), Forbidden> {
        match url.scheme() {
            "http" if self.https_only => return Err(Forbidden::HttpsOnly),
            "http" | "https" => {}
            _ => return Err(Forbidden::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Forbidden::UserInfo);
        }
        let host = url.host().ok_or(Forbidden::Malformed(url::ParseError::EmptyHost))?;
        // Both schemes have a default port.
        self.judge_port(url.port_or_known_default().unwrap_or_default())?;
        match host {
            Host::Domain(name) => self.judge_name(name),
            Host::Ipv4(ip) => self.judge_address(ip.into()),
            Host::Ipv6(ip) => self.judge_address(ip.into()),
        }
    }

    /// Judges an address that a callback would be sent to.
    ///
    /// # Errors
    /// [`Forbidden::Denied`], [`Forbidden::Private`] or [`Forbidden::Never`].
    pub fn judge_address(&self, ip: IpAddr) -> Result<(), Forbidden> {
        let allowed = longest(&self.allow_networks, ip);
        let denied = longest(&self.deny_networks, ip);
        if denied.is_some() && denied >= allowed || self.denies_inside(ip) {
            return Err(Forbidden::Denied);
        }
        if allowed.is_some() {
            return Ok(());
        }
        match reach(ip) {
            Reach::Public => Ok(()),
            Reach::Private(_) if self.allow_private_networks => Ok(()),
            Reach::Private(what) => Err(Forbidden::Private(what)),
            Reach::Never(what) => Err(Forbidden::Never(what)),
        }
    }

    fn denies_inside(&self, ip: IpAddr) -> bool {
        let inside = match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(ip) => v4_inside(ip),
        };
        inside.is_some_and(|ip| longest(&self.deny_networks, ip.into()).is_some())
    }

    fn judge_port(&self, port: u16) -> Result<(), Forbidden> {
        let any = |ports: &[Ports]| ports.iter().any(|ports| ports.hold(port));
        if any(&self.deny_ports) {
            Err(Forbidden::PortDenied(port))
        } else if !self.allow_ports.is_empty() && !any(&self.allow_ports) {
            Err(Forbidden::PortNotAllowed(port))
        } else {
            Ok(())
        }
    }

    /// Judges a host's name, in the lower-case form that the parser gives. What a local one stands
    /// for is judged once it is resolved, if some local networks are open.
    fn judge_name(&self, name: &str) -> Result<(), Forbidden> {
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.split('.').any(str::is_empty) {
            return Err(Forbidden::EmptyLabel);
        }
        // The parser takes more of them than the client does.
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err(Forbidden::NameCharacter);
        }
        let is_local = match name.rsplit_once('.') {
            None => true,
            Some((_, last)) => matches!(last, "localhost" | "local" | "internal"),
        };
        let are_open = self.allow_private_networks || !self.allow_networks.is_empty();
        if is_local && !are_open { Err(Forbidden::LocalName) } else { Ok(()) }
    }
}

// === impl Network ===

impl Network {
    /// Whether it holds the address.
    #[must_use]
    pub fn holds(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }

    /// Whether it is one address.
    #[must_use]
    pub fn is_single(&self) -> bool {
        self.0.prefix_len() == self.0.max_prefix_len()
    }
}

impl FromStr for Network {
    type Err = InvalidNetwork;

    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let text = text.trim();
        let network = match text.parse::<IpAddr>() {
            Ok(ip) => IpNet::from(ip),
            Err(_) => text.parse().map_err(|_| InvalidNetwork::Form)?,
        };
        match network.trunc() {
            whole if whole == network => Ok(Self(network)),
            whole => Err(InvalidNetwork::HostBits(whole)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

// === impl Ports ===

impl Ports {
    fn hold(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for Ports {
    type Err = InvalidPorts;

    fn from_str(text: &str) -> Result<Self, InvalidPorts> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse().map_err(|_| InvalidPorts);
        match (port(first)?, port(last)?) {
            (first, last) if (1..=last).contains(&first) => Ok(Self { first, last }),
            _ => Err(InvalidPorts),
        }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { first, last } if first == last => first.fmt(f),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A single port may be written as a number; it is read as its text.
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The length of the longest prefix among `networks` that holds the address.
fn longest(networks: &[Network], ip: IpAddr) -> Option<u8> {
    let holding = networks.iter().filter(|network| network.holds(ip));
    holding.map(|network| network.0.prefix_len()).max()
}
