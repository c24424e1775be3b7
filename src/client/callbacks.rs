//! Callbacks and events: where they stand, having them delivered again, and the feed.

use std::sync::Arc;

use futures_util::stream::BoxStream;
use http::header::CONTENT_TYPE;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Client, ClientError,
    pages::{query, walk},
};
use crate::{
    api::model::{
        AttemptList, CallbackList, EventCallback, EventList, ReplayCallbacks, ReplayedEvent,
        TestCallback, TestedCallback,
    },
    domain::{
        batch::CallbackState,
        ids::{BatchId, EventId},
    },
};

/// Events to a page, where all are read.
const EVENTS_A_PAGE: u32 = 1_000;

/// Which callbacks are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallbackFilter {
    /// Only those in this state.
    pub state: Option<CallbackState>,
    /// Only those to this host, with its port or whatever the port.
    pub host: Option<String>,
}

// === impl Client ===

impl Client {
    /// The last attempts at a batch's callback.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn attempts(&self, id: BatchId) -> Result<AttemptList, ClientError> {
        self.json(self.get(&format!("/v1/batches/{id}/callbacks"))).await
    }

    /// A page of events and where their callbacks stand, newest first: at most `limit` (1 to 1,000;
    /// 100 if absent), from where `cursor` points.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn callbacks(
        &self,
        filter: &CallbackFilter,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<CallbackList, ClientError> {
        let state = filter.state.map(CallbackState::word);
        let filters = [("state", state), ("host", filter.host.as_deref())];
        let query = query(filters, limit, cursor);
        self.json(self.get(&format!("/v1/callbacks{query}"))).await
    }

    /// All events and where their callbacks stand, newest first, read as they are taken from the
    /// stream.
    #[must_use]
    pub fn all_callbacks(
        &self,
        filter: CallbackFilter,
    ) -> BoxStream<'static, Result<EventCallback, ClientError>> {
        let client = self.clone();
        walk(Arc::clone(&self.base), move |cursor| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let limit = Some(EVENTS_A_PAGE);
                let page = client.callbacks(&filter, limit, cursor.as_deref()).await?;
                Ok((page.callbacks, page.next_cursor))
            }
        })
    }

    /// Has a batch's completion delivered again, with the same id and body.
    ///
    /// # Errors
    /// [`ClientError`]; `batch_state` if the batch is not over, `no_callback` if it has none.
    pub async fn replay_callback(&self, id: BatchId) -> Result<ReplayedEvent, ClientError> {
        self.json(self.post(&format!("/v1/batches/{id}/callbacks/replay"))).await
    }

    /// Has all callbacks delivered again that ended as `order` says; gives the order as the server
    /// has stored it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn replay_callbacks(
        &self,
        order: &ReplayCallbacks,
    ) -> Result<ReplayCallbacks, ClientError> {
        self.json_of("/v1/callbacks/replay", order).await
    }

    /// The next events after `after`, oldest first, from the oldest on if nothing is said: at most
    /// `limit` (1 to 1,000; 100 if absent).
    ///
    /// # Errors
    /// [`ClientError`]; `not_found` if the event `after` was erased.
    pub async fn events_after(
        &self,
        after: Option<EventId>,
        limit: Option<u32>,
    ) -> Result<EventList, ClientError> {
        let after = after.map(|id| id.to_string());
        let query = query([("after", after.as_deref())], limit, None);
        self.json(self.get(&format!("/v1/events{query}"))).await
    }

    /// Has one signed ping sent; gives what came of it.
    ///
    /// # Errors
    /// [`ClientError`]; `callback_url_forbidden` if the server sends nothing there.
    pub async fn test_callback(&self, test: &TestCallback) -> Result<TestedCallback, ClientError> {
        self.json_of("/v1/callbacks/test", test).await
    }

    /// Posts a document; gives the resource that answers it.
    async fn json_of<T: DeserializeOwned>(
        &self,
        path: &str,
        document: &impl Serialize,
    ) -> Result<T, ClientError> {
        let json = serde_json::to_vec(document).map_err(|error| {
            ClientError::Settings(format!("the request can't be written: {error}"))
        })?;
        self.json(self.post(path).header(CONTENT_TYPE, "application/json").body(json)).await
    }
}
