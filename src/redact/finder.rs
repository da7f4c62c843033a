//! *Finder*: finds the credentials of a URL, or of a part of one.

use std::fmt;
use std::ops::Range;

use super::cursor::{Character, Cursor, MAX_DEPTH, Quote, is_space};
use super::mask::Part;
use super::names::{Form, MAX_NAME, MIN_SIGNATURE, MIN_TOKEN, Names, Rule, is_name_byte};
use super::web_token::{WEB_TOKEN, web_token};

/// Upper bound on the indexes behind a name, as in `password[a][0]`, and on the characters of each.
const MAX_INDEXES: usize = 4;
const MAX_INDEX: usize = 32;
/// Upper bound on the name of an authentication scheme, in characters.
const MAX_SCHEME: usize = 16;
/// Digits of the largest port, 65535.
const MAX_PORT: usize = 5;

/// A part of a text that is to be replaced.
#[derive(Debug)]
pub(super) struct Credential<'n> {
    pub(super) range: Range<usize>,
    pub(super) reason: Reason<'n>,
    pub(super) marks: Marks,
}

/// By what a credential was recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason<'n> {
    Name(&'n str),
    UserInformation,
    WebToken,
    Bearer,
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::UserInformation => f.write_str("password before a host"),
            Self::WebToken => f.write_str("JSON Web Token"),
            Self::Bearer => f.write_str("`Bearer`"),
        }
    }
}

/// What a masked password contains that passwords seldom do, and attacks often. Tokens have no
/// marks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks([bool; 5]);

impl Marks {
    const NAMES: [&'static str; 5] = ["quote", "space", "bracket", "semicolon", "control"];

    fn note(&mut self, byte: u8) {
        let index = match byte {
            b'"' | b'\'' | b'`' => 0,
            b' ' => 1,
            b'(' | b')' | b'<' | b'>' | b'[' | b']' | b'{' | b'}' => 2,
            b';' => 3,
            byte if byte.is_ascii_control() => 4,
            _ => return,
        };
        self.0[index] = true;
    }

    /// Appends the names in parentheses, if there are any.
    pub(super) fn push(self, out: &mut Vec<u8>) {
        let noted = Self::NAMES.iter().zip(self.0).filter(|(_, is)| *is);
        let mut before = b'(';
        for (name, _) in noted {
            out.push(before);
            out.extend_from_slice(name.as_bytes());
            before = b',';
        }
        if before == b',' {
            out.push(b')');
        }
    }
}

/// Finds credentials, from left to right. It decodes percent-encoding on the fly, so that it also
/// finds those of a URL inside a URL.
///
/// Its time is linear in the length of the text: no part of it is searched more than a fixed number
/// of times.
pub(super) struct Finder<'a, 'n> {
    text: &'a [u8],
    names: &'n Names,
    part: Part,
    at: usize,
    /// The text since the last delimiter.
    name: Name,
    before: Before,
    /// The backslashes before `at`.
    backslashes: usize,
    /// End of the JSON Web Token whose parts are being returned.
    web_token: usize,
    /// For each depth, up to where values that begin before are not tokens.
    payloads: [usize; MAX_DEPTH as usize + 1],
}

impl<'a, 'n> Finder<'a, 'n> {
    pub(super) fn new(text: &'a [u8], part: Part, names: &'n Names) -> Self {
        Self {
            text,
            names,
            part,
            at: 0,
            name: Name::default(),
            before: Before::Parameter,
            backslashes: 0,
            web_token: 0,
            payloads: [0; MAX_DEPTH as usize + 1],
        }
    }
}

impl<'n> Iterator for Finder<'_, 'n> {
    type Item = Credential<'n>;

    fn next(&mut self) -> Option<Credential<'n>> {
        loop {
            if self.at < self.web_token
                && let Some(part) = self.web_token_part()
            {
                return Some(part);
            }
            let character = Character::at(self.text, self.at)?;
            if is_name_byte(character.byte) {
                if self.name.len > 0 || !self.begin_web_token(&character) {
                    self.name.push(character.byte, self.at);
                    self.at += character.len;
                }
                continue;
            }
            let found = self.credential(&character);
            self.pass(&character);
            if let Some(found) = found {
                self.at = found.range.end;
                self.before = Before::Other;
                return Some(found);
            }
            if self.part == Part::Url
                && matches!(character.byte, b'?' | b'#')
                && character.depth == 0
            {
                self.part = Part::Query;
            }
            self.at += character.len;
        }
    }
}

