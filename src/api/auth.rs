//! Who is asking: accounts, their API keys and what those may be used for, and how often an account
//! may ask.
//!
//! Keys are compared as SHA-256 hashes, in constant time and with every account's, so that neither
//! the answer nor its timing tells a wrong key from another account's. Where no account is
//! configured, everyone is the account `default`.

use std::{collections::BTreeMap, num::NonZeroU32, str::FromStr, sync::Arc, time::Duration};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
};
use http::{HeaderMap, StatusCode, header::AUTHORIZATION};
use parking_lot::RwLock;

use super::{
    digest::{Sha256, hex, sha256},
    problem::Problem,
    settings::AccountSettings,
};
use crate::domain::{scope::Scope, units::Rate};

/// The account of an installation that has none configured.
pub const DEFAULT_ACCOUNT: &str = "default";

/// What the keys in `api_key_hashes`, which have no names, are called.
const UNNAMED: &str = "unnamed";

/// How much of its hash stands for a key in the log, in hexadecimal digits.
const FINGERPRINT_DIGITS: usize = 8;

/// The account that a request comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Account(pub(super) Arc<str>);

/// Whoever makes a request.
#[derive(Debug)]
pub(super) struct Caller {
    account: Account,
    /// None where no account is configured.
    key: Option<Arc<Key>>,
    is_operator: bool,
}

/// The accounts as they are now. All who hold them see at once when they are replaced.
pub struct Accounts(RwLock<Arc<Tenants>>);

/// The accounts by name.
type Tenants = BTreeMap<Arc<str>, Tenant>;

struct Tenant {
    settings: Arc<AccountSettings>,
    keys: Vec<Arc<Key>>,
    limiter: Option<Arc<DefaultDirectRateLimiter>>,
}

/// An API key.
#[derive(Debug)]
pub(super) struct Key {
    /// What the configuration calls it.
    pub(super) name: String,
    hash: KeyHash,
    scopes: Vec<Scope>,
}

/// The SHA-256 of an API key.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyHash(Sha256);

/// The text is not the hash of a key.
#[derive(Debug, thiserror::Error)]
#[error("not the hash of an API key: give sha256: and 64 hexadecimal digits")]
pub(super) struct InvalidHash;

// === impl Accounts ===

impl Accounts {
    /// The accounts that are configured.
    #[must_use]
    pub fn new(settings: &BTreeMap<String, AccountSettings>) -> Self {
        Self(RwLock::new(Arc::new(tenants(settings, &Tenants::new()))))
    }

    /// From now on these are the accounts. What is under way goes on, and an account whose
    /// `request_rate` is as it was has no more requests left than before.
    pub fn replace(&self, settings: &BTreeMap<String, AccountSettings>) {
        let becomes = Arc::new(tenants(settings, &self.now()));
        *self.0.write() = becomes;
    }

    /// Who it is whose key is in `headers`, if they may ask now.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let tenants = self.now();
        if tenants.is_empty() {
            let account = Account(DEFAULT_ACCOUNT.into());
            return Ok(Caller { account, key: None, is_operator: true });
        }
        let found = bearer(headers).and_then(|key| holder(&tenants, key));
        let (name, tenant, key) = found.ok_or_else(|| {
            let detail = "Give an API key of this server: Authorization: Bearer <key>.";
            Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        })?;
        tenant.count_request()?;
        let (account, key) = (Account(Arc::clone(name)), Some(Arc::clone(key)));
        Ok(Caller { account, key, is_operator: tenant.settings.admin })
    }

    /// The names of all accounts; [`DEFAULT_ACCOUNT`] where none is configured.
    pub(super) fn names(&self) -> Vec<Arc<str>> {
        let tenants = self.now();
        if tenants.is_empty() {
            return vec![DEFAULT_ACCOUNT.into()];
        }
        tenants.keys().cloned().collect()
    }

    /// Whether an account may operate the installation. Where none is configured, everyone may.
    pub(super) fn is_operator(&self, account: &Account) -> bool {
        let tenants = self.now();
        tenants.is_empty() || tenants.get(&account.0).is_some_and(|tenant| tenant.settings.admin)
    }

    /// What is configured for an account.
    pub(super) fn settings_of(&self, account: &Account) -> Option<Arc<AccountSettings>> {
        self.now().get(&account.0).map(|tenant| Arc::clone(&tenant.settings))
    }

    fn now(&self) -> Arc<Tenants> {
        Arc::clone(&self.0.read())
    }
}

