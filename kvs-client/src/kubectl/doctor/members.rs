//! What is wrong with a store's members: their last words, what keeps them from starting, and what they say while they
//! run.

use kvs_protocol::termination::{TerminationCause, TerminationMessage};
use serde_json::Value;

use super::{Case, Finding, Place};
use crate::kubectl::collect::ServerFacts;
use crate::kubectl::logs::SERVER_CONTAINER;

/// The container that makes a new store of a backup.
const RESTORE_CONTAINER: &str = "kvs-restore";
/// What a full volume is called by the server and by the operating system.
const NO_SPACE: [&str; 3] = ["no space left", "os error 28", "disk quota exceeded"];

pub(super) fn find(case: &Case<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pod in case.pods().iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()) {
        findings.extend(last_words(case, pod).or_else(|| not_started(case, pod)));
    }
    findings.extend(claim_without_class(case));
    let is_waiting_for_class = findings.iter().any(|finding| finding.cause == "StorageClassMissing");
    // A pod without a volume is not scheduled either; that is the same trouble.
    findings.retain(|finding| !(is_waiting_for_class && finding.cause == "Unschedulable"));
    let is_told = findings.iter().any(|finding| finding.cause == "VolumeFull");
    findings
        .extend(case.seen.servers.iter().flatten().filter_map(|server| full(case, server)).take(usize::from(!is_told)));
    findings
}

/// What a server that is not Ready said before it ended.
fn last_words(case: &Case<'_>, pod: &Value) -> Option<Finding> {
    if is_ready(pod) {
        return None;
    }
    let name = name(pod);
    // A restore ends before a server begins.
    let (server, end) = [restore(pod), server(pod)].into_iter().flatten().find_map(|of| Some((of, end(of)?)))?;
    let evidence = |text: &str| format!("{name}: {text}");
    if let Some(TerminationMessage { cause, text }) = end["message"].as_str().and_then(TerminationMessage::parse) {
        if is_about_space(&text) {
            return Some(volume_full(case, evidence(&text)));
        }
        let (cause, says, next) = match cause {
            TerminationCause::Corruption => (
                "LogCorrupted",
                "acknowledged data is damaged on the disk, so the server does not start",
                format!("{} && {}", case.plugin("hibernate"), case.plugin("repair")),
            ),
            TerminationCause::Poisoned => (
                "StorePoisoned",
                "the disk failed to make a write durable, so the server stopped acknowledging",
                case.plugin("logs --previous"),
            ),
            TerminationCause::ForeignVolume => (
                "ForeignVolume",
                "the volume belongs to another store",
                case.kubectl(&format!("describe persistentvolumeclaim data-{name}")),
            ),
            TerminationCause::WrongEngine => (
                "WrongEngine",
                "the volume was written by another engine",
                case.kubectl(&format!("edit kvsstore {}", case.name)),
            ),
            TerminationCause::BackupDamaged => (
                "BackupDamaged",
                "the backup that the store is to begin with is not what it was: it needs another one (spec.bootstrap), so \
                 delete the store and create it anew",
                case.kubectl("get kvsbackups"),
            ),
            TerminationCause::Configuration => (
                "ConfigurationRefused",
                "the server refuses its configuration",
                case.kubectl(&format!("edit kvsstore {}", case.name)),
            ),
            TerminationCause::Failure => ("ServerFailed", "the server could not go on", case.plugin("logs --previous")),
        };
        return Some(Finding::new(Place::LastWords, cause, says, evidence(&text), next));
    }
    if end["reason"] == "OOMKilled" {
        let next = case.kubectl(&format!("edit kvsstore {}", case.name));
        let says = "the server was killed at its memory limit (spec.resources.limits.memory)";
        return Some(Finding::new(Place::LastWords, "OutOfMemory", says, evidence("OOMKilled"), next));
    }
    if server["state"]["waiting"]["reason"] == "CrashLoopBackOff" {
        let text = format!("exit code {}, without a last word", end["exitCode"]);
        let says = "the server ends again and again";
        return Some(Finding::new(
            Place::LastWords,
            "CrashLoop",
            says,
            evidence(&text),
            case.plugin("logs --previous"),
        ));
    }
    None
}

/// What keeps a pod from starting.
fn not_started(case: &Case<'_>, pod: &Value) -> Option<Finding> {
    if is_ready(pod) {
        return None;
    }
    let name = name(pod);
    if let Some(server) = server(pod) {
        let waiting = &server["state"]["waiting"];
        let text = |field: &str| waiting[field].as_str().unwrap_or_default();
        match text("reason") {
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                let image = pod_image(pod).or_else(|| server["image"].as_str()).unwrap_or_default();
                let says = format!("the node can't get the image {image}");
                let evidence = format!("{name}: {}: {}", text("reason"), text("message"));
                let next = case.kubectl(&format!("edit kvsstore {}", case.name));
                return Some(Finding::new(Place::Start(3), "ImageMissing", says, evidence, next));
            }
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                let evidence = format!("{name}: {}: {}", text("reason"), text("message"));
                let next = case.kubectl(&format!("describe pod {name}"));
                let says = "the node can't start the server";
                return Some(Finding::new(Place::Start(4), "ContainerNotStarted", says, evidence, next));
            }
            _ => {}
        }
    }
    let conditions = pod["status"]["conditions"].as_array()?;
    let scheduled = conditions.iter().find(|condition| condition["type"] == "PodScheduled")?;
    let message = scheduled["message"].as_str().unwrap_or_default();
    // So says Kubernetes for the seconds until a volume is made, too.
    let waits_for_volume = message.contains("unbound immediate PersistentVolumeClaims");
    if scheduled["status"] != "False" || scheduled["reason"] != "Unschedulable" || waits_for_volume {
        return None;
    }
    let next = if message.contains("Insufficient") {
        "kubectl describe nodes".to_owned()
    } else if message.contains("affinity") || message.contains("selector") || message.contains("taint") {
        "kubectl get nodes --show-labels --output wide".to_owned()
    } else {
        case.kubectl(&format!("describe pod {name}"))
    };
    let says = "no node takes the pod";
    Some(Finding::new(Place::Start(2), "Unschedulable", says, format!("{name}: {message}"), next))
}

