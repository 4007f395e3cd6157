//! `kubectl kvs`: what it asks an API server for, what it writes, and what it says. The API server is a small one of our
//! own; the stories on a real one are elsewhere.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::cluster::{Cluster, pod, store};
use support::{Outcome, client, run, until};

/// What must get into no output.
const CANARY: &str = "canary-of-a-token-0123";

struct Setup {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(None);
        cluster.write_kubeconfig(&folder.path().join("kubeconfig"));
        cluster.state().objects = vec![
            ("/persistentvolumeclaims?", 200, list("PersistentVolumeClaimList", &json!([]))),
            ("/shop/events?", 200, list("EventList", &json!([]))),
            ("/storageclasses?", 200, list("StorageClassList", &json!([]))),
            ("/deployments?", 200, list("DeploymentList", &json!([operator()]))),
            ("/leases?", 200, list("LeaseList", &json!([]))),
            (
                "/customresourcedefinitions/",
                403,
                json!({"kind": "Status", "code": 403, "reason": "Forbidden", "message": "no"}),
            ),
        ];
        Self { cluster, folder }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = client(["kubectl"]);
        command.args(line.split_whitespace()).args(["--namespace", "shop", "--kubeconfig"]);
        command.arg(self.folder.path().join("kubeconfig")).current_dir(self.folder.path());
        command
    }

    fn run(&self, line: &str) -> Outcome {
        run(&mut self.command(line))
    }

    /// What the operator says, of the spec that is there now.
    fn says(&self, name: &str, status: &str, reason: &str) {
        let mut state = self.cluster.state();
        let store = state.store.as_mut().unwrap();
        let generation = store["metadata"]["generation"].clone();
        store["status"]["conditions"] = json!([
            {"type": name, "status": status, "reason": reason, "message": "words", "observedGeneration": generation},
        ]);
    }

    /// A store that sleeps.
    fn put_to_sleep(&self) {
        {
            let mut state = self.cluster.state();
            state.pods = Vec::new();
            let store = state.store.as_mut().unwrap();
            store["spec"] = json!({"desiredState": "Hibernated"});
            store["status"]["image"] = "registry/kvs-server:1".into();
        }
        self.says("Available", "False", "Hibernated");
    }

    fn writes(&self) -> Vec<(String, Value)> {
        self.cluster.state().writes.clone()
    }
}

fn list(kind: &str, items: &Value) -> Value {
    let version = match kind {
        "StorageClassList" => "storage.k8s.io/v1",
        "DeploymentList" => "apps/v1",
        "LeaseList" => "coordination.k8s.io/v1",
        _ => "v1",
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {}, "items": items})
}

fn operator() -> Value {
    json!({
        "metadata": {"name": "kvs-operator", "namespace": "kvs-system"},
        "spec": {"replicas": 2, "selector": {}, "template": {}}, "status": {"availableReplicas": 2},
    })
}

#[test]
fn kubectl_finds_it_by_its_name() {
    let setup = Setup::new();
    let plugin = setup.folder.path().join("kubectl-kvs");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kvs-client"), &plugin).unwrap();
    let kubeconfig = setup.folder.path().join("kubeconfig");
    let mut command = Command::new(&plugin);
    command.args(["status", "orders", "-n", "shop", "--kubeconfig"]).arg(&kubeconfig);
    let outcome = run(&mut command);
    assert_eq!((outcome.code, outcome.text()), (Some(0), setup.run("status orders").text()), "{}", outcome.errors);
    assert!(outcome.text().starts_with("shop/orders: Ready, all members are ready\n"), "{}", outcome.text());
    assert!(outcome.text().ends_with("\nnext: nothing\n"), "{}", outcome.text());

    let help = run(Command::new(&plugin).arg("--help"));
    assert!(help.text().contains("Usage: kubectl kvs") && help.text().contains("doctor"), "{}", help.text());
    let outcome = run(Command::new(&plugin).args(["get", "key"]));
    assert!(outcome.assert_fails(2).contains("usage: kubectl kvs"), "{}", outcome.errors);
    setup.run("status orders --addr 127.0.0.1:1").assert_fails(2);
}