impl<'a, 'n> Finder<'a, 'n> {
    /// Notes a delimiter for the name behind it.
    fn pass(&mut self, delimiter: &Character) {
        let &Character { byte, depth, .. } = delimiter;
        let is_first = self.name.len == 0 && self.before == Before::Parameter;
        let backslashes = if self.name.len == 0 {
            self.backslashes
        } else {
            0
        };
        self.before = match byte {
            b'&' | b';' | b'?' => Before::Parameter,
            _ if is_space(byte) && is_first => Before::Parameter,
            _ if is_space(byte) => Before::Space(depth),
            b'"' | b'\'' => Before::Quote(Quote {
                byte,
                depth,
                backslashes,
            }),
            _ => Before::Other,
        };
        self.backslashes = if byte == b'\\' { backslashes + 1 } else { 0 };
        self.name.len = 0;
    }

    /// Returns the credential that the name before `delimiter` introduces.
    fn credential(&mut self, delimiter: &Character) -> Option<Credential<'n>> {
        let name = self.name.bytes()?;
        let rule = self.names.rule(name);
        if name.eq_ignore_ascii_case(BEARER) && is_space(delimiter.byte) {
            return self.bearer(delimiter);
        }
        if let Some(rule) = rule
            && let Some(value) = self.assignment()
        {
            return self.value(rule, value);
        }
        if delimiter.byte == b':' {
            return self.user_information(delimiter);
        }
        None
    }

    fn cursor(&self) -> Cursor<'a> {
        Cursor {
            text: self.text,
            at: self.at,
        }
    }

    /// Returns the value that is assigned to the name before `self.at`: `name=…`, `name[0]=…`, or a
    /// member of an object of JSON, JavaScript or GraphQL.
    fn assignment(&self) -> Option<Value> {
        let mut cursor = self.cursor();
        cursor.take(b']'); // of user[password]
        for _ in 0..MAX_INDEXES {
            if cursor.take(b'[').is_none() {
                break;
            }
            cursor.skip(MAX_INDEX, |byte| {
                !matches!(byte, b'[' | b']' | b'=' | b'&' | b'/')
            });
            cursor.take(b']')?;
        }
        let key = cursor.quote();
        cursor.skip(usize::MAX, is_space);
        let sign = cursor.next()?;
        if sign.byte == b'=' && key.is_none() {
            return Some(Value {
                start: cursor.at,
                depth: sign.depth,
                shape: Shape::Parameter {
                    space: self.before.space(),
                },
            });
        }
        if sign.byte != b':' {
            return None;
        }
        cursor.skip(usize::MAX, is_space);
        if cursor.take(b'[').is_some() {
            cursor.skip(usize::MAX, is_space);
        }
        let (depth, shape) = match (cursor.quote(), key) {
            (Some(quote), _) => (quote.depth, Shape::Quoted(quote)),
            (None, Some(key)) if cursor.begins_scalar() => (key.depth, Shape::Bare),
            (None, _) => return None,
        };
        Some(Value {
            start: cursor.at,
            depth: depth.max(sign.depth),
            shape,
        })
    }

    /// Returns the credential that a value is, if it has the form of one.
    fn value(&mut self, rule: &'n Rule, value: Value) -> Option<Credential<'n>> {
        let min = match rule.form {
            Form::Password => {
                let (end, marks) = self.password(&value);
                let text = &self.text[value.start..end];
                let is_literal = matches!(value.shape, Shape::Bare)
                    && matches!(text, b"null" | b"true" | b"false");
                return (!text.is_empty() && !is_literal).then_some(Credential {
                    range: value.start..end,
                    reason: Reason::Name(&rule.name),
                    marks,
                });
            }
            Form::Token { min } => min,
            Form::Authorization => MIN_TOKEN,
        };
        let value = match rule.form {
            Form::Authorization => self.behind_scheme(value),
            _ => value,
        };
        Some(Credential {
            range: self.token(&value, min)?,
            reason: Reason::Name(&rule.name),
            marks: Marks::default(),
        })
    }

    /// Returns the end of a password, and what it contains.
    fn password(&self, value: &Value) -> (usize, Marks) {
        let mut cursor = self.cursor();
        cursor.at = value.start;
        let mut marks = Marks::default();
        let mut backslashes = Backslashes::default();
        while let Some(character) = cursor.peek() {
            if self.ends(value, &character, &backslashes) {
                break;
            }
            marks.note(self.unspaced(&character, value.depth));
            backslashes.pass(&character, cursor.at);
            cursor.at += character.len;
        }
        (backslashes.start_at(cursor.at, value), marks)
    }

    /// Returns the byte of a character, or a space for `+` in a query.
    fn unspaced(&self, character: &Character, depth: u8) -> u8 {
        match character.byte {
            b'+' if self.part == Part::Query && character.depth <= depth => b' ',
            byte => byte,
        }
    }

    /// Returns the range of a token. A value with other characters, or a shorter one, is not a
    /// token.
    fn token(&mut self, value: &Value, min: usize) -> Option<Range<usize>> {
        let is_parameter = matches!(value.shape, Shape::Parameter { .. });
        let payload = self.payloads[usize::from(value.depth)];
        if is_parameter && value.start < payload || web_token(self.text, value.start).is_some() {
            return None;
        }
        let mut cursor = self.cursor();
        cursor.at = value.start;
        let (mut count, mut last) = (0, 0);
        let mut backslashes = Backslashes::default();
        while let Some(character) = cursor.peek() {
            if self.ends(value, &character, &backslashes) {
                break;
            }
            let is_token = match (character.byte, last) {
                (b'\\', _) => value.is_quoted(), // of the closing quote
                (_, b'\\') | (b'.', b'.') => false,
                _ => value.may_hold(&character),
            };
            if !is_token {
                if is_parameter {
                    self.payloads[usize::from(value.depth)] = cursor.at;
                }
                return None;
            }
            backslashes.pass(&character, cursor.at);
            count += usize::from(character.byte != b'\\');
            last = character.byte;
            cursor.at += character.len;
        }
        (count >= min).then_some(value.start..backslashes.start_at(cursor.at, value))
    }

    /// Whether a character ends a value. A delimiter does so only if it is encoded no deeper than
    /// what introduced the value: `%26` ends it in `next=%3Fpwd%3Da%26b`, but not in `pwd=a%26b`.
    fn ends(&self, value: &Value, character: &Character, backslashes: &Backslashes) -> bool {
        let &Character { byte, depth, .. } = character;
        let is_outer = depth <= value.depth;
        // The delimiters of a URL may stand in a string that is encoded as a whole.
        let is_delimiter = match value.shape {
            Shape::Quoted(_) => depth < value.depth || depth == 0,
            Shape::Parameter { .. } | Shape::Bare => is_outer,
        };
        match byte {
            b'&' | b'#' | b';' | b'|' if is_delimiter => return true,
            // A server may read an encoded slash as a slash.
            b'/' if self.part != Part::Query => return true,
            b'?' if self.part != Part::Query && is_delimiter => return true,
            b'=' if depth < value.depth => return true,
            _ => {}
        }
        match value.shape {
            Shape::Parameter { space } => {
                is_space(byte) && space.is_some_and(|space| depth <= space)
            }
            Shape::Quoted(quote) => byte == quote.byte && is_outer && backslashes.close(quote),
            Shape::Bare => {
                is_outer && (matches!(byte, b',' | b'}' | b']' | b')' | b'"') || is_space(byte))
            }
        }
    }

    /// Skips the name of an authentication scheme and the space behind it, if the value begins with
    /// them.
    fn behind_scheme(&self, value: Value) -> Value {
        let mut cursor = self.cursor();
        cursor.at = value.start;
        cursor.skip(MAX_SCHEME, |byte| byte.is_ascii_alphabetic());
        let word = cursor.at;
        cursor.skip(usize::MAX, is_space);
        if word == value.start || word == cursor.at {
            return value;
        }
        Value {
            start: cursor.at,
            ..value
        }
    }

    /// Returns the token behind `Bearer` and a space, in a text or a quoted string.
    fn bearer(&mut self, space: &Character) -> Option<Credential<'n>> {
        let mut cursor = self.cursor();
        cursor.skip(usize::MAX, is_space);
        let start = cursor.at;
        let quoted = match self.before {
            Before::Quote(quote) => self.token(
                &Value {
                    start,
                    depth: quote.depth,
                    shape: Shape::Quoted(quote),
                },
                MIN_TOKEN,
            ),
            _ => None,
        };
        let layer = u8::from(space.byte != b'+'); // an encoded space is one layer deeper
        let word = Value {
            start,
            depth: space.depth.saturating_sub(layer),
            shape: Shape::Parameter {
                space: Some(space.depth),
            },
        };
        let range = quoted.or_else(|| self.token(&word, MIN_TOKEN))?;
        (!is_word(&self.text[range.clone()])).then_some(Credential {
            range,
            reason: Reason::Bearer,
            marks: Marks::default(),
        })
    }

    /// Returns the password before the host of a URL, whose scheme ends at `colon`.
    fn user_information(&self, colon: &Character) -> Option<Credential<'n>> {
        let mut cursor = self.cursor();
        cursor.at += colon.len;
        let mut depth = colon.depth;
        for _ in 0..2 {
            cursor.take(b'\\'); // JSON may escape a slash
            depth = depth.max(cursor.take(b'/')?.depth);
        }
        let (mut start, mut end) = (None, None);
        let mut last = 0;
        let (mut marks, mut marks_before_end) = (Marks::default(), Marks::default());
        while let Some(character) = cursor.peek() {
            if self.ends_authority(&character, depth) || (last, character.byte) == (b'.', b'.') {
                break;
            }
            let at = cursor.at;
            cursor.at += character.len;
            last = character.byte;
            match character.byte {
                b'@' if character.depth <= depth && cursor.begins_host() => {
                    (end, marks_before_end) = (Some(at), marks);
                }
                b':' if start.is_none() => start = Some(cursor.at),
                _ if start.is_some() => marks.note(self.unspaced(&character, depth)),
                _ => {}
            }
        }
        let range = start?..end?;
        (!range.is_empty() && !self.begins_with_port(range.start)).then_some(Credential {
            range,
            reason: Reason::UserInformation,
            marks: marks_before_end,
        })
    }

    /// Whether the number of a port is at this position, and something other than a host behind it.
    fn begins_with_port(&self, at: usize) -> bool {
        let mut cursor = self.cursor();
        cursor.at = at;
        cursor.skip(MAX_PORT, |byte| byte.is_ascii_digit());
        let is_end = |next: Character| next.byte != b'@' && !next.byte.is_ascii_alphanumeric();
        cursor.at > at && cursor.peek().is_some_and(is_end)
    }

    /// Whether a character cannot be part of an authority (RFC 3986, section 3.2), or belongs to
    /// the URL around it. The delimiters of what attacks consist of are neither, even if they are
    /// encoded deeper, as in a password that contains one.
    fn ends_authority(&self, character: &Character, depth: u8) -> bool {
        let is_query = self.part == Part::Query;
        let is_path = !is_query && (self.part == Part::Path || self.name.start > 0);
        match character.byte {
            b'/' | b'?' | b'&' | b'=' | 0..=b' ' | 0x7f => true,
            b'+' => is_query && character.depth == 0, // a space
            b';' => is_path && character.depth == 0,
            b'#' | b'\\' | b'<' | b'>' | b'"' | b'{' | b'|' | b'}' | b'^' | b'`' => {
                character.depth <= depth
            }
            _ => false,
        }
    }

    /// Goes to the payload of a JSON Web Token that begins here. Its header stays.
    fn begin_web_token(&mut self, first: &Character) -> bool {
        if first.byte != WEB_TOKEN[0] {
            return false;
        }
        let Some(found) = web_token(self.text, self.at) else {
            return false;
        };
        (self.at, self.web_token) = (found.start, found.end);
        true
    }

    /// Returns the next part of the JSON Web Token at `self.at`, or `None` at its end.
    fn web_token_part(&mut self) -> Option<Credential<'n>> {
        let mut cursor = self.cursor();
        cursor.skip(usize::MAX, |byte| byte == b'.');
        let start = cursor.at.min(self.web_token);
        cursor.skip(usize::MAX, |byte| is_name_byte(byte) || byte == b'=');
        self.at = cursor.at.min(self.web_token);
        (start < self.at).then_some(Credential {
            range: start..self.at,
            reason: Reason::WebToken,
            marks: Marks::default(),
        })
    }
}

