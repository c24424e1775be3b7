//! A batch as a worker needs it: its template compiled once, whatever the number of its chunks.

use std::collections::HashMap;

use crate::{
    domain::{
        batch::BatchSpec,
        chunk::Entry,
        ids::BatchId,
        outcome::SendError,
        template::{RenderError, Template},
    },
    store::{Dispatch, StoreError},
};
use std::sync::Arc;

/// How many jobs are kept beyond those in use.
const SPARE_MAX: usize = 64;

pub(super) struct Job {
    pub(super) id: BatchId,
    pub(super) spec: BatchSpec,
    /// `None` if the body can't be compiled; intake refuses such bodies.
    template: Option<Template>,
}

/// The jobs a claimer has met.
#[derive(Default)]
pub(super) struct Jobs {
    known: HashMap<BatchId, Arc<Job>>,
}

// === impl Job ===

impl Job {
    fn new(id: BatchId, spec: BatchSpec) -> Self {
        let template = Template::compile(spec.body.as_str()).ok();
        Self { id, spec, template }
    }

    /// Writes the body for one recipient into `out`.
    ///
    /// # Errors
    /// Why this message can't be sent: it fails with that.
    pub(super) fn render(&self, entry: &Entry<'_>, out: &mut String) -> Result<(), SendError> {
        let Some(template) = &self.template else {
            return Err(SendError::permanent("template_invalid", "the body can't be compiled"));
        };
        let default = |name: &str| self.spec.variables.get(name).map(String::as_str);
        let value = |name: &str| entry.variable(name).or_else(|| default(name));
        template.render(out, value).map_err(|error| match error {
            RenderError::Missing(_) => {
                SendError::permanent("template_variable_missing", error.to_string())
            }
            RenderError::TooLong => SendError::permanent("body_too_long", error.to_string()),
        })
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
