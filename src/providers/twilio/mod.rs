//! Kind `twilio`: each message is a POST to Twilio's `Messages.json`.
//!
//! Twilio knows no idempotency key, so a submission that left and got no answer can't simply be repeated.
//! It is looked up once: in the account's list of messages to the recipient. That list shows neither
//! our id nor the `StatusCallback` that carries it (`api.v2010.account.message` in Twilio's document has no
//! field for either), so a message can only be known again by what it says. One is taken for ours if it
//! has the same recipient, sender and text, was created while this exchange went on (by Twilio's clock, a
//! few seconds more or less), is the only such one in the list, and this process had no other message with
//! the same three within half a minute. Else the outcome stays unknown. What this can't see:
//!
//! - another process, program or provider that sends the same words to the same recipient from the same
//!   sender of the same account in the same seconds: its message may be taken for this one's;
//! - a message that Twilio creates after the look, or shows with another text than it was given (a
//!   service's smart encoding, the words put before a trial account's messages): it stays unknown.
//!
//! That nothing is found never proves that nothing was accepted.
//!
//! Source: Twilio's `OpenAPI` document (`twilio_api_v2010.json`) and its reference of errors.

mod answer;
mod errors;
mod form;
mod inbound;
mod lookup;
mod receipts;
mod report;
mod settings;
#[cfg(test)]
mod tests;
mod twins;

use std::time::{Duration, Instant};

use futures_util::{FutureExt, future::BoxFuture};
use secrecy::SecretString;

pub use self::settings::TwilioSettings;
use self::{
    form::Form,
    lookup::Sought,
    twins::{Twin, Twins},
};
use super::{
    Provider, ReceiptCall, ReceiptRefusal, Submission,
    exchange::{BODY_BYTES_MAX, Line},
};
use crate::domain::{inbound::Inbound, outcome::Outcome, receipt::Receipt};

/// How long after a lost answer its message is looked for: what is under way gets there meanwhile.
const LOOK_AFTER: Duration = Duration::from_millis(500);

struct Twilio {
    line: Line,
    form: Form,
    twins: Twins,
    auth_token: SecretString,
    receipts: bool,
}

// === impl Twilio ===

impl Provider for Twilio {
    fn submit<'a>(&'a self, submission: Submission<'a>) -> BoxFuture<'a, Outcome> {
        self.exchange(submission).boxed()
    }

    fn read_receipts(&self, call: &ReceiptCall<'_>) -> Result<Vec<Receipt>, ReceiptRefusal> {
        if !self.receipts {
            return Err(ReceiptRefusal::NotTaken);
        }
        receipts::read(&self.auth_token, call)
    }

    fn read_inbound(&self, call: &ReceiptCall<'_>) -> Result<Inbound, ReceiptRefusal> {
        inbound::read(&self.auth_token, call)
    }
}

impl Twilio {
    async fn exchange(&self, submission: Submission<'_>) -> Outcome {
        let sender = self.form.sender(&submission);
        let twin = self.twins.enter(submission.id, (submission.to, sender, submission.body));
        let began = Instant::now();
        let request = self.form.post(&submission, sender);
        let outcome = match self.line.exchange(request, BODY_BYTES_MAX).await {
            Ok(refusal) if !refusal.head.status.is_success() => {
                answer::refused(&refusal.head, &refusal.body.unwrap_or_default())
            }
            Ok(answer) => match answer.body {
                Ok(body) => answer::created(&body, self.receipts),
                Err(outcome) => outcome,
            },
            Err(outcome) => outcome,
        };
        match outcome {
            Outcome::Unknown { mut error } => {
                let sought =
                    Sought { to: submission.to, sender, body: submission.body, since: began };
                // Boxed, so that the rare way does not make every exchange's future larger.
                match Box::pin(self.look_up(sought, &twin)).await {
                    Ok(message) => message.outcome(self.receipts),
                    Err(why) => {
                        error.detail = format!("{}; {why}", error.detail);
                        Outcome::Unknown { error }
                    }
                }
            }
            outcome => outcome,
        }
    }

    /// Looks for the message of an exchange whose answer was lost.
    ///
    /// # Errors
    /// Why it can't be said which one it is, if there is one.
    async fn look_up(
        &self,
        sought: Sought<'_>,
        twin: &Twin<'_>,
    ) -> Result<answer::Message, &'static str> {
        tokio::time::sleep(LOOK_AFTER).await;
        let request = self.form.list(&sought);
        let answer = self.line.exchange(request, lookup::BODY_BYTES_MAX).await;
        let answer = answer.map_err(|_| lookup::NO_ANSWER)?;
        let body = answer.body.map_err(|_| lookup::NO_ANSWER)?;
        if answer.head.status != http::StatusCode::OK {
            return Err(lookup::NO_ANSWER);
        }
        let found = lookup::find(&answer.head, &body, &sought)?;
        // Asked after the list was read: one that began later is not in it.
        if twin.is_alone() { Ok(found) } else { Err(lookup::TWIN) }
    }
}
