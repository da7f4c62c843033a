//! *Mask*: finds the credentials of a URL, or of a part of one, and replaces them.
//!
//! Whoever sends a request writes most of its URL, and must not be able to hide in it what an
//! analysis looks for. So a value is masked only if it has the form of its credential, and a mask
//! never covers a delimiter of the URL or the name of a parameter.

use std::fmt;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::names::{Form, MAX_NAME, MIN_TOKEN, Names, Rule, is_name_byte};
use crate::simd::{Positions, equal, hex};
use wide::i8x16;

/// Replaces a credential.
const MASK: &[u8] = b"REDACTED";
/// Layers of percent-encoding that are decoded to find a URL inside a URL.
const MAX_DEPTH: u8 = 4;
/// Upper bound on the indexes behind a name, as in `password[a][0]`, and on the characters of each.
const MAX_INDEXES: usize = 4;
const MAX_INDEX: usize = 32;
/// Upper bound on the name of an authentication scheme, in characters.
const MAX_SCHEME: usize = 16;

/// The part of a URL in which a text begins. After the first `?` or `#` it is a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `/`, `?` and `;` end the value of a parameter (`;name=value`).
    Path,
    Query,
}

/// Appends the text with its credentials masked. Returns `None`, and appends nothing, if it has
/// none.
pub(super) fn mask(
    text: &[u8],
    part: Part,
    names: &Names,
    out: &mut Vec<u8>,
) -> Option<Range<usize>> {
    if is_plain(text, names) {
        return None;
    }
    let start = out.len();
    let mut copied = 0;
    for credential in Finder::new(text, part, names) {
        out.extend_from_slice(&text[copied..credential.range.start]);
        out.extend_from_slice(MASK);
        credential.marks.push(out);
        copied = credential.range.end;
    }
    if copied == 0 {
        return None;
    }
    out.extend_from_slice(&text[copied..]);
    Some(start..out.len())
}

/// Fast path: whether `text` certainly has no credential. It contains nothing that can encode or
/// quote, neither `@` nor `]`, not the start of a token, and no `=` follows the name of a
/// credential. Most logged values are plain.
pub(super) fn is_plain(text: &[u8], names: &Names) -> bool {
    // All bytes below `,` but `&`.
    let is_low = |bytes: i8x16| bytes.simd_lt(b','.cast_signed()) & !equal(bytes, b'&');
    let is_suspect = |bytes| {
        is_low(bytes)
            | equal(bytes, b'@')
            | equal(bytes, b']')
            | equal(bytes, b'=')
            | equal(bytes, WEB_TOKEN[2])
    };
    !Positions::new(text, is_suspect).any(|at| match text[at] {
        b'=' => is_assignment(text, at, names),
        b'+' => text[..at]
            .last_chunk()
            .is_some_and(|word: &[u8; BEARER.len()]| word.eq_ignore_ascii_case(BEARER)),
        byte if byte == WEB_TOKEN[2] => text[..=at].ends_with(WEB_TOKEN),
        b'!' | b'#' | b'$' | b'(' | b')' | b'*' => false,
        _ => true,
    })
}

/// Whether the `=` at this position may follow the name of a credential.
fn is_assignment(text: &[u8], at: usize, names: &Names) -> bool {
    let (before, last) = match text[..at] {
        [.., before, last] => (before, last),
        [last] => (0, last),
        [] => return false,
    };
    if !names.may_end_in(before, last) {
        return last == b'+'; // a space
    }
    let longest = &text[at.saturating_sub(MAX_NAME + 1)..at];
    let start = longest.iter().rposition(|byte| !is_name_byte(*byte));
    let name = &longest[start.map_or(0, |before| before + 1)..];
    names.rule(name).is_some()
}

