//! `POST /v1/estimate`: what a batch would come to. It is read as one that is submitted, and nothing of
//! it is kept.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
};
use tokio::task::{block_in_place, spawn_blocking, yield_now};

use super::{
    coming::{Coming, Way},
    streamed::{SLICE_BYTES, first_line},
    tally::{Counted, Tally},
    whole::INLINE_BYTES_MAX,
};
use crate::{
    api::{
        App, AppState, ProviderFacts,
        auth::Account,
        body::{self, Collected, Pieces},
        model::{BatchForm, Cost, Estimate, ProblemBody, SubmitBatch},
        problem::Problem,
        submission::{self, Refusal, Rules, Submission},
    },
    domain::{
        batch::BatchSpec,
        chunk::NewChunk,
        time::UnixMs,
        units::{Rate, RateUnit},
    },
    store::ProviderStats,
};

/// A batch that was read.
struct Read {
    spec: BatchSpec,
    counted: Counted,
}

/// Estimate a batch
///
/// Says what `POST /v1/batches` with the same body would come to: segments, encodings, messages that
/// can't be sent, when it would be over, and what it would cost. Nothing is stored or sent. What that
/// call refuses is refused here too, but for `"on_invalid": "reject_batch"` and limits of an account's day.
#[utoipa::path(
    post, path = "/v1/estimate", tag = "Batches",
    params(
        ("settings" = Option<String>, Query,
            description = "With `text/csv`: the object without `recipients`, as JSON."),
    ),
    request_body(
        description = "As in `POST /v1/batches`.",
        content(
            (SubmitBatch = "application/json"),
            (String = "application/x-ndjson",
                example = "{\"body\": \"Hi {{name}}\"}\n{\"to\": \"+15551230002\", \"variables\": {\"name\": \"Ann\"}}\n"),
            (String = "text/csv", example = "to,name\n+15551230001,Ann\n"),
            (BatchForm = "multipart/form-data")
        )
    ),
    responses(
        (status = 200, description = "What it would come to.", body = Estimate),
        (status = 400, description = "As in `POST /v1/batches`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "As in `POST /v1/batches`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "As in `POST /v1/batches`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request` with every field that is wrong, and the other \
            codes that `POST /v1/batches` has for a body.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in crate::api) async fn estimate(
    State(app): State<AppState>,
    account: Account,
    request: Request,
) -> Result<Json<Estimate>, Problem> {
    let coming = Coming::read(&app, &account, request).await?;
    let Read { spec, counted } = match coming.way {
        Way::Whole => whole(&app, &account, coming.body, coming.bytes_max).await?,
        Way::Lines | Way::Table(_) => streamed(&app, &account, coming).await?,
    };
    let name = std::slice::from_ref(&spec.provider);
    let stats = app.api.store.reading.stats(name).await?.providers.remove(&spec.provider);
    let facts = app.api.providers.get(&spec.provider).cloned().unwrap_or_default();
    let now = app.api.clock.now();
    let finish_at = finish_at(now, &spec, &counted, &facts, &stats.unwrap_or_default());
    let cost = facts.price_per_segment.map(|price| Cost {
        amount: price.of(counted.segments),
        currency: price.currency().to_string(),
    });
    Ok(Json(Estimate {
        provider: spec.provider,
        messages: counted.messages,
        segments: counted.segments,
        encodings: counted.encodings,
        invalid_recipients: counted.invalid,
        opted_out_recipients: counted.opted_out,
        duplicate_recipients: counted.duplicates,
        missing_variables: counted.lack_variables,
        too_long: counted.too_long,
        too_many_segments: counted.too_many_segments,
        finish_at: finish_at.map(|at| at.to_string()),
        cost,
    }))
}

/// Reads one JSON document, off the asynchronous threads if it is long.
async fn whole(
    app: &AppState,
    account: &Account,
    body: Body,
    bytes_max: u64,
) -> Result<Read, Problem> {
    let server = &app.api.server;
    let collected = body::collect(body, bytes_max, &app.large_bodies, server.body_timeout).await?;
    let Collected { bytes, place: _place } = collected;
    let (app, account, is_short) =
        (Arc::clone(app), account.clone(), bytes.len() <= INLINE_BYTES_MAX);
    let parse = {
        let (app, account) = (Arc::clone(&app), account.clone());
        move || submission::parse(&bytes, &estimating(&app, &account))
    };
    let mut submission = worked(is_short, parse).await?;
    app.api.store.optouts.apply(&account.0, &mut submission.chunks).await?;
    let Submission { spec, chunks, skipped, .. } = submission;
    let count = move || {
        let mut tally = Tally::new(&spec);
        count(&mut tally, &chunks)?;
        tally.counted.duplicates += skipped;
        Ok(Read { spec, counted: tally.counted })
    };
    worked(is_short, count).await
}

/// What comes of work that is done in place if it is short, else off the asynchronous threads.
async fn worked<T: Send + 'static>(
    is_short: bool,
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Problem> {
    let done = if is_short {
        work()
    } else {
        spawn_blocking(work).await.map_err(|error| {
            tracing::error!(%error, "reading a submission failed");
            Problem::internal()
        })?
    };
    done.map_err(Problem::from)
}

/// Reads lines or a table piece by piece, and keeps nothing but the counts.
async fn streamed(app: &App, account: &Account, coming: Coming) -> Result<Read, Problem> {
    let mut pieces = Pieces::of(coming.body, coming.bytes_max);
    let (spec, mut rows, mut next) = if let Way::Table(settings) = &coming.way {
        let (spec, rows) = submission::begin_table(settings, &estimating(app, account))?;
        (spec, rows, pieces.next().await?)
    } else {
        let (line, rest) = first_line(&mut pieces).await?;
        let (spec, rows) = submission::begin(&line, &estimating(app, account))?;
        (spec, rows, Some(rest))
    };
    let (mut tally, mut place) = (Tally::new(&spec), None);
    while let Some(piece) = next {
        for slice in piece.chunks(SLICE_BYTES) {
            // Numbers may have to be looked for on the disk.
            let mut chunks = block_in_place(|| rows.take(slice))?;
            app.api.store.optouts.apply(&account.0, &mut chunks).await?;
            block_in_place(|| count(&mut tally, &chunks))?;
            yield_now().await;
        }
        if place.is_none() && pieces.is_large() {
            let patience = app.api.server.body_timeout;
            place = Some(body::a_place(&app.large_uploads, patience).await?);
        }
        next = pieces.next().await?;
    }
    let mut rest = rows.finish()?;
    app.api.store.optouts.apply(&account.0, &mut rest.chunks).await?;
    block_in_place(|| count(&mut tally, &rest.chunks))?;
    tally.counted.duplicates += rest.skipped;
    Ok(Read { spec, counted: tally.counted })
}

fn count(tally: &mut Tally, chunks: &[NewChunk]) -> Result<(), Refusal> {
    chunks.iter().try_for_each(|chunk| tally.add(chunk)).map_err(Refusal::Scratch)
}

/// As for a batch that is submitted, but that none is refused for its invalid recipients.
fn estimating<'a>(app: &'a App, account: &'a Account) -> Rules<'a> {
    Rules { counts_invalid: true, ..app.rules(account) }
}

/// When the last of these messages would have left, if all that is accepted now goes first, a rate that is cut
/// now comes back, and nothing fails. `None` if nothing limits the rate, or the provider is stopped. (What is
/// accepted counts as one segment a message, and no recipient's own limits are looked at: of prefixes, and of a
/// pool.)
fn finish_at(
    now: UnixMs,
    spec: &BatchSpec,
    counted: &Counted,
    provider: &ProviderFacts,
    stats: &ProviderStats,
) -> Option<UnixMs> {
    let messages = counted.sendable();
    let units = match provider.rate_unit {
        RateUnit::Message => messages,
        RateUnit::Segment => counted.segments,
    };
    let from_one =
        provider.sender_rate.filter(|_| spec.from.is_some() || provider.senders.is_empty());
    let limits = [(provider.rate, units), (from_one, units), (spec.rate, messages)];
    let limits = limits.into_iter().filter_map(|(rate, count)| Some(time_of(count, rate?)));
    let own = limits.max().filter(|_| !stats.stopped)?;
    let begins_at = spec.send_at.unwrap_or(now).max(now);
    if messages == 0 {
        return Some(begins_at);
    }
    let ahead = provider.rate.map_or(Duration::ZERO, |rate| time_of(stats.open, rate));
    let lost = provider.rate.map_or(Duration::ZERO, |_| stats.share.lost());
    let free_at = now.after(Duration::from_millis(stats.paused_ms)).after(lost).after(ahead);
    Some(begins_at.max(free_at).after(own))
}

/// How long so many take.
fn time_of(count: u64, rate: Rate) -> Duration {
    let ms = u128::from(count).saturating_mul(rate.interval().as_nanos()).div_ceil(1_000_000);
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMs = UnixMs(1_790_000_000_000);

    fn seconds(
        messages: u64,
        provider: Option<&str>,
        spec: &BatchSpec,
        stats: &ProviderStats,
    ) -> Option<u64> {
        let rate = provider.map(|rate| rate.parse().unwrap());
        let facts = ProviderFacts { rate, ..ProviderFacts::default() };
        finish_at(NOW, spec, &counted(messages), &facts, stats).map(|at| at.since(NOW).as_secs())
    }

    /// So many messages of two segments each.
    fn counted(messages: u64) -> Counted {
        let mut counted = Counted { segments: messages.saturating_mul(2), ..Counted::default() };
        counted.encodings.gsm7 = messages;
        counted
    }

    #[test]
    fn segments_and_senders_take_their_time() {
        let idle = ProviderStats::default();
        let seconds = |facts: &ProviderFacts, from: Option<&str>| {
            let spec = BatchSpec { from: from.map(str::to_owned), ..BatchSpec::default() };
            let at = finish_at(NOW, &spec, &counted(100), facts, &idle);
            at.map(|at| at.since(NOW).as_secs())
        };
        let (rate, rate_unit) = ("10/s".parse().ok(), RateUnit::Segment);
        let facts = ProviderFacts { rate, rate_unit, ..ProviderFacts::default() };
        assert_eq!(seconds(&facts, None), Some(20));
        let facts = ProviderFacts { sender_rate: "4/s".parse().ok(), ..facts };
        assert_eq!(seconds(&facts, None), Some(50));
        let facts = ProviderFacts { senders: vec!["+15550001111".to_owned()], ..facts };
        assert_eq!(seconds(&facts, None), Some(20));
        assert_eq!(seconds(&facts, Some("+15550002222")), Some(50));
    }

    #[test]
    fn what_is_accepted_goes_first_at_the_providers_rate() {
        let (spec, idle) = (BatchSpec::default(), ProviderStats::default());
        assert_eq!(seconds(1_000, Some("10/s"), &spec, &idle), Some(100));
        let busy = ProviderStats { open: 500, ..ProviderStats::default() };
        assert_eq!(seconds(1_000, Some("10/s"), &spec, &busy), Some(150));
        assert_eq!(seconds(0, Some("10/s"), &spec, &busy), Some(0));
        let paused = ProviderStats { paused_ms: 20_000, ..busy };
        assert_eq!(seconds(1_000, Some("10/s"), &spec, &paused), Some(170));
        assert_eq!(seconds(u64::MAX, Some("1/h"), &spec, &idle), Some((u64::MAX - NOW.0) / 1_000));
    }

    #[test]
    fn a_batch_begins_no_sooner_than_it_may_and_is_no_faster_than_it_asks() {
        let later = Some(NOW.after(Duration::from_secs(100)));
        let spec = BatchSpec { send_at: later, ..BatchSpec::default() };
        let busy = |open| ProviderStats { open, ..ProviderStats::default() };
        assert_eq!(seconds(10, Some("10/s"), &spec, &busy(500)), Some(101));
        assert_eq!(seconds(10, Some("10/s"), &spec, &busy(2_000)), Some(201));
        let slow = BatchSpec { rate: "1/s".parse().ok(), ..BatchSpec::default() };
        assert_eq!(seconds(10, Some("10/s"), &slow, &busy(500)), Some(60));
        assert_eq!(seconds(10, None, &slow, &busy(500)), Some(10));
    }

    #[test]
    fn there_is_no_end_without_a_rate_or_while_the_provider_is_stopped() {
        let spec = BatchSpec::default();
        assert_eq!(seconds(1, None, &spec, &ProviderStats::default()), None);
        let stopped = ProviderStats { stopped: true, ..ProviderStats::default() };
        assert_eq!(seconds(1, Some("1/s"), &spec, &stopped), None);
    }
}
