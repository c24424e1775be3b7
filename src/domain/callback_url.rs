//! Callback URLs: where a completion may be reported, as pure verdicts.
//!
//! What is judged is the parsed host, never the text: the parser reads `2130706433`, `0x7f.1` and
//! full-width digits as the address they stand for. [`Rules::judge`] judges a URL when a batch is
//! submitted; [`Rules::judge_address`] judges each address its host resolves to when the callback
//! is delivered. Local networks are open only where the settings say so, and so are multicast,
//! documentation, link-local, and where clouds keep their metadata.

mod ranges;
mod rules;
#[cfg(test)]
mod tests;

use std::fmt;

use url::Url;

pub use self::rules::{InvalidNetwork, InvalidPorts, Network, Ports, Rules};

/// The longest callback URL, in bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// A URL that callbacks may be sent to. Printed without its query.
#[derive(Clone, PartialEq, Eq)]
pub struct CallbackUrl(Url);

/// Why callbacks are not sent there. Each reason that a setting could lift names its key.
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
    /// Its scheme is `http`, and that is not enough here.
    #[error("a callback URL begins with https:// here, as callbacks.https_only demands")]
    HttpsOnly,
    /// It holds a user name or a password.
    #[error("a callback URL holds no user name and no password; use callback_headers")]
    UserInfo,
    /// Its port is not one of those that are permitted.
    #[error("the port {0} is not among callbacks.allow_ports")]
    PortNotAllowed(u16),
    /// Its port is refused.
    #[error("the port {0} is among callbacks.deny_ports")]
    PortDenied(u16),
    /// Its host is a name with an empty part.
    #[error("the host's name has an empty part")]
    EmptyLabel,
    /// Its host is a name with a character that no client takes.
    #[error("the host's name has other characters than letters, digits, \"-\", \"_\" and dots")]
    NameCharacter,
    /// Its host is a name that only a local network knows.
    #[error(
        "the host's name is a local one; only callbacks.allow_private_networks or \
         callbacks.allow_networks permit those"
    )]
    LocalName,
    /// The address belongs to a network that is refused.
    #[error("the address is in a network of callbacks.deny_networks")]
    Denied,
    /// The address belongs to a local network.
    #[error(
        "the address is {0}; only callbacks.allow_private_networks or callbacks.allow_networks \
         permit those"
    )]
    Private(&'static str),
    /// The address is one that callbacks have no business with.
    #[error("the address is {0}; only callbacks.allow_networks permits those")]
    Never(&'static str),
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
        // No URL is judged fit that lacks a host, and http and https have default ports.
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
