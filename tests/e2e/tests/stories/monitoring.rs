//! A real Prometheus beside the cluster. It chooses, names and scrapes the pods of a store and of the operator as
//! deploy/monitoring/prometheus.yaml says, with the shipped rules. Debian's Prometheus has no discovery of Kubernetes: it is
//! given the pods in a file, with the labels that discovery would give them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use kvs_e2e::cluster::OPERATOR_NAMESPACE;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::Store;
use kvs_e2e::{Failure, NotYet, repository, until};
use kvs_monitoring::ask::{self, Asked};
use kvs_monitoring::prometheus::{Error, Prometheus, Series};
use kvs_monitoring::rules::rule_file;
use kvs_protocol::{Request, Verb};
use serde_json::json;
use serde_yaml::Value;

/// The longest until every query has an answer, on a machine that does much else.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// The longest wait for the answers to one turn's requests.
const TURN_LIMIT: Duration = Duration::from_secs(20);
/// Where Prometheus reads the pods from.
const PODS: &str = "pods.json";
/// What the labels that discovery gives begin with.
const META: &str = "__meta_kubernetes_";
/// Between two scrapes, and between two evaluations of the rules.
const INTERVAL: &str = "1s";
/// What rates of the dashboards are taken over.
const RANGE: &str = "1m";
/// Bytes of a value, and sets of a turn: half a megabyte of which most is dead at once, so that compaction has something to do.
const VALUE_BYTES: usize = 8_192;
const SETS: usize = 64;

/// Every query of the dashboards and every series of the alerts has an answer while the store has something to do, and the
/// targets have the labels by which alerts name them.
pub(super) async fn every_query_answers(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    let pool = "threadPool: {strategy: sharedQueue, size: 2}";
    store.apply(&format!("{{{pool}, engineConfig: {{compactionThreshold: 64Ki}}}}")).await?;
    store.ready().await?;

    let folder = tempfile::tempdir().map_err(Failure::io("making a folder for Prometheus"))?;
    let configuration = prepare(&namespace, folder.path())?;
    let pods = [pods(&namespace, &namespace.name).await?, pods(&namespace, OPERATOR_NAMESPACE).await?].concat();
    let text = serde_json::Value::from(pods).to_string();
    fs::write(folder.path().join(PODS), text).map_err(Failure::io("writing the pods"))?;
    let path = folder.path().to_owned();
    let prometheus = blocking(move || Prometheus::start_with(&path, &configuration)).await?;
    let api = prometheus.api;

    let mut turn = 0;
    let asked: Asked = until("every query has an answer", ANSWER_LIMIT, async || {
        turn += 1;
        work(&store, turn).await?;
        let asked = blocking(move || ask::everything(&api, 1, RANGE)).await?;
        if asked.silent.is_empty() { Ok(asked) } else { Err(NotYet(format!("\n{}", asked.silent.join("\n")))) }
    })
    .await?;
    assert!(asked.questions > 100, "{asked:?}");

    let found = blocking(move || api.query("up == 1")).await?;
    let labels = |series: &Series| ["job", "namespace", "kvsstore", "pod"].map(|name| series.label(name).to_owned());
    let targets: Vec<[String; 4]> = found.iter().map(labels).collect();
    let server = ["kvs-server", &namespace.name, "orders", &store.pod_name()].map(str::to_owned);
    assert!(targets.contains(&server), "no target is {server:?}: {targets:?}");
    let operators = targets.iter().filter(|[job, of, _, _]| job == "kvs-operator" && of == OPERATOR_NAMESPACE);
    assert_eq!(operators.count(), 2, "{targets:?}");
    assert_eq!(targets.len(), 3, "nothing else is scraped: {targets:?}");
    let leaders = blocking(move || api.query("sum(kvs_operator_leader)")).await?;
    assert_eq!(leaders[0].points[0].1, 1.0, "{leaders:?}");
    let firing = blocking(move || api.firing()).await?;
    assert!(firing.is_empty(), "all is well, and these fire: {firing:?}");
    Ok(())
}

