//! Transactions and counts, for people.

use comfy_table::{CellAlignment, Table, presets};
use edgetap::batch::Counts;
use edgetap::local_bridge::Transaction;

/// A transaction in one line: method, status, URL, who asked.
pub(crate) fn transaction(transaction: &Transaction) -> String {
    let Transaction {
        request, response, ..
    } = transaction;
    let user_agent = transaction.request_header("User-Agent").unwrap_or_default();
    let line = format!(
        "{:<7} {:>3}  {}://{}{}  from {}  {}",
        request.http_method,
        response.status_code.as_deref().unwrap_or("-"),
        request.http_scheme.as_deref().unwrap_or("https"),
        request.host.as_deref().unwrap_or("-"),
        request.uri_query_fragment,
        request.connection.connection_ip,
        String::from_utf8_lossy(&user_agent),
    );
    printable(&line).chars().take(160).collect()
}

/// Text of a log, with nothing in it that would drive the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// A table of counts, a row for each name.
pub(crate) fn counts<'a>(rows: impl IntoIterator<Item = (&'a str, Counts)>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header([
        "log",
        "rows",
        "sent",
        "static",
        "excluded",
        "malformed",
        "rejected",
    ]);
    for (name, counts) in rows {
        let numbers = [
            counts.rows,
            counts.sent,
            counts.static_assets,
            counts.excluded,
            counts.malformed,
            counts.rejected,
        ];
        table.add_row(
            std::iter::once(name.to_owned()).chain(numbers.map(|number| number.to_string())),
        );
    }
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}
