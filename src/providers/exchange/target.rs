//! Where a provider is: a URL, judged and taken apart once.

use http::{HeaderValue, Uri, uri::Scheme};
use url::Url;

use crate::providers::registry::InvalidSettings;

/// Where requests go.
pub(in crate::providers) struct Target {
    uri: Uri,
    host: HeaderValue,
}

/// Who we say we are.
pub(in crate::providers) fn agent() -> HeaderValue {
    HeaderValue::from_static(concat!("ringback/", env!("CARGO_PKG_VERSION")))
}

// === impl Target ===

impl Target {
    /// Judges the URL that the settings have under `key`.
    pub(in crate::providers) fn parse(
        key: &'static str,
        url: &str,
    ) -> Result<Self, InvalidSettings> {
        let url = judged(url).map_err(|reason| InvalidSettings::new(key, reason))?;
        let host = host(&url).ok_or(InvalidSettings::new(key, "it has no host"))?;
        let unfit = |_| InvalidSettings::new(key, "not a URL that can be requested");
        let uri: Uri = url.as_str().parse().map_err(unfit)?;
        Ok(Self { uri, host })
    }

    /// The whole of it.
    pub(in crate::providers) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The value of the header `Host`.
    pub(in crate::providers) fn host(&self) -> HeaderValue {
        self.host.clone()
    }

    /// What is asked for there.
    pub(in crate::providers) fn path(&self) -> &str {
        self.uri.path_and_query().map_or("/", |path| path.as_str())
    }

    /// Whether it is reached over TLS.
    pub(in crate::providers) fn is_https(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTPS)
    }
}

fn judged(url: &str) -> Result<Url, String> {
    let mut url = Url::parse(url).map_err(|error| format!("not a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("give a URL that begins with http:// or https://".into());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("give no user name and no password here".into());
    }
    url.set_fragment(None);
    Ok(url)
}

fn host(url: &Url) -> Option<HeaderValue> {
    let host = url.host_str()?;
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    HeaderValue::try_from(host).ok()
}
