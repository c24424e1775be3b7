//! Trying a receiver out: one signed ping, now, and what came of it.
//!
//! The API knows no callback client: whoever sends is behind [`Pings`].

use async_trait::async_trait;
use axum::{
    Json,
    extract::{Request, State},
};
use http::StatusCode;

use super::{
    AppState,
    auth::Account,
    json::{Faults, Pointer, headers, members, raw, text},
    media::small_json,
    model::{ProblemBody, TestCallback, TestedCallback},
    params::Query,
    problem::Problem,
    submission::signing_secret,
};
use crate::{
    domain::callback_url::{CallbackUrl, Forbidden, Rules},
    store::AttemptEnd,
};

/// The most pings that are under way at once.
pub(super) const PINGS_MAX: usize = 8;

/// The code of a URL that callbacks are not sent to.
const FORBIDDEN: &str = "callback_url_forbidden";

/// Sends pings.
#[async_trait]
pub trait Pings: Send + Sync {
    /// Sends one ping in the account's name, with these headers, signed with `secret` if one is
    /// given. It ends within the time-out of callbacks.
    ///
    /// # Errors
    /// [`Forbidden`]: nothing was sent.
    async fn ping(
        &self,
        account: &str,
        url: &str,
        headers: &[(String, String)],
        secret: Option<&str>,
    ) -> Result<AttemptEnd, Forbidden>;
}

/// What is to be tried.
struct Trial {
    url: CallbackUrl,
    headers: Vec<(String, String)>,
    secret: Option<String>,
}

/// Try a receiver out
///
/// Sends one signed `webhook.ping` to the URL and reports what came of it. Nothing is stored, and
/// nothing is tried again.
#[utoipa::path(
    post, path = "/v1/callbacks/test", tag = "Callbacks",
    request_body = TestCallback,
    responses(
        (status = 200, description = "A ping was sent; `delivered` says whether it was taken.",
            body = TestedCallback),
        (status = 400, description = "`invalid_json`: the body is none. `body_broken`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`: it is longer than 64 KiB.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported_media_type` or `unsupported_encoding`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`callback_url_forbidden`, or `invalid_request` with every field \
            that is wrong: nothing was sent.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`busy`: this process sends eight pings already.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn test(
    State(app): State<AppState>,
    account: Account,
    request: Request,
) -> Result<Json<TestedCallback>, Problem> {
    let (parts, body) = request.into_parts();
    Query::parse(&parts.uri, &[])?;
    let body = small_json(&app, &parts.headers, body).await?;
    let Trial { url, headers, secret } = trial(&body, &app.api.callback_rules)?;
    let Ok(_place) = app.pings.try_acquire() else {
        let detail = "Too many pings at once; try again.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        return Err(Problem::new(status, "busy", detail).retry_after(1));
    };
    let text = url.url().as_str();
    let sent = app.api.pings.ping(&account.0, text, &headers, secret.as_deref()).await;
    let end = sent.map_err(forbidden)?;
    let host = url.host_and_port();
    tracing::info!(
        account = &*account.0,
        callback.host = host,
        http.status = end.status,
        latency_ms = end.latency_ms,
        error = end.error,
        "a receiver was tried out"
    );
    Ok(Json(TestedCallback::new(host, end)))
}

/// Reads and judges what is to be tried.
fn trial(body: &[u8], rules: &Rules) -> Result<Trial, Problem> {
    let (root, mut faults) = (Pointer::Root, Faults::default());
    let found = members(raw(body)?, &root, ["url", "headers", "secret"], &mut faults);
    let [url_given, headers_given, secret_given] = found.unwrap_or_default();
    if found.is_some() && url_given.is_none() {
        faults.missing("url", &root);
    }
    let at = Pointer::Key(&root, "url");
    let url = url_given.and_then(|raw| text(raw, &at, usize::MAX, &mut faults));
    let url = url.and_then(|url| {
        let judged = rules.judge(&url);
        judged.map_err(|forbidden| faults.add(&at, FORBIDDEN, forbidden)).ok()
    });
    let at = Pointer::Key(&root, "headers");
    let headers = headers_given.map(|raw| headers(raw, &at, &mut faults)).unwrap_or_default();
    let at = Pointer::Key(&root, "secret");
    let secret = secret_given.and_then(|raw| signing_secret(raw, &at, &mut faults));
    match url.filter(|_| faults.is_empty()) {
        Some(url) => Ok(Trial { url, headers, secret }),
        None => Err(refused(faults)),
    }
}

fn forbidden(forbidden: Forbidden) -> Problem {
    let mut faults = Faults::default();
    faults.add(&Pointer::Key(&Pointer::Root, "url"), FORBIDDEN, forbidden);
    refused(faults)
}

fn refused(faults: Faults) -> Problem {
    Problem::invalid_request(faults.into_errors(), &[FORBIDDEN])
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn a_trial_is_read_whole() {
        let body = br#"{"url": "https://a.example/x?y=1", "headers": {"X-A": "b"},
            "secret": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}"#;
        let trial = trial(body, &Rules::default()).unwrap();
        assert_eq!(trial.url.url().as_str(), "https://a.example/x?y=1");
        assert_eq!(trial.headers, [("X-A".to_owned(), "b".to_owned())]);
        assert!(trial.secret.is_some());
    }

    #[test]
    fn what_can_not_be_tried_is_refused() {
        for (body, status) in [
            ("", 400),
            ("[]", 422),
            ("{}", 422),
            (r#"{"url": 7}"#, 422),
            (r#"{"url": "http://127.0.0.1/"}"#, 422),
            (r#"{"url": "https://a.example/", "headers": {"Host": "x"}}"#, 422),
            (r#"{"url": "https://a.example/", "headers": []}"#, 422),
            (r#"{"url": "https://a.example/", "secret": "hush"}"#, 422),
            (r#"{"url": "https://a.example/", "body": "x"}"#, 422),
        ] {
            let refused =
                trial(body.as_bytes(), &Rules::default()).map(drop).unwrap_err().into_response();
            assert_eq!(refused.status(), status, "{body}");
        }
    }
}
