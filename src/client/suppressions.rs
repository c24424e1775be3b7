//! The account's numbers that get nothing.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures_util::{Stream, stream::BoxStream};
use http::header::CONTENT_TYPE;

use super::{Client, ClientError, pages::walk};
use crate::{
    api::model::{SuppressNumbers, Suppressed, SuppressionList},
    domain::number::Number,
};

/// Numbers to a page, where all are read: as many as the server gives.
const NUMBERS_A_PAGE: u32 = 1_000;

// === impl Client ===

impl Client {
    /// A page of the numbers that get nothing: at most `limit` (1 to 1,000), from where `cursor` points.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn suppressions(
        &self,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<SuppressionList, ClientError> {
        // A cursor is of letters that a query may have.
        let cursor = cursor.map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        self.json(self.get(&format!("/v1/suppressions?limit={limit}{cursor}"))).await
    }

    /// All numbers that get nothing, read as they are taken from the stream.
    #[must_use]
    pub fn all_suppressions(&self) -> BoxStream<'static, Result<String, ClientError>> {
        let client = self.clone();
        walk(Arc::clone(&self.base), move |cursor| {
            let client = client.clone();
            async move {
                let page = client.suppressions(NUMBERS_A_PAGE, cursor.as_deref()).await?;
                Ok((page.numbers, page.next_cursor))
            }
        })
    }

    /// Has these numbers, at most 1,000, get nothing any more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn suppress(&self, numbers: &[Number]) -> Result<Suppressed, ClientError> {
        let numbers = numbers.iter().map(Number::to_string).collect();
        let body = SuppressNumbers { numbers };
        self.json(self.post("/v1/suppressions").json(&body)).await
    }

    /// Has all numbers of a table get nothing any more. `table` is CSV in pieces of any length, with a
    /// column `number` or `to`.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Source`] if `table` fails. Numbers before that may be on the list.
    pub async fn import_suppressions(
        &self,
        table: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<Suppressed, ClientError> {
        let request = self.http.post(format!("{}/v1/suppressions", self.base));
        let answer = self.upload(request.header(CONTENT_TYPE, "text/csv"), table).await?;
        answer.success(&self.base)?.resource(&self.base)
    }

    /// Lets a number get messages again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn restore(&self, number: Number) -> Result<(), ClientError> {
        let path = format!("/v1/suppressions/%2B{}", number.digits());
        self.exchange(self.delete(&path)).await?.success(&self.base).map(drop)
    }
}
