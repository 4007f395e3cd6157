//! `--store NAMESPACE/NAME`: into a pod through the Kubernetes API, and through its death. The API server is a small
//! one of our own; the server behind the port is the real one.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::{Command, Stdio};

use support::cluster::{Cluster, STORE, pod, store};
use support::{Outcome, Server, client, run, until};

/// A store with a ready pod, in a cluster.
struct Setup {
    cluster: Cluster,
    server: Option<Server>,
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = Server::start(&folder.path().join("data"));
        let cluster = Cluster::start(Some(server.addr));
        cluster.write_kubeconfig(&folder.path().join("kubeconfig"));
        Self { cluster, server: Some(server), folder }
    }

    fn client<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = client(arguments);
        command.args(["--store", STORE, "--kubeconfig"]).arg(self.folder.path().join("kubeconfig"));
        command
    }

    fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Outcome {
        run(&mut self.client(arguments))
    }

    /// The pod dies: its server, its connections, its readiness.
    fn kill_pod(&mut self) {
        self.server.take().unwrap().kill();
        let mut state = self.cluster.state();
        (state.pods, state.server) = (vec![pod(false)], None);
        state.store = Some(store("False", "MembersNotReady", "0 of 1 members are ready"));
    }

    /// Another pod takes over the volume.
    fn revive_pod(&mut self) {
        let server = Server::start(&self.folder.path().join("data"));
        let mut state = self.cluster.state();
        (state.pods, state.server) = (vec![pod(true)], Some(server.addr));
        self.server = Some(server);
    }
}

#[test]
fn set_get_rm_and_check_reach_the_pod() {
    let setup = Setup::new();
    setup.run(["set", "key", "value"]).assert_prints("");
    setup.run(["get", "key"]).assert_prints("value\n");
    setup.run(["rm", "key"]).assert_prints("");
    assert_eq!(setup.run(["rm", "key"]).assert_fails(1), "Key not found");
    setup.run(["get", "key"]).assert_prints("Key not found\n");
    let check = setup.run(["check"]);
    assert!(check.text().starts_with("ok: store shop/orders (pod orders-0) set, read"), "{check:?}");
    assert_eq!(setup.cluster.state().forwards, 6, "each command forwarded one port once");
}

#[test]
fn variables_name_store_and_kubeconfig() {
    let setup = Setup::new();
    let kubeconfig = setup.folder.path().join("kubeconfig");
    setup.run(["set", "key", "value"]).assert_prints("");
    run(client(["get", "key"]).env("KVS_STORE", STORE).env("KUBECONFIG", &kubeconfig)).assert_prints("value\n");
    let outcome =
        run(client(["get", "key", "--context", "no-such"]).env("KVS_STORE", STORE).env("KUBECONFIG", &kubeconfig));
    assert!(outcome.assert_fails(8).contains("--context"), "{}", outcome.errors);
}

#[test]
fn a_large_value_passes_through_the_port() {
    let setup = Setup::new();
    let value = "x".repeat(120_000);
    setup.run(["set", "key", &value]).assert_prints("");
    setup.run(["get", "key"]).assert_prints(&format!("{value}\n"));
}

#[test]
fn a_command_waits_for_a_pod_that_is_on_its_way() {
    let mut setup = Setup::new();
    setup.run(["set", "key", "value"]).assert_prints("");
    setup.kill_pod();
    let mut child = setup.client(["get", "key"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it waits");
    setup.revive_pod();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout), (Some(0), b"value\n".to_vec()));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "off a terminal it waits silently");
}

