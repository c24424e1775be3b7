//! What it costs that no message may go twice.

use serde_json::json;

use crate::{
    harness::Kind,
    steady::{Cost, Steady, compare},
};

/// A batch at a steady rate, sent at most once and at least once in turns: whether the rate is kept, and
/// what a message costs.
pub(crate) async fn guarantee(on: Kind) {
    let mut steady = Steady::start(on).await;
    compare("at most once", "at least once", async |at_most_once| {
        let guarantee = if at_most_once { "at_most_once" } else { "at_least_once" };
        let fields = json!({"provider": "carrier", "delivery_guarantee": guarantee});
        steady.run(Cost::All, fields, async |_| ()).await
    })
    .await;
}
