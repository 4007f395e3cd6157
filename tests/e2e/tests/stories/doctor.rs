//! `kubectl kvs`: the doctor among real faults, and the other commands on a real store.

use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use kvs_e2e::namespace::Namespace;
use kvs_e2e::process::Program;
use kvs_e2e::runner::Told;
use kvs_e2e::server_process::ServerProcess;
use kvs_e2e::store::{READY_LIMIT, Store};
use kvs_e2e::{Failure, NotYet, until};
use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use crate::{access, damage};

/// How long the doctor may take. The promise is 5 s on a machine that does nothing else; this one starts pods meanwhile.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// Bytes of a value, and how many of them surely fill what a server had prepared of its volume.
const VALUE_BYTES: usize = 1_000_000;
const MOST_VALUES: u32 = 100;
const TOKEN: &str = "canary-of-a-real-token";

/// Faults that the spec alone makes: each store is named its own, all at once.
pub(super) async fn faults_of_specs(namespace: Namespace) -> Told {
    let ended = expired_certificate(&namespace.name)?;
    access::secret(&namespace, "ended-tls", &[("tls.crt", ended.0.as_str()), ("tls.key", ended.1.as_str())]).await?;
    let faults = [
        ("secretless", "{auth: {mode: Token, tokenSecretRef: {name: none, key: token}}}", "SecretMissing"),
        ("classless", "{storage: {size: 64Mi, storageClassName: no-such-class}}", "StorageClassMissing"),
        ("imageless", "{image: 'localhost/aryavarth/kvs-server:no-such-version'}", "ImageMissing"),
        ("nodeless", "{scheduling: {nodeSelector: {kvs.aryavarth.io/no-such: node}}}", "Unschedulable"),
        ("ended", "{tls: {mode: Server, secretName: ended-tls}}", "CertificateExpired"),
        ("asleep", "{desiredState: Hibernated}", "Hibernated"),
        ("paused", "{reconcilePolicy: Paused}", "Paused"),
    ];
    for (name, spec, _) in faults {
        namespace.store(name).apply(spec).await?;
    }
    for (name, _, cause) in faults {
        named_first(&namespace.store(name), cause).await?;
    }
    Ok(())
}

/// Faults of a store that ran: its volume is full, then its log is damaged. The damage is repaired by a Job.
pub(super) async fn faults_of_volumes(namespace: Namespace) -> Told {
    access::secret(&namespace, "orders-token", &[("token", TOKEN)]).await?;
    let store = namespace.store("orders");
    let spec = "auth: {mode: Token, tokenSecretRef: {name: orders-token, key: token}}";
    store.apply(&format!("{{{spec}}}")).await?;
    store.ready().await?;
    let well = doctor(&store).await?;
    assert_eq!(well["ok"], true, "{well}");
    for number in 1..=20 {
        store.set(&format!("order/{number}"), &format!("value <{number}>")).await?;
    }

    let process = ServerProcess::of(&store.pod().await?)?;
    let filler = process.root().join("var/lib/kvs/filler");
    fill(&store, &filler).await?;
    named_first(&store, "VolumeFull").await?;
    fs::remove_file(&filler).map_err(Failure::io("removing the filler"))?;

    let folder = process.root().join(damage::DATA_FOLDER);
    damage::flip_a_bit(&folder, b"value <3>")?;
    process.kill()?;
    named_first(&store, "LogCorrupted").await?;
    let logs = plugin(&store, "logs", &["orders"]).succeed().await?;
    assert!(logs.contains("==> orders-0") && !logs.contains(TOKEN), "{logs}");
    report_without_secrets(&store).await?;

    let refused = plugin(&store, "repair", &["orders"]).fail().await?;
    assert!(refused.stderr.contains("is not hibernated"), "{}", refused.stderr);
    plugin(&store, "hibernate", &["orders"]).limit(READY_LIMIT).succeed().await?;
    let plan = plugin(&store, "repair", &["orders"]).limit(READY_LIMIT).fail().await?;
    assert_eq!(plan.status.code(), Some(7), "{}", plan.stderr);
    assert!(plan.stdout.contains("order/3") && plan.stdout.contains("nothing was changed"), "{}", plan.stdout);
    let done = plugin(&store, "repair", &["orders", "--yes"]).limit(READY_LIMIT).succeed().await?;
    assert!(done.contains("saved "), "{done}");
    plugin(&store, "resume", &["orders"]).limit(READY_LIMIT).succeed().await?;
    assert_eq!(store.get("order/4").await?, "value <4>");
    assert_eq!(store.get("order/3").await?, "Key not found", "what was damaged is gone, and nothing else");
    let status = plugin(&store, "status", &["orders"]).succeed().await?;
    assert!(status.contains("orders: Ready") && status.ends_with("next: nothing\n"), "{status}");
    Ok(())
}

