//! The metrics of server and operator, read through the API server and judged by Prometheus' own tool.

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt as _};
use kvs_e2e::cluster::{Cluster, OPERATOR_NAMESPACE};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::{Failure, admin, forward};
use kvs_protocol::config::ADMIN_PORT;

/// Both are well-formed and free of promtool's complaints, and they count what was done.
pub(super) async fn promtool_agrees(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{threadPool: {strategy: sharedQueue, size: 2}}").await?;
    store.ready().await?;
    let before = value(&store.admin("/metrics").await?, "kvs_requests_total{op=\"set\",outcome=\"ok\"}");
    for number in 1..=3 {
        store.set(&format!("order/{number}"), "x").await?;
    }
    let text = store.admin("/metrics").await?;
    check(&namespace.cluster, &text).await?;
    // A client that got no answer in time asks again, so there may be more.
    assert!(value(&text, "kvs_requests_total{op=\"set\",outcome=\"ok\"}") >= before + 3.0, "{text}");
    assert_eq!(value(&text, "kvs_engine_keys"), 3.0);
    assert_eq!(value(&text, "kvs_pool_workers{pool=\"sharedQueue\"}"), 2.0);
    assert!(value(&text, "kvs_wal_fsyncs_total") >= 1.0);
    assert_eq!(value(&text, "kvs_ready"), 1.0);

    let text = operator_metrics(&namespace.cluster).await?;
    check(&namespace.cluster, &text).await?;
    assert!(value(&text, "kvs_operator_reconcile_duration_seconds_count{result=\"ok\"}") >= 1.0, "{text}");
    assert!(
        text.contains("kvs_operator_api_writes_total{kind=\"StatefulSet\",outcome=\"ok\",verb=\"apply\"}"),
        "{text}"
    );
    Ok(())
}

/// promtool finds nothing to say.
async fn check(cluster: &Cluster, text: &str) -> Told {
    let output = cluster.promtool().args(["check", "metrics"]).input(text).run().await?;
    if output.status.success() && output.stderr.is_empty() { Ok(()) } else { Err(output.surprise()) }
}

/// The metrics of the one operator that leads.
async fn operator_metrics(cluster: &Cluster) -> Result<String, Failure> {
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), OPERATOR_NAMESPACE);
    let selector = ListParams::default().labels("app.kubernetes.io/name=kvs-operator,!app.kubernetes.io/component");
    let list = pods.list(&selector).await.map_err(Failure::kubernetes("listing the operator's pods"))?;
    let mut leaders = Vec::new();
    for pod in &list.items {
        let text = admin::get(forward::open(&pods, &pod.name_any(), ADMIN_PORT).await?, "/metrics").await?;
        if value(&text, "kvs_operator_leader") == 1.0 {
            leaders.push(text);
        } else {
            assert!(!text.contains("kvs_operator_api_writes_total{"), "one that stands by writes nothing: {text}");
        }
    }
    assert_eq!(list.items.len(), 2, "two by default");
    assert_eq!(leaders.len(), 1, "of which one leads");
    leaders.pop().ok_or_else(|| Failure::Unexpected("nobody leads".into()))
}

/// The value of a series; a series that is not there counts as 0.
fn value(text: &str, series: &str) -> f64 {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    values.next().unwrap_or(0.0)
}
