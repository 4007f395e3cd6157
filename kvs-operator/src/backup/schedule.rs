//! What a schedule does at some moment, from its backups that are there (pure).
//!
//! What must hold: one backup at a time; of times that passed unused the last alone is made up for; a backup's name follows
//! from its time, so that it is made once however often that is tried; what a newer backup has replaced goes when that one is
//! complete, and a failed one stays until a newer one is.

use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;
use kube::ResourceExt;
use kube::api::ObjectMeta;

use super::cron::Cron;
use super::report::Telling;
use super::status::{condition, seconds};
use crate::names;
use crate::resource::{KvsBackup, KvsBackupSchedule, KvsBackupScheduleStatus, KvsBackupSpec};

/// Backups whose data one new backup replaces at most; a longer list goes on with the next one. The bound of its field.
const MOST_REPLACED: usize = 32;

/// What to do at this moment.
#[derive(Debug)]
pub struct Plan {
    /// The backup whose time has come.
    pub create: Option<Box<KvsBackup>>,
    /// Backups that are no longer kept, by name and uid. Their data is gone, or there is none.
    pub delete: Vec<(String, String)>,
    /// The status as it is to be, after these.
    pub status: KvsBackupScheduleStatus,
    /// What happened.
    pub tellings: Vec<Telling>,
    /// When to look again; `None` where nothing will happen by itself.
    pub next: Option<Timestamp>,
}

/// Says what to do. `backups` are those that bear the schedule's label, in any order.
#[must_use]
pub fn plan(schedule: &KvsBackupSchedule, backups: &[Arc<KvsBackup>], now: Timestamp) -> Plan {
    let spec = &schedule.spec;
    let previous = schedule.status.clone().unwrap_or_default();
    let mut backups: Vec<&KvsBackup> = backups.iter().map(AsRef::as_ref).collect();
    backups.sort_by_key(|backup| std::cmp::Reverse((scheduled_at(backup), backup.name_any())));
    let complete: Vec<&KvsBackup> = backups.iter().copied().filter(|backup| says(backup, "Complete")).collect();
    let active = backups.iter().find(|backup| !backup.status.as_ref().is_some_and(|status| status.is_final()));
    let last = backups.iter().filter_map(|backup| scheduled_at(backup)).max();
    let last = last.max(previous.last_schedule_time.as_deref().and_then(|time| time.parse().ok()));

    let parsed = Cron::parse(&spec.schedule).map_err(|cause| format!("spec.schedule: {cause}"));
    let zone = TimeZone::get(&spec.time_zone)
        .map_err(|_| format!("spec.timeZone: {} is no time zone; name one such as Europe/Berlin", spec.time_zone));
    let understood = parsed.and_then(|cron| Ok((cron, zone?)));
    let born = schedule.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
    let mut tellings = Vec::new();
    let mut create: Option<Box<KvsBackup>> = None;
    let mut last_schedule_time = last;
    if let (Ok((cron, zone)), None, false) = (&understood, active, spec.suspend)
        && let Some(due) = cron.latest(last.unwrap_or(born), now, zone)
    {
        let backup = backup(schedule, &complete, due);
        tellings.push(Telling {
            is_warning: false,
            reason: "BackupCreated".into(),
            action: "Schedule",
            note: format!("made KvsBackup {} for {}", backup.name_any(), seconds(due)),
        });
        create = Some(Box::new(backup));
        last_schedule_time = Some(due);
    }
    let delete = superseded(&backups, &complete);
    for (name, _) in &delete {
        let note = format!("KvsBackup {name} is no longer kept and was deleted");
        tellings.push(Telling { is_warning: false, reason: "BackupRemoved".into(), action: "Schedule", note });
    }

    let (holds, reason, message) = match &understood {
        Err(cause) => ("False", "ScheduleRefused", cause.clone()),
        Ok(_) if spec.suspend => ("False", "Suspended", "no backup begins while spec.suspend is true".to_owned()),
        Ok(_) => ("True", "Scheduled", format!("a backup is made at '{}' in {}", spec.schedule, spec.time_zone)),
    };
    if reason == "ScheduleRefused" && !previous.conditions.iter().any(|condition| condition.reason == reason) {
        let note = message.clone();
        tellings.push(Telling { is_warning: true, reason: reason.into(), action: "Schedule", note });
    }
    let generation = schedule.metadata.generation;
    let newest = complete.iter().filter_map(|backup| backup.status.as_ref()?.completed_at.clone()).max();
    let status = KvsBackupScheduleStatus {
        observed_generation: generation,
        conditions: vec![condition(&previous.conditions, "Scheduled", holds, reason, &message, generation, now)],
        last_schedule_time: last_schedule_time.map(seconds),
        last_successful_time: newest.max(previous.last_successful_time),
        active: create.as_ref().map(|backup| backup.name_any()).or(active.map(|backup| backup.name_any())),
    };
    let next = understood.ok().filter(|_| !spec.suspend).and_then(|(cron, zone)| cron.next(now, &zone));
    Plan { create, delete, status, tellings, next }
}

