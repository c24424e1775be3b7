//! Those who judge callbacks as receivers do: the libraries of Standard Webhooks in three languages,
//! and for public keys the signatures that Node.js has built in.
//!
//! The ones in Python and JavaScript are installed by `scripts/oracles` and given a case a line.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::harness::{Delivery, Oracle as Program};

/// A callback, and what to check it with.
#[derive(Clone)]
pub(super) struct Case {
    /// `whsec_…` or `whpk_…`.
    pub(super) verifier: String,
    pub(super) delivery: Delivery,
}

/// Who judges.
#[derive(Clone, Copy, Debug)]
pub(super) enum Oracle {
    /// The crate `standardwebhooks`.
    Rust,
    /// The package on `PyPI`.
    Python,
    /// The package on npm; of public keys, Node.js itself.
    Node,
}

/// The libraries of Standard Webhooks, which know secrets.
pub(super) const LIBRARIES: [Oracle; 3] = [Oracle::Rust, Oracle::Python, Oracle::Node];

// === impl Oracle ===

impl Oracle {
    /// Whether each of the cases is accepted.
    pub(super) fn judge(self, cases: &[Case]) -> Vec<bool> {
        match self {
            Self::Rust => cases.iter().map(Case::is_accepted_here).collect(),
            Self::Python => judged_by(Program::python("verify.py"), cases),
            Self::Node => judged_by(Program::node("verify.mjs"), cases),
        }
    }
}

// === impl Case ===

impl Case {
    /// The same case with a bit of its body, id, timestamp or of each of its signatures flipped, and
    /// what was.
    pub(super) fn forgeries(&self) -> Vec<(&'static str, Self)> {
        let mut body = self.delivery.body.to_vec();
        let middle = body.len() / 2;
        body[middle] ^= 1;
        let mut forged = self.clone();
        forged.delivery.body = body.into();
        let mut forgeries = vec![("body", forged)];
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            let mut forged = self.clone();
            let value = forged.delivery.header(name).to_owned();
            let value = if name == "webhook-signature" {
                value.split(' ').map(flipped_signature).collect::<Vec<_>>().join(" ")
            } else {
                flipped_at_the_end(&value)
            };
            forged.delivery.headers.insert(name, value.parse().unwrap());
            forgeries.push((name, forged));
        }
        forgeries
    }

    fn is_accepted_here(&self) -> bool {
        let webhook = Webhook::new(&self.verifier).unwrap();
        webhook.verify(&self.delivery.body, &self.delivery.headers).is_ok()
    }

    fn json(&self) -> Value {
        let headers = self.delivery.headers.iter();
        let headers: serde_json::Map<_, _> = headers
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()))
            .collect();
        let body = STANDARD.encode(&self.delivery.body);
        json!({"verifier": self.verifier, "headers": headers, "body": body})
    }
}

/// The lowest bit of a digit or letter: what comes out is another one.
fn flipped_at_the_end(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    String::from_utf8(bytes).unwrap()
}

/// Of the signature's bytes, not of its letters, the last of which holds bits of no meaning.
fn flipped_signature(signature: &str) -> String {
    let (version, base64) = signature.split_once(',').unwrap();
    let mut bytes = STANDARD.decode(base64).unwrap();
    bytes[7] ^= 0x10;
    format!("{version},{}", STANDARD.encode(bytes))
}

fn judged_by(program: Program, cases: &[Case]) -> Vec<bool> {
    let verdicts = program.answers(cases.iter().map(Case::json));
    verdicts.iter().map(|line| line == "accepted").collect()
}
