//! Twilio as its API is, as far as messages go: it keeps a book of what it was asked, and of the messages it
//! has, which it lists.

use std::{collections::HashMap, sync::Arc, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Response, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER},
};
use jiff::{Timestamp, fmt::rfc2822::DateTimePrinter};
use parking_lot::Mutex;
use ringback::clock::Clock;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::hosted::{Host, Hosted, Step, Whole};

/// The account that it knows.
pub(crate) const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";

/// The account's auth token.
pub(crate) const TOKEN: &str = "fedcba9876543210fedcba9876543210";

/// The account's API key, and its secret.
pub(crate) const API_KEY: &str = "SK0123456789abcdef0123456789abcdef";
pub(crate) const API_SECRET: &str = "a-secret-of-the-key";

/// Twilio. Ends when dropped.
pub(crate) struct Twilio {
    hosted: Hosted,
    desk: Arc<Desk>,
}

/// How the creation of a message is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Create {
    /// 201, and the message.
    Accept,
    /// With this status and Twilio's code.
    Refuse(u16, u32),
    /// 429 and 20429, with `Retry-After`, until then; accepted afterwards.
    Throttle { until: Instant, retry_after_s: u32 },
    /// Taken in, and the connection reset.
    TakeAndReset,
    /// Taken in, and never answered.
    TakeAndHang,
    /// Not taken in, and the connection reset.
    DropAndReset,
    /// With this status, as by a balancer, of which Twilio knows nothing.
    Balancer(u16),
}

/// What was asked, by name.
pub(crate) type Fields = HashMap<String, String>;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Whether a message was to be created; else messages were to be listed.
    pub(crate) creates: bool,
    /// The form or the query.
    pub(crate) fields: Fields,
    /// Who asked: an account or a key.
    pub(crate) user: String,
}

struct Desk {
    create: Mutex<Create>,
    create_for: Mutex<HashMap<String, Create>>,
    lists: Mutex<bool>,
    asked: Mutex<Vec<Asked>>,
    messages: Mutex<Vec<Value>>,
}

// === impl Twilio ===

impl Twilio {
    /// Starts a Twilio that accepts everything.
    pub(crate) fn start() -> Self {
        let desk = Arc::new(Desk {
            create: Mutex::new(Create::Accept),
            create_for: Mutex::default(),
            lists: Mutex::new(true),
            asked: Mutex::default(),
            messages: Mutex::default(),
        });
        Self { hosted: Hosted::start(Arc::clone(&desk)), desk }
    }

    /// Where its API is.
    pub(crate) fn base_url(&self) -> String {
        format!("http://{}", self.hosted.address)
    }

    /// Answers in another way from now on.
    pub(crate) fn set(&self, create: Create) {
        *self.desk.create.lock() = create;
    }

    /// Answers in another way where this is the recipient.
    pub(crate) fn set_for(&self, to: &str, create: Create) {
        self.desk.create_for.lock().insert(to.to_owned(), create);
    }

    /// Whether it lists messages from now on; else it fails.
    pub(crate) fn set_lists(&self, lists: bool) {
        *self.desk.lists.lock() = lists;
    }

    /// The requests that were to create messages.
    pub(crate) fn creations(&self) -> Vec<Asked> {
        self.asked(true)
    }

    /// The requests for lists.
    pub(crate) fn lists(&self) -> Vec<Asked> {
        self.asked(false)
    }

    /// What the messages to a recipient are called, the latest first.
    pub(crate) fn sids_to(&self, to: &str) -> Vec<String> {
        let messages = self.desk.messages.lock();
        let to_them = messages.iter().rev().filter(|message| message["to"] == to);
        to_them.map(|message| message["sid"].as_str().unwrap().to_owned()).collect()
    }

    fn asked(&self, creates: bool) -> Vec<Asked> {
        let asked = self.desk.asked.lock();
        asked.iter().filter(|asked| asked.creates == creates).cloned().collect()
    }
}

// === impl Desk ===

