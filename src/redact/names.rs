//! *Names*: the parameters whose values are credentials, and the form of each value.
//!
//! They are those of OpenTelemetry's semantic conventions (`url.full`, `url.query`), CloudFront's
//! signed URLs, OAuth 2.0, login forms and common APIs.

use std::collections::BTreeMap;

/// Upper bound on the length of a name, in bytes.
pub(crate) const MAX_NAME: usize = 64;

/// What a value must look like to be a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Any text.
    Password,
    /// A token of at least this many characters.
    Token { min: usize },
    /// A token, also behind the name of a scheme and a space (RFC 9110, section 11.4).
    Authorization,
}

/// Shortest token, code or key, in characters: verification codes have six digits.
pub(super) const MIN_TOKEN: usize = 6;
/// Shortest signature or policy, in characters.
pub(super) const MIN_SIGNATURE: usize = 16;

/// How the names begin that `X-Amz-*` stands for, in lower case.
pub(super) const AMZ: &[u8; 6] = b"x-amz-";
const ANY_AMZ: &str = "X-Amz-*";
/// Names of this kind that every signed URL of AWS has, and whose values open nothing.
const PUBLIC_AMZ: [&str; 4] = [
    "X-Amz-Algorithm",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
];

const DEFAULT: [(Form, &[&str]); 4] = [
    (
        Form::Password,
        &[
            "password",
            "passwd",
            "passphrase",
            "pwd",
            "confirm_password",
            "current_password",
            "j_password",
            "new_password",
            "old_password",
            "password_confirmation",
            "user_password",
        ],
    ),
    (
        Form::Token { min: MIN_TOKEN },
        &[
            "*_token",
            "token",
            "access_token",
            "id_token",
            "refresh_token",
            "api_key",
            "client_secret",
            "code",
            "otp",
            "secret",
            "session_id",
            "AWSAccessKeyId",
            "Key-Pair-Id",
            ANY_AMZ,
        ],
    ),
    (Form::Authorization, &["authorization"]),
    (
        Form::Token { min: MIN_SIGNATURE },
        &[
            "sig",
            "signature",
            "policy",
            "X-Amz-Signature",
            "X-Goog-Signature",
        ],
    ),
];

/// A name, an ending of names that begins with `*`, or [`ANY_AMZ`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) form: Form,
}

/// The names of the parameters that hold credentials.
///
/// Case, `_` and `-` do not count: `apiKey` is `api_key`, and `csrfToken` ends like `*_token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// By [`Key`]; `None` for a name that is not masked although it matches another rule.
    whole: BTreeMap<Vec<u8>, Option<Rule>>,
    /// With the [`Key`] of each.
    endings: Vec<(Vec<u8>, Rule)>,
    any_amz: Option<Rule>,
    /// The last two characters of all names, by their five low bits: for each last but one, a set
    /// of the last ones.
    ends: [u32; 32],
    edits: BTreeMap<String, bool>,
}

/// Why a string is not a value of `REDACT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NamesError {
    /// It is neither `off`, nor begins with `on`.
    Switch,
    /// A name, counted from 1.
    Invalid { position: usize },
    /// A name that is to be removed is not in the list, counted from 1.
    Unlisted { position: usize },
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Self {
            whole: BTreeMap::new(),
            endings: Vec::new(),
            any_amz: None,
            ends: [0; 32],
            edits: BTreeMap::new(),
        };
        for (form, listed) in DEFAULT {
            for name in listed {
                names.set(name, Some(form));
            }
        }
        for name in PUBLIC_AMZ {
            names.set(name, None);
        }
        names
    }
}

