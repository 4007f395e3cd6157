//! What keeps a member from answering, read from its pod.
//!
//! What must hold: a cause stays the same, word by word, while a pod goes round its restarts, or each round would be a
//! write to the status and an event; a member that answers has no fault, whatever happened before.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStatus, PersistentVolumeClaim, Pod,
};
use kube::ResourceExt;
use kvs_protocol::termination::{TerminationCause, TerminationMessage};

use crate::names;

/// Something that needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// One word, which programs may decide by.
    pub reason: &'static str,
    /// Who, what, and what to do.
    pub message: String,
}

/// Restarts from which on they are a loop: once is an accident.
const LOOP_RESTARTS: i32 = 2;

/// The first fault of the members or of their volumes. A volume that is about to be lost comes before whatever else is
/// wrong: what helps against that may end the pod.
pub(super) fn find(pods: &[Arc<Pod>], claims: &[Arc<PersistentVolumeClaim>]) -> Option<Fault> {
    let going = claims.iter().find_map(|claim| of_going_claim(claim, pods));
    let of_pods = || pods.iter().find_map(|pod| of_pod(pod));
    going.or_else(of_pods).or_else(|| claims.iter().find_map(|claim| of_claim(claim)))
}

/// Kubernetes keeps a claim that was deleted as long as a pod uses it.
fn of_going_claim(claim: &PersistentVolumeClaim, pods: &[Arc<Pod>]) -> Option<Fault> {
    claim.metadata.deletion_timestamp.as_ref()?;
    let name = claim.name_any();
    let member = name.strip_prefix(names::DATA_VOLUME)?.strip_prefix('-')?;
    let is_used = pods.iter().any(|pod| pod.name_any() == member && pod.metadata.deletion_timestamp.is_none());
    let volume = claim.spec.as_ref()?.volume_name.as_deref()?;
    is_used.then(|| Fault {
        reason: "VolumeClaimDeleted",
        message: format!(
            "volume claim {name} was deleted, and goes with its data as soon as pod {member} ends; keep the volume: kubectl \
             patch persistentvolume {volume} --patch '{{\"spec\":{{\"persistentVolumeReclaimPolicy\":\"Retain\"}}}}'; \
             then bind it to a new claim, see docs/operator.md"
        ),
    })
}

/// Kubernetes writes its default class into each claim that names none; so one without a class found no default.
fn of_claim(claim: &PersistentVolumeClaim) -> Option<Fault> {
    let bound = claim.spec.as_ref()?.volume_name.is_some();
    let class = claim.spec.as_ref()?.storage_class_name.as_deref().unwrap_or_default();
    (!bound && class.is_empty()).then(|| Fault {
        reason: "NoStorageClass",
        message: format!(
            "volume claim {} names no storage class and the cluster has no default one; make one the default, or create the store anew with spec.storage.storageClassName",
            claim.name_any()
        ),
    })
}

/// Whether a member answers.
pub(super) fn is_ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && says_ready(pod)
}

fn says_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

