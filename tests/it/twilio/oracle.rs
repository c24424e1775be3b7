//! Whether signatures are what Twilio's customers take them for: by the validator in Twilio's own library
//! for Python, which `scripts/oracles` installs.

use std::iter;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use ringback::domain::twilio_signature::{Content, body_hash, sign, verify};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::harness::Oracle;

const LETTERS: &str = "abcXYZ019 +&=%?/:-_.~\"\\{}äßЯ字😀\n";

/// A request of Twilio's.
#[derive(Clone)]
struct Case {
    token: String,
    url: String,
    params: Vec<(String, String)>,
    /// A body that is no form.
    body: Option<String>,
}

// === impl Case ===

impl Case {
    /// The nth of the cases: forms and JSON in turn, with ports or without.
    fn random(rng: &mut StdRng, nth: usize) -> Self {
        let text = |rng: &mut StdRng, longest| text(rng, longest);
        let port = ["", ":443", ":8443"][nth / 2 % 3];
        let query = form_urlencoded::byte_serialize(text(rng, 20).as_bytes()).collect::<String>();
        let mut url = format!("https://sms.example.com{port}/v1/receipts/main?message={query}");
        let names = ["MessageSid", "MessageStatus", "To", "From", "ErrorCode", "Ä", "a", "b"];
        let mut params: Vec<_> = names.map(|name| (name.to_owned(), text(rng, 30))).into();
        params.truncate(rng.random_range(0..=names.len()));
        let body = (nth % 2 == 1).then(|| {
            let body = json!({"text": text(rng, 60), "params": params}).to_string();
            url = format!("{url}&bodySHA256={}", body_hash(body.as_bytes()));
            body
        });
        if let Some(repeated) = params.first().cloned()
            && rng.random_bool(0.5)
        {
            params.push((repeated.0.clone(), text(rng, 5)));
            params.push(repeated);
        }
        Self { token: format!("{:032x}", rng.random::<u128>()), url, params, body }
    }

    fn with_content<T>(&self, ask: impl FnOnce(Content<'_>) -> T) -> T {
        let pairs = self.params.iter();
        let params: Vec<_> =
            pairs.map(|(name, value)| (name.as_str().into(), value.as_str().into())).collect();
        match &self.body {
            Some(body) => ask(Content::Body(body.as_bytes())),
            None => ask(Content::Form(&params)),
        }
    }

    fn sign(&self, url: &str) -> String {
        self.with_content(|content| sign(&self.token, url, content))
    }

    fn holds(&self, signature: &str) -> bool {
        self.with_content(|content| verify(&self.token, &self.url, content, signature))
    }

    /// The same request with something changed; the signature is no longer its own.
    fn forgeries(&self) -> Vec<Self> {
        let mut forgeries = vec![
            Self { token: self.token.replace(&self.token[..1], "x"), ..self.clone() },
            Self { url: self.url.replace("/main?", "/mean?"), ..self.clone() },
        ];
        if let Some(body) = &self.body {
            forgeries.push(Self { body: Some(format!("{body} ")), ..self.clone() });
        } else {
            let more = iter::once(("Body".to_owned(), "x".to_owned()));
            let params = self.params.iter().cloned().chain(more).collect();
            forgeries.push(Self { params, ..self.clone() });
        }
        forgeries
    }

    fn json(&self, signature: &str) -> Value {
        json!({
            "token": self.token, "url": self.url, "params": self.params, "body": self.body,
            "signature": signature,
        })
    }
}

fn text(rng: &mut StdRng, longest: usize) -> String {
    let letters: Vec<_> = LETTERS.chars().collect();
    let length = rng.random_range(0..=longest);
    (0..length).map(|_| letters[rng.random_range(0..letters.len())]).collect()
}

/// Asks Twilio's library of each case whether the signature holds, and what it would be.
fn judged(cases: &[(Case, String)]) -> Vec<(bool, String)> {
    let asked = cases.iter().map(|(case, signature)| case.json(signature));
    let answers = Oracle::python("twilio_signature.py").answers(asked);
    let split = |answer: &String| {
        let (verdict, signature) = answer.split_once(' ').unwrap();
        (verdict == "accepted", signature.to_owned())
    };
    answers.iter().map(split).collect()
}

#[test]
fn fifty_signatures_are_what_twilios_library_says() {
    let mut rng = StdRng::seed_from_u64(50);
    let cases: Vec<_> = (0..50).map(|nth| Case::random(&mut rng, nth)).collect();
    let signed: Vec<_> = cases.iter().map(|case| (case.clone(), case.sign(&case.url))).collect();
    for ((case, ours), (accepted, theirs)) in iter::zip(&signed, judged(&signed)) {
        assert!(accepted && case.holds(&theirs), "{}", case.url);
        assert_eq!(*ours, theirs, "{}", case.url);
    }
    // Signed with the port that the URL lacks, or without the one it has.
    let other_port = |case: &Case| {
        let with = case.url.replace("example.com/", "example.com:443/");
        let without = case.url.replace("com:443/", "com/").replace("com:8443/", "com/");
        let url = if case.url == without { with } else { without };
        (case.clone(), case.sign(&url))
    };
    let ported: Vec<_> = cases.iter().map(other_port).collect();
    for ((case, ours), (accepted, _)) in iter::zip(&ported, judged(&ported)) {
        assert!(accepted && case.holds(ours), "{}", case.url);
    }
    let forged = signed.iter().flat_map(|(case, signature)| {
        case.forgeries().into_iter().map(|forgery| (forgery, signature.clone()))
    });
    let forged: Vec<_> = forged.collect();
    assert!(forged.len() >= 150);
    for ((case, signature), (accepted, _)) in iter::zip(&forged, judged(&forged)) {
        assert!(!accepted && !case.holds(signature), "{} {:?}", case.url, case.body);
    }
}
