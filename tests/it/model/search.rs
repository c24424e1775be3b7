//! A breadth-first search over all states of a model.
//!
//! Each state is looked at once; what tells it from others is a hash of 64 bits. A state that breaks a
//! property is reported with the shortest way to it. When all are known, it is checked that an end can
//! be reached from each of them by steps that happen by themselves.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher},
};

/// What is searched.
pub(super) trait Model {
    type State: Clone + Hash;
    type Action: Copy + fmt::Debug;

    fn initial(&self) -> Self::State;

    /// What can happen next.
    fn actions(&self, state: &Self::State) -> Vec<Self::Action>;

    fn step(&self, state: &Self::State, action: Self::Action) -> Self::State;

    /// Which property a step breaks, if it does.
    fn broken(
        &self,
        before: &Self::State,
        action: Self::Action,
        after: &Self::State,
    ) -> Option<&'static str>;

    /// Whether all is over.
    fn is_end(&self, state: &Self::State) -> bool;

    /// Whether this happens by itself: an end must be reachable without any of the rest.
    fn happens_by_itself(&self, action: Self::Action) -> bool;
}

/// The property that a state breaks from which no end can be reached.
const NO_END: &str = "I1: an end can be reached";

/// How much was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Explored {
    pub(super) states: usize,
    pub(super) ends: usize,
    /// The most steps that it takes to come to a state.
    pub(super) depth: usize,
}

/// A property that does not hold, and the shortest way there.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) property: &'static str,
    pub(super) trace: Vec<String>,
}

/// A model is too large for this.
const STATES_MAX: usize = 20_000_000;

struct Search<'a, M: Model> {
    model: &'a M,
    known: HashMap<u64, u32, BuildHasherDefault<Verbatim>>,
    /// How each state was first come to: from which, and by what.
    first: Vec<Option<(u32, M::Action)>>,
    /// Steps that happen by themselves: to, from.
    back: Vec<(u32, u32)>,
    ends: Vec<u32>,
    next: Vec<(u32, M::State)>,
}

/// The key is a hash already.
#[derive(Default)]
struct Verbatim(u64);

/// Looks at all states of a model.
pub(super) fn explore<M: Model>(model: &M) -> Result<Explored, Violation> {
    let mut search = Search {
        model,
        known: HashMap::default(),
        first: vec![],
        back: vec![],
        ends: vec![],
        next: vec![],
    };
    search.reach(&model.initial(), None);
    let mut depth = 0;
    while !search.next.is_empty() {
        for (number, state) in std::mem::take(&mut search.next) {
            search.leave(number, &state)?;
        }
        depth += usize::from(!search.next.is_empty());
    }
    match search.stuck() {
        Some(number) => Err(search.violation(NO_END, number, None)),
        None => Ok(Explored { states: search.first.len(), ends: search.ends.len(), depth }),
    }
}

// === impl Search ===

impl<M: Model> Search<'_, M> {
    /// Takes every step from a state.
    fn leave(&mut self, number: u32, state: &M::State) -> Result<(), Violation> {
        for action in self.model.actions(state) {
            let after = self.model.step(state, action);
            if let Some(property) = self.model.broken(state, action, &after) {
                return Err(self.violation(property, number, Some(action)));
            }
            let to = self.reach(&after, Some((number, action)));
            if self.model.happens_by_itself(action) && to != number {
                self.back.push((to, number));
            }
        }
        Ok(())
    }

    /// The number of a state; one that is new is looked at next.
    fn reach(&mut self, state: &M::State, from: Option<(u32, M::Action)>) -> u32 {
        let key = BuildHasherDefault::<DefaultHasher>::default().hash_one(state);
        let number = u32::try_from(self.first.len()).unwrap();
        match self.known.entry(key) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(vacant) => {
                assert!(self.first.len() < STATES_MAX, "more than {STATES_MAX} states");
                vacant.insert(number);
                self.first.push(from);
                if self.model.is_end(state) {
                    self.ends.push(number);
                }
                self.next.push((number, state.clone()));
                number
            }
        }
    }

    /// The first state from which no end can be reached.
    fn stuck(&mut self) -> Option<u32> {
        self.back.sort_unstable();
        let mut ends = vec![false; self.first.len()];
        let mut open = self.ends.clone();
        while let Some(number) = open.pop() {
            if std::mem::replace(&mut ends[number as usize], true) {
                continue;
            }
            let from = self.back.partition_point(|(to, _)| *to < number);
            let before = self.back[from..].iter().take_while(|(to, _)| *to == number);
            open.extend(before.map(|(_, before)| *before));
        }
        ends.iter().position(|ends| !ends).map(|number| u32::try_from(number).unwrap())
    }

    fn violation(
        &self,
        property: &'static str,
        mut number: u32,
        last: Option<M::Action>,
    ) -> Violation {
        let mut trace: Vec<_> = last.into_iter().map(|action| format!("{action:?}")).collect();
        while let Some((before, action)) = self.first[number as usize] {
            trace.push(format!("{action:?}"));
            number = before;
        }
        trace.reverse();
        Violation { property, trace }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken: {}", self.property)?;
        self.trace.iter().enumerate().try_for_each(|(nth, step)| writeln!(f, "{nth:4}. {step}"))
    }
}

impl Hasher for Verbatim {
    fn write(&mut self, _: &[u8]) {
        unreachable!("the key is a number");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that is raised by two or by three up to 10, and by itself only by two.
    struct Numbers {
        forbidden: u8,
    }

    impl Model for Numbers {
        type State = u8;
        type Action = u8;

        fn initial(&self) -> u8 {
            0
        }

        fn actions(&self, state: &u8) -> Vec<u8> {
            [2, 3].into_iter().filter(|by| state + by <= 10).collect()
        }

        fn step(&self, state: &u8, action: u8) -> u8 {
            state + action
        }

        fn broken(&self, _: &u8, _: u8, after: &u8) -> Option<&'static str> {
            (*after == self.forbidden).then_some("forbidden")
        }

        fn is_end(&self, state: &u8) -> bool {
            *state >= 9
        }

        fn happens_by_itself(&self, action: u8) -> bool {
            action == 2
        }
    }

    #[test]
    fn all_states_are_found_and_each_has_an_end() {
        let explored = explore(&Numbers { forbidden: 11 }).unwrap();
        assert_eq!((explored.states, explored.ends, explored.depth), (10, 2, 4));
    }

    #[test]
    fn the_shortest_way_to_a_broken_property_is_told() {
        let violation = explore(&Numbers { forbidden: 8 }).unwrap_err();
        assert_eq!((violation.property, violation.trace.len()), ("forbidden", 3));
    }
}