/// A part of a text that is to be replaced.
#[derive(Debug)]
pub(super) struct Credential<'n> {
    pub(super) range: Range<usize>,
    pub(super) reason: Reason<'n>,
    marks: Marks,
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
struct Marks([bool; 5]);

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
    fn push(self, out: &mut Vec<u8>) {
        let noted = Self::NAMES.iter().zip(self.0).filter(|(_, is)| *is);
        let names: Vec<&str> = noted.map(|(name, _)| *name).collect();
        if !names.is_empty() {
            out.push(b'(');
            out.extend_from_slice(names.join(",").as_bytes());
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
    /// The depth of the space before the name, if there is one: the name is a word of a text, and
    /// the next space ends its value.
    space: Option<u8>,
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
            space: None,
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
            self.name.len = 0;
            if let Some(found) = found {
                self.at = found.range.end;
                self.space = None;
                return Some(found);
            }
            if matches!(character.byte, b'?' | b'#') && character.depth == 0 {
                self.part = Part::Query;
            }
            self.space = is_space(character.byte).then_some(character.depth);
            self.at += character.len;
        }
    }
}

impl<'a, 'n> Finder<'a, 'n> {
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
                shape: Shape::Parameter { space: self.space },
            });
        }
        if sign.byte != b':' {
            return None;
        }
        cursor.skip(usize::MAX, is_space);
        let (depth, shape) = match (cursor.quote(), key) {
            (Some(quote), _) => (quote.depth, Shape::Quoted(quote)),
            (None, Some(key)) => (key.depth, Shape::Bare),
            (None, None) => return None,
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
                return (end > value.start).then_some(Credential {
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
            // A server may read an encoded slash of a path as a slash.
            let is_slash = character.byte == b'/' && self.part == Part::Path;
            if is_slash || self.ends(value, &character, &backslashes) {
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
        while let Some(character) = cursor.peek() {
            if self.ends(value, &character, &Backslashes::default()) {
                break;
            }
            let is_token = match character.byte {
                b'+' | b'/' => {
                    character.depth > value.depth || !is_parameter && character.depth > 0
                }
                b'.' => last != b'.',
                b'=' | b'~' => true,
                byte => is_name_byte(byte),
            };
            if !is_token {
                if is_parameter {
                    self.payloads[usize::from(value.depth)] = cursor.at;
                }
                return None;
            }
            (count, last) = (count + 1, character.byte);
            cursor.at += character.len;
        }
        (count >= min).then_some(value.start..cursor.at)
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
            b'/' | b'?' if is_delimiter && self.part == Part::Path => return true,
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

    /// Returns the token behind `Bearer` and a space. It has a digit, as any long random text has;
    /// words do not.
    fn bearer(&mut self, space: &Character) -> Option<Credential<'n>> {
        let mut cursor = self.cursor();
        cursor.skip(usize::MAX, is_space);
        let layer = u8::from(space.byte != b'+'); // an encoded space is one layer deeper
        let value = Value {
            start: cursor.at,
            depth: space.depth.saturating_sub(layer),
            shape: Shape::Parameter {
                space: Some(space.depth),
            },
        };
        let range = self.token(&value, MIN_TOKEN)?;
        let has_digit = self.text[range.clone()].iter().any(u8::is_ascii_digit);
        has_digit.then_some(Credential {
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
        let (mut marks, mut marks_before_end) = (Marks::default(), Marks::default());
        while let Some(character) = cursor.peek() {
            if self.ends_authority(&character, depth) {
                break;
            }
            let at = cursor.at;
            cursor.at += character.len;
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
        (!range.is_empty()).then_some(Credential {
            range,
            reason: Reason::UserInformation,
            marks: marks_before_end,
        })
    }

    /// Whether a character cannot be part of an authority (RFC 3986, section 3.2), or belongs to
    /// the URL around it.
    fn ends_authority(&self, character: &Character, depth: u8) -> bool {
        let is_query = self.part == Part::Query;
        match character.byte {
            b'&' => is_query && (character.depth < depth || character.depth == 0),
            b'+' => is_query && character.depth == 0, // a space
            // A path that begins with a scheme is a whole URL.
            b';' => !is_query && character.depth == 0 && self.name.start > 0,
            b'/'
            | b'?'
            | b'#'
            | b'\\'
            | b'<'
            | b'>'
            | b'"'
            | b'{'
            | b'|'
            | b'}'
            | b'^'
            | b'`'
            | 0..=b' '
            | 0x7f => character.depth <= depth,
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

/// Where a value begins, and what ends it.
struct Value {
    start: usize,
    /// Layers of percent-encoding of what introduced it.
    depth: u8,
    shape: Shape,
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

/// An opening quote. Inside a string of JSON it has a backslash before it; in a string of that, three.
#[derive(Clone, Copy)]
struct Quote {
    byte: u8,
    depth: u8,
    backslashes: usize,
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

/// A position in a text, which moves by characters.
struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    fn peek(&self) -> Option<Character> {
        Character::at(self.text, self.at)
    }

    fn next(&mut self) -> Option<Character> {
        let character = self.peek()?;
        self.at += character.len;
        Some(character)
    }

    fn take(&mut self, byte: u8) -> Option<Character> {
        let character = self.peek().filter(|character| character.byte == byte)?;
        self.at += character.len;
        Some(character)
    }

    /// Skips up to `most` characters for which `matches` holds.
    fn skip(&mut self, most: usize, matches: impl Fn(u8) -> bool) {
        for _ in 0..most {
            let Some(character) = self.peek().filter(|next| matches(next.byte)) else {
                return;
            };
            self.at += character.len;
        }
    }

    fn quote(&mut self) -> Option<Quote> {
        let start = self.at;
        let mut backslashes = 0;
        while self.take(b'\\').is_some() {
            backslashes += 1;
        }
        if let Some(Character {
            byte: byte @ (b'"' | b'\''),
            len,
            depth,
        }) = self.peek()
        {
            self.at += len;
            return Some(Quote {
                byte,
                depth,
                backslashes,
            });
        }
        self.at = start;
        None
    }

    fn begins_host(&self) -> bool {
        self.peek()
            .is_some_and(|next| next.byte.is_ascii_alphanumeric() || next.byte == b'[')
    }
}

/// A character, with all its percent-encoding removed.
struct Character {
    byte: u8,
    /// Bytes of its encoded form.
    len: usize,
    /// Layers of percent-encoding: `%2541` is `A` with a depth of 2.
    depth: u8,
}

impl Character {
    #[inline]
    fn at(text: &[u8], at: usize) -> Option<Self> {
        let mut character = Self {
            byte: *text.get(at)?,
            len: 1,
            depth: 0,
        };
        while character.byte == b'%' && character.depth < MAX_DEPTH {
            let Some([high, low]) = text.get(at + character.len..at + character.len + 2) else {
                break;
            };
            let Some(byte) = hex(*high, *low) else { break };
            character = Self {
                byte,
                len: character.len + 2,
                depth: character.depth + 1,
            };
        }
        Some(character)
    }
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'+' | b'\t' | b'\n' | b'\r')
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

const BEARER: &[u8; 6] = b"bearer";

/// The base64url of `{"`, the beginning of every token's header.
const WEB_TOKEN: &[u8; 3] = b"eyJ";

/// Reads the header of a token, which may be truncated.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Returns what follows the header of the JSON Web Token (RFC 7519) that begins at `at`: at least
/// two dots, and something behind one of them.
fn web_token(text: &[u8], at: usize) -> Option<Range<usize>> {
    let mut cursor = Cursor { text, at };
    for byte in WEB_TOKEN {
        cursor.take(*byte)?;
    }
    cursor.at = at;
    let mut header = Vec::new();
    while let Some(character) = cursor.peek().filter(|next| is_name_byte(next.byte)) {
        header.push(character.byte);
        cursor.at += character.len;
    }
    header.truncate(header.len() - usize::from(header.len() % 4 == 1));
    let json = LENIENT.decode(header).ok()?;
    if !std::str::from_utf8(&json)
        .ok()?
        .chars()
        .all(|c| !c.is_control() || c.is_whitespace())
    {
        return None;
    }
    let padding = |byte| byte == b'=';
    cursor.skip(2, padding);
    let start = cursor.at;
    cursor.take(b'.')?;
    let payload = cursor.at;
    cursor.skip(usize::MAX, is_name_byte);
    cursor.skip(2, padding);
    let is_empty = cursor.at == payload;
    cursor.take(b'.')?;
    let signature = cursor.at;
    cursor.skip(usize::MAX, |byte| {
        is_name_byte(byte) || matches!(byte, b'=' | b'.')
    });
    (!is_empty || cursor.at > signature).then_some(start..cursor.at)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn masked_by(text: &str, part: Part, names: &Names) -> String {
        let mut out = Vec::new();
        let Some(range) = mask(text.as_bytes(), part, names, &mut out) else {
            assert!(out.is_empty());
            return text.to_owned();
        };
        String::from_utf8(out[range].to_vec()).unwrap()
    }

    fn masked(text: &str, part: Part) -> String {
        masked_by(text, part, &Names::default())
    }

    /// An expectation of `""` is the text itself.
    fn check(part: Part, cases: &[(&str, &str)]) {
        for (text, expected) in cases {
            let expected = if expected.is_empty() { text } else { expected };
            assert_eq!(masked(text, part), **expected, "{text}");
        }
    }

    // proves: I33
    #[test]
    fn password_is_masked_wherever_a_name_precedes_it() {
        check(
            Part::Query,
            &[
                ("password=x&a=1", "password=REDACTED&a=1"),
                ("a=1&PassWord=x", "a=1&PassWord=REDACTED"),
                (
                    "%70assword=x&%2570wd%253dx",
                    "%70assword=REDACTED&%2570wd%253dREDACTED",
                ),
                (
                    "user[password]=x&user%5Bpwd%5D=y",
                    "user[password]=REDACTED&user%5Bpwd%5D=REDACTED",
                ),
                (
                    "password[]=x&password[0]=y&password%5Ba%5D%5B1%5D=z",
                    "password[]=REDACTED&password[0]=REDACTED&password%5Ba%5D%5B1%5D=REDACTED",
                ),
                (
                    "user.password=x&user:password=y&user%3Apwd=z",
                    "user.password=REDACTED&user:password=REDACTED&user%3Apwd=REDACTED",
                ),
                (
                    "j_password=x&newPassword=y&passphrase=z",
                    "j_password=REDACTED&newPassword=REDACTED&passphrase=REDACTED",
                ),
                ("password%20=x&pwd+=y", "password%20=REDACTED&pwd+=REDACTED"),
                ("a=password=x", "a=password=REDACTED"),
                ("x=1|password=y", "x=1|password=REDACTED"),
                ("password=a/b?c%26d,e", "password=REDACTED"),
                (
                    "password=&pwd&password[&password[0=1&passwords=1&mypassword=2&password2=3",
                    "",
                ),
                ("[[[[password[[[[=x", ""),
                (
                    "next=https%3A%2F%2Fh%2F%3Fpwd%3Dsecret%26a%3Db&z=1",
                    "next=https%3A%2F%2Fh%2F%3Fpwd%3DREDACTED%26a%3Db&z=1",
                ),
                (
                    "next=%252F%253Fpwd%253Dsecret%2526a&z=1",
                    "next=%252F%253Fpwd%253DREDACTED%2526a&z=1",
                ),
                (
                    "n=%2525253Fpwd%2525253Da%25252526b%26c",
                    "n=%2525253Fpwd%2525253DREDACTED%25252526b%26c",
                ),
                ("100%&%zz=%", ""),
                ("=&=x&+=x&]=", ""),
                ("", ""),
            ],
        );
    }

    // proves: I60
    #[test]
    fn masked_password_tells_what_it_held() {
        check(
            Part::Query,
            &[
                ("pwd='+OR+1=1--", "pwd=REDACTED(quote,space)"),
                ("pwd=a%20b&x=%20", "pwd=REDACTED(space)&x=%20"),
                ("pwd=%3Cscript%3E", "pwd=REDACTED(bracket)"),
                ("pwd=a%3Bls&n=1", "pwd=REDACTED(semicolon)&n=1"),
                ("pwd=a%00%0d%0a", "pwd=REDACTED(control)"),
                (
                    "pwd=%2527%2520%253C%253B%250a",
                    "pwd=REDACTED(quote,space,bracket,semicolon,control)",
                ),
                ("pwd=a%2Bb", "pwd=REDACTED"),
                ("pwd=a!$*-b", "pwd=REDACTED"),
            ],
        );
        check(
            Part::Path,
            &[
                ("/a;pwd=a+b", "/a;pwd=REDACTED"),
                ("/a;pwd=(a)", "/a;pwd=REDACTED(bracket)"),
            ],
        );
    }

    // proves: I61
    #[test]
    fn delimiters_end_a_password() {
        check(
            Part::Query,
            &[
                ("pwd=x;id=1'+UNION", "pwd=REDACTED;id=1'+UNION"),
                ("pwd=x|id=1", "pwd=REDACTED|id=1"),
                ("pwd=x#id=1", "pwd=REDACTED#id=1"),
                ("pwd%3Dx=1", "pwd%3DREDACTED=1"),
                ("a=%3Fpwd%3Dx%3Bb=1", "a=%3Fpwd%3DREDACTED%3Bb=1"),
                // In a text, the next word is not part of it.
                (
                    "id=1+AND+pwd=x+UNION+SELECT",
                    "id=1+AND+pwd=REDACTED+UNION+SELECT",
                ),
                (
                    "id=1%20AND%20pwd=x%20UNION",
                    "id=1%20AND%20pwd=REDACTED%20UNION",
                ),
            ],
        );
        check(
            Part::Path,
            &[
                (
                    "/a;sig=0123456789abcdef/b;password=y",
                    "/a;sig=REDACTED/b;password=REDACTED",
                ),
                ("/a;pwd=x;y/z", "/a;pwd=REDACTED;y/z"),
                ("/sig%3Dx/../api/users/1", ""),
                ("/sig%3D0123456789abcdef/../api", "/sig%3DREDACTED/../api"),
                ("/pwd%3dx/../../etc", "/pwd%3dREDACTED/../../etc"),
                ("/pwd%253dx/../../etc", "/pwd%253dREDACTED/../../etc"),
                ("/pwd%253dx;y/etc", "/pwd%253dREDACTED;y/etc"),
                ("/pwd=x%2f..%2Fetc", "/pwd=REDACTED%2f..%2Fetc"),
                ("/pwd=%252f..%252fetc", ""),
                ("/old?pwd=x/y&b", "/old?pwd=REDACTED&b"),
                ("https://h/p#pwd=a/b?d&e=f", "https://h/p#pwd=REDACTED&e=f"),
                ("/reset/password/form", ""),
            ],
        );
    }

    // proves: I62
    #[test]
    fn token_is_masked_only_if_it_looks_like_one() {
        check(
            Part::Query,
            &[
                ("access_token=a1b2c3&x=1", "access_token=REDACTED&x=1"),
                ("access_token[]=a1b2c3", "access_token[]=REDACTED"),
                ("token=a-b_c~d.e==", "token=REDACTED"),
                (
                    "X-Amz-Security-Token=t%2Fa%2Bb%2fc%3D&X-Amz-Date=20260101T000000Z",
                    "X-Amz-Security-Token=REDACTED&X-Amz-Date=20260101T000000Z",
                ),
                (
                    "Policy=eyJTdGF0ZW1lbnQi&Signature=a~b_0123456789ab&Key-Pair-Id=APKAEXAMPLE&Expires=1",
                    "Policy=REDACTED&Signature=REDACTED&Key-Pair-Id=REDACTED&Expires=1",
                ),
                (
                    "apiKey=abc123&sessionId=abc123&otp=123456&code=123456",
                    "apiKey=REDACTED&sessionId=REDACTED&otp=REDACTED&code=REDACTED",
                ),
                ("n=%3Ftoken%3Dab%252Fcde%26x", "n=%3Ftoken%3DREDACTED%26x"),
                ("token=abcdef;a=1|b", "token=REDACTED;a=1|b"),
                (
                    "authorization=Bearer%20abcdef&Authorization=Basic+dTpw%3D%3D",
                    "authorization=Bearer%20REDACTED&Authorization=Basic+REDACTED",
                ),
                ("authorization=abcdef", "authorization=REDACTED"),
                ("authorization=a+b", ""),
                // Too short.
                (
                    "code=12345&token=abcde&sig=0123456789abcde&policy=1001&signature=",
                    "",
                ),
                // Payloads.
                ("policy=1001'%20OR%201=1-------", ""),
                ("signature=<script>alert(1)</script>", ""),
                ("sig=../../../../etc/passwd", ""),
                ("token=..%2F..%2Fetc%2Fpasswd", ""),
                ("token=%2e%2e%2Fetc", ""),
                ("token=abc+def", ""),
                ("token=abc/def", ""),
                ("token=abcdef%00", ""),
                ("token=abcdef%E2%80%A8", ""),
                ("code=abcdef%27&page_token=abc,def", ""),
                // What a payload contains is searched.
                ("token=x%3Fpwd%3Dy", "token=x%3Fpwd%3DREDACTED"),
                ("token=!token=abcdef", "token=!token=REDACTED"),
                ("token=https://u:p@h/", "token=https://u:REDACTED@h/"),
            ],
        );
    }

    // proves: I33
    #[test]
    fn members_of_objects_are_masked() {
        check(
            Part::Query,
            &[
                (
                    r#"q={"password":"x","a":1}"#,
                    r#"q={"password":"REDACTED","a":1}"#,
                ),
                ("q={'password' : 'x'}", "q={'password' : 'REDACTED'}"),
                (
                    "q=%7B%22user%22%3A%7B%22pwd%22%3A+%22a%26b%3Bc%22%7D%7D&z=1",
                    "q=%7B%22user%22%3A%7B%22pwd%22%3A+%22REDACTED(semicolon)%22%7D%7D&z=1",
                ),
                (
                    "q=%257B%2522pwd%2522%253A%2522x%2522%257D",
                    "q=%257B%2522pwd%2522%253A%2522REDACTED%2522%257D",
                ),
                (
                    r#"q={"password":"a\"b\\","c":"d"}"#,
                    r#"q={"password":"REDACTED(quote)\\","c":"d"}"#,
                ),
                (
                    r#"q="{\"pwd\":\"a\\\"b\",\"c\":1}""#,
                    r#"q="{\"pwd\":\"REDACTED(quote)\",\"c\":1}""#,
                ),
                (
                    r#"q={"password":12345,"otp":123456}"#,
                    r#"q={"password":REDACTED,"otp":REDACTED}"#,
                ),
                (
                    r#"q={"token":"ab/cdefg","access_token":"abcdef"}"#,
                    r#"q={"token":"ab/cdefg","access_token":"REDACTED"}"#,
                ),
                (
                    "q=%7B%22token%22%3A%22ab%2Fcdefg%22%7D",
                    "q=%7B%22token%22%3A%22REDACTED%22%7D",
                ),
                (
                    r#"query={login(password:"x",user:"y")}"#,
                    r#"query={login(password:"REDACTED",user:"y")}"#,
                ),
                ("query={login(password:$pw)}&q=password:x", ""),
                (r#"q={"password":""}&q={"password"}"#, ""),
                // A quote that is not closed hides nothing behind the parameter.
                (
                    r#"q={"password":"x&id=1;y"#,
                    r#"q={"password":"REDACTED&id=1;y"#,
                ),
                (
                    r#"q={"password":"x;id=1"}"#,
                    r#"q={"password":"REDACTED;id=1"}"#,
                ),
            ],
        );
        check(
            Part::Path,
            &[(r#"/{"pwd":"x/../y"}"#, r#"/{"pwd":"REDACTED/../y"}"#)],
        );
    }

    // proves: I63
    #[test]
    fn only_the_password_before_a_host_is_masked() {
        check(
            Part::Query,
            &[
                (
                    "u=https://me:secret@h/p&a@b",
                    "u=https://me:REDACTED@h/p&a@b",
                ),
                (
                    "u=https%3A%2F%2Fme%3Asecret%40h%2Fp&a",
                    "u=https%3A%2F%2Fme%3AREDACTED%40h%2Fp&a",
                ),
                (
                    "u=https%253A%252F%252Fme%253Aa%2526b%2540h",
                    "u=https%253A%252F%252Fme%253AREDACTED%2540h",
                ),
                (
                    "u=postgres://me:a@b@[::1]/",
                    "u=postgres://me:REDACTED@[::1]/",
                ),
                (
                    r#"u={"a":"https:\/\/u:p@h"}"#,
                    r#"u={"a":"https:\/\/u:REDACTED@h"}"#,
                ),
                ("u=https://u:p'%20@h", "u=https://u:REDACTED(quote,space)@h"),
                ("u=https://me@h/&v=https://:@h/&w=https://me:@h", ""),
                ("u=//me:secret@h/", ""),
                ("q=//1'%20UNION%20SELECT%20password%20FROM%20users--@", ""),
                ("q=x://1:'+UNION+SELECT+1@h", ""),
                ("q=x://1:<svg>@h", ""),
                ("q=x://1:a@", ""),
                ("u=https://u:p&id=1@h", ""),
                (
                    "redirect=%2Fusers%2Falice@example.com&file=%2F..%2Fetc:x%2Fpasswd@",
                    "",
                ),
            ],
        );
        check(
            Part::Path,
            &[
                (
                    "https://u:p;q&r@h/?a=b#token=abcdef",
                    "https://u:REDACTED(semicolon)@h/?a=b#token=REDACTED",
                ),
                ("//user:p@host/x", ""),
                ("/api//..;..;admin@x/1", ""),
                ("/api/x://a:..;..;admin@x/1", ""),
                ("/proxy/https://u:p@h/x", "/proxy/https://u:REDACTED@h/x"),
                ("/api/items//<svg%20onload=alert(1)>@x", ""),
                ("/npm/@scope%2Fname@1.2.3", ""),
                ("/@me/a@b", ""),
            ],
        );
    }

    const HEADER: &str = "eyJhbGciOiJub25lIn0";

    // proves: I64
    #[test]
    fn web_token_keeps_only_its_header() {
        let token = format!("{HEADER}.eyJhIjoxfQ.c2ln");
        let kept = format!("{HEADER}.REDACTED.REDACTED");
        for around in [
            "t=*&b=1",
            "*",
            "auth=Bearer+*",
            "auth=Bearer%20*&a",
            "jwt:*",
            "t=s%3A*",
            "t=%2527*%2527",
            "/verify/*/now",
            "token=*",
            "{\"token\":\"*\"}",
            "authorization=Bearer%20*",
            "a|*|b",
        ] {
            assert_eq!(
                masked(&around.replace('*', &token), Part::Query),
                around.replace('*', &kept)
            );
        }
        let stays = |text: &str| assert_eq!(masked(text, Part::Query), text);
        stays(&format!("t={HEADER}.eyJhIjoxfQ&u=keyJob.a.b"));
        stays(&format!("x{token}"));
        stays(&format!("t={HEADER}..&u=eyJquery.min.js&v=eyJ"));
        for (text, expected) in [
            ("*.eyJhIjoxfQ.", "*.REDACTED."),
            ("*..c2ln", "*..REDACTED"),
            ("*.a.b.c.d", "*.REDACTED.REDACTED.REDACTED.REDACTED"),
            ("*%3D.a%2Eb==&x", "*%3D.REDACTED%2EREDACTED&x"),
            ("eyJh.a.b", "eyJh.REDACTED.REDACTED"),
            ("%65yJh.a.b/c", "%65yJh.REDACTED.REDACTED/c"),
        ] {
            let [text, expected] = [text, expected].map(|text| text.replace('*', HEADER));
            assert_eq!(masked(&text, Part::Path), expected);
        }
    }

    // proves: I64
    #[test]
    fn bearer_token_is_masked() {
        check(
            Part::Query,
            &[
                ("auth=Bearer+abc123&x", "auth=Bearer+REDACTED&x"),
                ("auth=bearer%20abc123%2Fd+x", "auth=bearer%20REDACTED+x"),
                (
                    "n=%3Fa%3DBEARER%2520abc123%26b",
                    "n=%3Fa%3DBEARER%2520REDACTED%26b",
                ),
                ("Bearer abc123", "Bearer REDACTED"),
                ("q=bearer+certificate&a=Bearer+a1b2c&b=Bearer+abc123'", ""),
                ("q=ball-bearer+abc123", ""),
            ],
        );
    }

    // proves: I65
    #[test]
    fn edited_names_are_masked() {
        let names = Names::parse("on,+pin,-password").unwrap().unwrap();
        for (text, expected) in [
            (
                "pin=1'&user[pin]=2&password=3",
                "pin=REDACTED(quote)&user[pin]=REDACTED&password=3",
            ),
            ("PIN=0&token=abcdef", "PIN=REDACTED&token=REDACTED"),
        ] {
            assert_eq!(masked_by(text, Part::Query, &names), expected);
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let words = prop::sample::select(vec![
            "password",
            "sig",
            "x-AMZ-Security-Token",
            "Refresh_token",
            "code",
            "aaaaaaaaaaaaaaaaaaaaaaaaa",
            "x",
            "9",
            "=",
            "&",
            "?",
            "/",
            "//",
            "://",
            ":",
            ";",
            "|",
            "#",
            ",",
            "[",
            "]",
            ".",
            "..",
            "-",
            "+",
            "\"",
            "\\",
            "'",
            "{",
            "}",
            "%",
            "%3d",
            "%2F",
            "%22",
            "%252f",
            "%2526",
            "%70",
            "@",
            "%40",
            "eyJ",
            "eyJh",
            "eyJh.eyJh.x",
            "bearer",
            "\u{e9}",
            " ",
            "\n",
        ]);
        prop::collection::vec(words, 0..12).prop_map(|words| words.concat())
    }

    fn parts() -> impl Strategy<Value = Part> {
        prop::sample::select(vec![Part::Path, Part::Query])
    }

    fn slashes(text: &str) -> usize {
        text.matches('/').count()
    }

    /// The names of the parameters of a query, or of a path's query.
    fn parameters(text: &str, part: Part) -> Vec<&str> {
        let query = match part {
            Part::Query => text,
            Part::Path => text.find(['?', '#']).map_or("", |at| &text[at + 1..]),
        };
        let names = query
            .split('&')
            .map(|parameter| parameter.split('=').next().unwrap());
        names.collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// The fast path never skips text in which the slow one finds a credential.
        #[test]
        fn plain_text_has_no_credential(text in text(), part in parts()) {
            let names = Names::default();
            let found = Finder::new(text.as_bytes(), part, &names).next();
            prop_assert!(!is_plain(text.as_bytes(), &names) || found.is_none(), "{}: {:?}", text, found);
        }

        // proves: I61
        #[test]
        fn masking_keeps_slashes_and_names(text in text(), part in parts()) {
            let masked = masked(&text, part);
            if part == Part::Path {
                let path = |text: &str| slashes(text.split(['?', '#']).next().unwrap());
                prop_assert_eq!(path(&masked), path(&text), "{}", masked);
            }
            let is_plain = |name: &&str| !name.contains(['%', '"', '\'', '@', ':', '+', ' ']) && !name.contains("eyJ");
            let kept: Vec<_> = parameters(&text, part).into_iter().filter(is_plain).collect();
            let found = parameters(&masked, part);
            prop_assert_eq!(found.len(), parameters(&text, part).len(), "{}", masked);
            for name in kept {
                prop_assert!(found.contains(&name), "{}: {}", name, masked);
            }
        }

        // proves: I61
        #[test]
        fn text_without_a_credential_is_unchanged(words in prop::collection::vec("[a-z]{0,2}|[&=/?;@%+.]|%[2-5][0-9a-f]|//|\"", 0..20), part in parts()) {
            let text = words.concat();
            let flat = flat(&text);
            let names = ["pwd", "sig", "otp", "code", "token", "://", "eyJ", "bearer"];
            prop_assume!(!names.iter().any(|name| flat.contains(name)));
            prop_assert_eq!(masked(&text, part), text);
        }
    }

    fn flat(text: &str) -> String {
        let mut cursor = Cursor {
            text: text.as_bytes(),
            at: 0,
        };
        let bytes = std::iter::from_fn(|| cursor.next()).map(|character| character.byte);
        String::from_utf8_lossy(&bytes.collect::<Vec<_>>()).into_owned()
    }

    /// Long patterns that would take quadratic time if parts of them were searched again and again.
    #[test]
    fn hostile_text_is_searched_in_linear_time() {
        for pattern in [
            "token=",
            "sig=a",
            "password[",
            "password[a]",
            "password+",
            "eyJ",
            "eyJh.",
            ".eyJh",
            "=eyJh=",
            "x://",
            "x%3A%2F%2Fa:",
            "x://a:@",
            "bearer+",
            "bearer+1",
            "\"password\":",
            "\"token\":\"",
            "\\\"",
            "token%3D",
            "authorization=a+",
            "a@",
            "%252525252525",
        ] {
            let text = pattern.repeat(100_000 / pattern.len()) + "<";
            for part in [Part::Path, Part::Query] {
                masked(&text, part);
            }
        }
    }
}
