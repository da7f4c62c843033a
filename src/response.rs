//! *Response*: the result of one request to the bridge, and the next step. The whole retry policy
//! is the pure function `step`, and `part` decides about refused transactions.
//!
//! | result | steps | at the last try | the same, from the third attempt on |
//! |---|---|---|---|
//! | 2xx, neither HTML nor 207 | accepted | | |
//! | 400, 413, 422 | refused | | |
//! | 401 | once more with a new token | the bridge fails | the bridge fails |
//! | 429, 503 | retries that hold back every request | the bridge fails | the bridge fails |
//! | 408, 500, 502, 504 | retries | the batch stays behind | refused |
//! | any other status, HTML, 207 | no retry | the batch stays behind | refused |
//! | closed connection | once more, if large then refused, else retries | the bridge fails | refused |
//! | no response in time | retries | the bridge fails | refused |
//! | no connection | retries | the bridge fails | the bridge fails |
//! | no token, a pause | no retry | the bridge fails | the bridge fails |
//!
//! If the bridge fails, the batch stays behind and no other one is begun.

use std::time::Duration;

/// From this attempt on, a failure of the bridge counts as a refusal of the body: by then it is
/// more likely that one transaction is the cause than that the bridge fails for a moment.
pub(crate) const HALVING_ATTEMPT: u32 = 3;

/// Tries of one body from [`HALVING_ATTEMPT`] on, because several bodies then replace one. 429 and
/// 503 still have [`Terms::tries`].
const HALVING_TRIES: u32 = 2;

/// Bytes. A closed connection may mean that a body is too large if it has more than these. The
/// smallest limit in wide use is AWS WAF's, 8 KB.
const LARGE: usize = 8 << 10;

/// The result of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// A response; `after` is the wait that it asks for.
    Status {
        status: u16,
        is_html: bool,
        after: Option<Duration>,
    },
    /// The connection was closed before the response.
    HungUp,
    /// No response in time, or none that can be read.
    NoResponse,
    /// No connection, or none that TLS accepts.
    Unreachable,
    /// No token, no time, or a pause that the bridge asked for and that is not over.
    NotSent { after: Option<Duration> },
}

impl Answer {
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the same is to be expected until the operator acts. A server error, and a request to
    /// wait, pass.
    pub(crate) fn lasts(&self) -> bool {
        match *self {
            Self::Status { status, after, .. } => {
                after.is_none() && !matches!(status, 408 | 425 | 429 | 500..)
            }
            _ => false,
        }
    }

    /// Returns the wait that was asked for.
    pub(crate) fn after(&self) -> Option<Duration> {
        match self {
            Self::Status { after, .. } | Self::NotSent { after } => *after,
            _ => None,
        }
    }
}

/// What was tried with one body so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tries {
    /// Requests that were retried as failures, before this one.
    pub(crate) failed: u32,
    /// Whether a connection was closed before the response, in an earlier try.
    pub(crate) hung_up: bool,
    /// Whether it was sent with a new token.
    pub(crate) renewed: bool,
}

/// What the policy needs to know about a body and its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    /// Bytes of the body.
    pub(crate) bytes: usize,
    /// Number of the attempt at its rows, from 1.
    pub(crate) attempt: u32,
    /// The most requests for one body, the first included.
    pub(crate) tries: u32,
    /// Whether it is rejected if the bridge refuses it once more.
    pub(crate) is_last: bool,
}

/// What a failure affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Perhaps this batch only: other batches are sent.
    Batch,
    /// The whole bridge: no other batch is begun.
    Bridge,
}

/// The next step with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The bridge accepted it.
    Accept,
    /// Send it again at once, which does not count as a try.
    Reconnect,
    /// Send it again with a new token.
    Renew,
    /// Send it again after the backoff or the wait that was asked for. `hold` holds back every
    /// request of the process for that time.
    Retry { hold: bool },
    /// The bridge refuses it: [`part`] decides, or a probe is sent. Without a witness, it stays
    /// behind with this scope.
    Refuse(Scope),
    /// It stays behind, for a later attempt.
    Leave(Scope),
}

