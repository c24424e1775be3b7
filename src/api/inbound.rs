//! Where providers report what recipients answer. The provider's signature stands for a key.
//!
//! A word such as STOP concerns whoever sends through the provider, and it does not say whose message it
//! answers: so it is put on the list of every account.

use axum::extract::{Path, Request, State};
use http::StatusCode;

use super::{AppState, auth::Accounts, model::ProblemBody, problem::Problem, reported::Reported};
use crate::{
    domain::inbound::{Inbound, Keyword},
    store::{OptOuts, StoreError},
};

/// The longest body, in bytes.
const BYTES_MAX: u64 = 64 * 1024;

/// Report an answer
///
/// A message that a recipient sent to one of the provider's senders, as the provider reports it and with
/// its signature. `STOP`, `STOPALL`, `UNSUBSCRIBE`, `CANCEL`, `END`, `QUIT`, `REVOKE` or `OPTOUT` as the whole
/// text puts the number on the list of opt-outs of every account, `START`, `YES` or `UNSTOP` takes it off.
/// Any other text changes nothing.
#[utoipa::path(
    post, path = "/v1/inbound/{provider}", tag = "Providers",
    params(("provider" = String, Path, description = "The provider's name in the configuration.")),
    request_body(content_type = "application/x-www-form-urlencoded",
        description = "As the provider sends it, at most 64 KiB."),
    responses(
        (status = 204, description = "It was heard."),
        (status = 401, description = "`invalid_signature`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such provider, or it reports no answers.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "`body_too_large`.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "`invalid_request`: it can't be read.",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`store_unavailable`: report it again.",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn report(
    State(app): State<AppState>,
    Path(name): Path<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let reported = Reported::read(&app, name, request, BYTES_MAX).await?;
    let inbound = reported.provider.read_inbound(&reported.call());
    let inbound = inbound.map_err(|refusal| reported.refused(&app, refusal))?;
    heed(&app.api.store.optouts, &app.api.accounts, &inbound).await?;
    if let Some(keyword) = inbound.keyword {
        let keyword = keyword.word();
        tracing::info!(provider.name = reported.name, keyword, "a recipient has answered");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Does what a recipient wants.
async fn heed(optouts: &OptOuts, accounts: &Accounts, inbound: &Inbound) -> Result<(), StoreError> {
    let Some(keyword) = inbound.keyword else { return Ok(()) };
    for account in accounts.names() {
        match keyword {
            Keyword::OptOut => optouts.add(&account, &[inbound.from]).await?,
            Keyword::OptIn => optouts.remove(&account, &[inbound.from]).await?,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::Duration};

    use super::*;
    use crate::{
        api::{AccountSettings, DEFAULT_ACCOUNT},
        domain::number::Number,
        store::{self, HostLimits, SentinelLogin, StoreRules, StoreSettings, StoreTls},
    };

    async fn optouts(folder: &std::path::Path) -> OptOuts {
        let hour = Duration::from_hours(1);
        let settings = StoreSettings {
            url: format!("embedded:{}", folder.display()).into(),
            retention: hour,
            sync_every: Duration::from_secs(1),
            partitions: None,
            tls: StoreTls::default(),
            sentinel: SentinelLogin::default(),
        };
        let hosts = HostLimits { at_once: 1, silences_max: 1, left_alone: hour };
        let rules = StoreRules { lease: hour, upload_lease: hour, retention: hour, hosts };
        store::open(&settings, rules).await.unwrap().optouts
    }

    fn said(from: Number, text: &str) -> Inbound {
        Inbound { from, to: "+15550001111".into(), keyword: Keyword::read(text) }
    }

    #[tokio::test]
    async fn a_word_holds_for_every_account_until_it_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let (optouts, from) = (optouts(folder.path()).await, "+15551230001".parse().unwrap());
        let names = ["acme", "zeta"];
        let nothing = || serde_json::from_value::<AccountSettings>(serde_json::json!({}));
        let two = names.map(|name| (name.to_owned(), nothing().unwrap()));
        let (none, two) = (Accounts::new(&BTreeMap::new()), Accounts::new(&two.into()));
        let on_list = async |account: &str| optouts.contains(account, &[from]).await.unwrap()[0];
        for (accounts, names) in [(&none, &[DEFAULT_ACCOUNT][..]), (&two, &names[..])] {
            for (text, expected) in
                [("Hello", false), ("stop", true), ("no more", true), ("START", false)]
            {
                heed(&optouts, accounts, &said(from, text)).await.unwrap();
                for name in names {
                    assert_eq!(on_list(name).await, expected, "{name} after {text}");
                }
            }
        }
    }
}
