//! What an API key may be used for.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// One thing that a key may be used for. None includes another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To submit batches, to change them, and to have callbacks sent.
    Submit,
    /// To look at what the account has.
    Read,
    /// To do what concerns all accounts, if the account may: to stop providers.
    Admin,
}

/// The text names no scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a scope is submit, read or admin")]
pub struct InvalidScope;

// === impl Scope ===

impl Scope {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Submit, Self::Read, Self::Admin];

    /// The word that the configuration and the API have for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        Self::ALL.into_iter().find(|scope| scope.word() == text).ok_or(InvalidScope)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        for scope in Scope::ALL {
            assert_eq!(scope.to_string().parse(), Ok(scope));
            assert_eq!(serde_json::to_value(scope).unwrap(), scope.word());
        }
        assert_eq!("Read".parse::<Scope>(), Err(InvalidScope));
    }
}