impl Names {
    /// Reads `REDACT`: `on`, `off`, or `on,+name,-name`, which edits the list. Returns `None` for
    /// `off`.
    ///
    /// # Errors
    /// If the text has none of these forms.
    pub fn parse(text: &str) -> Result<Option<Self>, NamesError> {
        let mut words = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty());
        let switch = words.next();
        let mut names = Self::default();
        for (position, word) in (1..).zip(&mut words) {
            if switch != Some("on") {
                return Err(NamesError::Switch);
            }
            names.edit(word, position)?;
        }
        match switch {
            Some("on") => Ok(Some(names)),
            Some("off") => Ok(None),
            _ => Err(NamesError::Switch),
        }
    }

    /// Applies `+name` or `-name`. The operator knows that the value of an added name is a
    /// credential, whatever it looks like.
    fn edit(&mut self, word: &str, position: usize) -> Result<(), NamesError> {
        let (form, name) = match word.split_at_checked(1) {
            Some(("+", name)) if is_valid(name) => (Some(Form::Password), name),
            Some(("-", name)) if is_valid(name) || name.eq_ignore_ascii_case(ANY_AMZ) => {
                (None, name)
            }
            _ => return Err(NamesError::Invalid { position }),
        };
        if form.is_none() && !self.lists(name) {
            return Err(NamesError::Unlisted { position });
        }
        let name = name.to_ascii_lowercase();
        self.set(&name, form);
        if let Some(last) = name.bytes().last() {
            for before in 0..32 {
                self.add_end(before, last); // it may be spelled with `_` or `-` there
            }
        }
        self.edits.insert(name, form.is_some());
        Ok(())
    }

    /// Whether a rule has this name, or applies to it.
    fn lists(&self, name: &str) -> bool {
        if name.eq_ignore_ascii_case(ANY_AMZ) {
            return self.any_amz.is_some();
        }
        match name.strip_prefix('*') {
            Some(ending) => {
                let key = Key::of(ending.as_bytes());
                self.endings.iter().any(|(known, _)| known == key.bytes())
            }
            None => self.rule(name.as_bytes()).is_some(),
        }
    }

    fn set(&mut self, name: &str, form: Option<Form>) {
        let rule = form.map(|form| Rule {
            name: name.to_owned(),
            form,
        });
        if name.eq_ignore_ascii_case(ANY_AMZ) {
            self.any_amz = rule;
            return;
        }
        if let [.., before, last] = *name.as_bytes() {
            self.add_end(before, last);
        }
        let plain = name.strip_prefix('*').unwrap_or(name);
        let key = Key::of(plain.as_bytes()).bytes().to_vec();
        if name.starts_with('*') {
            self.endings.retain(|(known, _)| *known != key);
            self.endings.extend(rule.map(|rule| (key, rule)));
        } else {
            self.whole.insert(key, rule);
        }
    }

    /// Returns the edits of the built-in list, sorted: `+name` or `-name`, in lower case.
    pub(crate) fn edits(&self) -> impl Iterator<Item = String> {
        self.edits
            .iter()
            .map(|(name, is_added)| format!("{}{name}", if *is_added { '+' } else { '-' }))
    }

    /// Returns the rule for a name.
    pub(super) fn rule(&self, name: &[u8]) -> Option<&Rule> {
        let (last, before) = name.split_last()?;
        if name.len() > MAX_NAME {
            return None;
        }
        let any_amz = self.any_amz.as_ref().filter(|_| is_amz(name));
        if any_amz.is_none() && !self.may_end_in(*before.last().unwrap_or(&0), *last) {
            return None;
        }
        let key = Key::of(name);
        match self.whole.get(key.bytes()) {
            Some(rule) => rule.as_ref(),
            None => any_amz.or_else(|| {
                let mut endings = self.endings.iter();
                let found = endings.find(|(ending, _)| key.bytes().ends_with(ending));
                found.map(|(_, rule)| rule)
            }),
        }
    }

    /// Whether a name that ends in these two characters may have a rule. Most have none.
    #[inline]
    pub(super) fn may_end_in(&self, before: u8, last: u8) -> bool {
        self.ends[usize::from(before & 31)] & end_bit(last) != 0
    }

    fn add_end(&mut self, before: u8, last: u8) {
        self.ends[usize::from(before & 31)] |= end_bit(last);
    }
}

fn end_bit(last: u8) -> u32 {
    1 << (last & 31)
}

/// Whether the operator may add or remove a name.
fn is_valid(name: &str) -> bool {
    let plain = name.strip_prefix('*').unwrap_or(name);
    plain.len() <= MAX_NAME
        && !plain.starts_with('-')
        && plain.bytes().all(is_name_byte)
        && plain.ends_with(|last: char| last.is_ascii_alphanumeric())
}

/// Whether a name is one that `X-Amz-*` stands for.
fn is_amz(name: &[u8]) -> bool {
    name.first_chunk::<{ AMZ.len() }>()
        .is_some_and(|start| start.eq_ignore_ascii_case(AMZ))
}

/// Whether a byte can be part of a name.
#[inline]
pub(super) fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// A name in lower case, without `_` and `-`.
struct Key {
    bytes: [u8; MAX_NAME],
    len: usize,
}

