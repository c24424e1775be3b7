//! One signed POST: a body goes to a URL, with the client's headers and the signature of now.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

use super::{
    Signers,
    client::{Exchange, GuardedClient},
};
use crate::{
    clock::Clock,
    domain::{
        callback_headers,
        callback_url::{CallbackUrl, Forbidden},
    },
};

/// Signs and posts. Shared by all that are under way.
pub(super) struct Poster {
    pub(super) client: GuardedClient,
    pub(super) clock: Clock,
    pub(super) signers: Signers,
}

/// Where something is posted, and in whose name.
pub(super) struct Address<'a> {
    /// The account, whose secrets sign.
    pub(super) account: &'a str,
    /// The URL.
    pub(super) url: &'a CallbackUrl,
    /// Headers that the client chose.
    pub(super) headers: &'a [(String, String)],
    /// The secret that the client gave, to sign with instead.
    pub(super) secret: Option<&'a str>,
}

// === impl Poster ===

impl Poster {
    /// Judges a URL by the rules of now.
    pub(super) fn judge(&self, url: &str) -> Result<CallbackUrl, Forbidden> {
        self.client.judge(url)
    }

    /// Posts `body` under `id`, signed with the timestamp of now.
    pub(super) async fn post(&self, to: &Address<'_>, id: &str, body: String) -> Exchange {
        let timestamp_s = self.clock.now().0 / 1000;
        let signatures = self.signers.sign(to.account, to.secret, id, timestamp_s, &body);
        let mut headers = chosen(to.headers);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert("webhook-timestamp", HeaderValue::from(timestamp_s));
        for (name, value) in [("webhook-id", id), ("webhook-signature", &signatures)] {
            // Letters, digits, `_`, base64, commas and spaces: always a header's value.
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        self.client.post(to.url, headers, Bytes::from(body)).await
    }
}

/// The headers the client chose, less those that are not its to choose.
fn chosen(given: &[(String, String)]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(given.len() + 4);
    for (name, value) in given {
        let (Ok(name), Ok(mut value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            continue;
        };
        if callback_headers::is_reserved(name.as_str()) {
            continue;
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    headers
}
