//! New hosts that are asked before their first callback.

use super::*;

#[tokio::test]
async fn a_new_host_is_asked_by_a_signed_ping_once() {
    let receiver =
        Receiver::start([Act::answer(204, ""), Act::answer(200, ""), Act::answer(200, "")]).await;
    let asking = CallbackSettings { verify_endpoint: true, concurrency: 1, ..settings() };
    let running = Running::start_with(events(&[receiver.url(), receiver.url()]), &asking);
    running.events.recorded(2).await;
    let requests = receiver.requests();
    requests.iter().for_each(verify);
    assert!(requests[0].body.contains("\"webhook.ping\""), "{}", requests[0].body);
    assert_eq!(requests[0].header("x-api-token"), "t0ken");
    assert_ne!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
    assert!(requests[1..].iter().all(|request| request.body.contains("batch.completed")));
    assert_eq!(requests.len(), 3);
    assert_eq!(running.events.welcomes.lock().len(), 1);
}

#[tokio::test]
async fn a_host_that_refuses_the_ping_gets_no_callback() {
    let receiver = Receiver::start([Act::answer(404, "")]).await;
    let asking = CallbackSettings { verify_endpoint: true, schedule: Vec::new(), ..settings() };
    let running = Running::start_with(events(&[receiver.url()]), &asking);
    let attempt = &running.events.recorded(1).await[0];
    let error = attempt.end.error.as_deref().unwrap();
    assert!(error.starts_with("the host did not welcome a ping: "), "{error}");
    assert_eq!(receiver.requests().len(), 1);
    assert!(running.events.welcomes.lock().is_empty());
}

#[tokio::test]
async fn a_ping_that_is_answered_with_410_ends_the_callback() {
    let receiver = Receiver::start([Act::answer(410, "")]).await;
    let asking = CallbackSettings { verify_endpoint: true, ..settings() };
    let running = Running::start_with(events(&[receiver.url()]), &asking);
    let attempt = &running.events.recorded(1).await[0];
    assert_eq!(ended(attempt), Some(CallbackState::Gone));
    assert_eq!((attempt.end.status, attempt.host), (Some(410), HostSign::Answered));
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn a_host_that_is_welcome_already_is_not_asked() {
    let receiver = Receiver::start([Act::answer(200, "")]).await;
    let events = events(&[receiver.url()]);
    let (account, host) = (String::new(), receiver.address().to_string());
    events.welcomes.lock().push((account, host));
    let asking = CallbackSettings { verify_endpoint: true, ..settings() };
    let running = Running::start_with(events, &asking);
    running.events.recorded(1).await;
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].body.contains("batch.completed"), "{}", requests[0].body);
}

#[tokio::test]
async fn a_new_host_is_asked_once_however_many_events_wait_for_it() {
    let receiver = Receiver::start([Act::answer(200, "")]).await;
    let asking = CallbackSettings { verify_endpoint: true, concurrency: 8, ..settings() };
    let urls: Vec<_> = (0..8).map(|_| receiver.url()).collect();
    let running = Running::start_with(events(&urls), &asking);
    running.events.recorded(8).await;
    let requests = receiver.requests();
    let pings = requests.iter().filter(|request| request.body.contains("\"webhook.ping\""));
    assert_eq!((pings.count(), requests.len()), (1, 9));
}
