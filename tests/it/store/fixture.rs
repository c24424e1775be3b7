//! What the store's tests stand on: a store, a way to let time pass in it, and short words for
//! what an API, a worker and a notifier do.

mod embedded;
mod raw;
mod redis;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ringback::{
    domain::{
        batch::{Batch, BatchSpec, CallbackSpec, CallbackState},
        chunk::{Chunker, Entry, NewChunk},
        ids::BatchId,
        message::{FinalState, Open},
        state_byte::StateByte,
        time::UnixMs,
    },
    store::{
        self, Attempt, AttemptEnd, Claim, Claimed, Dispatch, Draft, HostLimits, HostSign,
        IdempotencyKey, Opened, Recorded, Release, Seal, SentinelLogin, Settled, Settlement, Store,
        StoreRules, StoreSettings, StoreTls, TakenEvent, Upload, Verdict, Waiting,
    },
};

pub(crate) use self::raw::Raw;
use crate::harness::{Backing, Kind, StoreUrl};

/// How long receipts are waited for.
pub(crate) const RECEIPT_TIMEOUT: Duration = Duration::from_millis(1_500);

pub(crate) const ACCOUNT: &str = "acme";
pub(crate) const RULES: StoreRules = StoreRules {
    lease: Duration::from_secs(30),
    upload_lease: Duration::from_secs(5),
    retention: Duration::from_hours(1),
    hosts: HostLimits { at_once: 4, silences_max: 3, left_alone: Duration::from_mins(5) },
};

/// Where callbacks of the tests go, unless they say otherwise.
pub(crate) const HOST: &str = "a.example:443";

/// The seal of an upload of so many chunks.
pub(crate) fn seal_of(chunks: u32) -> Seal {
    Seal { chunks, body_hash: [7; 32], skipped: 0, day: None }
}

/// How long attempts hold their events.
const ATTEMPT_LEASE: Duration = Duration::from_secs(20);

/// A store, opened as a process opens it.
///
/// The order of the fields is the order in which they end: the store is closed first.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) raw: Box<dyn Raw>,
    pub(crate) provider: String,
    settings: StoreSettings,
    _backing: Option<Backing>,
}

impl Fixture {
    /// A store of its own.
    pub(crate) async fn start(kind: Kind) -> Self {
        let backing = Backing::start(kind).await;
        let fixture = Self::on(&backing).await;
        Self { _backing: Some(backing), ..fixture }
    }

    /// A store that is there already.
    pub(crate) async fn on(place: &impl StoreUrl) -> Self {
        Self::in_partitions(place, 1).await
    }

    /// A store in so many partitions, where there can be several.
    pub(crate) async fn in_partitions(place: &impl StoreUrl, partitions: u16) -> Self {
        Self::by(place, place, partitions).await
    }

    /// A store with so many partitions that is reached by `way`, and looked into at `place`.
    pub(crate) async fn by(way: &impl StoreUrl, place: &impl StoreUrl, partitions: u16) -> Self {
        let settings = StoreSettings { partitions: Some(partitions), ..settings(way) };
        let store = store::open(&settings, RULES).await.expect("the store");
        let url = place.store_url();
        let raw: Box<dyn Raw> = match url.strip_prefix("embedded:") {
            Some(folder) => Box::new(embedded::Rows::of(folder)),
            None => Box::new(redis::Keys::on(&url).await),
        };
        let provider = format!("p{:08x}", rand::random::<u32>());
        Self { store, raw, provider, settings, _backing: None }
    }

    /// Closes the store, and opens it again.
    pub(crate) async fn reopened(self) -> Self {
        let Self { store, settings, .. } = self;
        drop(store);
        let store = store::open(&settings, RULES).await.expect("the store again");
        Self { store, settings, ..self }
    }

