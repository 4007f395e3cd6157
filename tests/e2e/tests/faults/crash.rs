//! The operator is killed, again and again, and each time another one goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use kvs_e2e::kubelet::{Kubelet, NO_NODE};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::proxy::{Asked, Verdict};
use kvs_e2e::runner::Told;
use kvs_e2e::{Failure, NotYet, until};

use crate::ground::{CLASS, Ground};
use crate::is_torture;
use crate::lifetime::Undisturbed;

/// Lives side by side in the long form.
const LIVES: usize = 4;
/// The longest wait for the end of a pod that nobody owns. Kubernetes' garbage collector takes its time before.
const LIMIT: Duration = Duration::from_secs(120);

/// No process makes more than one write in its life: it dies when that one has taken effect.
pub(super) async fn after_each_write(namespace: Namespace) -> Told {
    let undisturbed = Undisturbed::get(&namespace).await?;
    each(&namespace, "crash-a", undisturbed, 1, Verdict::KillAfter).await
}

/// Each process makes one write, and its second one is never sent.
pub(super) async fn before_each_second(namespace: Namespace) -> Told {
    let undisturbed = Undisturbed::get(&namespace).await?;
    each(&namespace, "crash-b", undisturbed, 2, Verdict::KillBefore).await
}

async fn each(parent: &Namespace, name: &str, undisturbed: &Undisturbed, nth: u64, verdict: Verdict) -> Told {
    let ground = Ground::new(parent, name).await?;
    // Writes that came before the present process.
    let base = Arc::new(AtomicU64::new(0));
    let judged = Arc::clone(&base);
    ground.proxy.judge(move |asked| {
        let own = asked.writes.saturating_sub(judged.load(Ordering::Relaxed));
        if is_counted(asked) && own >= nth { verdict.clone() } else { Verdict::Pass }
    });
    let begins = || base.store(ground.proxy.writes().len() as u64, Ordering::Relaxed);
    undisturbed.again(&ground, begins).await?;
    let ends = ground.ends.get();
    eprintln!("    {name}: the operator was killed {ends} times");
    assert!(ends >= 10, "it was killed {ends} times only");
    ground.leave().await
}

/// One life for each call: the operator is killed at that one alone, before it or after it. The short form takes two of
/// them, the long form every one.
pub(super) async fn at_one_call(namespace: Namespace) -> Told {
    let undisturbed = Undisturbed::get(&namespace).await?;
    let all = (1..=undisturbed.writes).flat_map(|call| [(call, false), (call, true)]);
    let chosen: Vec<(u64, bool)> = if is_torture() {
        all.collect()
    } else {
        // In the middle of the creation, and where the StatefulSet is gone and not there again.
        vec![(5, false), (undisturbed.writes * 2 / 3, true)]
    };
    let lives = chosen.len();
    let told = stream::iter(chosen.into_iter().map(|(call, is_after)| {
        let namespace = &namespace;
        async move {
            let name = format!("crash-c{call}-{}", if is_after { "a" } else { "b" });
            let ground = Ground::new(namespace, &name).await?;
            ground.proxy.judge(move |asked| match is_counted(asked) && asked.writes == call {
                true if is_after => Verdict::KillAfter,
                true => Verdict::KillBefore,
                false => Verdict::Pass,
            });
            undisturbed.again(&ground, || {}).await?;
            assert_eq!(ground.ends.get(), 1, "{name}: it is killed once");
            ground.leave().await
        }
    }));
    told.buffer_unordered(LIVES).try_collect::<Vec<()>>().await?;
    eprintln!("    {lives} lives with one death each");
    Ok(())
}

/// The store is deleted while its StatefulSet is gone to be made again, and its pod, which nobody owns then, goes all the
/// same: when the operator was dead meanwhile, and when it lived.
pub(super) async fn resized_and_deleted(namespace: Namespace) -> Told {
    for is_killed in [true, false] {
        let ground = Ground::new(&namespace, if is_killed { "orphan-a" } else { "orphan-b" }).await?;
        ground.allow_pods().await?;
        let store = &ground.store;
        let client = store.namespace.cluster.client.clone();
        let _kubelet = Kubelet::start(client.clone(), &store.namespace.name);
        let spec = |size: &str| format!("{{storage: {{size: {size}, storageClassName: {CLASS}}}, {NO_NODE}}}");
        let mut operator = ground.operator()?;
        store.apply(&spec("64Mi")).await?;
        store.ready().await?;
        let pod = store.pod().await?;
        let stores = store.namespace.cluster.stores(&store.namespace.name);
        let delete = async || {
            let deleted = stores.delete(&store.name, &DeleteParams::default()).await;
            deleted.map(drop).map_err(Failure::kubernetes("deleting the store"))
        };
        if is_killed {
            ground.proxy.kills(operator.killer());
            ground.proxy.judge(|asked| match asked.method.as_str() {
                "DELETE" => Verdict::KillAfter,
                _ => Verdict::Pass,
            });
            store.apply(&spec("96Mi")).await?;
            operator.end(LIMIT).await?;
            until("nobody owns the pod", LIMIT, async || {
                let owners = store.pod().await?.owner_references().len();
                if owners == 0 { Ok(()) } else { Err(NotYet(format!("{owners} owners"))) }
            })
            .await?;
            delete().await?;
            ground.proxy.judge(|_| Verdict::Pass);
            operator = ground.operator()?;
        } else {
            store.apply(&spec("96Mi")).await?;
            delete().await?;
        }
        until("the pod is gone, and its volume is not", LIMIT, async || {
            let left = store.pods().get_opt(&pod.name_any()).await.map_err(Failure::kubernetes("reading the pod"))?;
            if left.is_none() { Ok(()) } else { Err(NotYet("it is still there".into())) }
        })
        .await?;
        store.claim().await?;
        assert_eq!(operator.ended()?, None, "{}", operator.log());
        ground.leave().await?;
    }
    Ok(())
}

fn is_counted(asked: &Asked) -> bool {
    asked.is_write() && !asked.is_lease()
}
