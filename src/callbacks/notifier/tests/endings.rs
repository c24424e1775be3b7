//! What ends an event besides its delivery.

use super::*;

#[tokio::test]
async fn a_gone_receiver_stops_it_and_a_failing_one_uses_up_the_schedule() {
    let gone = Receiver::start([Act::answer(410, "")]).await;
    let failing = Receiver::start([Act::answer(500, "")]).await;
    let running = Running::start(events(&[gone.url(), failing.url()]));
    let records = running.events.recorded(5).await;
    let of = |number| {
        let id = event(number, "").event.id;
        records.iter().filter(move |attempt| attempt.event == id).collect::<Vec<_>>()
    };
    assert_eq!(
        of(0).iter().map(|attempt| ended(attempt)).collect::<Vec<_>>(),
        [Some(CallbackState::Gone)]
    );
    assert_eq!(of(1).len(), 4);
    assert_eq!(ended(of(1)[3]), Some(CallbackState::Exhausted));
    assert_eq!((gone.requests().len(), failing.requests().len()), (1, 4));
}

#[tokio::test]
async fn an_interrupted_attempt_is_recorded_and_not_made_again() {
    let receiver = Receiver::start([Act::answer(200, "")]).await;
    let interrupted = TakenEvent { interrupted: true, ..event(0, &receiver.url()) };
    let running = Running::start(due(interrupted));
    let records = running.events.recorded(2).await;
    assert_eq!(records[0].end, AttemptEnd::interrupted());
    assert_eq!((records[0].number, records[0].host), (1, HostSign::None));
    assert!(matches!(records[0].verdict, Verdict::Again(wait) if wait.as_secs() >= 4));
    assert_eq!((records[1].number, records[1].host), (2, HostSign::Answered));
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn interrupted_attempts_use_up_the_schedule() {
    let last = TakenEvent { interrupted: true, tries: 4, ..event(0, "http://127.0.0.1:1/") };
    let running = Running::start(due(last));
    assert_eq!(ended(&running.events.recorded(1).await[0]), Some(CallbackState::Exhausted));
}

#[tokio::test]
async fn a_report_of_progress_is_tried_once() {
    let receiver = Receiver::start([Act::answer(500, "")]).await;
    let mut report = progress();
    report.batch.spec = event(0, &receiver.url()).batch.spec;
    let running = Running::start(due(report));
    assert_eq!(ended(&running.events.recorded(1).await[0]), Some(CallbackState::Skipped));
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn an_event_that_waited_too_long_for_a_silent_host_has_ended() {
    let silent = Receiver::start([Act::Reset]).await;
    let old = TakenEvent { age: Duration::from_hours(1), ..event(0, &silent.url()) };
    let running = Running::start(due(old));
    assert_eq!(ended(&running.events.recorded(1).await[0]), Some(CallbackState::Exhausted));
    assert_eq!(silent.requests().len(), 1);
}
