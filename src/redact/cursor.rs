//! *Cursor*: reads a text by characters, with all percent-encoding removed.

use crate::simd::hex;

/// Layers of percent-encoding that are decoded to find a URL inside a URL.
pub(super) const MAX_DEPTH: u8 = 4;

/// A position in a text, which moves by characters.
pub(super) struct Cursor<'a> {
    pub(super) text: &'a [u8],
    pub(super) at: usize,
}

impl Cursor<'_> {
    pub(super) fn peek(&self) -> Option<Character> {
        Character::at(self.text, self.at)
    }

    pub(super) fn next(&mut self) -> Option<Character> {
        let character = self.peek()?;
        self.at += character.len;
        Some(character)
    }

    pub(super) fn take(&mut self, byte: u8) -> Option<Character> {
        let character = self.peek().filter(|character| character.byte == byte)?;
        self.at += character.len;
        Some(character)
    }

    /// Skips up to `most` characters for which `matches` holds.
    pub(super) fn skip(&mut self, most: usize, matches: impl Fn(u8) -> bool) {
        for _ in 0..most {
            let Some(character) = self.peek().filter(|next| matches(next.byte)) else {
                return;
            };
            self.at += character.len;
        }
    }

    pub(super) fn quote(&mut self) -> Option<Quote> {
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

    /// Whether a value of JSON begins here that is neither an object nor an array.
    pub(super) fn begins_scalar(&self) -> bool {
        self.peek()
            .is_some_and(|next| !matches!(next.byte, b'{' | b'['))
    }

    pub(super) fn begins_host(&self) -> bool {
        self.peek()
            .is_some_and(|next| next.byte.is_ascii_alphanumeric() || next.byte == b'[')
    }
}

/// A character, with all its percent-encoding removed.
pub(super) struct Character {
    pub(super) byte: u8,
    /// Bytes of its encoded form.
    pub(super) len: usize,
    /// Layers of percent-encoding: `%2541` is `A` with a depth of 2.
    pub(super) depth: u8,
}

impl Character {
    #[inline]
    pub(super) fn at(text: &[u8], at: usize) -> Option<Self> {
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

/// An opening quote. Inside a string of JSON it has a backslash before it; in a string of that, three.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Quote {
    pub(super) byte: u8,
    pub(super) depth: u8,
    pub(super) backslashes: usize,
}

pub(super) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'+' | b'\t' | b'\n' | b'\r')
}