    /// What a process with another lease does on the same store.
    pub(crate) async fn with_lease(&self, lease: Duration) -> Arc<dyn Dispatch> {
        let rules = StoreRules { lease, ..RULES };
        store::open(&self.settings, rules).await.expect("the store").dispatch
    }

    pub(crate) fn spec(&self, callback: bool) -> BatchSpec {
        BatchSpec {
            account: ACCOUNT.into(),
            provider: self.provider.clone(),
            body: "Hi".into(),
            callback: callback.then(|| callback_to(HOST)),
            ..BatchSpec::default()
        }
    }

    /// A batch whose client wants this.
    pub(crate) fn draft_with(&self, callback: CallbackSpec) -> Draft {
        let spec = BatchSpec { callback: Some(callback), ..self.spec(true) };
        Draft { spec, ..self.draft(true) }
    }

    /// Accepts a batch that is over at once, with a completion to report to `host`.
    pub(crate) async fn over(&self, host: &str) -> BatchId {
        self.accept_draft(&self.draft_with(callback_to(host)), &[], 1).await
    }

    pub(crate) fn draft(&self, callback: bool) -> Draft {
        Draft {
            id: fresh_id(),
            spec: self.spec(callback),
            key: None,
            token: rand::random(),
            batches_max: None,
            receipt_timeout: RECEIPT_TIMEOUT,
        }
    }

    pub(crate) fn keyed(&self, key: &str) -> Draft {
        Draft { key: Some(IdempotencyKey(key.into())), ..self.draft(true) }
    }

    pub(crate) async fn open(&self, draft: &Draft) -> Upload {
        match self.store.intake.open(draft).await.expect("an open") {
            Opened::New(upload) => upload,
            other => panic!("not opened: {other:?}"),
        }
    }

    /// Accepts a batch with a callback, in chunks of `chunk_size`.
    pub(crate) async fn accept(&self, recipients: &[&str], chunk_size: u16) -> BatchId {
        self.accept_draft(&self.draft(true), recipients, chunk_size).await
    }

    pub(crate) async fn accept_draft(
        &self,
        draft: &Draft,
        recipients: &[&str],
        chunk_size: u16,
    ) -> BatchId {
        let upload = self.open(draft).await;
        let chunks = chunks(recipients, chunk_size);
        self.store.intake.append(&upload, &chunks).await.expect("an append");
        let count = u32::try_from(chunks.len()).expect("few chunks");
        self.store.intake.seal(&upload, &seal_of(count)).await.expect("a seal");
        draft.id
    }

    pub(crate) async fn batch(&self, id: BatchId) -> Batch {
        self.store.reading.batch(ACCOUNT, id).await.expect("a read").expect("the batch")
    }

    pub(crate) async fn claim(&self) -> Option<Claimed> {
        self.claim_with(rand::random()).await
    }

    pub(crate) async fn claim_with(&self, nonce: u64) -> Option<Claimed> {
        self.claim_from(0, nonce).await
    }

    pub(crate) async fn claim_from(&self, partition: u16, nonce: u64) -> Option<Claimed> {
        let claim = Claim { provider: self.provider.clone(), partition, nonce };
        self.store.dispatch.claim(&claim).await.expect("a claim")
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.store.dispatch.partitions()
    }

    pub(crate) async fn settle(&self, settlement: &Settlement) -> Settled {
        self.store.dispatch.settle(settlement).await.expect("a settlement")
    }

    /// Takes at most `limit` events that are due.
    pub(crate) async fn take(&self, limit: usize) -> Vec<TakenEvent> {
        self.store.callbacks.take(limit, ATTEMPT_LEASE).await.expect("taken")
    }

    /// Takes the one event that is due.
    pub(crate) async fn take_one(&self) -> TakenEvent {
        let mut taken = self.take(100).await;
        assert_eq!(taken.len(), 1, "{taken:?}");
        taken.remove(0)
    }

    /// Records that an attempt ended so, by an answer.
    pub(crate) async fn record(&self, event: &TakenEvent, verdict: Verdict) -> Recorded {
        self.record_with(event, verdict, HostSign::Answered).await
    }

