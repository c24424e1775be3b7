//! Kind `mock`: a provider inside the process, to try Ringback with and to test against.
//!
//! A few recipients are scripted. Every other one is accepted, or rejected in the share
//! `failure_ratio`. Receipts follow for two of the scripted ones, and with `receipts = true` for all; they are
//! kept in memory, so those of a process that ends are never said: then the receipt time-out speaks. What becomes of a message follows from its id and the seed alone, so a run can
//! be repeated. Without latency an outcome is ready at once, and no timer is touched.

use std::{
    collections::HashSet,
    future,
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream, stream::BoxStream};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::{
    Provider, Submission,
    registry::{InvalidSettings, Kind, KindSettings, Site},
};
use crate::domain::{
    ids::MessageId,
    outcome::{Outcome, SendError, Throttled},
    receipt::{Receipt, ReceiptWord},
    units::span,
};

/// The most receipts that are under way.
const RECEIPTS_MAX: usize = 1_000_000;

/// How long a throttled submission is asked to wait.
const THROTTLED: Duration = Duration::from_millis(200);

/// How many throttled messages are remembered; while there are as many, no other is throttled.
const THROTTLED_MAX: usize = 10_000;

/// A mock provider's own settings.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MockSettings {
    /// How long each submission takes.
    #[serde(with = "span")]
    pub latency: Duration,
    /// The share of messages that are rejected, from 0 to 1.
    pub failure_ratio: f64,
    /// What the choice of those, and the ids given, depend on besides the message's id.
    pub seed: u64,
    /// How long after it was accepted a message's receipt comes.
    #[serde(with = "span")]
    pub receipt_latency: Duration,
}

/// What becomes of a scripted recipient's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    /// Rejected as an invalid number.
    Invalid,
    /// Throttled once, then accepted.
    ThrottledOnce,
    /// Fails temporarily twice, then accepted.
    FailsTwice,
    /// Times out, always.
    TimesOut,
    /// Accepted; its receipt says delivered.
    Delivered,
    /// Accepted; its receipt says not.
    Undelivered,
}

struct Mock {
    settings: MockSettings,
    throttled: Mutex<HashSet<MessageId>>,
    receipts: Receipts,
}

/// What the mock will say of messages later.
struct Receipts {
    /// For whom: none, the scripted ones if nothing is said, or all.
    wanted: Option<bool>,
    sender: mpsc::Sender<Due>,
    receiver: Mutex<Option<mpsc::Receiver<Due>>>,
}

/// A receipt, and when it comes.
type Due = (Instant, Receipt);

/// A small hash whose value stays the same from one build to the next.
struct Mix(u64);

// === impl MockSettings ===

impl KindSettings for MockSettings {
    const WORD: &'static str = "mock";
    const KEYS: &'static [&'static str] = &["latency", "failure_ratio", "seed", "receipt_latency"];
}

impl Kind for MockSettings {
    fn word(&self) -> &'static str {
        Self::WORD
    }

    fn shown(&self) -> serde_json::Result<serde_json::Value> {
        serde_json::to_value(self)
    }

    fn build(&self, site: &Site<'_>) -> Result<Arc<dyn Provider>, InvalidSettings> {
        if !(0.0..=1.0).contains(&self.failure_ratio) {
            return Err(InvalidSettings::new("failure_ratio", "give a number from 0 to 1"));
        }
        let receipts = Receipts::new(site.common.receipts);
        Ok(Arc::new(Mock { settings: self.clone(), throttled: Mutex::default(), receipts }))
    }
}

// === impl Script ===

impl Script {
    fn of(to: &str) -> Option<Self> {
        match to.strip_prefix("+1500555000")? {
            "1" => Some(Self::Invalid),
            "2" => Some(Self::ThrottledOnce),
            "3" => Some(Self::FailsTwice),
            "4" => Some(Self::TimesOut),
            "5" => Some(Self::Delivered),
            "6" => Some(Self::Undelivered),
            _ => None,
        }
    }
}

// === impl Mock ===

impl Provider for Mock {
    fn submit<'a>(&'a self, submission: Submission<'a>) -> BoxFuture<'a, Outcome> {
        let script = Script::of(submission.to);
        if self.settings.latency.is_zero() || script == Some(Script::TimesOut) {
            return future::ready(self.outcome(script, submission)).boxed();
        }
        async move {
            tokio::time::sleep(self.settings.latency).await;
            self.outcome(script, submission)
        }
        .boxed()
    }

    fn own_receipts(&self) -> Option<BoxStream<'static, Receipt>> {
        self.receipts.stream()
    }
}

