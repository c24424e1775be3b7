//! Providers: how they stand, and the emergency stop.

use std::fmt::Write;

use super::{Client, ClientError};
use crate::api::model::{ProviderList, ProviderResource};

// === impl Client ===

impl Client {
    /// Every provider of the installation.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn providers(&self) -> Result<ProviderList, ClientError> {
        self.json(self.get("/v1/providers")).await
    }

    /// Stops a provider, for all accounts, until it is resumed; gives it as it stands then.
    ///
    /// # Errors
    /// [`ClientError`]; `forbidden` if the account may not, `not_found` if there is none of this name.
    pub async fn pause_provider(&self, name: &str) -> Result<ProviderResource, ClientError> {
        self.json(self.post(&format!("{}/pause", path(name)))).await
    }

    /// Lets a stopped provider go on; gives it as it stands then.
    ///
    /// # Errors
    /// As [`Self::pause_provider`].
    pub async fn resume_provider(&self, name: &str) -> Result<ProviderResource, ClientError> {
        self.json(self.post(&format!("{}/resume", path(name)))).await
    }
}

/// Where a provider is, whatever characters its name has.
fn path(name: &str) -> String {
    name.bytes().fold("/v1/providers/".to_owned(), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string can't fail.
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_the_path() {
        assert_eq!(path("carrier-2"), "/v1/providers/carrier-2");
        assert_eq!(path("a/b?c#d e.f"), "/v1/providers/a%2Fb%3Fc%23d%20e%2Ef");
        assert_eq!(path("ü"), "/v1/providers/%C3%BC");
    }
}
