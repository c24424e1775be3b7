//! Who is asking: accounts, their API keys, and how often they may ask.
//!
//! Keys are compared as SHA-256 hashes, in constant time and with every account's, so that neither
//! the answer nor its timing tells a wrong key from another account's. Where no account is
//! configured, everyone is the account `default`.

use std::{collections::BTreeMap, num::NonZeroU32, str::FromStr, sync::Arc, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::extract::FromRequestParts;
use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION, request::Parts};

use super::{
    AppState,
    digest::{Sha256, sha256},
    problem::Problem,
    settings::AccountSettings,
};
use crate::domain::units::Rate;

/// The account of an installation that has none configured.
pub const DEFAULT_ACCOUNT: &str = "default";

/// The account that a request comes from; extracting it is what checks the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account(pub(super) Arc<str>);

/// An account that may operate the installation: what it does concerns all accounts.
pub(super) struct Operator(pub(super) Account);

/// Knows the accounts.
pub(super) struct Gate {
    tenants: Vec<Tenant>,
}

struct Tenant {
    account: Account,
    is_operator: bool,
    hashes: Vec<KeyHash>,
    limiter: Option<DefaultDirectRateLimiter>,
}

/// The SHA-256 of an API key.
#[derive(Clone, Copy)]
pub(super) struct KeyHash(Sha256);

/// The text is not the hash of a key.
#[derive(Debug, thiserror::Error)]
#[error("not the hash of an API key: give sha256: and 64 hexadecimal digits")]
pub(super) struct InvalidHash;

// === impl Gate ===

impl Gate {
    pub(super) fn new(accounts: &BTreeMap<String, AccountSettings>) -> Self {
        Self {
            tenants: accounts.iter().map(|(name, settings)| Tenant::new(name, settings)).collect(),
        }
    }

    /// The account whose key is in `headers`, if it may ask now.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Account, Problem> {
        if self.tenants.is_empty() {
            return Ok(Account(DEFAULT_ACCOUNT.into()));
        }
        let tenant = bearer(headers).and_then(|key| self.tenant(key)).ok_or_else(|| {
            let detail = "Give an API key of this server: Authorization: Bearer <key>.";
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        })?;
        tenant.count_request()?;
        Ok(tenant.account.clone())
    }

    /// Whether an account may operate the installation. Where none is configured, everyone may.
    pub(super) fn is_operator(&self, account: &Account) -> bool {
        self.tenants.is_empty()
            || self.tenants.iter().any(|tenant| tenant.is_operator && tenant.account == *account)
    }

    fn tenant(&self, key: &[u8]) -> Option<&Tenant> {
        let hash = KeyHash::of(key);
        // No early end: every hash is compared, whichever is the right one.
        self.tenants.iter().fold(None, |found, tenant| {
            let matches = tenant.hashes.iter().filter(|known| known.equals(&hash)).count();
            if matches > 0 { Some(tenant) } else { found }
        })
    }
}

// === impl Tenant ===

impl Tenant {
    fn new(name: &str, settings: &AccountSettings) -> Self {
        // What is no hash was refused when the settings were read, and here admits nobody.
        let hashes = settings.api_key_hashes.iter().filter_map(|hash| hash.parse().ok()).collect();
        let limiter = settings.request_rate.and_then(quota).map(RateLimiter::direct);
        Self { account: Account(name.into()), is_operator: settings.admin, hashes, limiter }
    }

    fn count_request(&self) -> Result<(), Problem> {
        let Some(Err(until)) = self.limiter.as_ref().map(RateLimiter::check) else {
            return Ok(());
        };
        let wait = until.wait_time_from(DefaultClock::default().now());
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let detail = "This account asks more often than it may; wait, then try again.";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        Err(problem.retry_after(seconds.max(1)))
    }
}

