//! What a batch reports: where to, how it proves who it is, and which events besides the completion.
//!
//! Each of these fields is judged for itself where it stands, and all of them together once the URL
//! is known. Secrets leave here only inside the [`CallbackSpec`]; no fault repeats one.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::{
    Rules,
    authorization::{self, Authorization},
};
use crate::{
    api::json::{Faults, Pointer, elements, text},
    domain::{
        batch::{CallbackSpec, Pace, Wanted},
        signature::SigningSecret,
    },
};

/// The events that can be named.
const EVENTS: [&str; 5] =
    ["batch.completed", "batch.dispatched", "batch.progress", "message.failed", "batch.amended"];

/// The most elements of `events` that are read.
const EVENTS_MAX: usize = 16;

/// How often progress is reported if the client does not say.
const PACE_DEFAULT: Pace = Pace::Percent(10);

/// The longest `progress_every`, in bytes.
const PACE_BYTES_MAX: usize = 32;

/// What `progress_every` may be, in milliseconds: 1 s to 24 h.
const PACE_MS: std::ops::RangeInclusive<u128> = 1_000..=86_400_000;

/// The longest text of a secret, in bytes: what is longer is none.
const SECRET_BYTES_MAX: usize = 256;

/// What was read of a submission's callback fields.
#[derive(Default)]
pub(super) struct Callback<'de> {
    pub(super) url: Option<Cow<'de, str>>,
    pub(super) headers: Vec<(String, String)>,
    secret: Option<String>,
    authorization: Option<Authorization>,
    events: Vec<&'static str>,
    pace: Option<Pace>,
}

// === impl Callback ===

impl Callback<'_> {
    /// Reads `callback_secret`.
    pub(super) fn secret(&mut self, raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) {
        self.secret = signing_secret(raw, at, faults);
    }

    /// Reads `callback_auth`.
    pub(super) fn auth(&mut self, raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) {
        self.authorization = Authorization::read(raw, at, faults);
    }

    /// Reads `events`.
    pub(super) fn events(&mut self, raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) {
        for (index, raw) in (0..).zip(elements(raw, at, EVENTS_MAX, faults)) {
            let at = Pointer::Index(at, index);
            if raw.get() == "null" {
                faults.wrong_type(&at, "a string", "null");
                continue;
            }
            let Some(word) = text(raw, &at, usize::MAX, faults) else { continue };
            match EVENTS.into_iter().find(|event| *event == word) {
                None => {
                    let detail = format_args!("this is one of {}", EVENTS.join(", "));
                    faults.add(&at, "invalid_value", detail);
                }
                Some(event) if self.events.contains(&event) => {
                    faults.add(&at, "duplicate_value", "this event is named twice");
                }
                Some(event) => self.events.push(event),
            }
        }
    }

    /// Reads `progress_every`.
    pub(super) fn progress_every(&mut self, raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) {
        let given = text(raw, at, PACE_BYTES_MAX, faults);
        let Some(given) = given.filter(|given| given.len() <= PACE_BYTES_MAX) else { return };
        match pace(&given) {
            Ok(pace) => self.pace = Some(pace),
            Err(code) => {
                let detail = "this is 1% to 99%, or a duration from 1s to 24h, as in \"30s\"";
                faults.add(at, code, detail);
            }
        }
    }

    /// Judges the fields together. Without a URL there is no callback, and then nothing may be said
    /// of one.
    pub(super) fn judge(
        self,
        rules: &Rules<'_>,
        root: &Pointer<'_>,
        faults: &mut Faults,
    ) -> Option<CallbackSpec> {
        self.judge_auth(root, faults);
        let events = self.wanted(root, faults);
        let Some(url) = self.url.as_deref() else {
            self.judge_without_url(root, faults);
            return None;
        };
        let at = Pointer::Key(root, "callback_url");
        let judged = rules
            .callbacks
            .judge(url)
            .map_err(|forbidden| faults.add(&at, "callback_url_forbidden", forbidden))
            .ok()?;
        let mut headers = self.headers;
        headers.extend(self.authorization.map(Authorization::into_header));
        let (url, host) = (url.to_owned(), judged.host_and_port());
        Some(CallbackSpec { url, host, headers, secret: self.secret, events })
    }

    fn judge_auth(&self, root: &Pointer<'_>, faults: &mut Faults) {
        let mut names = self.headers.iter().map(|(name, _)| name);
        if self.authorization.is_some()
            && names.any(|name| name.eq_ignore_ascii_case(authorization::HEADER))
        {
            let at = Pointer::Key(root, "callback_auth");
            let detail = "callback_headers has an authorization header already";
            faults.add(&at, "invalid_value", detail);
        }
    }

    fn wanted(&self, root: &Pointer<'_>, faults: &mut Faults) -> Wanted {
        let wants = |event: &str| self.events.contains(&event);
        let progress = wants("batch.progress");
        if self.pace.is_some() && !progress {
            let at = Pointer::Key(root, "progress_every");
            faults.add(&at, "invalid_value", "this needs batch.progress among the events");
        }
        Wanted {
            dispatched: wants("batch.dispatched"),
            failures: wants("message.failed"),
            amended: wants("batch.amended"),
            progress: progress.then(|| self.pace.unwrap_or(PACE_DEFAULT)),
        }
    }

    /// Notes what makes no sense without a URL, unless something was wrong with the URL itself.
    fn judge_without_url(&self, root: &Pointer<'_>, faults: &mut Faults) {
        if faults.concern(&Pointer::Key(root, "callback_url")) {
            return;
        }
        for (field, is_given) in [
            ("callback_headers", !self.headers.is_empty()),
            ("callback_secret", self.secret.is_some()),
            ("callback_auth", self.authorization.is_some()),
            ("events", !self.events.is_empty()),
            ("progress_every", self.pace.is_some()),
        ] {
            let at = Pointer::Key(root, field);
            if is_given && !faults.concern(&at) {
                faults.add(&at, "invalid_value", "this needs a callback_url");
            }
        }
    }
}

/// The signing secret at `at`; `None` for `null`, and for what is none after noting it.
pub(in crate::api) fn signing_secret(
    raw: &RawValue,
    at: &Pointer<'_>,
    faults: &mut Faults,
) -> Option<String> {
    let given = text(raw, at, SECRET_BYTES_MAX, faults)?;
    match SigningSecret::parse(&given) {
        Ok(_) => Some(given.into_owned()),
        Err(_) if given.len() > SECRET_BYTES_MAX => None,
        Err(error) => {
            faults.add(at, "invalid_value", error);
            None
        }
    }
}

/// Reads how often progress is reported.
///
/// # Errors
/// The fault's code.
fn pace(text: &str) -> Result<Pace, &'static str> {
    if let Some(percent) = text.strip_suffix('%') {
        let is_plain = !percent.is_empty() && percent.bytes().all(|byte| byte.is_ascii_digit());
        let percent = percent.parse().ok().filter(|percent| is_plain && (1..=99).contains(percent));
        return percent.map(Pace::Percent).ok_or(code(is_plain));
    }
    let every = humantime::parse_duration(text).map_err(|_| code(false))?.as_millis();
    let every_ms = u64::try_from(every).ok().filter(|_| PACE_MS.contains(&every));
    every_ms.map(Pace::Every).ok_or(code(true))
}

fn code(is_quantity: bool) -> &'static str {
    if is_quantity { "out_of_range" } else { "invalid_value" }
}
