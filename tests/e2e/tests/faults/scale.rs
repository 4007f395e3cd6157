//! A thousand stores at once, and what one operator needs for them.
//!
//! A stand-in speaks for the pods, so what is measured is the operator, the API server and the controllers beside it on one
//! machine. The figures are printed, and each has its bound: the machine should have nothing else to do.

use std::fs;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Resource};
use kvs_e2e::kubelet::{Kubelet, NO_NODE};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::store::condition;
use kvs_e2e::{Failure, NotYet, until};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::sleep;

use crate::ground::Ground;

/// The longest wait for all children.
const LIMIT: Duration = Duration::from_secs(600);
/// From the apply to the last child.
const CHILDREN_LIMIT: Duration = Duration::from_secs(60);
/// From a change to the first write, in 99 of 100 cases.
const P99_LIMIT: Duration = Duration::from_millis(100);
/// How long they are left alone.
const IDLE: Duration = Duration::from_secs(600);
/// Changes whose way to the first write is measured.
const CHANGES: usize = 200;
/// Between two of them.
const PAUSE: Duration = Duration::from_millis(50);
/// Without a write for so long, the operator is done.
const CALM: Duration = Duration::from_secs(5);
/// The most memory that the operator may ever have had for a thousand stores, in KiB.
const MOST_KIB: u64 = 64 * 1024;
/// The most that it may have when they are well and left alone, in KiB.
const MOST_STEADY_KIB: u64 = 40 * 1024;

/// All children are made, changes arrive fast, memory stays small, and then there is silence.
pub(super) async fn thousand_stores(namespace: Namespace) -> Told {
    let count: usize = std::env::var("KVS_STORES").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    let ground = Ground::new(&namespace, "scale").await?;
    ground.allow_pods().await?;
    let _kubelet = Kubelet::start(namespace.cluster.client.clone(), &ground.store.namespace.name);
    let mut operator = ground.operator()?;
    operator.admin_address().await?;
    let name = ground.store.namespace.name.clone();
    let cluster = &ground.store.namespace.cluster;
    let stores = cluster.stores(&name);

    let manifests: Result<Vec<String>, Failure> = (0..count)
        .map(|number| {
            let store = ground.store.namespace.store(&format!("s{number}"));
            store.manifest(&format!("{{storage: {{size: 64Mi}}, {NO_NODE}}}"))
        })
        .collect();
    let begin = Instant::now();
    // Side by side: kubectl itself needs longer than the operator.
    let applied = ground.store.namespace.apply(manifests?.join("\n---\n"));
    let client = &cluster.client;
    let made = until("every store has its children", LIMIT, async || {
        let sets = number::<StatefulSet>(client, &name).await?;
        if sets < count {
            return Err(NotYet(format!("{sets} StatefulSets of {count}")));
        }
        let others = (
            number::<ConfigMap>(client, &name).await?,
            number::<ServiceAccount>(client, &name).await?,
            number::<Service>(client, &name).await?,
        );
        if others == (count, count, 2 * count) { Ok(()) } else { Err(NotYet(format!("{others:?}"))) }
    });
    let timed = async {
        applied.await?;
        Ok::<_, Failure>(begin.elapsed())
    };
    let (created, ()) = futures::try_join!(timed, made)?;
    let children = begin.elapsed();
    eprintln!(
        "    {count} stores were created in {:.1} s, their {} children were there after {:.1} s",
        created.as_secs_f32(),
        5 * count,
        children.as_secs_f32()
    );
    assert!(children <= CHILDREN_LIMIT, "the children took {children:?}");
    until("every store is Ready", LIMIT, async || {
        let list = stores.list(&ListParams::default()).await.map_err(Failure::kubernetes("listing the stores"))?;
        let ready = list.iter().filter(|store| condition(store, "Ready")["status"] == "True").count();
        if ready == count { Ok(()) } else { Err(NotYet(format!("{ready} of {count}"))) }
    })
    .await?;
    calm(&ground).await?;
    let writes = ground.proxy.writes().len();
    eprintln!("    {writes} writes, {:.1} a store", writes as f64 / count as f64);

    let mut ways = Vec::new();
    for change in 0..CHANGES.min(count) {
        let store = format!("s{}", change * 7 % count);
        let before = ground.proxy.asked().len();
        let at = Instant::now();
        let patch =
            Patch::Merge(json!({"spec": {"service": {"annotations": {"example.com/change": change.to_string()}}}}));
        let patched = stores.patch(&store, &PatchParams::default(), &patch).await;
        patched.map_err(Failure::kubernetes("changing a store"))?;
        let written = until(format!("a write for {store}"), LIMIT, async || {
            let asked = ground.proxy.asked().split_off(before);
            let end = format!("/{store}?");
            let first = asked.into_iter().find(|asked| asked.is_write() && asked.path.contains(&end));
            first.map(|first| first.at).ok_or_else(|| NotYet("none".into()))
        });
        ways.push(written.await?.saturating_duration_since(at));
        sleep(PAUSE).await;
    }
    ways.sort();
    let at = |share: usize| ways[(ways.len() - 1) * share / 100].as_millis();
    eprintln!("    from a change to the first write: p50 {} ms, p99 {} ms, worst {} ms", at(50), at(99), at(100));

    assert!(at(99) <= P99_LIMIT.as_millis(), "one change in a hundred took {} ms", at(99));

    calm(&ground).await?;
    let before = (ground.proxy.writes().len(), processor_ticks(&operator)?);
    sleep(IDLE).await;
    let ticks = processor_ticks(&operator)?.saturating_sub(before.1);
    let (peak, steady) = (kib(&operator, "VmHWM:")?, kib(&operator, "VmRSS:")?);
    eprintln!(
        "    {} s idle: {} writes, {ticks} ticks of 10 ms; memory {:.1} MiB, at its peak {:.1} MiB",
        IDLE.as_secs(),
        ground.proxy.writes().len() - before.0,
        steady as f64 / 1024.0,
        peak as f64 / 1024.0
    );
    assert_eq!(ground.proxy.writes().len(), before.0, "stores that are well cost no write");
    assert_eq!(operator.ended()?, None, "it was the same operator all the time");
    assert!(peak <= MOST_KIB, "{peak} KiB for {count} stores");
    assert!(steady <= MOST_STEADY_KIB, "{steady} KiB for {count} stores that are left alone");
    ground.leave().await
}

