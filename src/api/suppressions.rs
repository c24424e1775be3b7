//! The account's list of numbers that get nothing.
//!
//! A list may be long: it is read in pages or streamed, and a table of any length is taken piece by piece.
//! What is on the list when a batch comes, or when a message would leave, ends as `failed`, `opted_out`.

mod export;
mod import;

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, StatusCode, Uri};

use super::{
    AppState,
    auth::Account,
    json::{Faults, Pointer, elements, members, raw, text},
    media::{media_type, small_json},
    model::{ProblemBody, SuppressNumbers, Suppressed, Suppression, SuppressionList},
    params::{Query, cursor},
    problem::Problem,
    results::Form,
};
use crate::{
    domain::{number::Number, recipient::InvalidNumber},
    store::suppressions::NUMBERS_MAX,
};

/// What cursors of this list begin with.
const CURSOR: &str = "s";

/// List opt-outs
///
/// The numbers that get nothing from the account. With `Accept: text/csv` (a header line, then a number a
/// line) or `application/x-ndjson` (a string a line) all of them in one answer, streamed; `limit` and
/// `cursor` are for pages only. A stream that can't be finished is broken off.
#[utoipa::path(
    get, path = "/v1/suppressions", tag = "Opt-outs",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1,000; 100 if absent."),
        ("cursor" = Option<String>, Query, description = "Where to go on: an earlier answer's `next_cursor`."),
    ),
    responses(
        (status = 200, description = "A page of numbers, or all of them.", content(
            (SuppressionList = "application/json"), (String = "application/x-ndjson"),
            (String = "text/csv", example = "number\r\n+15551230001\r\n"),
        )),
    )
)]
pub(super) async fn list(
    State(app): State<AppState>,
    account: Account,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if let Some(form) = Form::wanted(&headers) {
        Query::parse(&uri, &[])?;
        return export::answer(app, account, form).await;
    }
    let query = Query::parse(&uri, &["limit", "cursor"])?;
    let (limit, after) = (query.limit()?, query.cursor(CURSOR)?.and_then(Number::of_digits));
    let optouts = &app.api.store.optouts;
    let (numbers, next) = optouts.list(&account.0, after, limit).await?;
    let page = SuppressionList {
        numbers: numbers.iter().map(Number::to_string).collect(),
        count: optouts.count(&account.0).await?,
        next_cursor: next.map(|last| cursor(CURSOR, last.digits())),
    };
    Ok(Json(page).into_response())
}