impl Mock {
    fn outcome(&self, script: Option<Script>, submission: Submission<'_>) -> Outcome {
        match script {
            Some(Script::Invalid) => Outcome::Rejected {
                error: SendError::permanent("invalid_number", "the mock knows no such number"),
            },
            Some(Script::ThrottledOnce) if self.throttles(submission.id) => Outcome::Throttled {
                who: Throttled::Provider,
                after: THROTTLED,
                error: SendError::passing("provider_throttled", "the mock throttles once"),
            },
            Some(Script::FailsTwice) if submission.attempts < 2 => Outcome::Temporary {
                certain: true,
                after: None,
                error: SendError::passing("provider_unavailable", "the mock fails twice"),
            },
            Some(Script::TimesOut) => Outcome::Unknown {
                error: SendError::passing("provider_timeout", "the mock never answers"),
            },
            None if self.rejects(submission.id) => Outcome::Rejected {
                error: SendError::permanent("provider_rejected", "chosen by failure_ratio"),
            },
            script => self.accepted(submission.id, script),
        }
    }

    /// Whether this is a message's first try, as far as is remembered.
    fn throttles(&self, id: MessageId) -> bool {
        let mut throttled = self.throttled.lock();
        if throttled.remove(&id) {
            return false;
        }
        throttled.len() < THROTTLED_MAX && throttled.insert(id)
    }

    #[expect(clippy::cast_precision_loss, reason = "32 bits are exact, and enough for a ratio")]
    fn rejects(&self, id: MessageId) -> bool {
        let ratio = self.settings.failure_ratio;
        ratio > 0.0 && ((self.word(id, 0) >> 32) as f64 / (1_u64 << 32) as f64) < ratio
    }

    fn accepted(&self, id: MessageId, script: Option<Script>) -> Outcome {
        let provider_message_id = format!("MK{:016x}{:016x}", self.word(id, 1), self.word(id, 2));
        Outcome::Accepted {
            provider_message_id: Some(provider_message_id),
            receipt_follows: self.receipts.promise(id, script, self.settings.receipt_latency),
        }
    }

    /// A number that looks random; `lane` tells numbers for one message apart.
    fn word(&self, id: MessageId, lane: u64) -> u64 {
        let mut mix = Mix(self.settings.seed);
        lane.hash(&mut mix);
        id.hash(&mut mix);
        mix.finish()
    }
}

// === impl Receipts ===

impl Receipts {
    fn new(wanted: Option<bool>) -> Self {
        let (sender, receiver) = mpsc::channel(RECEIPTS_MAX);
        Self { wanted, sender, receiver: Mutex::new(Some(receiver)) }
    }

    /// Sees to it that a message's receipt comes, if it has one; false if none will. While too many are
    /// under way, no other is promised.
    fn promise(&self, message: MessageId, script: Option<Script>, latency: Duration) -> bool {
        let is_scripted = matches!(script, Some(Script::Delivered | Script::Undelivered));
        if !self.wanted.unwrap_or(is_scripted) {
            return false;
        }
        let (word, error) = if script == Some(Script::Undelivered) {
            let error =
                SendError::permanent("undelivered", "the mock's carrier did not deliver it");
            (ReceiptWord::Undelivered, Some(error))
        } else {
            (ReceiptWord::Delivered, None)
        };
        let receipt = Receipt { message, word, at: None, error };
        self.sender.try_send((Instant::now() + latency, receipt)).is_ok()
    }

    /// The receipts as they come due. All have the same latency, so they come in the order of their
    /// messages' acceptance.
    fn stream(&self) -> Option<BoxStream<'static, Receipt>> {
        let receiver = self.receiver.lock().take()?;
        let next = |mut receiver: mpsc::Receiver<Due>| async move {
            let (due, receipt) = receiver.recv().await?;
            tokio::time::sleep_until(due.into()).await;
            Some((receipt, receiver))
        };
        Some(stream::unfold(receiver, next).boxed())
    }
}

