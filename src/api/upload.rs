//! Brings a batch into the store while it arrives: open, append, seal.
//!
//! Whoever reads the batch hands its chunks over as they are cut; they go to the store in groups, a
//! few calls at once, and a store that is slower than the reader holds the reader back. So an upload
//! takes the memory of these few groups, whatever the size of the batch. While the reader waits for
//! the client, the upload's lease is renewed.
//!
//! Whatever ends an upload early, be it a failure or a client that went away, abandons it: nothing
//! of it is sent and its idempotency key is free again. Only a lost reply to the seal leaves open
//! whether the batch is accepted, and then the client is told so.

use std::{
    future::Future,
    mem,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::TryFutureExt;
use http::StatusCode;
use tokio::{
    runtime::Handle,
    select,
    task::{JoinError, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    day::{self, DayLimit},
    digest::Sha256,
    problem::Problem,
};
use crate::{
    crash,
    domain::{chunk::NewChunk, ids::BatchId},
    store::{Draft, Intake, IntakeError, Opened, OptOuts, Seal, StoreError, Upload},
};

/// The most chunks in one call.
const CHUNKS_PER_CALL: usize = 8;

/// Chunks of this size together go in a call of their own, in bytes.
const CALL_BYTES: usize = 512 * 1024;

/// The most calls at once.
const CALLS_AT_ONCE: usize = 4;

/// How long after the last call the next one begins, be there something to add or not.
const RENEW_AFTER: Duration = Duration::from_secs(1);

/// How long to wait before a call whose reply was lost is repeated, time after time.
const REPEATS_MS: [u64; 3] = [50, 200, 500];

/// How long one call may take, and how long after the first one a call is repeated. The store
/// drops an upload that is silent for longer.
const CALL_TIME: Duration = Duration::from_secs(5);

/// How long a refused upload may take to be abandoned before its client is told.
const ABANDON_TIME: Duration = Duration::from_secs(1);

/// What opening an upload came to.
pub(super) enum Opening {
    /// It is open.
    New(Box<Uploading>),
    /// A request with the same idempotency key was accepted before.
    Earlier(Earlier),
}

/// The batch that was accepted under the same idempotency key.
pub(super) struct Earlier {
    id: BatchId,
    body_hash: Sha256,
}

/// An open upload. Abandoned when it is dropped, unless it was sealed.
pub(super) struct Uploading {
    /// Chunks of the next call.
    group: Vec<NewChunk>,
    group_bytes: usize,
    /// How many chunks were handed over.
    chunks: u32,
    /// The calls under way. They end before the upload is abandoned.
    calls: JoinSet<Result<(), IntakeError>>,
    /// Who gets nothing from the account.
    optouts: OptOuts,
    account: Arc<str>,
    /// How many messages have ended because of that.
    opted_out: Arc<AtomicU32>,
    /// When the lease is to be renewed, unless a call begins before.
    renew_at: Instant,
    /// How many recipients the account may have that day, if there is a limit.
    day: Option<DayLimit>,
    abandon: Abandon,
}

/// Abandons an upload when it is dropped, unless it was disarmed.
struct Abandon {
    intake: Arc<dyn Intake>,
    upload: Upload,
    armed: bool,
}

/// Opens the upload of `draft`, whose account may have so many recipients a day. What goes to those who
/// have opted out ends on its way into the store.
///
/// # Errors
/// [`Problem`]: then nothing is open.
pub(super) async fn open(
    intake: &Arc<dyn Intake>,
    optouts: &OptOuts,
    draft: &Draft,
    daily_max: Option<u64>,
) -> Result<Opening, Problem> {
    let upload = Upload { id: draft.id, token: draft.token };
    let mut abandon = Abandon { intake: Arc::clone(intake), upload, armed: true };
    match repeated(|| intake.open(draft).err_into()).await.result.map_err(refused)? {
        Opened::New(upload) => {
            abandon.upload = upload;
            let account = draft.spec.account.as_str().into();
            let mut uploading = Uploading::new(abandon, optouts.clone(), account);
            if let Some(daily_max) = daily_max {
                let account = &draft.spec.account;
                uploading.day = Some(DayLimit::look(&**intake, account, daily_max).await?);
            }
            Ok(Opening::New(Box::new(uploading)))
        }
        Opened::UnderWay => {
            abandon.armed = false;
            Err(under_way())
        }
        Opened::TooMany => {
            abandon.armed = false;
            Err(too_many())
        }
        Opened::Replayed { id, body_hash } => {
            abandon.armed = false;
            Ok(Opening::Earlier(Earlier { id, body_hash }))
        }
    }
}

// === impl Earlier ===

impl Earlier {
    /// The batch, if a body that hashes to `body_hash` is the one it was accepted with.
    pub(super) fn repeated_by(self, body_hash: Sha256) -> Result<BatchId, Problem> {
        if self.body_hash == body_hash { Ok(self.id) } else { Err(key_reused()) }
    }
}

// === impl Uploading ===

impl Uploading {
    fn new(abandon: Abandon, optouts: OptOuts, account: Arc<str>) -> Self {
        Self {
            group: Vec::new(),
            group_bytes: 0,
            chunks: 0,
            calls: JoinSet::new(),
            optouts,
            account,
            opted_out: Arc::default(),
            renew_at: Instant::now() + RENEW_AFTER,
            day: None,
            abandon,
        }
    }

    /// Takes the next chunks. Waits while the store has enough to do.
    ///
    /// # Errors
    /// [`Problem`] if an earlier call failed, or the account has too many recipients today: nothing will
    /// be accepted.
    pub(super) async fn take(&mut self, chunks: Vec<NewChunk>) -> Result<(), Problem> {
        let recipients = chunks.iter().map(|chunk| u64::from(chunk.messages())).sum();
        if let Some(Err(problem)) = self.day.as_mut().map(|day| day.take(recipients)) {
            self.abandon().await;
            return Err(problem);
        }
        for chunk in chunks {
            // Messages are numbered in 32 bits, and no chunk is empty.
            self.chunks = self.chunks.saturating_add(1);
            self.group_bytes += chunk.recipients.len() + chunk.states.len() + chunk.log.len();
            self.group.push(chunk);
            if self.group.len() == CHUNKS_PER_CALL || self.group_bytes >= CALL_BYTES {
                self.append().await?;
            }
        }
        // A client that is always quicker than we are is never waited for.
        if Instant::now() >= self.renew_at {
            self.renew();
        }
        Ok(())
    }

    /// Waits for something else, and meanwhile keeps the upload alive.
    ///
    /// # Errors
    /// As [`Self::take`]; then it is not waited for any longer.
    pub(super) async fn during<T>(&mut self, wait: impl Future<Output = T>) -> Result<T, Problem> {
        let mut wait = pin!(wait);
        loop {
            select! {
                biased;
                waited = &mut wait => return Ok(waited),
                Some(ended) = self.calls.join_next() => went_well(ended)?,
                () = sleep_until(self.renew_at) => self.renew(),
            }
        }
    }

    /// Seals the upload of a body that hashes to `body_hash`, of which `skipped` recipients were left
    /// out: then the batch is accepted. Gives how many of its messages have failed since their recipients
    /// have opted out.
    ///
    /// # Errors
    /// [`Problem`]: then nothing is accepted, unless it is `outcome_unknown`.
    pub(super) async fn seal(mut self, body_hash: Sha256, skipped: u64) -> Result<u32, Problem> {
        if !self.group.is_empty() {
            self.append().await?;
        }
        while let Some(ended) = self.calls.join_next().await {
            went_well(ended)?;
        }
        crash::point("appended");
        let Abandon { intake, upload, .. } = &self.abandon;
        let day = self.day.as_ref().map(DayLimit::share);
        let seal = Seal { chunks: self.chunks, body_hash, skipped, day };
        let tried = repeated(|| intake.seal(upload, &seal)).await;
        match tried.result {
            Ok(()) => {
                crash::point("sealed");
                self.abandon.armed = false;
                Ok(self.opted_out.load(Ordering::Relaxed))
            }
            Err(IntakeError::Store(error)) if tried.reply_lost => {
                tracing::warn!(batch.id = %upload.id, %error, "whether a batch was accepted is unknown");
                Err(outcome_unknown())
            }
            Err(IntakeError::DayFull(day)) => {
                self.abandon().await;
                Err(day::full(day))
            }
            Err(error) => Err(refused(error)),
        }
    }

    /// Gives the upload up, if it is not given up already. When this ends its key is free, unless
    /// the store does not answer: then it is so seconds later.
    pub(super) async fn abandon(&mut self) {
        self.calls.abort_all();
        let Abandon { intake, upload, armed } = &mut self.abandon;
        if *armed && let Ok(Ok(())) = timeout(ABANDON_TIME, intake.abandon(upload)).await {
            *armed = false;
        }
    }

    /// Sends the group once there is room for a further call.
    async fn append(&mut self) -> Result<(), Problem> {
        while self.calls.len() >= CALLS_AT_ONCE {
            if let Some(ended) = self.calls.join_next().await {
                went_well(ended)?;
            }
        }
        self.call();
        Ok(())
    }

    /// Renews the lease with whatever there is of a group. Calls under way renew it too.
    fn renew(&mut self) {
        if self.calls.len() < CALLS_AT_ONCE {
            self.call();
        } else {
            self.renew_at = Instant::now() + RENEW_AFTER;
        }
    }

    fn call(&mut self) {
        let mut group = mem::take(&mut self.group);
        self.group_bytes = 0;
        self.renew_at = Instant::now() + RENEW_AFTER;
        let (intake, upload) = (Arc::clone(&self.abandon.intake), self.abandon.upload);
        let (optouts, account) = (self.optouts.clone(), Arc::clone(&self.account));
        let opted_out = Arc::clone(&self.opted_out);
        self.calls.spawn(async move {
            let ended = optouts.apply(&account, &mut group).await?;
            opted_out.fetch_add(ended, Ordering::Relaxed);
            repeated(|| intake.append(&upload, &group)).await.result
        });
    }
}

/// What a call that ended means for the upload.
fn went_well(ended: Result<Result<(), IntakeError>, JoinError>) -> Result<(), Problem> {
    match ended {
        Ok(appended) => appended.map_err(refused),
        Err(error) => {
            tracing::error!(%error, "bringing a part of a batch into the store failed");
            Err(Problem::internal())
        }
    }
}

/// A call's last result, and whether the reply to it or to an earlier one was lost.
struct Tried<T> {
    result: Result<T, IntakeError>,
    reply_lost: bool,
}

/// Repeats a call a few times if its reply was lost.
async fn repeated<T, F>(mut call: impl FnMut() -> F) -> Tried<T>
where
    F: Future<Output = Result<T, IntakeError>>,
{
    let began = Instant::now();
    let mut waits = REPEATS_MS.into_iter().map(Duration::from_millis);
    let mut reply_lost = false;
    loop {
        let result = timeout(CALL_TIME, call()).await.unwrap_or_else(|_| Err(timed_out()));
        let lost = matches!(result, Err(IntakeError::Store(StoreError::ReplyLost(_))));
        reply_lost |= lost;
        match waits.next().filter(|_| lost && began.elapsed() < CALL_TIME) {
            Some(wait) => sleep(wait).await,
            None => return Tried { result, reply_lost },
        }
    }
}

fn timed_out() -> IntakeError {
    StoreError::ReplyLost(format!("none within {} s", CALL_TIME.as_secs())).into()
}

// === impl Abandon ===

impl Drop for Abandon {
    fn drop(&mut self) {
        let Some(runtime) = Handle::try_current().ok().filter(|_| self.armed) else { return };
        let (intake, upload) = (Arc::clone(&self.intake), self.upload);
        runtime.spawn(async move {
            if let Err(error) = intake.abandon(&upload).await {
                let id = upload.id;
                tracing::debug!(batch.id = %id, %error, "an upload is left to the reaper");
            }
        });
    }
}

fn refused(error: IntakeError) -> Problem {
    match error {
        IntakeError::Store(error) => error.into(),
        IntakeError::DayFull(day) => day::full(day),
        IntakeError::Gone => {
            let detail = "The upload took too long and was dropped; nothing of it is sent.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "upload_dropped", detail).retry_after(1)
        }
    }
}

fn outcome_unknown() -> Problem {
    let detail = "The store's reply was lost: the batch may or may not be accepted. Repeat the \
                  request with the same Idempotency-Key.";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "outcome_unknown", detail).retry_after(1)
}

fn under_way() -> Problem {
    let detail = "The first request with this Idempotency-Key is still under way.";
    Problem::new(StatusCode::CONFLICT, "idempotency_in_progress", detail).retry_after(1)
}

fn too_many() -> Problem {
    let detail = "This account has as many batches under way as it may; wait until one is over.";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_batches", detail).retry_after(1)
}

fn key_reused() -> Problem {
    let detail = "This Idempotency-Key was used with another body.";
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use async_trait::async_trait;
    use axum::response::IntoResponse;
    use parking_lot::Mutex;
    use tokio::sync::Notify;

    use super::*;
    use crate::{
        domain::{
            batch::BatchSpec,
            chunk::{Chunker, Entry},
            number::Number,
            time::UnixMs,
        },
        store::{Day, ReplayError, ReplayOrder, Suppressions, WishError},
    };

    /// An intake that answers as it is told, and writes down what it is asked.
    #[derive(Default)]
    struct Scripted {
        calls: Mutex<Vec<String>>,
        called: Notify,
        opened: Mutex<Option<Opened>>,
        /// How the next seals end; well once there are none.
        seals: Mutex<VecDeque<IntakeError>>,
        appends_stall: bool,
        lists_fail: bool,
        appends_fail: bool,
    }

    impl Scripted {
        fn note(&self, call: impl Into<String>) {
            self.calls.lock().push(call.into());
            self.called.notify_one();
        }

        async fn until(&self, call: &str) {
            while !self.calls.lock().iter().any(|noted| noted == call) {
                self.called.notified().await;
            }
        }
    }

    /// Its one number on a list is +15551230009.
    #[async_trait]
    impl Suppressions for Scripted {
        async fn add(&self, _account: &str, _numbers: &[Number]) -> Result<u64, StoreError> {
            unreachable!("no upload adds an opt-out")
        }

        async fn remove(&self, _account: &str, _numbers: &[Number]) -> Result<u64, StoreError> {
            unreachable!("no upload removes an opt-out")
        }

        async fn contains(
            &self,
            _account: &str,
            numbers: &[Number],
        ) -> Result<Vec<bool>, StoreError> {
            Ok(numbers.iter().map(|number| number.digits() == 15_551_230_009).collect())
        }

        async fn list(
            &self,
            _account: &str,
            _after: Option<Number>,
            _limit: usize,
        ) -> Result<(Vec<Number>, Option<Number>), StoreError> {
            unreachable!("no upload lists opt-outs")
        }

        async fn count(&self, _account: &str) -> Result<u64, StoreError> {
            if self.lists_fail {
                return Err(StoreError::Unreachable("it is away".to_owned()));
            }
            Ok(1)
        }
    }

    #[async_trait]
    impl Intake for Scripted {
        async fn open(&self, draft: &Draft) -> Result<Opened, StoreError> {
            self.note("open");
            let new = Opened::New(Upload { id: draft.id, token: draft.token });
            Ok(self.opened.lock().take().unwrap_or(new))
        }

        async fn append(&self, _upload: &Upload, chunks: &[NewChunk]) -> Result<(), IntakeError> {
            self.note(format!("append {}", chunks.len()));
            if self.appends_stall {
                std::future::pending::<()>().await;
            }
            if self.appends_fail { Err(IntakeError::Gone) } else { Ok(()) }
        }

        async fn seal(&self, _upload: &Upload, seal: &Seal) -> Result<(), IntakeError> {
            self.note(format!("seal {}", seal.chunks));
            self.seals.lock().pop_front().map_or(Ok(()), Err)
        }

        async fn day(&self, _account: &str) -> Result<Day, StoreError> {
            self.note("day");
            Ok(Day { recipients: 90, left: Duration::from_millis(7_001) })
        }

        async fn abandon(&self, _upload: &Upload) -> Result<(), StoreError> {
            self.note("abandon");
            Ok(())
        }

        async fn cancel(&self, _account: &str, _id: BatchId) -> Result<(), WishError> {
            Err(WishError::NotFound)
        }

        async fn pause(&self, _account: &str, _id: BatchId) -> Result<(), WishError> {
            Err(WishError::NotFound)
        }

        async fn resume(&self, _account: &str, _id: BatchId) -> Result<(), WishError> {
            Err(WishError::NotFound)
        }

        async fn amend(
            &self,
            _id: BatchId,
            _was: &BatchSpec,
            _becomes: &BatchSpec,
        ) -> Result<bool, WishError> {
            Err(WishError::NotFound)
        }

        async fn erase(&self, _account: &str, _id: BatchId) -> Result<(), WishError> {
            Err(WishError::NotFound)
        }

        async fn replay(&self, _account: &str, _id: BatchId) -> Result<(), ReplayError> {
            Err(ReplayError::NotFound)
        }

        async fn order_replay(&self, _: &str, _order: &ReplayOrder) -> Result<(), StoreError> {
            Ok(())
        }

        async fn set_stopped(&self, _provider: &str, _stopped: bool) -> Result<(), StoreError> {
            Ok(())
        }

        fn partitions(&self) -> u16 {
            1
        }
    }

    fn chunks(count: usize) -> Vec<NewChunk> {
        let mut chunker = Chunker::new(1);
        let entry = Entry { to: "+15551230001", ..Entry::default() };
        (0..count).filter_map(|_| chunker.push(&entry)).collect()
    }

    fn draft() -> Draft {
        let id = BatchId::new(UnixMs(1_790_000_000_000), 77 << 20, 0);
        Draft {
            id,
            spec: BatchSpec::default(),
            key: None,
            token: 9,
            batches_max: None,
            receipt_timeout: Duration::ZERO,
        }
    }

    fn optouts(store: &Arc<Scripted>) -> OptOuts {
        OptOuts::new(Arc::clone(store) as _)
    }

    async fn opened(store: &Arc<Scripted>) -> Result<Opening, Problem> {
        let intake: Arc<dyn Intake> = Arc::clone(store) as _;
        open(&intake, &optouts(store), &draft(), None).await
    }

    /// Brings so many chunks in. Gives the earlier batch, if that was accepted before.
    async fn uploaded(store: &Arc<Scripted>, count: usize) -> Result<Option<BatchId>, Problem> {
        match opened(store).await? {
            Opening::New(mut upload) => {
                upload.take(chunks(count)).await?;
                upload.seal([7; 32], 0).await.map(|_| None)
            }
            Opening::Earlier(earlier) => earlier.repeated_by([7; 32]).map(Some),
        }
    }

    async fn code(result: Result<Option<BatchId>, Problem>) -> String {
        use http_body_util::BodyExt;

        let problem = result.expect_err("it was accepted");
        let body = problem.into_response().into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        body["code"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn chunks_are_appended_in_groups_between_open_and_seal() {
        let store = Arc::new(Scripted::default());
        assert!(matches!(uploaded(&store, 17).await, Ok(None)));
        assert_eq!(*store.calls.lock(), ["open", "append 8", "append 8", "append 1", "seal 17"]);
        let empty = Arc::new(Scripted::default());
        assert!(matches!(uploaded(&empty, 0).await, Ok(None)));
        assert_eq!(*empty.calls.lock(), ["open", "seal 0"]);
    }

    #[tokio::test]
    async fn long_chunks_make_smaller_groups() {
        let store = Arc::new(Scripted::default());
        let Ok(Opening::New(mut upload)) = opened(&store).await else { panic!() };
        let long = "x".repeat(CALL_BYTES / 2);
        let entry = Entry { to: "+15551230001", variables: vec![("v", &long)], ..Entry::default() };
        let mut chunker = Chunker::new(1);
        let chunks = (0..5).filter_map(|_| chunker.push(&entry)).collect();
        assert!(upload.take(chunks).await.is_ok() && upload.seal([7; 32], 0).await.is_ok());
        assert_eq!(*store.calls.lock(), ["open", "append 2", "append 2", "append 1", "seal 5"]);
    }

    #[tokio::test]
    async fn an_upload_is_renewed_while_its_client_is_waited_for() {
        let store = Arc::new(Scripted::default());
        let Ok(Opening::New(mut upload)) = opened(&store).await else { panic!() };
        let began = Instant::now();
        upload.during(store.until("append 0")).await.unwrap();
        assert!(began.elapsed() < 3 * RENEW_AFTER);
        assert!(upload.seal([7; 32], 0).await.is_ok());
        assert_eq!(*store.calls.lock(), ["open", "append 0", "seal 0"]);
    }

    #[tokio::test]
    async fn an_upload_is_renewed_while_its_client_is_quick_and_brings_nothing() {
        let store = Arc::new(Scripted::default());
        let Ok(Opening::New(mut upload)) = opened(&store).await else { panic!() };
        let began = Instant::now();
        while store.calls.lock().len() < 2 && began.elapsed() < 3 * RENEW_AFTER {
            assert!(upload.take(Vec::new()).await.is_ok());
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(*store.calls.lock(), ["open", "append 0"]);
    }

    #[tokio::test]
    async fn an_upload_that_the_store_dropped_waits_for_its_client_no_longer() {
        let store = Arc::new(Scripted { appends_fail: true, ..Scripted::default() });
        let Ok(Opening::New(mut upload)) = opened(&store).await else { panic!() };
        assert!(upload.take(chunks(8)).await.is_ok());
        let waited = upload.during(std::future::pending::<Option<BatchId>>()).await;
        assert_eq!(code(waited).await, "upload_dropped");
        drop(upload);
        store.until("abandon").await;
    }

    #[tokio::test]
    async fn an_upload_that_is_given_up_is_abandoned_once() {
        let store = Arc::new(Scripted { appends_stall: true, ..Scripted::default() });
        let Ok(Opening::New(mut upload)) = opened(&store).await else { panic!() };
        assert!(upload.take(chunks(8)).await.is_ok());
        store.until("append 8").await;
        upload.abandon().await;
        upload.abandon().await;
        drop(upload);
        tokio::task::yield_now().await;
        assert_eq!(*store.calls.lock(), ["open", "append 8", "abandon"]);
    }

    #[tokio::test]
    async fn a_client_that_goes_away_leaves_nothing() {
        let store = Arc::new(Scripted { appends_stall: true, ..Scripted::default() });
        let (other, chunks) = (Arc::clone(&store), 100);
        let request = tokio::spawn(async move { uploaded(&other, chunks).await.is_ok() });
        store.until("append 8").await;
        request.abort();
        store.until("abandon").await;
        let at_once = store.calls.lock().iter().filter(|call| *call == "append 8").count();
        assert_eq!(at_once, CALLS_AT_ONCE);
    }

    #[tokio::test]
    async fn a_lost_reply_to_the_seal_is_asked_for_again() {
        let store = Arc::new(Scripted::default());
        store.seals.lock().push_back(StoreError::ReplyLost("reset".into()).into());
        assert!(matches!(uploaded(&store, 1).await, Ok(None)));
        assert_eq!(*store.calls.lock(), ["open", "append 1", "seal 1", "seal 1"]);
    }

    #[tokio::test]
    async fn only_a_lost_reply_to_the_seal_leaves_the_outcome_unknown() {
        let store = Arc::new(Scripted::default());
        let lost = StoreError::ReplyLost("reset".into());
        store.seals.lock().extend([lost.into(), StoreError::Unreachable("down".into()).into()]);
        assert_eq!(code(uploaded(&store, 1).await).await, "outcome_unknown");
        store.seals.lock().push_back(StoreError::Full("memory".into()).into());
        assert_eq!(code(uploaded(&store, 1).await).await, "store_full");
        store.seals.lock().push_back(IntakeError::Gone);
        assert_eq!(code(uploaded(&store, 1).await).await, "upload_dropped");
        store.until("abandon").await;
    }

    #[tokio::test]
    async fn an_upload_with_too_many_recipients_for_the_day_is_refused_as_it_comes() {
        for (daily_max, fine, too_many, status, after) in
            [(99, 8, 2, 429, Some("8")), (99, 0, 100, 422, None)]
        {
            let store = Arc::new(Scripted::default());
            let intake: Arc<dyn Intake> = Arc::clone(&store) as _;
            let opening = open(&intake, &optouts(&store), &draft(), Some(daily_max)).await;
            let Ok(Opening::New(mut upload)) = opening else { panic!() };
            assert!(upload.take(chunks(fine)).await.is_ok());
            let refused = upload.take(chunks(too_many)).await.unwrap_err().into_response();
            let told = refused.headers().get("retry-after").map(|value| value.to_str().unwrap());
            assert_eq!((refused.status().as_u16(), told), (status, after));
            assert_eq!(store.calls.lock().last().unwrap(), "abandon");
        }
    }

    #[tokio::test]
    async fn who_has_opted_out_is_counted_and_nothing_is_accepted_while_that_is_not_known() {
        let store = Arc::new(Scripted::default());
        let Ok(Opening::New(mut upload)) = opened(&store).await else { panic!() };
        let mut chunker = Chunker::new(2);
        let to = |to| Entry { to, ..Entry::default() };
        let chunks = ["+15551230009", "+15551230001", "+15551230009", "+15551230009"]
            .map(|number| chunker.push(&to(number)));
        assert!(upload.take(chunks.into_iter().flatten().collect()).await.is_ok());
        assert!(matches!(upload.seal([7; 32], 0).await, Ok(3)));

        let store = Arc::new(Scripted { lists_fail: true, ..Scripted::default() });
        assert_eq!(code(uploaded(&store, 1).await).await, "store_unavailable");
        store.until("abandon").await;
        assert_eq!(*store.calls.lock(), ["open", "abandon"]);
    }

    #[tokio::test]
    async fn the_store_has_the_last_word_on_the_day() {
        let store = Arc::new(Scripted::default());
        let day = Day { recipients: 100, left: Duration::from_mins(1) };
        store.seals.lock().push_back(IntakeError::DayFull(day));
        assert_eq!(code(uploaded(&store, 1).await).await, "daily_limit");
        assert_eq!(store.calls.lock().last().unwrap(), "abandon");
    }

    #[tokio::test]
    async fn a_repeated_key_gives_the_same_batch_or_says_why_not() {
        let store = Arc::new(Scripted::default());
        let id = BatchId::new(UnixMs(1_790_000_000_001), 78 << 20, 0);
        let replayed = |body_hash| *store.opened.lock() = Some(Opened::Replayed { id, body_hash });
        replayed([7; 32]);
        assert!(matches!(uploaded(&store, 1).await, Ok(Some(again)) if again == id));
        replayed([8; 32]);
        assert_eq!(code(uploaded(&store, 1).await).await, "idempotency_key_reused");
        *store.opened.lock() = Some(Opened::UnderWay);
        assert_eq!(code(uploaded(&store, 1).await).await, "idempotency_in_progress");
        tokio::task::yield_now().await;
        assert_eq!(*store.calls.lock(), ["open", "open", "open"], "nothing was abandoned");
    }
}
