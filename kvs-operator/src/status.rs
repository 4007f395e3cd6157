//! The last step of a reconcile: what it all means for people.
//!
//! What must hold: [`assess`] is pure; it returns the status that is to be, and the caller writes it only when it
//! differs; a condition's time moves only when its status flips; each thing that a person would ask about is told once,
//! as an event, when it begins.

mod access;
mod condition;
mod diagnosis;
mod notice;
mod rollout;
mod warning;

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kvs_protocol::config::CLIENT_PORT;

pub use condition::ConditionType;
pub(crate) use condition::find;
pub use diagnosis::Fault;
pub(crate) use notice::shortened;
pub use notice::{Notice, NoticeKind};

use condition::{Conditions, Verdict};
use rollout::{Phase, Rollout};

use crate::access::PENDING;
use crate::apply::Outcome;
use crate::error::Error;
use crate::names;
use crate::observe::Observed;
use crate::plan::{Obstacle, ObstacleOwner};
use crate::quantity::Amount;
use crate::resource::{
    Endpoints, KvsStore, KvsStoreStatus, Member, Rollout as Rollouts, StorageStatus, UpdateOptions, UpdateStrategy,
};
use crate::restore::Blocked;
use crate::validate::{Refusal, ValidStore, image_tag};

/// All that a reconcile found and did.
pub struct Situation<'a> {
    /// The store as it was read.
    pub store: &'a KvsStore,
    /// What is there now, after the writes.
    pub observed: &'a Observed,
    /// Whether the store can be built.
    pub verdict: Result<&'a ValidStore, &'a [Refusal]>,
    /// Names that are taken.
    pub obstacles: &'a [Obstacle],
    /// What a paused store's operator would write and does not; `None` when it is not paused.
    pub held_back: Option<&'a [String]>,
    /// What was written.
    pub outcome: &'a Outcome,
    /// Whether the cluster's definition of a KvsStore is older than this operator, and drops a part of the status.
    pub is_definition_old: bool,
    /// The time, for conditions that flip.
    pub now: Time,
}

/// What is to be told.
#[derive(Debug)]
pub struct Assessment {
    /// The status as it is to be.
    pub status: KvsStoreStatus,
    /// What happened since the last one.
    pub notices: Vec<Notice>,
}

/// Says what the situation means.
#[must_use]
pub fn assess(situation: &Situation<'_>) -> Assessment {
    let Situation { store, observed, verdict, obstacles, held_back, outcome, is_definition_old, now } = situation;
    let previous = store.status.clone().unwrap_or_default();
    let former = obstacles.iter().any(|obstacle| obstacle.owner == ObstacleOwner::FormerStore);
    // What a former store left is not this one's.
    let rollout =
        if former { Rollout::default() } else { Rollout::count(observed, *verdict, held_back.is_some(), &previous) };
    let held_back = held_back.unwrap_or_default();
    let paused = paused(*verdict, held_back);
    let fault = find_fault(observed, *verdict, obstacles, outcome, now);
    let growth = growth(observed, *verdict, outcome);

    let mut conditions = Conditions::new(&previous.conditions, store.metadata.generation, now.clone());
    let accepted = accepted(*verdict, outcome);
    let available = available(rollout);
    let progressing = if former {
        Verdict::yes("FormerStoreLeaving", "Kubernetes is deleting the children of a former store of this name")
    } else {
        progressing(rollout, &accepted, fault.as_ref(), held_back, &growth, observed, update(*verdict))
    };
    let degraded = fault.as_ref().map_or_else(
        || Verdict::no("AsExpected", "nothing is wrong that the operator can see"),
        |fault| Verdict::yes(fault.reason, fault.message.clone()),
    );
    let ready = ready(rollout, &accepted, fault.as_ref(), held_back, &progressing);
    for (condition, verdict) in [
        (ConditionType::Ready, ready),
        (ConditionType::Available, available),
        (ConditionType::Progressing, progressing),
        (ConditionType::Degraded, degraded),
        (ConditionType::SpecAccepted, accepted),
        (ConditionType::StorageResized, growth),
        (ConditionType::ConfigurationWarning, warning::find(observed, *verdict, obstacles, *is_definition_old)),
        (ConditionType::Paused, paused),
    ] {
        conditions.set(condition, verdict);
    }
    if let Some(tls_ready) = verdict.ok().and_then(|valid| access::tls_ready(&observed.access, valid, now)) {
        conditions.set(ConditionType::TlsReady, tls_ready);
    }
    let status = KvsStoreStatus {
        observed_generation: store.metadata.generation,
        conditions: conditions.into_list(),
        replicas: Some(rollout.existing),
        ready_replicas: Some(rollout.ready),
        updated_replicas: Some(rollout.updated),
        selector: Some(names::selector(&store.name_any())),
        image: verdict.map_or(previous.image, |valid| Some(valid.image.clone())),
        version: verdict.map_or(previous.version, |valid| image_tag(&valid.image).map(str::to_owned)),
        endpoints: Some(endpoints(store)),
        tls: verdict.map_or(previous.tls, |valid| access::tls_status(&observed.access, valid)),
        storage: Some(storage(store, observed)),
        restored: observed.origin.restored(&observed.pods),
        members: members(store, observed),
    };
    let notices = notice::find(store, observed, &status, outcome);
    Assessment { status, notices }
}

