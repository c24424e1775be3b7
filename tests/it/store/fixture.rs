//! What the store's tests stand on: a store, a way to let time pass in it, and short words for
//! what an API, a worker and a notifier do.

mod embedded;
mod raw;
mod redis;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ringback::{
    domain::{
        batch::{Batch, BatchSpec, CallbackSpec},
        chunk::{Chunker, Entry, NewChunk},
        ids::BatchId,
        message::{FinalState, Open},
        time::UnixMs,
    },
    store::{
        self, Claim, Claimed, Dispatch, Draft, IdempotencyKey, Opened, Release, Settled,
        Settlement, Store, StoreSettings, StoreTimes, Upload, Waiting,
    },
};

pub(crate) use self::raw::Raw;
use crate::harness::{Backing, Kind, StoreUrl};

pub(crate) const ACCOUNT: &str = "acme";
pub(crate) const TIMES: StoreTimes = StoreTimes {
    lease: Duration::from_secs(30),
    upload_lease: Duration::from_secs(5),
    retention: Duration::from_hours(1),
};

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
        let settings = settings(place);
        let store = store::open(&settings, TIMES).await.expect("the store");
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
        let store = store::open(&settings, TIMES).await.expect("the store again");
        Self { store, settings, ..self }
    }

    /// What a process with another lease does on the same store.
    pub(crate) async fn with_lease(&self, lease: Duration) -> Arc<dyn Dispatch> {
        let times = StoreTimes { lease, ..TIMES };
        store::open(&self.settings, times).await.expect("the store").dispatch
    }

    pub(crate) fn spec(&self, callback: bool) -> BatchSpec {
        BatchSpec {
            account: ACCOUNT.into(),
            provider: self.provider.clone(),
            body: "Hi".into(),
            callback: callback
                .then(|| CallbackSpec { url: "https://a.example/".into(), headers: vec![] }),
            ..BatchSpec::default()
        }
    }

    pub(crate) fn draft(&self, callback: bool) -> Draft {
        Draft { id: fresh_id(), spec: self.spec(callback), key: None, token: rand::random() }
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
        self.store.intake.seal(&upload, count, [7; 32]).await.expect("a seal");
        draft.id
    }

    pub(crate) async fn batch(&self, id: BatchId) -> Batch {
        self.store.reading.batch(ACCOUNT, id).await.expect("a read").expect("the batch")
    }

    pub(crate) async fn claim(&self) -> Option<Claimed> {
        self.claim_with(rand::random()).await
    }

    pub(crate) async fn claim_with(&self, nonce: u64) -> Option<Claimed> {
        let claim = Claim { provider: self.provider.clone(), partition: 0, nonce };
        self.store.dispatch.claim(&claim).await.expect("a claim")
    }

    pub(crate) async fn settle(&self, settlement: &Settlement) -> Settled {
        self.store.dispatch.settle(settlement).await.expect("a settlement")
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
        retention: TIMES.retention,
        sync_every: Duration::from_secs(1),
        partitions: 1,
    }
}

pub(crate) fn fresh_id() -> BatchId {
    BatchId::new(UnixMs(1_795_000_000_000), rand::random(), 0)
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
        release: None,
    }
}

/// Final states of places, in the form of a settlement.
pub(crate) fn changes(ended: &[(u16, FinalState)]) -> Bytes {
    let mut runs = Vec::new();
    for (place, state) in ended {
        runs.extend_from_slice(&place.to_be_bytes());
        runs.extend_from_slice(&1_u16.to_be_bytes());
        runs.push(*state as u8);
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
