//! Twilio's signature of the requests it makes: HMAC-SHA1 by the account's auth token, in base64.
//!
//! A form is signed as the URL followed by its parameters, sorted by name and each once, as name and
//! value without anything between. Any other body is signed as the URL alone, whose query has the body's
//! SHA-256 as `bodySHA256`. Whether the URL has its port when Twilio signs is not the same everywhere, so
//! it is taken with and without. Source: Twilio's documentation, "Webhooks security".

use std::{borrow::Cow, fmt::Write};

use aws_lc_rs::{constant_time, digest, hmac};
use base64::{Engine, engine::general_purpose::STANDARD};
use url::form_urlencoded;

/// The header that holds the signature.
pub const HEADER: &str = "x-twilio-signature";

/// What the query's parameter with a body's hash is called.
const BODY_HASH: &str = "bodySHA256";

/// The parameters of a form, as they came.
pub type Params<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// What a request carries.
#[derive(Clone, Copy, Debug)]
pub enum Content<'a> {
    /// The parameters of a form.
    Form(&'a [(Cow<'a, str>, Cow<'a, str>)]),
    /// A body of any other type, such as JSON.
    Body(&'a [u8]),
}

/// The parameters of a form's body.
#[must_use]
pub fn params(body: &[u8]) -> Params<'_> {
    form_urlencoded::parse(body).collect()
}

/// What the query of a request that is no form says of its body, as `bodySHA256`.
#[must_use]
pub fn body_hash(body: &[u8]) -> String {
    let mut hash = String::with_capacity(64);
    for byte in digest::digest(&digest::SHA256, body).as_ref() {
        // Writing to a string can't fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

/// The signature of a request to `url`, as Twilio makes it.
#[must_use]
pub fn sign(token: &str, url: &str, content: Content<'_>) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    STANDARD.encode(tag(&key, url, &sorted(content)))
}

/// Whether a request to `url` was signed with `token`. `url` is the one that Twilio knows, its query as it
/// came. How long the answer takes does not depend on how much of the signature is right.
#[must_use]
pub fn verify(token: &str, url: &str, content: Content<'_>, signature: &str) -> bool {
    let Ok(given) = STANDARD.decode(signature) else { return false };
    if let Content::Body(body) = content
        && !has_hash_of(url, body)
    {
        return false;
    }
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_bytes());
    let params = sorted(content);
    spellings(url).iter().any(|url| {
        let tag = tag(&key, url, &params);
        constant_time::verify_slices_are_equal(tag.as_ref(), &given).is_ok()
    })
}

fn tag(key: &hmac::Key, url: &str, params: &[(&str, &str)]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(url.as_bytes());
    for (name, value) in params {
        context.update(name.as_bytes());
        context.update(value.as_bytes());
    }
    context.sign()
}

/// The parameters that are signed, in their order.
fn sorted(content: Content<'_>) -> Vec<(&str, &str)> {
    let Content::Form(params) = content else { return Vec::new() };
    let mut sorted: Vec<_> = params.iter().map(|(name, value)| (&**name, &**value)).collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted
}

/// Whether the query of `url` has the hash of `body`.
fn has_hash_of(url: &str, body: &[u8]) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    let query = query.split_once('#').map_or(query, |(query, _)| query);
    let mut params = form_urlencoded::parse(query.as_bytes());
    let given = params.find(|(name, _)| name == BODY_HASH);
    given.is_some_and(|(_, given)| given == body_hash(body))
}

