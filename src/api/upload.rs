//! Brings an accepted submission into the store: open, append, seal.
//!
//! Whatever ends an upload early, be it a failure or a client that went away, abandons it: nothing
//! of it is sent and its idempotency key is free again. Only a lost reply to the seal leaves open
//! whether the batch is accepted, and then the client is told so.

use std::{future::Future, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryFutureExt, stream::FuturesUnordered};
use http::StatusCode;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use super::{digest::Sha256, problem::Problem};
use crate::{
    domain::{chunk::NewChunk, ids::BatchId},
    store::{Draft, Intake, IntakeError, Opened, StoreError, Upload},
};

/// The most chunks in one call.
const CHUNKS_PER_CALL: usize = 8;

/// The most calls at once.
const CALLS_AT_ONCE: usize = 4;

/// How long to wait before a call whose reply was lost is repeated, time after time.
const REPEATS_MS: [u64; 3] = [50, 200, 500];

/// How long one call may take, and how long after the first one a call is repeated. The store
/// drops an upload that is silent for longer.
const CALL_TIME: Duration = Duration::from_secs(5);

/// What an upload came to.
pub(super) enum Received {
    /// The batch is accepted.
    New,
    /// The same request was accepted before, as this batch.
    Again(BatchId),
}

/// Abandons an upload when it is dropped, unless it was sealed.
struct Abandon {
    intake: Arc<dyn Intake>,
    upload: Upload,
    armed: bool,
}

/// Uploads `chunks` as `draft`, the body of whose request hashes to `body_hash`.
///
/// # Errors
/// [`Problem`]: then nothing is accepted, unless it is `outcome_unknown`.
pub(super) async fn upload(
    intake: &Arc<dyn Intake>,
    draft: &Draft,
    chunks: &[NewChunk],
    body_hash: Sha256,
) -> Result<Received, Problem> {
    let upload = Upload { id: draft.id, token: draft.token };
    let mut abandon = Abandon { intake: Arc::clone(intake), upload, armed: true };
    let opened = repeated(|| intake.open(draft).err_into()).await.result.map_err(refused)?;
    let upload = match opened {
        Opened::New(upload) => upload,
        Opened::UnderWay => {
            abandon.armed = false;
            return Err(under_way());
        }
        Opened::Replayed { id, body_hash: earlier } => {
            abandon.armed = false;
            return if earlier == body_hash { Ok(Received::Again(id)) } else { Err(key_reused()) };
        }
    };
    append(intake, &upload, chunks).await.map_err(refused)?;
    seal(intake, &upload, chunks, body_hash).await?;
    abandon.armed = false;
    Ok(Received::New)
}

async fn append(
    intake: &Arc<dyn Intake>,
    upload: &Upload,
    chunks: &[NewChunk],
) -> Result<(), IntakeError> {
    let mut groups = chunks.chunks(CHUNKS_PER_CALL);
    let mut calls = FuturesUnordered::new();
    loop {
        let free = CALLS_AT_ONCE - calls.len();
        calls.extend(groups.by_ref().take(free).map(|group| append_group(intake, upload, group)));
        match calls.next().await {
            Some(appended) => appended?,
            None => return Ok(()),
        }
    }
}

async fn append_group(
    intake: &Arc<dyn Intake>,
    upload: &Upload,
    group: &[NewChunk],
) -> Result<(), IntakeError> {
    repeated(|| intake.append(upload, group)).await.result
}

async fn seal(
    intake: &Arc<dyn Intake>,
    upload: &Upload,
    chunks: &[NewChunk],
    body_hash: Sha256,
) -> Result<(), Problem> {
    // Messages are numbered in 32 bits, and no chunk is empty.
    let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
    let tried = repeated(|| intake.seal(upload, count, body_hash)).await;
    match tried.result {
        Ok(()) => Ok(()),
        Err(IntakeError::Store(error)) if tried.reply_lost => {
            tracing::warn!(batch.id = %upload.id, %error, "whether a batch was accepted is unknown");
            let detail = "The store's reply was lost: the batch may or may not be accepted. \
                          Repeat the request with the same Idempotency-Key.";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            Err(Problem::new(status, "outcome_unknown", detail).retry_after(1))
        }
        Err(error) => Err(refused(error)),
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
        IntakeError::Gone => {
            let detail = "The upload took too long and was dropped; nothing of it is sent.";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "upload_dropped", detail).retry_after(1)
        }
    }
}

fn under_way() -> Problem {
    let detail = "The first request with this Idempotency-Key is still under way.";
    Problem::new(StatusCode::CONFLICT, "idempotency_in_progress", detail).retry_after(1)
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
            time::UnixMs,
        },
        store::WishError,
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
            Ok(())
        }

        async fn seal(
            &self,
            _upload: &Upload,
            chunks: u32,
            _body_hash: [u8; 32],
        ) -> Result<(), IntakeError> {
            self.note(format!("seal {chunks}"));
            self.seals.lock().pop_front().map_or(Ok(()), Err)
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
        Draft { id, spec: BatchSpec::default(), key: None, token: 9 }
    }

    async fn uploaded(store: &Arc<Scripted>, count: usize) -> Result<Received, Problem> {
        let intake: Arc<dyn Intake> = Arc::clone(store) as _;
        upload(&intake, &draft(), &chunks(count), [7; 32]).await
    }

    async fn code(result: Result<Received, Problem>) -> String {
        use http_body_util::BodyExt;

        let Err(problem) = result else { panic!("it was accepted") };
        let body = problem.into_response().into_body().collect().await.unwrap().to_bytes();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        body["code"].as_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn chunks_are_appended_in_groups_between_open_and_seal() {
        let store = Arc::new(Scripted::default());
        assert!(matches!(uploaded(&store, 17).await, Ok(Received::New)));
        assert_eq!(*store.calls.lock(), ["open", "append 8", "append 8", "append 1", "seal 17"]);
        let empty = Arc::new(Scripted::default());
        assert!(matches!(uploaded(&empty, 0).await, Ok(Received::New)));
        assert_eq!(*empty.calls.lock(), ["open", "seal 0"]);
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
        assert!(matches!(uploaded(&store, 1).await, Ok(Received::New)));
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
    async fn a_repeated_key_gives_the_same_batch_or_says_why_not() {
        let store = Arc::new(Scripted::default());
        let id = BatchId::new(UnixMs(1_790_000_000_001), 78 << 20, 0);
        let replayed = |body_hash| *store.opened.lock() = Some(Opened::Replayed { id, body_hash });
        replayed([7; 32]);
        assert!(matches!(uploaded(&store, 1).await, Ok(Received::Again(again)) if again == id));
        replayed([8; 32]);
        assert_eq!(code(uploaded(&store, 1).await).await, "idempotency_key_reused");
        *store.opened.lock() = Some(Opened::UnderWay);
        assert_eq!(code(uploaded(&store, 1).await).await, "idempotency_in_progress");
        tokio::task::yield_now().await;
        assert_eq!(*store.calls.lock(), ["open", "open", "open"], "nothing was abandoned");
    }
}