/// The backup for a time, which replaces those that are too many beside it.
fn backup(schedule: &KvsBackupSchedule, complete: &[&KvsBackup], due: Timestamp) -> KvsBackup {
    let KvsBackupSchedule { spec, .. } = schedule;
    let name = schedule.name_any();
    let new = KvsBackupSpec { store_ref: spec.store_ref.clone(), target: spec.target.clone(), replaces: Vec::new() };
    // What lies elsewhere, since before a change of the target, can't be reached from there.
    let beside = complete.iter().filter(|backup| {
        backup.spec.target.persistent_volume_claim.claim_name == new.target.persistent_volume_claim.claim_name
            && backup.spec.folder() == new.folder()
    });
    let kept = usize::try_from(spec.keep.last).unwrap_or(1).max(1) - 1;
    let replaces = beside.skip(kept).filter_map(|backup| folder_name(backup)).take(MOST_REPLACED);
    let mut backup = KvsBackup::new("", KvsBackupSpec { replaces: replaces.collect(), ..new });
    let mut labels = names::labels(&spec.store_ref.name);
    labels.insert("app.kubernetes.io/component".to_owned(), "backup".to_owned());
    labels.insert(names::BACKUP_SCHEDULE.to_owned(), name.clone());
    backup.metadata = ObjectMeta {
        name: Some(format!("{name}-{}", due.strftime("%Y%m%d%H%M"))),
        namespace: schedule.namespace(),
        labels: Some(labels),
        annotations: Some([(names::SCHEDULED_AT.to_owned(), seconds(due))].into()),
        ..ObjectMeta::default()
    };
    backup
}

/// Backups whose data a complete one has removed, and failed ones older than the newest complete one.
fn superseded(backups: &[&KvsBackup], complete: &[&KvsBackup]) -> Vec<(String, String)> {
    let replaced: Vec<&String> = complete.iter().flat_map(|backup| &backup.spec.replaces).collect();
    let newest = complete.first().and_then(|backup| scheduled_at(backup));
    let goes = |backup: &&&KvsBackup| {
        let is_replaced = folder_name(backup).is_some_and(|folder| replaced.contains(&&folder));
        is_replaced || (says(backup, "Failed") && scheduled_at(backup) < newest)
    };
    let going = backups.iter().filter(goes).filter(|backup| backup.metadata.deletion_timestamp.is_none());
    going.map(|backup| (backup.name_any(), backup.uid().unwrap_or_default())).collect()
}

/// The last part of a complete backup's path.
fn folder_name(backup: &KvsBackup) -> Option<String> {
    let path = backup.status.as_ref()?.path.as_deref()?;
    path.rsplit('/').next().map(str::to_owned)
}

fn scheduled_at(backup: &KvsBackup) -> Option<Timestamp> {
    backup.annotations().get(names::SCHEDULED_AT)?.parse().ok()
}

fn says(backup: &KvsBackup, condition: &str) -> bool {
    backup.status.as_ref().is_some_and(|status| status.says(condition))
}
