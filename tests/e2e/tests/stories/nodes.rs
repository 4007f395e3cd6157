//! Nodes that are drained or cut off. They disturb whatever else is on the node, so `make torture-operator` tells them alone.

use std::time::Duration;

use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::{Store, condition};
use kvs_e2e::{Failure, NotYet, until};

use super::mishaps::{is_told, is_well, with_an_order};

/// The longest wait until Kubernetes says that a node is silent: it waits for 50 s itself.
const SILENCE_LIMIT: Duration = Duration::from_secs(180);

/// A drain is not held up; the member waits for its volume's node, says so, and comes back with it.
pub(super) async fn drained(namespace: Namespace) -> Told {
    let store = with_an_order(&namespace).await?;
    let node = node(&store).await?;
    // Of the other pods on the node nothing is to be learned here.
    let selector = "--pod-selector=kvs.aryavarth.io/drained=true";
    let label = ["label", "pod", &store.pod_name(), "kvs.aryavarth.io/drained=true"];
    namespace.kubectl(label).succeed().await?;
    let drain = ["drain", &node, selector, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=50s"];
    let told = async {
        namespace.kubectl(drain).succeed().await?;
        let message = is_told(&store, "Unschedulable").await?;
        assert!(message.contains(&store.pod_name()), "{message}");
        Ok(())
    }
    .await;
    namespace.kubectl(["uncordon", &node]).succeed().await?;
    told?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    is_well(&store).await
}

/// A node that is cut off is named while Kubernetes waits for it, and when it gave it up; when it is back, so is the member.
pub(super) async fn cut_off(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    let toleration = |key: &str| {
        format!("{{key: node.kubernetes.io/{key}, operator: Exists, effect: NoExecute, tolerationSeconds: 15}}")
    };
    let tolerations = format!("{}, {}", toleration("unreachable"), toleration("not-ready"));
    store.apply(&format!("{{scheduling: {{tolerations: [{tolerations}]}}}}")).await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    let node = node(&store).await?;
    let pod = store.pod().await?.metadata.uid.unwrap_or_default();

    namespace.cluster.link("cut", &node).succeed().await?;
    let told = async {
        named(&store, "NodeSilent", &node).await?;
        named(&store, "NodeLost", &node).await?;
        let available = condition(&store.read().await?, "Available");
        assert_eq!(available["status"], "False", "nobody else may have the volume: {available}");
        Ok(())
    }
    .await;
    namespace.cluster.link("heal", &node).succeed().await?;
    told?;
    store.other_pod(&pod).await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");
    is_well(&store).await
}

async fn node(store: &Store) -> Result<String, Failure> {
    let node = store.pod().await?.spec.and_then(|spec| spec.node_name);
    node.ok_or_else(|| Failure::Unexpected("the pod is on no node".into()))
}

/// Waits, as long as Kubernetes may take to see it, until `Degraded` has this reason and names the node.
async fn named(store: &Store, reason: &str, node: &str) -> Told {
    until(format!("the store says {reason}"), SILENCE_LIMIT, async || {
        let degraded = condition(&store.read().await?, "Degraded");
        let names = degraded["message"].as_str().is_some_and(|message| message.contains(node));
        if degraded["reason"] == reason && names { Ok(()) } else { Err(NotYet(degraded.to_string())) }
    })
    .await?;
    is_told(store, reason).await.map(drop)
}