/// Waits until nothing is written any more.
async fn calm(ground: &Ground) -> Result<(), Failure> {
    until("the operator is done", LIMIT, async || {
        let before = ground.proxy.writes().len();
        sleep(CALM).await;
        let now = ground.proxy.writes().len();
        if now == before { Ok(()) } else { Err(NotYet(format!("{now} writes"))) }
    })
    .await
}

/// Objects of a kind that the operator made.
async fn number<K>(client: &kube::Client, namespace: &str) -> Result<usize, NotYet>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let ours = ListParams::default().labels("app.kubernetes.io/managed-by=kvs-operator");
    let list = api.list_metadata(&ours).await.map_err(Failure::kubernetes("counting children"))?;
    Ok(list.items.len())
}

/// Memory of the process in KiB: `VmRSS:` is what it has, `VmHWM:` the most that it ever had.
fn kib(operator: &kvs_e2e::operator_process::OperatorProcess, word: &str) -> Result<u64, Failure> {
    let status = read(operator, "status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(word));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    number.ok_or_else(|| Failure::Unexpected(format!("no {word} in {status}")))
}

/// What it took of the processors so far, in hundredths of a second.
fn processor_ticks(operator: &kvs_e2e::operator_process::OperatorProcess) -> Result<u64, Failure> {
    let stat = read(operator, "stat")?;
    // After the name, which may hold anything but ends with the last parenthesis: user and system time are fields 14 and 15.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    Ok(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
}

fn read(operator: &kvs_e2e::operator_process::OperatorProcess, file: &str) -> Result<String, Failure> {
    let id = operator.id().ok_or_else(|| Failure::Unexpected("the operator has ended".into()))?;
    fs::read_to_string(format!("/proc/{id}/{file}")).map_err(Failure::io("reading the operator's numbers"))
}
