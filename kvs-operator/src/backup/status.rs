//! What a backup has come to: the status that is to be, and what to tell (pure).
//!
//! What must hold: nothing changes while nothing happens; what is Complete or Failed stays so, word by word.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::job;
use super::plan::{Observed, Obstacle, Step, Words, ended};
use super::report::Telling;
use crate::resource::{KvsBackup, KvsBackupStatus};

/// How a backup stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    NotYet,
    Complete,
    Failed,
}

/// Says what the situation means. `step` is what was done last.
#[must_use]
pub fn assess(
    backup: &KvsBackup,
    observed: &Observed,
    step: &Step,
    now: Timestamp,
) -> (KvsBackupStatus, Option<Telling>) {
    let previous = backup.status.clone().unwrap_or_default();
    if previous.is_final() {
        return (previous, None);
    }
    let (end, reason, message) = verdict(backup, observed, step);
    let mut status = KvsBackupStatus { conditions: Vec::new(), ..previous.clone() };
    if let Some(job) = &observed.job {
        let made = job.metadata.creation_timestamp.as_ref().map(|time| time.0.to_string());
        status.started_at = status.started_at.or(made);
    }
    if let (End::Complete, Some(Words::Report(report))) = (end, &observed.words) {
        status.path = Some(job::path(backup));
        status.size_bytes = i64::try_from(report.bytes).ok();
        status.sequence = i64::try_from(report.last_sequence).ok();
        status.sha256 = Some(report.sha256.clone());
    }
    if end != End::NotYet {
        status.completed_at = Some(seconds(now));
    }
    let set = |name: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        condition(&previous.conditions, name, status, reason, message, backup.metadata.generation, now)
    };
    let failed = match end {
        End::Failed => set("Failed", true, &reason, &message),
        End::NotYet | End::Complete => set("Failed", false, "NotFailed", "nothing has gone wrong for good"),
    };
    status.conditions = vec![set("Complete", end == End::Complete, &reason, &message), failed];
    let before = previous.conditions.iter().find(|condition| condition.type_ == "Complete");
    let is_news = before.is_none_or(|before| before.reason != reason);
    let is_warning = !matches!(reason.as_str(), "Complete" | "Running");
    let telling = is_news.then_some(Telling { is_warning, reason, action: "BackUp", note: message });
    (status, telling)
}

fn verdict(backup: &KvsBackup, observed: &Observed, step: &Step) -> (End, String, String) {
    match step {
        Step::Wait(Obstacle { reason, message, .. }) => return (End::NotYet, (*reason).to_owned(), message.clone()),
        Step::Refuse(Obstacle { reason, message, .. }) => return (End::Failed, (*reason).to_owned(), message.clone()),
        Step::Nothing | Step::Start(_) | Step::Mend(_) => {}
    }
    let name = job::name(backup);
    let Some(job) = &observed.job else {
        return (End::NotYet, "Running".to_owned(), format!("Job {name} is being made"));
    };
    match (ended(job), &observed.words) {
        (Some(Ok(())), Some(Words::Report(report))) => {
            let (claim, path) = (&backup.spec.target.persistent_volume_claim.claim_name, job::path(backup));
            let message = format!(
                "{} files of {} bytes are in {path} of PersistentVolumeClaim {claim}",
                report.files, report.bytes
            );
            (End::Complete, "Complete".to_owned(), message)
        }
        (Some(Ok(())), _) => {
            let message = format!(
                "Job {name} is done, but its pod, which had the report, is gone; delete the Job, and it is made again and finds the backup"
            );
            (End::NotYet, "ReportMissing".to_owned(), message)
        }
        (Some(Err("DeadlineExceeded")), _) => {
            let message =
                format!("Job {name} took longer than it may; see kubectl logs job/{name}, and make another backup");
            (End::Failed, "DeadlineExceeded".to_owned(), message)
        }
        (Some(Err(_)), Some(Words::Failed(cause))) => (End::Failed, "BackupFailed".to_owned(), cause.clone()),
        (Some(Err(reason)), _) => {
            let message = format!(
                "Job {name} failed ({reason}) without a word; see kubectl describe job {name}, and make another backup"
            );
            (End::Failed, "BackupFailed".to_owned(), message)
        }
        (None, Some(Words::Failed(cause))) => {
            (End::NotYet, "Retrying".to_owned(), format!("it is tried again: {cause}"))
        }
        (None, Some(Words::Waiting(cause))) => (End::NotYet, "PodWaiting".to_owned(), cause.clone()),
        (None, _) => (End::NotYet, "Running".to_owned(), format!("Job {name} runs")),
    }
}

/// A condition whose time moves only when its status flips.
pub(super) fn condition(
    previous: &[Condition],
    name: &str,
    status: &str,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let kept = previous.iter().find(|condition| condition.type_ == name && condition.status == status);
    Condition {
        type_: name.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: kept.map_or(Time(now), |kept| kept.last_transition_time.clone()),
    }
}

/// A moment as statuses hold it.
pub(super) fn seconds(moment: Timestamp) -> String {
    Timestamp::from_second(moment.as_second()).unwrap_or(moment).to_string()
}
