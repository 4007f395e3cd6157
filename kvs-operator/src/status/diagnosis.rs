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

/// The first fault of the members or of their volumes.
pub(super) fn find(pods: &[Arc<Pod>], claims: &[Arc<PersistentVolumeClaim>]) -> Option<Fault> {
    pods.iter().find_map(|pod| of_pod(pod)).or_else(|| claims.iter().find_map(|claim| of_claim(claim)))
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
    pod.metadata.deletion_timestamp.is_none() && condition(pod, "Ready").is_some_and(|(status, _)| status == "True")
}

fn of_pod(pod: &Pod) -> Option<Fault> {
    if is_ready(pod) || pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let name = pod.name_any();
    let fault = |reason, problem: String| Some(Fault { reason, message: format!("{name}: {problem}") });
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
            Some("CrashLoopBackOff") => {
                return fault(
                    "CrashLoop",
                    format!("the server ends without a cause; see kubectl logs --previous {name}"),
                );
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

/// The word for a server's own words.
const fn reason_of(cause: TerminationCause) -> &'static str {
    match cause {
        TerminationCause::Corruption => "LogCorrupted",
        TerminationCause::Poisoned => "StorePoisoned",
        TerminationCause::ForeignVolume => "ForeignVolume",
        TerminationCause::WrongEngine => "WrongEngine",
        TerminationCause::Configuration => "ConfigurationRefused",
        TerminationCause::Failure => "ServerFailed",
    }
}

fn server_status(pod: &Pod) -> Option<&ContainerStatus> {
    let statuses = pod.status.as_ref()?.container_statuses.as_ref()?;
    statuses.iter().find(|status| status.name == names::SERVER_CONTAINER)
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
    fn a_member_that_answers_has_no_fault() {
        let status = "{conditions: [{type: Ready, status: 'True'}], containerStatuses: [{name: kvs-server, image: i, imageID: '', ready: true, restartCount: 1, lastState: {terminated: {exitCode: 1, message: 'poisoned: disk'}}}]}";
        assert_eq!(find_in(&pod(status)), None);
    }

    #[test]
    fn a_single_crash_is_no_fault_but_a_loop_is() {
        assert_eq!(find_in(&pod(&server("state: {terminated: {exitCode: 137}}"))), None);
        let looping = server("state: {waiting: {reason: CrashLoopBackOff}}, lastState: {terminated: {exitCode: 137}}");
        assert_eq!(find_in(&pod(&looping)).unwrap().reason, "CrashLoop");
        let memory = server("state: {terminated: {exitCode: 137, reason: OOMKilled}}");
        assert_eq!(find_in(&pod(&memory)).unwrap().reason, "OutOfMemory");
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
