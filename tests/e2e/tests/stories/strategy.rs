//! A change of `threadPool.strategy`.

use kube::ResourceExt as _;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;

/// The pod is replaced once, runs the new strategy, and has the data of the old one.
pub(super) async fn change_keeps_the_data(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{threadPool: {strategy: naive}}").await?;
    store.ready().await?;
    for number in 1..=5 {
        store.set(&format!("order/{number}"), &format!("set under naive, {number}")).await?;
    }
    let before = store.pod().await?.uid().unwrap_or_default();
    assert_eq!(store.server_status().await?["pool"], "naive");

    store.apply("{threadPool: {strategy: sharedQueue, size: 3}}").await?;
    let after = store.other_pod(&before).await?.uid();
    let object = store.ready().await?;
    assert_eq!(object.data["spec"]["threadPool"]["strategy"], "sharedQueue");
    let status = store.server_status().await?;
    assert_eq!((&status["pool"], &status["threads"]), (&"sharedQueue".into(), &3.into()));
    for number in 1..=5 {
        assert_eq!(store.get(&format!("order/{number}")).await?, format!("set under naive, {number}"));
    }
    assert_eq!(store.pod().await?.uid(), after, "one change rolls the pod once");
    Ok(())
}
