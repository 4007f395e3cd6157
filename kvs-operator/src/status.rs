//! The last step of a reconcile: what it all means for people.
//!
//! What must hold: [`assess`] is pure; it returns the status that is to be, and the caller writes it only when it
//! differs; a condition's time moves only when its status flips; each thing that a person would ask about is told once,
//! as an event, when it begins.

mod condition;
mod diagnosis;
mod notice;

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kvs_protocol::config::CLIENT_PORT;

pub use condition::ConditionType;
pub use diagnosis::Fault;
pub use notice::{Notice, NoticeKind};

use condition::{Conditions, Verdict};

use crate::apply::Outcome;
use crate::error::Error;
use crate::names;
use crate::observe::Observed;
use crate::plan::{Obstacle, ObstacleOwner};
use crate::quantity::Amount;
use crate::resource::{Endpoints, KvsStore, KvsStoreStatus, Member, StorageStatus};
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
    /// What was written.
    pub outcome: &'a Outcome,
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

/// Where the members stand.
#[derive(Debug, Clone, Copy, Default)]
struct Rollout {
    wanted: i32,
    existing: i32,
    ready: i32,
    updated: i32,
    /// The StatefulSet controller has seen what we applied last.
    seen: bool,
}

impl Rollout {
    fn is_complete(self) -> bool {
        self.seen
            && self.wanted > 0
            && self.ready == self.wanted
            && self.updated == self.wanted
            && self.existing == self.wanted
    }
}

/// Says what the situation means.
#[must_use]
pub fn assess(situation: &Situation<'_>) -> Assessment {
    let Situation { store, observed, verdict, obstacles, outcome, now } = situation;
    let previous = store.status.clone().unwrap_or_default();
    let former = obstacles.iter().any(|obstacle| obstacle.owner == ObstacleOwner::FormerStore);
    // What a former store left is not this one's.
    let rollout = if former { Rollout::default() } else { rollout(observed, *verdict) };
    let fault = find_fault(observed, obstacles, outcome);
    let growth = growth(observed, *verdict, outcome);

    let mut conditions = Conditions::new(&previous.conditions, store.metadata.generation, now.clone());
    let accepted = accepted(*verdict, outcome);
    let available = available(rollout);
    let progressing = if former {
        Verdict::yes("FormerStoreLeaving", "Kubernetes is deleting the children of a former store of this name")
    } else {
        progressing(rollout, &accepted, fault.as_ref(), &growth, observed)
    };
    let degraded = fault.as_ref().map_or_else(
        || Verdict::no("AsExpected", "nothing is wrong that the operator can see"),
        |fault| Verdict::yes(fault.reason, fault.message.clone()),
    );
    let ready = ready(rollout, &accepted, fault.as_ref(), &progressing);
    for (condition, verdict) in [
        (ConditionType::Ready, ready),
        (ConditionType::Available, available),
        (ConditionType::Progressing, progressing),
        (ConditionType::Degraded, degraded),
        (ConditionType::SpecAccepted, accepted),
        (ConditionType::StorageResized, growth),
    ] {
        conditions.set(condition, verdict);
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
        storage: Some(storage(store, observed)),
        members: members(store, observed),
    };
    let notices = notice::find(store, observed, &status, outcome);
    Assessment { status, notices }
}

fn rollout(observed: &Observed, verdict: Result<&ValidStore, &[Refusal]>) -> Rollout {
    let set = observed.stateful_set.as_deref();
    let status = set.and_then(|set| set.status.as_ref());
    let live_wanted = set.and_then(|set| set.spec.as_ref()?.replicas).unwrap_or(0);
    Rollout {
        wanted: verdict.map_or(live_wanted, |valid| i32::from(valid.members)),
        existing: status.map_or(0, |status| status.replicas),
        ready: status.and_then(|status| status.ready_replicas).unwrap_or(0),
        updated: status.and_then(|status| status.updated_replicas).unwrap_or(0),
        seen: set.is_some_and(|set| {
            let seen = status.and_then(|status| status.observed_generation).unwrap_or(0);
            set.metadata.generation.is_some_and(|generation| seen >= generation)
        }),
    }
}

/// What is wrong and needs a person, the nearest cause first.
fn find_fault(observed: &Observed, obstacles: &[Obstacle], outcome: &Outcome) -> Option<Fault> {
    if let Some(Obstacle { kind, name, owner: ObstacleOwner::Other }) =
        obstacles.iter().find(|obstacle| obstacle.owner == ObstacleOwner::Other)
    {
        let message = format!(
            "{kind} {name} exists and belongs to someone else; delete it, or create the store under another name"
        );
        return Some(Fault { reason: "NameTaken", message });
    }
    if let Some(error) = outcome.failure.as_ref().filter(|error| error.is_refusal() && !error.is_invalid()) {
        return Some(Fault { reason: "ApplyRefused", message: error.to_string() });
    }
    diagnosis::find(&observed.pods, &observed.claims)
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

fn available(rollout: Rollout) -> Verdict {
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
    growth: &Verdict,
    observed: &Observed,
) -> Verdict {
    if !accepted.holds {
        return Verdict::no("Stopped", "the spec must be corrected first");
    }
    if let Some(fault) = fault {
        return Verdict::no("Stopped", format!("waits for a person: {}", fault.reason));
    }
    if rollout.existing == 0 {
        return Verdict::yes("Creating", "the members are being created");
    }
    if !rollout.seen {
        return Verdict::yes("RollingUpdate", "the members' template changed");
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

fn ready(rollout: Rollout, accepted: &Verdict, fault: Option<&Fault>, progressing: &Verdict) -> Verdict {
    if !accepted.holds {
        return Verdict::no(accepted.reason, accepted.message.clone());
    }
    if let Some(fault) = fault {
        return Verdict::no(fault.reason, fault.message.clone());
    }
    if rollout.is_complete() {
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
    Endpoints {
        client: format!("{name}.{namespace}.svc:{CLIENT_PORT}"),
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