/// Whether a response accepts every transaction of its request.
pub(crate) fn is_success(status: u16, is_html: bool) -> bool {
    (200..=299).contains(&status) && status != 207 && !is_html
}

/// Returns the next step.
pub(crate) fn step(answer: &Answer, tries: Tries, terms: Terms) -> Step {
    let is_late = terms.attempt >= HALVING_ATTEMPT;
    let left = if is_late && !terms.is_last {
        terms.tries.min(HALVING_TRIES)
    } else {
        terms.tries
    };
    let retry_or = |hold: bool, last: Step| {
        if tries.failed + 1 < left {
            Step::Retry { hold }
        } else {
            last
        }
    };
    let leave = |scope| {
        if is_late {
            Step::Refuse(scope)
        } else {
            Step::Leave(scope)
        }
    };
    match *answer {
        Answer::HungUp if !tries.hung_up => Step::Reconnect,
        Answer::HungUp if terms.bytes > LARGE => Step::Refuse(Scope::Bridge),
        Answer::HungUp | Answer::NoResponse => retry_or(false, leave(Scope::Bridge)),
        Answer::Unreachable => retry_or(false, Step::Leave(Scope::Bridge)),
        Answer::NotSent { .. } => Step::Leave(Scope::Bridge),
        Answer::Status {
            status,
            is_html,
            after,
        } => match status {
            _ if is_success(status, is_html) => Step::Accept,
            400 | 413 | 422 => Step::Refuse(Scope::Batch),
            401 if !tries.renewed => Step::Renew,
            503 if after.is_none() => retry_or(true, leave(Scope::Bridge)),
            429 | 503 if tries.failed + 1 < terms.tries => Step::Retry { hold: true },
            401 | 429 => Step::Leave(Scope::Bridge),
            // Who asks for a wait means all requests.
            _ if after.is_some() => Step::Leave(Scope::Bridge),
            408 | 500 | 502 | 504 => retry_or(false, leave(Scope::Batch)),
            _ => leave(Scope::Batch),
        },
    }
}

/// Returns after how many batches in a row, of which nothing was accepted, no other is begun in
/// this attempt: then the bridge probably fails on everything. It doubles with each attempt, so that
/// the same batches at the beginning of a log cannot withhold those behind them.
pub(crate) fn most_behind(attempt: u32) -> u32 {
    MAX_BEHIND << attempt.saturating_sub(1).min(6)
}

/// Returns what the operator should check after a status.
pub(crate) fn advice(status: u16, is_html: bool) -> &'static str {
    match status {
        _ if is_html && (200..=299).contains(&status) => {
            "This is probably a login page or a proxy, not the bridge. Check BRIDGE_EDGE_ENDPOINT"
        }
        207 => {
            "This status does not say that every transaction was accepted. Check that \
             BRIDGE_EDGE_ENDPOINT is the bridge"
        }
        300..=399 => {
            "Redirects are not followed. Set BRIDGE_EDGE_ENDPOINT to the redirect's target"
        }
        400 | 422 => {
            "Check that BRIDGE_EDGE_ENDPOINT accepts API transactions, and check the bridge's log"
        }
        401 => {
            "It rejects a fresh token. Check that BRIDGE_AUTH_ENDPOINT and BRIDGE_EDGE_ENDPOINT \
             belong to the same tenant"
        }
        403 => {
            "Check the permissions of the OAuth client, and any firewall in front of the bridge: \
             it may refuse the size of a request, or text in it"
        }
        404 | 405 => "Check the path of BRIDGE_EDGE_ENDPOINT",
        413 => "Set BATCH_MAX_BYTES below the limit of the bridge or of a proxy in front of it",
        408 | 429 | 500 | 502 | 503 | 504 => "Check the bridge",
        _ => "Check BRIDGE_EDGE_ENDPOINT and the bridge's log",
    }
}