/// Whether a text behind `Bearer` is a word of a language rather than a token.
fn is_word(text: &[u8]) -> bool {
    text.len() < MIN_SIGNATURE
        && !text
            .iter()
            .any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase())
}

/// What stands directly before a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    /// What begins a parameter, and any spaces behind it.
    Parameter,
    /// The name is a word of a text, and the next space of this depth ends its value.
    Space(u8),
    Quote(Quote),
    Other,
}

impl Before {
    fn space(self) -> Option<u8> {
        match self {
            Self::Space(depth) => Some(depth),
            _ => None,
        }
    }
}

/// Where a value begins, and what ends it.
struct Value {
    start: usize,
    /// Layers of percent-encoding of what introduced it.
    depth: u8,
    shape: Shape,
}

impl Value {
    fn is_quoted(&self) -> bool {
        matches!(self.shape, Shape::Quoted(_))
    }

    /// Whether a token contains this character: clients encode `+` and `/`, and may encode `=` and
    /// `~`, but no other one.
    fn may_hold(&self, character: &Character) -> bool {
        let deepest = self.depth + 1;
        match character.byte {
            // A string may be encoded as a whole.
            b'+' | b'/' if self.is_quoted() => (1..=deepest).contains(&character.depth),
            b'+' | b'/' => character.depth == deepest,
            b'=' | b'~' => character.depth <= deepest,
            byte => (is_name_byte(byte) || byte == b'.') && character.depth <= self.depth,
        }
    }
}

