//! A pool of senders: each recipient hears from one of them, always the same.
//!
//! Rendezvous hashing: of all senders the one wins that has the highest score for the number. So no
//! table is kept, every process comes to the same answer, and a sender that is added takes its share of
//! the numbers while the others stay where they are. The scores must never change: a recipient would hear
//! from somebody else.

/// The senders of a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Senders<T>(Vec<(u64, T)>);

// === impl Senders ===

impl<T: AsRef<str>> Senders<T> {
    /// A pool of these; their order means nothing.
    pub fn new(senders: impl IntoIterator<Item = T>) -> Self {
        let scored = |sender: T| (digest(sender.as_ref()), sender);
        Self(senders.into_iter().map(scored).collect())
    }

    /// The sender that a number hears from; `None` of an empty pool.
    #[must_use]
    pub fn of(&self, number: &str) -> Option<&T> {
        if self.0.is_empty() {
            return None;
        }
        let number = digest(number);
        let best = self.0.iter().max_by_key(|(sender, _)| mixed(sender ^ number));
        best.map(|(_, sender)| sender)
    }
}

/// FNV-1a, 64 bits.
fn digest(text: &str) -> u64 {
    let add = |digest: u64, byte: u8| (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(text.bytes().fold(0xcbf2_9ce4_8422_2325, add))
}

/// Spreads what differs little over all bits; no two inputs come to one output (`SplitMix64`'s last steps).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const NUMBERS: u32 = 10_000;

    fn pool(senders: std::ops::Range<u32>) -> Senders<String> {
        Senders::new(senders.map(|sender| format!("+1555000{sender:04}")))
    }

    fn choices(pool: &Senders<String>) -> Vec<String> {
        let number = |nth| format!("+4915{nth:09}");
        (0..NUMBERS).filter_map(|nth| pool.of(&number(nth)).cloned()).collect()
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let mut counts = BTreeMap::<_, u32>::new();
        for sender in choices(&pool(0..8)) {
            *counts.entry(sender).or_default() += 1;
        }
        assert_eq!(counts.len(), 8);
        assert!(counts.values().all(|count| (1_100..1_400).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_order_of_the_senders_means_nothing() {
        let backwards: Vec<_> = (0..8).rev().map(|nth| format!("+1555000{nth:04}")).collect();
        assert_eq!(choices(&pool(0..8)), choices(&Senders::new(backwards)));
    }

    #[test]
    fn a_sender_that_is_added_takes_its_share_and_moves_nobody_else() {
        let (before, after) = (choices(&pool(0..8)), choices(&pool(0..9)));
        let moved: Vec<_> =
            before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!((900..1_300).contains(&moved.len()), "{}", moved.len());
        assert!(moved.iter().all(|(_, sender)| *sender == "+15550000008"));
    }

    #[test]
    fn the_choice_is_the_same_in_every_release() {
        let chosen = ["+15551230001", "+15551230002", "+4915112345678"]
            .map(|number| pool(0..8).of(number).cloned().unwrap_or_default());
        assert_eq!(chosen, ["+15550000004", "+15550000007", "+15550000003"]);
        assert_eq!(Senders::<String>::default().of("+15551230001"), None);
    }
}
