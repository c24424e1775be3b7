//! One HTTP exchange with a provider, for every kind that speaks HTTP.
//!
//! An exchange ends in one of three ways: nothing left ([`Outcome::Temporary`], certain), it left and
//! nothing whole came back ([`Outcome::Unknown`]), or there is an answer. What an answer means is the
//! kind's to say. Nothing is followed: no redirect, no proxy.

pub(super) mod failure;
mod pool;
mod target;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, Response, response::Parts};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{ClientConfig, crypto::aws_lc_rs};
use tokio::time::{Instant, timeout_at};

use self::pool::{Connection, Pool};
pub(super) use self::target::{Target, agent};
use super::{
    CommonSettings,
    registry::{InvalidSettings, Site},
};
use crate::domain::outcome::Outcome;

/// What stands for a secret value where settings are shown.
pub(super) const MASK: &str = "********";

/// The longest time to wait for a connection, within the time-out of the whole exchange.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 * 1024;

/// The way to a provider: connections, kept and shared by all submissions.
pub(super) struct Line {
    pool: Pool,
    timeout: Duration,
}

/// An answer whose head is there.
pub(super) struct Answer {
    /// Its head.
    pub(super) head: Parts,
    /// Its body, or what follows from its not coming to its end.
    pub(super) body: Result<Bytes, Outcome>,
}

// === impl Line ===

impl Line {
    /// A way to `target`; `key` is what names it in the settings.
    pub(super) fn new(
        key: &'static str,
        target: &Target,
        site: &Site<'_>,
    ) -> Result<Self, InvalidSettings> {
        let common = site.common;
        let connector = connector(key, common, target.is_https())?;
        let idle_max = usize::try_from(common.max_in_flight).unwrap_or(usize::MAX);
        let pool = Pool::new(connector, target.uri().clone(), idle_max);
        Ok(Self { pool, timeout: common.timeout })
    }

    /// Makes an exchange, within the provider's time-out, and reads at most `bytes_max` of its body.
    ///
    /// # Errors
    /// What follows from there being no answer.
    pub(super) async fn exchange(
        &self,
        request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<Answer, Outcome> {
        let end = Instant::now() + self.timeout;
        let opened = timeout_at(end, self.open(request)).await;
        let (connection, response) = opened.unwrap_or_else(|_| Err(self.late()))?;
        let (head, body) = response.into_parts();
        let body = timeout_at(end, self.finish(connection, body, bytes_max)).await;
        Ok(Answer { head, body: body.unwrap_or_else(|_| Err(self.late())) })
    }

    /// Sends the request and waits for the answer's head.
    async fn open(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Box<Connection>, Response<Incoming>), Outcome> {
        let taken = self.pool.take().await;
        let mut connection = taken.map_err(|error| failure::unreachable(&error))?;
        let response = connection.send(request).await;
        let response = response.map_err(|error| failure::unanswered(&error))?;
        Ok((connection, response))
    }

    /// Reads the answer's body to its end, and keeps the connection for the next exchange.
    async fn finish(
        &self,
        mut connection: Box<Connection>,
        body: Incoming,
        bytes_max: usize,
    ) -> Result<Bytes, Outcome> {
        let body = connection.during(failure::read(body, bytes_max)).await;
        let body = body.map_err(|error| failure::broken(&error))?;
        self.pool.put(connection);
        Ok(body)
    }

    fn late(&self) -> Outcome {
        failure::timed_out(self.timeout)
    }
}

fn connector(
    key: &'static str,
    common: &CommonSettings,
    https: bool,
) -> Result<HttpsConnector<HttpConnector>, InvalidSettings> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(common.timeout.min(CONNECT_MAX)));
    let tls = tls(https).map_err(|error| InvalidSettings::new(key, error.to_string()))?;
    let builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    Ok(builder.enable_http1().wrap_connector(tcp))
}

/// Trusts what the machine trusts. A provider without TLS needs no machine that trusts anyone.
fn tls(https: bool) -> Result<ClientConfig, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?;
    let builder = if https {
        builder.try_with_platform_verifier()?
    } else {
        builder.with_root_certificates(rustls::RootCertStore::empty())
    };
    Ok(builder.with_no_client_auth())
}
