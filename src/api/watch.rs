//! Batches that clients watch: by a long poll, or as a stream of events.
//!
//! However many watch a batch in this process, and however fast it runs, the store is asked for it at
//! most four times a second, once for all of them, and only while somebody watches; who comes later
//! joins them and asks nobody. What a look is told to costs by the watcher, so the more there are the
//! less often it is: to 200 once a second.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::{
    body::Body,
    extract::State,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, Uri,
    header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH},
};
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    AppState,
    auth::Account,
    batches,
    digest::{hex, sha256},
    model::{BatchResource, ProblemBody},
    params::{BatchPath, Query},
    problem::Problem,
};
use crate::{domain::ids::BatchId, store::Reading};

/// How long between two looks at a batch that is watched; by many, so long for each of them, that no
/// more than 200 a second are told.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_EVERY_EACH: Duration = Duration::from_millis(5);
const LOOK_EVERY_MAX: Duration = Duration::from_secs(2);

/// The longest that a client can have an answer wait.
const WAIT_MAX: Duration = Duration::from_mins(5);

/// How often a stream that has nothing to tell says that it is still there: by a comment.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// The id of the last event of a stream.
const OVER: &str = "completed";

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// A batch as it was last seen.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    json: Bytes,
    /// The event that tells of it; made once for all who watch.
    event: Bytes,
    /// A word for these very bytes.
    tag: Arc<str>,
    is_over: bool,
}

/// The batches that are watched in this process.
pub(super) struct Watches {
    reading: Arc<dyn Reading>,
    open: Mutex<HashMap<BatchId, Open>>,
}

/// A batch that is watched.
struct Open {
    account: Account,
    sender: watch::Sender<Shown>,
}

/// Follow a batch
///
/// Server-sent events: `progress` with the batch as `GET /v1/batches/{id}` shows it, at once and
/// whenever it changed, at most four times a second, and less often where many follow it; then
/// `completed` with it, and the stream ends.
/// A client that comes back with the `Last-Event-ID` of `completed` is answered 204.
#[utoipa::path(
    get, path = "/v1/batches/{id}/events", tag = "Batches",
    params(
        ("id" = String, Path, description = "The batch's id."),
        ("last-event-id" = Option<String>, Header, description = "What was seen already."),
    ),
    responses(
        (status = 200, description = "The stream; each event's data is a batch.",
            body = BatchResource, content_type = "text/event-stream"),
        (status = 204, description = "The end of the batch was seen already."),
        (status = 404, description = "The account has no such batch.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn events(
    State(app): State<AppState>,
    account: Account,
    BatchPath(id): BatchPath,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Query::parse(&uri, &[])?;
    let watched = if let Some(watched) = app.watches.join(&account, id) {
        watched
    } else {
        let shown = Shown::new(&batches::resource(&app, &account, id).await?);
        app.watches.watch(&account, id, shown)
    };
    let seen = headers.get(LAST_EVENT_ID).map(HeaderValue::as_bytes);
    if seen == Some(OVER.as_bytes()) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let knows_this = seen == Some(watched.borrow().tag.as_bytes());
    let events = events_of(watched, knows_this).take_until(app.shutdown.clone().cancelled_owned());
    // Nothing on the way is to hold events back.
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, Body::from_stream(events)).into_response())
}

/// How long a client wants to wait.
pub(super) fn wait_time(text: &str) -> Result<Duration, &'static str> {
    let wait = humantime::parse_duration(text).map_err(|_| "give a duration such as \"30s\"")?;
    if wait > WAIT_MAX { Err("at most 5m can be waited") } else { Ok(wait) }
}

/// The events of a watched batch, until it is over or gone.
fn events_of(
    mut watched: watch::Receiver<Shown>,
    knows_this: bool,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    if !knows_this {
        watched.mark_changed();
    }
    stream::unfold(Some(watched), |watched| async {
        let mut watched = watched?;
        if !watched.borrow().is_over {
            match timeout(KEEP_ALIVE, watched.changed()).await {
                Ok(seen) => seen.ok()?,
                Err(_) => return Some((Ok(COMMENT), Some(watched))),
            }
        }
        let shown = watched.borrow_and_update().clone();
        Some((Ok(shown.event), (!shown.is_over).then_some(watched)))
    })
}

// === impl Shown ===

impl Shown {
    pub(super) fn new(batch: &BatchResource) -> Self {
        // A resource is made of strings, numbers and JSON: it always renders.
        let json = serde_json::to_vec(batch).unwrap_or_default();
        let hash = hex(&sha256(&json));
        let tag = hash.get(..32).unwrap_or_default();
        let is_over = batch.completed_at.is_some();
        let (name, id) = if is_over { (OVER, OVER) } else { ("progress", tag) };
        // The resource is one line: a line break within its strings is escaped, and one in the
        // client's metadata is white space.
        let data = String::from_utf8_lossy(&json).replace(['\r', '\n'], " ");
        let event = format!("event: {name}\nid: {id}\ndata: {data}\n\n");
        Self { tag: tag.into(), is_over, event: event.into(), json: json.into() }
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The answer that shows it; 304 if the client has it already.
    pub(super) fn answer(self, headers: &HeaderMap) -> Response {
        let etag = [(ETAG, format!("\"{}\"", self.tag)), (CACHE_CONTROL, "no-cache".to_owned())];
        if self.is_known(headers) {
            return (StatusCode::NOT_MODIFIED, etag).into_response();
        }
        (etag, [(CONTENT_TYPE, "application/json")], self.json).into_response()
    }

    /// Whether `If-None-Match` names it, or anything.
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let given = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let mut tags = given.flat_map(|value| value.split(',')).map(str::trim);
        tags.any(|tag| {
            let quoted = tag.strip_prefix("W/").unwrap_or(tag).strip_prefix('"');
            tag == "*" || quoted.and_then(|tag| tag.strip_suffix('"')) == Some(&*self.tag)
        })
    }
}

