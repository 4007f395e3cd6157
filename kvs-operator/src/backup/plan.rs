//! What to do about a backup, from what is there (pure).
//!
//! What must hold: a Job is made once all that it needs is there, and never for a backup that has ended; a Job of someone
//! else is left alone; what stands in the way is named.

use std::sync::Arc;

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kvs_protocol::names::EngineName;
use serde_json::Value;

use super::job;
use crate::access::Access;
use crate::names;
use crate::plan::drifted_fields;
use crate::resource::{DesiredState, KvsBackup, KvsStore};
use crate::validate::{Refusal, ValidStore};

use kvs_protocol::backup_record::BackupReport;

/// Everything that a plan looks at.
#[derive(Debug, Default)]
pub struct Observed {
    /// The backup's Job.
    pub job: Option<Arc<Job>>,
    /// What its pods say, if they say something.
    pub words: Option<Words>,
    /// What a Job needs. Looked at only while there is none.
    pub ground: Option<Ground>,
}

/// What the pods of a Job say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Words {
    /// The backup is whole.
    Report(BackupReport),
    /// The last try failed, and why.
    Failed(String),
    /// The pod can't start, and why.
    Waiting(String),
}

/// What a Job needs.
#[derive(Debug, Default)]
pub struct Ground {
    /// The store, and whether it can be built.
    pub store: Option<(KvsStore, Result<ValidStore, Vec<Refusal>>)>,
    /// Whether the volume claim exists, and stays.
    pub has_claim: bool,
    /// What the store's Secrets are good for.
    pub access: Access,
}

/// What stands in the way of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// One word, which programs may decide by.
    pub reason: &'static str,
    /// What, and what to do.
    pub message: String,
    /// Whether no wait will help.
    pub is_final: bool,
}

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// Nothing: it has ended, or its Job goes on.
    Nothing,
    /// Look again later.
    Wait(Obstacle),
    /// It fails, for no wait will help.
    Refuse(Obstacle),
    /// Make its Job.
    Start(Box<Job>),
    /// Bring these fields of its Job back, by a merge patch.
    Mend(Value),
}

/// Says what to do.
#[must_use]
pub fn plan(observed: &Observed, backup: &KvsBackup) -> Step {
    let Observed { job, words: _, ground } = observed;
    if backup.status.as_ref().is_some_and(|status| status.is_final()) {
        return Step::Nothing;
    }
    if let Some(job) = job {
        return of_job(job, backup);
    }
    // Without a look at the ground there was no need for one.
    let Some(ground) = ground else { return Step::Nothing };
    match check(ground, backup) {
        Ok(store) => Step::Start(Box::new(job::build(backup, store))),
        Err(obstacle) if obstacle.is_final => Step::Refuse(obstacle),
        Err(obstacle) => Step::Wait(obstacle),
    }
}

fn of_job(job: &Job, backup: &KvsBackup) -> Step {
    if !is_ours(job, backup) {
        let name = job.name_any();
        return Step::Wait(Obstacle {
            reason: "NameTaken",
            message: format!(
                "Job {name} exists and belongs to something else; delete it, or make the backup under another name"
            ),
            is_final: false,
        });
    }
    let is_going = job.metadata.deletion_timestamp.is_some();
    if is_going || ended(job).is_some() {
        return Step::Nothing;
    }
    let wanted = job::lasting(backup);
    let live = serde_json::to_value(job).expect("a Kubernetes object always has a JSON form");
    if drifted_fields(&wanted, &live).is_empty() { Step::Nothing } else { Step::Mend(wanted) }
}

/// Whether a Job belongs to this very backup, also where its owner was edited away.
fn is_ours(job: &Job, backup: &KvsBackup) -> bool {
    match job.owner_references().iter().find(|owner| owner.controller == Some(true)) {
        Some(owner) => Some(&owner.uid) == backup.metadata.uid.as_ref(),
        None => job.labels().get(names::BACKUP) == Some(&backup.name_any()),
    }
}

/// Whether a Job has ended well, or not.
#[must_use]
pub fn ended(job: &Job) -> Option<Result<(), &str>> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let holds = |name: &str| conditions.iter().find(|condition| condition.type_ == name && condition.status == "True");
    match (holds("Complete"), holds("Failed")) {
        (Some(_), _) => Some(Ok(())),
        (None, Some(failed)) => Some(Err(failed.reason.as_deref().unwrap_or("Failed"))),
        (None, None) => None,
    }
}

/// The store to back up, if all is there.
fn check<'a>(ground: &'a Ground, backup: &KvsBackup) -> Result<&'a ValidStore, Obstacle> {
    let Ground { store, has_claim, access } = ground;
    let name = &backup.spec.store_ref.name;
    let wait = |reason, message| Err(Obstacle { reason, message, is_final: false });
    let Some((store, verdict)) = store else {
        return wait(
            "StoreMissing",
            format!("KvsStore {name} does not exist in this namespace; create it, or delete this backup"),
        );
    };
    if store.spec.engine == EngineName::Sled {
        let message = format!(
            "KvsStore {name} has the engine sled, of which no backup can be made; use kvs-client export, or kvs-server dump"
        );
        return Err(Obstacle { reason: "EngineHasNoBackup", message, is_final: true });
    }
    let claim = &backup.spec.target.persistent_volume_claim.claim_name;
    if !has_claim {
        return wait(
            "ClaimMissing",
            format!("PersistentVolumeClaim {claim} does not exist, or is being deleted; create it in this namespace"),
        );
    }
    if store.spec.desired_state == DesiredState::Hibernated {
        return wait(
            "StoreHibernated",
            format!("KvsStore {name} is hibernated; the backup is made when its desiredState is Running again"),
        );
    }
    let Ok(valid) = verdict else {
        return wait(
            "StoreRefused",
            format!("KvsStore {name} can't be served as its spec is; its condition SpecAccepted says why"),
        );
    };
    let problems = access.token.iter().filter_map(|token| token.as_ref().err());
    if let Some(problem) = problems.chain(access.certificate.iter().filter_map(|facts| facts.as_ref().err())).next() {
        return wait(problem.reason, problem.message.clone());
    }
    if let (Some(tls), Some(Ok(facts))) = (&valid.tls, &access.certificate)
        && !facts.has_authorities
    {
        let secret = &tls.secret;
        return wait(
            "NoAuthorities",
            format!("Secret {secret} has no ca.crt, without which the backup's client can't check the server; add it"),
        );
    }
    let conditions = store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    if !conditions.iter().any(|condition| condition.type_ == "Available" && condition.status == "True") {
        return wait("StoreNotAvailable", format!("KvsStore {name} does not answer; its conditions say why"));
    }
    Ok(valid)
}
