//! `.env` files: parsed, never sourced, so that a secret may hold any character.
//!
//! A line is `NAME=VALUE`, after `export` or not. A value in single quotes is literal. In double quotes `\"`, `\\`, `\$` and
//! `` \` `` are one character each, as in a shell; nothing is expanded. Without quotes a value is literal too, and ends before
//! white space followed by `#`, or at the end of the line. Empty lines and lines that begin with `#` say nothing.

use std::collections::BTreeMap;

use thiserror::Error;

/// A line that cannot be read. The text names the line, never its content.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("line {line} {what}")]
pub struct DotenvError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

/// Reads a `.env` file.
///
/// # Errors
/// Every line that cannot be read, and every name that is set twice.
pub fn parse(text: &str) -> Result<BTreeMap<String, String>, Vec<DotenvError>> {
    let (mut variables, mut errors) = (BTreeMap::new(), Vec::new());
    for (line, content) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            continue;
        }
        match assignment(content) {
            Ok((name, value)) => {
                if variables.insert(name.to_owned(), value).is_some() {
                    errors.push(DotenvError {
                        line,
                        what: "sets a name that is set before",
                    });
                }
            }
            Err(what) => errors.push(DotenvError { line, what }),
        }
    }
    if errors.is_empty() {
        Ok(variables)
    } else {
        Err(errors)
    }
}

fn assignment(line: &str) -> Result<(&str, String), &'static str> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or("is not NAME=VALUE")?;
    let name = name.trim();
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if !starts_well || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err("has a name that is not letters, digits and underscores");
    }
    let quoted = value.trim_start();
    let (value, rest) = match quoted.chars().next() {
        Some('\'') => {
            let (value, rest) = quoted[1..]
                .split_once('\'')
                .ok_or("has a single quote that is not closed")?;
            (value.to_owned(), rest)
        }
        Some('"') => double_quoted(&quoted[1..])?,
        _ => return Ok((name, unquoted(value).to_owned())),
    };
    let rest = rest.trim_start();
    if rest.is_empty() || rest.starts_with('#') {
        Ok((name, value))
    } else {
        Err("goes on after the closing quote")
    }
}

fn double_quoted(text: &str) -> Result<(String, &str), &'static str> {
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
    Err("has a double quote that is not closed")
}

fn unquoted(value: &str) -> &str {
    let comment = value
        .char_indices()
        .zip(value.chars().skip(1))
        .find(|((_, c), next)| c.is_whitespace() && *next == '#');
    comment.map_or(value, |((at, _), _)| &value[..at]).trim()
}
