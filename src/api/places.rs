//! Places for connections: so many are open at once. Where few are left, the connection that has
//! waited longest for its client makes room for a new one; those with a request under way keep theirs.
//! So clients that only hold connections open, or send their headers slowly, keep nobody out.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// The places that are kept free for connections to come, so that these need not wait until another one
/// has ended: this many, or a sixteenth of all.
const RESERVE: usize = 64;

/// How long a connection that is to make room may take, before the next one is to.
const ROOM_TIME: Duration = Duration::from_millis(10);

/// How long to wait for a place where every connection has a request under way, before looking again.
const BUSY_TIME: Duration = Duration::from_millis(100);

/// The places of one listener.
pub(super) struct Places {
    free: Arc<Semaphore>,
    reserve: usize,
    waiting: Arc<Waiting>,
    /// Ends all connections.
    hard: CancellationToken,
}

/// A connection's place. It is free once this is dropped.
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    waiting: Arc<Waiting>,
    end: CancellationToken,
    /// Its number among those that wait; none while a request is under way.
    number: Mutex<Option<u64>>,
}

/// The connections that wait for their clients. Those of the smallest numbers wait longest.
#[derive(Default)]
struct Waiting(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    next: u64,
    ends: BTreeMap<u64, CancellationToken>,
}

/// An answer's body, with which the request ends.
pub(super) struct UnderWay {
    body: Body,
    place: Arc<Place>,
}

// === impl Places ===

impl Places {
    /// So many places. All connections end with `hard`.
    pub(super) fn new(connections_max: u32, hard: CancellationToken) -> Self {
        // A Semaphore counts further than a u32 on every platform with 64 bits.
        let places = usize::try_from(connections_max.max(1)).unwrap_or(usize::MAX);
        let free = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        let reserve = RESERVE.min(places / 16);
        Self { free, reserve, waiting: Arc::default(), hard }
    }

    /// A place for a connection that waits for its first request.
    pub(super) async fn take(&self) -> Arc<Place> {
        let place = Place {
            _permit: self.permit().await,
            waiting: Arc::clone(&self.waiting),
            end: self.hard.child_token(),
            number: Mutex::default(),
        };
        place.wait();
        Arc::new(place)
    }

    async fn permit(&self) -> OwnedSemaphorePermit {
        if self.free.available_permits() < self.reserve {
            // One for the place that is taken now, and one for the reserve.
            self.make_room(2);
        }
        loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                return permit;
            }
            let time = if self.make_room(1) > 0 { ROOM_TIME } else { BUSY_TIME };
            let freed = timeout(time, Arc::clone(&self.free).acquire_owned()).await;
            if let Ok(Ok(permit)) = freed {
                return permit;
            }
        }
    }

    /// Ends so many of the connections that have waited longest; gives how many there were.
    pub(super) fn make_room(&self, connections: usize) -> usize {
        let mut queue = self.waiting.0.lock();
        let longest = std::iter::from_fn(|| queue.ends.pop_first()).take(connections);
        longest.map(|(_, end)| end.cancel()).count()
    }
}

// === impl Place ===

impl Place {
    /// Ends its connection, once cancelled.
    pub(super) fn end(&self) -> &CancellationToken {
        &self.end
    }

    /// A request has come. Never ready if the connection has to make room: it ends any moment, and the
    /// request was not looked at.
    pub(super) async fn work(&self) {
        let is_ending = {
            let number = self.number.lock().take();
            let mut queue = self.waiting.0.lock();
            number.is_some_and(|number| queue.ends.remove(&number).is_none())
        };
        if is_ending {
            std::future::pending::<()>().await;
        }
    }

    /// The request was answered.
    fn wait(&self) {
        let mut queue = self.waiting.0.lock();
        let number = queue.next;
        queue.next += 1;
        queue.ends.insert(number, self.end.clone());
        *self.number.lock() = Some(number);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(number) = self.number.get_mut().take() {
            self.waiting.0.lock().ends.remove(&number);
        }
    }
}

// === impl UnderWay ===

impl UnderWay {
    /// The answer to the request in hand at this place.
    pub(super) fn answer(response: Response<Body>, place: Arc<Place>) -> Response<Self> {
        response.map(|body| Self { body, place })
    }
}

impl http_body::Body for UnderWay {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.place.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How long anything may take that is expected to happen.
    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn who_has_waited_longest_makes_room() {
        let places = Places::new(2, CancellationToken::new());
        let (first, second) = (places.take().await, places.take().await);
        // Since its request was answered, the first has waited for a shorter time than the second.
        first.work().await;
        drop(UnderWay::answer(Response::new(Body::empty()), Arc::clone(&first)));
        let third = async {
            second.end().cancelled().await;
            drop(second);
        };
        let (third, ()) =
            timeout(SOON, async { tokio::join!(places.take(), third) }).await.unwrap();
        assert!(!first.end().is_cancelled() && !third.end().is_cancelled());
    }

    #[tokio::test]
    async fn some_places_are_kept_free_as_long_as_others_only_wait() {
        let places = Places::new(32, CancellationToken::new());
        let mut taken = Vec::new();
        for _ in 0..32 {
            taken.push(places.take().await);
        }
        let ended: Vec<_> = taken.iter().map(|place| place.end().is_cancelled()).collect();
        assert_eq!(ended.iter().take_while(|ended| **ended).count(), 2);
        assert_eq!(ended.iter().filter(|ended| **ended).count(), 2);
    }

    #[tokio::test]
    async fn who_has_a_request_under_way_keeps_its_place() {
        let places = Places::new(1, CancellationToken::new());
        let first = places.take().await;
        first.work().await;
        let answer = UnderWay::answer(Response::new(Body::from("x")), Arc::clone(&first));
        assert!(timeout(BUSY_TIME * 2, places.take()).await.is_err());
        assert!(!first.end().is_cancelled());
        drop(answer);
        assert_eq!(places.make_room(5), 1);
        // A request that comes now is not looked at.
        assert!(timeout(ROOM_TIME, first.work()).await.is_err());
        drop(first);
        timeout(SOON, places.take()).await.unwrap();
        assert_eq!(places.make_room(1), 0);
    }
}
