//! The rates and pauses of providers.

use std::time::{Duration, Instant};

use ringback::{
    domain::share::Share,
    store::{Grant, GrantRequest, Level, Pause},
};

use crate::{
    harness::{PATIENCE, eventually},
    store::fixture::Fixture,
};

pub(super) async fn a_pause_of_a_provider_holds_for_all(on: Fixture) {
    let dispatch = &on.store.dispatch;
    assert_eq!(dispatch.paused(&on.provider).await.expect("an answer"), Pause::default());
    dispatch.throttle(&on.provider, Duration::from_mins(1), false).await.expect("paused");
    dispatch.throttle(&on.provider, Duration::from_secs(1), false).await.expect("not shortened");
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
    let stopped = Pause { stopped: true, ..Pause::default() };
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

pub(super) async fn a_throttled_rate_is_cut_once_a_pause_for_all(on: Fixture) {
    let dispatch = &on.store.dispatch;
    let pause = Duration::from_millis(1_200);
    let throttle = async |cuts| dispatch.throttle(&on.provider, pause, cuts).await.expect("paused");
    let share = async || dispatch.paused(&on.provider).await.expect("an answer").share;
    assert_eq!(throttle(false).await, None);
    assert_eq!(share().await, Share::FULL);
    // Five workers hear the same.
    let half = Share::FULL.cut();
    let told = futures_util::future::join_all((0..5).map(|_| throttle(true))).await;
    assert_eq!(told.iter().flatten().collect::<Vec<_>>(), [&half]);
    assert_eq!(share().await, half);
    // It grows from the end of the pause on, and is cut again from what it is by then.
    let grown = eventually("growth", PATIENCE, async || {
        let share = share().await;
        (share > half).then_some(share)
    })
    .await;
    assert!(grown < half.grown(PATIENCE), "{grown:?}");
    let again = throttle(true).await.expect("a cut");
    assert!(again >= grown.cut() && again < half, "{again:?} of {grown:?}");
    assert_eq!(throttle(true).await, None);
    let stats = on.store.reading.stats(std::slice::from_ref(&on.provider)).await.expect("figures");
    assert_eq!(stats.providers[&on.provider].share, again);
}

pub(super) async fn a_provider_that_is_away_is_told_of_until_it_is_back(on: Fixture) {
    let dispatch = &on.store.dispatch;
    let away = async || dispatch.paused(&on.provider).await.expect("an answer").away;
    let tell = async |cool_down| {
        dispatch.tell_away(&on.provider, cool_down).await.expect("noted");
    };
    assert_eq!(away().await, None);
    tell(Some(Duration::from_secs(30))).await;
    let left = away().await.expect("away");
    assert!(left > Duration::from_secs(25) && left <= Duration::from_secs(30), "{left:?}");
    // Nothing is paused by it.
    let granted = dispatch.grant(&request(&on.provider, 1)).await.expect("an answer");
    assert!(matches!(granted, Grant::Run { .. }), "{granted:?}");
    tell(Some(Duration::from_millis(1))).await;
    eventually("the end of the cool-down", PATIENCE, async || {
        (away().await == Some(Duration::ZERO)).then_some(())
    })
    .await;
    let stats = on.store.reading.stats(std::slice::from_ref(&on.provider)).await.expect("figures");
    assert_eq!(stats.providers[&on.provider].away_ms, Some(0));
    tell(None).await;
    assert_eq!(away().await, None);
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
    assert!(wait > Duration::from_mins(3) && wait <= Duration::from_secs(200), "{wait:?}");
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
