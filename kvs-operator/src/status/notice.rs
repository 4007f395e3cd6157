//! What happened since the last reconcile, as events.
//!
//! What must hold: a notice tells of a write that was made or of a condition that changed, never of a state that lasts,
//! so a quiet store sends none; the text fits an event.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::condition::{ConditionType, find as find_condition};
use crate::apply::{Deed, Outcome};
use crate::names;
use crate::observe::Observed;
use crate::plan::{ChildKind, WriteReason};
use crate::resource::{KvsStore, KvsStoreStatus};

/// Bytes of an event's note that the API server accepts.
const NOTE_LIMIT_BYTES: usize = 1024;

/// Whether a person should look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoticeKind {
    /// Nothing to worry about.
    Normal,
    /// Something to look at.
    Warning,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Whether a person should look.
    pub kind: NoticeKind,
    /// One word, which programs may decide by.
    pub reason: String,
    /// What was being done.
    pub action: &'static str,
    /// The child that it is about, if it is about one.
    pub child: Option<(ChildKind, String)>,
    /// A sentence for people, at most 1,024 bytes.
    pub note: String,
}

impl Notice {
    fn new(kind: NoticeKind, reason: &str, action: &'static str, note: String) -> Self {
        Self { kind, reason: reason.to_owned(), action, child: None, note: shortened(note) }
    }

    fn about(mut self, kind: ChildKind, name: &str) -> Self {
        self.child = Some((kind, name.to_owned()));
        self
    }
}

/// Everything that happened, writes first.
pub(super) fn find(store: &KvsStore, observed: &Observed, status: &KvsStoreStatus, outcome: &Outcome) -> Vec<Notice> {
    let mut notices = of_deeds(store, observed, &outcome.deeds);
    let before = store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    notices.extend(of_conditions(before, status));
    notices
}

pub(super) fn of_deeds(store: &KvsStore, observed: &Observed, deeds: &[Deed]) -> Vec<Notice> {
    use NoticeKind::Normal;
    let mut notices = Vec::new();
    let mut created = Vec::new();
    let is_new = is_new(store);
    let is_recreated = ready_reason(store) == Some("RecreatingStatefulSet");
    for deed in deeds {
        match deed {
            Deed::Applied { kind, name, reason: WriteReason::Missing } if is_new => {
                created.push(format!("{kind} {name}"))
            }
            // Told when it was deleted.
            Deed::Applied { kind: ChildKind::StatefulSet, reason: WriteReason::Missing, .. } if is_recreated => {}
            // One that is asked for since a change of the store, of the operator or of the cluster, or that was deleted.
            Deed::Applied { kind, name, reason: WriteReason::Missing } if kind.is_optional() => {
                let note = format!("{kind} {name} was not there and was made");
                notices.push(Notice::new(Normal, "Created", "Apply", note).about(*kind, name));
            }
            Deed::Applied { kind, name, reason: WriteReason::Missing } => {
                let note = format!("{kind} {name} was gone and was made again");
                notices.push(Notice::new(Normal, "Repaired", "Apply", note).about(*kind, name));
            }
            Deed::Applied { kind, name, reason: WriteReason::Drifted(fields) } => {
                let note = format!("{kind} {name} was changed by someone else; restored {}", fields.join(", "));
                notices.push(Notice::new(Normal, "Repaired", "Apply", note).about(*kind, name));
            }
            Deed::Applied { kind, name, reason: WriteReason::Changed } => {
                let note = format!("{kind} {name} follows a change of the store or of the operator");
                notices.push(Notice::new(Normal, "Updated", "Apply", note).about(*kind, name));
            }
            Deed::Orphaned(recreation) => {
                let note = format!(
                    "StatefulSet {} is made again for volumes of {} instead of {}; its pods go on",
                    recreation.name, recreation.to.0, recreation.from.0
                );
                notices.push(
                    Notice::new(Normal, "RecreatingStatefulSet", "Grow", note)
                        .about(ChildKind::StatefulSet, &recreation.name),
                );
            }
            Deed::Removed { kind, name } => {
                let note = format!("{kind} {name} is no longer asked for and was deleted");
                notices.push(Notice::new(Normal, "Removed", "Delete", note).about(*kind, name));
            }
            Deed::Grown(growth) => {
                let note = format!("{} grows from {} to {}", growth.claim, growth.from.0, growth.to.0);
                notices.push(
                    Notice::new(Normal, "VolumeGrowing", "Grow", note)
                        .about(ChildKind::PersistentVolumeClaim, &growth.claim),
                );
            }
        }
    }
    if !created.is_empty() {
        notices.insert(0, Notice::new(Normal, "Created", "Apply", format!("made {}", created.join(", "))));
        let claim = names::claim(&store.name_any(), 0);
        let has_volume =
            |claim: &PersistentVolumeClaim| claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some());
        if observed.claims.iter().any(|candidate| candidate.name_any() == claim && has_volume(candidate)) {
            let note =
                format!("volume claim {claim} of a former store of this name is here; the store goes on with its data");
            notices.push(
                Notice::new(Normal, "VolumeAdopted", "Apply", note).about(ChildKind::PersistentVolumeClaim, &claim),
            );
        }
    }
    notices
}

