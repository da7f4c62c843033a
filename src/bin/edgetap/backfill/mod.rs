//! `edgetap backfill`: sends what is in a bucket already to a queue that the function reads.

mod args;
mod select;
mod send;
mod tally;
mod wait;

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use edgetap::listing::Listing;
use edgetap::outbox::{Facts, Outbox, OutboxError};
use edgetap::retry::Backoff;
use edgetap::source::S3;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

pub(crate) use self::args::Args;
use self::select::Selection;
use self::send::{Post, Sent};
use self::tally::{MAX_DAYS, Tally, short};
use crate::inputs::in_s3;
use crate::output::{self, stdout};
use crate::show::{self, count, quoted};
use crate::{Failure, for_aws, usage};

pub(crate) async fn run(args: Args) -> Result<(), Failure> {
    let selection = args.selection()?;
    let (bucket, prefix) = in_s3(&args.logs)?.ok_or_else(|| {
        usage(
            format!("`{}` is not in S3", show::escaped(&args.logs)),
            "write s3://BUCKET/PREFIX; `edgetap replay --post` delivers local files",
        )
    })?;
    let is_terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
    if !(args.yes || args.dry_run || is_terminal) {
        return Err(usage(
            "without a terminal, nothing can ask before sending",
            "pass --dry-run to see the estimate, then --yes",
        ));
    }
    let config = for_aws().await?;
    let s3 = S3::new(&config, Backoff::default());
    let queue = match &args.queue {
        Some(url) => Some(Queue::of(Outbox::new(&config, url)).await?),
        None => None,
    };
    if queue.as_ref().is_some_and(|queue| queue.facts.has_events) {
        return Err(usage(
            "the queue receives the events of new logs, which would wait behind these",
            "name the queue of Terraform's output `backfill_queue_url`",
        ));
    }
    let listing = || s3.listing(bucket, prefix, &selection.after, selection.window());

    let progress = output::progress(None);
    begin(&progress, COUNTING);
    let tally = count_selected(&selection, listing(), &progress).await;
    progress.finish_and_clear();
    let tally = tally?;
    if tally.listed == 0 && selection.after.is_empty() {
        return Err(anyhow::anyhow!("no objects below {}", args.logs).into());
    }
    refuse_unknown(&tally)?;
    args.print_estimate(&tally)?;
    let Some(queue) = queue.filter(|_| !args.dry_run) else {
        return Ok(());
    };
    let wanted = tally.total().objects;
    args.warn_of_retention(&tally, &queue.facts);
    if wanted == 0 {
        output::stderr_line("nothing to send");
    } else if !args.yes && !confirmed(wanted, args.queue.as_deref().unwrap_or_default())? {
        output::stderr_line("nothing was sent");
        return Err(Failure::Incomplete);
    }
    let dead_before = if args.wait {
        queue.dead_letters.depth().await?.total()
    } else {
        0
    };
    let post = Post {
        outbox: &queue.outbox,
        bucket,
        region: config.region().map_or("us-east-1", AsRef::as_ref),
    };
    let mut sent = Sent::default();
    if wanted > 0 {
        begin(&progress, SENDING);
        progress.set_length(wanted);
        sent = send::send(&post, &selection, listing(), args.rate, &progress).await;
        progress.finish_and_clear();
    }
    args.report_sent(&sent)?;
    if args.wait {
        begin(&progress, WAITING);
        return args.wait(&queue, dead_before, &progress).await;
    }
    Ok(())
}

/// The queue that messages are sent to.
struct Queue {
    outbox: Outbox,
    facts: Facts,
    dead_letters: Outbox,
}

impl Queue {
    /// Asks the queue for its facts, which shows that it exists.
    async fn of(outbox: Outbox) -> Result<Self, OutboxError> {
        let facts = outbox.facts().await?;
        let dead_letters = outbox.of_arn(&facts.dead_letters)?;
        Ok(Self {
            outbox,
            facts,
            dead_letters,
        })
    }
}

const COUNTING: &str = "{spinner} {msg}";
const SENDING: &str = "{bar:24} {human_pos}/{human_len} objects, {per_sec} ETA {eta}";
const WAITING: &str = "{spinner} {wide_msg}";

/// Makes the bar one of another phase. The templates are constants, and a wrong one leaves the style as
/// it is.
fn begin(progress: &ProgressBar, template: &str) {
    progress.reset();
    if let Ok(style) = ProgressStyle::with_template(template) {
        progress.set_style(style);
    }
    if !progress.is_hidden() {
        progress.enable_steady_tick(Duration::from_secs(1));
    }
}

