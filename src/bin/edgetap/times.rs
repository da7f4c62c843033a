//! *Time*: a time on the command line, and the window between two.

use edgetap::config::{Problem, Problems};
use edgetap::period::Window;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, SpanRelativeTo, Timestamp};

/// Which end of a date is meant.
#[derive(Clone, Copy)]
pub(crate) enum Day {
    Start,
    End,
}

/// A time, as it was given.
#[derive(Clone)]
pub(crate) struct Time {
    pub(crate) text: String,
    pub(crate) at: Timestamp,
}

impl Time {
    /// Reads a time, a date (UTC) or a duration before now. The error says what is one.
    pub(crate) fn read(text: &str, day: Day) -> Result<Self, String> {
        let at = time(text, day)?;
        let text = text.to_owned();
        Ok(Self { text, at })
    }
}

/// Reads a time, a date or a duration before now.
fn time(text: &str, day: Day) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let date = (text.len() == "2026-11-25".len()).then(|| text.parse::<Date>().ok());
    if let Some(date) = date.flatten() {
        let date = match day {
            Day::Start => Some(date),
            Day::End => date.tomorrow().ok(),
        };
        let midnight = date.map(|date| date.at(0, 0, 0, 0));
        return midnight
            .and_then(|start| TimeZone::UTC.to_timestamp(start).ok())
            .ok_or_else(|| "the date is too late".to_owned());
    }
    let duration = text.parse::<Span>().ok();
    duration
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok())
        .filter(|duration| *duration >= SignedDuration::ZERO)
        .and_then(|duration| Timestamp::now().checked_sub(duration).ok())
        .ok_or_else(|| {
            "not a time with its zone (`2026-11-25T10:00:00Z`), a date (`2026-11-25`), or a duration (`2h`, `30d`)"
                .to_owned()
        })
}

/// Returns the window between two times.
///
/// # Errors
/// [`Problems`] if it is empty.
pub(crate) fn window(since: Option<&Time>, until: Option<&Time>) -> Result<Window, Problems> {
    if let (Some(since), Some(until)) = (since, until)
        && since.at >= until.at
    {
        let (since, until) = (&since.text, &until.text);
        return Err(Problems(vec![Problem {
            message: "`--since` must be before `--until`".to_owned(),
            hint: Some(format!("these are `{since}` and `{until}`")),
        }]));
    }
    Ok(Window::new(
        since.map(|since| since.at),
        until.map(|until| until.at),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_dates_and_durations_are_read() {
        for (text, day, expected) in [
            ("2026-11-25T10:00:00Z", Day::Start, "2026-11-25T10:00:00Z"),
            ("2026-11-25T10:00+01:00", Day::End, "2026-11-25T09:00:00Z"),
            ("2026-11-25", Day::Start, "2026-11-25T00:00:00Z"),
            ("2026-11-25", Day::End, "2026-11-26T00:00:00Z"),
        ] {
            let time = Time::read(text, day).map(|time| time.at);
            assert_eq!(time, Ok(expected.parse().unwrap()), "{text}");
        }
        let before = Timestamp::now();
        for (text, hours) in [("2h", 2), ("30d", 720), ("1d12h", 36)] {
            let at = Time::read(text, Day::Start).map(|time| time.at).unwrap();
            let age = before.duration_since(at).as_secs();
            assert!((hours * 3600 - 60..=hours * 3600).contains(&age), "{text}");
        }
        for text in ["", "soon", "-2h", "2026-13-01", "2026-11-25T10:00", "30"] {
            assert!(Time::read(text, Day::Start).is_err(), "{text}");
        }
    }

    #[test]
    fn window_is_not_empty() {
        let time = |text| Time::read(text, Day::Start).unwrap();
        let (early, late) = (time("2026-11-25"), time("2026-11-26"));
        assert!(window(Some(&early), Some(&late)).is_ok());
        for (since, until) in [(&late, &early), (&early, &early)] {
            assert!(window(Some(since), Some(until)).is_err());
        }
    }
}