// === impl Mix ===

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = scramble(self.0 ^ u64::from_le_bytes(word));
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// One step of `SplitMix64` (Steele, Lea, Flood: Fast splittable pseudorandom number generators).
fn scramble(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::domain::{ids::BatchId, time::UnixMs};
    use crate::providers::CommonSettings;

    fn mock(settings: &MockSettings) -> Arc<dyn Provider> {
        settings.build(&Site::of(&CommonSettings::default())).unwrap()
    }

    fn id(index: u32) -> MessageId {
        MessageId { batch: BatchId::new(UnixMs(1_790_000_000_000), 99 << 30, 0), index }
    }

    fn submission(to: &str, index: u32, attempts: u8) -> Submission<'_> {
        Submission { id: id(index), to, from: None, body: "Hi", attempts, valid_for: None }
    }

    /// The outcome, which must be there at once.
    fn outcome(mock: &dyn Provider, to: &str, index: u32, attempts: u8) -> Outcome {
        let submitted = mock.submit(submission(to, index, attempts));
        submitted.now_or_never().expect("ready at once")
    }

    fn accepted(outcome: Outcome) -> Option<String> {
        match outcome {
            Outcome::Accepted { provider_message_id, .. } => provider_message_id,
            _ => None,
        }
    }

    #[test]
    fn every_message_has_its_own_id_and_keeps_it() {
        let mock = mock(&MockSettings::default());
        let given = |index| accepted(outcome(&*mock, "+15551230001", index, 0)).unwrap();
        let ids: BTreeSet<_> = (0..1_000).map(given).collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.iter().all(|id| id.len() == 34 && id.starts_with("MK")), "{ids:?}");
        assert!(ids.contains(&given(7)));
    }

    #[test]
    fn scripted_numbers_do_what_they_are_known_for() {
        let mock = mock(&MockSettings::default());
        let code = |to, index, attempts| match outcome(&*mock, to, index, attempts) {
            Outcome::Accepted { .. } => "accepted".into(),
            Outcome::Rejected { error }
            | Outcome::Temporary { error, .. }
            | Outcome::Throttled { error, .. }
            | Outcome::Unknown { error } => error.code,
        };
        assert_eq!(code("+15005550001", 0, 0), "invalid_number");
        assert_eq!(code("+15005550002", 0, 0), "provider_throttled");
        assert_eq!(code("+15005550002", 1, 0), "provider_throttled");
        assert_eq!(code("+15005550002", 0, 0), "accepted");
        assert_eq!(code("+15005550003", 0, 0), "provider_unavailable");
        assert_eq!(code("+15005550003", 0, 1), "provider_unavailable");
        assert_eq!(code("+15005550003", 0, 2), "accepted");
        assert_eq!(code("+15005550004", 0, 9), "provider_timeout");
        assert_eq!(code("+15005550005", 0, 0), "accepted");
        assert_eq!(code("+15005550006", 0, 0), "accepted");
        assert_eq!(code("+150055500011", 0, 0), "accepted");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mock = mock(&MockSettings::default());
        let throttled = |index| accepted(outcome(&*mock, "+15005550002", index, 0)).is_none();
        let bound = u32::try_from(THROTTLED_MAX).unwrap();
        assert!((0..bound).all(throttled));
        assert!(!throttled(bound));
        assert!(!throttled(0));
        assert!(throttled(bound));
    }

    #[test]
    fn a_share_fails_and_the_seed_says_which() {
        let rejected = |seed| {
            let mock = mock(&MockSettings { failure_ratio: 0.25, seed, ..MockSettings::default() });
            let rejected =
                |index: &u32| accepted(outcome(&*mock, "+15551230001", *index, 0)).is_none();
            (0..10_000).filter(rejected).collect::<Vec<_>>()
        };
        let first = rejected(1);
        assert!((2_300..2_700).contains(&first.len()), "{}", first.len());
        assert_eq!(first, rejected(1));
        assert_ne!(first, rejected(2));
    }

    #[tokio::test]
    async fn receipts_follow_for_the_scripted_ones_and_for_all_who_are_to_have_them() {
        let follows = |mock: &dyn Provider, to| match outcome(mock, to, 7, 0) {
            Outcome::Accepted { receipt_follows, .. } => receipt_follows,
            other => panic!("{other:?}"),
        };
        let by_default = mock(&MockSettings::default());
        assert!(!follows(&*by_default, "+15551230001"));
        assert!(follows(&*by_default, "+15005550005") && follows(&*by_default, "+15005550006"));
        let words: Vec<_> =
            by_default.own_receipts().unwrap().take(2).map(|receipt| receipt.word).collect().await;
        assert_eq!(words, [ReceiptWord::Delivered, ReceiptWord::Undelivered]);
        assert!(by_default.own_receipts().is_none());
        for wanted in [true, false] {
            let common = CommonSettings { receipts: Some(wanted), ..CommonSettings::default() };
            let mock = MockSettings::default().build(&Site::of(&common)).unwrap();
            assert_eq!(follows(&*mock, "+15551230001"), wanted);
            assert_eq!(follows(&*mock, "+15005550005"), wanted);
        }
    }

    #[tokio::test]
    async fn latency_passes_before_the_outcome() {
        let latency = Duration::from_millis(40);
        let mock = mock(&MockSettings { latency, ..MockSettings::default() });
        let begin = std::time::Instant::now();
        assert!(accepted(mock.submit(submission("+15551230001", 0, 0)).await).is_some());
        assert!(begin.elapsed() >= latency);
        assert!(mock.submit(submission("+15005550004", 0, 0)).now_or_never().is_some());
    }
}
