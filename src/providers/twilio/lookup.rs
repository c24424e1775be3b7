//! Which message of a list is the one whose answer was lost.
//!
//! The times compared are all Twilio's: those of the messages, and that of the list's answer, less how long
//! the exchange has gone on.

use std::time::{Duration, Instant};

use http::{header::DATE, response::Parts};
use jiff::{Timestamp, fmt::rfc2822::DateTimeParser};
use serde::Deserialize;

use super::{answer::Message, form::Sender};

/// How many messages are asked for.
pub(super) const PAGE: u32 = 50;

/// The longest list that is read, in bytes: twice what that many of the longest texts come to.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How far two of Twilio's clocks may differ. Its times are whole seconds.
const SLACK: Duration = Duration::from_secs(2);

/// Why it can't be said which message it is.
pub(super) const NO_ANSWER: &str = "it could not be looked up";
pub(super) const TWIN: &str = "another message says the same, so it can't be told apart";
const NONE: &str = "the account's list does not show it";
const SEVERAL: &str = "the account's list shows several like it";
const CUT: &str = "the account's list is too long to be sure";

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    /// The recipient.
    pub(super) to: &'a str,
    /// Who it is from.
    pub(super) sender: Sender<'a>,
    /// The text.
    pub(super) body: &'a str,
    /// When its exchange began.
    pub(super) since: Instant,
}

/// A page of a list, the latest messages first.
#[derive(Deserialize)]
struct Page {
    messages: Vec<Message>,
    next_page_uri: Option<String>,
}

/// The message that is sought, in the answer that lists messages.
///
/// # Errors
/// Why it can't be said which one it is, or that it is not there.
pub(super) fn find(
    head: &Parts,
    body: &[u8],
    sought: &Sought<'_>,
) -> Result<Message, &'static str> {
    let now = head.headers.get(DATE).and_then(|date| instant(date.to_str().ok()?));
    let page = serde_json::from_slice::<Page>(body).ok();
    let (Some(now), Some(page)) = (now, page) else { return Err(NO_ANSWER) };
    among(page, sought, now, sought.since.elapsed())
}

/// The message that was created in the exchange that began `took` before `now`.
fn among(
    page: Page,
    sought: &Sought<'_>,
    now: Timestamp,
    took: Duration,
) -> Result<Message, &'static str> {
    let begin = now.saturating_sub(took + SLACK).map_err(|_| NO_ANSWER)?;
    let end = now.saturating_add(SLACK).map_err(|_| NO_ANSWER)?;
    let created = |message: &Message| instant(message.date_created.as_deref()?);
    // The list goes back in time, so one that reaches before the exchange holds all that came in it.
    let reaches_back = page.messages.iter().filter_map(created).any(|at| at < begin);
    if page.next_page_uri.is_some() && !reaches_back {
        return Err(CUT);
    }
    let mut alike = page.messages.into_iter().filter(|message| {
        message.has_sid()
            && sought.is_as(message)
            && created(message).is_some_and(|at| (begin..=end).contains(&at))
    });
    match (alike.next(), alike.next()) {
        (None, _) => Err(NONE),
        (Some(message), None) => Ok(message),
        (Some(_), Some(_)) => Err(SEVERAL),
    }
}

fn instant(text: &str) -> Option<Timestamp> {
    DateTimeParser::new().parse_timestamp(text.trim()).ok()
}

// === impl Sought ===

