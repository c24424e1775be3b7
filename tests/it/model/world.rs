//! All who take part: a client, workers, the reaper, a notifier and its receiver, and a provider that
//! keeps books. What each may do next, and what that brings about.

use ringback::domain::{batch::DeliveryGuarantee, past::Past};

use super::{
    Fault,
    chunk::{Lease, PerPlace, Standing},
    properties::Entry,
    search::Model,
    store::{CHUNKS, Event, Store},
    worker::{Heard, Hold, Worker},
};

/// What is searched: how large it is, and how much goes wrong in it.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) guarantee: DeliveryGuarantee,
    /// The messages of each chunk.
    pub(super) sizes: [usize; CHUNKS],
    pub(super) workers: usize,
    /// How much goes wrong, or otherwise than at first wished, all together: deaths, leases outlived, lost
    /// replies; submissions that are refused, or of which nothing is heard; a pause, a cancel, an expiry.
    pub(super) mishaps: u8,
    /// What earlier leases of the first chunk left behind.
    pub(super) past: Past,
    /// A place in the first chunk whose message ends whoever sends it, as often as it is sent.
    pub(super) poison: Option<usize>,
    /// The rule that is broken on purpose.
    pub(super) broken: Option<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) store: Store,
    pub(super) workers: Vec<Worker>,
    /// The notifier's attempt, and whether it has been answered.
    attempt: Option<bool>,
    /// Whether the receiver has got the event.
    pub(super) received: bool,
    /// The batch has lasted as long as it may.
    time_is_up: bool,
    pub(super) book: [PerPlace<Entry>; CHUNKS],
    mishaps: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Accept,
    Cancel,
    Pause,
    Resume,
    TimeIsUp,
    Claim { worker: usize, heard: bool },
    Start { worker: usize, accepted: bool },
    LetExpire { worker: usize },
    Land { worker: usize, place: usize, heard: Heard },
    Settle { worker: usize, heard: bool },
    HearTheWish { worker: usize },
    EndTheTurn { worker: usize },
    ExtendTheLease { worker: usize },
    StandStill { worker: usize },
    Die { worker: usize },
    Recover { chunk: usize },
    CloseParked,
    Forward,
    Expire,
    TakeEvent,
    PostEvent { heard: bool },
    RecordAttempt,
    NotifierDies,
    AttemptRunsOut,
}

use Action::{
    Accept, AttemptRunsOut, Cancel, Claim, CloseParked, Die, EndTheTurn, Expire, ExtendTheLease,
    Forward, HearTheWish, Land, LetExpire, NotifierDies, Pause, PostEvent, RecordAttempt, Recover,
    Resume, Settle, StandStill, Start, TakeEvent, TimeIsUp,
};

// === impl Model ===

impl Model for Bounds {
    type State = World;
    type Action = Action;

    fn initial(&self) -> World {
        let mut store = Store::new(self.guarantee, self.sizes, self.broken);
        store.chunks[0].past = self.past;
        World {
            store,
            workers: vec![Worker::default(); self.workers],
            attempt: None,
            received: false,
            time_is_up: false,
            book: Default::default(),
            mishaps: self.mishaps,
        }
    }

    fn actions(&self, world: &World) -> Vec<Action> {
        let mut actions = world.of_client();
        for worker in 0..world.workers.len() {
            actions.extend(world.of_worker(worker));
        }
        actions.extend(world.of_reaper());
        actions.extend(world.of_notifier());
        actions.retain(|action| world.mishaps > 0 || !is_mishap(*action));
        actions
    }

    fn step(&self, world: &World, action: Action) -> World {
        let mut after = world.clone();
        after.mishaps -= u8::from(is_mishap(action));
        after.take(action, self.poison);
        let workers = &after.workers;
        after.store.forget_leases_but(|token| workers.iter().any(|worker| worker.knows(token)));
        after
    }

    fn broken(&self, before: &World, action: Action, after: &World) -> Option<&'static str> {
        before.forbids(action, after).or_else(|| after.broken())
    }

    fn is_end(&self, world: &World) -> bool {
        world.store.completed && world.store.event == Event::Delivered
    }

    fn happens_by_itself(&self, action: Action) -> bool {
        !is_mishap(action)
    }
}

fn is_mishap(action: Action) -> bool {
    matches!(
        action,
        Die { .. }
            | StandStill { .. }
            | NotifierDies
            | Claim { heard: false, .. }
            | Settle { heard: false, .. }
            | PostEvent { heard: false }
            | Start { accepted: false, .. }
            | Land { heard: Heard::Nothing, .. }
            | Cancel
            | Pause
            | TimeIsUp
    )
}