impl Key {
    /// The name has at most [`MAX_NAME`] bytes; further ones are left out.
    fn of(name: &[u8]) -> Self {
        let mut key = Self {
            bytes: [0; MAX_NAME],
            len: 0,
        };
        let counted = name.iter().filter(|byte| !matches!(byte, b'_' | b'-'));
        for (slot, byte) in key.bytes.iter_mut().zip(counted) {
            *slot = byte.to_ascii_lowercase();
            key.len += 1;
        }
        key
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn form(names: &Names, name: &str) -> Option<Form> {
        names.rule(name.as_bytes()).map(|rule| rule.form)
    }

    // proves: I33
    #[test]
    fn names_match_in_any_case_and_spelling() {
        let names = Names::default();
        let token = Some(Form::Token { min: 6 });
        for (name, expected) in [
            ("password", Some(Form::Password)),
            ("newPassword", Some(Form::Password)),
            ("_password", Some(Form::Password)),
            ("API-KEY", token),
            ("apikey", token),
            ("accessToken", token),
            ("csrf_token", token),
            ("Reset_Token", token),
            ("x-amz-security-token", token),
            ("authorization", Some(Form::Authorization)),
            ("keyPairId", token),
            ("sig", Some(Form::Token { min: 16 })),
            ("password_", None),
            ("passwords", None),
            ("mypassword", None),
            ("csrfToken", token),
            ("csrf-token", token),
            ("authtoken", token),
            ("X-Amz-Credential", token),
            ("x-amz-Anything-9", token),
            ("X-Amz-Signature", Some(Form::Token { min: 16 })),
            ("X-AMZ-Date", None),
            ("x-amz-expires", None),
            ("X-Amz-Algorithm", None),
            ("X-Amz-SignedHeaders", None),
            ("x-amz", None),
            ("my-x-amz-a", None),
            ("tokens", None),
            ("id", None),
            ("design", None),
            ("", None),
        ] {
            assert_eq!(form(&names, name), expected, "{name}");
        }
        let long = "a".repeat(MAX_NAME - 6) + "_token";
        assert_eq!(form(&names, &long), token);
        assert_eq!(form(&names, &format!("a{long}")), None);
    }

    // proves: I85
    #[test]
    fn names_are_added_and_removed() {
        let names = Names::parse(" on, +Reset-Key,-code ,-page_token,+*_pin,-*_token,+sig,")
            .unwrap()
            .unwrap();
        for (name, expected) in [
            ("reset_key", Some(Form::Password)),
            ("resetKey", Some(Form::Password)),
            ("card_PIN", Some(Form::Password)),
            ("sig", Some(Form::Password)),
            ("code", None),
            ("csrf_token", None),
            ("token", Some(Form::Token { min: 6 })),
        ] {
            assert_eq!(form(&names, name), expected, "{name}");
        }
        let names = Names::parse("on,-page_token").unwrap().unwrap();
        assert_eq!(form(&names, "page_token"), None);
        assert_eq!(form(&names, "next_token"), Some(Form::Token { min: 6 }));
        let names = Names::parse("on,-x-AMZ-*,-x-amz-signature,+X-Amz-Date").unwrap();
        let names = names.unwrap();
        assert_eq!(form(&names, "X-Amz-Credential"), None);
        assert_eq!(form(&names, "X-Amz-Signature"), None);
        assert_eq!(form(&names, "X-Amz-Date"), Some(Form::Password));
        assert_eq!(Names::parse("on"), Ok(Some(Names::default())));
        assert_eq!(Names::parse("off"), Ok(None));
    }

    // proves: I33, I82
    #[test]
    fn documentation_lists_every_name() {
        let text = include_str!("../../docs/input.md");
        let (_, list) = text
            .split_once("<!-- credential-names -->\n```text\n")
            .unwrap();
        let (list, _) = list.split_once("```").unwrap();
        let documented: Vec<_> = list.split_whitespace().collect();
        let known: Vec<_> = DEFAULT
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        assert_eq!(documented, known);
    }

    #[test]
    fn other_forms_of_redact_are_refused() {
        let long = format!("on,+{}", "a".repeat(MAX_NAME + 1));
        for (text, expected) in [
            ("", NamesError::Switch),
            ("ON", NamesError::Switch),
            ("+a", NamesError::Switch),
            ("off,+a", NamesError::Switch),
            ("off,a", NamesError::Switch),
            ("off,off", NamesError::Switch),
            ("on,a", NamesError::Invalid { position: 1 }),
            ("on,+a,-", NamesError::Invalid { position: 2 }),
            ("on,+a,+*", NamesError::Invalid { position: 2 }),
            ("on,+a*", NamesError::Invalid { position: 1 }),
            ("on,+a b", NamesError::Invalid { position: 1 }),
            ("on,+a_", NamesError::Invalid { position: 1 }),
            ("on,+-a", NamesError::Invalid { position: 1 }),
            ("on,+X-Amz-*", NamesError::Invalid { position: 1 }),
            ("on,-code*", NamesError::Invalid { position: 1 }),
            ("on,-unknown", NamesError::Unlisted { position: 1 }),
            ("on,-code,-code", NamesError::Unlisted { position: 2 }),
            ("on,-*_key", NamesError::Unlisted { position: 1 }),
            ("on,-x-amz-date", NamesError::Unlisted { position: 1 }),
            ("on,é", NamesError::Invalid { position: 1 }),
            (&long, NamesError::Invalid { position: 1 }),
        ] {
            assert_eq!(Names::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn edits_are_listed_once_and_sorted() {
        let names = Names::parse("on,+b,-code,+B,+c,-c").unwrap().unwrap();
        assert_eq!(names.edits().collect::<Vec<_>>(), ["+b", "-c", "-code"]);
    }
}