/// What the writes mean for people, alone: for a reconcile that could not go on to the status.
#[must_use]
pub fn deeds(store: &KvsStore, observed: &Observed, outcome: &Outcome) -> Vec<Notice> {
    notice::of_deeds(store, observed, &outcome.deeds)
}

/// What is wrong and needs a person, the nearest cause first.
fn find_fault(
    observed: &Observed,
    verdict: Result<&ValidStore, &[Refusal]>,
    obstacles: &[Obstacle],
    outcome: &Outcome,
    now: &Time,
) -> Option<Fault> {
    if let Some(Obstacle { kind, name, owner: ObstacleOwner::Other }) =
        obstacles.iter().find(|obstacle| obstacle.owner == ObstacleOwner::Other && obstacle.blocks())
    {
        let message = format!(
            "{kind} {name} exists and belongs to someone else; delete it, or create the store under another name"
        );
        return Some(Fault { reason: "NameTaken", message });
    }
    if let Some(error) = outcome.failure.as_ref().filter(|error| error.is_refusal() && !error.is_invalid()) {
        return Some(Fault { reason: "ApplyRefused", message: error.to_string() });
    }
    let access = verdict.ok().and_then(|valid| access::fault(&observed.access, valid, now));
    let beginning = observed.origin.blocked().filter(|blocked| blocked.is_fault);
    let beginning = beginning.map(|Blocked { reason, message, .. }| Fault { reason, message: message.clone() });
    // The claims of a former store go because it asked for that.
    let former = obstacles.iter().any(|obstacle| obstacle.owner == ObstacleOwner::FormerStore);
    let claims = if former { &[] } else { observed.claims.as_slice() };
    access.or(beginning).or_else(|| diagnosis::find(&observed.pods, claims))
}

/// When pods are replaced, as far as that is known.
fn update(verdict: Result<&ValidStore, &[Refusal]>) -> UpdateOptions {
    verdict.map_or_else(|_| UpdateOptions::default(), |valid| valid.update)
}

fn accepted(verdict: Result<&ValidStore, &[Refusal]>, outcome: &Outcome) -> Verdict {
    match (verdict, outcome.failure.as_ref().filter(|error| error.is_invalid())) {
        (Err(refusals), _) => {
            let problems: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            Verdict::no("SpecRefused", problems.join("; "))
        }
        (Ok(_), Some(error)) => Verdict::no("RefusedByApiServer", error.to_string()),
        (Ok(_), None) => Verdict::yes("Accepted", "every field of the spec can be served"),
    }
}

fn paused(verdict: Result<&ValidStore, &[Refusal]>, held_back: &[String]) -> Verdict {
    match verdict {
        Err(_) => Verdict::unknown("SpecRefused", "the spec must be corrected first"),
        Ok(valid) if !valid.is_paused => Verdict::no("Managed", "the operator keeps the store as its spec asks"),
        Ok(_) if held_back.is_empty() => {
            Verdict::yes("ReconcilePolicyPaused", "nothing would be written if it were not")
        }
        Ok(_) => Verdict::yes(
            "ReconcilePolicyPaused",
            format!("not written: {}; reconcilePolicy: Managed writes them", held_back.join(", ")),
        ),
    }
}

fn available(rollout: Rollout) -> Verdict {
    if rollout.is_asleep() {
        return Verdict::no("Hibernated", "no member runs, because the spec asks for it");
    }
    if rollout.phase == Phase::Hibernating {
        return Verdict::no("Hibernating", "the members are being stopped, because the spec asks for it");
    }
    // More than half of the members: what one member is for a store of one, and a quorum for a larger one.
    let message = format!("{}/{} members answer", rollout.ready, rollout.wanted);
    if rollout.wanted > 0 && rollout.ready * 2 > rollout.wanted {
        Verdict::yes("Serving", message)
    } else {
        Verdict::no("NotServing", message)
    }
}

