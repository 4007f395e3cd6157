//! `Change`: `hibernate`, `resume`, `pause` and `unpause`: one field of the spec, and the condition that says it is done.
//!
//! What must hold: a store that is as asked for is not written to; the condition counts only when it speaks of the spec
//! that was written.

use std::time::Duration;

use serde_json::{Value, json};

use super::cluster::{Cluster, Condition, json};
use crate::error::Error;
use crate::output::Output;

/// One of the four.
pub(super) struct Change {
    /// What is said when it is done.
    done: &'static str,
    /// The field of the spec, its value, and the value that stands for its absence.
    field: &'static str,
    value: &'static str,
    default: &'static str,
    /// The condition that says so: its type, whether it holds then, and its reason, if only that one will do.
    condition: (&'static str, bool, Option<&'static str>),
}

pub(super) const HIBERNATE: Change = Change {
    done: "is hibernated: no member runs, and the data is kept",
    field: "desiredState",
    value: "Hibernated",
    default: "Running",
    condition: ("Available", false, Some("Hibernated")),
};
pub(super) const RESUME: Change = Change {
    done: "runs and answers",
    field: "desiredState",
    value: "Running",
    default: "Running",
    condition: ("Ready", true, None),
};
pub(super) const PAUSE: Change = Change {
    done: "is paused: the operator only looks, until `kubectl kvs unpause`",
    field: "reconcilePolicy",
    value: "Paused",
    default: "Managed",
    condition: ("Paused", true, None),
};
pub(super) const UNPAUSE: Change = Change {
    done: "is looked after by the operator again",
    field: "reconcilePolicy",
    value: "Managed",
    default: "Managed",
    condition: ("Paused", false, Some("Managed")),
};

impl Change {
    /// Writes the field and waits until the condition says that it is done.
    pub(super) async fn carry_out(
        &self,
        cluster: &Cluster,
        name: &str,
        limit: Option<Duration>,
        output: Output,
    ) -> Result<(), Error> {
        let Self { done, field, value, .. } = self;
        let store = json(&cluster.store(name).await?);
        let is_new = !self.is_asked_for(&store);
        let store =
            if is_new { json(&cluster.patch_store(name, &json!({"spec": {*field: value}})).await?) } else { store };
        let place = format!("{}/{name}", cluster.namespace);
        let mut object = json!({"store": place, *field: value, "changed": is_new, "done": true});
        let Some(limit) = limit else {
            let is_done = self.is_done(&store).is_ok();
            object["done"] = is_done.into();
            let text = if is_done { format!("{place} {done}") } else { format!("{place}: {field} is {value} now") };
            return output.report(&text, &object);
        };
        let next = cluster.command("status", name);
        let awaited = format!("{place} {done}");
        cluster.wait_for(&awaited, limit, &next, async || Ok(self.is_done(&json(&cluster.store(name).await?)))).await?;
        output.report(&format!("{place} {done}{}", if is_new { "" } else { ", as before" }), &object)
    }

    fn is_asked_for(&self, store: &Value) -> bool {
        store.pointer(&format!("/spec/{}", self.field)).and_then(Value::as_str).unwrap_or(self.default) == self.value
    }

    /// Whether the status says so; else what it says instead.
    fn is_done(&self, store: &Value) -> Result<(), String> {
        let (name, holds, reason) = self.condition;
        match Condition::find(store, name) {
            None => Err("the operator has not reported about it yet (is kvs-operator running?)".into()),
            Some(found) if !found.is_current => Err("the operator has not seen the change yet".into()),
            Some(found) if found.holds == holds && reason.is_none_or(|reason| found.reason == reason) => Ok(()),
            // Ready has the words that a person can act on.
            Some(found) => Err(Condition::find(store, "Ready").unwrap_or(found).words()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(spec: &Value, generation: i64, condition: (&str, &str, &str)) -> Value {
        let (name, status, reason) = condition;
        json!({
            "metadata": {"name": "orders", "generation": generation}, "spec": spec,
            "status": {"conditions": [
                {"type": name, "status": status, "reason": reason, "message": "words", "observedGeneration": 3},
            ]},
        })
    }

    #[test]
    fn a_field_that_is_absent_has_its_default() {
        assert!(RESUME.is_asked_for(&json!({"spec": {}})) && UNPAUSE.is_asked_for(&json!({})));
        assert!(!HIBERNATE.is_asked_for(&json!({"spec": {}})));
        assert!(PAUSE.is_asked_for(&json!({"spec": {"reconcilePolicy": "Paused"}})));
    }

    #[test]
    fn only_a_condition_of_the_present_spec_says_that_it_is_done() {
        let asleep = ("Available", "False", "Hibernated");
        assert_eq!(HIBERNATE.is_done(&store(&json!({}), 3, asleep)), Ok(()));
        assert!(HIBERNATE.is_done(&store(&json!({}), 4, asleep)).unwrap_err().contains("not seen"));
        let ending = ("Available", "False", "Hibernating");
        assert_eq!(HIBERNATE.is_done(&store(&json!({}), 3, ending)), Err("Hibernating: words".into()));
        assert!(HIBERNATE.is_done(&json!({})).unwrap_err().contains("kvs-operator"));
        assert_eq!(UNPAUSE.is_done(&store(&json!({}), 3, ("Paused", "False", "Managed"))), Ok(()));
        assert_eq!(PAUSE.is_done(&store(&json!({}), 3, ("Paused", "True", "ReconcilePolicyPaused"))), Ok(()));
    }
}