// === impl Watches ===

impl Watches {
    pub(super) fn new(reading: Arc<dyn Reading>) -> Arc<Self> {
        Arc::new(Self { reading, open: Mutex::default() })
    }

    /// Waits until the batch is over, at most for this long; gives how it then stands.
    pub(super) async fn until_over(
        self: &Arc<Self>,
        account: &Account,
        id: BatchId,
        shown: Shown,
        longest: Duration,
    ) -> Shown {
        let mut watched = self.watch(account, id, shown);
        // It may be gone meanwhile; then it is shown as it last was.
        let _ = timeout(longest, watched.wait_for(Shown::is_over)).await;
        let shown = watched.borrow();
        shown.clone()
    }

    /// Watches a batch that is watched already, as its watchers saw it last: nobody is asked. `None`
    /// if it is not watched, or is another account's.
    fn join(&self, account: &Account, id: BatchId) -> Option<watch::Receiver<Shown>> {
        let open = self.open.lock();
        let open = open.get(&id).filter(|open| open.account.0 == account.0)?;
        Some(open.sender.subscribe())
    }

    /// Watches a batch of the account's that was just seen as `shown`; what others who watch it saw
    /// last stays, so that they are told of it no more often.
    fn watch(
        self: &Arc<Self>,
        account: &Account,
        id: BatchId,
        shown: Shown,
    ) -> watch::Receiver<Shown> {
        match self.open.lock().entry(id) {
            Entry::Occupied(open) => open.get().sender.subscribe(),
            Entry::Vacant(place) => {
                let (sender, watched) = watch::channel(shown);
                place.insert(Open { account: account.clone(), sender });
                let (all, account) = (self.clone(), account.clone());
                tokio::spawn(async move { all.look(&account, id).await });
                watched
            }
        }
    }

    /// Looks at a batch as long as somebody watches it.
    async fn look(&self, account: &Account, id: BatchId) {
        let mut wait = LOOK_EVERY;
        loop {
            sleep(wait).await;
            let Some(watchers) = self.watchers(id) else { return };
            wait = look_every(watchers);
            match self.reading.batch(&account.0, id).await {
                Ok(Some(batch)) => {
                    if let Some(open) = self.open.lock().get(&id) {
                        see(&open.sender, Shown::new(&batch.into()));
                    }
                }
                Ok(None) => {
                    // Erased: dropping the sender ends what watches it.
                    self.open.lock().remove(&id);
                    return;
                }
                // The store is away; whoever waits goes on waiting.
                Err(error) => {
                    tracing::debug!(batch.id = %id, %error, "a watched batch is not seen");
                }
            }
        }
    }

    /// How many watch it; it is forgotten if nobody does.
    fn watchers(&self, id: BatchId) -> Option<usize> {
        let mut open = self.open.lock();
        let watchers = open.get(&id).map_or(0, |open| open.sender.receiver_count());
        if watchers == 0 {
            open.remove(&id);
        }
        (watchers > 0).then_some(watchers)
    }
}

/// How long to wait for the next look at a batch that so many watch.
fn look_every(watchers: usize) -> Duration {
    let each = u32::try_from(watchers).unwrap_or(u32::MAX);
    LOOK_EVERY_EACH.saturating_mul(each).clamp(LOOK_EVERY, LOOK_EVERY_MAX)
}

/// Shows those who watch a batch how it stands, if that is new.
fn see(sender: &watch::Sender<Shown>, shown: Shown) {
    sender.send_if_modified(|last| {
        let is_new = last.tag != shown.tag && !last.is_over;
        if is_new {
            *last = shown;
        }
        is_new
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(tag: &str, is_over: bool) -> Shown {
        Shown { json: Bytes::from_static(b"{}"), event: Bytes::new(), tag: tag.into(), is_over }
    }

    #[test]
    fn an_answer_that_is_known_is_not_repeated() {
        let answer = |given: &str| {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, given.parse().unwrap())]);
            shown("abc", false).answer(&headers)
        };
        for known in ["\"abc\"", "W/\"abc\"", "\"x\", \"abc\"", "*"] {
            let answer = answer(known);
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
            assert_eq!(answer.headers()[ETAG], "\"abc\"");
        }
        for new in ["\"ab\"", "", "abc", "\"abc", "\"x\",\"y\""] {
            assert_eq!(answer(new).status(), 200, "{new}");
        }
        assert_eq!(shown("abc", false).answer(&HeaderMap::new()).status(), 200);
    }

    #[test]
    fn only_what_is_new_is_shown_and_nothing_after_the_end() {
        let (sender, mut watched) = watch::channel(shown("a", false));
        see(&sender, shown("a", false));
        assert!(!watched.has_changed().unwrap());
        see(&sender, shown("b", true));
        assert!(watched.borrow_and_update().is_over);
        see(&sender, shown("c", false));
        assert!(!watched.has_changed().unwrap());
    }

    #[test]
    fn the_more_watch_the_less_often_they_are_told() {
        for (watchers, ms) in [(1, 250), (50, 250), (200, 1_000), (usize::MAX, 2_000)] {
            assert_eq!(look_every(watchers), Duration::from_millis(ms), "{watchers}");
        }
    }

    #[test]
    fn a_wait_is_a_bounded_duration() {
        assert_eq!(wait_time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(wait_time("5m"), Ok(WAIT_MAX));
        for wrong in ["", "30", "-1s", "301s", "1h"] {
            assert!(wait_time(wrong).is_err(), "{wrong}");
        }
    }
}
