//! What the embedded store promises beyond the contract: it serves one process at a time, keeps what
//! it has over processes, refuses files that are not its own, and does not grow for ever.

use std::{fs, path::Path, time::Duration};

use ringback::{
    domain::{
        batch::{Batch, BatchState, CallbackState},
        ids::BatchId,
        message::FinalState,
        time::UnixMs,
    },
    store::{self, IntakeError, MessageView, Opened, Release, Settled, Settlement},
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::fixture::{
    ACCOUNT, Fixture, RULES, all_sent, changes, chunks, seal_of, settings, settlement, waiting,
};
use crate::harness::{PATIENCE, Ringback, StoreUrl, eventually};

const THREE: [&str; 3] = ["+15551230001", "+15551230002", "+15551230003"];

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// The one file that everything is in.
fn open_file(folder: &TempDir) -> Connection {
    let db = Connection::open(folder.path().join("ringback.db")).unwrap();
    db.busy_timeout(Duration::from_secs(5)).unwrap();
    db
}

/// Why the store does not open.
async fn refusal(place: &impl StoreUrl) -> String {
    match store::open(&settings(place), RULES).await {
        Ok(_) => panic!("{} was opened", place.store_url()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_second_opening_is_refused_and_told_who_has_the_store() {
    let folder = folder();
    let on = Fixture::on(&folder).await;
    let id = on.accept(&THREE, 2).await;
    let refusal = refusal(&folder).await;
    let (holder, place) = (format!("process {}", std::process::id()), folder.path().display());
    assert!(refusal.contains(&holder) && refusal.contains(&place.to_string()), "{refusal}");
    // Who has it goes on undisturbed.
    let claimed = on.claim().await.expect("a chunk");
    on.settle(&all_sent(&claimed)).await;
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Sent], 2);
}

#[tokio::test]
async fn a_second_process_is_refused_and_the_first_one_named() {
    let folder = folder();
    let first = Ringback::start(&folder).await;
    let mut second = Ringback::on(&folder).spawn();
    assert_eq!(second.wait_for_exit(PATIENCE).await.code(), Some(1));
    let log = second.log();
    assert!(log.contains(&format!("process {}", first.pid())), "{log}");
    assert_eq!(first.client().get("/readyz").await.status, 200);
    // A crash leaves no lock behind.
    drop(first);
    Ringback::start(&folder).await;
}

#[tokio::test]
async fn what_an_earlier_process_held_is_free_after_one_sweep() {
    let folder = folder();
    let on = Fixture::on(&folder).await;
    let id = on.accept(&THREE, 3).await;
    let stale = on.claim().await.expect("a chunk");
    let one = Settlement { changes: changes(&[(1, FinalState::Sent)]), ..settlement(&stale) };
    assert!(matches!(on.settle(&one).await, Settled::Applied(_)));
    let draft = on.keyed("half");
    let upload = on.open(&draft).await;
    on.store.intake.append(&upload, &chunks(&THREE, 1)).await.expect("an append");

    let on = on.reopened().await;
    let swept = on.sweep().await;
    assert_eq!((swept.leases_lost, swept.uploads_dropped), (1, 1));
    assert_eq!(on.settle(&Settlement { sequence: 2, ..all_sent(&stale) }).await, Settled::Lost);
    let again = on.claim().await.expect("the chunk again");
    assert_ne!(again.token, stale.token);
    assert_eq!(&again.states[..], [0, 1, 0], "what was settled is not sent again");
    assert_eq!(on.settle(&all_sent(&again)).await, Settled::Completed);
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Sent], 3);
    let sealed = on.store.intake.seal(&upload, &seal_of(3)).await;
    assert!(matches!(sealed, Err(IntakeError::Gone)), "{sealed:?}");
    on.open(&on.keyed("half")).await;
}

#[tokio::test]
async fn what_was_accepted_is_there_as_it_was_when_the_store_is_opened_again() {
    let folder = folder();
    let on = Fixture::on(&folder).await;
    let parked = on.accept(&THREE, 3).await;
    let claimed = on.claim().await.expect("a chunk");
    let mut doubtful = waiting(1, 4);
    doubtful.open.maybe_accepted = true;
    let rest = Settlement {
        changes: changes(&[(0, FinalState::Sent), (2, FinalState::Failed)]),
        waiting: vec![doubtful],
        release: Some(Release::At(UnixMs(claimed.now.0 + 3_600_000))),
        ..settlement(&claimed)
    };
    assert!(matches!(on.settle(&rest).await, Settled::Applied(_)));
    let keyed = on.keyed("k");
    let queued = on.accept_draft(&keyed, &["+15551230001", "nobody"], 1).await;
    let paused = on.accept(&THREE, 1).await;
    on.store.intake.pause(ACCOUNT, paused).await.expect("paused");
    let canceled = on.accept(&THREE, 1).await;
    on.store.intake.cancel(ACCOUNT, canceled).await.expect("canceled");
    let secret = on.store.callbacks.signing_secret("first").await.expect("a secret");
    let ids = [parked, queued, paused, canceled];
    let before = views(&on, ids).await;
    let contents = on.raw.contents().await;

    let on = on.reopened().await;
    on.sweep().await;
    assert_eq!(views(&on, ids).await, before);
    assert_eq!(on.raw.contents().await, contents);
    assert_eq!(on.store.callbacks.signing_secret("other").await.expect("a secret"), secret);
    let replayed = Opened::Replayed { id: queued, body_hash: [7; 32] };
    assert_eq!(on.store.intake.open(&on.keyed("k")).await.expect("a repeat"), replayed);
    let events = on.store.callbacks.take(9, Duration::from_secs(9)).await.expect("taken");
    let over: Vec<_> = events.iter().map(|event| (event.batch.id, event.number)).collect();
    assert_eq!(over, [(canceled, 1)]);
    // What waits still waits, and knows what it knew; what stood still goes on when it is told to.
    let next = on.claim().await.expect("the queued chunk");
    assert_eq!(next.batch, queued);
    on.settle(&all_sent(&next)).await;
    assert!(on.claim().await.is_none());
    on.raw.come_due(parked).await;
    on.sweep().await;
    let due = on.claim().await.expect("the parked chunk");
    assert_eq!((due.batch, due.waiting.len()), (parked, 1));
    let (place, known) = &due.waiting[0];
    assert_eq!((*place, known.attempts, known.maybe_accepted), (1, 4, true));
    on.settle(&all_sent(&due)).await;
    on.store.intake.resume(ACCOUNT, paused).await.expect("resumed");
    while let Some(claimed) = on.claim().await {
        on.settle(&all_sent(&claimed)).await;
    }
    for id in [parked, queued, paused] {
        assert_eq!(on.batch(id).await.state, BatchState::Completed);
        assert_eq!(on.raw.events(id).await, 1);
    }
}

