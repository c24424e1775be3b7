//! `--estimate`: what the server says the list would come to. Nothing is sent.

use std::fmt::Write;

use crate::{
    api::model::{Estimate, Unsendable},
    cli::{
        Failure, print,
        table::{self, Table},
    },
};

/// How many messages of a kind are named.
const INDEXES_SHOWN: usize = 10;

/// Tells of an estimate.
///
/// # Errors
/// [`Failure::Silent`] if there are messages that would not be sent.
pub(super) fn tell(estimate: &Estimate, json: bool) -> Result<(), Failure> {
    print(&if json { table::json_line(estimate)? } else { text(estimate) })?;
    let all_go = unsendable(estimate).iter().all(|(_, messages)| messages.count == 0);
    if all_go { Ok(()) } else { Err(Failure::Silent) }
}

/// The messages that would not be sent, by the reason.
fn unsendable(estimate: &Estimate) -> [(&'static str, &Unsendable); 5] {
    [
        ("with an invalid number", &estimate.invalid_recipients),
        ("who have opted out", &estimate.opted_out_recipients),
        ("without a value for a variable", &estimate.missing_variables),
        ("with a text above 16 KiB", &estimate.too_long),
        ("with too many segments", &estimate.too_many_segments),
    ]
}

fn text(estimate: &Estimate) -> String {
    let mut pairs = vec![
        ("provider", estimate.provider.clone()),
        ("messages", table::number(estimate.messages)),
        ("in GSM-7", table::number(estimate.encodings.gsm7)),
        ("in UCS-2", table::number(estimate.encodings.ucs2)),
    ];
    let unsendable = unsendable(estimate);
    pairs.extend(unsendable.map(|(reason, messages)| (reason, table::number(messages.count))));
    let cost = estimate.cost.as_ref().map(|cost| format!("{} {}", cost.amount, cost.currency));
    pairs.extend([
        ("to a number that was there before", table::number(estimate.duplicate_recipients)),
        ("segments", table::number(estimate.segments)),
        ("over at", estimate.finish_at.as_deref().map_or_else(unknown, table::instant)),
        ("cost", cost.unwrap_or_else(unknown)),
    ]);
    let mut text = Table::of_pairs(pairs).text();
    // Writing to a string can't fail.
    for (reason, messages) in unsendable.iter().filter(|(_, messages)| messages.count > 0) {
        let named: Vec<_> =
            messages.indexes.iter().take(INDEXES_SHOWN).map(ToString::to_string).collect();
        let _ = write!(text, "\n{reason}, counted from 0: {}", named.join(", "));
        let further = messages.count - named.len() as u64;
        if further > 0 {
            let _ = write!(text, " and {} more", table::number(further));
        }
    }
    if unsendable.iter().any(|(_, messages)| messages.count > 0) {
        text.push('\n');
    }
    text + "\nNothing was sent: this was an estimate.\n"
}

/// What stands where nothing can be said.
fn unknown() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::model::{Cost, Encodings};

    fn estimate() -> Estimate {
        Estimate {
            provider: "carrier".into(),
            messages: 20_000,
            segments: 30_000,
            encodings: Encodings { gsm7: 19_000, ucs2: 980 },
            invalid_recipients: Unsendable { count: 20, indexes: (5..25).collect() },
            opted_out_recipients: Unsendable::default(),
            duplicate_recipients: 7,
            missing_variables: Unsendable::default(),
            too_long: Unsendable::default(),
            too_many_segments: Unsendable::default(),
            finish_at: Some("2026-11-23T20:16:46.971Z".into()),
            cost: Some(Cost { amount: "237.0000".into(), currency: "USD".into() }),
        }
    }

    #[test]
    fn all_is_told_and_the_first_messages_that_would_not_go() {
        let text = text(&estimate());
        for told in [
            "messages                           20,000\n",
            "in UCS-2                           980\n",
            "with an invalid number             20\n",
            "to a number that was there before  7\n",
            "over at                            2026-11-23 20:16:46Z\n",
            "cost                               237.0000 USD\n",
            "\nwith an invalid number, counted from 0: 5, 6, 7, 8, 9, 10, 11, 12, 13, 14 and 10 more\n",
        ] {
            assert!(text.contains(told), "{told:?} is not in\n{text}");
        }
        assert!(text.ends_with("\nNothing was sent: this was an estimate.\n"));
    }

    #[test]
    fn what_can_not_be_said_is_a_dash() {
        let text = text(&Estimate { finish_at: None, cost: None, ..estimate() });
        assert_eq!(text.lines().filter(|line| line.ends_with("  -")).count(), 2, "{text}");
    }

    #[test]
    fn each_reason_ends_it_with_1_and_none_with_0() {
        let one = || Unsendable { count: 1, indexes: vec![3] };
        let nothing = || Estimate { invalid_recipients: Unsendable::default(), ..estimate() };
        assert!(tell(&nothing(), true).is_ok());
        for wrong in [
            estimate(),
            Estimate { opted_out_recipients: one(), ..nothing() },
            Estimate { missing_variables: one(), ..nothing() },
            Estimate { too_long: one(), ..nothing() },
            Estimate { too_many_segments: one(), ..nothing() },
        ] {
            assert!(matches!(tell(&wrong, true), Err(Failure::Silent)));
        }
    }
}
