//! The submission's outermost object: its fields one by one, and what they come to together.

use std::{borrow::Cow, num::NonZeroU8};

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;

use super::{
    REFERENCE_BYTES_MAX, Rules,
    callback::Callback,
    metadata,
    pace::{self, Window},
    recipients::{Recipients, Sink},
    schedule, texts,
    variables::{Pairs, Variables},
};
use crate::{
    api::{
        json::{Expect, Faults, Headers, Key, Place, Pointer, instant, next_text},
        model::{Duplicates, OnInvalid},
    },
    domain::{
        batch::{BatchSpec, DeliveryGuarantee, Priority},
        template::Template,
        time::UnixMs,
        units::Rate,
    },
};

/// The longest body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 16 * 1024;

/// The longest sender, in bytes.
const FROM_BYTES_MAX: usize = 64;

/// The fields this version knows, and how each is read.
const FIELDS: [(&str, Field); 23] = [
    ("from", Field::From),
    ("body", Field::Body),
    ("recipients", Field::Recipients),
    ("variables", Field::Variables),
    ("callback_url", Field::CallbackUrl),
    ("callback_headers", Field::CallbackHeaders),
    ("callback_secret", Field::CallbackSecret),
    ("callback_auth", Field::CallbackAuth),
    ("events", Field::Events),
    ("progress_every", Field::ProgressEvery),
    ("provider", Field::Provider),
    ("reference", Field::Reference),
    ("metadata", Field::Metadata),
    ("on_invalid", Field::OnInvalid),
    ("priority", Field::Priority),
    ("delivery_guarantee", Field::Guarantee),
    ("send_at", Field::SendAt),
    ("expire_at", Field::ExpireAt),
    ("duplicates", Field::Duplicates),
    ("rate", Field::Rate),
    ("quiet_hours", Field::QuietHours),
    ("smart_encoding", Field::SmartEncoding),
    ("max_segments", Field::MaxSegments),
];

#[derive(Clone, Copy)]
enum Field {
    From,
    Body,
    Recipients,
    Variables,
    CallbackUrl,
    CallbackHeaders,
    CallbackSecret,
    CallbackAuth,
    Events,
    ProgressEvery,
    Provider,
    Reference,
    Metadata,
    OnInvalid,
    SendAt,
    ExpireAt,
    Priority,
    Duplicates,
    Rate,
    QuietHours,
    Guarantee,
    SmartEncoding,
    MaxSegments,
}

/// What was read of a submission, but for its recipients.
#[derive(Default)]
pub(super) struct Document<'de> {
    /// Whether it is an object at all.
    pub(super) is_object: bool,
    seen: [bool; FIELDS.len()],
    from: Option<Cow<'de, str>>,
    body: Option<Cow<'de, str>>,
    variables: Pairs<'de>,
    callback: Callback<'de>,
    provider: Option<Cow<'de, str>>,
    reference: Option<Cow<'de, str>>,
    metadata: Option<&'de str>,
    pub(super) on_invalid: OnInvalid,
    pub(super) duplicates: Duplicates,
    send_at: Option<UnixMs>,
    expire_at: Option<UnixMs>,
    priority: Priority,
    rate: Option<Rate>,
    quiet_hours: Option<Window>,
    guarantee: DeliveryGuarantee,
    smart_encoding: bool,
    segments_max: Option<NonZeroU8>,
}

/// The place of the submission.
pub(super) struct Root<'r, 'de> {
    pub(super) at: &'r Pointer<'r>,
    pub(super) document: &'r mut Document<'de>,
    /// Where the recipients go; `None` if they are no part of this document, but follow it.
    pub(super) sink: Option<&'r mut Sink>,
    pub(super) faults: &'r mut Faults,
}

// === impl Root ===

impl<'de> Expect<'de> for Root<'_, 'de> {
    fn wrong(self, found: &'static str) {
        self.faults.wrong_type(self.at, "an object", found);
    }