fn tenants(settings: &BTreeMap<String, AccountSettings>, before: &Tenants) -> Tenants {
    let tenant = |(name, settings): (&String, &AccountSettings)| {
        let name: Arc<str> = name.as_str().into();
        let tenant = Tenant::new(settings, before.get(&name));
        (name, tenant)
    };
    settings.iter().map(tenant).collect()
}

/// Whose key this is.
fn holder<'t>(
    tenants: &'t Tenants,
    key: &[u8],
) -> Option<(&'t Arc<str>, &'t Tenant, &'t Arc<Key>)> {
    let hash = KeyHash::of(key);
    let all = tenants
        .iter()
        .flat_map(|(name, tenant)| tenant.keys.iter().map(move |key| (name, tenant, key)));
    // No early end: every hash is compared, whichever is the right one.
    all.fold(None, |found, one| if one.2.hash.equals(&hash) { Some(one) } else { found })
}

// === impl Tenant ===

impl Tenant {
    fn new(settings: &AccountSettings, before: Option<&Self>) -> Self {
        let unnamed = settings.api_key_hashes.iter().map(|hash| (UNNAMED, hash, &Scope::ALL[..]));
        let named = settings.keys.iter().map(|key| (&*key.name, &key.hash, &*key.scopes));
        // What is no hash was refused when the settings were read, and here admits nobody.
        let keys = unnamed.chain(named).filter_map(|(name, hash, scopes)| {
            let (name, hash) = (name.to_owned(), hash.parse().ok()?);
            Some(Arc::new(Key { name, hash, scopes: scopes.to_vec() }))
        });
        let same = before.filter(|tenant| tenant.settings.request_rate == settings.request_rate);
        let limiter = match same {
            Some(tenant) => tenant.limiter.clone(),
            None => settings.request_rate.and_then(quota).map(RateLimiter::direct).map(Arc::new),
        };
        Self { settings: Arc::new(settings.clone()), keys: keys.collect(), limiter }
    }

    fn count_request(&self) -> Result<(), Problem> {
        let Some(Err(until)) = self.limiter.as_ref().map(|limiter| limiter.check()) else {
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

/// The key of a request that gives one: where there are two, it is not clear which counts.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut given = headers.get_all(AUTHORIZATION).iter();
    let (only, None) = (given.next()?, given.next()) else { return None };
    let (scheme, key) = only.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| key.trim_ascii())
}

// === impl Caller ===

impl Caller {
    /// The account.
    pub(super) fn account(&self) -> &Account {
        &self.account
    }

    /// The key, unless none is needed.
    pub(super) fn key(&self) -> Option<&Key> {
        self.key.as_deref()
    }

    /// Refuses what the key, or its account, may not do.
    pub(super) fn may(&self, scope: Scope) -> Result<(), Problem> {
        let forbidden = |detail| Problem::new(StatusCode::FORBIDDEN, "forbidden", detail);
        if self.key.as_ref().is_some_and(|key| !key.scopes.contains(&scope)) {
            return Err(forbidden(format!("This API key lacks the scope `{scope}`.")));
        }
        if scope == Scope::Admin && !self.is_operator {
            let detail = "This concerns all accounts; only one with `admin` may do it.";
            return Err(forbidden(detail.to_owned()));
        }
        Ok(())
    }
}

// === impl Key ===

impl Key {
    /// What stands for the key in the log: the beginning of its hash.
    pub(super) fn fingerprint(&self) -> String {
        let mut digits = hex(&self.hash.0);
        digits.truncate(FINGERPRINT_DIGITS);
        digits
    }
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

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;

    use super::*;
    use crate::api::settings::KeySettings;

    fn hash_of(key: &str) -> String {
        format!("sha256:{}", hex(&sha256(key.as_bytes())))
    }

    fn account(keys: &[&str], rate: Option<&str>) -> AccountSettings {
        AccountSettings {
            api_key_hashes: keys.iter().map(|key| hash_of(key)).collect(),
            request_rate: rate.map(|rate| rate.parse().unwrap()),
            ..toml::from_str("").unwrap()
        }
    }

    fn configured(rate: Option<&str>) -> BTreeMap<String, AccountSettings> {
        BTreeMap::from([
            ("acme".to_owned(), account(&["one", "two"], rate)),
            ("zeta".to_owned(), account(&["three"], rate)),
        ])
    }

