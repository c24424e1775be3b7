//! What every store must do, case by case. The cases are listed once and run on each store.

mod callbacks;
mod dispatch;
mod intake;
mod rates;
mod reading;
mod wishes;

use super::fixture::Fixture;
use crate::harness::Kind;

const THREE: [&str; 3] = ["+15551230001", "+15551230002", "+15551230003"];

macro_rules! cases {
    (
        each_store { $($theme:ident { $($case:ident)* })* }
        redis_alone { $($only_theme:ident { $($only:ident)* })* }
    ) => {
        mod on_redis {
            $($(
                #[tokio::test]
                async fn $case() {
                    super::$theme::$case(super::Fixture::start(super::Kind::Redis).await).await;
                }
            )*)*
            $($(
                #[tokio::test]
                async fn $only() {
                    super::$only_theme::$only(super::Fixture::start(super::Kind::Redis).await).await;
                }
            )*)*
        }
        mod on_embedded {
            $($(
                #[tokio::test]
                async fn $case() {
                    super::$theme::$case(super::Fixture::start(super::Kind::Embedded).await).await;
                }
            )*)*
        }
    };
}

cases! {
    each_store {
        intake {
            an_empty_batch_completes_when_it_is_sealed
            a_batch_of_invalid_numbers_completes_when_it_is_sealed
            nothing_is_claimed_before_the_seal
            a_seal_with_chunks_missing_is_refused
            an_upload_that_stopped_vanishes_and_frees_its_key
            an_abandoned_upload_frees_its_key
            one_key_is_one_batch
        }
        dispatch {
            a_batch_is_claimed_settled_and_completed_with_one_event
            a_chunk_of_invalid_numbers_is_passed_over
            the_same_claim_again_gives_the_same_chunk
            the_same_settlement_again_changes_nothing
            the_last_settlement_again_is_still_done
            a_settlement_out_of_order_is_told_what_is_missing
            a_stale_token_changes_nothing
            a_final_state_is_never_overwritten
            a_lease_that_ran_out_is_claimed_by_another
            a_lease_is_kept_by_its_heartbeat
            a_waiting_message_is_parked_until_it_is_due
            what_is_unsent_can_be_claimed_again_at_once
            accounts_take_turns_then_their_batches
            many_workers_at_once_keep_the_counts_right
        }
        wishes {
            cancel_counts_what_was_never_claimed_at_once
            cancel_closes_parked_chunks_by_the_sweep
            cancel_closes_a_held_chunk_when_it_is_let_go
            cancel_closes_a_held_chunk_when_its_lease_runs_out
            cancel_leaves_in_doubt_what_may_have_been_accepted
            a_paused_batch_is_not_claimed_until_it_is_resumed
            a_wish_reaches_who_holds_the_batch
            a_wish_for_what_is_over_is_refused
        }
        reading {
            another_account_sees_nothing
            the_list_is_newest_first_and_pages
            messages_are_told_with_their_states
        }
        callbacks {
            an_event_is_taken_once_and_recorded
            an_interrupted_attempt_uses_up_its_number
            a_late_record_changes_nothing
            what_was_kept_long_enough_is_erased_to_the_last_key
        }
        rates {
            a_pause_of_a_provider_holds_for_all
            grants_never_overlap
        }
    }
    // These need two processes on one store, and the embedded one serves one.
    redis_alone {
        dispatch {
            a_shorter_lease_elsewhere_takes_nothing_from_a_longer_one
        }
    }
}
