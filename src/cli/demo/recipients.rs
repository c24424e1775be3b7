//! Whom the demo writes to: numbers that nobody has, made up as they are read.

use std::{fmt::Write, io};

use bytes::Bytes;
use futures_util::{Stream, stream};

/// How many recipients make a piece.
const PIECE: u64 = 1_000;

/// What they are called.
const NAMES: [&str; 6] = ["Ann", "Ben", "Chidi", "Dana", "Emre", "Fumiko"];

/// How many of `messages` go to a recipient that is no phone number: the last one, unless it is the
/// only one.
pub(super) fn invalid(messages: u64) -> u64 {
    u64::from(messages > 1)
}

/// The recipients as NDJSON, piece by piece.
pub(super) fn lines(messages: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let pieces = (0..messages.div_ceil(PIECE)).map(move |piece| {
        let first = piece * PIECE;
        Ok(lines_of(first, messages.min(first + PIECE), messages))
    });
    stream::iter(pieces)
}

fn lines_of(first: u64, end: u64, messages: u64) -> Bytes {
    let mut lines = String::new();
    for index in first..end {
        // Writing to a string can't fail.
        let _ = if index >= messages - invalid(messages) {
            writeln!(lines, "\"12\"")
        } else {
            let (name, code) = (name(index), code(index));
            writeln!(
                lines,
                r#"{{"to":"+1555{index:07}","variables":{{"name":"{name}","code":"{code}"}}}}"#
            )
        };
    }
    lines.into()
}

fn name(index: u64) -> &'static str {
    usize::try_from(index).map_or(NAMES[0], |index| NAMES[index % NAMES.len()])
}

/// Six digits.
fn code(index: u64) -> u64 {
    100_000 + index.wrapping_mul(7_919) % 900_000
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use futures_util::{StreamExt, TryStreamExt};
    use serde_json::{Value, json};

    use super::*;

    async fn all(messages: u64) -> Vec<Value> {
        let pieces: Vec<Bytes> = lines(messages).try_collect().await.unwrap();
        let lines = pieces.concat();
        let lines = std::str::from_utf8(&lines).unwrap().lines();
        lines.map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn each_has_a_number_and_variables_but_the_last() {
        assert!(all(0).await.is_empty());
        assert_eq!(all(1).await[0]["to"], "+15550000000");
        let many = all(2 * PIECE + 1).await;
        assert_eq!(many.len(), 2_001);
        assert_eq!(many[2_000], json!("12"));
        let numbers: HashSet<_> =
            many[..2_000].iter().map(|line| line["to"].as_str().unwrap()).collect();
        assert_eq!(numbers.len(), 2_000);
        assert_eq!(
            many[1],
            json!({"to": "+15550000001", "variables": {"name": "Ben", "code": "107919"}})
        );
    }

    #[tokio::test]
    async fn a_piece_is_of_one_size_whatever_the_number() {
        let pieces: Vec<_> = lines(100_000_000).take(2).try_collect().await.unwrap();
        assert!(pieces.iter().all(|piece: &Bytes| piece.len() < 128 << 10));
    }

    #[test]
    fn codes_have_six_digits() {
        assert!((0..100_000).chain([u64::MAX]).all(|index| code(index).to_string().len() == 6));
    }
}
