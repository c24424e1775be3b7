//! What the store's tests stand on: a store, a way to let time pass in it, and short words for
//! what an API, a worker and a notifier do.

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

use crate::harness::Redis;

pub(crate) const ACCOUNT: &str = "acme";
const TIMES: StoreTimes = StoreTimes {
    lease: Duration::from_secs(30),
    upload_lease: Duration::from_secs(5),
    retention: Duration::from_hours(1),
};

pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) provider: String,
    url: String,
    raw: redis::aio::MultiplexedConnection,
    _server: Option<Redis>,
}

impl Fixture {
    /// A store of its own.
    pub(crate) async fn start() -> Self {
        let server = Redis::start().await;
        let fixture = Self::on(&server.url(), 1).await;
        Self { _server: Some(server), ..fixture }
    }

    /// A store on a server that others use too: what is done stays within a provider of its own.
    pub(crate) async fn on(url: &str, partitions: u16) -> Self {
        let connected = store::redis::connect(&settings(url, partitions), TIMES).await;
        let store = connected.expect("the store");
        let client = redis::Client::open(url).expect("a client");
        let raw = client.get_multiplexed_async_connection().await.expect("a connection");
        let provider = format!("p{:08x}", rand::random::<u32>());
        Self { store, provider, url: url.to_owned(), raw, _server: None }
    }

    /// What a process with another lease does on the same store.
    pub(crate) async fn with_lease(&self, lease: Duration) -> Arc<dyn Dispatch> {
        let settings = settings(&self.url, 1);
        let times = StoreTimes { lease, ..TIMES };
        store::redis::connect(&settings, times).await.expect("the store").dispatch
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

    /// How many completion events there are for this batch.
    pub(crate) async fn events(&self, id: BatchId) -> usize {
        let key = format!("rb:{{p{:02}}}:events", id.partition());
        let found: Option<f64> = redis::cmd("ZSCORE")
            .arg(key)
            .arg(id.ulid())
            .query_async(&mut self.raw.clone())
            .await
            .expect("an answer");
        usize::from(found.is_some())
    }

    /// Every lease has run out.
    pub(crate) async fn lapse_leases(&self) {
        self.make_past("rb:{p00}:leases").await;
    }

    /// Every upload has stopped.
    pub(crate) async fn lapse_uploads(&self) {
        self.make_past("rb:{p00}:uploads").await;
    }

    /// Everything has been kept long enough.
    pub(crate) async fn lapse_retention(&self) {
        self.make_past("rb:{p00}:purge").await;
    }

    /// Every parked chunk of a batch is due.
    pub(crate) async fn come_due(&self, id: BatchId) {
        self.make_past("rb:{p00}:due").await;
        self.make_past(&format!("rb:{{p00}}:b:{}:q", id.ulid())).await;
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

    /// The chunks of a batch that are under a lease.
    pub(crate) async fn leased(&self, id: BatchId) -> Vec<usize> {
        let members: Vec<String> = redis::cmd("ZRANGE")
            .arg("rb:{p00}:leases")
            .arg(0)
            .arg(-1)
            .query_async(&mut self.raw.clone())
            .await
            .expect("leases");
        let of_batch = members
            .iter()
            .filter_map(|member| member.strip_prefix(&format!("{}:", id.ulid()))?.parse().ok());
        of_batch.collect()
    }

    /// Empties the server, but for what makes it a store.
    pub(crate) async fn forget_everything(&self) {
        for key in self.keys().await.iter().filter(|key| *key != "rb:meta") {
            let _: () =
                redis::cmd("DEL").arg(key).query_async(&mut self.raw.clone()).await.expect("gone");
        }
    }

    /// The names of all keys in the store.
    pub(crate) async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> =
            redis::cmd("KEYS").arg("*").query_async(&mut self.raw.clone()).await.expect("keys");
        keys.sort();
        keys
    }

    async fn make_past(&self, key: &str) {
        let script = "for _, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do \
                      redis.call('ZADD', KEYS[1], 1, m) end";
        let _: () = redis::cmd("EVAL")
            .arg(script)
            .arg(1)
            .arg(key)
            .query_async(&mut self.raw.clone())
            .await
            .expect("an answer");
    }
}

fn settings(url: &str, partitions: u16) -> StoreSettings {
    StoreSettings { url: url.to_owned().into(), retention: TIMES.retention, partitions }
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
