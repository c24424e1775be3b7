//! The rates and pauses of providers.

use std::time::{Duration, Instant};

use ringback::store::{Grant, GrantRequest, Pause};

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

fn request(provider: &str, wanted: u32) -> GrantRequest<'_> {
    GrantRequest { provider, interval: Duration::from_millis(5), burst_us: 50_000, wanted }
}