fn progressing(
    rollout: Rollout,
    accepted: &Verdict,
    fault: Option<&Fault>,
    held_back: &[String],
    growth: &Verdict,
    observed: &Observed,
    update: UpdateOptions,
) -> Verdict {
    if !accepted.holds {
        return Verdict::no("Stopped", "the spec must be corrected first");
    }
    if let Some(fault) = fault {
        return Verdict::no("Stopped", format!("waits for a person: {}", fault.reason));
    }
    if !held_back.is_empty() {
        return Verdict::no("Paused", format!("paused with {} to write", held_back.join(", ")));
    }
    match rollout.phase {
        Phase::Hibernating if rollout.is_asleep() => {
            return Verdict::no("Hibernated", "no member runs; the data is kept, and desiredState: Running resumes");
        }
        Phase::Hibernating => return Verdict::yes("Hibernating", "the members are being stopped; their data is kept"),
        Phase::Resuming => return Verdict::yes("Resuming", "the members are being started on the data that was kept"),
        Phase::Running => {}
    }
    if let Some(pending) = access::pending(&observed.access) {
        return pending;
    }
    if let Some(Blocked { reason, message, .. }) = observed.origin.blocked() {
        return Verdict::yes(reason, message.clone());
    }
    if rollout.is_recreated {
        return Verdict::yes(
            "RecreatingStatefulSet",
            "the StatefulSet is being made again around its members, none of which restarts",
        );
    }
    if rollout.existing == 0 {
        return Verdict::yes("Creating", "the members are being created");
    }
    if !rollout.seen {
        return Verdict::yes("RollingUpdate", "the members' template changed");
    }
    if rollout.updated < rollout.wanted && update.rollout == Rollouts::Paused {
        return Verdict::no("RolloutPaused", "members run an older template until spec.update.rollout is Active again");
    }
    if rollout.updated < rollout.wanted && update.strategy == UpdateStrategy::OnDelete {
        let message = format!(
            "{}/{} members run the new template; spec.update.strategy is OnDelete: delete the other pods",
            rollout.updated, rollout.wanted
        );
        return Verdict::yes("WaitingForDeletion", message);
    }
    if rollout.updated < rollout.wanted {
        let message = format!("{}/{} members run the new template", rollout.updated, rollout.wanted);
        return Verdict::yes("RollingUpdate", message);
    }
    if let Some(claim) = observed.claims.iter().find(|claim| rollout.ready == 0 && capacity(claim).is_none()) {
        let class = claim.spec.as_ref().and_then(|spec| spec.storage_class_name.as_deref()).unwrap_or_default();
        let message = format!("volume claim {} of class {class} has no volume yet", claim.name_any());
        return Verdict::yes("WaitingForVolume", message);
    }
    if !rollout.is_complete() {
        return Verdict::yes("WaitingForMembers", format!("{}/{} members answer", rollout.ready, rollout.wanted));
    }
    if !growth.holds && matches!(growth.reason, "Growing" | "FileSystemResizePending") {
        return Verdict::yes("GrowingStorage", growth.message.clone());
    }
    Verdict::no("Stable", "everything is as the spec asks")
}

fn ready(
    rollout: Rollout,
    accepted: &Verdict,
    fault: Option<&Fault>,
    held_back: &[String],
    progressing: &Verdict,
) -> Verdict {
    if !accepted.holds {
        return Verdict::no(accepted.reason, accepted.message.clone());
    }
    if let Some(fault) = fault {
        return Verdict::no(fault.reason, fault.message.clone());
    }
    let waits = progressing.reason == PENDING;
    if held_back.is_empty() && rollout.is_complete() && !waits {
        return Verdict::yes("AllMembersReady", format!("{}/{} members ready", rollout.ready, rollout.wanted));
    }
    Verdict::no(progressing.reason, progressing.message.clone())
}

