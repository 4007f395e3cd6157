//! Stores that are well, looked at again and again.

use std::time::Duration;

use kvs_e2e::kubelet::{Kubelet, NO_NODE};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::proxy::Asked;
use kvs_e2e::runner::Told;
use kvs_e2e::store::Store;
use kvs_e2e::{Failure, NotYet, admin, until};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::ground::{CLASS, Ground, touch, versions};
use crate::is_torture;

/// The longest wait for the children of all stores, and for all looks at them.
const LIMIT: Duration = Duration::from_secs(120);
/// Without a write for so long, the operator is done.
const CALM: Duration = Duration::from_secs(2);

/// Looked at many times and left alone, they cost no write but the Lease's, and no object gets another version.
pub(super) async fn nothing_is_written(namespace: Namespace) -> Told {
    // 100 looks in both forms; the short one has no more time for idleness.
    let (count, looks, idle) = if is_torture() { (20, 5, 120) } else { (20, 5, 20) };
    let ground = Ground::new(&namespace, "silence").await?;
    ground.allow_pods().await?;
    let _kubelet = Kubelet::start(namespace.cluster.client.clone(), &ground.store.namespace.name);
    let mut operator = ground.operator()?;
    let address = operator.admin_address().await?;
    let stores: Vec<Store> = (0..count).map(|number| ground.store.namespace.store(&format!("s{number}"))).collect();
    let manifests: Result<Vec<String>, Failure> = stores
        .iter()
        .map(|store| store.manifest(&format!("{{storage: {{size: 64Mi, storageClassName: {CLASS}}}, {NO_NODE}}}")))
        .collect();
    ground.store.namespace.apply(manifests?.join("\n---\n")).await?;
    let mut last = Vec::new();
    for store in &stores {
        store.ready().await?;
    }
    until("every store has its children, and nothing is left to write", LIMIT, async || {
        let before = ground.proxy.writes().len();
        sleep(CALM).await;
        let now = versions(&ground.store.namespace).await?;
        let sets = now.iter().filter(|line| line.starts_with("StatefulSet ")).count();
        let is_calm = ground.proxy.writes().len() == before && now == last && sets == count;
        last = now;
        if is_calm { Ok(()) } else { Err(NotYet(format!("{sets} StatefulSets, {before} writes"))) }
    })
    .await?;

    let before = (ground.proxy.asked().len(), reconciles(address).await?);
    for look in 0..looks {
        for store in &stores {
            touch(store, &look.to_string()).await?;
        }
    }
    let wanted = before.1 + (count * looks) as f64 / 2.0;
    until("the stores were looked at", LIMIT, async || {
        // Changes that come together are looked at once.
        let now = reconciles(address).await?;
        if now >= wanted { Ok(()) } else { Err(NotYet(format!("{now} reconciles of {wanted}"))) }
    })
    .await?;
    sleep(Duration::from_secs(idle)).await;
    let asked = ground.proxy.asked().split_off(before.0);
    let (renewals, writes): (Vec<Asked>, Vec<Asked>) =
        asked.into_iter().filter(Asked::is_write).partition(Asked::is_lease);
    assert!(writes.is_empty(), "stores that are well were written to: {writes:?}");
    assert!(renewals.len() >= 2, "the proxy sees writes: the Lease was renewed {} times", renewals.len());
    assert_eq!(versions(&ground.store.namespace).await?, last, "no child has another version");
    let looked = reconciles(address).await? - before.1;
    eprintln!(
        "    {count} stores, {looked} reconciles, {idle} s idle: 0 writes, {} renewals of the Lease",
        renewals.len()
    );
    assert_eq!(operator.ended()?, None, "it was the same operator all the time");
    ground.leave().await
}

/// Reconciles so far that went well.
async fn reconciles(address: std::net::SocketAddr) -> Result<f64, Failure> {
    let stream = TcpStream::connect(address).await.map_err(Failure::io("connecting to the operator"))?;
    let text = admin::get(Box::new(stream), "/metrics").await?;
    let series = "kvs_operator_reconcile_duration_seconds_count{result=\"ok\"}";
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    Ok(value.unwrap_or(0.0))
}
