//! Standard output and standard error. No macro of the `println` family is used: those panic when
//! the reader has closed the pipe or the disk is full.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::OnceLock;

use clap::builder::styling::AnsiColor;
use indicatif::{ProgressBar, ProgressStyle};

use crate::show;

/// The progress bar, if one is shown. All other output is written above it.
static PROGRESS: OnceLock<ProgressBar> = OnceLock::new();

/// Returns standard output, for `writeln!(stdout(), …)?`.
pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout())
}

pub(crate) struct Stdout(io::Stdout);

impl Stdout {
    /// Called by `write!` and `writeln!`. An error has a type of its own, unlike in [`io::Write`].
    pub(crate) fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> Result<(), StdoutError> {
        above_progress(|| self.0.write_fmt(text)).map_err(StdoutError)
    }
}

/// A write to standard output failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to standard output: {0}")]
pub(crate) struct StdoutError(pub(crate) io::Error);

impl StdoutError {
    /// Whether the reader has closed the pipe: it has read all it wants (`edgetap … | head`).
    pub(crate) fn is_closed_pipe(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// An error with one action that may fix it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Hinted {
    pub(crate) message: String,
    pub(crate) hint: String,
}

/// Reports an error, without the ` (os error N)` that the standard library appends to the system's
/// text, and with the control characters of names as escapes.
pub(crate) fn error(message: impl Display) {
    let message = without_number(&message.to_string());
    diagnostic("error", AnsiColor::Red, &show::escaped(&message));
}

/// Reports a failed write, including the system's error number.
pub(crate) fn write_error(error: &StdoutError) {
    diagnostic("error", AnsiColor::Red, error);
}

/// Removes every ` (os error N)`.
fn without_number(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |before, part| {
        let after = part.trim_start_matches(|c: char| c.is_ascii_digit());
        match after.strip_prefix(')') {
            Some(after) if part.starts_with(|c: char| c.is_ascii_digit()) => before + after,
            _ => before + " (os error " + part,
        }
    })
}

pub(crate) fn hint(action: impl Display) {
    diagnostic("  hint", AnsiColor::Cyan, &action);
}

fn diagnostic(label: &str, color: AnsiColor, message: &dyn Display) {
    let style = color.on_default().bold();
    stderr_line(format_args!("{style}{label}:{style:#} {message}"));
}

/// Writes a line to standard error. An error is ignored, because there is nowhere to report it.
pub(crate) fn stderr_line(text: impl Display) {
    let line = format!("{text}\n"); // in one piece: other threads write log lines
    above_progress(|| _ = anstream::stderr().write_all(line.as_bytes()));
}

/// Writes a question to standard error, without a newline. An error is ignored, as by [`stderr_line`].
pub(crate) fn ask(question: impl Display) {
    let question = format!("{question} ");
    above_progress(|| _ = anstream::stderr().write_all(question.as_bytes()));
}

/// Returns a progress bar of bytes, which other output to standard error is written above. It is hidden
/// without a terminal.
pub(crate) fn progress(bytes: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {msg} ETA {eta}",
        ),
        None => (
            ProgressBar::no_length(),
            "{spinner} {bytes} {binary_bytes_per_sec} {msg}",
        ),
    };
    let style = ProgressStyle::with_template(template);
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    _ = PROGRESS.set(bar.clone());
    bar
}

fn above_progress<T>(write: impl FnOnce() -> T) -> T {
    match PROGRESS.get() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Where log lines go: standard error.
pub(crate) struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        above_progress(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_system_errors_are_removed() {
        for (text, words) in [
            ("no such file", "no such file"),
            ("x: refused (os error 111)", "x: refused"),
            ("refused (os error 111); gone (os error 2)", "refused; gone"),
            ("x (os error y) z", "x (os error y) z"),
            ("x (os error ) z", "x (os error ) z"),
        ] {
            assert_eq!(without_number(text), words);
        }
    }
}
