//! *Post*: several objects are delivered at a time. Rows that are left are sent again while the
//! bridge is down.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edgetap::batch::Batch;
use edgetap::bridge::{Attempt, Bridge, Trouble};
use edgetap::ingest::{Place, Settled, Watch, ingest_watched};
use edgetap::job::Job;
use edgetap::pipeline::{Rules, Summary};
use edgetap::plan::flawed;
use edgetap::response::Scope;
use edgetap::rows::OPEN;
use edgetap::source::Opened;
use edgetap::time::Deadline;
use futures_util::StreamExt as _;
use futures_util::future;
use futures_util::stream::FuturesUnordered;
use indicatif::HumanCount;
#[cfg(unix)]
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::MissedTickBehavior;

use super::outage::{Next, Outage, next, of_trouble, wait};
use super::print::{sentence, unreadable};
use super::rejects::Rejects;
use super::remaining::Remaining;
use super::seen::Seen;
use super::total::{Meter, Replayed, Total};
use crate::Failure;
use crate::inputs::Input;
use crate::output;
use crate::show::{count, quoted, short};

/// Objects that may be done before an earlier one is, because they are reported in their order.
const AHEAD: usize = 1000;

/// Objects in a row of which nothing is delivered, after which no other is begun.
const MAX_FRUITLESS: u32 = 10;

/// How often the file of `--resume` may be due.
const TICK: Duration = Duration::from_millis(250);

/// How long an attempt may last: no limit, but retries of a body end after a minute.
const LONG: Duration = Duration::from_hours(24 * 365);

pub(crate) struct Post {
    rules: Arc<Rules>,
    bridge: Bridge,
    outage: Outage,
    meter: Meter,
    remaining: Mutex<Remaining>,
    rejects: Option<Rejects>,
    /// The beginning of the command that delivers a log, for hints.
    command: String,
    /// `true` once no other object and no batch is to be begun.
    stop: watch::Sender<bool>,
}

/// How the run ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Through,
    Interrupted,
}

/// One object on its way.
struct Delivery<'a> {
    index: usize,
    input: &'a Input,
    seen: Seen,
    replayed: Replayed,
    /// Number of the next attempt, from 1. One with progress makes it 1 again.
    number: u32,
    /// When a row of it was last settled, or its delivery began.
    since: Instant,
    /// Why rows were left by the last attempt.
    why: Option<String>,
}

/// The end of an object's delivery.
struct Done {
    replayed: Replayed,
    /// Whether rows are left, and none was accepted.
    is_refused: bool,
    /// Why no other object is to be begun, if none is.
    gave_up: Option<String>,
}

impl Post {
    pub(crate) fn new(
        rules: Arc<Rules>,
        bridge: Bridge,
        retry_for: Duration,
        meter: Meter,
        remaining: Remaining,
        rejects: Option<Rejects>,
        command: String,
    ) -> Self {
        Self {
            rules,
            bridge,
            outage: Outage::new(retry_for),
            meter,
            remaining: Mutex::new(remaining),
            rejects,
            command,
            stop: watch::Sender::new(false),
        }
    }

    fn remaining(&self) -> MutexGuard<'_, Remaining> {
        self.remaining
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is left, and the file of `--reject`.
    pub(crate) fn end(self) -> (Remaining, Option<Rejects>) {
        let remaining = self.remaining.into_inner();
        (
            remaining.unwrap_or_else(PoisonError::into_inner),
            self.rejects,
        )
    }

