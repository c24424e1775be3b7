//! Lists: a page, or all of them one after the other.

use std::{future::Future, sync::Arc};

use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use url::form_urlencoded::Serializer;

use super::{Client, ClientError};
use crate::{
    api::model::{BatchList, BatchResource, MessageList, MessageResource},
    domain::{batch::BatchState, ids::BatchId, message::MessageState},
};

/// Batches to a page, where all are read.
const BATCHES_A_PAGE: u32 = 100;

/// Messages to a page, where all are read: as many as the server gives.
const MESSAGES_A_PAGE: u32 = 1_000;

/// Which batches are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchFilter {
    /// Only those in this state.
    pub state: Option<BatchState>,
    /// Only those with this reference.
    pub reference: Option<String>,
}

/// A page: its items, and where the next one begins.
pub(super) type Page<T> = (Vec<T>, Option<String>);

// === impl Client ===

impl Client {
    /// A page of batches, newest first: at most `limit` (1 to 1,000; 100 if absent), from where
    /// `cursor` points.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn batches(
        &self,
        filter: &BatchFilter,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<BatchList, ClientError> {
        let state = filter.state.map(BatchState::word);
        let filters = [("state", state), ("reference", filter.reference.as_deref())];
        let query = query(filters, limit, cursor);
        self.json(self.get(&format!("/v1/batches{query}"))).await
    }

    /// All batches, newest first, read as they are taken from the stream.
    #[must_use]
    pub fn all_batches(
        &self,
        filter: BatchFilter,
    ) -> BoxStream<'static, Result<BatchResource, ClientError>> {
        let client = self.clone();
        walk(Arc::clone(&self.base), move |cursor| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let page = client.batches(&filter, Some(BATCHES_A_PAGE), cursor.as_deref()).await?;
                Ok((page.batches, page.next_cursor))
            }
        })
    }

    /// A page of a batch's messages, in order: at most `limit` (1 to 1,000; 100 if absent), from
    /// where `cursor` points.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn messages(
        &self,
        id: BatchId,
        state: Option<MessageState>,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<MessageList, ClientError> {
        let query = query([("state", state.map(MessageState::word))], limit, cursor);
        self.json(self.get(&format!("/v1/batches/{id}/messages{query}"))).await
    }

    /// All messages of a batch, in order, read as they are taken from the stream.
    #[must_use]
    pub fn all_messages(
        &self,
        id: BatchId,
        state: Option<MessageState>,
    ) -> BoxStream<'static, Result<MessageResource, ClientError>> {
        let client = self.clone();
        walk(Arc::clone(&self.base), move |cursor| {
            let client = client.clone();
            async move {
                let limit = Some(MESSAGES_A_PAGE);
                let page = client.messages(id, state, limit, cursor.as_deref()).await?;
                Ok((page.messages, page.next_cursor))
            }
        })
    }
}

/// Reads page after page of the server at `url`; gives each one's items, in order.
pub(super) fn walk<'a, T, P>(
    url: Arc<str>,
    mut page: impl FnMut(Option<String>) -> P + Send + 'a,
) -> BoxStream<'a, Result<T, ClientError>>
where
    T: Send + 'a,
    P: Future<Output = Result<Page<T>, ClientError>> + Send + 'a,
{
    // The outer option says whether there is a page to read, the inner one where it begins.
    let pages = stream::try_unfold(Some(None::<String>), move |at| {
        let read = at.map(|cursor| (page(cursor.clone()), cursor));
        let url = Arc::clone(&url);
        async move {
            let Some((read, cursor)) = read else { return Ok(None) };
            let (items, next) = read.await?;
            if next.is_some() && next == cursor {
                let detail = "its pages have no end".to_owned();
                return Err(ClientError::Foreign { url: url.to_string(), detail });
            }
            Ok(Some((stream::iter(items.into_iter().map(Ok)), next.map(Some))))
        }
    });
    pages.try_flatten().boxed()
}

/// The query of a list, with its question mark; empty if nothing is asked.
pub(super) fn query<const N: usize>(
    filters: [(&str, Option<&str>); N],
    limit: Option<u32>,
    cursor: Option<&str>,
) -> String {
    let limit = limit.map(|limit| limit.to_string());
    let given = filters.into_iter().chain([("limit", limit.as_deref()), ("cursor", cursor)]);
    let given = given.filter_map(|(name, value)| Some((name, value?)));
    let query = Serializer::new(String::new()).extend_pairs(given).finish();
    if query.is_empty() { query } else { format!("?{query}") }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    #[test]
    fn a_query_says_what_is_asked_and_no_more() {
        assert_eq!(query([("state", None)], None, None), "");
        assert_eq!(
            query(
                [("state", Some("running")), ("reference", Some("a&b=ü"))],
                Some(7),
                Some("Yjo_")
            ),
            "?state=running&reference=a%26b%3D%C3%BC&limit=7&cursor=Yjo_"
        );
    }

    #[tokio::test]
    async fn a_walk_reads_each_page_once_and_goes_over_empty_ones() {
        let asked = Mutex::new(Vec::new());
        let walk = walk("".into(), |cursor| {
            asked.lock().push(cursor.clone());
            async move {
                Ok(match cursor.as_deref() {
                    None => (vec![1, 2], Some("a".to_owned())),
                    Some("a") => (vec![], Some("b".to_owned())),
                    _ => (vec![3], None),
                })
            }
        });
        assert_eq!(walk.try_collect::<Vec<_>>().await.unwrap(), [1, 2, 3]);
        assert_eq!(*asked.lock(), [None, Some("a".to_owned()), Some("b".to_owned())]);
    }

    #[tokio::test]
    async fn pages_that_lead_to_themselves_are_an_error() {
        let walk = walk("".into(), |_| async { Ok((vec![1], Some("a".to_owned()))) });
        let error = walk.try_collect::<Vec<i32>>().await.unwrap_err();
        assert!(matches!(error, ClientError::Foreign { .. }), "{error}");
    }
}
