//! `doctor`: names the cause when something is wrong with a store, the one that explains the others first.
//!
//! What must hold: [`diagnose`] is pure; each finding has what was seen and the next command to type; what could not
//! be looked at is said, so that silence never means health.
//!
//! The order: a store that sleeps has no other trouble that counts. Where nothing is as the spec asks because nobody
//! acts on it (no operator, or a paused one), that comes first. Else what a member's own last words say, what keeps a
//! member from starting, what it says while it runs, and last what only matters at the next change.

mod definition;
mod members;
mod operator;
mod secrets;
#[cfg(test)]
mod tests;

use serde_json::{Value, json};

use super::KubectlError;
use super::cluster::{Cluster, Condition};
use super::collect::Collected;
use crate::error::Error;
use crate::output::Output;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// One word, which programs may decide by.
    pub(super) cause: String,
    /// What is wrong.
    pub(super) says: String,
    /// What was seen of it.
    pub(super) evidence: String,
    /// The next command to type.
    pub(super) next: String,
    place: Place,
}

/// Which findings explain others: those of an earlier place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    /// The store sleeps, as its spec asks.
    Asleep,
    /// Nobody does what the spec asks.
    NobodyActs(u8),
    /// What a server said before it ended.
    LastWords,
    /// What keeps a member from starting, in the order in which Kubernetes comes to it.
    Start(u8),
    /// The spec is refused.
    Spec,
    /// What a server says while it runs.
    Running(u8),
    /// What the operator says and nothing else shows.
    Told,
    /// What matters at the next change.
    Later(u8),
}

impl Finding {
    fn new(place: Place, cause: &str, says: impl Into<String>, evidence: impl Into<String>, next: String) -> Self {
        Self { cause: cause.to_owned(), says: says.into(), evidence: evidence.into(), next, place }
    }
}

/// What the causes are looked for in.
struct Case<'a> {
    seen: &'a Collected,
    namespace: &'a str,
    name: &'a str,
}

impl Case<'_> {
    fn text(&self, path: &str) -> &str {
        self.seen.store.pointer(path).and_then(Value::as_str).unwrap_or_default()
    }

    fn condition(&self, name: &str) -> Option<Condition> {
        Condition::find(&self.seen.store, name)
    }

    /// What the operator says needs a person.
    fn degraded(&self) -> Option<Condition> {
        self.condition("Degraded").filter(|degraded| degraded.holds)
    }

    fn is_to_sleep(&self) -> bool {
        self.text("/spec/desiredState") == "Hibernated"
    }

    fn is_paused(&self) -> bool {
        self.text("/spec/reconcilePolicy") == "Paused"
    }

    /// The store's pods; as far as they are known.
    fn pods(&self) -> &[Value] {
        self.seen.pods.as_deref().unwrap_or_default()
    }

    /// Whether no pod is there, so far as anybody knows.
    fn has_no_pod(&self) -> bool {
        match &self.seen.pods {
            Ok(pods) => pods.is_empty(),
            Err(_) => self.seen.store["status"]["replicas"].as_i64().unwrap_or(0) == 0,
        }
    }

    /// Whether what is there is not what the spec asks for in the coarsest way.
    fn is_left_alone(&self) -> bool {
        self.has_no_pod() != self.is_to_sleep()
    }

    fn plugin(&self, verb: &str) -> String {
        format!("kubectl kvs {verb} {} --namespace {}", self.name, self.namespace)
    }

    fn kubectl(&self, rest: &str) -> String {
        format!("kubectl --namespace {} {rest}", self.namespace)
    }
}

/// The causes, the first one first. Pure.
pub(super) fn diagnose(seen: &Collected, namespace: &str, name: &str) -> Vec<Finding> {
    let case = Case { seen, namespace, name };
    let mut findings = Vec::new();
    findings.extend(asleep(&case));
    findings.extend(paused(&case));
    findings.extend(operator::find(&case));
    findings.extend(definition::find(&case));
    findings.extend(secrets::find(&case));
    findings.extend(members::find(&case));
    findings.extend(spec_refused(&case));
    findings.extend(told(&case, &findings));
    findings.sort_by_key(|finding| finding.place);
    findings
}

fn asleep(case: &Case<'_>) -> Option<Finding> {
    let condition = case.condition("Available");
    case.is_to_sleep().then(|| {
        let is_down = case.has_no_pod();
        let evidence = match &condition {
            Some(condition) => format!("spec.desiredState is Hibernated; Available: {}", condition.words()),
            None => "spec.desiredState is Hibernated".to_owned(),
        };
        let (place, says) = if is_down {
            (Place::Asleep, "the store is hibernated: no member runs, and its data is kept")
        } else {
            (Place::Later(0), "the store is to be hibernated, and its members are still there")
        };
        Finding::new(place, "Hibernated", says, evidence, case.plugin("resume"))
    })
}