async fn views(on: &Fixture, ids: [BatchId; 4]) -> Vec<(Batch, Vec<MessageView>)> {
    let mut views = Vec::new();
    for id in ids {
        let (messages, _) = on.store.reading.messages(id, None, 0, 9).await.expect("messages");
        views.push((on.batch(id).await, messages));
    }
    views
}

#[tokio::test]
async fn a_store_of_a_later_version_is_refused_with_both_versions() {
    let folder = folder();
    drop(Fixture::on(&folder).await);
    // Whoever closes a store may take a moment to do so.
    let known = eventually("the store's end", PATIENCE, async || {
        let db = open_file(&folder);
        let known: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0)).ok()?;
        db.pragma_update(None, "user_version", 99).ok()?;
        Some(known)
    })
    .await;
    let refusal = refusal(&folder).await;
    assert!(refusal.contains("schema 99"), "{refusal}");
    assert!(refusal.ends_with(&format!(" {known}")), "{refusal}");
    let found: u32 =
        open_file(&folder).pragma_query_value(None, "user_version", |r| r.get(0)).unwrap();
    assert_eq!(found, 99);
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_and_left_as_it_is() {
    let (text, database) = (folder(), folder());
    let file = |folder: &TempDir| folder.path().join("ringback.db");
    fs::write(file(&text), "Dear diary, today I was nearly overwritten. ".repeat(200)).unwrap();
    open_file(&database)
        .execute_batch("CREATE TABLE diary (page); PRAGMA user_version = 1")
        .unwrap();
    for folder in [&text, &database] {
        let before = fs::read(file(folder)).unwrap();
        let refusal = refusal(folder).await;
        assert!(refusal.contains(&file(folder).display().to_string()), "{refusal}");
        assert!(refusal.contains("is no store of Ringback"), "{refusal}");
        assert_eq!(fs::read(file(folder)).unwrap(), before);
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named() {
    struct Place(String);
    impl StoreUrl for Place {
        fn store_url(&self) -> String {
            format!("embedded:{}", self.0)
        }
    }
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    // Nobody can make a folder below a file, nor in /proc: not even root, as which tests may run.
    for place in [file.join("store").as_path(), Path::new("/proc/ringback")] {
        let place = place.display().to_string();
        let refusal = refusal(&Place(place.clone())).await;
        assert!(refusal.contains(&place), "{refusal}");
    }
}

#[tokio::test]
async fn the_space_of_what_is_erased_is_used_again() {
    let folder = folder();
    let on = Fixture::on(&folder).await;
    let mut sizes_bytes = Vec::new();
    for _ in 0..5 {
        accept_send_and_erase(&on).await;
        assert_eq!(on.raw.contents().await, [""; 0]);
        sizes_bytes.push(file_bytes(&folder).await);
    }
    assert!(sizes_bytes[0] > 500_000, "too little to prove anything: {sizes_bytes:?}");
    // Pages fill up a little differently each time.
    let allowed = sizes_bytes[0] + sizes_bytes[0] / 20;
    assert!(sizes_bytes.iter().all(|bytes| *bytes <= allowed), "{sizes_bytes:?}");
}

async fn accept_send_and_erase(on: &Fixture) {
    const MESSAGES: usize = 20_000;
    let id = on.accept(&vec!["+15551230001"; MESSAGES], 500).await;
    while let Some(claimed) = on.claim().await {
        let log = vec![1; 40 * claimed.states.len()].into();
        on.settle(&Settlement { log, ..all_sent(&claimed) }).await;
    }
    on.end_callback(id, CallbackState::Delivered).await;
    assert_eq!(on.batch(id).await.counts.ended[FinalState::Sent], MESSAGES as u64);
    on.raw.lapse_retention().await;
    assert_eq!(on.sweep().await.batches_purged, 1);
}

/// How large the file is, once the write-ahead log is in it.
async fn file_bytes(folder: &TempDir) -> u64 {
    let db = open_file(folder);
    eventually("a checkpoint", PATIENCE, async || {
        let busy = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
        (busy == Ok(0)).then_some(())
    })
    .await;
    fs::metadata(folder.path().join("ringback.db")).unwrap().len()
}
