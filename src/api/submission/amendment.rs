//! Reads the body of `PATCH /v1/batches/{id}`: what of a batch is to be another way. What is not
//! named stays as it is; `null` takes a time or a limit away.

use std::{borrow::Cow, num::NonZeroU8};

use serde::de::{IgnoredAny, MapAccess};
use serde_json::value::RawValue;

use super::{Refusal, Rules, document, schedule, texts};
use crate::{
    api::json::{self, Expect, Faults, Key, Pointer, instant, text},
    domain::{batch::BatchSpec, time::UnixMs},
};

const FIELDS: [&str; 5] = ["body", "send_at", "expire_at", "smart_encoding", "max_segments"];

/// What was read.
#[derive(Default)]
struct Amendment {
    /// Which of [`FIELDS`] were named.
    seen: [bool; FIELDS.len()],
    body: Option<String>,
    send_at: Option<UnixMs>,
    expire_at: Option<UnixMs>,
    smart_encoding: bool,
    segments_max: Option<NonZeroU8>,
}

/// The place of the amendment.
struct Root<'r> {
    amendment: &'r mut Amendment,
    faults: &'r mut Faults,
}

/// The batch as `body`, a JSON document, wants `spec` to be.
///
/// # Errors
/// [`Refusal`], with everything that is wrong.
pub(in crate::api) fn amended(
    body: &[u8],
    mut spec: BatchSpec,
    rules: &Rules<'_>,
) -> Result<BatchSpec, Refusal> {
    let (root, mut faults, mut amendment) =
        (Pointer::Root, Faults::default(), Amendment::default());
    let place = Root { amendment: &mut amendment, faults: &mut faults };
    json::read(body, place).map_err(|flaw| Refusal::Syntax(flaw.to_string()))?;
    let [body_seen, send_at_seen, expire_at_seen, smart_seen, segments_seen] = amendment.seen;
    if body_seen {
        document::judge_body(amendment.body.as_deref(), &root, &mut faults);
        spec.body = amendment.body.unwrap_or_default();
    }
    if send_at_seen {
        spec.send_at = amendment.send_at;
    }
    if expire_at_seen {
        spec.expire_at = amendment.expire_at;
    }
    if smart_seen {
        spec.smart_encoding = amendment.smart_encoding;
    }
    if segments_seen {
        spec.segments_max = amendment.segments_max;
    }
    schedule::judge(spec.send_at, spec.expire_at, rules.now, &root, &mut faults);
    if faults.is_empty() { Ok(spec) } else { Err(Refusal::Fields(faults.into_errors())) }
}

// === impl Amendment ===

impl Amendment {
    fn read(&mut self, field: &str, raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) {
        match field {
            "smart_encoding" => self.smart_encoding = texts::smart_encoding(raw, at, faults),
            "max_segments" => self.segments_max = texts::segments_max(raw, at, faults),
            "body" => {
                let text = text(raw, at, document::BODY_BYTES_MAX, faults);
                self.body = text.map(Cow::into_owned);
            }
            "send_at" => self.send_at = time(raw, at, faults),
            _ => self.expire_at = time(raw, at, faults),
        }
    }
}

// === impl Root ===

impl<'de> Expect<'de> for Root<'_> {
    fn wrong(self, found: &'static str) {
        self.faults.wrong_type(&Pointer::Root, "an object", found);
    }

    fn object<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { amendment, faults } = self;
        while let Some(name) = members.next_key_seed(Key)? {
            let at = Pointer::Key(&Pointer::Root, &name);
            let Some(field) = FIELDS.iter().position(|field| *field == name) else {
                let known = FIELDS.join(", ");
                faults.add(&at, "unknown_field", format_args!("what can be changed is {known}"));
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut amendment.seen[field], true) {
                faults.add(&at, "duplicate_field", "this field is given twice");
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            amendment.read(FIELDS[field], members.next_value()?, &at, faults);
        }
        Ok(())
    }
}

fn time(raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) -> Option<UnixMs> {
    let text = text(raw, at, usize::MAX, faults);
    text.and_then(|text| instant(&text, at, faults))
}