#[test]
fn a_status_is_an_object_for_programs() {
    let setup = Setup::new();
    setup.cluster.state().store = Some(store("False", "SecretMissing", "Secret auth does not exist"));
    let outcome = setup.run("status orders -o json");
    let object: Value = serde_json::from_str(outcome.text()).unwrap();
    assert_eq!((&object["store"], &object["ready"]), (&"shop/orders".into(), &false.into()));
    assert_eq!(object["status"]["conditions"][0]["reason"], "SecretMissing");
    assert_eq!(object["next"], "kubectl kvs doctor orders --namespace shop");
}

#[test]
fn a_change_is_one_patch_and_waits_for_its_condition() {
    for (verb, field, value, condition) in [
        ("hibernate", "desiredState", "Hibernated", ("Available", "False", "Hibernated")),
        ("pause", "reconcilePolicy", "Paused", ("Paused", "True", "ReconcilePolicyPaused")),
    ] {
        let setup = Setup::new();
        let child = setup.command(&format!("{verb} orders")).stdout(Stdio::piped()).spawn().unwrap();
        until("the spec is patched", || (!setup.writes().is_empty()).then_some(()));
        setup.says(condition.0, condition.1, condition.2);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.starts_with("shop/orders is "), "{text}");
        let path = "PATCH /apis/kvs.aryavarth.io/v1alpha1/namespaces/shop/kvsstores/orders";
        assert_eq!(setup.writes(), [(path.to_owned(), json!({"spec": {field: value}}))]);

        let again = setup.run(&format!("{verb} orders -o json"));
        let object: Value = serde_json::from_str(again.text()).unwrap();
        assert_eq!((&object["changed"], &object["done"]), (&false.into(), &true.into()));
        assert_eq!(setup.writes().len(), 1, "it is as asked for already");
    }
}

#[test]
fn a_wait_has_an_end_and_can_be_left_out() {
    let setup = Setup::new();
    let outcome = setup.run("hibernate orders --wait 1");
    let line = outcome.assert_fails(5);
    assert!(line.contains("has not reported about it yet") || line.contains("has not seen the change"), "{line}");
    assert!(line.contains("`kubectl kvs status orders --namespace shop` shows"), "{line}");
    let outcome = setup.run("resume orders --no-wait");
    assert!(outcome.text().starts_with("shop/orders"), "{outcome:?}");
    assert_eq!(setup.writes().last().unwrap().1, json!({"spec": {"desiredState": "Running"}}));
}

#[test]
fn who_may_not_is_told_which_right_is_missing() {
    for (line, part, right) in [
        ("status orders", "kvsstores", "`get` on kvsstores.kvs.aryavarth.io in namespace shop"),
        ("logs orders", "/pods?", "`list` on pods in namespace shop"),
    ] {
        let setup = Setup::new();
        setup.cluster.state().forbidden = Some(part);
        let outcome = setup.run(line);
        assert!(outcome.assert_fails(8).contains(right), "{}", outcome.errors);
    }
    let setup = Setup::new();
    setup.cluster.state().store = None;
    assert!(setup.run("doctor orders").assert_fails(8).contains("no KvsStore orders in namespace shop"));
    setup.cluster.state().installed = false;
    assert!(setup.run("pause orders").assert_fails(8).contains("does not know kvsstores"));
}

#[test]
fn the_logs_of_both_runs_are_printed_in_order() {
    let setup = Setup::new();
    let mut server = pod(true);
    server["status"]["containerStatuses"] = json!([{"name": "kvs-server", "image": "", "imageID": "", "ready": true,
        "restartCount": 1, "state": {"running": {}}}]);
    {
        let mut state = setup.cluster.state();
        state.pods = vec![server];
        state.objects.push(("log?&container=kvs-server&previous=true", 200, "the end of the first\n".into()));
        state.objects.push(("/log?", 200, "the second\n".into()));
    }
    let outcome = setup.run("logs orders");
    let (before, now) = outcome.text().split_once("==> orders-0 <==\n").unwrap();
    assert!(before.starts_with("==> orders-0, the run before <==\n") && now.contains("second"), "{outcome:?}");
    setup.cluster.state().pods = Vec::new();
    assert!(setup.run("logs orders").assert_fails(8).contains("kubectl kvs doctor orders"));
}

