//! *Echo*: the secrets of a request, which its response may repeat, and their masks.

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use secrecy::ExposeSecret as _;
use url::form_urlencoded;

use crate::credentials::Credentials;
use crate::endpoint::EndpointUrl;
use crate::token::Token;

/// What replaces a secret.
const MASK: &[u8] = b"REDACTED";
/// Bytes. What is shorter, such as `1`, is not secret, and its masks would hide the rest.
const SHORTEST: usize = 4;

/// The secrets that a response may repeat, in the forms in which it may.
pub(crate) struct Secrets(Vec<Vec<u8>>);

impl Secrets {
    /// Returns the token, the client's ID and secret, and the values of the endpoint's query.
    pub(crate) fn of(
        endpoint: &EndpointUrl,
        token: &Token,
        credentials: Option<&Credentials>,
    ) -> Self {
        let query = endpoint.url().query().unwrap_or_default();
        let values = query.split('&').map(|pair| match pair.split_once('=') {
            Some((_, value)) => value.to_owned(),
            None => pair.to_owned(),
        });
        let decoded = form_urlencoded::parse(query.as_bytes())
            .map(|(name, value)| if value.is_empty() { name } else { value }.into_owned());
        let client = credentials.into_iter().flat_map(|credentials| {
            [&credentials.client_id, &credentials.client_secret]
                .map(|text| text.expose_secret().to_owned())
        });
        let given = values
            .chain(decoded)
            .chain(client)
            .chain([token.bearer().to_owned()]);
        let mut forms: Vec<_> = given
            .flat_map(forms)
            .filter(|form| form.len() >= SHORTEST)
            .map(String::into_bytes)
            .collect();
        // The longest first: it may contain others.
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self(forms)
    }

    /// Returns the bytes of the longest form: so much more must be read than is shown.
    pub(crate) fn longest(&self) -> usize {
        self.0.first().map_or(0, Vec::len)
    }

    /// Returns the first `limit` bytes of `body` with masks. A secret is also found that only begins
    /// there.
    pub(crate) fn mask(&self, body: &[u8], limit: usize) -> Vec<u8> {
        let mut shown = Vec::new();
        let mut at = 0;
        while at < limit.min(body.len()) {
            let rest = &body[at..];
            if let Some(secret) = self.0.iter().find(|secret| rest.starts_with(secret)) {
                shown.extend_from_slice(MASK);
                at += secret.len();
            } else {
                shown.push(body[at]);
                at += 1;
            }
        }
        shown.truncate(limit);
        shown
    }
}

/// Returns a secret as it is, as a URL has it, and as JSON has it.
fn forms(secret: String) -> [String; 5] {
    let decoded = percent_decode_str(&secret).decode_utf8_lossy().into_owned();
    let in_url = utf8_percent_encode(&secret, NON_ALPHANUMERIC).to_string();
    let in_form = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let in_json = serde_json::Value::from(secret.as_str()).to_string();
    let in_json = in_json[1..in_json.len() - 1].to_owned(); // without its quotes
    [secret, decoded, in_url, in_form, in_json]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_up_to_the_limit() {
        let secrets = Secrets(vec![b"secret-long".to_vec(), b"secret".to_vec()]);
        for (body, limit, shown) in [
            ("a secret-long b", 100, "a REDACTED b"),
            ("a secret, secrets", 100, "a REDACTED, REDACTEDs"),
            ("a secret-long b", 12, "a REDACTED"),
            ("ab secret-long", 5, "ab RE"),
            ("0123456789 secret", 11, "0123456789 "),
        ] {
            assert_eq!(secrets.mask(body.as_bytes(), limit), shown.as_bytes());
        }
    }

    #[test]
    fn secrets_are_found_in_urls_and_json() {
        for (secret, form) in [
            ("p a/ss", "p%20a%2Fss"),
            ("p a/ss", "p+a%2Fss"),
            ("pa\"ss", "pa\\\"ss"),
            ("pa%2Fss", "pa/ss"),
        ] {
            assert!(
                forms(secret.to_owned()).contains(&form.to_owned()),
                "{form}"
            );
        }
    }
}
