//! What a provider says of recipients who have opted out with the carrier: the account learns it.

use std::sync::Arc;

use super::lane::Shared;
use crate::domain::outcome::{OPTED_OUT, Outcome};

/// Puts a recipient on the account's list if that is why the provider refused a message to them.
pub(super) fn learn(lane: &Arc<Shared>, outcome: &Outcome, account: &str, to: &str) {
    let Outcome::Rejected { error } = outcome else { return };
    if error.code != OPTED_OUT {
        return;
    }
    // A worker is given numbers only.
    let Ok(number) = to.parse() else { return };
    let (lane, account) = (Arc::clone(lane), account.to_owned());
    tokio::spawn(async move {
        if let Err(error) = lane.store.optouts.add(&account, &[number]).await {
            // The carrier refuses the next message to them too, and then it is learnt.
            tracing::warn!(provider.name = lane.name, %error, "an opt-out was not kept");
        }
    });
}
