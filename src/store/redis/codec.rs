//! How answers and stored records become types, and back.

use std::collections::HashMap;

use redis::Value;

use crate::{
    domain::{
        batch::{Batch, BatchSpec, CallbackState, Counts, FinalCounts},
        ids::BatchId,
        message::FinalState,
        time::UnixMs,
    },
    store::{StoreError, stored},
};

pub(super) fn unexpected(what: &str) -> StoreError {
    StoreError::Unexpected(what.to_owned())
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        Value::Int(number) => Ok(number.to_string().into_bytes()),
        Value::Nil => Ok(Vec::new()),
        other => Err(StoreError::Unexpected(format!("{} where bytes belong", kind(&other)))),
    }
}

pub(super) fn text(value: Value) -> Result<String, StoreError> {
    String::from_utf8(bytes(value)?).map_err(|_| unexpected("a text that is not UTF-8"))
}

pub(super) fn number(value: Value) -> Result<u64, StoreError> {
    match value {
        Value::Int(number) => u64::try_from(number).map_err(|_| unexpected("a negative number")),
        other => text(other)?.parse().map_err(|_| unexpected("a number that is none")),
    }
}

pub(super) fn signed(value: &Value) -> Result<i64, StoreError> {
    match value {
        Value::Int(number) => Ok(*number),
        other => Err(StoreError::Unexpected(format!("{} where a number belongs", kind(other)))),
    }
}

pub(super) fn list(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(values) => Ok(values),
        Value::Nil => Ok(Vec::new()),
        other => Err(StoreError::Unexpected(format!("{} where a list belongs", kind(&other)))),
    }
}

/// A hash as the server sends it: names and values in turn.
pub(super) fn fields(value: Value) -> Result<HashMap<String, Vec<u8>>, StoreError> {
    let values = match value {
        Value::Map(pairs) => pairs.into_iter().flat_map(|(name, value)| [name, value]).collect(),
        other => list(other)?,
    };
    let mut values = values.into_iter();
    let mut fields = HashMap::with_capacity(values.len() / 2);
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        fields.insert(text(name)?, bytes(value)?);
    }
    Ok(fields)
}

/// What was asked for, as a batch's hash tells it.
pub(super) fn spec(fields: &HashMap<String, Vec<u8>>) -> Result<BatchSpec, StoreError> {
    stored::read_spec(fields.get("spec").map_or(&[], Vec::as_slice))
}

/// A batch as its hash tells it; `None` if there is no such hash, or if it was dropped.
pub(super) fn batch(
    id: BatchId,
    fields: &HashMap<String, Vec<u8>>,
) -> Result<Option<Batch>, StoreError> {
    let Some(state) = word(fields, "state").filter(|state| *state != "dropped") else {
        return Ok(None);
    };
    let mut ended = FinalCounts::default();
    for state in FinalState::ALL {
        ended.add(state, count(fields, &format!("n{}", state as u8)));
    }
    ended.add(FinalState::Failed, count(fields, "failed"));
    ended.add(FinalState::Sent, count(fields, "n8"));
    let instant = |name| word(fields, name).and_then(|at| at.parse().ok()).map(UnixMs);
    Ok(Some(Batch {
        id,
        spec: spec(fields)?,
        state: state.parse().map_err(|_| unexpected("a batch in no known state"))?,
        counts: Counts { total: count(fields, "total"), sending: count(fields, "sending"), ended },
        skipped: count(fields, "skipped"),
        started_at: instant("started_ms"),
        completed_at: instant("completed_ms"),
        callback: word(fields, "callback")
            .and_then(|word| word.parse().ok())
            .unwrap_or(CallbackState::Pending),
    }))
}

pub(super) fn word<'a>(fields: &'a HashMap<String, Vec<u8>>, name: &str) -> Option<&'a str> {
    fields.get(name).and_then(|bytes| std::str::from_utf8(bytes).ok())
}

pub(super) fn count(fields: &HashMap<String, Vec<u8>>, name: &str) -> u64 {
    word(fields, name).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Nil => "nothing",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a text",
        Value::Array(_) => "a list",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_batch_is_not_there() {
        let id = BatchId::new(UnixMs(1), 0, 0);
        let dropped = HashMap::from([("state".to_owned(), b"dropped".to_vec())]);
        assert_eq!(batch(id, &dropped).unwrap(), None);
        assert_eq!(batch(id, &HashMap::new()).unwrap(), None);
    }
}
