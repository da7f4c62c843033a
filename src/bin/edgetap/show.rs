//! Counts, durations, transactions and tables, formatted for people.

use std::time::Duration;

use comfy_table::{Cell, Column, ColumnConstraint, ContentArrangement, Table, Width, presets};
use edgetap::job::ObjectRef;
use edgetap::local_bridge::Transaction;
use edgetap::telemetry::is_control;
use indicatif::HumanCount;
use jiff::SignedDuration;

/// Width of text without a terminal, in characters.
const WIDTH: usize = 100;
/// Width of a terminal that reports none, or one in which no table fits.
const TERMINAL_WIDTH: u16 = 80;
/// The narrowest terminal whose width is used. Tables for a narrower one are as wide as for
/// [`TERMINAL_WIDTH`].
const MIN_TERMINAL_WIDTH: u16 = 40;

/// Returns a number with its noun: `1 batch`, `2,048 batches`.
pub(crate) fn count(number: u64, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        HumanCount(number),
        if number == 1 { one } else { many }
    )
}

/// Reads a duration such as `200ms`, `2s` or `10m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let time: SignedDuration = text
        .parse()
        .map_err(|_| "expected a duration such as 200ms, 2s or 10m".to_owned())?;
    Duration::try_from(time).map_err(|_| "a duration cannot be negative".to_owned())
}

/// Returns a duration as [`duration`] reads it: `1h 2m 3s`.
pub(crate) fn exact(time: Duration) -> String {
    let time = SignedDuration::try_from(time).unwrap_or(SignedDuration::MAX);
    format!("{time:#}")
}

/// Returns a duration in whole seconds: `1h 2m 3s`.
pub(crate) fn short(time: Duration) -> String {
    let time = SignedDuration::from_secs(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
    format!("{time:#}")
}

/// Returns the text of a log without control characters, which could drive the terminal.
pub(crate) fn printable(text: &str) -> String {
    let visible = |c| {
        if is_control(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    text.chars().map(visible).collect()
}

/// Returns what people call an input.
pub(crate) fn input(object: &ObjectRef) -> String {
    let name = object.to_string();
    if name == "-" {
        "standard input".to_owned()
    } else {
        name
    }
}

/// Returns a name with control characters as escapes.
pub(crate) fn escaped(name: &str) -> String {
    escape(name, |c| c.escape_default().to_string())
}

/// Returns a line of JSON with control characters as its escapes.
pub(crate) fn json_line(json: &str) -> String {
    escape(json, |c| format!("\\u{:04x}", u32::from(c)))
}

/// Quotes a word for a shell, with control characters as escapes (`$'…'` of bash and zsh).
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:@%+,".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    if !word.chars().any(is_control) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let escape = |c: char| match c {
        '\'' | '\\' => format!("\\{c}"),
        c if is_control(c) => {
            let mut bytes = [0; 4];
            let bytes = c.encode_utf8(&mut bytes).bytes();
            bytes.fold(String::new(), |text, byte| text + &format!("\\x{byte:02x}"))
        }
        c => c.to_string(),
    };
    let escaped: String = word.chars().map(escape).collect();
    format!("$'{escaped}'")
}

fn escape(text: &str, escape: impl Fn(char) -> String) -> String {
    let escaped = |c| if is_control(c) { escape(c) } else { c.into() };
    text.chars().map(escaped).collect()
}

/// The terminal's width; `None` without a terminal.
fn terminal_width() -> Option<u16> {
    Table::new().width().map(usable)
}

fn usable(reported: u16) -> u16 {
    if reported < MIN_TERMINAL_WIDTH {
        TERMINAL_WIDTH
    } else {
        reported
    }
}

/// Returns a table without lines, as wide as the terminal at most.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    if let Some(width) = terminal_width() {
        table.set_width(width);
    }
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    if let Some(names) = table.column_mut(0) {
        names.set_constraint(ColumnConstraint::ContentWidth); // no name is broken in two
    }
    table
}

/// Wraps the columns before this one first: it becomes no narrower than its longest word. A table
/// that is narrower than usual has no space for that.
pub(crate) fn wrap_before(table: &mut Table, column: usize) {
    if table.width().is_some_and(|width| width < TERMINAL_WIDTH) {
        return;
    }
    let words = |column: &Column| {
        let cells = table.column_cells_iter(column.index).flatten();
        let text: Vec<String> = cells.map(Cell::content).collect();
        text.iter()
            .flat_map(|text| text.split(' '))
            .map(str::len)
            .max()
    };
    let Some(longest) = table.column(column).and_then(words) else {
        return;
    };
    if let (Some(column), Ok(longest)) = (table.column_mut(column), u16::try_from(longest + 2)) {
        column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(longest)));
    }
}

/// Returns the width of lines.
pub(crate) fn width() -> usize {
    terminal_width().map_or(WIDTH, usize::from)
}

/// A transaction on one line: method, status, URL (or path, if no host was logged), client address,
/// user agent.
pub(crate) fn transaction(transaction: &Transaction, width: usize) -> String {
    let Transaction {
        request, response, ..
    } = transaction;
    let user_agent = transaction.request_header("User-Agent").unwrap_or_default();
    let origin = request.host.as_deref().map(|host| {
        let scheme = request.http_scheme.as_deref().unwrap_or("https");
        format!("{scheme}://{host}")
    });
    let line = format!(
        "{:<7} {:>3}  {}{}  from {}  {}",
        request.http_method,
        response.status_code.as_deref().unwrap_or("-"),
        origin.unwrap_or_default(),
        request.uri_query_fragment,
        request.connection.connection_ip,
        String::from_utf8_lossy(&user_agent),
    );
    let line = printable(line.trim_end());
    match line.char_indices().nth(width) {
        Some(_) => line
            .chars()
            .take(width.saturating_sub(1))
            .chain(['…'])
            .collect(),
        None => line,
    }
}