/// A claim without a volume, whose class does not exist.
fn claim_without_class(case: &Case<'_>) -> Option<Finding> {
    let claims = case.seen.claims.as_deref().unwrap_or_default();
    let classes = case.seen.classes.as_deref().ok();
    let is_default =
        |class: &&Value| class["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == "true";
    claims.iter().filter(|claim| claim["spec"]["volumeName"].as_str().unwrap_or_default().is_empty()).find_map(|claim| {
        let name = name(claim);
        let class = claim["spec"]["storageClassName"].as_str().unwrap_or_default();
        let known = classes.map(|classes| classes.iter().any(|found| found["metadata"]["name"] == class));
        let event = case.seen.events.iter().flatten().find(|event| {
            event["involvedObject"]["name"] == name
                && event["reason"] == "ProvisioningFailed"
                && event["message"].as_str().is_some_and(|message| message.contains("not found"))
        });
        let evidence = match (class, known, event) {
            ("", _, _) if classes.is_none_or(|classes| !classes.iter().any(|class| is_default(&class))) => {
                format!("{name} names no storage class, and the cluster has no default one")
            }
            ("", ..) => return None,
            (_, Some(false), _) => format!("{name} asks for storage class {class}, which does not exist"),
            (_, None, Some(event)) => format!("{name}: {}", event["message"].as_str().unwrap_or_default()),
            _ => return None,
        };
        let says = "the storage class does not exist, so there is no volume; its name can't be changed in a store that \
                    is there: delete store and claim, and create the store anew";
        let next = "kubectl get storageclasses".to_owned();
        Some(Finding::new(Place::Start(1), "StorageClassMissing", says, evidence, next))
    })
}

/// A server that runs and takes no writes, because its volume is full.
fn full(case: &Case<'_>, server: &ServerFacts) -> Option<Finding> {
    let is_full = server.status["readOnly"] == true || server.metric("kvs_engine_read_only") == Some(1.0);
    is_full.then(|| {
        let mebibytes = |name: &str| {
            let bytes = server.metric(name).unwrap_or_default();
            format!("{:.0} MiB", bytes / (1024.0 * 1024.0))
        };
        let evidence = format!(
            "{} is read-only: {} of its volume of {} are free",
            server.pod,
            mebibytes("kvs_engine_disk_available_bytes"),
            mebibytes("kvs_engine_disk_capacity_bytes")
        );
        Finding { place: Place::Running(0), ..volume_full(case, evidence) }
    })
}

fn volume_full(case: &Case<'_>, evidence: String) -> Finding {
    let size = case.text("/spec/storage/size");
    let patch = format!("{{\"spec\":{{\"storage\":{{\"size\":\"{}\"}}}}}}", twice(size));
    let next = case.kubectl(&format!("patch kvsstore {} --type merge --patch '{patch}'", case.name));
    let says = "the volume is full: nothing more can be written; removing keys makes room, or a larger volume";
    Finding::new(Place::LastWords, "VolumeFull", says, evidence, next)
}

/// Twice a quantity, such as `64Mi`.
fn twice(size: &str) -> String {
    let end = size.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(size.len());
    let (number, unit) = size.split_at(end);
    match number.parse::<u64>() {
        Ok(number) if !unit.starts_with('.') => format!("{}{unit}", number.saturating_mul(2)),
        _ => "2Gi".to_owned(),
    }
}

fn is_about_space(text: &str) -> bool {
    let text = text.to_lowercase();
    NO_SPACE.iter().any(|words| text.contains(words))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap_or_default()
}

fn server(pod: &Value) -> Option<&Value> {
    pod["status"]["containerStatuses"].as_array()?.iter().find(|status| status["name"] == SERVER_CONTAINER)
}

fn restore(pod: &Value) -> Option<&Value> {
    pod["status"]["initContainerStatuses"].as_array()?.iter().find(|status| status["name"] == RESTORE_CONTAINER)
}

/// The image that the pod asks for; its status may have another spelling of it.
fn pod_image(pod: &Value) -> Option<&str> {
    let containers = pod["spec"]["containers"].as_array()?;
    containers.iter().find(|container| container["name"] == SERVER_CONTAINER)?["image"].as_str()
}

/// How a server ended last, unless it ended well.
fn end(server: &Value) -> Option<&Value> {
    let ends = [&server["state"]["terminated"], &server["lastState"]["terminated"]];
    ends.into_iter().find(|end| !end.is_null()).filter(|end| end["exitCode"] != 0)
}