/// A report of a store that has a token holds it in no file.
async fn report_without_secrets(store: &Store) -> Told {
    let folder = tempfile::tempdir().map_err(Failure::io("making a folder"))?;
    let to = folder.path().join("report");
    plugin(store, "report", &["orders", "--to", &to.display().to_string()]).succeed().await?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&to).map_err(Failure::io("reading the report"))?.flatten() {
        let text = fs::read_to_string(entry.path()).map_err(Failure::io("reading the report"))?;
        assert!(!text.contains(TOKEN), "{} holds the token", entry.path().display());
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    let expected = ["store.yaml", "pods.yaml", "log-orders-0-before.txt", "definition.yaml", "versions.txt"];
    assert!(expected.iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
    assert!(names.iter().any(|name| name.starts_with("operator-")), "the operator's log is there: {names:?}");
    Ok(())
}

/// Fills a store's volume: first what no segment was prepared in, then the segments.
async fn fill(store: &Store, filler: &std::path::Path) -> Told {
    let mut file = fs::File::create(filler).map_err(Failure::io("making the filler"))?;
    let block = vec![0x5a; 1024 * 1024];
    while file.write_all(&block).is_ok() {}
    // Its last blocks may be left: one byte at a time takes them.
    while file.write_all(&block[..512]).is_ok() {}
    let value = "x".repeat(VALUE_BYTES);
    for number in 0..MOST_VALUES {
        let set = store.client(["--timeout", "5", "set", &format!("filler/{number}"), "-"]).input(value.clone());
        if !set.run().await?.status.success() {
            return Ok(());
        }
    }
    Err(Failure::Unexpected(format!("a full volume took {MOST_VALUES} values")))
}

/// Waits until the doctor names this cause first, with a command to type.
async fn named_first(store: &Store, cause: &str) -> Told {
    until(format!("the doctor of {} names {cause}", store.name), READY_LIMIT, async || {
        let said = doctor(store).await?;
        let first = &said["findings"][0];
        // An administrator may look at everything; a server that ends or starts is not there to be asked.
        if first["cause"] != cause || said["notLookedAt"] != json!([]) {
            return Err(NotYet(said.to_string()));
        }
        assert!(first["next"].as_str().is_some_and(|next| next.contains("kubectl ")), "{first}");
        assert!(first["evidence"].as_str().is_some_and(|evidence| !evidence.is_empty()), "{first}");
        Ok(())
    })
    .await
}

/// What the doctor says, as programs read it.
async fn doctor(store: &Store) -> Result<Value, Failure> {
    let begin = Instant::now();
    let output = plugin(store, "doctor", &[&store.name, "--output", "json"]).run().await?;
    assert!(begin.elapsed() < ANSWER_LIMIT, "the doctor took {:?}", begin.elapsed());
    let said = serde_json::from_str::<Value>(&output.stdout);
    let said = said.map_err(|_| Failure::Unexpected(format!("the doctor said {}{}", output.stdout, output.stderr)))?;
    let expected = if said["ok"] == true { 0 } else { 8 };
    assert_eq!(output.status.code(), Some(expected), "{said}");
    Ok(said)
}

/// A command of `kubectl kvs`.
fn plugin(store: &Store, verb: &str, arguments: &[&str]) -> Program {
    let cluster = &store.namespace.cluster;
    let program = cluster.kvs_client().args(["kubectl", verb]).args(arguments);
    program
        .args(["--namespace", &store.namespace.name])
        .args([std::path::Path::new("--kubeconfig"), &cluster.settings.kubeconfig])
}

/// A certificate that has ended, and its key, as PEM.
fn expired_certificate(namespace: &str) -> Result<(String, String), Failure> {
    let failed = |error: rcgen::Error| Failure::Unexpected(format!("making a certificate: {error}"));
    let key = KeyPair::generate().map_err(failed)?;
    let mut params = CertificateParams::new(vec![format!("ended.{namespace}.svc")]).map_err(failed)?;
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    let certificate = params.self_signed(&key).map_err(failed)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// What nobody is there for: the operator is away, a new store has nobody, the definition lost a field, and the last word
/// about a store is that a sync failed. In the end all is as it was.
pub(super) async fn faults_without_an_operator(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    let cluster = &namespace.cluster;
    let operator = |arguments: &[&str]| {
        let kubectl = cluster.kubectl(kvs_e2e::cluster::OPERATOR_NAMESPACE);
        kubectl.args(arguments).limit(READY_LIMIT)
    };
    let deployment = format!("deployment/{}", kvs_e2e::cluster::OPERATOR_RELEASE);
    operator(&["scale", &deployment, "--replicas=0"]).succeed().await?;
    let definition = kvs_e2e::cluster::DEFINITION;
    let whole = operator(&["get", "customresourcedefinition", definition, "--output", "json"]).succeed().await?;
    let patch = |what: &Value| {
        operator(&["patch", "customresourcedefinition", definition, "--type=json", "--patch", &what.to_string()])
    };
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/monitoring";

    let outcome = async {
        named_first(&store, "OperatorDown").await?;
        let orphan = namespace.store("orphan");
        orphan.apply("{}").await?;
        named_first(&orphan, "OperatorDown").await?;

        let poisoned = json!({"status": {"conditions": [{
            "type": "Degraded", "status": "True", "reason": "StorePoisoned", "message": "orders-0: a sync failed",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }]}});
        let patched = ["patch", "kvsstore", "orders", "--subresource=status", "--type=merge", "--patch"];
        namespace.kubectl(patched).args([poisoned.to_string()]).succeed().await?;
        named_first(&store, "StorePoisoned").await?;

        patch(&json!([{"op": "remove", "path": path}])).succeed().await?;
        named_first(&orphan, "DefinitionTooOld").await
    }
    .await;
    let definition: Value = serde_json::from_str(&whole)
        .map_err(|error| Failure::Unexpected(format!("the definition is no JSON: {error}")))?;
    let field = definition.pointer(path).cloned().unwrap_or_default();
    patch(&json!([{"op": "add", "path": path, "value": field}])).succeed().await?;
    operator(&["scale", &deployment, "--replicas=2"]).succeed().await?;
    operator(&["rollout", "status", &deployment, "--timeout=90s"]).succeed().await?;
    outcome?;
    store.ready().await.map(drop)
}