/// Whether the store never had its children: what is missing is then made, and not made again.
fn is_new(store: &KvsStore) -> bool {
    ready_reason(store).is_none_or(|reason| match reason {
        "Creating" | "FormerStoreLeaving" | "NameTaken" | "SpecRefused" | "ApplyRefused" => true,
        // One that waits for its backup has none either.
        "BackupMissing" | "BackupFailed" | "WaitingForBackup" => true,
        // A store whose Secret is of no use has no pod before its first good one.
        "SecretMissing"
        | "SecretKeyMissing"
        | "TokenUnusable"
        | "CertManagerMissing"
        | "CertificatePending"
        | "CertificateUnusable"
        | "CertificateMismatch" => true,
        // Paused from its first day on it has no member yet, nor a volume of one.
        "Paused" => store.status.as_ref().is_none_or(|status| status.members.is_empty()),
        _ => false,
    })
}

/// Why the store was Ready or not when it was last looked at.
fn ready_reason(store: &KvsStore) -> Option<&str> {
    let conditions = store.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    find_condition(conditions, ConditionType::Ready).map(|ready| ready.reason.as_str())
}

fn of_conditions(before: &[Condition], status: &KvsStoreStatus) -> Vec<Notice> {
    let mut notices = Vec::new();
    let changes = |condition: ConditionType| {
        let now = find_condition(&status.conditions, condition)?;
        let before = find_condition(before, condition);
        let changed = before.is_none_or(|before| before.status != now.status || before.reason != now.reason);
        changed.then_some((before, now))
    };
    if let Some((_, now)) = changes(ConditionType::Degraded).filter(|(_, now)| now.status == "True") {
        notices.push(Notice::new(NoticeKind::Warning, &now.reason, "Observe", now.message.clone()));
    }
    if let Some((_, now)) = changes(ConditionType::SpecAccepted).filter(|(_, now)| now.status == "False") {
        notices.push(Notice::new(NoticeKind::Warning, &now.reason, "Validate", now.message.clone()));
    }
    if let Some((_, now)) = changes(ConditionType::StorageResized).filter(|(_, now)| now.reason == "GrowthRefused") {
        notices.push(Notice::new(NoticeKind::Warning, &now.reason, "Grow", now.message.clone()));
    }
    if let Some((Some(_), now)) = changes(ConditionType::StorageResized)
        .filter(|(before, now)| now.status == "True" && before.is_some_and(|before| before.status == "False"))
    {
        notices.push(Notice::new(NoticeKind::Normal, "VolumeGrown", "Grow", now.message.clone()));
    }
    if let Some((_, now)) = changes(ConditionType::TlsReady).filter(|(_, now)| now.reason == "CertificateEndsSoon") {
        notices.push(Notice::new(NoticeKind::Warning, &now.reason, "Observe", now.message.clone()));
    }
    if let Some((_, now)) = changes(ConditionType::ConfigurationWarning).filter(|(_, now)| now.status == "True") {
        notices.push(Notice::new(NoticeKind::Warning, &now.reason, "Validate", now.message.clone()));
    }
    if let Some((before, now)) = changes(ConditionType::Paused) {
        if now.status == "True" {
            let note = "the operator only looks from now on, because reconcilePolicy is Paused".to_owned();
            notices.push(Notice::new(NoticeKind::Normal, "Paused", "Pause", note));
        } else if before.is_some_and(|before| before.status == "True") {
            let note = "the operator keeps the store as its spec asks again".to_owned();
            notices.push(Notice::new(NoticeKind::Normal, "Managed", "Pause", note));
        }
    }
    if let Some((before, now)) = changes(ConditionType::Ready) {
        let client = status.endpoints.as_ref().map(|endpoints| endpoints.client.as_str()).unwrap_or_default();
        let was_ready = before.is_some_and(|before| before.status == "True");
        if now.status == "True" {
            let note = format!("{}; clients connect to {client}", now.message);
            notices.push(Notice::new(NoticeKind::Normal, "Ready", "Observe", note));
        } else if matches!(now.reason.as_str(), "Hibernating" | "Hibernated" | "Resuming")
            || (was_ready && notices.is_empty())
        {
            notices.push(Notice::new(NoticeKind::Normal, &now.reason, "Observe", now.message.clone()));
        }
    }
    notices
}

/// At most [`NOTE_LIMIT_BYTES`], cut between two characters.
pub(crate) fn shortened(mut note: String) -> String {
    if note.len() > NOTE_LIMIT_BYTES {
        let end = (0..=NOTE_LIMIT_BYTES).rev().find(|end| note.is_char_boundary(*end)).unwrap_or(0);
        note.truncate(end);
    }
    note
}
