//! What the API reads.

use ringback::{
    domain::message::{FinalState, MessageState},
    store::{BatchFilter, Settlement, WishError},
};

use super::THREE;
use crate::store::fixture::{ACCOUNT, Fixture, changes, settlement};

pub(super) async fn another_account_sees_nothing(on: Fixture) {
    let id = on.accept(&THREE, 1).await;
    let reading = &on.store.reading;
    assert!(reading.batch("other", id).await.expect("a read").is_none());
    assert!(reading.attempts("other", id).await.expect("a read").is_none());
    let (list, _) =
        reading.batches("other", &BatchFilter::default(), None, 10).await.expect("a list");
    assert!(list.is_empty());
    let canceled = on.store.intake.cancel("other", id).await;
    assert!(matches!(canceled, Err(WishError::NotFound)), "{canceled:?}");
}

pub(super) async fn the_list_is_newest_first_and_pages(on: Fixture) {
    let mut ids = Vec::new();
    for reference in ["a", "b", "a"] {
        let mut draft = on.draft(false);
        draft.spec.reference = Some(reference.into());
        ids.push(on.accept_draft(&draft, &[], 1).await);
    }
    ids.sort_unstable_by(|one, other| other.cmp(one));
    let all = BatchFilter::default();
    let reading = &on.store.reading;
    let (first, next) = reading.batches(ACCOUNT, &all, None, 2).await.expect("a page");
    let (second, end) = reading.batches(ACCOUNT, &all, next, 2).await.expect("a page");
    let listed: Vec<_> = first.iter().chain(&second).map(|batch| batch.id).collect();
    assert_eq!(listed, ids);
    assert_eq!(end, None);
    let only_b = BatchFilter { reference: Some("b".into()), ..BatchFilter::default() };
    let (found, _) = reading.batches(ACCOUNT, &only_b, None, 10).await.expect("a page");
    assert_eq!(found.len(), 1);
}

pub(super) async fn messages_are_told_with_their_states(on: Fixture) {
    let id = on.accept(&["+15551230001", "nobody", "+15551230003", "+15551230004"], 3).await;
    let claimed = on.claim().await.expect("the first chunk");
    on.settle(&Settlement { changes: changes(&[(0, FinalState::Sent)]), ..settlement(&claimed) })
        .await;
    let reading = &on.store.reading;
    let (messages, end) = reading.messages(id, None, 0, 10).await.expect("messages");
    let states: Vec<_> = messages.iter().map(|message| message.state).collect();
    assert_eq!(
        states,
        [MessageState::Sent, MessageState::Failed, MessageState::Sending, MessageState::Queued]
    );
    assert_eq!(end, None);
    assert_eq!(messages[1].to, "nobody");
    assert_eq!(messages[1].error.as_ref().expect("an error").code, "invalid_number");
    let (page, next) = reading.messages(id, None, 1, 2).await.expect("messages");
    assert_eq!(page.iter().map(|message| message.index).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(next, Some(3));
    let queued = Some(MessageState::Queued);
    let (queued, _) = reading.messages(id, queued, 0, 10).await.expect("messages");
    assert_eq!(queued.len(), 1);
}
