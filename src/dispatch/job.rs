//! A batch as a worker needs it: what makes its texts is built once, whatever the number of its chunks.

use std::collections::HashMap;

use crate::{
    domain::{batch::BatchSpec, chunk::Entry, composer::Composer, ids::BatchId},
    store::{Dispatch, StoreError},
};
use std::sync::Arc;

/// How many jobs are kept beyond those in use.
const SPARE_MAX: usize = 64;

pub(super) struct Job {
    pub(super) id: BatchId,
    pub(super) spec: BatchSpec,
    pub(super) composer: Composer,
}

/// The jobs a claimer has met.
#[derive(Default)]
pub(super) struct Jobs {
    known: HashMap<BatchId, Arc<Job>>,
}

// === impl Job ===

impl Job {
    fn new(id: BatchId, spec: BatchSpec) -> Self {
        let composer = Composer::new(&spec);
        Self { id, spec, composer }
    }

    /// How many segments a recipient's message has; none if it can't be sent. `scratch` is for its text.
    pub(super) fn segments(&self, entry: &Entry<'_>, scratch: &mut String) -> u32 {
        let size = self.composer.size(entry, scratch);
        size.map_or(0, |size| u32::try_from(size.segments).unwrap_or(u32::MAX))
    }
}

// === impl Jobs ===

impl Jobs {
    /// The job of a batch; `None` if the batch is gone.
    pub(super) async fn get(
        &mut self,
        store: &dyn Dispatch,
        id: BatchId,
    ) -> Result<Option<Arc<Job>>, StoreError> {
        if let Some(job) = self.known.get(&id) {
            return Ok(Some(Arc::clone(job)));
        }
        let Some(spec) = store.spec(id).await? else { return Ok(None) };
        if self.known.len() >= SPARE_MAX {
            self.known.retain(|_, job| Arc::strong_count(job) > 1);
        }
        let job = Arc::new(Job::new(id, spec));
        self.known.insert(id, Arc::clone(&job));
        Ok(Some(job))
    }
}
