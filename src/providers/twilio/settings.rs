//! What is to be said of an account at Twilio, and whether it can serve.

use std::{fmt, sync::Arc};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use url::{Host, Url};

use super::{Twilio, form::Form, twins::Twins};
use crate::providers::{
    Provider,
    exchange::{Line, MASK, Target},
    registry::{InvalidSettings, Kind, KindSettings, Site},
};

/// A Twilio provider's own settings.
#[derive(Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TwilioSettings {
    /// Where Twilio's API is.
    #[serde(default = "base_url")]
    pub base_url: String,
    /// The account, `AC…`.
    pub account_sid: String,
    /// The account's auth token: what Twilio signs its requests with, and what ours are authorised by
    /// unless there is an API key.
    #[serde(serialize_with = "masked")]
    pub auth_token: SecretString,
    /// The API key, `SK…`, that requests are authorised by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_sid: Option<String>,
    /// Its secret.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "masked_if_any")]
    pub api_key_secret: Option<SecretString>,
    /// The messaging service, `MG…`, that messages without a sender leave through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messaging_service_sid: Option<String>,
}

// === impl TwilioSettings ===

impl KindSettings for TwilioSettings {
    const WORD: &'static str = "twilio";
    const KEYS: &'static [&'static str] = &[
        "base_url",
        "account_sid",
        "auth_token",
        "api_key_sid",
        "api_key_secret",
        "messaging_service_sid",
    ];
}

impl Kind for TwilioSettings {
    fn word(&self) -> &'static str {
        Self::WORD
    }

    fn needs_from(&self) -> bool {
        self.messaging_service_sid.is_none()
    }

    fn shown(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self)
    }

    fn build(&self, site: &Site<'_>) -> Result<Arc<dyn Provider>, InvalidSettings> {
        self.judge(site)?;
        let target = Target::parse("base_url", &self.base_url)?;
        if target.uri().query().is_some() {
            return Err(InvalidSettings::new("base_url", "it can't have a query"));
        }
        let receipts = site.common.receipts.unwrap_or(true);
        if receipts && is_of_this_machine(site.public_url) && !is_of_this_machine(&self.base_url) {
            let reason = "Twilio can't report to server.public_url, which is of this machine: set it, \
                          or receipts = false";
            return Err(InvalidSettings::new("receipts", reason));
        }
        let (user, password) = self.credentials()?;
        let callback = receipts.then(|| {
            let base = site.public_url.trim_end_matches('/');
            format!("{base}/v1/receipts/{}?message=", site.name)
        });
        let form = Form::new(&target, self, (user, password), callback)?;
        let line = Line::new("base_url", &target, site)?;
        let auth_token = self.auth_token.clone();
        Ok(Arc::new(Twilio { line, form, twins: Twins::default(), auth_token, receipts }))
    }
}

impl TwilioSettings {
    fn judge(&self, site: &Site<'_>) -> Result<(), InvalidSettings> {
        let sids = [
            ("account_sid", "AC", Some(&self.account_sid)),
            ("api_key_sid", "SK", self.api_key_sid.as_ref()),
            ("messaging_service_sid", "MG", self.messaging_service_sid.as_ref()),
        ];
        for (key, prefix, sid) in sids {
            if sid.is_some_and(|sid| !is_sid(prefix, sid)) {
                let reason = format!("give {prefix} and 32 hexadecimal digits");
                return Err(InvalidSettings::new(key, reason));
            }
        }
        let secrets = [
            ("auth_token", Some(&self.auth_token)),
            ("api_key_secret", self.api_key_secret.as_ref()),
        ];
        for (key, secret) in secrets {
            let fits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
            if secret.is_some_and(|secret| !fits(secret.expose_secret())) {
                return Err(InvalidSettings::new(key, "give visible ASCII characters"));
            }
        }
        if self.messaging_service_sid.is_some() && site.common.from.is_some() {
            let reason = "give either this or from: a sender goes before the service";
            return Err(InvalidSettings::new("messaging_service_sid", reason));
        }
        if self.messaging_service_sid.is_some() && !site.common.senders.is_empty() {
            let reason = "give either this or senders: the service has a pool of its own";
            return Err(InvalidSettings::new("messaging_service_sid", reason));
        }
        Ok(())
    }

    /// What requests are authorised by.
    fn credentials(&self) -> Result<(&str, &SecretString), InvalidSettings> {
        match (&self.api_key_sid, &self.api_key_secret) {
            (Some(sid), Some(secret)) => Ok((sid, secret)),
            (None, None) => Ok((&self.account_sid, &self.auth_token)),
            (Some(_), None) => Err(InvalidSettings::new("api_key_secret", "api_key_sid needs it")),
            (None, Some(_)) => Err(InvalidSettings::new("api_key_sid", "api_key_secret needs it")),
        }
    }
}

impl fmt::Debug for TwilioSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TwilioSettings")
            .field("base_url", &self.base_url)
            .field("account_sid", &self.account_sid)
            .field("api_key_sid", &self.api_key_sid)
            .field("messaging_service_sid", &self.messaging_service_sid)
            .finish_non_exhaustive()
    }
}

/// Whether the text is an identifier of Twilio's of this kind.
pub(super) fn is_sid(prefix: &str, text: &str) -> bool {
    let digits = text.strip_prefix(prefix);
    digits.is_some_and(|digits| {
        digits.len() == 32 && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    })
}

/// Whether a URL leads nowhere but to the machine that reads it.
fn is_of_this_machine(url: &str) -> bool {
    let url = Url::parse(url).ok();
    match url.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn base_url() -> String {
    "https://api.twilio.com".to_owned()
}

fn masked<S: Serializer>(_: &SecretString, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(MASK)
}

#[expect(clippy::ref_option, reason = "serde asks for this form")]
fn masked_if_any<S: Serializer>(
    secret: &Option<SecretString>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match secret {
        Some(secret) => masked(secret, serializer),
        None => serializer.serialize_none(),
    }
}
