//! `Cron`: the five fields of a schedule, and the times that they mean.
//!
//! ```text
//! minute  hour  day of the month  month           day of the week
//! 0-59    0-23  1-31              1-12, JAN-DEC   0-7, SUN-SAT (0 and 7 are Sunday)
//! ```
//!
//! A field is `*`, a number, a range `a-b`, each of them with a step `/n`, or several of these between commas. Where both
//! fields of days are restricted, a day of either is meant; so it is in every cron.
//!
//! What must hold: a time that the clock leaves out in spring is moved to the next that it shows; an hour that it repeats in
//! autumn counts once; a search has an end even where a schedule never comes.

use std::ops::RangeInclusive;

use k8s_openapi::jiff::civil::{Date, DateTime};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{Timestamp, ToSpan as _};

/// Days that a search looks at: over eight years, in which each day of each month and each leap day comes.
const MOST_DAYS: u32 = 8 * 366 + 366;

const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A schedule. Each field is a set of numbers: bit n stands for n.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    /// Both fields of days say something, so that either is enough.
    either_day: bool,
}

impl Cron {
    /// Reads the five fields.
    ///
    /// # Errors
    /// Which field is wrong, and what it may be.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(format!("want five fields, minute hour day month weekday, found {}", fields.len()));
        };
        let weekdays = set("day of the week", weekday, 0..=7, &WEEKDAYS)?;
        let cron = Self {
            minutes: set("minute", minute, 0..=59, &[])?,
            hours: set("hour", hour, 0..=23, &[])?,
            days: set("day of the month", day, 1..=31, &[])?,
            months: set("month", month, 1..=12, &MONTHS)?,
            weekdays: (weekdays | (weekdays >> 7)) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        };
        // The eight years from this day on have each day that any other eight years have.
        let (begin, end) = (Date::constant(2024, 1, 1), Date::constant(2032, 12, 31));
        if !begin.series(1.day()).take_while(|date| *date <= end).any(|date| cron.has_day(date)) {
            return Err("no day of any year is meant; correct day and month".to_owned());
        }
        Ok(cron)
    }

    /// The first time after another one; `None` where there is none within eight years, or the calendar ends.
    #[must_use]
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let mut date = after.to_zoned(zone.clone()).date();
        for _ in 0..MOST_DAYS {
            if self.has_day(date) {
                let found = self.times(date).find_map(|time| moment(time, zone).filter(|moment| *moment > after));
                if found.is_some() {
                    return found;
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// The last time up to one and after another.
    #[must_use]
    pub fn latest(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = after.to_zoned(zone.clone()).date();
        let mut date = until.to_zoned(zone.clone()).date();
        for _ in 0..MOST_DAYS {
            if date < first {
                return None;
            }
            if self.has_day(date) {
                let times: Vec<Timestamp> = self.times(date).filter_map(|time| moment(time, zone)).collect();
                if let Some(found) = times.into_iter().filter(|moment| *moment <= until).max() {
                    return (found > after).then_some(found);
                }
            }
            date = date.yesterday().ok()?;
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let is_meant = if self.either_day { day || weekday } else { day && weekday };
        has(self.months, date.month()) && is_meant
    }

    /// The times of a day, in order.
    fn times(&self, date: Date) -> impl Iterator<Item = DateTime> {
        let (hours, minutes) = (self.hours, self.minutes);
        (0..24).filter(move |hour| has(hours, *hour)).flat_map(move |hour| {
            (0..60).filter(move |minute| has(minutes, *minute)).map(move |minute| date.at(hour, minute, 0, 0))
        })
    }
}

/// The moment at which a clock of the zone shows a time.
fn moment(time: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(time).compatible().ok()
}

fn has(set: u64, number: i8) -> bool {
    u32::try_from(number).is_ok_and(|number| (set >> number) & 1 == 1)
}

/// The numbers that a field means. Names stand for the numbers from the range's beginning on.
fn set(field: &str, text: &str, range: RangeInclusive<u32>, names: &[&str]) -> Result<u64, String> {
    let wrong = || {
        let (least, most) = (range.start(), range.end());
        Err(format!(
            "{field} '{text}': want *, numbers from {least} to {most}, ranges a-b, steps /n, or several between commas"
        ))
    };
    let number = |word: &str| {
        let named = (1..).zip(names).find(|(_, name)| name.eq_ignore_ascii_case(word));
        let number = named.map(|(place, _): (u32, _)| place - 1 + u32::from(*range.start() == 1));
        let is_number = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        number.or_else(|| word.parse().ok().filter(|_| is_number)).filter(|number| range.contains(number))
    };
    let mut set = 0;
    for part in text.split(',') {
        let (span, step) = part.split_once('/').map_or((part, None), |(span, step)| (span, Some(step)));
        let step = match step.map(str::parse::<u32>) {
            None => 1,
            Some(Ok(step)) if (1..=*range.end()).contains(&step) => step,
            Some(_) => return wrong(),
        };
        let (first, last) = match (span, span.split_once('-')) {
            ("*", _) => (Some(*range.start()), Some(*range.end())),
            (_, Some((first, last))) => (number(first), number(last)),
            // As in every cron, a number with a step begins a range to the end.
            (_, None) if part.contains('/') => (number(span), Some(*range.end())),
            (_, None) => (number(span), number(span)),
        };
        match (first, last) {
            (Some(first), Some(last)) if first <= last => {
                let step = usize::try_from(step).unwrap_or(1);
                set |= (first..=last).step_by(step).fold(0, |set, number| set | (1 << number));
            }
            _ => return wrong(),
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn following(cron: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
        let (cron, zone) = (Cron::parse(cron).unwrap(), zone(zone_name));
        let mut after = at(after);
        (0..count)
            .map(|_| {
                after = cron.next(after, &zone).unwrap();
                after.to_string()
            })
            .collect()
    }

    #[test]
    fn each_form_of_a_field_means_what_it_does_in_cron() {
        let days = |cron: &str| following(cron, "UTC", "2026-11-30T23:59:30Z", 3);
        assert_eq!(days("0 2 * * *"), ["2026-12-01T02:00:00Z", "2026-12-02T02:00:00Z", "2026-12-03T02:00:00Z"]);
        assert_eq!(days("*/20 5 * * *"), ["2026-12-01T05:00:00Z", "2026-12-01T05:20:00Z", "2026-12-01T05:40:00Z"]);
        assert_eq!(days("50/5 5 * * *"), ["2026-12-01T05:50:00Z", "2026-12-01T05:55:00Z", "2026-12-02T05:50:00Z"]);
        assert_eq!(days("0 1-9/4 * * *"), ["2026-12-01T01:00:00Z", "2026-12-01T05:00:00Z", "2026-12-01T09:00:00Z"]);
        assert_eq!(days("7,3 0 * * *"), ["2026-12-01T00:03:00Z", "2026-12-01T00:07:00Z", "2026-12-02T00:03:00Z"]);
        // The first is a Tuesday.
        assert_eq!(days("0 0 * * mon-tue"), ["2026-12-01T00:00:00Z", "2026-12-07T00:00:00Z", "2026-12-08T00:00:00Z"]);
        assert_eq!(days("0 0 * * 7"), days("0 0 * * SUN"));
        assert_eq!(days("0 0 1 jan,mar *"), ["2027-01-01T00:00:00Z", "2027-03-01T00:00:00Z", "2028-01-01T00:00:00Z"]);
        assert_eq!(days("0 0 29 2 *"), ["2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z", "2036-02-29T00:00:00Z"]);
        assert_eq!(days("0 0 3 * tue"), ["2026-12-01T00:00:00Z", "2026-12-03T00:00:00Z", "2026-12-08T00:00:00Z"]);
        assert_eq!(days("0 0 */2 * tue"), ["2026-12-01T00:00:00Z", "2026-12-15T00:00:00Z", "2026-12-29T00:00:00Z"]);
        assert_eq!(days("* * * * *")[0], "2026-12-01T00:00:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_its_field() {
        for (wrong, field) in [
            ("", "five fields"),
            ("* * * *", "five fields"),
            ("* * * * * *", "five fields"),
            ("@daily", "five fields"),
            ("60 * * * *", "minute '60'"),
            ("-1 * * * *", "minute '-1'"),
            ("+1 * * * *", "minute '+1'"),
            ("* 24 * * *", "hour '24'"),
            ("* * 0 * *", "day of the month '0'"),
            ("* * * 13 *", "month '13'"),
            ("* * * foo *", "month 'foo'"),
            ("* * * * 8", "day of the week '8'"),
            ("9-3 * * * *", "minute '9-3'"),
            ("*/0 * * * *", "minute '*/0'"),
            ("*/x * * * *", "minute '*/x'"),
            ("*/60 * * * *", "minute '*/60'"),
            ("1, * * * *", "minute '1,'"),
            ("*-3 * * * *", "minute '*-3'"),
            ("0 0 30 2 *", "no day of any year"),
        ] {
            let error = Cron::parse(wrong).unwrap_err();
            assert!(error.contains(field), "{wrong}: {error}");
        }
    }

    #[test]
    fn the_clock_is_that_of_the_zone_in_summer_and_in_winter() {
        assert_eq!(
            following("30 5 * * *", "Asia/Kolkata", "2026-12-01T00:00:00Z", 2),
            ["2026-12-02T00:00:00Z", "2026-12-03T00:00:00Z"]
        );
        // Left out: two o'clock of the 29th of March.
        assert_eq!(
            following("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", 3),
            ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]
        );
        // Repeated: two o'clock of the 25th of October.
        assert_eq!(
            following("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]
        );
    }

    #[test]
    fn of_what_was_missed_the_latest_is_found() {
        let cron = Cron::parse("*/10 * * * *").unwrap();
        let latest =
            |after: &str, until: &str| cron.latest(at(after), at(until), &TimeZone::UTC).map(|found| found.to_string());
        assert_eq!(latest("2020-01-01T00:00:00Z", "2026-12-01T00:09:59Z").as_deref(), Some("2026-12-01T00:00:00Z"));
        assert_eq!(latest("2026-12-01T00:00:00Z", "2026-12-01T00:09:59Z"), None);
        assert_eq!(latest("2026-12-01T00:00:00Z", "2026-12-01T00:10:00Z").as_deref(), Some("2026-12-01T00:10:00Z"));
        let yearly = Cron::parse("0 0 1 1 *").unwrap();
        let found = yearly.latest(at("2020-06-01T00:00:00Z"), at("2026-12-01T00:00:00Z"), &TimeZone::UTC);
        assert_eq!(found, Some(at("2026-01-01T00:00:00Z")));
    }

    /// What `latest` finds is what `next` would have come to.
    #[test]
    fn looking_back_agrees_with_looking_ahead() {
        for (cron, name) in
            [("*/7 1-3 * * *", "Europe/Berlin"), ("30 2 * * 0", "America/New_York"), ("0 */6 1,15 * *", "Asia/Kolkata")]
        {
            let (cron, zone) = (Cron::parse(cron).unwrap(), zone(name));
            let begin = at("2026-03-27T00:00:00Z");
            let mut ahead = begin;
            for _ in 0..300 {
                let next = cron.next(ahead, &zone).unwrap();
                assert_eq!(cron.latest(begin, next, &zone), Some(next), "{name}");
                assert!(next > ahead);
                ahead = next;
            }
        }
    }
}