    pub(crate) async fn record_with(
        &self,
        event: &TakenEvent,
        verdict: Verdict,
        host: HostSign,
    ) -> Recorded {
        let end = AttemptEnd { status: Some(200), latency_ms: 3, ..AttemptEnd::default() };
        let attempt = Attempt { event: event.event.id, number: event.number, end, verdict, host };
        self.store.callbacks.record(&attempt).await.expect("recorded")
    }

    /// The batch's completion event is taken and ends in this state.
    pub(crate) async fn end_callback(&self, id: BatchId, state: CallbackState) {
        let taken = self.take(100).await;
        let event = taken.iter().find(|taken| taken.event.id == id.event());
        let event = event.unwrap_or_else(|| panic!("{id} is not due: {taken:?}"));
        assert_eq!(self.record(event, Verdict::Ended(state)).await, Recorded::Kept);
    }

    pub(crate) async fn sweep(&self) -> store::Swept {
        let mut all = store::Swept::default();
        loop {
            let swept = self.store.dispatch.sweep().await.expect("a sweep");
            all += swept;
            if !swept.more {
                return all;
            }
        }
    }
}

/// The settings of a store that is kept here.
pub(crate) fn settings(place: &impl StoreUrl) -> StoreSettings {
    let url = place.store_url().into();
    StoreSettings {
        url,
        retention: RULES.retention,
        sync_every: Duration::from_secs(1),
        partitions: None,
        tls: StoreTls::default(),
        sentinel: SentinelLogin::default(),
    }
}

pub(crate) fn callback_to(host: &str) -> CallbackSpec {
    let url = format!("https://{host}/");
    CallbackSpec { url, host: host.into(), ..CallbackSpec::default() }
}

pub(crate) fn fresh_id() -> BatchId {
    fresh_id_in(0)
}

pub(crate) fn fresh_id_in(partition: u16) -> BatchId {
    BatchId::new(UnixMs(1_795_000_000_000), rand::random(), partition)
}

pub(crate) fn chunks(recipients: &[&str], chunk_size: u16) -> Vec<NewChunk> {
    let mut chunker = Chunker::new(chunk_size);
    let mut chunks = Vec::new();
    for to in recipients {
        chunks.extend(chunker.push(&Entry { to, ..Entry::default() }));
    }
    chunks.extend(chunker.finish());
    chunks
}

/// A settlement of a claimed chunk: the first one, without anything in it.
pub(crate) fn settlement(claimed: &Claimed) -> Settlement {
    Settlement {
        batch: claimed.batch,
        chunk: claimed.chunk,
        token: claimed.token.clone(),
        sequence: 1,
        changes: Bytes::new(),
        log: Bytes::new(),
        waiting: Vec::new(),
        mark: None,
        release: None,
    }
}

/// States of places, in the form of a settlement.
pub(crate) fn changes<S: Into<StateByte> + Copy>(ended: &[(u16, S)]) -> Bytes {
    let mut runs = Vec::new();
    for (place, state) in ended {
        runs.extend_from_slice(&place.to_be_bytes());
        runs.extend_from_slice(&1_u16.to_be_bytes());
        let state: StateByte = (*state).into();
        runs.push(state.0);
    }
    runs.into()
}

/// The settlement that sends every open message of a chunk.
pub(crate) fn all_sent(claimed: &Claimed) -> Settlement {
    let open = (0_u16..).zip(&*claimed.states).filter(|(_, state)| **state == 0);
    let ended: Vec<_> = open.map(|(place, _)| (place, FinalState::Sent)).collect();
    Settlement { changes: changes(&ended), release: Some(Release::Now), ..settlement(claimed) }
}

pub(crate) fn waiting(place: u16, attempts: u8) -> Waiting {
    Waiting { place, open: Open { attempts, ..Open::default() } }
}