/// Rejected parts of one object after which a refused part of at most [`SMALL_PART`] transactions
/// is rejected whole. Each bad transaction costs two requests per halving.
pub(crate) const MAX_ISOLATED: usize = 10;

/// The most batches in a row of which nothing was accepted, in the first attempt. After so many
/// batches with probes, no more probes are sent.
pub(crate) const MAX_BEHIND: u32 = 10;

/// Parts that one witness speaks for. If the bridge fails from then on, no more are lost to it.
pub(crate) const VOUCHED_PARTS: u32 = 3;

/// The most transactions of a part that is rejected whole.
pub(crate) const SMALL_PART: usize = 4;

/// Single transactions of a refused batch that are sent in search of a witness, in one attempt.
/// They are chosen at random, so that a viewer cannot place bad transactions exactly there.
pub(crate) const MAX_PROBES: u32 = 8;

/// A refused part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RefusedPart {
    pub(crate) transactions: usize,
    /// Bytes of the body.
    pub(crate) bytes: usize,
    /// `None` if the bridge closed the connection or did not respond.
    pub(crate) status: Option<u16>,
}

impl RefusedPart {
    /// Whether its size may be the reason, so that each of its halves may be accepted.
    fn may_be_too_large(self) -> bool {
        self.bytes > LARGE || matches!(self.status, None | Some(413))
    }
}

/// What to do with a refused part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Send its halves.
    Halve,
    /// Reject its transactions for good.
    Reject,
    /// Keep it until there is a witness: the bridge may refuse everything.
    Keep,
}