/// Writes what Prometheus needs beside its configuration, and gives that: the shipped one for this cluster's API server and
/// pods from a file, with scrapes that a story has the time for.
fn prepare(namespace: &Namespace, folder: &Path) -> Result<String, Failure> {
    let write =
        |name: &str, bytes: &[u8]| fs::write(folder.join(name), bytes).map_err(Failure::io(format!("writing {name}")));
    let yaml = |path: &Path| -> Result<Value, Failure> {
        let text = fs::read_to_string(path).map_err(Failure::io(format!("reading {}", path.display())))?;
        serde_yaml::from_str(&text).map_err(|error| Failure::Unexpected(format!("{}: {error}", path.display())))
    };
    let kubeconfig = yaml(&namespace.cluster.settings.kubeconfig)?;
    let (cluster, user) = (&kubeconfig["clusters"][0]["cluster"], &kubeconfig["users"][0]["user"]);
    for (name, text) in [
        ("ca.pem", &cluster["certificate-authority-data"]),
        ("client.pem", &user["client-certificate-data"]),
        ("client-key.pem", &user["client-key-data"]),
    ] {
        let bytes = serde_yaml::from_value::<ByteString>(text.clone());
        write(name, &bytes.map_err(|error| Failure::Unexpected(format!("{name} of the kubeconfig: {error}")))?.0)?;
    }
    write("kvs.rules.yaml", rule_file(1).as_bytes())?;

    let mut configuration = yaml(&repository().join("deploy/monitoring/prometheus.yaml"))?;
    for name in ["scrape_interval", "evaluation_interval"] {
        configuration["global"][name] = INTERVAL.into();
    }
    for job in configuration["scrape_configs"].as_sequence_mut().into_iter().flatten().filter_map(Value::as_mapping_mut)
    {
        let found = job.remove("kubernetes_sd_configs");
        assert_eq!(found.as_ref().map(|configs| &configs[0]["role"]), Some(&Value::from("pod")), "{job:?}");
        job.insert(
            "file_sd_configs".into(),
            serde_yaml::from_str(&format!("[{{files: [{PODS}]}}]")).unwrap_or_default(),
        );
    }
    let text = serde_yaml::to_string(&configuration).map_err(|error| Failure::Unexpected(error.to_string()))?;
    let server = cluster["server"].as_str().unwrap_or_default().trim_start_matches("https://");
    Ok(text.replace("API_SERVER", server))
}

/// The ports of a namespace's pods, as the role `pod` of Prometheus' discovery gives them, as far as relabelling asks for it.
async fn pods(namespace: &Namespace, name: &str) -> Result<Vec<serde_json::Value>, Failure> {
    let api = kube::Api::<Pod>::namespaced(namespace.cluster.client.clone(), name);
    let list = api.list(&ListParams::default()).await.map_err(Failure::kubernetes("listing pods"))?;
    let mut targets = Vec::new();
    for pod in list {
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).unwrap_or_default();
        let containers = pod.spec.as_ref().map(|spec| spec.containers.clone()).unwrap_or_default();
        for port in containers.iter().flat_map(|container| container.ports.iter().flatten()) {
            let mut labels: BTreeMap<String, String> = pod
                .labels()
                .iter()
                .map(|(label, value)| {
                    (format!("{META}pod_label_{}", label.replace(['.', '/', '-'], "_")), value.clone())
                })
                .collect();
            labels.insert(format!("{META}namespace"), name.to_owned());
            labels.insert(format!("{META}pod_name"), pod.name_any());
            labels.insert(format!("{META}pod_container_port_name"), port.name.clone().unwrap_or_default());
            targets.push(json!({ "targets": [format!("{address}:{}", port.container_port)], "labels": labels }));
        }
    }
    Ok(targets)
}

/// Reads, overwrites, and a change that the operator sees and has nothing to do for.
async fn work(store: &Store, turn: usize) -> Told {
    let value = vec![b'v'; VALUE_BYTES];
    let requests: Vec<Request> = (0..SETS)
        .flat_map(|number| {
            let key = format!("order/{}", number % 8).into_bytes();
            [Verb::Set { key: key.clone(), value: value.clone() }, Verb::Get { key }]
        })
        .map(Request::from)
        .collect();
    let mut client = store.connect().await?;
    let answers = tokio::time::timeout(TURN_LIMIT, client.pipeline(&requests)).await;
    let answers = answers.map_err(|_elapsed| Failure::Unexpected("no answer to a turn's requests".into()))?;
    let answers = answers.map_err(|error| Failure::Unexpected(format!("a turn's requests: {error}")))?;
    let failed = answers.iter().find(|answer| answer.body.is_err());
    assert!(failed.is_none(), "{failed:?}");
    let patch = json!({ "metadata": { "annotations": { "kvs.aryavarth.io/turn-of-a-story": turn.to_string() } } });
    let stores = store.namespace.cluster.stores(&store.namespace.name);
    let patched = stores.patch(&store.name, &PatchParams::default(), &Patch::Merge(patch)).await;
    let patched = patched.map_err(Failure::kubernetes("annotating the store"))?;
    assert_eq!(patched.name_any(), store.name);
    Ok(())
}

/// Does what waits without a future, so that other stories go on.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(|error| Failure::Unexpected(format!("asking Prometheus: {error}")))?;
    done.map_err(|error| Failure::Unexpected(format!("Prometheus: {error}")))
}