    fn object<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        self.document.is_object = true;
        while let Some(name) = members.next_key_seed(Key)? {
            let at = Pointer::Key(self.at, &name);
            let Some(field) = FIELDS.iter().position(|(field, _)| *field == name) else {
                self.faults.add(&at, "unknown_field", "there is no such field");
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut self.document.seen[field], true) {
                self.faults.add(&at, "duplicate_field", "this field is given twice");
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            self.field(FIELDS[field].1, at, &mut members)?;
        }
        Ok(())
    }
}

impl<'de> Root<'_, 'de> {
    fn field<A: MapAccess<'de>>(
        &mut self,
        field: Field,
        at: Pointer<'_>,
        members: &mut A,
    ) -> Result<(), A::Error> {
        let (document, faults) = (&mut *self.document, &mut *self.faults);
        match field {
            Field::From => document.from = next_text(members, &at, FROM_BYTES_MAX, faults)?,
            Field::Body => document.body = next_text(members, &at, BODY_BYTES_MAX, faults)?,
            Field::CallbackUrl => {
                document.callback.url = next_text(members, &at, usize::MAX, faults)?;
            }
            Field::Provider => document.provider = next_text(members, &at, usize::MAX, faults)?,
            Field::Reference => {
                document.reference = next_text(members, &at, REFERENCE_BYTES_MAX, faults)?;
            }
            Field::Recipients => {
                if let Some(sink) = &mut self.sink {
                    members.next_value_seed(Place(Recipients { at, sink, faults }))?;
                } else {
                    faults.add(&at, "unknown_field", "here the recipients follow, one a line");
                    members.next_value::<IgnoredAny>()?;
                }
            }
            Field::Variables => {
                let pairs = &mut document.variables;
                members.next_value_seed(Place(Variables { at, pairs, faults }))?;
            }
            Field::CallbackHeaders => {
                let pairs = &mut document.callback.headers;
                members.next_value_seed(Place(Headers { at, pairs, faults }))?;
            }
            Field::CallbackSecret => document.callback.secret(members.next_value()?, &at, faults),
            Field::CallbackAuth => document.callback.auth(members.next_value()?, &at, faults),
            Field::Events => document.callback.events(members.next_value()?, &at, faults),
            Field::ProgressEvery => {
                document.callback.progress_every(members.next_value()?, &at, faults);
            }
            Field::Metadata => {
                let raw: &RawValue = members.next_value()?;
                metadata::check(raw, &at, faults);
                document.metadata = Some(raw.get());
            }
            Field::OnInvalid => {
                let word = next_text(members, &at, usize::MAX, faults)?;
                document.on_invalid = on_invalid(word.as_deref(), &at, faults);
            }
            Field::SendAt => {
                let text = next_text(members, &at, usize::MAX, faults)?;
                document.send_at = text.and_then(|text| instant(&text, &at, faults));
            }
            Field::ExpireAt => {
                let text = next_text(members, &at, usize::MAX, faults)?;
                document.expire_at = text.and_then(|text| instant(&text, &at, faults));
            }
            Field::Priority => {
                let word = next_text(members, &at, usize::MAX, faults)?;
                match word.as_deref().map_or(Ok(Priority::default()), str::parse) {
                    Ok(priority) => document.priority = priority,
                    Err(_) => faults.add(&at, "invalid_value", "this is high, normal or low"),
                }
            }
            Field::Duplicates => {
                let word = next_text(members, &at, usize::MAX, faults)?;
                document.duplicates = match word.as_deref() {
                    None | Some("keep") => Duplicates::Keep,
                    Some("skip") => Duplicates::Skip,
                    Some(_) => {
                        faults.add(&at, "invalid_value", "this is keep or skip");
                        Duplicates::Keep
                    }
                };
            }
            Field::Rate => {
                let text = next_text(members, &at, usize::MAX, faults)?;
                document.rate = text.and_then(|text| pace::rate(&text, &at, faults));
            }
            Field::QuietHours => {
                document.quiet_hours = Window::read(members.next_value()?, &at, faults);
            }
            Field::SmartEncoding => {
                document.smart_encoding = texts::smart_encoding(members.next_value()?, &at, faults);
            }
            Field::MaxSegments => {
                document.segments_max = texts::segments_max(members.next_value()?, &at, faults);
            }
            Field::Guarantee => {
                let word = next_text(members, &at, usize::MAX, faults)?;
                match word.as_deref().map_or(Ok(DeliveryGuarantee::default()), str::parse) {
                    Ok(guarantee) => document.guarantee = guarantee,
                    Err(_) => {
                        faults.add(&at, "invalid_value", "this is at_least_once or at_most_once");
                    }
                }
            }
        }
        Ok(())
    }
}

