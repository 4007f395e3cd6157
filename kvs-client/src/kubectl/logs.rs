//! `logs`: what a store's servers said, in the run that goes on and in the one before.
//!
//! What must hold: the logs of one member come in the order of time; a member without a run before is no error.

use std::io::IsTerminal as _;

use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use super::KubectlError;
use super::cluster::{Cluster, Right};
use crate::arguments::LogsFlags;
use crate::error::Error;
use crate::{escape, output};

/// The server's container.
pub(super) const SERVER_CONTAINER: &str = "kvs-server";
/// The most bytes of one run's log: what a node keeps by default is less.
const MOST_BYTES: i64 = 64 * 1024 * 1024;

/// Which run of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Run {
    Before,
    Present,
}

/// Prints them.
pub(super) async fn run(cluster: &Cluster, flags: &LogsFlags) -> Result<(), Error> {
    let name = &flags.store.name;
    let store = cluster.store(name).await?;
    let pods = cluster.pods_of(&store, name).await?;
    if pods.is_empty() {
        let cause = format!(
            "{}/{name} has no pod and so no log; `{}` says why",
            cluster.namespace,
            cluster.command("doctor", name)
        );
        return Err(KubectlError::WrongState(cause).into());
    }
    let mut printed = 0;
    for pod in &pods {
        for run in [Run::Before, Run::Present] {
            if run == Run::Present && flags.previous {
                continue;
            }
            let Some(text) = of_run(cluster, pod, run, flags.tail).await? else { continue };
            let (title, text) = (title(pod, run), shown(text));
            output::write(&[title.as_bytes(), text.as_bytes(), if text.ends_with('\n') { b"" } else { b"\n" }])?;
            printed += 1;
        }
    }
    if printed == 0 {
        let what = if flags.previous { "no server has been restarted" } else { "no server has begun" };
        return Err(KubectlError::WrongState(format!("there is no log: {what}")).into());
    }
    Ok(())
}

/// A log as a terminal may have it: names of keys in it are other people's text.
fn shown(text: String) -> String {
    if !std::io::stdout().is_terminal() || escape::is_harmless(text.as_bytes()) {
        return text;
    }
    text.lines().map(|line| escape::bytes(line.as_bytes()) + "\n").collect()
}

/// A line above each log, which no log's own line looks like.
fn title(pod: &Pod, run: Run) -> String {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match run {
        Run::Before => format!("==> {name}, the run before <==\n"),
        Run::Present => format!("==> {name} <==\n"),
    }
}

/// The last lines of a run; `None` where there is no such run.
pub(super) async fn of_run(cluster: &Cluster, pod: &Pod, run: Run, lines: i64) -> Result<Option<String>, KubectlError> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if !has(pod, run) {
        return Ok(None);
    }
    let parameters = LogParams {
        container: Some(SERVER_CONTAINER.into()),
        previous: run == Run::Before,
        tail_lines: Some(lines),
        limit_bytes: Some(MOST_BYTES),
        ..LogParams::default()
    };
    let pods = cluster.pods();
    match cluster.call(Right::READ_LOGS, pods.logs(name, &parameters)).await {
        Ok(text) => Ok(Some(text)),
        // The node forgot it, or the container is just being made.
        Err(KubectlError::Refused { .. } | KubectlError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a pod's server has, or had, such a run.
fn has(pod: &Pod, run: Run) -> bool {
    let statuses = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut servers = statuses.filter(|status| status.name == SERVER_CONTAINER);
    servers.any(|server| match run {
        Run::Before => server.restart_count > 0,
        Run::Present => {
            server.state.as_ref().is_some_and(|state| state.running.is_some() || state.terminated.is_some())
                || server.restart_count > 0
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_server_that_was_restarted_has_a_run_before() {
        let pod = |state: serde_json::Value, restarts: i32| -> Pod {
            serde_json::from_value(json!({"metadata": {"name": "orders-0"}, "status": {"containerStatuses": [
                {"name": "kvs-server", "image": "", "imageID": "", "ready": false, "restartCount": restarts,
                 "state": state},
            ]}}))
            .unwrap()
        };
        let waiting = pod(json!({"waiting": {"reason": "ImagePullBackOff"}}), 0);
        assert!(!has(&waiting, Run::Before) && !has(&waiting, Run::Present));
        let first = pod(json!({"running": {}}), 0);
        assert!(!has(&first, Run::Before) && has(&first, Run::Present));
        let crashing = pod(json!({"waiting": {"reason": "CrashLoopBackOff"}}), 3);
        assert!(has(&crashing, Run::Before) && has(&crashing, Run::Present));
        assert_eq!(title(&crashing, Run::Before), "==> orders-0, the run before <==\n");
    }
}