    /// Delivers the objects, `jobs` at a time, and reports them in their order.
    ///
    /// # Errors
    /// The file of `--resume` cannot be written.
    pub(crate) async fn run(
        &self,
        inputs: &[Input],
        jobs: usize,
        total: &mut Total,
    ) -> Result<Ended, Failure> {
        let mut interrupts = interrupts().await;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut running = FuturesUnordered::new();
        let mut done = BTreeMap::new();
        let (mut begun, mut reported, mut fruitless) = (0, 0, 0);
        let mut gave_up = None;
        let mut ended = Ended::Through;
        loop {
            while running.len() < jobs.max(1)
                && begun < inputs.len()
                && begun < reported + AHEAD
                && !*self.stop.borrow()
            {
                running.push(self.deliver(begun, &inputs[begun]));
                begun += 1;
            }
            tokio::select! {
                finished = running.next() => {
                    let Some((index, Done { replayed, is_refused, gave_up: reason })) = finished else {
                        break;
                    };
                    fruitless = match replayed.summary.counts.sent {
                        0 => fruitless + u32::from(is_refused),
                        _ => 0,
                    };
                    gave_up = gave_up.or(reason).or_else(|| {
                        (fruitless >= MAX_FRUITLESS)
                            .then(|| format!("nothing of {fruitless} objects in a row was accepted"))
                    });
                    if gave_up.is_some() {
                        self.stop.send_replace(true);
                    }
                    done.insert(index, replayed);
                    while let Some(replayed) = done.remove(&reported) {
                        total.add(replayed);
                        reported += 1;
                    }
                }
                _ = tick.tick() => {
                    if let Err(error) = self.save_if_due()
                        && gave_up.is_none()
                    {
                        output::error(format_args!("{error:#}"));
                        total.unreadable += 1;
                        gave_up = Some("what is left cannot be noted".to_owned());
                        self.stop.send_replace(true);
                    }
                }
                Some(()) = interrupts.recv() => {
                    if ended == Ended::Interrupted {
                        break;
                    }
                    ended = Ended::Interrupted;
                    self.stop.send_replace(true);
                    output::stderr_line(
                        "interrupted: requests in flight have five seconds; Ctrl-C again ends at once",
                    );
                }
            }
        }
        drop(running);
        self.meter.end();
        for replayed in done.into_values() {
            total.add(replayed);
        }
        if let Some(rejects) = &self.rejects {
            rejects.flush();
        }
        self.remaining().save()?;
        total.has_unread |= begun < inputs.len() || reported < begun;
        if ended == Ended::Through && begun < inputs.len() {
            let others = HumanCount((inputs.len() - begun) as u64);
            let all = count(inputs.len() as u64, "object", "objects");
            let reason = gave_up.unwrap_or_default();
            let reason = if total.has_reported(&reason) {
                "for the same reason"
            } else {
                &reason
            };
            output::error(format_args!(
                "gave up: {reason}; {others} of {all} not begun"
            ));
            total.unreadable += 1;
        }
        Ok(ended)
    }

    /// Writes the file of `--reject` first: no row that `--resume` leaves out may be missing there.
    fn save_if_due(&self) -> anyhow::Result<()> {
        if let Some(rejects) = &self.rejects {
            rejects.flush();
        }
        self.remaining().save_if_due()
    }

