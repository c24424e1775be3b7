//! What every store must do, case by case. The cases are listed once and run on each store, and on a
//! cluster.

mod audit;
mod callbacks;
mod day;
mod dispatch;
mod events;
mod intake;
mod late;
mod pace;
mod past;
mod rates;
mod reading;
mod receipts;
mod suppressions;
mod waits;
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
        mod on_cluster {
            /// One after the other on one cluster, since a cluster of its own for each would take
            /// longer than the cases.
            #[tokio::test]
            async fn every_case() {
                let cluster = crate::harness::Cluster::start(0).await;
                $($(
                    eprintln!(stringify!($case));
                    super::$theme::$case(super::Fixture::on(&cluster).await).await;
                    cluster.flush();
                )*)*
                $($(
                    eprintln!(stringify!($only));
                    super::$only_theme::$only(super::Fixture::on(&cluster).await).await;
                    cluster.flush();
                )*)*
            }
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
        day {
            a_day_has_room_for_so_many_recipients
            a_batch_is_counted_once_however_often_it_is_sealed
            a_batch_that_is_not_accepted_is_not_counted
            the_next_day_begins_anew
            many_at_once_take_no_more_than_the_day_has
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
            priorities_share_the_turns_by_weight
            a_priority_saves_up_no_turns
            many_workers_at_once_keep_the_counts_right
        }
        wishes {
            cancel_counts_what_was_never_claimed_at_once
            cancel_closes_parked_chunks_by_the_sweep
            cancel_closes_a_held_chunk_when_it_is_let_go
            cancel_closes_a_held_chunk_when_its_lease_runs_out
            cancel_leaves_in_doubt_what_may_have_been_accepted
            a_paused_batch_is_not_claimed_until_it_is_resumed
            a_batch_waits_for_its_time
            a_batch_that_waits_can_be_paused_and_canceled
            a_batch_that_waits_is_amended_by_one_at_a_time
            what_was_never_claimed_expires_at_once
            what_is_parked_or_held_expires_as_it_comes_back
            a_batch_that_has_expired_can_be_canceled
            a_batch_is_erased_once_nothing_is_left_to_be_told
            a_wish_reaches_who_holds_the_batch
            a_wish_for_what_is_over_is_refused
        }
        reading {
            another_account_sees_nothing
            the_list_is_newest_first_and_pages
            messages_are_told_with_their_states
        }
        suppressions {
            a_number_is_on_its_accounts_list_until_it_is_taken_off
            a_list_is_told_in_pages_and_each_number_once
            a_page_goes_on_where_a_number_was_taken_off
            open_messages_to_numbers_on_the_list_are_found_in_a_chunk
        }
        callbacks {
            an_event_is_taken_once_and_recorded
            an_event_waits_for_its_next_attempt
            an_interrupted_attempt_is_handed_out_to_be_recorded
            a_late_record_changes_nothing
            a_host_gets_so_many_at_once_and_the_others_theirs
            events_whose_batches_are_lost_keep_no_place_of_their_host
            many_events_of_one_host_hide_no_other
            a_silent_host_is_left_alone_then_tried_with_one
            an_answer_ends_a_row_of_silences
            a_welcome_is_kept_for_its_account_and_host
            what_was_kept_long_enough_is_erased_to_the_last_key
            nothing_is_erased_because_the_clock_was_set_back
        }
        events {
            the_dispatch_is_told_before_the_completion
            a_replay_does_not_overtake_the_report_under_way
            a_report_of_progress_is_not_replayed
            progress_is_told_one_at_a_time_and_the_completion_last
            the_completion_waits_for_a_report_no_longer_than_its_lease
            a_report_that_waits_at_the_end_is_given_up
            progress_by_time_is_told_when_something_changed
            each_failed_message_is_told_once
            a_batch_is_kept_until_all_its_events_have_ended
            a_replay_begins_the_schedule_anew
            a_replay_of_what_waits_comes_at_once
            what_waits_for_nothing_is_not_held_up_by_a_clock_that_is_set_back
            a_replay_that_makes_no_sense_is_refused
            an_order_replays_what_ended_so
            an_order_is_carried_out_at_a_measured_pace
            a_big_order_of_one_account_holds_up_no_other
            the_feed_is_in_order_and_pages
            the_list_of_events_is_newest_first_and_filters
        }
        pace {
            a_batch_in_its_quiet_hours_rests_until_they_end
            a_batch_expires_in_its_quiet_hours
            a_rate_of_its_own_hands_out_times_that_never_overlap
            a_slow_rate_gives_one_message_at_a_time
            the_same_claim_again_gives_times_of_its_own
        }
        audit {
            what_is_in_order_gives_no_finding
            false_counts_are_found_and_put_right
            a_chunk_that_nobody_has_is_found_and_can_be_claimed_again
            an_orphan_of_a_canceled_batch_is_closed_by_the_repair
            a_batch_that_moved_since_is_not_repaired
            who_is_in_no_ring_is_put_back
            who_stands_still_is_told_of_again_and_again
        }
        past {
            a_mark_outlives_its_lease_and_ends_with_the_next_ones_first_word
            who_lets_go_takes_the_mark_away
            losses_in_a_row_are_counted_until_there_is_progress
            who_is_started_alone_and_lost_is_a_suspect
            what_was_marked_is_unknown_when_the_batch_closes
            a_lost_chunk_that_came_back_is_in_doubt_when_the_batch_closes
        }
        receipts {
            a_batch_is_over_once_every_receipt_is_in
            a_chunk_is_its_holders_until_it_lets_go_whatever_receipts_say
            the_dispatch_is_told_when_the_last_message_was_handed_over
            receipts_are_waited_for_so_long_and_no_longer
            a_receipt_that_is_early_is_not_overwritten_by_the_record
            early_receipts_can_end_a_batch_whose_chunk_is_held
            a_parked_chunk_that_receipts_end_is_claimed_no_more
            only_what_may_have_been_handed_over_has_receipts
            a_canceled_batch_waits_for_what_was_handed_over
            each_undelivered_message_is_told_once_on_request
            late_receipts_are_told_of_together_on_request
        }
        late {
            a_body_of_late_receipts_is_kept_if_it_tells_of_all_of_them
            what_came_before_the_end_is_not_told_of_as_late
            a_late_receipt_brings_back_nothing_that_is_erased
            what_receipts_ended_is_erased_with_its_leases
        }
        waits {
            who_waits_for_receipts_and_is_not_known_to_waits_again
            a_repair_has_receipts_waited_for
            no_wait_ends_while_messages_are_open
            a_clock_that_is_stepped_back_a_little_ends_no_wait
        }
        rates {
            a_pause_of_a_provider_holds_for_all
            a_stopped_provider_stays_so_until_it_is_resumed
            grants_never_overlap
            a_rate_below_the_providers_holds_beside_it_and_takes_nothing_from_others
            a_long_message_takes_as_many_times_as_it_has_segments
            a_throttled_rate_is_cut_once_a_pause_for_all
            a_provider_that_is_away_is_told_of_until_it_is_back
        }
    }
    // These need two processes on one store, and the embedded one serves one.
    redis_alone {
        dispatch {
            a_shorter_lease_elsewhere_takes_nothing_from_a_longer_one
        }
    }
}
