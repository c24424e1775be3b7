//! The attempts at one callback, for people.

use std::time::Duration;

use crate::{
    api::model::{AttemptList, AttemptResource},
    cli::table::{self, Side, Table},
};

/// The attempts as rows, and when the next one is due.
pub(super) fn text(list: &AttemptList) -> String {
    let (left, right) = (Side::Left, Side::Right);
    let columns =
        [("no", right), ("at", left), ("status", right), ("took", right), ("result", left)];
    let mut table = Table::new(&columns);
    for attempt in &list.attempts {
        table.row([
            attempt.number.to_string(),
            table::instant(&attempt.at),
            attempt.status.map_or_else(|| "-".to_owned(), |status| status.to_string()),
            table::duration(Duration::from_millis(attempt.latency_ms)),
            result(attempt),
        ]);
    }
    let rows = if list.attempts.is_empty() { String::new() } else { table.text() };
    match &list.next_attempt_at {
        Some(at) => format!("{rows}The next attempt is due at {}.\n", table::instant(at)),
        None => rows,
    }
}

/// Why it failed, or the beginning of what was answered.
fn result(attempt: &AttemptResource) -> String {
    const SHOWN_CHARS_MAX: usize = 80;
    if let Some(error) = &attempt.error {
        return error.clone();
    }
    let answer = attempt.answer.as_deref().unwrap_or_default();
    let answer = answer.split_whitespace().collect::<Vec<_>>().join(" ");
    match answer.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &answer[..end]),
        None => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(status: Option<u16>, answer: Option<&str>, error: Option<&str>) -> AttemptResource {
        AttemptResource {
            number: 1,
            at: "2026-11-23T20:23:28.254Z".into(),
            status,
            latency_ms: 1_240,
            answer: answer.map(str::to_owned),
            error: error.map(str::to_owned),
        }
    }

    #[test]
    fn attempts_are_rows_and_the_next_one_is_named() {
        let list = AttemptList {
            attempts: vec![
                attempt(None, None, Some("could not connect")),
                attempt(Some(200), Some("all\n well"), None),
            ],
            next_attempt_at: Some("2026-11-23T20:23:32.926Z".into()),
        };
        assert_eq!(
            text(&list),
            "NO  AT                    STATUS  TOOK  RESULT\n \
             1  2026-11-23 20:23:28Z       -  1.2s  could not connect\n \
             1  2026-11-23 20:23:28Z     200  1.2s  all well\n\
             The next attempt is due at 2026-11-23 20:23:32Z.\n"
        );
    }

    #[test]
    fn a_long_answer_is_cut_between_characters() {
        let long = "é".repeat(4_096);
        let shown = result(&attempt(Some(500), Some(&long), None));
        assert_eq!(shown.chars().count(), 81);
    }
}
