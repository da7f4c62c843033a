//! The arguments of `edgetap backfill`, and the command that goes on where it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::select::{EnabledAt, Selection, Until};
use super::tally::Pace;
use crate::find::distribution;
use crate::show::quoted;
use crate::times::{Day, Time};
use crate::{Failure, times, usage};

/// Ten times what a concurrency of 20 takes, so that the queue does not run empty, and slow enough
/// that Ctrl-C still ends a large backfill early.
const RATE: &str = "500";

#[derive(clap::Args)]
#[command(after_long_help = AFTER_HELP)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
pub(crate) struct Args {
    /// Where the logs are: a bucket, and the beginning of their keys.
    #[arg(value_name = "s3://BUCKET/PREFIX")]
    pub(super) logs: String,
    /// URL of the queue to send to, one that feeds the function and nothing else: Terraform's output
    /// `backfill_queue_url`. In the queue for new logs, these would wait behind old ones.
    #[arg(long, value_name = "URL", required_unless_present = "dry_run")]
    pub(super) queue: Option<String>,
    /// Select logs from this time on: `2026-11-25T10:00:00Z`, `2026-11-25` (UTC), or a duration before now,
    /// such as `2h` or `30d`.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Time::read(text, Day::Start))]
    since: Option<Time>,
    /// Select logs up to this time (a date includes its day); or `enabled`, those that were written before
    /// the distribution was enabled.
    #[arg(long, value_name = "TIME | enabled", value_parser = UntilArg::read)]
    until: Option<UntilArg>,
    /// When a distribution was enabled, or all others (without `ID=`), for `--until enabled`.
    #[arg(long, value_name = "[ID=]TIME", value_parser = enabled_at)]
    enabled_at: Vec<(Option<String>, Time)>,
    /// Select the logs of this distribution only; can be given several times.
    #[arg(long, value_name = "ID", value_parser = distribution)]
    distribution: Vec<String>,
    /// Objects to send per second.
    #[arg(long, value_name = "N", default_value = RATE, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) rate: u32,
    /// Objects that the function takes at a time from this queue, for the estimate only.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(2..=1000))]
    concurrency: u32,
    /// Continue after this key, the last one that an earlier run has sent.
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub(super) after: Option<String>,
    /// Only count and estimate.
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Then wait until the queue is empty, and count the dead letters.
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) wait: bool,
    /// Do not ask before sending.
    #[arg(long)]
    pub(super) yes: bool,
    /// Print the estimate, and what was done, as JSON: one object per line.
    #[arg(long)]
    pub(super) json: bool,
    /// Time between two looks at the queue, for tests.
    #[arg(long, hide = true, value_parser = milliseconds)]
    pub(super) look_every: Option<Duration>,
}

const AFTER_HELP: &str = "\
backfill lists twice: it counts what is selected, prints the estimate and asks. Then it sends one
message for each object, an S3 notification as S3 itself sends it. The function delivers these
logs like new ones, and what fails goes to the dead-letter queue of this queue. No record is kept
of what was sent: an object that is sent twice is delivered twice, with the same ids.

A log is selected if the hour in its key or its LastModified is in the window, because some rows
are logged up to a day late. LastModified does not count for a log whose key is more than a day
earlier, such as a copy. Without --since and --until, all logs below the prefix are selected, also
those that S3 has sent notifications for. `--until enabled` leaves these out: it compares
LastModified alone, because notifications are sent by it.

Not sent, but counted: objects outside the window (without those that the listing passes over),
empty ones, folder placeholders, access tests, logs of other AWS services, and objects in GLACIER
and DEEP_ARCHIVE, restored or not. A listing does not tell which objects of INTELLIGENT_TIERING are
archived: those become dead letters.

Rows are guessed from the sizes of objects. Prices may have changed, and retrieval from
infrequent-access storage costs more.

Exit status:
  0  everything selected was sent; with --wait, and none of it became a dead letter
  1  something was not sent, or became a dead letter; or the question was answered with no
  2  usage or configuration error; or no terminal to ask at, and no --yes
