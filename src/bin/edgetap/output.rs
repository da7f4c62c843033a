//! Standard output and standard error. No macro of the `println` family is used: those panic when
//! the reader has closed the pipe or the disk is full.

use std::cell::RefCell;
use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

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
/// without a terminal and while the input is typed, and by `indicatif` if `TERM` is `dumb`.
pub(crate) fn progress(bytes: Option<u64>) -> ProgressBar {
    let is_typed = bytes.is_none() && io::stdin().is_terminal();
    if !io::stderr().is_terminal() || is_typed {
        return ProgressBar::hidden();
    }
    // The wide element takes what the terminal has left: a line that wraps would leave rests behind.
    let (bar, template) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {percent}% {msg} ETA {eta}",
        ),
        None => (ProgressBar::no_length(), "{spinner} {bytes} {wide_msg}"),
    };
    let style = ProgressStyle::with_template(template);
    let bar = bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    _ = PROGRESS.set(bar.clone());
    bar
}

/// Writes the body of a batch to standard output, and a newline behind it if `one_per_line`.
pub(crate) fn write_body(body: &[u8], one_per_line: bool) -> Result<(), StdoutError> {
    if body.is_empty() {
        return Ok(());
    }
    let write = || {
        let mut stdout = io::stdout().lock();
        stdout.write_all(body)?;
        if one_per_line {
            stdout.write_all(b"\n")?;
        }
        stdout.flush()
    };
    let written = if io::stdout().is_terminal() {
        above_progress(write)
    } else {
        write()
    };
    written.map_err(StdoutError)
}

fn above_progress<T>(write: impl FnOnce() -> T) -> T {
    match PROGRESS.get() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// The log lines of an object that is read beside others. They are written when its turn comes, so
/// that they have the order of the inputs.
#[derive(Default)]
pub(crate) struct Turn(Mutex<Held>);

#[derive(Default)]
struct Held {
    has_come: bool,
    lines: Vec<u8>,
}

/// Bytes of log lines that wait. The others are written at once.
const MAX_HELD: usize = 64 << 10;

thread_local! {
    /// The turn of the object that this thread reads.
    static TURN: RefCell<Option<Arc<Turn>>> = const { RefCell::new(None) };
}

impl Turn {
    /// Runs `read`, and holds back what it logs until the turn comes.
    pub(crate) fn hold<T>(self: Arc<Self>, read: impl FnOnce() -> T) -> T {
        TURN.set(Some(self));
        let read = read();
        TURN.set(None);
        read
    }

    /// The turn comes.
    pub(crate) fn begin(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.has_come = true;
        let lines = std::mem::take(&mut held.lines);
        if !lines.is_empty() {
            above_progress(|| _ = io::stderr().write_all(&lines));
        }
    }

    /// Whether these lines are held back.
    fn holds(&self, lines: &[u8]) -> bool {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_held = !held.has_come && held.lines.len() + lines.len() <= MAX_HELD;
        if is_held {
            held.lines.extend_from_slice(lines);
        }
        is_held
    }
}

/// Where log lines go: standard error.
pub(crate) struct LogWriter;

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if TURN.with_borrow(|turn| turn.as_ref().is_some_and(|turn| turn.holds(bytes))) {
            return Ok(bytes.len());
        }
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