/// One request per interval, and one second's worth at once.
fn quota(rate: Rate) -> Option<Quota> {
    let interval = rate.interval();
    let a_second = Duration::from_secs(1).as_nanos() / interval.as_nanos().max(1);
    let a_second = u32::try_from(a_second).unwrap_or(u32::MAX);
    let burst = NonZeroU32::new(a_second).unwrap_or(NonZeroU32::MIN);
    Some(Quota::with_period(interval)?.allow_burst(burst))
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

// === impl KeyHash ===

impl KeyHash {
    fn of(key: &[u8]) -> Self {
        Self(sha256(key))
    }

    fn equals(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl FromStr for KeyHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        let digits = text.strip_prefix("sha256:").ok_or(InvalidHash)?.as_bytes();
        let mut hash = Sha256::default();
        if digits.len() != 2 * hash.len() {
            return Err(InvalidHash);
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = 16 * nibble(pair[0])? + nibble(pair[1])?;
        }
        Ok(Self(hash))
    }
}

fn nibble(digit: u8) -> Result<u8, InvalidHash> {
    let value = char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    value.ok_or(InvalidHash)
}

// === impl Account ===

impl FromRequestParts<AppState> for Account {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        app.gate.admit(&parts.headers)
    }
}

// === impl Operator ===

impl FromRequestParts<AppState> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &AppState) -> Result<Self, Problem> {
        let account = app.gate.admit(&parts.headers)?;
        if app.gate.is_operator(&account) {
            return Ok(Self(account));
        }
        let detail = "This concerns all accounts; only one with `admin` may do it.";
        Err(Problem::new(StatusCode::FORBIDDEN, "forbidden", detail))
    }
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::api::digest::hex;

    fn hash_of(key: &str) -> String {
        format!("sha256:{}", hex(&sha256(key.as_bytes())))
    }

    fn gate(rate: Option<&str>) -> Gate {
        let account = |keys: &[&str]| AccountSettings {
            api_key_hashes: keys.iter().map(|key| hash_of(key)).collect(),
            signing_secrets: Vec::new(),
            admin: false,
            request_rate: rate.map(|rate| rate.parse().unwrap()),
            recipients_max: None,
            body_bytes_max: None,
            batches_max: None,
        };
        Gate::new(&BTreeMap::from([
            ("acme".to_owned(), account(&["one", "two"])),
            ("zeta".to_owned(), account(&["three"])),
        ]))
    }

    fn admitted(gate: &Gate, header: &str) -> Result<String, StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, header.parse().unwrap());
        let answer = gate.admit(&headers);
        answer.map(|account| account.0.to_string()).map_err(|no| no.into_response().status())
    }

    #[test]
    fn a_key_names_its_account() {
        let gate = gate(None);
        assert_eq!(admitted(&gate, "Bearer one").unwrap(), "acme");
        assert_eq!(admitted(&gate, "bearer two").unwrap(), "acme");
        assert_eq!(admitted(&gate, "Bearer  three ").unwrap(), "zeta");
    }

    #[test]
    fn anything_else_is_unauthorized() {
        let gate = gate(None);
        let one = hash_of("one");
        for header in ["Bearer", "Bearer ", "Bearer on", "Bearer onee", "Basic one", "one", &one] {
            assert_eq!(admitted(&gate, header), Err(StatusCode::UNAUTHORIZED), "{header}");
        }
        assert!(gate.admit(&HeaderMap::new()).is_err());
    }

    #[test]
    fn without_accounts_everyone_is_the_default_one() {
        let gate = Gate::new(&BTreeMap::new());
        assert_eq!(&*gate.admit(&HeaderMap::new()).unwrap().0, DEFAULT_ACCOUNT);
    }

    #[test]
    fn an_account_that_asks_too_often_is_told_when_to_ask_again() {
        let gate = gate(Some("2/h"));
        assert!(admitted(&gate, "Bearer one").is_ok());
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, "Bearer one".parse().unwrap());
        let refused = gate.admit(&headers).unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1_700..=1_800).contains(&seconds), "{seconds}");
        assert!(admitted(&gate, "Bearer three").is_ok(), "each account has its own rate");
    }
}