#[derive(Clone, Copy)]
enum Shape {
    /// The value of a parameter, or a word of a text.
    Parameter {
        space: Option<u8>,
    },
    Quoted(Quote),
    /// A value of JSON that is not a string.
    Bare,
}

/// The backslashes directly before a character.
#[derive(Default)]
struct Backslashes {
    start: usize,
    count: usize,
}

impl Backslashes {
    fn pass(&mut self, character: &Character, at: usize) {
        if character.byte != b'\\' {
            self.count = 0;
            return;
        }
        if self.count == 0 {
            self.start = at;
        }
        self.count += 1;
    }

    /// Whether a quote behind these ends the string that the other quote opened. Each level of
    /// nesting doubles the backslashes of a quote in it, and adds one.
    fn close(&self, opening: Quote) -> bool {
        self.count < opening.backslashes
            || (self.count - opening.backslashes).is_multiple_of(2 * (opening.backslashes + 1))
    }

    /// Returns the end of a value before `at`, without the backslashes of the closing quote.
    fn start_at(&self, at: usize, value: &Value) -> usize {
        match value.shape {
            Shape::Quoted(_) if self.count > 0 => self.start,
            _ => at,
        }
    }
}

/// The part of a parameter's name that was read. `len` counts all of its bytes; only the first
/// [`MAX_NAME`] are stored.
struct Name {
    bytes: [u8; MAX_NAME],
    len: usize,
    /// Where it begins in the text.
    start: usize,
}

impl Default for Name {
    fn default() -> Self {
        Self {
            bytes: [0; MAX_NAME],
            len: 0,
            start: 0,
        }
    }
}

impl Name {
    fn push(&mut self, byte: u8, at: usize) {
        if self.len == 0 {
            self.start = at;
        }
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
        }
        self.len += 1;
    }

    /// Returns `None` if it is empty or too long.
    fn bytes(&self) -> Option<&[u8]> {
        self.bytes.get(..self.len).filter(|name| !name.is_empty())
    }
}

pub(super) const BEARER: &[u8; 6] = b"bearer";