    async fn deliver(&self, index: usize, input: &Input) -> (usize, Done) {
        let object = input.object();
        let mut delivery = Delivery {
            index,
            input,
            seen: Seen::new(self.rejects.is_some().then(|| object.to_string())),
            replayed: Replayed::default(),
            number: 1,
            since: Instant::now(),
            why: None,
        };
        if self.outage.retry_for.is_zero() || !input.can_be_read_again() {
            delivery.number = Attempt::ONLY.number;
        }
        delivery.replayed.has_unread = true;
        let mut gave_up = None;
        loop {
            let started = Instant::now();
            let next = self.attempt(&mut delivery).await;
            let wait = wait(delivery.number);
            let goes_on = match next {
                Next::Done | Next::GiveUpObject => false,
                Next::GiveUpAll => {
                    gave_up = delivery.why.as_deref().map(given_up);
                    false
                }
                _ if !input.can_be_read_again() => false,
                Next::Soon => self.pause(wait).await,
                Next::Doubt(_) if self.outage.has_accepted_since(started) => false,
                Next::Wait(after) | Next::Doubt(after) => {
                    self.outage.begin(started);
                    let after = after.unwrap_or_default();
                    let time = self.outage.retry_for;
                    let time = time.saturating_sub(delivery.since.elapsed());
                    if after > time && !time.is_zero() {
                        let (after, time) = (short(after), short(self.outage.retry_for));
                        let asks = format!(
                            "the bridge asks to wait at least {after}, longer than --retry-for {time}"
                        );
                        let why = delivery.why.take();
                        delivery.why =
                            Some(why.map_or(asks.clone(), |why| format!("{why}; {asks}")));
                        false
                    } else if time.is_zero() {
                        if self.outage.is_over() {
                            let why = given_up(delivery.why.as_deref().unwrap_or_default());
                            let time = short(self.outage.retry_for);
                            gave_up = Some(format!("nothing was accepted for {time} ({why})"));
                        }
                        false
                    } else {
                        self.outage
                            .show(delivery.why.as_deref().unwrap_or_default());
                        self.meter.waits_for(Some("waiting for the bridge"));
                        self.pause(wait.max(after).min(time)).await
                    }
                }
            };
            if !goes_on {
                break;
            }
            delivery.number = delivery.number.saturating_add(1);
        }
        let Delivery {
            mut replayed,
            seen,
            why,
            ..
        } = delivery;
        replayed.read = seen.counts();
        let rejected = replayed.summary.rejected.len() as u64;
        let rejected = (rejected > 0)
            .then(|| format!("the bridge rejected {}", count(rejected, "row", "rows")));
        let flawed = flawed(&replayed.summary.flaws);
        let first = self.remaining().rows(index).first();
        if replayed.problem.is_none() {
            let left = why.is_some().then(|| match first {
                Some(0) if replayed.summary.counts.sent == 0 => "no row was delivered".to_owned(),
                Some(row) => format!("not all rows were delivered (the first is row {row})"),
                None => "it cannot be read to its end".to_owned(),
            });
            replayed.problem = sentence(&object, [rejected, flawed, left]);
            replayed.cause = why.as_deref().map(given_up);
        }
        let is_refused = replayed.is_opened && first.is_some() && replayed.summary.counts.sent == 0;
        let done = Done {
            replayed,
            is_refused,
            gave_up,
        };
        (index, done)
    }

    /// Makes one attempt at the rows of an object that are left.
    async fn attempt(&self, delivery: &mut Delivery<'_>) -> Next {
        let Delivery {
            index,
            input,
            seen,
            replayed,
            number,
            since,
            why,
        } = delivery;
        let index = *index;
        (replayed.problem, *why) = (None, None);
        if *self.stop.borrow() {
            return Next::GiveUpObject;
        }
        let opened = tokio::select! {
            () = self.stopped() => return Next::GiveUpObject,
            opened = self.open(index, input) => opened,
        };
        let Opened { object, bytes, .. } = match opened {
            Ok(opened) => opened,
            Err(Unopened { problem, hint }) => {
                (replayed.problem, replayed.hint) = (Some(problem), hint);
                return Next::GiveUpObject;
            }
        };
        let rules = tokio::select! {
            () = self.stopped() => return Next::GiveUpObject,
            rules = self.keyed_rules() => rules,
        };
        let rules = match rules {
            Ok(rules) => rules,
            Err(trouble) => {
                let next = of_trouble(&trouble, *number);
                *why = Some(trouble.why);
                return next;
            }
        };
        let bytes = if std::mem::replace(&mut replayed.is_opened, true) {
            bytes // the bar has it already
        } else {
            Box::new(self.meter.bar.wrap_read(bytes))
        };
        seen.restart();
        let job = Job {
            object,
            rows: self.remaining().rows(index),
        };
        let settled = |_: &Summary, part: &Batch, settled: Settled| {
            self.remaining().settle(index, &part.rows);
            let lines = seen.settle(&part.rows, settled);
            if let Some(rejects) = &self.rejects {
                rejects.write(&lines);
            }
            self.meter.add(part.counts.rows);
            if settled == Settled::Accepted && !part.marks.is_empty() && self.outage.end() {
                self.meter.waits_for(None);
            }
        };
        let watch = Watch {
            rows: seen.clone(),
            settled,
            stop: self.stopped(),
        };
        let attempt = Attempt {
            deadline: Deadline::after(LONG),
            number: *number,
        };
        let (place, bridge) = (Place::Thread, &self.bridge);
        let outcome = ingest_watched(&job, bytes, place, &rules, bridge, attempt, watch).await;
        self.remaining().leave(index, &outcome);
        if let (Some(rejects), Some((rows, error))) = (&self.rejects, &outcome.unreadable) {
            let row = rows.first().unwrap_or_default();
            rejects.write(&unreadable(&job.object, row, error));
        }
        if let Some(rows) = outcome.rows
            && job.rows.ranges().iter().any(|left| ends_before(rows, left))
        {
            replayed.problem = Some(format!(
                "{}: the log has {rows} rows, and had more when part of it was delivered",
                job.object
            ));
        }
        let next = next(&outcome, *number);
        let left = outcome.left.ranges().last();
        replayed.has_unread = left.is_some_and(|left| left.end > seen.next_row());
        replayed.is_skipped = outcome.is_skipped;
        replayed.retries += outcome.retries();
        *why = outcome.why().filter(|_| !outcome.is_interrupted());
        if outcome.summary.counts.rows > 0 {
            *since = Instant::now();
            if matches!(next, Next::Wait(_)) {
                *number = 0;
            }
        }
        add(&mut replayed.summary, outcome.summary);
        next
    }