/// Waits for Ctrl-C or SIGTERM. SIGHUP stays as it was set, so that nohup works.
async fn interrupted() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        _ = ctrl_c().await;
        return;
    };
    tokio::select! {
        _ = ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Lists once and counts, one page at a time.
async fn count_selected(
    selection: &Selection,
    mut listing: Listing,
    progress: &ProgressBar,
) -> Result<Tally, Failure> {
    let mut tally = Tally::new(MAX_DAYS);
    while let Some(page) = listing.page().await? {
        for listed in &page {
            tally.add(listed, selection);
        }
        progress.set_message(format!("{} objects listed", HumanCount(tally.listed)));
    }
    Ok(tally)
}

/// Refuses if no one said when a distribution was enabled.
fn refuse_unknown(tally: &Tally) -> Result<(), Failure> {
    if tally.not_enabled.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = tally
        .not_enabled
        .iter()
        .map(|id| show::escaped(id))
        .collect();
    Err(usage(
        format!(
            "`--until enabled` needs the time at which these were enabled: {}",
            ids.join(", ")
        ),
        "pass --enabled-at ID=TIME for each, --enabled-at TIME for all others, or --distribution",
    ))
}

/// Asks before messages are sent.
fn confirmed(messages: u64, queue: &str) -> Result<bool, Failure> {
    let messages = count(messages, "message", "messages");
    output::ask(format_args!(
        "Send {messages} to {}? [y/N]",
        show::escaped(queue)
    ));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    let answer = answer.trim().to_ascii_lowercase();
    answer == "y" || answer == "yes"
}

fn print_json(value: &Value) -> Result<(), Failure> {
    writeln!(stdout(), "{}", show::json_line(&value.to_string()))?;
    Ok(())
}

impl Args {
    fn print_estimate(&self, tally: &Tally) -> Result<(), Failure> {
        if self.json {
            return print_json(&json!({"estimate": tally.json(self.pace())}));
        }
        write!(
            stdout(),
            "{}",
            tally.text(self.pace(), show::terminal_width())
        )?;
        if self.dry_run {
            let logs = quoted(&self.logs);
            writeln!(
                stdout(),
                "rows are guessed from sizes; edgetap report {logs} counts them"
            )?;
        }
        Ok(())
    }

    /// Warns if messages may expire before the function takes them.
    fn warn_of_retention(&self, tally: &Tally, facts: &Facts) {
        let waiting = tally.waiting(self.pace());
        if !facts.retention.is_zero() && waiting > facts.retention {
            let (waiting, retention) = (short(waiting), short(facts.retention));
            tracing::warn!(%waiting, %retention, "messages may expire in the queue before they are delivered. Raise backfill_concurrency, or send one prefix or --distribution after the other");
        }
    }

    /// Says how far the sending came and how to go on.
    fn report_sent(&self, sent: &Sent) -> Result<(), Failure> {
        let Sent {
            accepted,
            last,
            is_interrupted,
            failure,
        } = sent;
        if let Some(failure) = failure {
            output::error(failure);
        }
        let messages = count(*accepted, "message", "messages");
        output::stderr_line(format_args!("sent {messages}"));
        let is_complete = !is_interrupted && failure.is_none();
        match last.as_deref().or(self.after.as_deref()) {
            _ if is_complete => {}
            Some(last) => {
                let last = quoted(last);
                output::stderr_line(format_args!("the last key sent is {last}; go on with:"));
                output::stderr_line(format_args!("  {} --after {last}", self.command()));
            }
            None => output::stderr_line("no key was sent; run the same command again"),
        }
        // Only now, because stdout may be closed.
        let mut printed = Ok(());
        if self.json {
            let sent = json!({"messages": accepted, "last_key": last, "complete": is_complete});
            printed = print_json(&json!({ "sent": sent }));
        }
        if is_complete {
            printed
        } else if *is_interrupted {
            Err(Failure::Interrupted)
        } else {
            Err(Failure::Incomplete)
        }
    }

    /// Waits until the queue is empty, and reports its dead letters.
    async fn wait(
        &self,
        queue: &Queue,
        dead_before: u64,
        progress: &ProgressBar,
    ) -> Result<(), Failure> {
        let every = self.look_every.unwrap_or(wait::INTERVAL);
        let end = wait::until_empty(&queue.outbox, every, progress).await;
        progress.finish_and_clear();
        if matches!(end?, wait::End::Interrupted) {
            output::stderr_line("stopped waiting; the function goes on with the queue");
            return Err(Failure::Interrupted);
        }
        let dead_after = queue.dead_letters.depth().await?.total();
        if self.json {
            let new = dead_after.saturating_sub(dead_before);
            print_json(&json!({"dead_letters": {"new": new, "all": dead_after}}))?;
        }
        if wait::report(dead_before, dead_after) {
            return Err(Failure::Incomplete);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (answer, expected) in [
            ("y\n", true),
            ("YES\r\n", true),
            ("", false),
            ("\n", false),
            ("n\n", false),
            ("yess\n", false),
        ] {
            assert_eq!(is_yes(answer), expected, "{answer:?}");
        }
    }
}