fn paused(case: &Case<'_>) -> Option<Finding> {
    let condition = case.condition("Paused").filter(|condition| condition.holds);
    case.is_paused().then(|| {
        let evidence = match &condition {
            Some(condition) => format!("spec.reconcilePolicy is Paused; {}", condition.message),
            None => "spec.reconcilePolicy is Paused".to_owned(),
        };
        let place = if case.is_left_alone() { Place::NobodyActs(2) } else { Place::Later(2) };
        let says = "the store is paused: the operator only looks, so nothing is repaired or changed";
        Finding::new(place, "Paused", says, evidence, case.plugin("unpause"))
    })
}

fn spec_refused(case: &Case<'_>) -> Option<Finding> {
    let refused = case.condition("SpecAccepted").filter(|accepted| !accepted.holds && !accepted.message.is_empty())?;
    let next = case.kubectl(&format!("edit kvsstore {}", case.name));
    Some(Finding::new(Place::Spec, &refused.reason, "the spec can't be served", refused.message, next))
}

/// What the operator says, where nothing that was found says the same.
fn told(case: &Case<'_>, found: &[Finding]) -> Option<Finding> {
    let is_new = |condition: &Condition| !found.iter().any(|finding| finding.cause == condition.reason);
    let next = case.kubectl(&format!("describe kvsstore {}", case.name));
    if let Some(degraded) = case.degraded().filter(is_new) {
        // The operator of a store whose fault is known in other words says nothing new.
        let says = "the operator says that the store needs a person";
        let is_explained = found.iter().any(|finding| matches!(finding.place, Place::LastWords | Place::Start(_)));
        return (!is_explained).then(|| Finding::new(Place::Told, &degraded.reason, says, degraded.message, next));
    }
    let growth = case.condition("StorageResized").filter(|condition| condition.reason == "GrowthRefused");
    if let Some(growth) = growth {
        let says = "the volume can't have the size that the spec asks for";
        return Some(Finding::new(Place::Told, &growth.reason, says, growth.message, next));
    }
    let ready = case.condition("Ready")?;
    (found.is_empty() && !ready.holds).then(|| {
        let says = "the store is not Ready yet, and nothing is seen that would keep it from it";
        Finding::new(Place::Told, "NotReady", says, ready.words(), case.plugin("status"))
    })
}

/// Looks at everything and prints the causes.
pub(super) async fn run(cluster: &Cluster, name: &str, output: Output) -> Result<(), Error> {
    let seen = Collected::read(cluster, name).await?;
    let findings = diagnose(&seen, &cluster.namespace, name);
    output.report(&text(&seen, &findings, &cluster.namespace, name), &object(&seen, &findings))?;
    // Sleep and pause are what somebody asked for; a script that asks whether the store serves wants to know all the same.
    if findings.is_empty() { Ok(()) } else { Err(Error::Said(KubectlError::FOUND)) }
}

/// What a person reads.
pub(super) fn text(seen: &Collected, findings: &[Finding], namespace: &str, name: &str) -> String {
    use std::fmt::Write as _;
    let first = findings.first().map(|first| crate::escape::line(&first.says)).unwrap_or_default();
    let mut text = match findings {
        [] => format!("{namespace}/{name}: nothing wrong was found"),
        [_] => format!("{namespace}/{name}: {first}"),
        [_, others @ ..] => format!("{namespace}/{name}: {first} (and {} more, below)", others.len()),
    };
    for (number, Finding { cause, says, evidence, next, .. }) in findings.iter().enumerate() {
        let (says, evidence) = (crate::escape::line(says), crate::escape::line(evidence));
        write!(text, "\n{}. {cause}: {says}\n   seen: {evidence}\n   next: {next}", number + 1)
            .expect("writing into a string can't fail");
    }
    for (what, why) in seen.unknown() {
        write!(text, "\nnot looked at: {what} ({})", crate::escape::line(why)).expect("as above");
    }
    text
}

/// What programs read.
pub(super) fn object(seen: &Collected, findings: &[Finding]) -> Value {
    let list = |Finding { cause, says, evidence, next, .. }: &Finding| json!({"cause": cause, "says": says, "evidence": evidence, "next": next});
    let unknown: Vec<Value> = seen.unknown().iter().map(|(what, why)| json!({"what": what, "why": why})).collect();
    json!({"ok": findings.is_empty(), "findings": findings.iter().map(list).collect::<Vec<_>>(), "notLookedAt": unknown})
}