    /// Opens the version of an object that was begun, or the current one. What is left of one that was
    /// replaced cannot be delivered, and is not left any more.
    async fn open(&self, index: usize, input: &Input) -> Result<Opened, Unopened> {
        let known = self.remaining().object(index);
        let opened = Box::pin(input.open_version(&known)).await;
        let opened = opened.map_err(|error| Unopened {
            problem: error.to_string(),
            hint: None,
        })?;
        let mut remaining = self.remaining();
        if remaining.begin(index, &opened.object, opened.size) {
            return Ok(opened);
        }
        remaining.give_up(index);
        let name = opened.object.to_string();
        Err(Unopened {
            problem: format!(
                "{name}: it was replaced after part of it was delivered, so what is left of it is unknown"
            ),
            hint: Some(format!(
                "deliver the new one whole: {} {}",
                self.command,
                quoted(&name)
            )),
        })
    }

    /// Gets the token, and with it the key of cookies.
    async fn keyed_rules(&self) -> Result<Arc<Rules>, Trouble> {
        self.bridge.warm_up(Deadline::after(LONG)).await?;
        let key = self.bridge.tokens().redaction_key();
        self.rules.keyed(key).map_err(|error| Trouble {
            scope: Scope::Bridge,
            why: error.to_string(),
            after: None,
            lasts: true,
        })
    }

    /// Waits. Returns `false` at once when no batch is to be begun.
    async fn pause(&self, time: Duration) -> bool {
        tokio::select! {
            () = self.stopped() => false,
            () = tokio::time::sleep(time) => true,
        }
    }

    async fn stopped(&self) {
        // The sender lives as long as `self`.
        _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }
}

/// Why an object cannot be opened: a sentence that names it, and what to do.
struct Unopened {
    problem: String,
    hint: Option<String>,
}

/// Returns why something was not delivered, once that is final.
fn given_up(why: &str) -> String {
    why.replacen("cannot get a token yet:", "cannot get a token:", 1)
}

/// Whether a log with this number of rows cannot be the one that these rows were left of.
fn ends_before(rows: u64, left: &Range<u64>) -> bool {
    rows < left.start || left.end != OPEN && rows < left.end
}

/// Adds what an attempt has settled.
fn add(summary: &mut Summary, more: Summary) {
    summary.counts += more.counts;
    summary.batches += more.batches;
    summary.bytes += more.bytes;
    summary.rejected.extend(more.rejected);
    summary.flaws.extend(&more.flaws);
    summary.absent.extend(more.absent);
}

/// Returns a channel that receives each Ctrl-C and SIGTERM. From now on, none ends the process.
async fn interrupts() -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel(2);
    let mut next = Box::pin(tokio::signal::ctrl_c());
    // The first poll registers the handler.
    let first = future::poll_immediate(&mut next).await;
    #[cfg(unix)]
    if let Ok(mut terminations) = signal(SignalKind::terminate()) {
        let sender = sender.clone();
        tokio::spawn(async move {
            while terminations.recv().await.is_some() && sender.send(()).await.is_ok() {}
        });
    }
    tokio::spawn(async move {
        if first.is_none() {
            while (&mut next).await.is_ok() && sender.send(()).await.is_ok() {
                next = Box::pin(tokio::signal::ctrl_c());
            }
        }
    });
    receiver
}
