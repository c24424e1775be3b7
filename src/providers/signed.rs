//! Requests of providers that sign as we sign callbacks: Standard Webhooks.

use std::time::Duration;

use super::{ReceiptCall, ReceiptRefusal};
use crate::domain::{signature::SigningSecret, time::UnixMs};

/// How far a request's timestamp may lie from now, as Standard Webhooks advise.
const TOLERANCE: Duration = Duration::from_mins(5);

/// Whether this secret's owner made the request, and lately.
///
/// # Errors
/// [`ReceiptRefusal::Forged`] if not.
pub(super) fn verify(secret: &SigningSecret, call: &ReceiptCall<'_>) -> Result<(), ReceiptRefusal> {
    let header = |name| call.headers.get(name).and_then(|value| value.to_str().ok());
    let known = (|| {
        let (id, signatures) = (header("webhook-id")?, header("webhook-signature")?);
        let timestamp_s: u64 = header("webhook-timestamp")?.parse().ok()?;
        let made = UnixMs(timestamp_s.checked_mul(1_000)?);
        let distance = made.since(call.now).max(call.now.since(made));
        // A timestamp has whole seconds.
        let is_fresh = distance <= TOLERANCE + Duration::from_secs(1);
        Some(is_fresh && secret.verify(id, timestamp_s, call.body, signatures))
    })();
    if known == Some(true) { Ok(()) } else { Err(ReceiptRefusal::Forged) }
}
