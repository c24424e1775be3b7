//! A store that fails over to an older copy of itself: what was done since is gone, and whoever still
//! holds a chunk of the copy says again what it lacks.

use ringback::domain::ids::BatchId;

use super::{
    modeled::Modeled,
    world::{Held, World},
};

/// The model when the store was copied.
pub(super) struct Copy {
    batches: Vec<(BatchId, Modeled)>,
    leases: Vec<Held>,
}

// === impl World ===

impl World<'_> {
    pub(super) fn copy_store(&mut self) {
        let Some(way) = self.way else { return };
        way.command("SAVE");
        let leases = self.held.iter().chain(&self.crashed).cloned().collect();
        self.copy = Some(Copy { batches: self.batches.clone(), leases });
    }

    /// The server goes on from the copy. It knows no script, and nobody's connection.
    pub(super) fn fail_over(&mut self) {
        let Some((way, copy)) = self.way.zip(self.copy.take()) else { return };
        let Copy { batches, leases } = copy;
        way.command("DEBUG RELOAD NOSAVE");
        way.command("SCRIPT FLUSH");
        way.cut_all();
        self.batches = batches;
        self.answered.clear();
        let copied =
            |held: &Held| leases.iter().find(|lease| lease.claimed.token == held.claimed.token);
        // Whoever was held to be lost may not be, for all that the copy knows; whoever has claimed
        // since has no lease, for all that it knows.
        let known: Vec<_> = self.held.drain(..).collect();
        for mut held in known {
            match copied(&held) {
                Some(lease) => {
                    held.applied = lease.applied;
                    self.held.push(held);
                }
                None => self.dead.push(held),
            }
        }
        self.dead.append(&mut self.crashed);
        self.dead.retain(|dead| copied(dead).is_none());
        let is_held =
            |lease: &Held| self.held.iter().any(|held| held.claimed.token == lease.claimed.token);
        self.crashed = leases.iter().filter(|lease| !is_held(lease)).cloned().collect();
    }
}