fn of_pod(pod: &Pod) -> Option<Fault> {
    let name = pod.name_any();
    let fault = |reason, problem: String| Some(Fault { reason, message: format!("{name}: {problem}") });
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("(none)");
    if pod.metadata.deletion_timestamp.is_some() {
        // Kubernetes gave the node up. The pod's name, and so its successor, waits for the node's word that it ended.
        return (is_given_up(pod) && !says_ready(pod)).then(|| Fault {
            reason: "NodeLost",
            message: format!(
                "{name}: node {node} is given up and does not say that the pod ended; if the node is off for certain, let \
                 the pod go with kubectl taint nodes {node} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
            ),
        });
    }
    if is_ready(pod) {
        return None;
    }
    // The node's own word is that the containers are ready, and nobody but Kubernetes takes that back, unless the pod asks
    // for more.
    let waits_for_gate = matches!(condition(pod, "Ready"), Some((_, Some(("ReadinessGatesNotReady", _)))));
    if !waits_for_gate && condition(pod, "ContainersReady").is_some_and(|(status, _)| status == "True") {
        return fault(
            "NodeSilent",
            format!(
                "node {node} does not answer, so the pod is taken out of the Service; see kubectl describe node {node}"
            ),
        );
    }
    let crash_loop =
        || fault("CrashLoop", format!("the server ends without a cause; see kubectl logs --previous {name}"));
    if let Some(TerminationMessage { cause, text }) = restore_end(pod) {
        return fault(reason_of(cause), text);
    }
    if let Some(server) = server_status(pod) {
        if let Some(terminated) = last_end(server) {
            let message = terminated.message.as_deref().and_then(TerminationMessage::parse);
            if let Some(TerminationMessage { cause, text }) = message {
                return fault(reason_of(cause), text);
            }
            if terminated.reason.as_deref() == Some("OOMKilled") {
                return fault(
                    "OutOfMemory",
                    "the server was killed at its memory limit; raise spec.resources.limits.memory".into(),
                );
            }
        }
        match waiting_reason(server) {
            Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull") => {
                let image = &server.image;
                return fault(
                    "ImagePullFailed",
                    format!("the node can't get image {image}; check spec.image and the pull secrets"),
                );
            }
            Some("CreateContainerConfigError" | "CreateContainerError" | "RunContainerError") => {
                return fault(
                    "ContainerNotStarted",
                    format!("the node can't start the server; see kubectl describe pod {name}"),
                );
            }
            Some("CrashLoopBackOff") => return crash_loop(),
            // Between two ends it runs for a while, which is the same loop.
            _ if last_end(server).is_some() && server.restart_count >= LOOP_RESTARTS => {
                return crash_loop();
            }
            _ => {}
        }
    }
    if let Some(("False", Some((reason, message)))) = condition(pod, "PodScheduled") {
        // Kubernetes says so for the seconds until a claim is bound, too.
        if reason == "Unschedulable" && !message.contains("unbound immediate PersistentVolumeClaims") {
            return fault("Unschedulable", format!("no node takes the pod: {message}"));
        }
    }
    None
}

/// Whether Kubernetes deletes a pod because of its node.
fn is_given_up(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| {
        condition.type_ == "DisruptionTarget"
            && condition.status == "True"
            && condition.reason.as_deref() == Some("DeletionByTaintManager")
    })
}

/// The word for a server's own words.
const fn reason_of(cause: TerminationCause) -> &'static str {
    match cause {
        TerminationCause::Corruption => "LogCorrupted",
        TerminationCause::Poisoned => "StorePoisoned",
        TerminationCause::ForeignVolume => "ForeignVolume",
        TerminationCause::WrongEngine => "WrongEngine",
        TerminationCause::BackupDamaged => "BackupDamaged",
        TerminationCause::Configuration => "ConfigurationRefused",
        TerminationCause::Failure => "ServerFailed",
    }
}

fn server_status(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == names::SERVER_CONTAINER)
}

/// What the container that restores a backup said, when it could not.
fn restore_end(pod: &Pod) -> Option<TerminationMessage> {
    let statuses = pod.status.as_ref()?.init_container_statuses.as_ref()?;
    let restore = statuses.iter().find(|status| status.name == names::RESTORE_CONTAINER)?;
    last_end(restore)?.message.as_deref().and_then(TerminationMessage::parse)
}

/// How the server ended last, unless it ended well.
fn last_end(server: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    fn ended(state: &Option<ContainerState>) -> Option<&ContainerStateTerminated> {
        state.as_ref()?.terminated.as_ref()
    }
    ended(&server.state).or_else(|| ended(&server.last_state)).filter(|end| end.exit_code != 0)
}

fn waiting_reason(server: &ContainerStatus) -> Option<&str> {
    server.state.as_ref()?.waiting.as_ref()?.reason.as_deref()
}