#[test]
fn an_import_survives_the_death_of_the_pod() {
    const KEYS: usize = 4_000;
    let line = |number: usize| format!("{{\"key\":\"{number}\",\"value\":\"value {number}\"}}\n");
    let mut setup = Setup::new();
    let mut child = setup.client(["import", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all((0..KEYS / 2).map(line).collect::<String>().as_bytes()).unwrap();
    let last = (KEYS / 2 - 1).to_string();
    until("the first half is stored", || (setup.run(["get", &last]).text() != "Key not found\n").then_some(()));
    setup.kill_pod();
    setup.cluster.cut();
    input.write_all((KEYS / 2..KEYS).map(line).collect::<String>().as_bytes()).unwrap();
    drop(input);
    setup.revive_pod();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(errors.lines().last().unwrap().starts_with(&format!("imported {KEYS} keys")), "{errors}");
    for number in [0, KEYS / 2 - 1, KEYS / 2, KEYS - 1] {
        setup.run(["get", &number.to_string()]).assert_prints(&format!("value {number}\n"));
    }
}

#[test]
fn set_and_get_are_sent_again_and_rm_is_not() {
    let setup = Setup::new();
    setup.cluster.state().break_forwards = 2;
    setup.run(["set", "key", "value"]).assert_prints("");
    assert_eq!(setup.cluster.state().forwards, 3);
    setup.cluster.state().break_forwards = 1;
    setup.run(["get", "key"]).assert_prints("value\n");
    setup.cluster.state().break_forwards = 1;
    let outcome = setup.run(["rm", "key"]);
    let line = outcome.assert_fails(3);
    assert!(line.contains("pod orders-0") && line.contains("whether the key was removed is not known"), "{line}");
    setup.run(["get", "key"]).assert_prints("value\n");
}

#[test]
fn a_port_at_which_nobody_listens_is_named() {
    let setup = Setup::new();
    setup.cluster.state().server = None;
    let outcome = setup.run(["get", "key", "--timeout", "4"]);
    let line = outcome.assert_fails(3);
    assert!(line.contains("store shop/orders (pod orders-0)") && line.contains("connection refused"), "{line}");
}

#[test]
fn a_store_that_is_not_ready_says_why() {
    let setup = Setup::new();
    setup.cluster.state().store = Some(store("False", "VolumePending", "the claim data-orders-0 has no volume"));
    setup.cluster.state().pods = vec![pod(false)];
    let outcome = setup.run(["get", "key", "--timeout", "1"]);
    let line = outcome.assert_fails(8);
    let parts = [
        "store shop/orders is not ready: VolumePending: the claim data-orders-0 has no volume",
        "pod orders-0 is running but not ready",
        "kubectl --namespace shop describe kvsstore orders",
    ];
    assert!(parts.iter().all(|part| line.contains(part)), "{line}");
}

#[test]
fn the_last_known_reason_is_told_when_the_cluster_falls_silent() {
    let setup = Setup::new();
    setup.cluster.state().store = Some(store("False", "LogCorrupted", "damaged at byte 7"));
    setup.cluster.state().pods = vec![pod(false)];
    // The store and its pods are read once; the next attempt waits for an answer until the time is over.
    setup.cluster.state().answers = Some(2);
    let outcome = setup.run(["get", "key", "--timeout", "1"]);
    let line = outcome.assert_fails(8);
    assert!(line.contains("is not ready: LogCorrupted: damaged at byte 7"), "{line}");
}

#[test]
fn what_will_not_heal_is_not_waited_for() {
    let setup = Setup::new();
    setup.cluster.state().store = None;
    assert!(setup.run(["get", "key"]).assert_fails(8).contains("there is no KvsStore shop/orders"));
    setup.cluster.state().installed = false;
    assert!(setup.run(["get", "key"]).assert_fails(8).contains("does not know KvsStores"));
    setup.cluster.state().forbidden = Some("kvsstores");
    assert!(setup.run(["get", "key"]).assert_fails(8).contains("may not read the KvsStore"));
}

#[test]
fn who_may_not_is_told_what_it_takes() {
    for (path, doing) in
        [("kvsstores", "read the KvsStore"), ("/pods?", "list its pods"), ("portforward", "forward a port")]
    {
        let setup = Setup::new();
        setup.cluster.state().forbidden = Some(path);
        let outcome = setup.run(["get", "key"]);
        let line = outcome.assert_fails(8);
        assert!(line.contains("no access to store shop/orders") && line.contains(doing), "{line}");
        assert!(line.contains("pods/portforward in namespace shop"), "{line}");
    }
}

#[test]
fn a_kubeconfig_or_cluster_that_is_not_there_is_one_line() {
    let outcome = run(&mut client(["get", "key", "--store", STORE, "--kubeconfig", "/nonexistent/config"]));
    let line = outcome.assert_fails(8);
    assert!(line.contains("/nonexistent/config") && line.contains("--kubeconfig"), "{line}");

    let outcome = run(&mut client(["get", "key", "--store", STORE]));
    assert!(outcome.assert_fails(8).contains("no access to a cluster"), "{}", outcome.errors);

    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    Cluster::start(None).write_kubeconfig(&kubeconfig);
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let nobody = support::fake::nobody();
    let start = text.find("http://").unwrap();
    let end = start + text[start..].find('"').unwrap();
    std::fs::write(&kubeconfig, format!("{}http://{nobody}{}", &text[..start], &text[end..])).unwrap();
    let outcome = run(client(["get", "key", "--store", STORE, "--kubeconfig"]).arg(&kubeconfig));
    let line = outcome.assert_fails(8);
    assert!(line.contains("cannot read the KvsStore") && line.contains("Connection refused"), "{line}");
}

#[test]
fn an_export_survives_the_death_of_the_pod() {
    const KEYS: usize = 8_000;
    let mut setup = Setup::new();
    let file = setup.folder.path().join("keys.jsonl");
    let line = |number: usize| format!("{{\"key\":\"{number}\",\"value\":\"{}\"}}\n", "x".repeat(1_000));
    std::fs::write(&file, (0..KEYS).map(line).collect::<String>()).unwrap();
    assert_eq!(setup.server.as_ref().unwrap().run(["import".as_ref(), file.as_os_str()]).code, Some(0));
    let all = setup.folder.path().join("all.jsonl");
    let partial = setup.folder.path().join("all.jsonl.partial");
    let mut child = setup.client(["export".as_ref(), all.as_os_str()]).stderr(Stdio::piped()).spawn().unwrap();
    until("the export is under way", || std::fs::metadata(&partial).ok().filter(|found| found.len() > 0).map(|_| ()));
    setup.kill_pod();
    setup.cluster.cut();
    assert!(!all.exists(), "it was not done before its pod died");
    setup.revive_pod();
    let status = until("the export ends", || child.try_wait().unwrap());
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(status.code(), Some(0), "{errors}");
    let sorted = |file: &std::path::Path| {
        let mut lines: Vec<String> = std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert!(sorted(&all) == sorted(&file), "every key is there once");
}
