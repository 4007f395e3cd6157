//! What a workload says on its standard output, one line each, in the order in which it happened.
//!
//! What must hold: an operation is announced before it begins and acknowledged after its answer, each with one `write`
//! of less than a pipe's atomic size; so whoever reads the pipe knows what was under way when the process died.

use std::fmt;

/// What one operation does to one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Stores the value that belongs to the operation, see [`value_of`].
    Set(usize),
    /// Removes the key.
    Remove(usize),
}

impl Change {
    /// The number of the key.
    #[must_use]
    pub const fn key(self) -> usize {
        match self {
            Self::Set(key) | Self::Remove(key) => key,
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The folder is open; so many bytes of a torn tail were cut.
    Opened(u64),
    /// A key's value as it was found after opening.
    Value(usize, Option<String>),
    /// Every key's value was said.
    Dumped,
    /// An operation begins. More than one change: a batch.
    Intent(u64, Vec<Change>),
    /// An operation was acknowledged.
    Done(u64),
    /// An operation was refused, and took no effect.
    Refused(u64, String),
    /// An operation failed; whether it took effect is unknown.
    Failed(u64, String),
    /// A read was answered with this value.
    Read(usize, String),
    /// What follows belongs to this kind of work.
    Phase(String),
    /// Closing or another call without a number failed.
    Trouble(String),
    /// The workload has come to its end; its last word.
    End(String),
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opened(torn_bytes) => write!(formatter, "opened {torn_bytes}"),
            Self::Value(key, value) => write!(formatter, "value {key} {}", value.as_deref().unwrap_or("-")),
            Self::Dumped => write!(formatter, "dumped"),
            Self::Intent(number, changes) => {
                write!(formatter, "intent {number}")?;
                changes.iter().try_for_each(|change| match change {
                    Change::Set(key) => write!(formatter, " s{key}"),
                    Change::Remove(key) => write!(formatter, " r{key}"),
                })
            }
            Self::Done(number) => write!(formatter, "done {number}"),
            Self::Refused(number, why) => write!(formatter, "refused {number} {why}"),
            Self::Failed(number, why) => write!(formatter, "failed {number} {why}"),
            Self::Read(key, value) => write!(formatter, "read {key} {value}"),
            Self::Phase(name) => write!(formatter, "phase {name}"),
            Self::Trouble(what) => write!(formatter, "trouble {what}"),
            Self::End(how) => write!(formatter, "end {how}"),
        }
    }
}

impl Report {
    /// The report of a line; `None` when it is none, such as one that was cut off.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (first, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let number = || first.parse::<u64>().ok();
        let key = || first.parse::<usize>().ok();
        Some(match word {
            "opened" => Self::Opened(number()?),
            "value" if text == "-" => Self::Value(key()?, None),
            "value" => Self::Value(key()?, Some(text.to_owned())),
            "dumped" => Self::Dumped,
            "intent" => Self::Intent(number()?, text.split(' ').map(parse_change).collect::<Option<_>>()?),
            "done" => Self::Done(number()?),
            "refused" => Self::Refused(number()?, text.to_owned()),
            "failed" => Self::Failed(number()?, text.to_owned()),
            "read" => Self::Read(key()?, text.to_owned()),
            "phase" => Self::Phase(rest.to_owned()),
            "trouble" => Self::Trouble(rest.to_owned()),
            "end" => Self::End(rest.to_owned()),
            _ => return None,
        })
    }
}

fn parse_change(word: &str) -> Option<Change> {
    let key = word.get(1..)?.parse().ok()?;
    match word.get(..1)? {
        "s" => Some(Change::Set(key)),
        "r" => Some(Change::Remove(key)),
        _ => None,
    }
}

/// The value that an operation of a run stores: unique, and long enough that lines cross sectors and segments fill.
#[must_use]
pub fn value_of(run: u64, number: u64) -> String {
    let filler = usize::try_from((run.wrapping_mul(31) + number).wrapping_mul(2_654_435_761) % 240).unwrap_or(0);
    format!("{run}.{number}.{}", "v".repeat(filler))
}

/// The bytes of a key.
#[must_use]
pub fn key_of(key: usize) -> String {
    format!("key-{key:05}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]
    use super::*;

    #[test]
    fn what_is_said_is_understood() {
        let reports = [
            Report::Opened(17),
            Report::Value(3, None),
            Report::Value(4, Some(value_of(1, 2))),
            Report::Dumped,
            Report::Intent(9, vec![Change::Set(1), Change::Remove(22)]),
            Report::Done(9),
            Report::Refused(10, "no-space".into()),
            Report::Failed(11, "poisoned".into()),
            Report::Read(4, value_of(1, 2)),
            Report::Phase("compact".into()),
            Report::Trouble("closing: the store is poisoned".into()),
            Report::End("poisoned".into()),
        ];
        for report in reports {
            assert_eq!(Report::parse(&report.to_string()), Some(report));
        }
        assert_eq!(Report::parse("inte"), None);
        assert_eq!(Report::parse("intent 5 s"), None);
    }
}