// === impl Document ===

impl Document<'_> {
    /// Whether a field was given.
    pub(super) fn gives(&self, field: &str) -> bool {
        FIELDS.iter().zip(&self.seen).any(|((name, _), seen)| *seen && *name == field)
    }

    /// Judges the fields together, and gives what the client asks for if all is well. The document
    /// is the one at `root`.
    pub(super) fn into_spec(
        self,
        rules: &Rules<'_>,
        root: &Pointer<'_>,
        faults: &mut Faults,
    ) -> BatchSpec {
        judge_body(self.body.as_deref(), root, faults);
        let provider = self.judge_provider(rules, root, faults);
        self.judge_from(&provider, rules, root, faults);
        schedule::judge(self.send_at, self.expire_at, rules.now, root, faults);
        let pairs = self.variables.into_iter();
        BatchSpec {
            account: rules.account.to_owned(),
            provider,
            from: self.from.map(Cow::into_owned),
            body: self.body.map(Cow::into_owned).unwrap_or_default(),
            variables: pairs.map(|(name, value)| (name.into(), value.into())).collect(),
            callback: self.callback.judge(rules, root, faults),
            reference: self.reference.map(Cow::into_owned),
            metadata: self.metadata.map(str::to_owned),
            send_at: self.send_at,
            expire_at: self.expire_at,
            priority: self.priority,
            parent: None,
            rate: self.rate,
            quiet_hours: self.quiet_hours.map(|window| window.resolve(rules.now)),
            guarantee: self.guarantee,
            smart_encoding: self.smart_encoding,
            segments_max: self.segments_max,
        }
    }

    fn judge_provider(&self, rules: &Rules<'_>, root: &Pointer<'_>, faults: &mut Faults) -> String {
        let provider = self.provider.as_deref().unwrap_or(rules.default_provider);
        let at = Pointer::Key(root, "provider");
        if !rules.providers.contains_key(provider) && !faults.concern(&at) {
            faults.add(&at, "unknown_provider", "no such provider is configured");
        }
        provider.to_owned()
    }

    fn judge_from(
        &self,
        provider: &str,
        rules: &Rules<'_>,
        root: &Pointer<'_>,
        faults: &mut Faults,
    ) {
        let at = Pointer::Key(root, "from");
        match self.from.as_deref() {
            None => {
                let facts = rules.providers.get(provider);
                if facts.is_some_and(|facts| facts.needs_from && !facts.has_default_from) {
                    faults.missing("from", root);
                }
            }
            Some(from) if from.is_empty() || !from.bytes().all(|byte| byte.is_ascii_graphic()) => {
                let detail =
                    format_args!("a sender is 1 to {FROM_BYTES_MAX} visible ASCII characters");
                faults.add(&at, "invalid_value", detail);
            }
            Some(_) => {}
        }
    }
}

/// Judges the text of every message.
pub(super) fn judge_body(body: Option<&str>, root: &Pointer<'_>, faults: &mut Faults) {
    let at = Pointer::Key(root, "body");
    match body {
        None if faults.concern(&at) => {}
        None => faults.missing("body", root),
        Some("") => faults.add(&at, "empty", "a message needs a text"),
        Some(body) if body.len() > BODY_BYTES_MAX => {}
        Some(body) => {
            if let Err(error) = Template::compile(body) {
                faults.add(&at, "template_invalid", error);
            }
        }
    }
}

fn on_invalid(word: Option<&str>, at: &Pointer<'_>, faults: &mut Faults) -> OnInvalid {
    match word {
        None | Some("fail_message") => OnInvalid::FailMessage,
        Some("reject_batch") => OnInvalid::RejectBatch,
        Some(_) => {
            faults.add(at, "invalid_value", "this is fail_message or reject_batch");
            OnInvalid::FailMessage
        }
    }
}
