//! *`.env` files*: parsed, and never passed to a shell, so that a secret may contain any character.
//!
//! A line is `NAME=VALUE`, optionally after `export`. A value in single quotes is literal. In double
//! quotes `\"`, `\\`, `\$` and `` \` `` are one character each, as in a shell, and nothing is expanded.
//! A value without quotes is literal and ends at white space followed by `#`, or at the end of the
//! line. Blank lines and lines that begin with `#` are ignored.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use crate::settings::{Message, Problem, Setting, messages};

/// A line that cannot be read. It contains a name at most, never a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DotenvError {
    /// Counted from 1.
    pub line: usize,
    /// The earlier line with the same name, for [`messages::DOTENV_TWICE`].
    first: Option<usize>,
    /// The name on that line, if it is valid.
    pub(crate) name: Option<String>,
    pub message: Message,
}

impl DotenvError {
    /// Returns the problem, in words. `file` is the name of the file.
    pub(crate) fn problem(&self, file: &str) -> Problem {
        self.message.problem(&[
            ("line", &self.line.to_string()),
            ("first", &self.first.unwrap_or(self.line).to_string()),
            ("name", self.name.as_deref().unwrap_or_default()),
            ("file", file),
        ])
    }
}

/// Returns the variables of a `.env` file, and the lines that cannot be read.
pub fn parse(text: &str) -> (BTreeMap<String, String>, Vec<DotenvError>) {
    let (mut variables, mut errors) = (BTreeMap::new(), Vec::new());
    for (line, content) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        let error = |name: Option<&str>, first, message| DotenvError {
            line,
            first,
            name: name.map(str::to_owned),
            message,
        };
        match assignment(content) {
            Ok((name, Ok(value))) => match variables.entry(name.to_owned()) {
                Entry::Vacant(entry) => _ = entry.insert((line, value)),
                Entry::Occupied(entry) => {
                    let (first, _) = entry.get();
                    // Only names of settings are shown: another one may be a value without its name.
                    let message = match Setting::find(name) {
                        Some(_) => messages::DOTENV_TWICE,
                        None => messages::DOTENV_TWICE_UNKNOWN,
                    };
                    errors.push(error(Some(name), Some(*first), message));
                }
            },
            Ok((name, Err(message))) => errors.push(error(Some(name), None, message)),
            Err(message) => errors.push(error(None, None, message)),
        }
    }
    let variables = variables
        .into_iter()
        .map(|(name, (_, value))| (name, value))
        .collect();
    (variables, errors)
}

fn assignment(line: &str) -> Result<(&str, Result<String, Message>), Message> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or(messages::DOTENV_LINE)?;
    let name = name.trim();
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !starts_well || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(messages::DOTENV_NAME);
    }
    Ok((name, unquote(value)))
}

fn unquote(value: &str) -> Result<String, Message> {
    let quoted = value.trim_start();
    let (value, after) = match quoted.chars().next() {
        Some('\'') => {
            let (value, after) = quoted[1..]
                .split_once('\'')
                .ok_or(messages::DOTENV_SINGLE_QUOTE)?;
            (value.to_owned(), after)
        }
        Some('"') => double_quoted(&quoted[1..])?,
        _ => return Ok(unquoted(value).to_owned()),
    };
    let after = after.trim_start();
    if after.is_empty() || after.starts_with('#') {
        Ok(value)
    } else {
        Err(messages::DOTENV_AFTER_QUOTE)
    }
}

fn double_quoted(text: &str) -> Result<(String, &str), Message> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.clone().next() {
                Some((_, escaped @ ('"' | '\\' | '$' | '`'))) => {
                    value.push(escaped);
                    chars.next();
                }
                _ => value.push('\\'),
            },
            c => value.push(c),
        }
    }
    Err(messages::DOTENV_DOUBLE_QUOTE)
}

fn unquoted(value: &str) -> &str {
    let comment = value
        .char_indices()
        .zip(value.chars().skip(1))
        .find(|((_, c), next)| c.is_whitespace() && *next == '#');
    comment.map_or(value, |((at, _), _)| &value[..at]).trim()
}