impl Host for Desk {
    async fn step(&self, request: Whole) -> Step {
        let known = [(ACCOUNT, TOKEN), (API_KEY, API_SECRET)];
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let user = known.into_iter().find(|(user, password)| {
            given == Some(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
        });
        let Some((user, _)) = user else { return refusal(401, 20003) };
        if request.uri().path() != format!("/2010-04-01/Accounts/{ACCOUNT}/Messages.json") {
            return refusal(404, 20404);
        }
        let creates = request.method() == Method::POST;
        let is_form = request.headers().get(CONTENT_TYPE).is_some_and(|value| {
            value.as_bytes().starts_with(b"application/x-www-form-urlencoded")
        });
        assert_eq!(creates, is_form, "{request:?}");
        let query = request.uri().query().unwrap_or_default().as_bytes();
        let text = if creates { request.body() } else { query };
        let fields: Fields = form_urlencoded::parse(text).into_owned().collect();
        let asked = Asked { creates, fields: fields.clone(), user: user.to_owned() };
        self.asked.lock().push(asked);
        if creates { self.create(&fields).await } else { self.list(&fields) }
    }
}

impl Desk {
    async fn create(&self, fields: &Fields) -> Step {
        let special = self.create_for.lock().get(&fields["To"]).copied();
        let create = special.unwrap_or_else(|| *self.create.lock());
        match create {
            Create::Refuse(status, code) => refusal(status, code),
            Create::Throttle { until, retry_after_s } if Instant::now() < until => {
                let Step::Answer(mut response) = refusal(429, 20429) else { unreachable!() };
                response.headers_mut().insert(RETRY_AFTER, retry_after_s.into());
                Step::Answer(response)
            }
            Create::Accept | Create::Throttle { .. } => answer(201, &self.take_in(fields)),
            Create::TakeAndReset => {
                self.take_in(fields);
                Step::Reset
            }
            Create::TakeAndHang => {
                self.take_in(fields);
                std::future::pending().await
            }
            Create::DropAndReset => Step::Reset,
            Create::Balancer(status) => {
                let mut response = Response::new(Full::new(Bytes::from_static(b"<html>")));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                Step::Answer(response)
            }
        }
    }

    /// Makes a message; it is listed from now on.
    fn take_in(&self, fields: &Fields) -> Value {
        let mut messages = self.messages.lock();
        let service = fields.get("MessagingServiceSid");
        let message = json!({
            "sid": format!("SM{:032x}", messages.len()),
            "account_sid": ACCOUNT,
            "status": if service.is_some() { "accepted" } else { "queued" },
            "direction": "outbound-api",
            "to": fields["To"],
            "from": fields.get("From"),
            "messaging_service_sid": service,
            "body": fields["Body"],
            "date_created": now(),
            "date_sent": null,
            "error_code": null,
            "error_message": null,
            "num_segments": "1",
        });
        messages.push(message.clone());
        message
    }

    fn list(&self, fields: &Fields) -> Step {
        if !*self.lists.lock() {
            return refusal(500, 20500);
        }
        let is_asked_for = |message: &&Value| {
            let wanted = |name: &str, field: &str| {
                fields.get(name).is_none_or(|wanted| message[field] == *wanted)
            };
            wanted("To", "to") && wanted("From", "from")
        };
        let size: usize = fields["PageSize"].parse().unwrap();
        let messages = self.messages.lock();
        let all: Vec<_> = messages.iter().rev().filter(is_asked_for).collect();
        let next = (all.len() > size).then_some("/2010-04-01/next");
        let page: Vec<_> = all.into_iter().take(size).collect();
        answer(200, &json!({"messages": page, "page": 0, "page_size": size, "next_page_uri": next}))
    }
}

/// The time, as Twilio tells it.
fn now() -> String {
    let now = i64::try_from(Clock::system().now().0).unwrap();
    let now = Timestamp::from_millisecond(now).unwrap();
    DateTimePrinter::new().timestamp_to_string(&now).unwrap().replace("-0000", "+0000")
}

fn refusal(status: u16, code: u32) -> Step {
    let more_info = format!("https://www.twilio.com/docs/errors/{code}");
    let message = "To +15551230001: refused";
    answer(
        status,
        &json!({"code": code, "message": message, "more_info": more_info, "status": status}),
    )
}

fn answer(status: u16, body: &Value) -> Step {
    let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().unwrap());
    Step::Answer(response)
}
