//! Conditions, as the API conventions have them.
//!
//! What must hold: `lastTransitionTime` moves only when the status flips, or every reconcile would be a write; every
//! type is there from the first visit on, except TLSReady in a store without TLS.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What conditions there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionType {
    /// The summary: every member runs what the spec asks for, and answers.
    Ready,
    /// Enough members answer to serve reads and writes.
    Available,
    /// The operator or Kubernetes is at work.
    Progressing,
    /// Something is wrong that needs a person.
    Degraded,
    /// The spec can be served.
    SpecAccepted,
    /// Every volume has the size that the spec asks for.
    StorageResized,
    /// The spec can be served and may surprise its owner.
    ConfigurationWarning,
    /// The operator only looks, because the spec asks for it.
    Paused,
    /// The certificate can be served and is valid. Only where the spec asks for TLS.
    TlsReady,
}

impl ConditionType {
    /// The word in the status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::SpecAccepted => "SpecAccepted",
            Self::StorageResized => "StorageResized",
            Self::ConfigurationWarning => "ConfigurationWarning",
            Self::Paused => "Paused",
            Self::TlsReady => "TLSReady",
        }
    }
}

impl fmt::Display for ConditionType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Finds a condition in a status.
#[must_use]
pub(crate) fn find(conditions: &[Condition], condition: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|candidate| candidate.type_ == condition.as_str())
}

/// What a condition says, before it has its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether it is known to hold.
    pub(super) holds: bool,
    /// Whether it is known at all.
    known: bool,
    /// One word, which programs may decide by.
    pub(super) reason: &'static str,
    /// A sentence for people.
    pub(super) message: String,
}

impl Verdict {
    pub(super) fn yes(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: true, known: true, reason, message: message.into() }
    }

    pub(super) fn no(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, known: true, reason, message: message.into() }
    }

    pub(super) fn unknown(reason: &'static str, message: impl Into<String>) -> Self {
        Self { holds: false, known: false, reason, message: message.into() }
    }

    fn status(&self) -> &'static str {
        match (self.known, self.holds) {
            (false, _) => "Unknown",
            (true, true) => "True",
            (true, false) => "False",
        }
    }
}

/// The conditions of a status under construction.
pub(super) struct Conditions<'a> {
    previous: &'a [Condition],
    generation: Option<i64>,
    now: Time,
    list: Vec<Condition>,
}

impl<'a> Conditions<'a> {
    pub(super) fn new(previous: &'a [Condition], generation: Option<i64>, now: Time) -> Self {
        Self { previous, generation, now, list: Vec::new() }
    }

    pub(super) fn set(&mut self, condition: ConditionType, verdict: Verdict) {
        let status = verdict.status();
        let last_transition_time = find(self.previous, condition)
            .filter(|previous| previous.status == status)
            .map_or_else(|| self.now.clone(), |previous| previous.last_transition_time.clone());
        self.list.push(Condition {
            type_: condition.as_str().to_owned(),
            status: status.to_owned(),
            reason: verdict.reason.to_owned(),
            message: verdict.message,
            observed_generation: self.generation,
            last_transition_time,
        });
    }

    pub(super) fn into_list(self) -> Vec<Condition> {
        self.list
    }
}