// === impl World: what may happen ===

impl World {
    fn of_client(&self) -> Vec<Action> {
        let store = &self.store;
        if !store.accepted {
            return vec![Accept];
        }
        let mut actions = vec![];
        if store.paused && !store.completed {
            actions.push(Resume);
        }
        if store.is_under_way() {
            actions.push(Cancel);
            if !store.paused {
                actions.push(Pause);
            }
            actions.push(if self.time_is_up { Expire } else { TimeIsUp });
        }
        actions
    }

    fn of_worker(&self, worker: usize) -> Vec<Action> {
        let Worker { asking, hold } = &self.workers[worker];
        let Some(hold) = hold else {
            // Of workers with nothing in hand it does not matter who asks.
            let is_idle = |worker: &Worker| *worker == Worker::default();
            let is_first = !self.workers[..worker].iter().any(is_idle);
            let asks = self.store.accepted && self.store.in_ring && is_first || asking.is_some();
            let claims = [true, false].map(|heard| Claim { worker, heard });
            let dies = asking.is_some().then_some(Die { worker });
            return asks.then_some(claims).into_iter().flatten().chain(dies).collect();
        };
        let mut actions = vec![Die { worker }];
        if hold.next(self.store.fault).is_some() {
            if self.time_is_up {
                actions.push(LetExpire { worker });
            } else {
                actions.extend([true, false].map(|accepted| Start { worker, accepted }));
            }
        }
        for (place, accepted) in hold.flying.iter().enumerate() {
            let Some(accepted) = *accepted else { continue };
            let told = if accepted { Heard::Accepted } else { Heard::Refused };
            actions.extend([told, Heard::Nothing].map(|heard| Land { worker, place, heard }));
        }
        if hold.clone().next_word().is_some() {
            actions.extend([true, false].map(|heard| Settle { worker, heard }));
        }
        if hold.left() > 0 {
            actions.push(EndTheTurn { worker });
            if self.store.closes.is_some() {
                actions.push(HearTheWish { worker });
            }
        }
        actions.push(if hold.late { ExtendTheLease { worker } } else { StandStill { worker } });
        actions
    }

    fn of_reaper(&self) -> Vec<Action> {
        let mut actions = vec![];
        for (chunk, found) in self.store.chunks.iter().enumerate() {
            let held = found.lease.filter(|lease| lease.standing == Standing::Held);
            let Some(lease) = held else { continue };
            let keeps = |hold: &Hold| hold.token == lease.token && !hold.late;
            let kept = self.workers.iter().filter_map(|worker| worker.hold.as_ref()).any(keeps);
            if !kept && !self.store.has(Fault::LeasesNeverEnd) {
                actions.push(Recover { chunk });
            }
        }
        if self.store.closing {
            actions.push(CloseParked);
        }
        if self.store.due {
            actions.push(Forward);
        }
        actions
    }

    fn of_notifier(&self) -> Vec<Action> {
        match (self.store.event, self.attempt) {
            (Event::Waits, None) => vec![TakeEvent],
            (_, Some(false)) => {
                vec![PostEvent { heard: true }, PostEvent { heard: false }, NotifierDies]
            }
            (_, Some(true)) => vec![RecordAttempt, NotifierDies],
            (Event::UnderWay, None) => vec![AttemptRunsOut],
            (Event::None | Event::Delivered, None) => vec![],
        }
    }
}

// === impl World: what it brings about ===

impl World {
    fn take(&mut self, action: Action, poison: Option<usize>) {
        match action {
            Accept => self.store.accept(),
            Cancel => self.store.cancel(),
            Pause => self.store.pause(),
            Resume => self.store.resume(),
            TimeIsUp => self.time_is_up = true,
            Claim { worker, heard } => self.claim(worker, heard),
            Start { worker, accepted } => self.start(worker, accepted, poison),
            LetExpire { worker } => self.hold(worker).let_expire(),
            Land { worker, place, heard } => self.land(worker, place, heard),
            Settle { worker, heard } => self.settle(worker, heard),
            HearTheWish { worker } => {
                let (closes, fault) = (self.store.closes, self.store.fault);
                self.hold(worker).close(closes, fault);
            }
            EndTheTurn { worker } => self.hold(worker).close(None, None),
            ExtendTheLease { worker } => self.extend(worker),
            StandStill { worker } => self.hold(worker).late = true,
            Die { worker } => self.workers[worker] = Worker::default(),
            Recover { chunk } => self.recover(chunk),
            CloseParked => self.store.close_parked(),
            Forward => self.store.forward(),
            Expire => self.store.expire(),
            TakeEvent | PostEvent { .. } | RecordAttempt | NotifierDies | AttemptRunsOut => {
                self.notify(action);
            }
        }
    }

