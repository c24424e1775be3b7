//! The whole list in one answer, read from the store page by page as the client takes it.
//!
//! An answer that can't be finished is broken off, never ended: what ended well is whole.

use std::fmt::Write;

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    api::{AppState, auth::Account, body, problem::Problem, results::Form},
    domain::number::Number,
    store::StoreError,
};

/// Numbers that are read at once.
const PAGE: usize = 5_000;

/// An answer under way.
struct Export {
    app: AppState,
    account: Account,
    form: Form,
    from: Place,
    _place: OwnedSemaphorePermit,
}

/// Where an answer goes on.
#[derive(Clone, Copy)]
enum Place {
    Begin,
    After(Number),
    End,
}

/// Answers with all of the account's list.
pub(super) async fn answer(
    app: AppState,
    account: Account,
    form: Form,
) -> Result<Response, Problem> {
    let place = body::a_place(&app.streams, app.api.server.body_timeout).await?;
    let mut export = Export { app, account, form, from: Place::Begin, _place: place };
    // A store that is away is told of by a status, not by an answer that breaks off.
    let first = export.page().await?.unwrap_or_default();
    let pages = stream::try_unfold((Some(first), export), |(first, mut export)| async move {
        let page = match first {
            Some(first) => Some(first),
            None => export.page().await.inspect_err(|error| {
                let account = &*export.account.0;
                tracing::warn!(account, %error, "a stream of opt-outs is broken off");
            })?,
        };
        Ok::<_, StoreError>(page.map(|page| (page, (None, export))))
    });
    Ok(([(CONTENT_TYPE, form.media_type())], Body::from_stream(pages)).into_response())
}

// === impl Export ===

impl Export {
    /// The next piece of the answer; `None` at its end.
    async fn page(&mut self) -> Result<Option<Bytes>, StoreError> {
        let after = match self.from {
            Place::Begin => None,
            Place::After(number) => Some(number),
            Place::End => return Ok(None),
        };
        let optouts = &self.app.api.store.optouts;
        let (numbers, next) = optouts.list(&self.account.0, after, PAGE).await?;
        let mut text = String::with_capacity(numbers.len() * 18 + 8);
        if after.is_none() && self.form == Form::Csv {
            text.push_str("number\r\n");
        }
        for number in numbers {
            // Writing to a string can't fail.
            let _ = match self.form {
                Form::Csv => write!(text, "{number}\r\n"),
                Form::Ndjson => writeln!(text, "\"{number}\""),
            };
        }
        self.from = next.map_or(Place::End, Place::After);
        Ok(Some(text.into()))
    }
}