    fn accounts(rate: Option<&str>) -> Accounts {
        Accounts::new(&configured(rate))
    }

    fn headers(header: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, header.parse().unwrap())])
    }

    fn admitted(accounts: &Accounts, header: &str) -> Result<String, StatusCode> {
        let answer = accounts.admit(&headers(header));
        let name = |caller: Caller| caller.account().0.to_string();
        answer.map(name).map_err(|no| no.into_response().status())
    }

    #[test]
    fn a_key_names_its_account() {
        let accounts = accounts(None);
        assert_eq!(admitted(&accounts, "Bearer one").unwrap(), "acme");
        assert_eq!(admitted(&accounts, "bearer two").unwrap(), "acme");
        assert_eq!(admitted(&accounts, "Bearer  three ").unwrap(), "zeta");
    }

    #[test]
    fn anything_else_is_unauthorized() {
        let accounts = accounts(None);
        let one = hash_of("one");
        for header in ["Bearer", "Bearer ", "Bearer on", "Bearer onee", "Basic one", "one", &one] {
            assert_eq!(admitted(&accounts, header), Err(StatusCode::UNAUTHORIZED), "{header}");
        }
        assert!(accounts.admit(&HeaderMap::new()).is_err());
    }

    #[test]
    fn without_accounts_everyone_is_the_default_one() {
        let caller = Accounts::new(&BTreeMap::new()).admit(&HeaderMap::new()).unwrap();
        assert_eq!(&*caller.account().0, DEFAULT_ACCOUNT);
        assert!(
            caller.key().is_none() && Scope::ALL.into_iter().all(|scope| caller.may(scope).is_ok())
        );
    }

    #[test]
    fn a_key_may_be_used_for_its_scopes_and_an_admins_only_for_its_own() {
        let mut configured = configured(None);
        let key = |name: &str, scopes: &[Scope]| {
            let (hash, scopes) = (hash_of(name), scopes.to_vec());
            KeySettings { name: name.to_owned(), hash, scopes }
        };
        let acme = configured.get_mut("acme").unwrap();
        acme.keys = vec![key("reader", &[Scope::Read]), key("boss", &[Scope::Admin])];
        let accounts = Accounts::new(&configured);
        let may = |key: &str| {
            let caller = accounts.admit(&headers(&format!("Bearer {key}"))).unwrap();
            Scope::ALL.map(|scope| caller.may(scope).is_ok())
        };
        assert_eq!(may("one"), [true, true, false], "the account has no `admin`");
        assert_eq!(may("reader"), [false, true, false]);
        assert_eq!(may("boss"), [false, false, false]);
        configured.get_mut("acme").unwrap().admin = true;
        accounts.replace(&configured);
        let caller = accounts.admit(&headers("Bearer boss")).unwrap();
        assert!(caller.may(Scope::Admin).is_ok() && caller.may(Scope::Read).is_err());
        let key = caller.key().unwrap();
        let hash = hash_of("boss");
        assert_eq!((&*key.name, &*key.fingerprint()), ("boss", &hash["sha256:".len()..][..8]));
    }

    #[test]
    fn accounts_that_are_replaced_have_no_more_requests_left_than_before() {
        let accounts = accounts(Some("2/h"));
        assert!(admitted(&accounts, "Bearer one").is_ok());
        let mut configured = configured(Some("2/h"));
        configured.insert("acme".to_owned(), account(&["two", "four"], Some("2/h")));
        accounts.replace(&configured);
        assert_eq!(admitted(&accounts, "Bearer one"), Err(StatusCode::UNAUTHORIZED));
        assert_eq!(admitted(&accounts, "Bearer four"), Err(StatusCode::TOO_MANY_REQUESTS));
        configured.insert("acme".to_owned(), account(&["four"], Some("3/h")));
        accounts.replace(&configured);
        assert_eq!(admitted(&accounts, "Bearer four").unwrap(), "acme", "another rate begins anew");
    }

    #[test]
    fn an_account_that_asks_too_often_is_told_when_to_ask_again() {
        let accounts = accounts(Some("2/h"));
        assert!(admitted(&accounts, "Bearer one").is_ok());
        let refused = accounts.admit(&headers("Bearer one")).unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let seconds: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1_700..=1_800).contains(&seconds), "{seconds}");
        assert!(admitted(&accounts, "Bearer three").is_ok(), "each account has its own rate");
    }
}