/// The status of a pod's condition, with reason and message where it has both.
fn condition<'a>(pod: &'a Pod, condition: &str) -> Option<(&'a str, Option<(&'a str, &'a str)>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|candidate| candidate.type_ == condition)?;
    Some((&found.status, found.reason.as_deref().zip(found.message.as_deref())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(status: &str) -> Vec<Arc<Pod>> {
        let yaml = format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: orders-0}}\nstatus: {status}");
        vec![Arc::new(serde_yaml::from_str(&yaml).unwrap())]
    }

    fn server(state: &str) -> String {
        format!(
            "{{containerStatuses: [{{name: kvs-server, image: i, imageID: '', ready: false, restartCount: 3, {state}}}]}}"
        )
    }

    fn find_in(pods: &[Arc<Pod>]) -> Option<Fault> {
        find(pods, &[])
    }

    #[test]
    fn a_claim_that_found_no_class_is_a_fault_and_one_that_waits_is_not() {
        let claim = |spec: &str| {
            let yaml =
                format!("apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data-orders-0}}\nspec: {spec}");
            vec![Arc::new(serde_yaml::from_str(&yaml).unwrap())]
        };
        assert_eq!(find(&[], &claim("{}")).unwrap().reason, "NoStorageClass");
        assert_eq!(find(&[], &claim("{storageClassName: fast}")), None);
        assert_eq!(find(&[], &claim("{storageClassName: '', volumeName: made-by-hand}")), None);
    }

    #[test]
    fn a_claim_that_goes_with_its_pod_comes_before_what_ails_the_pod() {
        let claim = |more: &str| {
            let yaml = format!(
                "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: data-orders-0{more}}}\nspec: {{storageClassName: fast, volumeName: pv-1}}"
            );
            vec![Arc::new(serde_yaml::from_str(&yaml).unwrap())]
        };
        let going = claim(", deletionTimestamp: '2026-01-01T00:00:00Z'");
        let poisoned = pod(&server("state: {terminated: {exitCode: 1, message: 'poisoned: disk'}}"));
        let fault = find(&poisoned, &going).unwrap();
        assert_eq!(fault.reason, "VolumeClaimDeleted");
        assert!(fault.message.contains("kubectl patch persistentvolume pv-1 --patch '{\"spec\":"), "{}", fault.message);
        assert_eq!(find(&poisoned, &claim("")).unwrap().reason, "StorePoisoned");
        assert_eq!(find(&[], &going), None, "nobody uses it: it is gone in a moment, as somebody wished");
    }

    #[test]
    fn the_servers_last_words_become_the_cause_in_every_round_of_its_restarts() {
        let end = "terminated: {exitCode: 3, message: 'corruption: data/1.log: byte 7'}";
        let expected = Fault { reason: "LogCorrupted", message: "orders-0: data/1.log: byte 7".into() };
        for state in [
            format!("state: {{{end}}}"),
            format!("state: {{waiting: {{reason: CrashLoopBackOff}}}}, lastState: {{{end}}}"),
            format!("state: {{running: {{}}}}, lastState: {{{end}}}"),
        ] {
            assert_eq!(find_in(&pod(&server(&state))), Some(expected.clone()), "{state}");
        }
    }

    #[test]
    fn a_backup_that_could_not_be_restored_is_the_cause_in_every_round() {
        let end = "terminated: {exitCode: 65, message: 'backupDamaged: /backups/a/MANIFEST: it differs'}";
        for state in [
            format!("state: {{{end}}}"),
            format!("state: {{waiting: {{reason: CrashLoopBackOff}}}}, lastState: {{{end}}}"),
        ] {
            let status = format!(
                "{{initContainerStatuses: [{{name: kvs-restore, image: i, imageID: '', ready: false, restartCount: 1, {state}}}], \
                 containerStatuses: [{{name: kvs-server, image: i, imageID: '', ready: false, restartCount: 0, state: {{waiting: {{reason: PodInitializing}}}}}}]}}"
            );
            let expected =
                Fault { reason: "BackupDamaged", message: "orders-0: /backups/a/MANIFEST: it differs".into() };
            assert_eq!(find_in(&pod(&status)), Some(expected), "{state}");
        }
    }

    #[test]
    fn a_member_that_answers_has_no_fault() {
        let status = "{conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: kvs-server, image: i, imageID: '', ready: true, restartCount: 1, lastState: {terminated: {exitCode: 1, message: 'poisoned: disk'}}}]}";
        assert_eq!(find_in(&pod(status)), None);
    }

    #[test]
    fn a_single_crash_is_no_fault_but_a_loop_is() {
        let once = server("state: {terminated: {exitCode: 137}}").replace("restartCount: 3", "restartCount: 1");
        assert_eq!(find_in(&pod(&once)), None);
        let running = server("state: {running: {}}, lastState: {terminated: {exitCode: 137}}");
        assert_eq!(find_in(&pod(&running)).unwrap().reason, "CrashLoop", "the loop goes on while it runs");
        let well = server("state: {running: {}}, lastState: {terminated: {exitCode: 0}}");
        assert_eq!(find_in(&pod(&well)), None, "it ended well and starts");
        let looping = server("state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 137}}");
        assert_eq!(find_in(&pod(&looping)).unwrap().reason, "CrashLoop");
        let memory = server("state: {terminated: {exitCode: 137, reason: OOMKilled}}");
        assert_eq!(find_in(&pod(&memory)).unwrap().reason, "OutOfMemory");
    }

    #[test]
    fn a_node_that_is_silent_or_given_up_is_named() {
        let silent = "{conditions: [{type: Ready, status: 'False'}, {type: ContainersReady, status: 'True'}]}";
        let fault = find_in(&pod(silent)).unwrap();
        assert_eq!(fault.reason, "NodeSilent");
        let going = |reason: &str| {
            let yaml = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: orders-0, deletionTimestamp: '2026-01-01T00:00:00Z'}}\nspec: {{nodeName: n1, containers: []}}\nstatus: {{conditions: [{{type: Ready, status: 'False'}}, {{type: DisruptionTarget, status: 'True', reason: {reason}}}]}}"
            );
            vec![Arc::new(serde_yaml::from_str(&yaml).unwrap())]
        };
        let fault = find_in(&going("DeletionByTaintManager")).unwrap();
        assert_eq!(fault.reason, "NodeLost");
        assert!(
            fault.message.contains("kubectl taint nodes n1 node.kubernetes.io/out-of-service"),
            "{}",
            fault.message
        );
        assert_eq!(find_in(&going("EvictionByEvictionAPI")), None, "a drain is no fault");
    }

    #[test]
    fn both_names_of_a_failed_pull_are_one_cause() {
        let causes: Vec<_> = ["ErrImagePull", "ImagePullBackOff"]
            .iter()
            .map(|reason| {
                find_in(&pod(&server(&format!("state: {{waiting: {{reason: {reason}, message: {reason}}}}}")))).unwrap()
            })
            .collect();
        assert_eq!(causes[0], causes[1]);
        assert_eq!(causes[0].reason, "ImagePullFailed");
    }

    #[test]
    fn waiting_for_a_volume_is_no_fault_but_waiting_for_a_node_is() {
        let waits = |message: &str| {
            pod(&format!(
                "{{conditions: [{{type: PodScheduled, status: 'False', reason: Unschedulable, message: '{message}'}}]}}"
            ))
        };
        assert_eq!(find_in(&waits("pod has unbound immediate PersistentVolumeClaims")), None);
        assert_eq!(find_in(&waits("0/3 nodes are available: 3 Insufficient cpu")).unwrap().reason, "Unschedulable");
    }
}