#[test]
fn the_doctor_names_the_cause_and_what_it_could_not_look_at() {
    let setup = Setup::new();
    setup.run("doctor orders").assert_prints(
        "shop/orders: nothing wrong was found\nnot looked at: the definition of KvsStore (it takes `get` on \
         customresourcedefinitions.apiextensions.k8s.io in the whole cluster)\n",
    );
    setup.put_to_sleep();
    let outcome = setup.run("doctor orders -o json");
    assert_eq!(outcome.code, Some(8), "{}", outcome.errors);
    let object: Value = serde_json::from_str(outcome.text()).unwrap();
    assert_eq!(object["findings"][0]["cause"], "Hibernated");
    assert_eq!(object["findings"][0]["next"], "kubectl kvs resume orders --namespace shop");
}

#[test]
fn the_doctor_does_not_wait_for_an_answer_that_does_not_come() {
    let setup = Setup::new();
    setup.put_to_sleep();
    // The store is read; everything after it is met by silence.
    setup.cluster.state().answers = Some(1);
    let begin = Instant::now();
    let outcome = setup.run("doctor orders");
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(outcome.text().starts_with("shop/orders: the store is hibernated"), "{outcome:?}");
    assert!(outcome.text().contains("not looked at: pods (no answer within 3 s)"), "{outcome:?}");
}

#[test]
fn a_report_holds_everything_but_what_is_secret() {
    let setup = Setup::new();
    {
        let mut server = pod(true);
        server["spec"] = json!({"containers": [{"name": "kvs-server", "env": [{"name": "TOKEN", "value": CANARY}]}]});
        server["status"]["containerStatuses"] = json!([{"name": "kvs-server", "image": "", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"terminated": {"exitCode": 1, "message": CANARY}}}]);
        let mut state = setup.cluster.state();
        state.pods = vec![server];
        state.secrets.insert("auth".into(), [("token".to_owned(), CANARY.to_owned())].into());
        let store = state.store.as_mut().unwrap();
        store["spec"] = json!({"auth": {"mode": "Token", "tokenSecretRef": {"name": "auth", "key": "token"}}});
        store["metadata"]["annotations"] = json!({"note": CANARY});
        let event = json!({"metadata": {"name": "e"}, "involvedObject": {}, "message": format!("said {CANARY}")});
        state.objects.retain(|(part, ..)| *part != "/shop/events?");
        state.objects.push(("/shop/events?", 200, list("EventList", &json!([event]))));
        state.objects.push(("/log?", 200, format!("a line with {CANARY} in it\nauthorization: Bearer abc\n").into()));
        state.objects.push(("/kvs-system/pods?", 200, list("PodList", &json!([]))));
        state.objects.push((
            "/version",
            200,
            json!({"major": "1", "minor": "36", "gitVersion": "v1.36.3", "gitCommit": "",
            "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": "linux/amd64"}),
        ));
    }
    let outcome = setup.run("report orders");
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    let folder = setup.folder.path().join("orders-report");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(CANARY) && !text.contains("Y2FuYXJ5"), "{}: {text}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    for name in
        ["store.yaml", "pods.yaml", "events.yaml", "doctor.txt", "log-orders-0.txt", "versions.txt", "missing.txt"]
    {
        assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
    }
    let log = std::fs::read_to_string(folder.join("log-orders-0.txt")).unwrap();
    assert_eq!(log, "a line with [removed] in it\nauthorization: Bearer [removed]\n");
    assert!(std::fs::read_to_string(folder.join("missing.txt")).unwrap().contains("customresourcedefinitions"));
    assert!(std::fs::read_to_string(folder.join("versions.txt")).unwrap().contains("v1.36.3"));
    let again = setup.run("report orders");
    assert!(again.assert_fails(7).contains("name a new folder"), "{}", again.errors);
}

