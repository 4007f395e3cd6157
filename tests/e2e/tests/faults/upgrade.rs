//! The previous operator, this one, and the previous one again over live stores.
//!
//! What must hold: no pod is replaced and none restarts; each of them serves what the other one left. Pods are made here, unlike
//! in the other stories: they are what must stay. Whether their image is there does not matter to that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::operator_process::{OperatorProcess, Options};
use kvs_e2e::runner::Told;
use kvs_e2e::{Failure, NotYet, repository, until};
use rustix::process::Signal;
use tokio::time::sleep;

use crate::ground::touch;

/// What names the previous operator's program; tests/bin/previous builds it.
const PREVIOUS: &str = "KVS_OPERATOR_PREVIOUS";
/// Stores that the previous operator knows how to serve: a field that only this one knows would change their servers, since
/// this one's definition keeps it.
const STORES: [(&str, &str); 3] = [
    ("plain", "{}"),
    ("rayon", "{threadPool: {strategy: rayon, size: 2}, resources: {requests: {cpu: 10m, memory: 16Mi}}}"),
    ("sled", "{engine: sled, service: {annotations: {example.com/a: b}}}"),
];
/// The longest wait for an operator to make a store's children.
const WORK_LIMIT: Duration = Duration::from_secs(120);
/// How long an operator that has seen every store is watched.
const WATCHED: Duration = Duration::from_secs(5);

/// The previous operator's program, if there is one.
pub(crate) fn previous() -> Option<PathBuf> {
    std::env::var_os(PREVIOUS).filter(|value| !value.is_empty()).map(|value| repository().join(value))
}

/// Previous, this, previous, this: the pods stay.
pub(crate) async fn there_and_back(namespace: Namespace) -> Told {
    let previous = previous().ok_or_else(|| Failure::Setup(format!("{PREVIOUS} is not set")))?;
    let this = namespace.cluster.settings.kvs_operator.clone();
    let mut before = Vec::new();
    for (turn, program) in [&previous, &this, &previous, &this].into_iter().enumerate() {
        let mut operator = start(&namespace, program)?;
        if turn == 0 {
            for (name, spec) in STORES {
                namespace.store(name).apply(spec).await?;
            }
        }
        for (name, _) in STORES {
            touch(&namespace.store(name), &format!("turn-{turn}")).await?;
        }
        // A store of its own proves that this operator is at work, and has seen all stores that were there before.
        let witness = format!("witness-{turn}");
        namespace.store(&witness).apply("{}").await?;
        pod(&namespace, &witness)
            .await
            .map_err(|failure| Failure::Unexpected(format!("{failure}\n{}", operator.log())))?;
        if turn == 0 {
            for (name, _) in STORES {
                pod(&namespace, name).await?;
            }
            before = lives(&namespace).await?;
            assert_eq!(before.len(), STORES.len(), "{before:?}");
        }
        sleep(WATCHED).await;
        assert_eq!(lives(&namespace).await?, before, "turn {turn}, of {}:\n{}", program.display(), operator.log());
        operator.signal(Signal::TERM)?;
        operator.end(WORK_LIMIT).await?;
    }
    Ok(())
}

fn start(namespace: &Namespace, program: &Path) -> Result<OperatorProcess, Failure> {
    OperatorProcess::start(Options {
        program,
        kubeconfig: &namespace.cluster.settings.kubeconfig,
        namespace: &namespace.name,
        identity: "operator",
    })
}

/// Waits for the pod of a store.
async fn pod(namespace: &Namespace, store: &str) -> Result<Pod, Failure> {
    let store = namespace.store(store);
    until(format!("there is the pod {}", store.pod_name()), WORK_LIMIT, async || {
        let pod = store.pods().get_opt(&store.pod_name()).await.map_err(Failure::kubernetes("reading a pod"))?;
        pod.ok_or_else(|| NotYet("it is not there".into()))
    })
    .await
}

/// Of each store: its pod's uid, its restarts, and the revision that its pods are to have.
async fn lives(namespace: &Namespace) -> Result<Vec<String>, Failure> {
    let sets = Api::<StatefulSet>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let mut lives = Vec::new();
    for set in sets.list(&ListParams::default()).await.map_err(Failure::kubernetes("listing StatefulSets"))? {
        let name = set.name_any();
        if STORES.iter().any(|(store, _)| *store == name) {
            let pod = namespace.store(&name).pod().await?;
            let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
            let restarts: i32 = containers.map(|container| container.restart_count).sum();
            let revision = set.status.as_ref().and_then(|status| status.update_revision.clone());
            lives.push(format!("{name}: {:?}, {restarts} restarts, revision {revision:?}", pod.uid()));
        }
    }
    Ok(lives)
}
