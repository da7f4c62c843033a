//! `edgetap find`: which logs have a request, and what became of it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edgetap::config::{Config, Variables};
use edgetap::job::ObjectRef;
use edgetap::log::{Defect, Field, LogError, LogReader, Record, text_of};
use edgetap::period::{HOURS_AFTER, HOURS_BEFORE};
use edgetap::pipeline::{Rules, is_access_test};
use edgetap::source::Opened;
use edgetap::transaction::{Malformed, suffices};
use futures_util::stream::{self, StreamExt as _};
use indicatif::{HumanCount, ProgressBar};
use serde::Serialize;

use crate::Failure;
use crate::explain::Explanation;
use crate::inputs::{self, Found, Input, Wanted};
use crate::output::{self, stdout};
use crate::show::{self, count, escaped};
use crate::tee::{Mentions, Tee, is_of_id};
use crate::times::{self, Day, Time};
use crate::verdict::Verdict;

/// Objects that are read at a time. S3 takes some 50 ms to begin with a small one, so 16 are about 300
/// per second; each may have two ranges of 4 MiB in memory, which is 128 MiB for all.
const AT_ONCE: usize = 16;

#[derive(clap::Args)]
#[command(after_long_help = after_help())]
pub(crate) struct Args {
    /// The response header `X-Amz-Cf-Id` of the request (in logs: `x-edge-request-id`).
    #[arg(value_name = "REQUEST-ID", allow_hyphen_values = true, value_parser = request_id)]
    id: String,
    /// Logs to search: files, directories, `s3://BUCKET/PREFIX`, or `-` for stdin.
    #[arg(required = true, value_name = "PATH | s3://BUCKET/PREFIX")]
    inputs: Vec<String>,
    /// Skip logs of requests before this time: `2026-11-25T10:00:00Z`, `2026-11-25` (UTC), or a duration
    /// before now, such as `2h` or `30d`.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Time::read(text, Day::Start))]
    since: Option<Time>,
    /// Skip logs of requests after this time; a date includes its day.
    #[arg(long, value_name = "TIME", value_parser = |text: &str| Time::read(text, Day::End))]
    until: Option<Time>,
    /// Skip logs of other distributions.
    #[arg(long, value_name = "ID", value_parser = distribution)]
    distribution: Option<String>,
    /// Print a line of JSON per hit.
    #[arg(long)]
    json: bool,
}

fn after_help() -> String {
    format!(
        "\
Logs are skipped by their keys alone: by the hour and the distribution in the name
(`ID.YYYY-MM-DD-HH.UNIQUE.gz`) or in folders (`ID/YYYY/MM/DD/HH/`, `year=YYYY/month=MM/…`).
Of files, only folders below the named directory count.
A log whose key does not tell is searched.
A Parquet file is copied to the temporary directory (TMPDIR) while it is searched.
The log of an hour is searched for requests from {HOURS_BEFORE} hours before it to {HOURS_AFTER} hour after it,
because a request is logged when its response ends, and some logs are a day late.

--json prints one line per hit: {{\"object\":…,\"line\":…,\"row\":…,\"verdict\":…,\"reason\":…}}.
Lines are counted from 1, and rows (lines of data) from 0. In a Parquet file, each row is a line.
The verdict is `sent`, `static`, `excluded`, `malformed`, `rejected` or `foreign`.
It is `unreadable` if the log cannot be read up to the line; its row is then unknown: null.
It follows from the settings here, which may differ from the function's.

Exit status:
  0  the request was found, and all logs were read
  1  it was not found, or some log was not read
  2  usage or configuration error"
    )
}

/// Checks a request ID, which is never split by the delimiter of a log.
fn request_id(text: &str) -> Result<String, &'static str> {
    let is_option = text.starts_with("--") && !text.ends_with('=');
    if text.len() > 1 && text.bytes().all(is_of_id) && !is_option {
        Ok(text.to_owned())
    } else {
        Err("not a value of X-Amz-Cf-Id: letters, digits, `-`, `_` and `=`")
    }
}

/// Checks the ID of a distribution. Test environments give others than CloudFront's, which begin with `E`.
pub(crate) fn distribution(text: &str) -> Result<String, &'static str> {
    let is_of_id = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    if !text.is_empty() && text.bytes().all(is_of_id) {
        Ok(text.to_owned())
    } else {
        Err("not the ID of a distribution, such as `E27FO14I29XXXX`")
    }
}

/// What is searched for, and the rules of the verdict.
struct Search {
    id: String,
    rules: Rules,
}

/// A row that has the request.
#[derive(Serialize)]
struct Hit {
    object: String,
    line: u64,
    /// `None` for a line of a log that cannot be read that far.
    row: Option<u64>,
    #[serde(flatten)]
    verdict: Verdict,
    #[serde(skip)]
    text: String,
}

/// What the search of an object found.
struct Searched {
    object: ObjectRef,
    hits: Vec<Hit>,
    rows: u64,
    end: End,
}