130  interrupted by Ctrl-C or SIGTERM, after the key to continue after was printed";

#[derive(Clone)]
enum UntilArg {
    At(Time),
    Enabled,
}

impl UntilArg {
    fn read(text: &str) -> Result<Self, String> {
        if text == "enabled" {
            return Ok(Self::Enabled);
        }
        Time::read(text, Day::End).map(Self::At)
    }
}

fn enabled_at(text: &str) -> Result<(Option<String>, Time), String> {
    match text.split_once('=') {
        Some((id, time)) => Ok((Some(distribution(id)?), Time::read(time, Day::Start)?)),
        None => Ok((None, Time::read(text, Day::Start)?)),
    }
}

fn milliseconds(text: &str) -> Result<Duration, std::num::ParseIntError> {
    text.parse().map(Duration::from_millis)
}

impl Args {
    pub(super) fn selection(&self) -> Result<Selection, Failure> {
        let until = match &self.until {
            None => Until::Open,
            Some(UntilArg::At(until)) => {
                times::window(self.since.as_ref(), Some(until))?;
                Until::At(until.at)
            }
            Some(UntilArg::Enabled) => Until::Enabled(self.enabled()?),
        };
        if !self.enabled_at.is_empty() && !matches!(until, Until::Enabled(_)) {
            return Err(usage(
                "`--enabled-at` is for `--until enabled` only",
                "pass both, or neither",
            ));
        }
        let distributions: BTreeSet<_> = self.distribution.iter().cloned().collect();
        let after = self.after.clone().unwrap_or_default();
        let since = self.since.as_ref().map(|since| since.at);
        Ok(Selection::new(since, until, distributions, after))
    }

    /// Returns when distributions were enabled.
    fn enabled(&self) -> Result<EnabledAt, Failure> {
        let (mut others, mut of) = (None, BTreeMap::new());
        for (id, Time { at, .. }) in &self.enabled_at {
            let is_second = match id {
                Some(id) => of.insert(id.clone(), *at).is_some(),
                None => others.replace(*at).is_some(),
            };
            if is_second {
                let id = id.as_deref().unwrap_or("all others");
                return Err(usage(
                    format!("`--enabled-at` is given twice for {id}"),
                    "pass one time for each distribution",
                ));
            }
        }
        if self.enabled_at.is_empty() {
            return Err(usage(
                "`--until enabled` needs the time at which distributions were enabled",
                "pass --enabled-at [ID=]TIME, as scripts/backfill.sh does",
            ));
        }
        Ok(EnabledAt { others, of })
    }

    pub(super) fn pace(&self) -> Pace {
        Pace {
            concurrency: self.concurrency,
            rate: self.rate,
        }
    }

    /// Returns the same command without `--after`, for a shell. Durations before now became times.
    pub(super) fn command(&self) -> String {
        let time = |at: Timestamp| at.to_string();
        let mut words = vec![
            "edgetap".to_owned(),
            "backfill".to_owned(),
            quoted(&self.logs),
        ];
        let mut option =
            |name: &str, value: String| words.extend([name.to_owned(), quoted(&value)]);
        if let Some(queue) = &self.queue {
            option("--queue", queue.clone());
        }
        if let Some(since) = &self.since {
            option("--since", time(since.at));
        }
        match &self.until {
            Some(UntilArg::At(until)) => option("--until", time(until.at)),
            Some(UntilArg::Enabled) => option("--until", "enabled".to_owned()),
            None => {}
        }
        for (id, enabled) in &self.enabled_at {
            let id = id.as_ref().map(|id| format!("{id}=")).unwrap_or_default();
            option("--enabled-at", id + &time(enabled.at));
        }
        for id in &self.distribution {
            option("--distribution", id.clone());
        }
        option("--rate", self.rate.to_string());
        option("--concurrency", self.concurrency.to_string());
        for (name, is_given) in [
            ("--wait", self.wait),
            ("--yes", self.yes),
            ("--json", self.json),
        ] {
            if is_given {
                words.push(name.to_owned());
            }
        }
        words.join(" ")
    }
}
