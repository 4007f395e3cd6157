//! How many stores there are in each state, for the metrics: a store without a running pod has no metrics of its own, so
//! that nobody but the operator can tell that it does not serve.
//!
//! What must hold: every store of the cache counts once, in one state, and none that is gone does; a state that a person
//! asked for is never counted as trouble. It is counted when somebody scrapes, so that no event has to keep it right.

use kube::runtime::reflector::Store;

use crate::resource::{KvsStore, KvsStoreStatus};
use crate::status::{ConditionType, find};

/// The state of a store, as few words as an alert needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreState {
    /// Every member runs what the spec asks for, and answers.
    Ready,
    /// Members don't answer, or the spec can't be served.
    NotReady,
    /// Members answer, and a person holds back what the operator would change.
    Paused,
    /// No member runs, because the spec asks for it.
    Hibernated,
}

impl StoreState {
    /// Every state, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Ready, Self::NotReady, Self::Paused, Self::Hibernated];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::NotReady => "not_ready",
            Self::Paused => "paused",
            Self::Hibernated => "hibernated",
        }
    }

    /// What a status says.
    #[must_use]
    pub fn of(status: &KvsStoreStatus) -> Self {
        let holds = |condition| find(&status.conditions, condition).is_some_and(|found| found.status == "True");
        let reason = |condition| find(&status.conditions, condition).map_or("", |found| found.reason.as_str());
        if matches!(reason(ConditionType::Available), "Hibernated" | "Hibernating") {
            Self::Hibernated
        } else if !holds(ConditionType::Available) {
            Self::NotReady
        } else if holds(ConditionType::Paused)
            || matches!(reason(ConditionType::Ready), "RolloutPaused" | "WaitingForDeletion")
        {
            Self::Paused
        } else if holds(ConditionType::Ready) {
            Self::Ready
        } else {
            Self::NotReady
        }
    }
}

/// Counts every store that is known, from what its status said last.
#[must_use]
pub fn count(stores: &Store<KvsStore>) -> [(StoreState, usize); 4] {
    let unknown = KvsStoreStatus::default();
    let states: Vec<StoreState> =
        stores.state().iter().map(|store| StoreState::of(store.status.as_ref().unwrap_or(&unknown))).collect();
    StoreState::ALL.map(|state| (state, states.iter().filter(|found| **found == state).count()))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use k8s_openapi::jiff::Timestamp;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;

    use super::*;

    fn status(conditions: &[(&str, &str, &str)]) -> KvsStoreStatus {
        let conditions = conditions.iter().map(|(type_, status, reason)| Condition {
            type_: (*type_).into(),
            status: (*status).into(),
            reason: (*reason).into(),
            message: String::new(),
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
            observed_generation: None,
        });
        KvsStoreStatus { conditions: conditions.collect(), ..KvsStoreStatus::default() }
    }

    #[test]
    fn what_a_person_asked_for_is_no_trouble_and_what_does_not_answer_is() {
        let serving = ("Available", "True", "Serving");
        for (conditions, expected) in [
            (vec![serving, ("Ready", "True", "AllMembersReady")], StoreState::Ready),
            (vec![("Available", "False", "NotServing"), ("Ready", "False", "Creating")], StoreState::NotReady),
            (vec![serving, ("Ready", "False", "SpecRefused")], StoreState::NotReady),
            (vec![serving, ("Ready", "False", "Unschedulable")], StoreState::NotReady),
            (vec![serving, ("Ready", "False", "Paused"), ("Paused", "True", "x")], StoreState::Paused),
            (vec![serving, ("Ready", "False", "RolloutPaused")], StoreState::Paused),
            (vec![("Available", "False", "NotServing"), ("Paused", "True", "x")], StoreState::NotReady),
            (vec![("Available", "False", "Hibernated"), ("Ready", "False", "Hibernated")], StoreState::Hibernated),
            (vec![], StoreState::NotReady),
        ] {
            assert_eq!(StoreState::of(&status(&conditions)), expected, "{conditions:?}");
        }
    }

    #[test]
    fn each_store_counts_once_until_it_is_gone() {
        let (reader, mut writer) = reflector::store();
        let mut tell = |event| {
            writer.apply_watcher_event(&event);
            count(&reader).map(|(_, count)| count)
        };
        let store = |name: &str, conditions: &[(&str, &str, &str)]| {
            let mut store = KvsStore::new(name, serde_yaml::from_str("{}").unwrap());
            store.status = Some(status(conditions));
            store
        };
        let well = [("Available", "True", "Serving"), ("Ready", "True", "AllMembersReady")];
        assert_eq!(tell(Event::Apply(store("orders", &[]))), [0, 1, 0, 0]);
        assert_eq!(tell(Event::Apply(store("carts", &well))), [1, 1, 0, 0]);
        assert_eq!(tell(Event::Apply(store("orders", &well))), [2, 0, 0, 0]);
        assert_eq!(tell(Event::Delete(store("orders", &well))), [1, 0, 0, 0]);
    }
}