impl Sought<'_> {
    /// Whether a message says what this one does.
    fn is_as(&self, message: &Message) -> bool {
        let sender = match self.sender {
            Sender::From(from) => message.from.as_deref() == Some(from),
            Sender::Service(service) => message.messaging_service_sid.as_deref() == Some(service),
            Sender::Nobody => false,
        };
        sender
            && message.direction.as_deref() == Some("outbound-api")
            && message.to.as_deref() == Some(self.to)
            && message.body.as_deref() == Some(self.body)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SERVICE: &str = "MG0123456789abcdef0123456789abcdef";

    fn at(second: u32) -> String {
        format!("Sat, 28 Nov 2026 10:20:{second:02} +0000")
    }

    /// The message that is sought, created at this second.
    fn shown(second: u32) -> Value {
        json!({
            "sid": format!("SM{second:032}"), "status": "queued", "error_code": null, "body": "Hi",
            "direction": "outbound-api", "from": "+15550001111", "to": "+15551230001",
            "messaging_service_sid": SERVICE, "date_created": at(second),
        })
    }

    fn with(mut message: Value, field: &str, value: impl Into<Value>) -> Value {
        message[field] = value.into();
        message
    }

    /// What is found of an exchange that began 5 s before second 30.
    fn found_from(
        sender: Sender<'_>,
        messages: &[Value],
        next: Option<&str>,
    ) -> Result<String, &'static str> {
        let page = json!({"messages": messages, "next_page_uri": next});
        let since = Instant::now();
        let sought = Sought { to: "+15551230001", sender, body: "Hi", since };
        let now = instant(&at(30)).unwrap();
        let page = serde_json::from_value(page).unwrap();
        let found = among(page, &sought, now, Duration::from_secs(5))?;
        Ok(found.date_created.unwrap())
    }

    fn found(messages: &[Value]) -> Result<String, &'static str> {
        found_from(Sender::From("+15550001111"), messages, None)
    }

    #[test]
    fn the_one_message_of_the_exchange_is_found() {
        for second in [23, 25, 30, 32] {
            assert_eq!(found(&[shown(second)]), Ok(at(second)));
        }
        for second in [22, 33] {
            assert_eq!(found(&[shown(second)]), Err(NONE));
        }
        assert_eq!(found(&[]), Err(NONE));
        assert_eq!(found(&[shown(28), shown(10)]), Ok(at(28)));
        assert_eq!(found(&[shown(28), shown(27)]), Err(SEVERAL));
        assert_eq!(found(&[shown(28), with(shown(27), "body", "Ho")]), Ok(at(28)));
    }

    #[test]
    fn one_that_differs_in_anything_is_another() {
        let others = [
            ("body", "Hi "),
            ("body", "Sent from your trial account - Hi"),
            ("to", "+15551230002"),
            ("from", "+15550001112"),
            ("direction", "inbound"),
            ("direction", "outbound-reply"),
            ("date_created", "yesterday"),
            ("sid", "SM1"),
        ];
        for (field, value) in others {
            assert_eq!(found(&[with(shown(28), field, value)]), Err(NONE), "{field}");
        }
        for field in ["body", "to", "from", "direction", "date_created"] {
            assert_eq!(found(&[with(shown(28), field, Value::Null)]), Err(NONE), "{field}");
        }
    }

    #[test]
    fn a_services_message_is_known_by_the_service() {
        let unassigned = with(shown(28), "from", Value::Null);
        assert_eq!(found_from(Sender::Service(SERVICE), &[unassigned], None), Ok(at(28)));
        let other = SERVICE.replace("MG0", "MG1");
        assert_eq!(found_from(Sender::Service(&other), &[shown(28)], None), Err(NONE));
        assert_eq!(found_from(Sender::Nobody, &[shown(28)], None), Err(NONE));
    }

    #[test]
    fn a_list_that_does_not_reach_back_far_enough_says_nothing() {
        let sender = Sender::From("+15550001111");
        assert_eq!(found_from(sender, &[shown(28)], Some("/next")), Err(CUT));
        assert_eq!(found_from(sender, &[shown(28), shown(20)], Some("/next")), Ok(at(28)));
    }

    #[test]
    fn without_twilios_time_nothing_can_be_said() {
        let since = Instant::now();
        let sender = Sender::From("+15550001111");
        let sought = Sought { to: "+15551230001", sender, body: "Hi", since };
        let head = |date: Option<&str>| {
            let response = http::Response::builder();
            let response = match date {
                Some(date) => response.header(DATE, date),
                None => response,
            };
            response.body(()).unwrap().into_parts().0
        };
        let page = json!({"messages": [shown(30)], "next_page_uri": null}).to_string();
        let find = |date, page: &str| find(&head(date), page.as_bytes(), &sought);
        assert!(find(Some("Sat, 28 Nov 2026 10:20:30 GMT"), &page).is_ok());
        for (date, page) in [(None, &*page), (Some("now"), &page), (Some(&at(30)), "{}")] {
            assert_eq!(find(date, page).err(), Some(NO_ANSWER));
        }
    }
}