/// How the search of an object ended.
enum End {
    Whole,
    /// Some rows have no column for the request ID.
    WithoutIds,
    /// The object is of another service.
    Skipped(&'static str),
    /// The object cannot be read to its end. The text names it.
    Failed(String),
}

pub(crate) async fn run(args: Args, variables: &Variables) -> Result<(), Failure> {
    let rules = Config::read_rules(variables)?;
    let wanted = Wanted {
        window: times::window(args.since.as_ref(), args.until.as_ref())?,
        distribution: args.distribution,
    };
    let Found {
        inputs,
        bytes,
        unreadable,
        has_unwanted,
        ..
    } = inputs::find(&args.inputs, &wanted).await;
    let progress = output::progress(bytes);
    let search = Arc::new(Search { id: args.id, rules });
    let started = Instant::now();
    let searches = stream::iter(inputs).map(|input| search_in(input, &search, &progress));
    let mut searches = std::pin::pin!(searches.buffered(AT_ONCE));
    let mut total = Total {
        unreadable,
        ..Total::default()
    };
    while let Some(searched) = searches.next().await {
        let added = total.add(searched, args.json);
        added.inspect_err(|_| progress.finish_and_clear())?;
        progress.set_message(total.to_string());
    }
    progress.finish_and_clear();
    total.report(started.elapsed(), has_unwanted)
}

/// What was found so far.
#[derive(Default)]
struct Total {
    objects: u64,
    rows: u64,
    hits: u64,
    /// Inputs and objects that cannot be read, each of which was reported.
    unreadable: usize,
    /// Objects all of whose rows could be searched.
    whole: u64,
    /// Objects with rows without request IDs.
    lacking: u64,
    /// Distributions (or objects, if their names do not tell one) with rows without request IDs.
    without_ids: BTreeSet<String>,
}

impl std::fmt::Display for Total {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hits = count(self.hits, "hit", "hits");
        let objects = count(self.objects, "object", "objects");
        write!(
            f,
            "{hits} in {objects}, {}",
            count(self.rows, "row", "rows")
        )
    }
}

impl Total {
    /// Writes the hits of an object, and reports how its search ended.
    fn add(&mut self, searched: Searched, is_json: bool) -> anyhow::Result<()> {
        let Searched {
            object,
            hits,
            rows,
            end,
        } = searched;
        for hit in hits {
            let text = if is_json {
                show::json_line(&serde_json::to_string(&hit)?) + "\n"
            } else if self.hits > 0 {
                format!("\n{}", hit.text)
            } else {
                hit.text
            };
            self.hits += 1;
            write!(stdout(), "{text}")?;
        }
        self.objects += 1;
        self.rows += rows;
        let name = escaped(&object.to_string());
        match end {
            End::Whole => self.whole += 1,
            End::WithoutIds => {
                self.lacking += 1;
                let logs = object
                    .distribution()
                    .map_or_else(|| name.clone(), str::to_owned);
                if self.without_ids.insert(logs) {
                    tracing::warn!(object = %name, "cannot search rows without x-edge-request-id (logged once per distribution)");
                }
            }
            End::Skipped(kind) => {
                tracing::warn!(object = %name, kind, "skipped object: not a CloudFront access log");
            }
            End::Failed(problem) => {
                output::error(problem);
                self.unreadable += 1;
            }
        }
        Ok(())
    }

    /// Returns what follows from finding nothing.
    fn absence(&self) -> String {
        let logs = if self.unreadable > 0 {
            "the logs that could be read"
        } else {
            "these logs"
        };
        match *self {
            Self {
                objects: 0,
                unreadable: 0,
                ..
            } => {
                "no log was searched: all are outside --since, --until or --distribution".to_owned()
            }
            Self {
                whole: 0,
                lacking: 1..,
                ..
            } => {
                format!("cannot tell: none of {logs} has x-edge-request-id in every row")
            }
            Self {
                objects,
                lacking: lacking @ 1..,
                ..
            } => format!(
                "the request is in none of the logs that can be searched ({} of {} {} x-edge-request-id)",
                HumanCount(lacking),
                HumanCount(objects),
                if lacking == 1 { "lacks" } else { "lack" }
            ),
            _ if self.unreadable > 0 => {
                "the request is in none of the logs that could be read".to_owned()
            }
            _ => "the request is in none of these logs".to_owned(),
        }
    }

    /// Writes what was done to standard error.
    fn report(&self, time: Duration, has_unwanted: bool) -> Result<(), Failure> {
        if self.objects == 0 && !has_unwanted {
            return Err(Failure::Incomplete); // no input can be read, which was reported
        }
        output::stderr_line(format_args!("{self} in {:.1} s", time.as_secs_f64()));
        if self.hits == 0 {
            output::error(self.absence());
            output::hint(if has_unwanted {
                "a log can arrive a day after the request; widen --since, --until or --distribution"
            } else {
                "a log can arrive a day after the request; search other distributions and buckets, too"
            });
        }
        if self.hits > 0 && self.unreadable == 0 {
            Ok(())
        } else {
            Err(Failure::Incomplete)
        }
    }
}

