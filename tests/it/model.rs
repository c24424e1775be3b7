//! The protocol of claim, settle, expire and complete as a small model, looked at in every state that it
//! has within its bounds.
//!
//! `model/store.rs` has the store's steps as the scripts do them, `model/worker.rs` a worker, and
//! `model/world.rs` puts them together with a client, the reaper, a notifier and a provider that keeps
//! books; `model/properties.rs` says what must hold. What the domain decides is asked of the domain. That
//! the search finds what is wrong is shown by breaking one rule at a time.

mod chunk;
mod properties;
mod search;
mod store;
mod worker;
mod world;

use ringback::domain::{
    batch::DeliveryGuarantee::{self, AtLeastOnce, AtMostOnce},
    past::{LOSSES_MAX, Past, STARTS_MAX, Suspect},
};

use self::{search::explore, world::Bounds};

/// A rule that can be broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    CompletesInASecondStep,
    CompletesWithTheLastChunk,
    TokensAreNotChecked,
    RepeatsAreCounted,
    ClosesWithoutDoubt,
    LossesForgetTheMark,
    MarksFollowTheStart,
    DoubtsAreSentAgain,
    UnknownIsAlwaysRetried,
    PoisonIsSentAgain,
    DeadlinesAreNotLookedAt,
    SlotsAreFreedEarly,
    LeasesNeverEnd,
    ParkedChunksAreNotLookedAt,
    ParkedChunksStayOpen,
    ResumedBatchesStayOut,
    EventsEndWhenTheyAreTaken,
}

/// Two chunks, two workers, and a little of everything that goes wrong.
fn bounds(guarantee: DeliveryGuarantee) -> Bounds {
    Bounds {
        guarantee,
        sizes: [2, 1],
        workers: 2,
        mishaps: 2,
        past: Past::default(),
        poison: None,
        broken: None,
    }
}

/// A chunk of three messages, one after the other in the hands of two workers.
fn one_chunk(guarantee: DeliveryGuarantee) -> Bounds {
    Bounds { sizes: [3, 0], ..bounds(guarantee) }
}

/// A chunk that is handled with care: one more loss, and its second message is poison.
fn with_care() -> Bounds {
    let suspect = Suspect { place: 1, starts: STARTS_MAX - 1 };
    let past = Past { losses: Some(LOSSES_MAX), suspect: Some(suspect), mark: None };
    Bounds { past, ..one_chunk(AtLeastOnce) }
}

/// A message that ends whoever sends it, and nothing else that goes wrong.
fn poisoned(guarantee: DeliveryGuarantee) -> Bounds {
    let bounds = one_chunk(guarantee);
    Bounds { poison: Some(1), workers: 1, mishaps: 1, ..bounds }
}

fn check(name: &str, bounds: &Bounds) {
    // More of them go further, and take longer.
    let mishaps = std::env::var("MODEL_MISHAPS").ok().and_then(|mishaps| mishaps.parse().ok());
    let bounds = Bounds { mishaps: mishaps.unwrap_or(bounds.mishaps), ..bounds.clone() };
    match explore(&bounds) {
        Ok(explored) => {
            println!("{name}: {explored:?}");
            assert!(explored.ends > 0);
        }
        Err(violation) => panic!("{name}: {violation}"),
    }
}

#[test]
fn at_least_once_holds_in_every_state() {
    check("at least once", &bounds(AtLeastOnce));
}

#[test]
fn at_most_once_holds_in_every_state() {
    check("at most once", &bounds(AtMostOnce));
}

#[test]
fn the_messages_of_one_chunk_hold_in_every_state() {
    check("one chunk, at least once", &one_chunk(AtLeastOnce));
    check("one chunk, at most once", &one_chunk(AtMostOnce));
}

#[test]
fn care_holds_in_every_state() {
    check("with care", &with_care());
}

#[test]
fn poison_ends_and_its_neighbours_are_sent() {
    check("poison, at least once", &poisoned(AtLeastOnce));
    check("poison, at most once", &poisoned(AtMostOnce));
}

#[test]
fn each_broken_rule_is_found() {
    let (least, most) = (bounds(AtLeastOnce), bounds(AtMostOnce));
    let one_loss = Bounds { mishaps: 1, ..most.clone() };
    // Where no end can be reached is known once all states are.
    let small = Bounds { sizes: [2, 0], workers: 1, ..least.clone() };
    let found = [
        (Fault::CompletesInASecondStep, &least, "I3"),
        (Fault::CompletesWithTheLastChunk, &least, "I3"),
        (Fault::TokensAreNotChecked, &least, "I8"),
        (Fault::RepeatsAreCounted, &least, "I5"),
        (Fault::ClosesWithoutDoubt, &least, "I5"),
        (Fault::ClosesWithoutDoubt, &most, "I5"),
        (Fault::LossesForgetTheMark, &one_loss, "I6"),
        (Fault::MarksFollowTheStart, &one_loss, "I6"),
        (Fault::DoubtsAreSentAgain, &one_loss, "I6"),
        (Fault::UnknownIsAlwaysRetried, &one_loss, "I6"),
        (Fault::PoisonIsSentAgain, &poisoned(AtLeastOnce), "I1"),
        (Fault::DeadlinesAreNotLookedAt, &least, "I8"),
        (Fault::SlotsAreFreedEarly, &one_chunk(AtLeastOnce), "I6"),
        (Fault::LeasesNeverEnd, &small, "I1"),
        (Fault::ParkedChunksAreNotLookedAt, &small, "I1"),
        (Fault::ParkedChunksStayOpen, &small, "I1"),
        (Fault::ResumedBatchesStayOut, &small, "I1"),
        (Fault::EventsEndWhenTheyAreTaken, &small, "I1"),
    ];
    for (fault, bounds, property) in found {
        let bounds = Bounds { broken: Some(fault), ..bounds.clone() };
        match explore(&bounds) {
            Err(violation) => {
                assert!(violation.property.starts_with(property), "{fault:?}: {violation}");
                println!("{fault:?}: {violation}");
            }
            Ok(explored) => panic!("{fault:?} is not found: {explored:?}"),
        }
    }
}
