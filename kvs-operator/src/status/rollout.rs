//! Where the members stand, in numbers.
//!
//! What must hold: while a StatefulSet is made again around members that run, they are counted by their pods, so that a
//! store which serves is not told to be down.

use crate::observe::Observed;
use crate::resource::KvsStoreStatus;
use crate::validate::{Refusal, ValidStore};

use super::condition::{ConditionType, find as find_condition};
use super::diagnosis;

/// Where the members stand.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rollout {
    /// Members that are to run.
    pub(super) wanted: i32,
    /// Pods that exist, those that are ending included.
    pub(super) existing: i32,
    /// Pods that answer.
    pub(super) ready: i32,
    /// Pods that run the newest template.
    pub(super) updated: i32,
    /// The StatefulSet controller has seen what we applied last.
    pub(super) seen: bool,
    /// The StatefulSet is gone, going, or new, and the members are there.
    pub(super) is_recreated: bool,
    /// What the members are about.
    pub(super) phase: Phase,
}

/// What the members are about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// They are to run.
    #[default]
    Running,
    /// They are to stop, or have stopped.
    Hibernating,
    /// They are to run again, and none does yet.
    Resuming,
}

impl Rollout {
    /// Counts. `is_held_back`: the operator writes nothing, so what is there is what counts, not what is asked for.
    pub(super) fn count(
        observed: &Observed,
        verdict: Result<&ValidStore, &[Refusal]>,
        is_held_back: bool,
        previous: &KvsStoreStatus,
    ) -> Self {
        let set = observed.stateful_set.as_deref();
        let live = set.and_then(|set| set.spec.as_ref()?.replicas);
        let (wanted, is_running) = match verdict {
            Ok(valid) if !is_held_back => {
                (if valid.is_running { i32::from(valid.members) } else { 0 }, valid.is_running)
            }
            _ => (live.unwrap_or(0), live != Some(0)),
        };
        let is_going = set.is_some_and(|set| set.metadata.deletion_timestamp.is_some());
        // A status that its controller never wrote says nothing.
        let status = set.and_then(|set| set.status.as_ref()).filter(|status| status.observed_generation.is_some());
        let counted = match status {
            Some(status) if !is_going => Self {
                existing: status.replicas,
                ready: status.ready_replicas.unwrap_or(0),
                updated: status.updated_replicas.unwrap_or(0),
                seen: set.is_some_and(|set| set.metadata.generation <= status.observed_generation),
                ..Self::default()
            },
            _ => {
                let pods = |is_counted: fn(&k8s_openapi::api::core::v1::Pod) -> bool| {
                    i32::try_from(observed.pods.iter().filter(|pod| is_counted(pod)).count()).unwrap_or(i32::MAX)
                };
                let existing = pods(|_| true);
                Self { existing, ready: pods(diagnosis::is_ready), is_recreated: existing > 0, ..Self::default() }
            }
        };
        let slept = find_condition(&previous.conditions, ConditionType::Ready)
            .is_some_and(|ready| matches!(ready.reason.as_str(), "Hibernating" | "Hibernated" | "Resuming"));
        let phase = match is_running {
            false => Phase::Hibernating,
            true if slept && counted.existing == 0 => Phase::Resuming,
            true => Phase::Running,
        };
        Self { wanted, phase, ..counted }
    }

    /// Every member that is to run does, on the newest template.
    pub(super) fn is_complete(self) -> bool {
        self.seen
            && self.wanted > 0
            && self.ready == self.wanted
            && self.updated == self.wanted
            && self.existing == self.wanted
    }

    /// No member is to run, and none does.
    pub(super) fn is_asleep(self) -> bool {
        self.phase == Phase::Hibernating && self.seen && self.existing == 0
    }
}
