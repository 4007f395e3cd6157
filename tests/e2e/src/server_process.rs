//! `ServerProcess`: the server's process on this machine, for what Kubernetes can't do: kill it without a word, or damage
//! its volume under its feet.
//!
//! What must hold: only the process of the given container is killed. It is held by a file descriptor while it is looked
//! at, so that no other process can take its number meanwhile; and its control group names the container.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use k8s_openapi::api::core::v1::Pod;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::failure::Failure;

/// The server's program.
const PROGRAM: &str = "kvs-server";

/// The running server of a pod.
#[derive(Debug)]
pub struct ServerProcess {
    pid: u32,
    handle: OwnedFd,
}

impl ServerProcess {
    /// The server of a pod whose node is on this machine.
    ///
    /// # Errors
    /// When the pod has no running server, or its process is not on this machine.
    pub fn of(pod: &Pod) -> Result<Self, Failure> {
        let container = container_id(pod);
        find(&container.ok_or_else(|| Failure::Unexpected("the pod has no running container".into()))?)
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn kill(&self) -> Result<(), Failure> {
        let killed = pidfd_send_signal(&self.handle, Signal::KILL);
        killed.map_err(|error| Failure::io(format!("killing process {}", self.pid))(error.into()))
    }

    /// The server's file system as this machine sees it, its volume included.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid))
    }
}

/// The id of the pod's one container.
fn container_id(pod: &Pod) -> Option<String> {
    let container = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    container.state.as_ref()?.running.as_ref()?;
    let (_, id) = container.container_id.as_ref()?.split_once("://")?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// The one process of that program in that container.
fn find(container: &str) -> Result<ServerProcess, Failure> {
    let entries = fs::read_dir("/proc").map_err(Failure::io("listing processes"))?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found: Vec<ServerProcess> = pids.filter_map(|pid| open_if_in(pid, container)).collect();
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (None, _) => Err(Failure::Unexpected(format!(
            "no process on this machine is {PROGRAM} of container {container}; the stories must run as root beside the cluster"
        ))),
        (Some(_), more) => Err(Failure::Unexpected(format!("{} processes are {PROGRAM} of {container}", more + 1))),
    }
}

/// A process, if it is the server of that container.
fn open_if_in(pid: u32, container: &str) -> Option<ServerProcess> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    let is_it = || {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let program = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (program.trim_end() == PROGRAM && names_container(&groups, container)).then_some(())
    };
    is_it()?;
    let handle = pidfd_open(raw, PidfdFlags::empty()).ok()?;
    // Once more, now that the number can't change its owner unnoticed.
    is_it()?;
    Some(ServerProcess { pid, handle })
}

/// Whether a process's control groups are those of a container: the last part of each path is its id, with a prefix
/// and a suffix where systemd names it.
fn names_container(groups: &str, container: &str) -> bool {
    !container.is_empty()
        && groups.lines().filter_map(|line| line.rsplit('/').next()).any(|last| {
            let last = last.strip_suffix(".scope").unwrap_or(last);
            last == container || last.strip_prefix("cri-containerd-") == Some(container)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_name_their_container() {
        let old = "12:memory:/node1/kubepods/besteffort/pod1/abc\n1:name=systemd:/node1/kubepods/besteffort/pod1/abc";
        let systemd = "0::/kubelet.slice/pod1.slice/cri-containerd-abc.scope";
        assert!(names_container(old, "abc") && names_container(systemd, "abc"));
        assert!(!names_container(old, "ab") && !names_container(old, "pod1") && !names_container("0::/", ""));
    }

    #[test]
    fn only_a_running_container_has_an_id() {
        let pod = |state: &str| -> Pod {
            let status = format!(
                "{{containerStatuses: [{{name: kvs-server, image: i, imageID: '', ready: true, restartCount: 0, containerID: 'containerd://abc', state: {state}}}]}}"
            );
            serde_yaml::from_str(&format!("apiVersion: v1\nkind: Pod\nmetadata: {{}}\nstatus: {status}")).unwrap()
        };
        assert_eq!(container_id(&pod("{running: {}}")).as_deref(), Some("abc"));
        assert_eq!(container_id(&pod("{terminated: {exitCode: 137}}")), None);
    }
}
