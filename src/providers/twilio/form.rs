//! The requests: one that creates a message, and one that lists those to a recipient.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::Full;
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded::Serializer;

use super::{
    lookup::{PAGE, Sought},
    settings::{TwilioSettings, is_sid},
};
use crate::providers::{
    Submission,
    exchange::{Target, agent},
    registry::InvalidSettings,
};

/// The longest time that Twilio keeps a message in its queue, and the shortest.
const VALID_MAX_S: u64 = 36_000;
const VALID_MIN_S: u64 = 1;

/// Who a message is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Sender<'a> {
    /// A number or name of the account's.
    From(&'a str),
    /// A messaging service, which chooses.
    Service(&'a str),
    /// Nobody; Twilio refuses it.
    Nobody,
}

/// What stays the same from one request to the next.
pub(super) struct Form {
    /// What is asked for, without a query.
    path: Uri,
    headers: HeaderMap,
    service: Option<String>,
    /// Where Twilio is to report a message, up to the message's id.
    callback: Option<String>,
}

// === impl Form ===

impl Form {
    pub(super) fn new(
        target: &Target,
        settings: &TwilioSettings,
        (user, password): (&str, &SecretString),
        callback: Option<String>,
    ) -> Result<Self, InvalidSettings> {
        let base = target.path().trim_end_matches('/');
        let path = format!("{base}/2010-04-01/Accounts/{}/Messages.json", settings.account_sid);
        let path = path.parse();
        let path = path.map_err(|_| InvalidSettings::new("base_url", "it can't be requested"))?;
        let basic = STANDARD.encode(format!("{user}:{}", password.expose_secret()));
        let basic = HeaderValue::try_from(format!("Basic {basic}"));
        // Base64 is always a header's value.
        let mut basic = basic.map_err(|_| InvalidSettings::new("auth_token", "unfit"))?;
        basic.set_sensitive(true);
        let mut headers = HeaderMap::with_capacity(6);
        headers.insert(HOST, target.host());
        headers.insert(AUTHORIZATION, basic);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, agent());
        Ok(Self { path, headers, service: settings.messaging_service_sid.clone(), callback })
    }

    /// Who a message is from: who it names, and else the messaging service.
    pub(super) fn sender<'a>(&'a self, submission: &Submission<'a>) -> Sender<'a> {
        match (submission.from, &self.service) {
            (Some(from), _) if is_sid("MG", from) => Sender::Service(from),
            (Some(from), _) => Sender::From(from),
            (None, Some(service)) => Sender::Service(service),
            (None, None) => Sender::Nobody,
        }
    }

    /// The request that creates a message.
    pub(super) fn post(
        &self,
        submission: &Submission<'_>,
        sender: Sender<'_>,
    ) -> Request<Full<Bytes>> {
        let mut form = Serializer::new(String::with_capacity(256 + 2 * submission.body.len()));
        form.append_pair("To", submission.to);
        match sender {
            Sender::From(from) => _ = form.append_pair("From", from),
            Sender::Service(service) => _ = form.append_pair("MessagingServiceSid", service),
            Sender::Nobody => {}
        }
        form.append_pair("Body", submission.body);
        if let Some(callback) = &self.callback {
            form.append_pair("StatusCallback", &format!("{callback}{}", submission.id));
        }
        if let Some(valid_for) = submission.valid_for {
            form.append_pair("ValidityPeriod", &validity_s(valid_for).to_string());
        }
        let form = Bytes::from(form.finish());
        let mut headers = self.headers.clone();
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(CONTENT_TYPE, form_type);
        headers.insert(CONTENT_LENGTH, HeaderValue::from(form.len()));
        request(Method::POST, self.path.clone(), headers, form)
    }

    /// The request that lists the latest messages to a recipient. It asks for no dates: those it could ask
    /// for are when messages were sent, and one that still waits in Twilio's queue was not.
    pub(super) fn list(&self, sought: &Sought<'_>) -> Request<Full<Bytes>> {
        let path = format!("{}?", self.path.path());
        let start = path.len();
        let mut query = Serializer::for_suffix(path, start);
        query.append_pair("To", sought.to);
        if let Sender::From(from) = sought.sender {
            query.append_pair("From", from);
        }
        query.append_pair("PageSize", &PAGE.to_string());
        // What the serializer writes is always a query.
        let path = query.finish().parse().unwrap_or_else(|_| self.path.clone());
        request(Method::GET, path, self.headers.clone(), Bytes::new())
    }
}

fn request(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// The whole seconds that Twilio may keep a message, within what it takes.
fn validity_s(valid_for: Duration) -> u64 {
    valid_for.as_secs().clamp(VALID_MIN_S, VALID_MAX_S)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validity_is_whole_seconds_within_what_twilio_takes() {
        let cases = [(0, 1), (999, 1), (5_999, 5), (36_000_000, 36_000), (360_000_000, 36_000)];
        for (millis, seconds) in cases {
            assert_eq!(validity_s(Duration::from_millis(millis)), seconds, "{millis}");
        }
    }
}
