//! What receipts say of recipients who have opted out with the carrier: the batch's account learns it.

use crate::{
    domain::{ids::BatchId, number::Number, outcome::OPTED_OUT, receipt::Receipt},
    store::{Heard, Store, StoreError},
};

/// Puts the recipients of messages that were not delivered because they have opted out on the list of the
/// batch's account. A repeated receipt does it again: perhaps it failed before.
pub(super) async fn learn<'a>(
    store: &Store,
    batch: BatchId,
    receipts: impl Iterator<Item = (&'a Receipt, &'a Heard)>,
) -> Result<(), StoreError> {
    let ours = receipts.filter(|(_, heard)| !matches!(heard, Heard::Unknown | Heard::Contrary));
    let opted_out: Vec<_> = ours
        .filter(|(receipt, _)| receipt.error.as_ref().is_some_and(|error| error.code == OPTED_OUT))
        .map(|(receipt, _)| receipt.message.index)
        .collect();
    if opted_out.is_empty() {
        return Ok(());
    }
    // If it was erased meanwhile, nobody knows any more whose it was.
    let Some(spec) = store.dispatch.spec(batch).await? else { return Ok(()) };
    let mut numbers = Vec::with_capacity(opted_out.len());
    for index in opted_out {
        let (found, _) = store.reading.messages(batch, None, index, 1).await?;
        numbers.extend(found.first().and_then(|message| message.to.parse::<Number>().ok()));
    }
    store.optouts.add(&spec.account, &numbers).await?;
    Ok(())
}