/// Searches one input on a thread of its own.
async fn search_in(input: Input, search: &Arc<Search>, progress: &ProgressBar) -> Searched {
    let object = input.object();
    let searched = match input.open().await {
        Ok(opened) => {
            let (search, progress) = (search.clone(), progress.clone());
            let reading = tokio::task::spawn_blocking(move || search.read(opened, &progress));
            let read = reading.await;
            read.map_err(|panicked| format!("{object}: {panicked}"))
        }
        Err(error) => Err(error.to_string()),
    };
    searched.unwrap_or_else(|problem| Searched {
        object,
        hits: Vec::new(),
        rows: 0,
        end: End::Failed(problem),
    })
}

impl Search {
    /// Whether a row is that of the request. Only a row whose ID cannot be read is one by its text.
    fn is_of(&self, record: Record<'_>, is_mentioned: bool) -> bool {
        match record.get(Field::RequestId) {
            Some(id) if id == self.id.as_bytes() => true,
            Some(_) if record.is_whole() => false,
            id => {
                let is_unread = id.is_none() && !record.is_whole();
                is_mentioned && (is_unread || suffices(record).is_err())
            }
        }
    }

    fn read(&self, opened: Opened, progress: &ProgressBar) -> Searched {
        let Opened { object, bytes, .. } = opened;
        let mentions = RefCell::new(Mentions::new(self.id.as_bytes()));
        let text = text_of(progress.wrap_read(bytes));
        let mut text = Tee::new(text, |piece| mentions.borrow_mut().see(piece));
        let mut log = LogReader::of_text(&mut text);
        let mut hits = Vec::new();
        let (mut lacks_ids, mut found) = (false, Rows::default());
        let end = loop {
            match log.advance() {
                Ok(true) => {}
                Ok(false) => break Ok(()),
                Err(error) => break Err(error),
            }
            let (row, record) = log.record();
            let sufficing = suffices(record);
            lacks_ids |= sufficing.is_ok() && !record.has_column(Field::RequestId);
            found.note(sufficing, log.line());
            let is_mentioned = mentions.borrow_mut().take(&log.lines());
            if self.is_of(record, is_mentioned) {
                let Explanation { verdict, text } = Explanation::of(&log, &object, &self.rules);
                hits.push(Hit {
                    object: object.to_string(),
                    line: log.line(),
                    row: Some(row),
                    verdict,
                    text,
                });
            }
        };
        let rows = log.next_row();
        drop(log);
        let end = match end {
            Ok(()) => match found.refusal() {
                Some(error) => End::Failed(format!("{}: {error}", show::input(&object))),
                None if lacks_ids => End::WithoutIds,
                None => End::Whole,
            },
            Err(LogError::OtherLog(kind)) if rows == 0 => End::Skipped(kind),
            Err(LogError::NotAccessLog(_)) if rows == 0 && is_access_test(&object) => {
                End::Skipped("access test")
            }
            Err(error) => {
                if !matches!(error, LogError::Cut(_)) {
                    // What cannot be read further may still have the request. A second error adds nothing.
                    _ = io::copy(&mut text, &mut io::sink());
                }
                let lines = mentions.borrow_mut().rest();
                hits.extend(
                    lines
                        .into_iter()
                        .map(|line| unreadable(&object, line, &error)),
                );
                End::Failed(format!("{}: {error}", show::input(&object)))
            }
        };
        Searched {
            object,
            hits,
            rows,
            end,
        }
    }
}

/// What the rows of a log are like.
#[derive(Default)]
struct Rows {
    has_readable: bool,
    has_rejected: bool,
    /// The first malformed row: its line, and the reason.
    malformed: Option<(u64, Malformed)>,
}

impl Rows {
    fn note(&mut self, sufficing: Result<(), Malformed>, line: u64) {
        match sufficing {
            Ok(()) => self.has_readable = true,
            Err(Malformed::Defect(Defect::Foreign(_))) => {}
            Err(Malformed::Defect(defect)) if defect.is_rejection() => self.has_rejected = true,
            Err(malformed) => self.malformed = self.malformed.or(Some((line, malformed))),
        }
    }

    /// Why the log is refused as a whole, if it is.
    fn refusal(&self) -> Option<LogError> {
        let (line, malformed) = self.malformed?;
        (!self.has_readable && !self.has_rejected).then(|| LogError::Malformed {
            line,
            reason: malformed.to_string(),
        })
    }
}

/// The hit of a line that is not read as a row, because of an error of the log.
fn unreadable(object: &ObjectRef, line: u64, error: &LogError) -> Hit {
    let verdict = Verdict::unreadable(error);
    Hit {
        object: object.to_string(),
        line,
        row: None,
        text: format!("{}, line {line}\n{verdict}\n", escaped(&object.to_string())),
        verdict,
    }
}
