//! A batch on its way in: its body, and how it is to be read.

use axum::{body::Body, extract::Request};
use bytes::Bytes;

use super::{
    form,
    head::{Form, Head},
};
use crate::api::{App, auth::Account, params::Query, problem::Problem};

/// What a request brings.
pub(super) struct Coming {
    /// The client's idempotency key.
    pub(super) key: Option<String>,
    pub(super) way: Way,
    /// The unpacked body.
    pub(super) body: Body,
    /// The most that it may come to, in bytes.
    pub(super) bytes_max: u64,
}

/// How the body is to be read.
pub(super) enum Way {
    /// As one JSON document.
    Whole,
    /// Line by line: the first one is the batch.
    Lines,
    /// As a table, with this as the batch.
    Table(Bytes),
}

// === impl Coming ===

impl Coming {
    /// Reads what there is before the recipients, of what comes as a form.
    ///
    /// # Errors
    /// [`Problem`] if the body would not be understood.
    pub(super) async fn read(
        app: &App,
        account: &Account,
        request: Request,
    ) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let Head { form, packing, key } = Head::read(&parts.headers)?;
        let known: &[&str] = if form == Form::Table { &["settings"] } else { &[] };
        let query = Query::parse(&parts.uri, known)?;
        let server = &app.api.server;
        let bytes_max = app.body_bytes_max(account);
        let unpacked_bytes_max = server.unpacked_bytes_max.min(bytes_max);
        Ok(match form {
            Form::Whole => {
                let bytes_max = server.body_bytes_max.min(bytes_max);
                Self { key, way: Way::Whole, body: packing.unpack(body, bytes_max), bytes_max }
            }
            Form::Lines => {
                let body = packing.unpack(body, unpacked_bytes_max);
                Self { key, way: Way::Lines, body, bytes_max }
            }
            Form::Table => {
                let way = Way::Table(Bytes::copy_from_slice(settings(&query)?));
                Self { key, way, body: packing.unpack(body, unpacked_bytes_max), bytes_max }
            }
            Form::Parts(boundary) => {
                let (settings, body) = form::read(body, &boundary).await?;
                Self { key, way: Way::Table(settings), body, bytes_max }
            }
        })
    }
}

// === impl Way ===

impl Way {
    /// The batch, where it does not come in the body.
    pub(super) fn settings(&self) -> Option<&[u8]> {
        match self {
            Self::Whole | Self::Lines => None,
            Self::Table(settings) => Some(settings),
        }
    }
}

/// The batch of a table.
fn settings<'q>(query: &'q Query<'_>) -> Result<&'q [u8], Problem> {
    query.text("settings").map(str::as_bytes).ok_or_else(|| {
        let detail = "with text/csv this is the batch without its recipients, as JSON";
        Query::refuse("settings", "missing", detail)
    })
}
