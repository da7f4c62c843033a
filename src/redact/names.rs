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
            "X-Amz-Credential",
            "X-Amz-Security-Token",
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

/// A name, or an ending of names that begins with `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) name: String,
    pub(super) form: Form,
}

/// The names of the parameters that hold credentials.
///
/// Case, `_` and `-` do not count: `apiKey` is `api_key`. In an ending they do, except for case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// By [`Key`]; `None` for a name that is not masked although it has one of the endings.
    whole: BTreeMap<Vec<u8>, Option<Rule>>,
    endings: Vec<Rule>,
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
}

impl Default for Names {
    fn default() -> Self {
        let mut names = Self {
            whole: BTreeMap::new(),
            endings: Vec::new(),
            ends: [0; 32],
            edits: BTreeMap::new(),
        };
        for (form, listed) in DEFAULT {
            for name in listed {
                names.set(name, Some(form));
            }
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
            names.edit(word).ok_or(match switch {
                Some("on") => NamesError::Invalid { position },
                _ => NamesError::Switch,
            })?;
        }
        match switch {
            Some("on") => Ok(Some(names)),
            Some("off") if names == Self::default() => Ok(None),
            _ => Err(NamesError::Switch),
        }
    }

    /// Applies `+name` or `-name`. The operator knows that the value of an added name is a
    /// credential, whatever it looks like.
    fn edit(&mut self, word: &str) -> Option<()> {
        let (form, name) = match word.split_at_checked(1)? {
            ("+", name) => (Some(Form::Password), name),
            ("-", name) => (None, name),
            _ => return None,
        };
        let plain = name.strip_prefix('*').unwrap_or(name);
        if plain.len() > MAX_NAME
            || !plain.bytes().all(is_name_byte)
            || !plain.ends_with(|last: char| last.is_ascii_alphanumeric())
        {
            return None;
        }
        let name = name.to_ascii_lowercase();
        self.set(&name, form);
        for before in 0..32 {
            self.add_end(before, name.bytes().last()?); // it may be spelled with `_` or `-` there
        }
        self.edits.insert(name, form.is_some());
        Some(())
    }

    fn set(&mut self, name: &str, form: Option<Form>) {
        let rule = form.map(|form| Rule {
            name: name.to_owned(),
            form,
        });
        if let [.., before, last] = *name.as_bytes() {
            self.add_end(before, last);
        }
        if name.starts_with('*') {
            self.endings.retain(|ending| ending.name != name);
            self.endings.extend(rule);
        } else {
            self.whole
                .insert(Key::of(name.as_bytes()).bytes().to_vec(), rule);
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
        if name.len() > MAX_NAME || !self.may_end_in(*before.last().unwrap_or(&0), *last) {
            return None;
        }
        match self.whole.get(Key::of(name).bytes()) {
            Some(rule) => rule.as_ref(),
            None => self.endings.iter().find(|ending| {
                let ending = &ending.name.as_bytes()[1..];
                let tail = name.len().checked_sub(ending.len());
                tail.is_some_and(|tail| name[tail..].eq_ignore_ascii_case(ending))
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
            ("continuation-token", None),
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
            ("on,é", NamesError::Invalid { position: 1 }),
            (&long, NamesError::Invalid { position: 1 }),
        ] {
            assert_eq!(Names::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn edits_are_listed_once_and_sorted() {
        let names = Names::parse("on,+b,-a,+B,+c,-c").unwrap().unwrap();
        assert_eq!(names.edits().collect::<Vec<_>>(), ["-a", "+b", "-c"]);
    }
}
