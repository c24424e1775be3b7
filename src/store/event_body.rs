//! An event's body: rendered once, and kept.

use super::{Callbacks, Reading, StoreError};
use crate::domain::{
    batch::Batch,
    event::{self, Event, FailedMessage, Occurrence},
};

/// The body of `event`, which belongs to `batch`: the stored one, which is this very one unless
/// another process was first; `None` if the event was erased meanwhile, or is to be read again. Whoever delivers or shows an
/// event asks for its body here. `public_url` is where clients reach the API.
///
/// # Errors
/// [`StoreError`]. Repeating it gives the same body.
pub async fn event_body(
    callbacks: &dyn Callbacks,
    reading: &dyn Reading,
    event: &Event,
    batch: &Batch,
    public_url: &str,
) -> Result<Option<String>, StoreError> {
    let failed = match event.what {
        Occurrence::MessageFailed(index) => failed_message(reading, batch, index).await?,
        _ => None,
    };
    let body = event::render(event, batch, failed.as_ref(), public_url);
    callbacks.body(event.id, body).await
}

async fn failed_message(
    reading: &dyn Reading,
    batch: &Batch,
    index: u32,
) -> Result<Option<FailedMessage>, StoreError> {
    let (messages, _) = reading.messages(batch.id, None, index, 1).await?;
    let found = messages.into_iter().find(|message| message.index == index);
    Ok(found.map(|message| FailedMessage {
        state: message.state,
        to: message.to,
        reference: message.reference,
        attempts: message.attempts,
        error: message.error,
    }))
}
