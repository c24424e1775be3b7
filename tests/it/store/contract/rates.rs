//! The rates and pauses of providers.

use std::time::{Duration, Instant};

use ringback::store::{Grant, GrantRequest, Level, Pause};

use crate::store::fixture::Fixture;

pub(super) async fn a_pause_of_a_provider_holds_for_all(on: Fixture) {
    let dispatch = &on.store.dispatch;
    assert_eq!(dispatch.paused(&on.provider).await.expect("an answer"), Pause::default());
    dispatch.throttle(&on.provider, Duration::from_mins(1)).await.expect("paused");
    dispatch.throttle(&on.provider, Duration::from_secs(1)).await.expect("not shortened");
    let left = dispatch.paused(&on.provider).await.expect("an answer").left;
    assert!(left > Duration::from_secs(50) && left <= Duration::from_mins(1), "{left:?}");
    let request = request(&on.provider, 10);
    let granted = dispatch.grant(&request).await.expect("an answer");
    assert!(matches!(granted, Grant::Later { paused: true, .. }), "{granted:?}");
}

pub(super) async fn a_stopped_provider_stays_so_until_it_is_resumed(on: Fixture) {
    on.store.intake.set_stopped(&on.provider, true).await.expect("a stop");
    let on = on.reopened().await;
    let (intake, dispatch) = (&on.store.intake, &on.store.dispatch);
    let stopped = Pause { left: Duration::ZERO, stopped: true };
    assert_eq!(dispatch.paused(&on.provider).await.expect("an answer"), stopped);
    let providers = [on.provider.clone()];
    let stats = on.store.reading.stats(&providers).await.expect("figures");
    assert!(stats.providers[&on.provider].stopped);
    intake.set_stopped(&on.provider, false).await.expect("a resumption");
    assert_eq!(dispatch.paused(&on.provider).await.expect("an answer"), Pause::default());
}

pub(super) async fn grants_never_overlap(on: Fixture) {
    let (interval_us, wanted) = (5_000, 10);
    let mut firsts = Vec::new();
    let begun = Instant::now();
    for _ in 0..8 {
        match on.store.dispatch.grant(&request(&on.provider, wanted)).await.expect("an answer") {
            Grant::Run { first_in_us } => {
                let at = i64::try_from(begun.elapsed().as_micros()).expect("short") + first_in_us;
                firsts.push(at);
            }
            later @ Grant::Later { .. } => panic!("{later:?}"),
        }
    }
    let run_us = interval_us * i64::from(wanted);
    // The server's clock is read a little before ours: allow for the reply's way.
    let slack_us = 20_000;
    for (nth, first) in firsts.iter().enumerate() {
        let nth = i64::try_from(nth).expect("few");
        assert!(*first >= firsts[0] + nth * run_us - slack_us, "{firsts:?}");
    }
}

pub(super) async fn a_rate_below_the_providers_holds_beside_it_and_takes_nothing_from_others(
    on: Fixture,
) {
    let slow = |name| Level { name, interval: Duration::from_mins(1) };
    let (one, other, prefix) = (slow("s:+15550000001"), slow("s:+15550000002"), slow("p:+1"));
    let ask = async |below: &[Level<'_>]| {
        let request = GrantRequest { below, ..request(&on.provider, 1) };
        on.store.dispatch.grant(&request).await.expect("an answer")
    };
    assert!(matches!(ask(&[one]).await, Grant::Run { .. }));
    // It has none for a minute; the other one, and what has no sender, have theirs at once.
    let Grant::Later { wait, paused: false } = ask(&[one]).await else { panic!("a second run") };
    assert!(wait > Duration::from_secs(55) && wait <= Duration::from_mins(1), "{wait:?}");
    for below in [&[other, prefix][..], &[]] {
        let granted = ask(below).await;
        let Grant::Run { first_in_us } = granted else { panic!("{granted:?}") };
        assert!(first_in_us < 50_000, "{first_in_us}");
    }
    // What one level refuses was taken from none.
    let third = slow("s:+15550000003");
    assert!(matches!(ask(&[third, prefix]).await, Grant::Later { .. }));
    assert!(matches!(ask(&[third]).await, Grant::Run { .. }));
}

pub(super) async fn a_long_message_takes_as_many_times_as_it_has_segments(on: Fixture) {
    let sender = [Level { name: "s:+15550000001", interval: Duration::from_secs(1) }];
    let ask = async |wanted| {
        let below = &sender[..];
        let request = GrantRequest { below, wanted_max: 256, ..request(&on.provider, wanted) };
        on.store.dispatch.grant(&request).await.expect("an answer")
    };
    assert!(matches!(ask(200).await, Grant::Run { .. }));
    // The provider's clock is a second ahead then, and the sender's further: it is right all the same.
    let later = ask(1).await;
    let Grant::Later { wait, paused: false } = later else { panic!("{later:?}") };
    assert!(wait > Duration::from_secs(180) && wait <= Duration::from_secs(200), "{wait:?}");
}

fn request(provider: &str, wanted: u32) -> GrantRequest<'_> {
    GrantRequest {
        provider,
        interval: Duration::from_millis(5),
        burst_us: 50_000,
        wanted,
        wanted_max: wanted,
        ahead_us: 1_000_000,
        below: &[],
    }
}
