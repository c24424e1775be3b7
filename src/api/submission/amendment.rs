//! Reads the body of `PATCH /v1/batches/{id}`: what of a batch is to be another way. What is not
//! named stays as it is; `null` takes a time away.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess};

use super::{Refusal, Rules, document, schedule};
use crate::{
    api::json::{self, Expect, Faults, Key, Pointer, instant, next_text},
    domain::{batch::BatchSpec, time::UnixMs},
};

const FIELDS: [&str; 3] = ["body", "send_at", "expire_at"];

/// What was read.
#[derive(Default)]
struct Amendment {
    /// Which of [`FIELDS`] were named.
    seen: [bool; FIELDS.len()],
    body: Option<String>,
    send_at: Option<UnixMs>,
    expire_at: Option<UnixMs>,
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
    let Amendment { seen: [body_seen, send_at_seen, expire_at_seen], body, send_at, expire_at } =
        amendment;
    if body_seen {
        document::judge_body(body.as_deref(), &root, &mut faults);
        spec.body = body.unwrap_or_default();
    }
    if send_at_seen {
        spec.send_at = send_at;
    }
    if expire_at_seen {
        spec.expire_at = expire_at;
    }
    schedule::judge(spec.send_at, spec.expire_at, rules.now, &root, &mut faults);
    if faults.is_empty() { Ok(spec) } else { Err(Refusal::Fields(faults.into_errors())) }
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
                faults.add(&at, "unknown_field", "only body, send_at and expire_at can be changed");
                members.next_value::<IgnoredAny>()?;
                continue;
            };
            if std::mem::replace(&mut amendment.seen[field], true) {
                faults.add(&at, "duplicate_field", "this field is given twice");
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let text = next_text(&mut members, &at, document::BODY_BYTES_MAX, faults)?;
            let mut read = |text: Option<Cow<'_, str>>| instant(&text?, &at, faults);
            match FIELDS[field] {
                "send_at" => amendment.send_at = read(text),
                "expire_at" => amendment.expire_at = read(text),
                _ => amendment.body = text.map(Cow::into_owned),
            }
        }
        Ok(())
    }
}
