//! Lists of numbers that get nothing.

use std::collections::BTreeSet;

use ringback::{
    domain::number::Number,
    store::{OptOuts, suppressions::NUMBERS_MAX},
};

use crate::store::fixture::{ACCOUNT, Fixture, chunks};

fn number(digits: u64) -> Number {
    Number::of_digits(digits).expect("a number")
}

/// So many numbers, a thousand and one apart.
fn numbers(count: u64) -> Vec<Number> {
    (0..count).map(|nth| number(15_550_000_000 + nth * 1_001)).collect()
}

/// All of an account's list, in pages of `limit`.
async fn listed(lists: &OptOuts, account: &str, limit: usize) -> Vec<Number> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let (page, next) = lists.list(account, after, limit).await.expect("a page");
        assert!(page.len() <= limit, "{} of {limit}", page.len());
        all.extend(page);
        match next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

pub(super) async fn a_number_is_on_its_accounts_list_until_it_is_taken_off(on: Fixture) {
    let (lists, two) = (&on.store.optouts, numbers(2));
    let ask = [two[1], number(4_915_112_345_678), two[0], number(999_999_999_999_999)];
    assert_eq!(lists.contains(ACCOUNT, &ask).await.expect("an answer"), [false; 4]);
    assert_eq!(lists.contains(ACCOUNT, &[]).await.expect("an answer"), [] as [bool; 0]);
    assert_eq!(lists.add(ACCOUNT, &two).await.expect("added"), 2);
    assert_eq!(lists.add(ACCOUNT, &[two[0], ask[3], ask[3]]).await.expect("added"), 1);
    assert_eq!(lists.contains(ACCOUNT, &ask).await.expect("an answer"), [true, false, true, true]);
    assert_eq!(lists.count(ACCOUNT).await.expect("a count"), 3);
    // I11.
    assert_eq!(lists.contains("other", &ask).await.expect("an answer"), [false; 4]);
    assert_eq!(lists.remove("other", &two).await.expect("removed"), 0);
    assert_eq!(lists.count("other").await.expect("a count"), 0);
    assert!(listed(lists, "other", 10).await.is_empty());

    assert_eq!(lists.remove(ACCOUNT, &two[..1]).await.expect("removed"), 1);
    assert_eq!(lists.remove(ACCOUNT, &two[..1]).await.expect("removed"), 0);
    assert_eq!(lists.contains(ACCOUNT, &ask).await.expect("an answer"), [true, false, false, true]);
    let on = on.reopened().await;
    let lists = &on.store.optouts;
    assert_eq!(lists.count(ACCOUNT).await.expect("a count"), 2);
    assert_eq!(lists.remove(ACCOUNT, &ask).await.expect("removed"), 2);
    assert_eq!(lists.count(ACCOUNT).await.expect("a count"), 0);
    assert!(listed(lists, ACCOUNT, 10).await.is_empty());
    assert_eq!(lists.add(ACCOUNT, &two).await.expect("added"), 2);
    assert_eq!(lists.count(ACCOUNT).await.expect("a count"), 2);
}

pub(super) async fn a_list_is_told_in_pages_and_each_number_once(on: Fixture) {
    let (lists, all) = (&on.store.optouts, numbers(2_500));
    assert!(all.len() > 2 * NUMBERS_MAX, "more than one step");
    assert_eq!(lists.add(ACCOUNT, &all).await.expect("added"), 2_500);
    // Some in one bucket: they are as far apart as there are buckets.
    let near: Vec<_> = (1..=20).map(|nth| number(15_550_000_000 + nth * 32_749)).collect();
    assert_eq!(lists.add(ACCOUNT, &near).await.expect("added"), 20);
    let expected: BTreeSet<_> = all.iter().chain(&near).copied().collect();
    assert_eq!(lists.count(ACCOUNT).await.expect("a count"), 2_520);
    let whole = listed(lists, ACCOUNT, 10_000).await;
    for limit in [7, 1_000, 2_520] {
        assert_eq!(listed(lists, ACCOUNT, limit).await, whole, "in pages of {limit}");
    }
    assert_eq!(whole.len(), 2_520);
    assert_eq!(whole.iter().copied().collect::<BTreeSet<_>>(), expected);
    let ask: Vec<_> = whole.iter().rev().copied().collect();
    assert_eq!(lists.contains(ACCOUNT, &ask).await.expect("an answer"), [true; 2_520]);
    assert_eq!(lists.remove(ACCOUNT, &whole).await.expect("removed"), 2_520);
    assert_eq!(lists.count(ACCOUNT).await.expect("a count"), 0);
}

pub(super) async fn a_page_goes_on_where_a_number_was_taken_off(on: Fixture) {
    let lists = &on.store.optouts;
    lists.add(ACCOUNT, &numbers(50)).await.expect("added");
    let (first, next) = lists.list(ACCOUNT, None, 20).await.expect("a page");
    lists.remove(ACCOUNT, &first).await.expect("removed");
    let (rest, end) = lists.list(ACCOUNT, next, 50).await.expect("a page");
    assert_eq!((rest.len(), end), (30, None));
    assert!(rest.iter().all(|number| !first.contains(number)), "told twice");
}

pub(super) async fn open_messages_to_numbers_on_the_list_are_found_in_a_chunk(on: Fixture) {
    let lists = &on.store.optouts;
    let to = ["+15551230001", "nobody", "+15551230002", "+15551230003", "+15551230001"];
    let chunk = chunks(&to, 5).remove(0);
    let places =
        async || lists.places(ACCOUNT, &chunk.states, &chunk.recipients).await.expect("an answer");
    assert_eq!(places().await, [] as [u16; 0]);
    // What this process changes it knows at once, though it has just seen an empty list.
    let off = ["+15551230001", "+15551230003"].map(|text| text.parse().expect("a number"));
    lists.add(ACCOUNT, &off).await.expect("added");
    assert_eq!(places().await, [0, 3, 4]);
    let ended = [4, 4, 0, 0, 0];
    let open = lists.places(ACCOUNT, &ended, &chunk.recipients).await.expect("an answer");
    assert_eq!(open, [3, 4], "what is final is left alone");
    let others = lists.places("other", &chunk.states, &chunk.recipients).await.expect("an answer");
    assert_eq!(others, [] as [u16; 0]);
    lists.remove(ACCOUNT, &off).await.expect("removed");
    assert_eq!(places().await, [] as [u16; 0]);
}
