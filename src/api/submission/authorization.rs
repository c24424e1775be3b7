//! How a callback authenticates itself to a receiver that asks for it: Basic (RFC 7617) or Bearer
//! (RFC 6750), both as the header `authorization`.

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::value::RawValue;

use crate::api::json::{Faults, Pointer, members, text};

/// The header.
pub(super) const HEADER: &str = "authorization";

/// The longest user name, password and token, in bytes.
const USERNAME_BYTES_MAX: usize = 256;
const PASSWORD_BYTES_MAX: usize = 1024;
const TOKEN_BYTES_MAX: usize = 4 * 1024;

/// The value of the header: a secret.
pub(super) struct Authorization(String);

// === impl Authorization ===

impl Authorization {
    /// Reads `callback_auth`; `None` for `null`, and for what is wrong after noting it.
    pub(super) fn read(raw: &RawValue, at: &Pointer<'_>, faults: &mut Faults) -> Option<Self> {
        if raw.get() == "null" {
            return None;
        }
        let known = ["type", "username", "password", "token"];
        let [kind, username, password, token] = members(raw, at, known, faults)?;
        let kind = wanted("type", kind, usize::MAX, at, faults)?;
        match &*kind {
            "basic" => {
                foreign("token", token, at, faults);
                let username = wanted("username", username, USERNAME_BYTES_MAX, at, faults);
                let password = wanted("password", password, PASSWORD_BYTES_MAX, at, faults);
                Self::basic(&username?, &password?, at, faults)
            }
            "bearer" => {
                foreign("username", username, at, faults);
                foreign("password", password, at, faults);
                let token = wanted("token", token, TOKEN_BYTES_MAX, at, faults)?;
                Self::bearer(&token, at, faults)
            }
            _ => {
                let at = Pointer::Key(at, "type");
                faults.add(&at, "invalid_value", "this is basic or bearer");
                None
            }
        }
    }

    /// The header's name and value.
    pub(super) fn into_header(self) -> (String, String) {
        (HEADER.to_owned(), self.0)
    }

    fn basic(
        username: &str,
        password: &str,
        at: &Pointer<'_>,
        faults: &mut Faults,
    ) -> Option<Self> {
        if username.contains(':') {
            let at = Pointer::Key(at, "username");
            faults.add(&at, "invalid_value", "a user name holds no colon (RFC 7617)");
            return None;
        }
        let named = [("username", username), ("password", password)];
        let flawed = named.iter().find(|(_, given)| given.chars().any(char::is_control));
        if let Some((name, _)) = flawed {
            let at = Pointer::Key(at, name);
            faults.add(&at, "invalid_value", "no control characters are allowed here (RFC 7617)");
            return None;
        }
        let pair = BASE64_STANDARD.encode(format!("{username}:{password}"));
        Some(Self(format!("Basic {pair}")))
    }

    fn bearer(token: &str, at: &Pointer<'_>, faults: &mut Faults) -> Option<Self> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let at = Pointer::Key(at, "token");
            faults.add(&at, "invalid_value", "a token is visible ASCII characters, at least one");
            return None;
        }
        Some(Self(format!("Bearer {token}")))
    }
}

/// The text of a member that must be there.
fn wanted<'de>(
    name: &str,
    raw: Option<&'de RawValue>,
    bytes_max: usize,
    at: &Pointer<'_>,
    faults: &mut Faults,
) -> Option<Cow<'de, str>> {
    let Some(raw) = raw else {
        faults.missing(name, at);
        return None;
    };
    text(raw, &Pointer::Key(at, name), bytes_max, faults)
}

/// Notes a member of another kind of authentication.
fn foreign(name: &str, raw: Option<&RawValue>, at: &Pointer<'_>, faults: &mut Faults) {
    if raw.is_some() {
        let at = Pointer::Key(at, name);
        faults.add(&at, "unknown_field", "this type of authentication has no such field");
    }
}
