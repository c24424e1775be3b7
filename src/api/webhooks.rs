//! The callbacks in the published document: what the server posts to a `callback_url`.
//!
//! Nothing here is called. Each function stands for a callback, and its attribute describes it.

use utoipa::openapi::{Components, OpenApi};

use super::model::{BatchEvent, MessageEvent, Ping};

/// Describes a callback: its name, its body, and what its receivers should know.
macro_rules! webhook {
    ($function:ident, $name:literal, $body:ty, $(#[$doc:meta])+) => {
        $(#[$doc])+
        #[utoipa::path(
            post, path = $name, tag = "Webhooks", request_body = $body,
            params(
                ("webhook-id" = String, Header, description = "The event's id, the same at every attempt."),
                ("webhook-timestamp" = i64, Header, description = "When this attempt was signed, in seconds since the Unix epoch."),
                ("webhook-signature" = String, Header, description = "One or more signatures as Standard Webhooks say, `v1,` or `v1a,` and base64, separated by blanks."),
            ),
            responses(
                (status = "2XX", description = "It is delivered."),
                (status = 410, description = "It is not wanted, and not tried again."),
                (status = "default", description = "It is tried again, by the schedule."),
            )
        )]
        #[expect(dead_code, reason = "only its description is used")]
        fn $function() {}
    };
}

webhook! { batch_completed, "batch.completed", BatchEvent,
    /// Every message of a batch is final
    ///
    /// Once for each batch; nothing follows but `batch.amended`.
}

webhook! { batch_dispatched, "batch.dispatched", BatchEvent,
    /// Nothing of a batch is left to be submitted
    ///
    /// On request. Receipts may be open.
}

webhook! { batch_progress, "batch.progress", BatchEvent,
    /// More messages of a batch are final
    ///
    /// On request. One at a time: while one is being delivered, further ones are skipped.
}

webhook! { message_failed, "message.failed", MessageEvent,
    /// A message failed, or was not delivered
    ///
    /// On request. Numbers that were invalid when the batch was accepted are not told this way.
}

webhook! { batch_amended, "batch.amended", BatchEvent,
    /// Receipts came after a batch was over
    ///
    /// On request. Its counts stay as they were; `late_receipts` has what came beside them, all of it so far.
}

webhook! { webhook_ping, "webhook.ping", Ping,
    /// Somebody tries this receiver out
    ///
    /// Sent by `POST /v1/callbacks/test`, and before the first callback to a host where the server
    /// asks first.
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(
    batch_completed,
    batch_dispatched,
    batch_progress,
    message_failed,
    batch_amended,
    webhook_ping
))]
struct Webhooks;

/// Adds the callbacks to `document`.
pub(super) fn describe(document: &mut OpenApi) {
    let described = <Webhooks as utoipa::OpenApi>::openapi();
    document.webhooks = Some(described.paths);
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.extend(described.components.unwrap_or_default().schemas);
}