#[test]
fn a_repair_shows_what_is_lost_and_changes_nothing_unless_told_to() {
    let setup = Setup::new();
    assert!(setup.run("repair orders --yes").assert_fails(8).contains("is not hibernated"));
    assert_eq!(setup.writes(), [], "a store that is awake is left alone");

    setup.put_to_sleep();
    let plan = json!({"savedKeys": 21, "records": 24, "withoutManifest": false, "repaired": {"keys": 21}, "losses": [{
        "kind": "damagedRecord", "file": "data/1.log", "offset": 7, "bytes": 60, "reason": "the checksum differs",
        "keys": [{"key": "key-05", "was_removal": false, "then": "missing"}], "others": false,
    }]});
    let ended = |message: &str| {
        let state = json!({"terminated": {"exitCode": 65, "message": message}});
        list(
            "PodList",
            &json!([{"metadata": {"name": "p"}, "status": {"containerStatuses": [
            {"name": "repair", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state}]}}]),
        )
    };
    {
        let mut state = setup.cluster.state();
        state.objects.insert(0, ("job-name", 200, ended(&plan.to_string())));
        state.objects.insert(
            0,
            ("POST /apis/batch/v1/namespaces/shop/jobs", 201, json!({"metadata": {"name": "orders-repair-1"}})),
        );
    }
    let outcome = setup.run("repair orders");
    assert_eq!((outcome.code, outcome.errors.as_str()), (Some(7), ""));
    assert!(outcome.text().contains("a value of \"key-05\": the key will be missing"), "{}", outcome.text());
    assert!(
        outcome.text().contains("nothing was changed; `kubectl kvs repair orders --namespace shop --yes` saves it")
    );
    let flags = |writes: &[(String, Value)]| -> Vec<Value> {
        writes.iter().map(|(_, job)| job["spec"]["template"]["spec"]["containers"][0]["command"][4].clone()).collect()
    };
    assert_eq!(flags(&setup.writes()), ["--dry-run"]);

    let outcome = setup.run("repair orders --yes");
    assert_eq!((outcome.code, outcome.errors.as_str()), (Some(0), ""));
    assert!(outcome.text().contains("key-05") && outcome.text().contains("\nsaved 21 keys; "), "{}", outcome.text());
    assert_eq!(flags(&setup.writes()), ["--dry-run", "--dry-run", "--replace"]);

    setup.cluster.state().objects.insert(0, ("job-name", 200, ended("configuration: data.damaged is there already")));
    let outcome = setup.run("repair orders");
    assert!(outcome.assert_fails(8).contains("data.damaged is there already"), "{}", outcome.errors);
}

#[test]
fn a_backup_is_asked_for_and_waited_for() {
    let backup = |condition: &str| {
        json!({"apiVersion": "kvs.aryavarth.io/v1alpha1", "kind": "KvsBackup", "metadata": {"name": "monday"},
               "spec": {"storeRef": {"name": "orders"}},
               "status": {"sizeBytes": 7, "path": "orders/monday", "conditions": [
                   {"type": condition, "status": "True", "reason": "JobFailed", "message": "no space"}]}})
    };
    let setup = Setup::new();
    setup.cluster.state().objects.push(("kvsbackups", 200, backup("Complete")));
    let outcome = setup.run("backup orders --claim tapes --name monday");
    assert!(outcome.text().starts_with("shop/monday is complete: 7 bytes in orders/monday"), "{outcome:?}");
    let (path, body) = setup.writes().pop().unwrap();
    assert_eq!(path, "POST /apis/kvs.aryavarth.io/v1alpha1/namespaces/shop/kvsbackups");
    let spec = json!({"storeRef": {"name": "orders"}, "target": {"persistentVolumeClaim": {"claimName": "tapes"}}});
    assert_eq!((&body["metadata"]["name"], &body["spec"]), (&"monday".into(), &spec));

    setup.cluster.state().objects.push((
        "POST /apis/kvs.aryavarth.io/v1alpha1/namespaces/shop/kvsstores",
        201,
        store("True", "", ""),
    ));
    let outcome = setup.run("restore copy --from monday --no-wait");
    assert!(outcome.text().starts_with("shop/copy is made"), "{outcome:?}");
    assert_eq!(setup.writes().pop().unwrap().1["spec"], json!({"bootstrap": {"backupRef": {"name": "monday"}}}));

    setup.cluster.state().objects.retain(|(part, ..)| *part != "kvsbackups");
    setup.cluster.state().objects.push(("kvsbackups", 200, backup("Failed")));
    let outcome = setup.run("backup orders --claim tapes --name tuesday");
    assert!(outcome.assert_fails(8).contains("failed: JobFailed: no space"), "{}", outcome.errors);
    let outcome = setup.run("restore copy --from monday");
    assert!(outcome.assert_fails(8).contains("is not complete"), "{}", outcome.errors);
}