/// Add opt-outs
///
/// What is on the list gets nothing from the account any more: its messages end as `failed`, `opted_out`.
/// A table is taken as it comes, whatever its length; what is in a line before an error is on the list
/// then, and the table may be sent again.
#[utoipa::path(
    post, path = "/v1/suppressions", tag = "Opt-outs",
    request_body(
        description = "`text/csv` has a header line with a column `number`, or else `to`; other columns are \
            passed over. It may be packed: `Content-Encoding: gzip` or `zstd`.",
        content(
            (SuppressNumbers = "application/json"),
            (String = "text/csv", example = "number\n+15551230001\n")
        )
    ),
    responses(
        (status = 200, description = "They are on the list.", body = Suppressed),
        (status = 400, description = "`invalid_json`, `body_broken`, `body_encoding`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`: a JSON body longer than 64 KiB, or a longer table than \
            the account may send.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type` or `unsupported_encoding`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request` with every number that is none, at most 100: then \
            nothing was added. `invalid_csv`: the table has no such column.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn add(
    State(app): State<AppState>,
    account: Account,
    request: Request,
) -> Result<Json<Suppressed>, Problem> {
    let (parts, body) = request.into_parts();
    Query::parse(&parts.uri, &[])?;
    if media_type(&parts.headers) == "text/csv" {
        return import::receive(&app, &account, &parts.headers, body).await.map(Json);
    }
    let numbers = numbers(&small_json(&app, &parts.headers, body).await?)?;
    let added = app.api.store.optouts.add(&account.0, &numbers).await?;
    let already_there = (numbers.len() as u64).saturating_sub(added);
    tell_of_change(&account, added, 0);
    Ok(Json(Suppressed { added, already_there, ..Suppressed::default() }))
}

/// Look for an opt-out
#[utoipa::path(
    get, path = "/v1/suppressions/{number}", tag = "Opt-outs",
    params(("number" = String, Path, description = "In E.164 form; `+` may be written as `%2B`.")),
    responses(
        (status = 200, description = "The number is on the list.", body = Suppression),
        (status = 404, description = "It is not.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn get(
    State(app): State<AppState>,
    account: Account,
    Path(number): Path<String>,
    uri: Uri,
) -> Result<Json<Suppression>, Problem> {
    Query::parse(&uri, &[])?;
    let number = in_path(&number)?;
    match app.api.store.optouts.contains(&account.0, &[number]).await?[..] {
        [true] => Ok(Json(Suppression { number: number.to_string() })),
        _ => Err(not_listed()),
    }
}

/// Remove an opt-out
///
/// The number gets messages of the account again. It is no error if it is not on the list.
#[utoipa::path(
    delete, path = "/v1/suppressions/{number}", tag = "Opt-outs",
    params(("number" = String, Path, description = "In E.164 form; `+` may be written as `%2B`.")),
    responses(
        (status = 204, description = "The number is not on the list."),
        (status = 404, description = "This is no number.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn remove(
    State(app): State<AppState>,
    account: Account,
    Path(number): Path<String>,
    uri: Uri,
) -> Result<StatusCode, Problem> {
    Query::parse(&uri, &[])?;
    let number = in_path(&number)?;
    let removed = app.api.store.optouts.remove(&account.0, &[number]).await?;
    tell_of_change(&account, 0, removed);
    Ok(StatusCode::NO_CONTENT)
}

fn tell_of_change(account: &Account, added: u64, removed: u64) {
    tracing::info!(account = &*account.0, added, removed, "opt-outs changed");
}

fn in_path(text: &str) -> Result<Number, Problem> {
    text.parse().map_err(|InvalidNumber| not_listed())
}

fn not_listed() -> Problem {
    Problem::not_found("There is no such number on the list.")
}

/// Reads the numbers of a JSON body.
fn numbers(body: &[u8]) -> Result<Vec<Number>, Problem> {
    let (root, mut faults, mut numbers) = (Pointer::Root, Faults::default(), Vec::new());
    let found = members(raw(body)?, &root, ["numbers"], &mut faults);
    let at = Pointer::Key(&root, "numbers");
    let given = found.and_then(|[numbers]| numbers);
    let listed = given.map(|raw| elements(raw, &at, NUMBERS_MAX, &mut faults));
    for (index, raw) in (0..).zip(listed.iter().flatten()) {
        let at = Pointer::Index(&at, index);
        if raw.get() == "null" {
            faults.wrong_type(&at, "a string", "null");
        }
        match text(raw, &at, usize::MAX, &mut faults).map(|text| text.parse()) {
            Some(Ok(number)) => numbers.push(number),
            Some(Err(invalid @ InvalidNumber)) => faults.add(&at, "invalid_number", invalid),
            None => {}
        }
    }
    if faults.is_empty() && numbers.is_empty() {
        let code = if given.is_some() { "empty" } else { "missing" };
        faults.add(&at, code, "name the numbers, such as [\"+15551230001\"]");
    }
    if faults.is_empty() {
        Ok(numbers)
    } else {
        Err(Problem::invalid_request(faults.into_errors(), &[]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_and_each_that_is_none_is_named() {
        let read = numbers(br#"{"numbers": ["+15551230001", "+4915112345678"]}"#).unwrap();
        assert_eq!(
            read.iter().map(Number::to_string).collect::<Vec<_>>(),
            ["+15551230001", "+4915112345678"]
        );
        let thousand_and_one = format!("{{\"numbers\": {:?}}}", ["+15551230001"; 1_001]);
        for (body, pointers) in [
            ("{}", &["/numbers"][..]),
            ("[]", &[""]),
            (r#"{"numbers": []}"#, &["/numbers"]),
            (r#"{"numbers": "+15551230001"}"#, &["/numbers"]),
            (
                r#"{"numbers": ["+15551230001", "x", 7, null, "15551230001"]}"#,
                &["/numbers/1", "/numbers/2", "/numbers/3", "/numbers/4"],
            ),
            (r#"{"numbers": ["+15551230001"], "number": 1}"#, &["/number"]),
            (&thousand_and_one, &["/numbers"]),
        ] {
            let problem = format!("{:?}", numbers(body.as_bytes()).unwrap_err());
            for pointer in pointers {
                assert!(
                    problem.contains(&format!("pointer: {pointer:?}")),
                    "{pointer} in {problem}"
                );
            }
            assert_eq!(problem.matches("pointer: ").count(), pointers.len(), "{problem}");
        }
    }
}