/// The URL as it is, without its port, and with the standard one if it has none.
fn spellings(url: &str) -> Vec<Cow<'_, str>> {
    let mut spellings = vec![Cow::from(url)];
    let Some((scheme, rest)) = url.split_once("://") else { return spellings };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match authority.rsplit_once(':') {
        Some((host, port)) if is_port(port) => {
            spellings.push(format!("{scheme}://{host}{path}").into());
        }
        _ => {
            let port = if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 };
            spellings.push(format!("{scheme}://{authority}:{port}{path}").into());
        }
    }
    spellings
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "12345";
    const URL: &str = "https://mycompany.com/myapp.php?foo=1&bar=2";
    const FORM: &[u8] = b"CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234\
                          &From=%2B14158675309&To=%2B18005551212";
    const SIGNATURE: &str = "RSOYDt4T1cUTdK1PDd93/VVr8B8=";

    fn holds(token: &str, url: &str, form: &[u8], signature: &str) -> bool {
        verify(token, url, Content::Form(&params(form)), signature)
    }

    #[test]
    fn the_published_example_comes_out() {
        assert_eq!(sign(TOKEN, URL, Content::Form(&params(FORM))), SIGNATURE);
        assert!(holds(TOKEN, URL, FORM, SIGNATURE));
    }

    #[test]
    fn the_order_of_the_parameters_and_repeats_do_not_matter() {
        let turned = b"To=%2B18005551212&From=%2B14158675309&Digits=1234&Digits=1234\
                       &Caller=%2B14158675309&CallSid=CA1234567890ABCDE";
        assert!(holds(TOKEN, URL, turned, SIGNATURE));
    }

    #[test]
    fn only_the_same_token_url_and_parameters_verify() {
        assert!(!holds("12346", URL, FORM, SIGNATURE));
        assert!(!holds(TOKEN, &URL.replace("bar=2", "bar=3"), FORM, SIGNATURE));
        assert!(!holds(TOKEN, &URL.replace("https", "http"), FORM, SIGNATURE));
        assert!(!holds(TOKEN, URL, &FORM.to_ascii_lowercase(), SIGNATURE));
        assert!(!holds(TOKEN, URL, b"", SIGNATURE));
        let more = [FORM, b"&Body=x"].concat();
        assert!(!holds(TOKEN, URL, &more, SIGNATURE));
        for signature in ["", "=", &SIGNATURE[..27], &SIGNATURE[1..], &format!("{SIGNATURE}A")] {
            assert!(!holds(TOKEN, URL, FORM, signature), "{signature:?}");
        }
    }

    #[test]
    fn the_url_is_taken_with_and_without_its_port() {
        let with = |port: &str| URL.replace("mycompany.com", &format!("mycompany.com{port}"));
        let signed = |url: &str| sign(TOKEN, url, Content::Form(&params(FORM)));
        assert!(holds(TOKEN, &with(":443"), FORM, SIGNATURE));
        assert!(holds(TOKEN, URL, FORM, &signed(&with(":443"))));
        assert!(holds(TOKEN, &with(":8443"), FORM, SIGNATURE));
        assert!(holds(TOKEN, &with(":8443"), FORM, &signed(&with(":8443"))));
        assert!(!holds(TOKEN, URL, FORM, &signed(&with(":8443"))));
        assert!(!holds(TOKEN, URL, FORM, &signed(&with(":80"))));
        let plain = "http://[::1]/x";
        assert!(holds(TOKEN, plain, FORM, &signed("http://[::1]:80/x")));
        assert!(holds(TOKEN, "http://[::1]:80/x", FORM, &signed(plain)));
    }

    #[test]
    fn any_other_body_is_vouched_for_by_its_hash_in_the_url() {
        let body = br#"{"MessageStatus": "delivered"}"#;
        let hash = body_hash(body);
        let url = format!("{URL}&bodySHA256={hash}");
        let signed = sign(TOKEN, &url, Content::Body(body));
        assert!(verify(TOKEN, &url, Content::Body(body), &signed));
        assert!(!verify(TOKEN, &url, Content::Body(b"{}"), &signed));
        assert!(!verify("12346", &url, Content::Body(body), &signed));
        let other = url.replace(&hash[..8], "00000000");
        for url in [URL, &other] {
            let signed = sign(TOKEN, url, Content::Body(body));
            assert!(!verify(TOKEN, url, Content::Body(body), &signed), "{url}");
        }
    }
}
