//! When a provider counts as away, and who stands in for it: the keys `fallback` and `breaker` of its
//! table.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CommonSettings, registry::InvalidSettings};
use crate::domain::units::span;

/// When a provider counts as away, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// After so many failures in a row.
    pub failures: u32,
    /// For how long. Then one message at a time tries whether it is back.
    #[serde(with = "span")]
    pub cool_down: Duration,
}

/// The longest time a provider is left alone before it is tried again: as with a pause, what waits for its
/// end is parked.
const COOL_DOWN_MAX: Duration = super::PAUSE_MAX;

/// The shortest. What failed to find out whether the provider is back leaves otherwise before the next try.
const COOL_DOWN_MIN: Duration = Duration::from_secs(1);

// === impl BreakerSettings ===

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, cool_down: Duration::from_secs(30) }
    }
}

impl BreakerSettings {
    /// Judges the values.
    pub(super) fn judge(self) -> Result<(), InvalidSettings> {
        if self.failures == 0 {
            return Err(InvalidSettings::new("breaker.failures", "give a number of at least 1"));
        }
        if !(COOL_DOWN_MIN..=COOL_DOWN_MAX).contains(&self.cool_down) {
            let reason = "give a duration from 1s to 10m";
            return Err(InvalidSettings::new("breaker.cool_down", reason));
        }
        Ok(())
    }
}

/// What is wrong with the fallback of the provider `name`, if anything is: it must be another provider that
/// is there, and going from one fallback to the next must come to an end. `needs_from` tells whether a
/// provider's messages need a sender.
///
/// # Errors
/// One sentence that says what is wrong.
pub fn judge_fallback<'a>(
    name: &'a str,
    settings: impl Fn(&str) -> Option<&'a CommonSettings>,
    needs_from: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let fallback_of = |name: &str| settings(name).and_then(|known| known.fallback.as_deref());
    let Some(fallback) = fallback_of(name) else { return Ok(()) };
    let Some(known) = settings(fallback) else {
        return Err(format!("there is no [providers.{fallback}]"));
    };
    if known.has_levels() {
        return Err(format!(
            "{fallback} has rates of senders or prefixes, or one in segments; who stands in has none"
        ));
    }
    if needs_from(fallback) && known.from.is_none() && known.senders.is_empty() {
        return Err(format!(
            "{fallback} needs a sender, and batches may give none: set providers.{fallback}.from"
        ));
    }
    let mut way = vec![name];
    let mut next = Some(fallback);
    while let Some(provider) = next {
        if way.contains(&provider) {
            return Err(format!("goes in a circle: {} → {provider}", way.join(" → ")));
        }
        way.push(provider);
        next = fallback_of(provider);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn judged(fallbacks: &[(&str, &str)], senders: &[&str]) -> Vec<Result<(), String>> {
        let of = |name: &str| CommonSettings {
            fallback: fallbacks.iter().find(|(from, _)| *from == name).map(|(_, to)| (*to).into()),
            from: senders.contains(&name).then(|| "+15550001111".into()),
            sender_rate: "1/s".parse().ok().filter(|_| name == "leveled"),
            ..CommonSettings::default()
        };
        let all: BTreeMap<_, _> =
            ["a", "b", "c", "needy", "leveled"].map(|name| (name, of(name))).into();
        let judge = |name| judge_fallback(name, |name| all.get(name), |name| name == "needy");
        fallbacks.iter().map(|(name, _)| judge(name)).collect()
    }

    #[test]
    fn a_fallback_is_there_and_leads_into_no_circle() {
        assert_eq!(judged(&[("a", "b"), ("b", "c")], &[]), [Ok(()), Ok(())]);
        let wrong = |fallbacks: &[(&str, &str)]| judged(fallbacks, &[]).remove(0).unwrap_err();
        assert_eq!(wrong(&[("a", "d")]), "there is no [providers.d]");
        let leveled = wrong(&[("a", "leveled")]);
        assert!(leveled.starts_with("leveled has rates of senders"), "{leveled}");
        assert_eq!(wrong(&[("a", "a")]), "goes in a circle: a → a");
        assert_eq!(wrong(&[("a", "b"), ("b", "a")]), "goes in a circle: a → b → a");
        assert_eq!(wrong(&[("a", "b"), ("b", "c"), ("c", "b")]), "goes in a circle: a → b → c → b");
    }

    #[test]
    fn a_fallback_that_needs_a_sender_has_one() {
        assert_eq!(judged(&[("a", "needy")], &["needy"]), [Ok(())]);
        assert!(judged(&[("a", "needy")], &["a"])[0].is_err());
    }
}
