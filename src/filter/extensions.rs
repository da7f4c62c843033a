//! *Extensions* of static assets, each with the family of media types that fits it.

use std::collections::BTreeSet;
use std::fmt;

use super::media::Family;

/// Extensions found in at least three of six well-known lists of static assets, and newer image,
/// video and module formats. Documents, archives, JSON, XML and HTML are left out: an API may serve
/// them.
const DEFAULT_EXTENSIONS: &str = "css,js,map,mjs,png,jpg,jpeg,gif,svg,svgz,webp,avif,bmp,ico,tif,tiff,woff,woff2,ttf,otf,eot,\
                                  mp3,mp4,webm,ogg,ogv,avi,wav,mov,mkv,flac,flv,swf";

/// Longest extension, in bytes: it must fit in the `u128` of [`Extension`].
pub(crate) const MAX_EXTENSION: usize = 16;

/// A lower-case extension, padded with zeros to 16 bytes and stored as one number, so a comparison
/// needs no loop. The numbers sort like the extensions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extension(u128);

impl Extension {
    /// Returns `None` if `text` is empty, too long, or contains anything but ASCII letters and
    /// digits.
    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; MAX_EXTENSION];
        if text.is_empty() || text.len() > bytes.len() {
            return None;
        }
        // A call of `memcpy` would cost more.
        for (to, from) in bytes.iter_mut().zip(text) {
            if !from.is_ascii_alphanumeric() {
                return None;
            }
            *to = from.to_ascii_lowercase();
        }
        Some(Self(u128::from_be_bytes(bytes)))
    }
}

impl fmt::Display for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.0.to_be_bytes();
        let letters = bytes.into_iter().take_while(|byte| *byte != 0);
        f.write_str(&letters.map(char::from).collect::<String>())
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a string is not a list of extensions. Positions count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionsError {
    /// It mixes extensions with edits of the built-in list.
    Mixed,
    Invalid {
        position: usize,
    },
}

/// The listed extensions, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions(Vec<(Extension, Family)>);

impl Extensions {
    /// Returns the built-in list.
    pub(super) fn built_in() -> Self {
        let texts = DEFAULT_EXTENSIONS.split(',');
        Self::new(texts.filter_map(|text| Extension::new(text.as_bytes())))
    }

    fn new(extensions: impl IntoIterator<Item = Extension>) -> Self {
        let sorted: BTreeSet<Extension> = extensions.into_iter().collect();
        let with_family = |extension: Extension| (extension, Family::of(&extension.to_string()));
        Self(sorted.into_iter().map(with_family).collect())
    }

    /// Reads a list that replaces the built-in one, or edits it.
    pub(super) fn parse(text: &str) -> Result<Self, ExtensionsError> {
        let words: Vec<&str> = text
            .split(',')
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .collect();
        let edits = words
            .iter()
            .filter(|word| word.starts_with(['+', '-']))
            .count();
        if edits != 0 && edits != words.len() {
            return Err(ExtensionsError::Mixed);
        }
        let mut extensions: BTreeSet<Extension> = if edits == 0 {
            BTreeSet::new()
        } else {
            Self::built_in().iter().collect()
        };
        for (position, word) in (1..).zip(words) {
            let extension = word.trim_start_matches(['+', '-']).trim_start_matches('.');
            let extension = Extension::new(extension.as_bytes())
                .ok_or(ExtensionsError::Invalid { position })?;
            if word.starts_with('-') {
                extensions.remove(&extension)
            } else {
                extensions.insert(extension)
            };
        }
        Ok(Self::new(extensions))
    }

    /// Returns the extensions, sorted.
    pub(super) fn iter(&self) -> impl Iterator<Item = Extension> {
        self.0.iter().map(|(extension, _)| *extension)
    }

    /// Returns the listed extension in which a name ends, in any case.
    pub(super) fn find(&self, name: &[u8]) -> Option<(Extension, Family)> {
        let dot = memchr::memrchr(b'.', name)?;
        let extension = Extension::new(&name[dot + 1..])?;
        let index = self
            .0
            .binary_search_by_key(&extension, |(known, _)| *known)
            .ok()?;
        self.0.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_extension_has_a_family() {
        for extension in Extensions::built_in().iter() {
            let family = Family::of(&extension.to_string());
            assert_ne!(family, Family::Any, "{extension}");
        }
    }
}