/// Indents JSON that has no whitespace. Members keep their order; an object or array that fits
/// stays on one line.
pub(crate) fn json(compact: &[u8], width: usize) -> String {
    let compact = printable(&String::from_utf8_lossy(compact));
    let mut text = String::with_capacity(2 * compact.len());
    indent(compact.trim_end(), 0, width, &mut text);
    text
}

fn indent(value: &str, depth: usize, width: usize, text: &mut String) {
    let used = text.len() - text.rfind('\n').map_or(0, |at| at + 1);
    let is_outermost = depth == 0;
    let spaced = space(value);
    let inner = value
        .strip_prefix(['{', '['])
        .and_then(|value| value.strip_suffix(['}', ']']));
    let Some(inner) = inner.filter(|_| is_outermost || used + spaced.chars().count() > width)
    else {
        text.push_str(&spaced);
        return;
    };
    let margin = |depth: usize| format!("\n{}", "  ".repeat(depth));
    text.push_str(&value[..1]);
    for (number, member) in split(inner, ',').into_iter().enumerate() {
        if number > 0 {
            text.push(',');
        }
        text.push_str(&margin(depth + 1));
        match split(member, ':').as_slice() {
            [name, value] => {
                text.push_str(name);
                text.push_str(": ");
                indent(value, depth + 1, width, text);
            }
            _ => indent(member, depth + 1, width, text),
        }
    }
    text.push_str(&margin(depth));
    text.push_str(&value[value.len() - 1..]);
}

/// The same JSON on one line, with a space after each `,` and `:`.
fn space(compact: &str) -> String {
    let mut text = String::with_capacity(compact.len() + 16);
    let mut string = InString::default();
    for c in compact.chars() {
        text.push(c);
        if !string.next(c) && matches!(c, ',' | ':') {
            text.push(' ');
        }
    }
    text
}

/// Splits JSON at a character that is neither in a string nor in an inner array or object.
fn split(json: &str, at: char) -> Vec<&str> {
    let (mut string, mut depth) = (InString::default(), 0_u32);
    let mut parts: Vec<_> = json
        .split(move |c| {
            if string.next(c) {
                return false;
            }
            match c {
                '{' | '[' => depth += 1,
                '}' | ']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            c == at && depth == 0
        })
        .collect();
    parts.retain(|part| !part.is_empty());
    parts
}

/// Tracks whether a character of JSON is part of a string.
#[derive(Default)]
struct InString {
    open: bool,
    escaped: bool,
}

impl InString {
    fn next(&mut self, c: char) -> bool {
        let was_open = self.open;
        match c {
            _ if self.escaped => self.escaped = false,
            '\\' => self.escaped = self.open,
            '"' => self.open = !self.open,
            _ => {}
        }
        was_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        for (word, text) in [
            ("a/b.gz", "a/b.gz"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's;$(x)", r"'it'\''s;$(x)'"),
            ("é", "'é'"),
            ("a\u{1b}[2J'\\", r"$'a\x1b[2J\'\\'"),
            ("\u{202e}", r"$'\xe2\x80\xae'"),
            ("a\nb", r"$'a\x0ab'"),
        ] {
            assert_eq!(quoted(word), text);
            let echo = format!("printf %s {text}");
            let shell = std::process::Command::new("bash")
                .args(["-c", &echo])
                .output();
            assert_eq!(String::from_utf8(shell.unwrap().stdout).unwrap(), word);
        }
    }

    #[test]
    fn counts_have_the_right_plural() {
        let batches = |number| count(number, "batch", "batches");
        assert_eq!(batches(0), "0 batches");
        assert_eq!(batches(1), "1 batch");
        assert_eq!(batches(12_345), "12,345 batches");
    }

    #[test]
    fn unusable_terminal_width_is_replaced() {
        assert_eq!([0, 39, 40, 200].map(usable), [80, 80, 40, 200]);
    }

    #[test]
    fn table_wraps_its_last_column_last() {
        let mut table = table(&["FIELD", "VALUE", "GOES TO"]);
        let destination = "a-destination-of-48-characters-without-any-space";
        table
            .set_width(80)
            .add_row(["a-field-of-20-bytes.", &"value ".repeat(30), destination]);
        wrap_before(&mut table, 2);
        assert!(table.to_string().contains(destination), "{table}");
        assert!(
            table.lines().all(|line| line.chars().count() <= 80),
            "{table}"
        );
    }

    #[test]
    fn json_is_broken_only_where_it_does_not_fit() {
        let compact = br#"{"a":"x,y:{\"","list":[1,2],"deep":{"first":"0123456789","empty":{}}}"#;
        let expected = concat!(
            "{\n",
            "  \"a\": \"x,y:{\\\"\",\n",
            "  \"list\": [1, 2],\n",
            "  \"deep\": {\n",
            "    \"first\": \"0123456789\",\n",
            "    \"empty\": {}\n",
            "  }\n",
            "}"
        );
        assert_eq!(json(compact, 30), expected);
        let value: serde_json::Value = serde_json::from_slice(compact).unwrap();
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(expected).unwrap(),
            value
        );
    }
}