/// Whether the volumes have the size that the spec asks for.
fn growth(observed: &Observed, verdict: Result<&ValidStore, &[Refusal]>, outcome: &Outcome) -> Verdict {
    let Ok(valid) = verdict else { return Verdict::unknown("SpecRefused", "the spec must be corrected first") };
    if let Some(error) = &outcome.growth_failure {
        return Verdict::no(if error.is_refusal() { "GrowthRefused" } else { "Growing" }, explain_growth(error));
    }
    if observed.claims.is_empty() {
        return Verdict::unknown("NoVolume", "no volume claim exists yet");
    }
    if let Some(claim) = observed.claims.iter().find(|claim| capacity(claim).is_none()) {
        return Verdict::unknown("NotBound", format!("volume claim {} has no volume yet", claim.name_any()));
    }
    let wanted = Amount::parse(&valid.storage_size.0).ok();
    let small = observed.claims.iter().find(|claim| match (capacity(claim), wanted) {
        (Some(capacity), Some(wanted)) => Amount::parse(&capacity.0).is_ok_and(|capacity| capacity < wanted),
        _ => false,
    });
    match small {
        Some(claim) => {
            let has = capacity(claim).map_or("none", |quantity| quantity.0.as_str());
            let message = format!("{} has {has} and is to have {}", claim.name_any(), valid.storage_size.0);
            match resize_pending(claim) {
                Some(cause) => {
                    Verdict::no("FileSystemResizePending", format!("{message}: {cause}; if this lasts, delete the pod"))
                }
                None => Verdict::no("Growing", message),
            }
        }
        None => Verdict::yes("AsRequested", format!("every volume has at least {}", valid.storage_size.0)),
    }
}

/// What a driver says that has grown the volume, and whose node has yet to grow the file system; some nodes do so only
/// when the pod starts.
fn resize_pending(claim: &PersistentVolumeClaim) -> Option<&str> {
    let conditions = claim.status.as_ref()?.conditions.as_ref()?;
    let pending = conditions.iter().find(|condition| condition.type_ == "FileSystemResizePending")?;
    (pending.status == "True").then_some(pending.message.as_deref().unwrap_or("waits for its pod to end"))
}

/// The API server's answer, with what to do about the one that most people meet.
fn explain_growth(error: &Error) -> String {
    let text = error.to_string();
    let hint =
        if text.contains("must support resize") { "; set allowVolumeExpansion: true in the storage class" } else { "" };
    format!("{text}{hint}")
}

fn endpoints(store: &KvsStore) -> Endpoints {
    let (name, namespace) = (store.name_any(), store.namespace().unwrap_or_default());
    let port = store.spec.service.port.unwrap_or(i32::from(CLIENT_PORT));
    Endpoints {
        client: format!("{name}.{namespace}.svc:{port}"),
        peers: format!("{}.{namespace}.svc", names::peers_service(&name)),
    }
}

fn storage(store: &KvsStore, observed: &Observed) -> StorageStatus {
    let least = observed
        .claims
        .iter()
        .filter_map(|claim| capacity(claim))
        .min_by_key(|quantity| Amount::parse(&quantity.0).ok());
    StorageStatus {
        requested: store.spec.storage.size.clone(),
        capacity: least.map(|quantity| quantity.0.clone()),
        storage_class_name: observed.claims.first().and_then(|claim| claim.spec.as_ref()?.storage_class_name.clone()),
    }
}

/// The members that exist, and those whose claim exists.
fn members(store: &KvsStore, observed: &Observed) -> Vec<Member> {
    let name = store.name_any();
    (0..crate::observe::MOST_MEMBERS)
        .filter_map(|ordinal| {
            let member = names::member(&name, ordinal);
            let pod = observed.pods.iter().find(|pod| pod.name_any() == member);
            let claim = find_claim(&observed.claims, &names::claim(&name, ordinal));
            if pod.is_none() && claim.is_none() {
                return None;
            }
            Some(Member {
                name: member,
                ready: pod.is_some_and(|pod| diagnosis::is_ready(pod)),
                node: pod.and_then(|pod| pod.spec.as_ref()?.node_name.clone()),
                volume_claim: claim.map(|claim| claim.name_any()),
                volume_capacity: claim.and_then(|claim| capacity(claim)).map(|quantity| quantity.0.clone()),
            })
        })
        .collect()
}

fn find_claim<'a>(claims: &'a [Arc<PersistentVolumeClaim>], name: &str) -> Option<&'a PersistentVolumeClaim> {
    claims.iter().find(|claim| claim.name_any() == name).map(Arc::as_ref)
}

/// The size that a claim's volume has.
fn capacity(claim: &PersistentVolumeClaim) -> Option<&Quantity> {
    claim.status.as_ref()?.capacity.as_ref()?.get("storage")
}