    fn hold(&mut self, worker: usize) -> &mut Hold {
        self.workers[worker].hold.as_mut().expect("a worker that holds a chunk")
    }

    fn claim(&mut self, worker: usize, heard: bool) {
        let is_free = |token: &u8| {
            let is_of = |lease: Lease| lease.token == *token;
            !self.store.chunks.iter().any(|chunk| chunk.lease.is_some_and(is_of))
                && !self.workers.iter().any(|worker| worker.knows(*token))
        };
        let asked = self.workers[worker].asking;
        let token = asked.or_else(|| (0..=u8::MAX).find(is_free)).expect("few are in use");
        let claimed = self.store.claim(token);
        let Some(claimed) = claimed else {
            self.workers[worker].asking = None;
            return;
        };
        if !heard {
            self.workers[worker].asking = Some(token);
            return;
        }
        if let Some(place) = claimed.chunk.past.poison() {
            self.book[claimed.number][usize::from(place)].poisoned = true;
        }
        let hold = Hold::new(&claimed, token, self.store.guarantee, self.store.fault);
        self.workers[worker] = Worker { asking: None, hold: Some(hold) };
    }

    fn start(&mut self, worker: usize, accepted: bool, poison: Option<usize>) {
        let fault = self.store.fault;
        let hold = self.workers[worker].hold.as_mut().expect("a worker that holds a chunk");
        let place = hold.next(fault).expect("a message to start");
        hold.start(accepted);
        let entry = &mut self.book[hold.chunk][place];
        entry.accepted = 2.min(entry.accepted + u8::from(accepted));
        entry.calls += 1;
        entry.in_doubt = true;
        if hold.chunk == 0 && poison == Some(place) {
            self.workers[worker] = Worker::default();
        }
    }

    fn land(&mut self, worker: usize, place: usize, heard: Heard) {
        let (now, fault, guarantee) = (self.store.now, self.store.fault, self.store.guarantee);
        let hold = self.hold(worker);
        hold.land(place, heard, now, fault);
        let (chunk, token) = (hold.chunk, hold.token);
        let is_holder = self.store.chunks[chunk].lease.is_some_and(|lease| lease.is(token));
        let entry = &mut self.book[chunk][place];
        let may_be_called_again = match heard {
            Heard::Accepted => false,
            Heard::Refused => true,
            Heard::Nothing => guarantee == DeliveryGuarantee::AtLeastOnce,
        };
        entry.had_trouble |= heard != Heard::Accepted;
        if may_be_called_again && is_holder {
            entry.calls -= i8::from(std::mem::take(&mut entry.in_doubt));
        }
    }

    fn settle(&mut self, worker: usize, heard: bool) {
        let settlement = self.hold(worker).next_word().expect("something to settle");
        let hold = self.hold(worker);
        let (chunk, token) = (hold.chunk, hold.token);
        let settled = self.store.settle(chunk, token, &settlement);
        if heard && !self.hold(worker).answered(settled) {
            self.workers[worker].hold = None;
            if self.store.has(Fault::CompletesInASecondStep) {
                self.store.complete();
            }
        }
    }

    fn extend(&mut self, worker: usize) {
        let hold = self.hold(worker);
        let (chunk, token) = (hold.chunk, hold.token);
        if self.store.chunks[chunk].lease.is_some_and(|lease| lease.is(token)) {
            self.hold(worker).late = false;
        } else {
            self.workers[worker].hold = None;
        }
    }

    fn recover(&mut self, chunk: usize) {
        let may_go_again = self.store.guarantee == DeliveryGuarantee::AtLeastOnce;
        for (place, entry) in self.book[chunk].iter_mut().enumerate() {
            let in_doubt = std::mem::take(&mut entry.in_doubt);
            let is_open = self.store.chunks[chunk].states[place].is_none();
            entry.calls -= i8::from(in_doubt && is_open && may_go_again);
        }
        self.store.recover(chunk);
    }

    fn notify(&mut self, action: Action) {
        match action {
            TakeEvent => {
                self.attempt = Some(false);
                self.store.event = Event::UnderWay;
                if self.store.has(Fault::EventsEndWhenTheyAreTaken) {
                    self.store.event = Event::None;
                }
            }
            PostEvent { heard } => {
                self.received = true;
                self.attempt = heard.then_some(true);
                if !heard {
                    self.store.event = Event::Waits;
                }
            }
            RecordAttempt => {
                self.attempt = None;
                self.store.event = Event::Delivered;
            }
            NotifierDies => self.attempt = None,
            _ => self.store.event = Event::Waits,
        }
    }
}
