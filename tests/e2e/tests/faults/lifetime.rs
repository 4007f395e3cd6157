//! The life of a store, from its creation to its deletion, and how it looks after each step when nobody disturbs it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::ControllerRevision;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::{Failure, NotYet, until};
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::ground::{CLASS, Ground, Snapshot};

/// Each step of a life, with the spec that it asks for in place of SIZE and MORE.
const STEPS: [(&str, &str, &str); 6] = [
    ("create", "64Mi", ""),
    ("change", "64Mi", ", threadPool: {strategy: rayon, size: 2}, service: {annotations: {example.com/a: b}}"),
    ("roll", "64Mi", ", image: 'localhost/other/server:2', threadPool: {strategy: rayon, size: 2}"),
    ("resize", "96Mi", ", image: 'localhost/other/server:2', threadPool: {strategy: rayon, size: 2}"),
    ("hibernate", "96Mi", ", desiredState: Hibernated"),
    ("resume", "96Mi", ", logging: {level: debug}"),
];
/// Without a write for so long, an undisturbed operator is done.
const CALM: Duration = Duration::from_millis(800);
/// The longest wait for the end of a step. A disturbed operator waits between its tries, up to 30 s for each watch and up to
/// 300 s for each store.
const STEP_LIMIT: Duration = Duration::from_secs(300);

/// How a store looks after each step, and how many writes that took.
pub(crate) struct Undisturbed {
    steps: Vec<Snapshot>,
    end: Snapshot,
    /// Writes of the operator in the whole life.
    pub(crate) writes: u64,
}

/// The same for every story.
static UNDISTURBED: OnceCell<Undisturbed> = OnceCell::const_new();

impl Undisturbed {
    /// The life without faults that every other one is compared with. Who asks first lives it.
    pub(crate) async fn get(parent: &Namespace) -> Result<&'static Self, Failure> {
        UNDISTURBED.get_or_try_init(|| Self::live(parent)).await
    }

    async fn live(parent: &Namespace) -> Result<Self, Failure> {
        let ground = Ground::new(parent, "undisturbed").await?;
        let life = async {
            let mut steps = Vec::new();
            for step in STEPS {
                apply(&ground, step).await?;
                let snapshot = calm(&ground, step.0).await?;
                assert!(snapshot.0.len() > 5, "{}: the operator made {:?}", step.0, snapshot.0.keys());
                steps.push(snapshot);
            }
            delete(&ground).await?;
            let end = emptied(&ground).await?;
            Ok::<_, Failure>(Self { steps, end, writes: ground.proxy.writes().len() as u64 })
        };
        let undisturbed = ground.with_operator(|| {}, life).await?;
        undisturbed.makes_sense();
        eprintln!("    a life of {} steps takes {} writes", STEPS.len() + 1, undisturbed.writes);
        ground.leave().await?;
        Ok(undisturbed)
    }

    /// The steps did what they are called.
    fn makes_sense(&self) {
        let set = |step: usize| self.steps[step].0["StatefulSet orders"].as_str();
        assert!(set(0).contains("\"storage\": \"64Mi\"") && set(0).contains("\"replicas\": 1"));
        let configuration = |step: usize| self.steps[step].0["ConfigMap orders-config"].as_str();
        assert!(configuration(0) != configuration(1), "the strategy reaches the configuration");
        assert!(set(2).contains("localhost/other/server:2"));
        assert!(set(3).contains("\"storage\": \"96Mi\""), "the claim template has the new size: {}", set(3));
        assert!(self.steps[3].0["PersistentVolumeClaim data-orders-0"].contains("\"storage\": \"96Mi\""));
        assert!(set(4).contains("\"replicas\": 0") && set(5).contains("\"replicas\": 1"));
    }

    /// Lives the same life while something disturbs the operator, and compares each step.
    pub(crate) async fn again(&self, ground: &Ground, begins: impl Fn()) -> Result<(), Failure> {
        let life = async {
            for (step, expected) in STEPS.into_iter().zip(&self.steps) {
                apply(ground, step).await?;
                reaches(ground, step.0, expected).await?;
            }
            delete(ground).await?;
            reaches(ground, "delete", &self.end).await
        };
        ground.with_operator(begins, life).await
    }
}

async fn apply(ground: &Ground, (_, size, more): (&str, &str, &str)) -> Result<(), Failure> {
    ground.store.apply(&format!("{{storage: {{size: {size}, storageClassName: {CLASS}}}{more}}}")).await
}

async fn delete(ground: &Ground) -> Result<(), Failure> {
    let store = &ground.store;
    let stores = store.namespace.cluster.stores(&store.namespace.name);
    let deleted = stores.delete(&store.name, &DeleteParams::default()).await;
    deleted.map(drop).map_err(Failure::kubernetes("deleting the store"))
}

/// Waits until nothing is written any more and nothing changes any more.
async fn calm(ground: &Ground, step: &str) -> Result<Snapshot, Failure> {
    let mut last = (0, None);
    until(format!("an undisturbed operator is done with '{step}'"), STEP_LIMIT, async || {
        let before = ground.proxy.writes().len();
        sleep(CALM).await;
        let now = (ground.proxy.writes().len(), Some(ground.snapshot().await?));
        let is_calm = before == now.0 && last == now;
        last = now;
        match (is_calm, &last.1) {
            (true, Some(snapshot)) if !snapshot.0.values().any(|object| object.contains("\"isGoing\": true")) => {
                Ok(snapshot.clone())
            }
            _ => Err(NotYet(format!("{} writes", last.0))),
        }
    })
    .await
}

/// Waits until a deleted store has left its claim and nothing else.
async fn emptied(ground: &Ground) -> Result<Snapshot, Failure> {
    until("a deleted store leaves its claim and nothing else", STEP_LIMIT, async || {
        let now = ground.snapshot().await?;
        let left: Vec<&String> = now.0.keys().collect();
        if left == ["PersistentVolumeClaim data-orders-0"] { Ok(now) } else { Err(NotYet(format!("{left:?}"))) }
    })
    .await
}

/// Waits until everything is as it was without faults.
async fn reaches(ground: &Ground, step: &str, expected: &Snapshot) -> Result<(), Failure> {
    until(format!("'{step}' ends as it does without faults"), STEP_LIMIT, async || {
        let now = ground.snapshot().await?;
        if now != *expected {
            return Err(NotYet(now.difference(expected)));
        }
        if step == "delete" {
            no_revision_is_left(ground).await?;
        }
        Ok(())
    })
    .await
}

/// What a StatefulSet remembers goes with it, however often it was made again.
async fn no_revision_is_left(ground: &Ground) -> Result<(), NotYet> {
    let namespace = &ground.store.namespace;
    let revisions = Api::<ControllerRevision>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    let list = revisions.list(&ListParams::default()).await.map_err(Failure::kubernetes("listing revisions"))?;
    if list.items.is_empty() { Ok(()) } else { Err(NotYet(format!("{} orphaned revisions", list.items.len()))) }
}