/// Decides about a refused part. A witness is a request that was sent after the batch's first
/// refusal, at most a minute ago, and accepted; `vouched` counts the parts that were rejected
/// because of it. `isolated` counts the parts of the object that were rejected before.
pub(crate) fn part(refused: RefusedPart, vouched: Option<u32>, isolated: usize) -> Part {
    let Some(vouched) = vouched else {
        return Part::Keep;
    };
    let is_whole = refused.transactions < 2
        || (refused.transactions <= SMALL_PART
            && isolated >= MAX_ISOLATED
            && !refused.may_be_too_large());
    match () {
        () if is_whole && vouched < VOUCHED_PARTS => Part::Reject,
        () if refused.transactions < 2 => Part::Keep,
        // A half may be the next witness.
        () => Part::Halve,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Terms = Terms {
        bytes: 1_000,
        attempt: 1,
        tries: 5,
        is_last: false,
    };
    const SECOND: Terms = Terms {
        attempt: 2,
        ..FIRST
    };
    const THIRD: Terms = Terms {
        attempt: 3,
        ..FIRST
    };
    const LARGE_BODY: Terms = Terms {
        bytes: LARGE + 1,
        ..FIRST
    };
    const NO_TRIES: Tries = Tries {
        failed: 0,
        hung_up: false,
        renewed: false,
    };
    const RETRY: Step = Step::Retry { hold: false };
    const HOLD: Step = Step::Retry { hold: true };
    const REFUSED: Step = Step::Refuse(Scope::Batch);
    const REFUSED_BY_ALL: Step = Step::Refuse(Scope::Bridge);
    const BEHIND: Step = Step::Leave(Scope::Batch);
    const STOP: Step = Step::Leave(Scope::Bridge);

    fn status(status: u16) -> Answer {
        Answer::Status {
            status,
            is_html: false,
            after: None,
        }
    }

    fn failed(failed: u32) -> Tries {
        Tries { failed, ..NO_TRIES }
    }

    // proves: B1, B2, B3, B4, B6, B8, B9
    #[test]
    fn status_decides_the_next_step() {
        // First try and last try of the first attempt, of the second, and of the third.
        for (statuses, first, last, second, third_first, third) in [
            (
                &[200, 201, 202, 204, 299][..],
                Step::Accept,
                Step::Accept,
                Step::Accept,
                Step::Accept,
                Step::Accept,
            ),
            (
                &[400, 413, 422],
                REFUSED,
                REFUSED,
                REFUSED,
                REFUSED,
                REFUSED,
            ),
            (&[429], HOLD, STOP, STOP, HOLD, STOP),
            (&[503], HOLD, STOP, STOP, HOLD, REFUSED_BY_ALL),
            (&[408, 500, 502, 504], RETRY, BEHIND, BEHIND, RETRY, REFUSED),
            (
                &[
                    207, 301, 302, 308, 402, 403, 404, 405, 406, 409, 415, 418, 431, 451, 501, 505,
                    599, 999,
                ],
                BEHIND,
                BEHIND,
                BEHIND,
                REFUSED,
                REFUSED,
            ),
        ] {
            for &code in statuses {
                let answer = status(code);
                assert_eq!(step(&answer, NO_TRIES, FIRST), first, "{code}");
                assert_eq!(step(&answer, failed(4), FIRST), last, "{code}");
                assert_eq!(step(&answer, failed(4), SECOND), second, "{code}");
                assert_eq!(step(&answer, NO_TRIES, THIRD), third_first, "{code}");
                assert_eq!(step(&answer, failed(4), THIRD), third, "{code}");
            }
        }
        for (tries, retried) in [(failed(3), true), (failed(4), false)] {
            for code in [500, 503] {
                let is_retry = matches!(step(&status(code), tries, FIRST), Step::Retry { .. });
                assert_eq!(is_retry, retried, "{code} {tries:?}");
            }
        }
        assert_eq!(step(&status(500), failed(0), THIRD), RETRY);
        assert_eq!(step(&status(500), failed(1), THIRD), REFUSED);
        assert_eq!(step(&status(503), failed(1), THIRD), REFUSED_BY_ALL);
        assert_eq!(step(&status(429), failed(3), THIRD), HOLD);
        // What may be rejected next gets all tries.
        let last = Terms {
            is_last: true,
            ..THIRD
        };
        assert_eq!(step(&status(500), failed(3), last), RETRY);
        assert_eq!(step(&status(500), failed(4), last), REFUSED);
    }

    // proves: B1
    #[test]
    fn html_is_no_success() {
        for (code, first, third) in [
            (200, BEHIND, REFUSED),
            (204, BEHIND, REFUSED),
            (403, BEHIND, REFUSED),
        ] {
            let answer = Answer::Status {
                status: code,
                is_html: true,
                after: None,
            };
            assert_eq!(step(&answer, NO_TRIES, FIRST), first, "{code}");
            assert_eq!(step(&answer, NO_TRIES, THIRD), third, "{code}");
        }
    }

    // proves: B7
    #[test]
    fn wait_that_is_asked_for_is_for_all_requests() {
        for code in [403, 404, 500, 502, 503, 504] {
            let answer = Answer::Status {
                status: code,
                is_html: false,
                after: Some(Duration::from_mins(2)),
            };
            for terms in [FIRST, THIRD] {
                assert_eq!(step(&answer, failed(4), terms), STOP, "{code} {terms:?}");
            }
        }
    }

    // proves: B9
    #[test]
    fn more_failing_batches_are_begun_in_later_attempts() {
        let most = [
            (0, 10),
            (1, 10),
            (2, 20),
            (3, 40),
            (7, 640),
            (u32::MAX, 640),
        ];
        for (attempt, batches) in most {
            assert_eq!(most_behind(attempt), batches, "{attempt}");
        }
    }

    // proves: B2
    #[test]
    fn rejected_token_is_renewed_once() {
        assert_eq!(step(&status(401), NO_TRIES, FIRST), Step::Renew);
        let renewed = Tries {
            renewed: true,
            ..NO_TRIES
        };
        for terms in [FIRST, THIRD] {
            assert_eq!(step(&status(401), renewed, terms), STOP, "{terms:?}");
        }
    }

    // proves: B6, B10, B12
    #[test]
    fn missing_response_decides_the_next_step() {
        let not_sent = Answer::NotSent { after: None };
        let hung_up = |failed| Tries {
            failed,
            hung_up: true,
            renewed: false,
        };
        for (answer, tries, terms, next) in [
            (Answer::HungUp, NO_TRIES, FIRST, Step::Reconnect),
            (Answer::HungUp, failed(3), LARGE_BODY, Step::Reconnect),
            (Answer::HungUp, hung_up(0), LARGE_BODY, REFUSED_BY_ALL),
            (
                Answer::HungUp,
                hung_up(0),
                Terms {
                    bytes: LARGE,
                    ..FIRST
                },
                RETRY,
            ),
            (Answer::HungUp, hung_up(3), FIRST, RETRY),
            (Answer::HungUp, hung_up(4), FIRST, STOP),
            (Answer::HungUp, hung_up(0), THIRD, RETRY),
            (Answer::HungUp, hung_up(1), THIRD, REFUSED_BY_ALL),
            (Answer::NoResponse, NO_TRIES, FIRST, RETRY),
            (Answer::NoResponse, failed(4), SECOND, STOP),
            (Answer::NoResponse, failed(1), THIRD, REFUSED_BY_ALL),
            (Answer::NoResponse, NO_TRIES, LARGE_BODY, RETRY),
            (Answer::Unreachable, NO_TRIES, FIRST, RETRY),
            (Answer::Unreachable, failed(4), FIRST, STOP),
            (Answer::Unreachable, failed(4), THIRD, STOP),
            (not_sent.clone(), NO_TRIES, FIRST, STOP),
            (not_sent, NO_TRIES, THIRD, STOP),
        ] {
            assert_eq!(
                step(&answer, tries, terms),
                next,
                "{answer:?} {tries:?} {terms:?}"
            );
        }
    }

    // proves: B4, B5
    #[test]
    fn refused_part_is_rejected_beside_a_witness_only() {
        for (transactions, vouched, isolated, fate) in [
            (250, None, 0, Part::Keep),
            (1, None, 0, Part::Keep),
            (1, None, 10, Part::Keep),
            (250, Some(0), 0, Part::Halve),
            (4, Some(0), 9, Part::Halve),
            (4, Some(0), 10, Part::Reject),
            (5, Some(0), 10, Part::Halve),
            (2, Some(2), 10, Part::Reject),
            (2, Some(3), 10, Part::Halve),
            (250, Some(0), 500, Part::Halve),
            (250, Some(3), 500, Part::Halve),
            (1, Some(0), 0, Part::Reject),
            (1, Some(2), 10, Part::Reject),
            (1, Some(3), 0, Part::Keep),
            (1, Some(3), 10, Part::Keep),
        ] {
            let refused = RefusedPart {
                transactions,
                bytes: LARGE,
                status: Some(400),
            };
            assert_eq!(
                part(refused, vouched, isolated),
                fate,
                "{transactions} {vouched:?} {isolated}"
            );
        }
    }

    // proves: B4, B10
    #[test]
    fn part_that_may_be_too_large_is_never_rejected_whole() {
        for (bytes, status, fate) in [
            (LARGE, Some(400), Part::Reject),
            (LARGE, Some(403), Part::Reject),
            (LARGE + 1, Some(403), Part::Halve),
            (1, Some(413), Part::Halve),
            (1, None, Part::Halve),
        ] {
            let refused = |transactions| RefusedPart {
                transactions,
                bytes,
                status,
            };
            assert_eq!(part(refused(2), Some(0), 10), fate, "{bytes} {status:?}");
            assert_eq!(part(refused(1), Some(0), 10), Part::Reject);
        }
    }
}
