//! `POST /v1/batches` as one JSON document.

use std::{collections::BTreeSet, fmt, fmt::Write};

use ringback::{
    api::fuzzing::{Batch, Recipient, Refused, document},
    domain::template::Template,
    store::fuzzing::{spec, stored},
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Value, json, value::RawValue};

/// What is accepted is JSON without a key that is given twice, means the same when it is written anew,
/// and has a text that can be rendered. What is refused is refused with places and words.
pub(crate) fn check(body: &[u8]) {
    let read = document(body);
    if read != Err(Refused::Syntax) {
        assert!(serde_json::from_slice::<IgnoredAny>(body).is_ok(), "what is no JSON was read");
    }
    match read {
        Ok(batch) => check_accepted(body, &batch),
        Err(refused) => check_refused(&refused),
    }
}

/// The errors of a refusal are some, not too many, and each has its place.
pub(crate) fn check_refused(refused: &Refused) {
    let Refused::Fields(errors) = refused else { return };
    assert!((1..=100).contains(&errors.len()), "{errors:?}");
    for (pointer, code) in errors {
        assert!(pointer.is_empty() || pointer.starts_with('/'), "{pointer}");
        let is_word = code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(is_word && !code.is_empty(), "{code}");
    }
}

fn check_accepted(body: &[u8], batch: &Batch) {
    // The parser that looks for them knows no bound of its own, but Rust's stack does.
    if serde_json::from_slice::<Value>(body).is_ok() {
        let once = serde_json::from_slice::<Once>(body);
        assert!(once.is_ok(), "a key is there twice: {:?}", once.err());
    }
    Template::compile(batch.spec.body.as_str()).expect("a text that was accepted");
    assert!(!batch.spec.body.contains('\0'));
    for recipient in &batch.recipients {
        assert!(!recipient.to.contains('\0') && recipient.to.len() <= 64 * 1024);
    }
    assert_eq!(spec(&stored(&batch.spec)).as_ref(), Some(&batch.spec), "as it is stored");
    let again = document(written(batch).as_bytes());
    // The callback's fields, times and quiet hours are not written here.
    let known = |batch: &Batch| {
        let spec = &batch.spec;
        let texts = (spec.body.clone(), spec.from.clone(), spec.reference.clone());
        (texts, spec.variables.clone(), spec.metadata.clone(), batch.recipients.clone())
    };
    assert_eq!(again.as_ref().map(known), Ok(known(batch)));
    assert_eq!(again.map(|again| again.invalid), Ok(batch.invalid));
}

/// A batch as a document.
fn written(batch: &Batch) -> String {
    let spec = &batch.spec;
    let settings = json!({
        "provider": spec.provider, "from": spec.from, "body": spec.body,
        "variables": spec.variables, "reference": spec.reference
    });
    let mut text = settings.to_string();
    text.truncate(text.len() - 1);
    if let Some(metadata) = &spec.metadata {
        write!(text, ",\"metadata\":{metadata}").unwrap();
    }
    let recipients: Vec<_> = batch.recipients.iter().map(line).collect();
    write!(text, ",\"recipients\":[{}]}}", recipients.join(",")).unwrap();
    text
}

/// A recipient as JSON.
pub(crate) fn line(recipient: &Recipient) -> String {
    let mut variables: Vec<String> = Vec::new();
    for (name, value) in &recipient.variables {
        variables.push(format!("{}:{}", json!(name), json!(value)));
    }
    let (to, reference) = (json!(recipient.to), json!(recipient.reference));
    format!("{{\"to\":{to},\"reference\":{reference},\"variables\":{{{}}}}}", variables.join(","))
}

/// Any JSON whose objects have each key once.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A number may be one that no type holds: it is read over as it is.
        let raw = <&RawValue>::deserialize(deserializer)?;
        if !raw.get().starts_with(['{', '[']) {
            return Ok(Self);
        }
        let mut inside = serde_json::Deserializer::from_str(raw.get());
        inside.deserialize_any(Keys).map_err(D::Error::custom)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Once, A::Error> {
        let mut seen = BTreeSet::new();
        while let Some((key, _)) = members.next_entry::<String, Once>()? {
            if let Some(twice) = seen.replace(key) {
                return Err(A::Error::custom(twice));
            }
        }
        Ok(Once)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Once, A::Error> {
        while elements.next_element::<Once>()?.is_some() {}
        Ok(Once)
    }
}
