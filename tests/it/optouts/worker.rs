//! What a worker makes of opt-outs: with a list that can be away, and a carrier that says who has opted out.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use ringback::{
    dispatch::{Lane, Worker, WorkerSettings},
    domain::{
        ids::BatchId,
        message::{FinalState, MessageState},
        number::Number,
        outcome::{OPTED_OUT, Outcome, SendError},
    },
    providers::{CommonSettings, Provider, Submission},
    store::{MessageView, OptOuts, Store, StoreError, Suppressions},
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    harness::{Kind, PATIENCE, eventually},
    store::fixture::{ACCOUNT, Fixture, RULES},
};

const THREE: [&str; 3] = ["+15551230001", "+15551230002", "+15551230003"];

/// Lists in memory, which can be away.
#[derive(Default)]
struct Lists {
    numbers: Mutex<BTreeSet<Number>>,
    is_away: AtomicBool,
    /// How often somebody looked.
    looks: AtomicUsize,
}

/// A carrier that refuses one recipient, who has opted out with it.
#[derive(Default)]
struct Carrier {
    refuses: Option<&'static str>,
    called: Mutex<Vec<String>>,
}

/// A worker that ends with the test.
struct Working {
    soft: CancellationToken,
    hard: CancellationToken,
    task: JoinHandle<()>,
}

// === impl Lists ===

#[async_trait]
impl Suppressions for Lists {
    async fn add(&self, _: &str, numbers: &[Number]) -> Result<u64, StoreError> {
        let mut known = self.numbers.lock();
        Ok(numbers.iter().filter(|number| known.insert(**number)).count() as u64)
    }

    async fn remove(&self, _: &str, numbers: &[Number]) -> Result<u64, StoreError> {
        let mut known = self.numbers.lock();
        Ok(numbers.iter().filter(|number| known.remove(number)).count() as u64)
    }

    async fn contains(&self, _: &str, numbers: &[Number]) -> Result<Vec<bool>, StoreError> {
        let known = self.numbers.lock();
        Ok(numbers.iter().map(|number| known.contains(number)).collect())
    }

    async fn list(
        &self,
        _: &str,
        _: Option<Number>,
        _: usize,
    ) -> Result<(Vec<Number>, Option<Number>), StoreError> {
        Ok((self.numbers.lock().iter().copied().collect(), None))
    }

    async fn count(&self, _: &str) -> Result<u64, StoreError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Unreachable("it is away".to_owned()));
        }
        Ok(self.numbers.lock().len() as u64)
    }
}

// === impl Carrier ===

impl Provider for Carrier {
    fn submit<'a>(&'a self, submission: Submission<'a>) -> BoxFuture<'a, Outcome> {
        self.called.lock().push(submission.to.to_owned());
        let outcome = if Some(submission.to) == self.refuses {
            let error = SendError::permanent(OPTED_OUT, "unsubscribed").with_provider_code("21610");
            Outcome::Rejected { error }
        } else {
            Outcome::Accepted { provider_message_id: None, receipt_follows: false }
        };
        std::future::ready(outcome).boxed()
    }
}

// === impl Working ===

impl Working {
    fn on(store: &Store, name: &str, carrier: &Arc<Carrier>) -> Self {
        let provider = Arc::clone(carrier) as _;
        let settings = CommonSettings::default();
        let lanes = vec![Lane { name: name.to_owned(), provider, settings }];
        let (lease, drain_timeout) = (RULES.lease, Duration::from_secs(5));
        let settings = WorkerSettings { lease, chunk_size: 500, drain_timeout };
        let worker = Worker::new(store.clone(), lanes, settings, &Arc::default());
        let (soft, hard) = (CancellationToken::new(), CancellationToken::new());
        let task = tokio::spawn(worker.run(soft.clone(), hard.clone()));
        Self { soft, hard, task }
    }

    async fn end(mut self) {
        self.soft.cancel();
        (&mut self.task).await.expect("the worker");
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.hard.cancel();
    }
}

async fn when_over(on: &Fixture, id: BatchId) -> Vec<MessageView> {
    eventually("the end of the batch", PATIENCE, async || {
        on.batch(id).await.is_over().then_some(())
    })
    .await;
    on.store.reading.messages(id, None, 0, 100).await.expect("messages").0
}

fn code(message: &MessageView) -> Option<&str> {
    message.error.as_ref().map(|error| &*error.code)
}

#[tokio::test]
async fn nothing_leaves_while_nobody_can_say_who_has_opted_out() {
    let on = Fixture::start(Kind::Embedded).await;
    let (lists, carrier) = (Arc::<Lists>::default(), Arc::<Carrier>::default());
    let store = Store { optouts: OptOuts::new(Arc::clone(&lists) as _), ..on.store.clone() };
    lists.numbers.lock().insert(THREE[1].parse().expect("a number"));
    lists.is_away.store(true, Ordering::SeqCst);
    let id = on.accept(&THREE, 3).await;
    let working = Working::on(&store, &on.provider, &carrier);
    eventually("another try to look", PATIENCE, async || {
        (lists.looks.load(Ordering::SeqCst) >= 3).then_some(())
    })
    .await;
    assert_eq!(*carrier.called.lock(), [] as [&str; 0]);
    lists.is_away.store(false, Ordering::SeqCst);
    let messages = when_over(&on, id).await;
    assert_eq!(*carrier.called.lock(), [THREE[0], THREE[2]]);
    assert_eq!((messages[1].state, messages[1].attempts), (MessageState::Failed, 0));
    assert_eq!(code(&messages[1]), Some("opted_out"));
    let ended = on.batch(id).await.counts.ended;
    assert_eq!((ended[FinalState::Sent], ended[FinalState::Failed], ended.sum()), (2, 1, 3));
    working.end().await;
}

#[tokio::test]
async fn who_has_opted_out_with_the_carrier_gets_nothing_from_the_next_batch() {
    let on = Fixture::start(Kind::Embedded).await;
    let carrier = Arc::new(Carrier { refuses: Some(THREE[2]), ..Carrier::default() });
    let working = Working::on(&on.store, &on.provider, &carrier);
    let messages = when_over(&on, on.accept(&THREE, 3).await).await;
    assert_eq!((messages[2].state, messages[2].attempts), (MessageState::Failed, 1));
    assert_eq!(code(&messages[2]), Some("opted_out"));
    let optouts = &on.store.optouts;
    eventually("the account's list", PATIENCE, async || {
        (optouts.count(ACCOUNT).await.expect("a count") == 1).then_some(())
    })
    .await;
    carrier.called.lock().clear();
    let messages = when_over(&on, on.accept(&THREE, 3).await).await;
    assert_eq!((code(&messages[2]), messages[2].attempts), (Some("opted_out"), 0));
    let mut called = carrier.called.lock().clone();
    called.sort();
    assert_eq!(called, THREE[..2]);
    working.end().await;
}
