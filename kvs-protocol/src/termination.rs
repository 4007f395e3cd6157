//! Why a server could not go on, in one line that outlives it.
//!
//! What must hold: the server writes the line to its termination log as its last act, Kubernetes keeps it in the pod's
//! status, and the operator turns it into a condition. So the word before the colon is contract; the rest is for people.
//!
//! ```text
//! corruption: /var/lib/kvs/data/000001.log: corruption at byte 4096 (sequence 17): ...
//! ```

use std::fmt;

/// Bytes of one termination message. Kubernetes keeps 4,096 of all containers of a pod together; ours has one container.
pub const TERMINATION_MESSAGE_LIMIT_BYTES: usize = 4096;

/// What ended a server, in one word that programs decide by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TerminationCause {
    /// Acknowledged data is damaged. A person must restore a backup.
    Corruption,
    /// A sync failed, so nothing more may be acknowledged. A person must look at the disk; a restart may help.
    Poisoned,
    /// The data folder belongs to another store. A person must give each store a volume of its own.
    ForeignVolume,
    /// The data folder was written by another engine. A person must name that engine.
    WrongEngine,
    /// A backup that was to be restored is not what it was. A person must name another one.
    BackupDamaged,
    /// The configuration is wrong. A person must correct it.
    Configuration,
    /// Anything else: another process holds the folder, a port is taken, the disk can't be read.
    Failure,
}

impl TerminationCause {
    /// Every cause, in the order of the documentation.
    pub const ALL: &'static [Self] = &[
        Self::Corruption,
        Self::Poisoned,
        Self::ForeignVolume,
        Self::WrongEngine,
        Self::BackupDamaged,
        Self::Configuration,
        Self::Failure,
    ];

    /// The word before the colon.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Corruption => "corruption",
            Self::Poisoned => "poisoned",
            Self::ForeignVolume => "foreignVolume",
            Self::WrongEngine => "wrongEngine",
            Self::BackupDamaged => "backupDamaged",
            Self::Configuration => "configuration",
            Self::Failure => "failure",
        }
    }
}

impl fmt::Display for TerminationCause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// The line in a termination log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TerminationMessage {
    /// What programs decide by.
    pub cause: TerminationCause,
    /// What a person reads: cause, place and what to do next.
    pub text: String,
}

impl TerminationMessage {
    /// Reads what a server left behind. A line without a known word, from a crash for example, is a
    /// [`TerminationCause::Failure`] with the whole line as its text; `None` when there is no text at all.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        let line = line.trim();
        if line.is_empty() {
            return None;
        }
        let known = line.split_once(": ").and_then(|(word, text)| {
            let cause = TerminationCause::ALL.iter().copied().find(|cause| cause.as_str() == word)?;
            Some(Self { cause, text: text.to_owned() })
        });
        Some(known.unwrap_or_else(|| Self { cause: TerminationCause::Failure, text: line.to_owned() }))
    }
}

impl fmt::Display for TerminationMessage {
    /// One line of at most [`TERMINATION_MESSAGE_LIMIT_BYTES`]: line breaks become spaces, the end is cut.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = format!("{}: {}", self.cause, self.text.replace(['\n', '\r'], " "));
        let mut end = line.len().min(TERMINATION_MESSAGE_LIMIT_BYTES);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        formatter.write_str(&line[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_writes_is_what_the_operator_reads() {
        for cause in TerminationCause::ALL {
            let message = TerminationMessage { cause: *cause, text: "data/1.log: byte 3: bad".into() };
            assert_eq!(TerminationMessage::parse(&message.to_string()).unwrap(), message);
        }
    }

    #[test]
    fn a_line_without_a_known_word_is_a_failure_with_all_its_text() {
        let message = TerminationMessage::parse("thread 'main' panicked: index out of bounds\n").unwrap();
        assert_eq!(message.cause, TerminationCause::Failure);
        assert_eq!(message.text, "thread 'main' panicked: index out of bounds");
        assert_eq!(TerminationMessage::parse(" \n"), None);
    }

    #[test]
    fn a_long_message_is_one_line_cut_between_two_characters() {
        let message = TerminationMessage { cause: TerminationCause::Failure, text: "é\n".repeat(4096) };
        let line = message.to_string();
        assert!(line.len() <= TERMINATION_MESSAGE_LIMIT_BYTES && line.len() > TERMINATION_MESSAGE_LIMIT_BYTES - 4);
        assert!(!line.contains('\n'));
    }
}
