//! What is judged of the rates below a provider's own: of its senders, and of prefixes.

use super::{CommonSettings, InvalidSettings};
use crate::domain::prefixes;

/// The most senders of a pool, and the most prefixes: each may have a clock of its own in the store.
const SENDERS_MAX: usize = 1_000;
const PREFIXES_MAX: usize = 1_000;

/// The longest sender, in bytes, as of a batch.
const SENDER_BYTES_MAX: usize = 64;

pub(super) fn judge(common: &CommonSettings) -> Result<(), InvalidSettings> {
    judge_senders(common).map_err(|reason| InvalidSettings::new("senders", reason))?;
    judge_prefixes(common).map_err(|reason| InvalidSettings::new("prefix_rates", reason))
}

fn judge_senders(common: &CommonSettings) -> Result<(), String> {
    let senders = &common.senders;
    if senders.len() > SENDERS_MAX {
        return Err(format!("give at most {SENDERS_MAX} senders"));
    }
    if common.from.is_some() && !senders.is_empty() {
        return Err("give senders or a `from`, not both".to_owned());
    }
    for (nth, sender) in senders.iter().enumerate() {
        let is_sender = (1..=SENDER_BYTES_MAX).contains(&sender.len())
            && sender.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_sender {
            let form = format!("1 to {SENDER_BYTES_MAX} visible ASCII characters");
            return Err(format!("number {} is no sender: {form}", nth + 1));
        }
        if senders[..nth].contains(sender) {
            return Err(format!("{sender} is there twice"));
        }
    }
    Ok(())
}

fn judge_prefixes(common: &CommonSettings) -> Result<(), String> {
    if common.prefix_rates.len() > PREFIXES_MAX {
        return Err(format!("give at most {PREFIXES_MAX} prefixes"));
    }
    common
        .prefix_rates
        .keys()
        .try_for_each(|prefix| prefixes::check(prefix).map_err(|why| format!("{prefix:?} {why}")))
}
