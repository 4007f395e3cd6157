//! What the API server says to a wrong KvsStore, KvsBackup or KvsBackupSchedule: the cases of kvs-operator/tests/cases, put to a real one.

use std::fs;

use kube::Api;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kvs_e2e::cluster::{kvs_backup_schedules, kvs_backups, kvs_stores};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::{Failure, repository};
use serde::Deserialize;
use serde_json::{Value, json};

/// One case. What each field means stands at the top of the files.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    title: String,
    #[serde(default = "probe")]
    name: String,
    before: Option<Value>,
    spec: Value,
    #[serde(default)]
    accept: bool,
    reject: Option<String>,
    /// Who refuses: the API server says it to a person in either case.
    #[serde(rename = "by")]
    _by: Option<String>,
}

fn probe() -> String {
    "probe".into()
}

/// A store is judged as the cases say, when it is made and when it is changed; and a person at kubectl reads why.
pub(super) async fn refused_in_words(namespace: Namespace) -> Told {
    // Some cases need a store that is there, but none needs its pod.
    namespace.kubectl(["create", "quota", "no-pods", "--hard=pods=0"]).succeed().await?;
    let mut wrong = Vec::new();
    for (file, kind) in [
        ("create.yaml", kvs_stores()),
        ("backup-create.yaml", kvs_backups()),
        ("schedule-create.yaml", kvs_backup_schedules()),
    ] {
        for case in cases(file)? {
            wrong.extend(disagreement(&case, create(&namespace, &kind, &case).await));
        }
    }
    for (file, kind) in [("update.yaml", kvs_stores()), ("backup-update.yaml", kvs_backups())] {
        for (number, case) in cases(file)?.iter().enumerate() {
            wrong.extend(disagreement(case, change(&namespace, &kind, &format!("probe-{number}"), case).await?));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    a_person_reads_why(&namespace).await
}

/// `replicas: 3` by apply, by scale, and a wrong field that kubectl itself would let pass.
async fn a_person_reads_why(namespace: &Namespace) -> Told {
    const REPLICAS: &str = "replicas above 1 need replication, which this version does not have";
    let store = namespace.store("orders");
    let refused =
        namespace.kubectl(["apply", "--filename", "-"]).input(store.manifest("{replicas: 3}")?).fail().await?;
    assert!(refused.stderr.contains(REPLICAS), "{}", refused.stderr);

    store.apply("{}").await?;
    let refused = namespace.kubectl(["scale", "kvsstore/orders", "--replicas=3"]).fail().await?;
    assert!(refused.stderr.contains(REPLICAS), "{}", refused.stderr);
    let refused = namespace.kubectl(["scale", "kvsstore/orders", "--replicas=0"]).fail().await?;
    assert!(refused.stderr.contains("set desiredState: Hibernated"), "{}", refused.stderr);
    assert_eq!(store.read().await?.data["spec"]["replicas"], 1);

    let mistyped = store.manifest("{threadPol: {strategy: rayon}}")?;
    let refused = namespace.kubectl(["apply", "--filename", "-"]).input(mistyped).fail().await?;
    assert!(refused.stderr.contains("unknown field") && refused.stderr.contains("threadPol"), "{}", refused.stderr);
    Ok(())
}

fn cases(file: &str) -> Result<Vec<Case>, Failure> {
    let path = repository().join("kvs-operator/tests/cases").join(file);
    let text = fs::read_to_string(&path).map_err(Failure::io(format!("reading {}", path.display())))?;
    let cases: Vec<Case> =
        serde_yaml::from_str(&text).map_err(|error| Failure::Unexpected(format!("{file}: {error}")))?;
    assert!(cases.len() >= 5, "{file} lost its cases");
    Ok(cases)
}

/// What differs between a case and the API server's verdict.
fn disagreement(case: &Case, verdict: Result<(), String>) -> Option<String> {
    let Case { title, accept, reject, .. } = case;
    match (verdict, reject) {
        (Ok(()), None) if *accept => None,
        (Err(message), Some(words)) if message.contains(words.as_str()) => None,
        (verdict, _) => Some(format!("{title}: {verdict:?}")),
    }
}

/// The API server's verdict on a new object; nothing is stored.
async fn create(namespace: &Namespace, kind: &ApiResource, case: &Case) -> Result<(), String> {
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    words(objects(namespace, kind).create(&dry_run, &object(kind, &case.name, &case.spec)).await)
}

/// The API server's verdict on a change of an object that is there; the change is not stored.
async fn change(
    namespace: &Namespace,
    kind: &ApiResource,
    name: &str,
    case: &Case,
) -> Result<Result<(), String>, Failure> {
    let objects = objects(namespace, kind);
    let before = case.before.clone().unwrap_or_else(|| json!({}));
    let created = objects.create(&PostParams::default(), &object(kind, name, &before)).await;
    created.map_err(Failure::kubernetes(format!("{}: creating what is there before", case.title)))?;
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    loop {
        let live = objects.get(name).await.map_err(Failure::kubernetes("reading what is there before"))?;
        let mut changed = object(kind, name, &case.spec);
        changed.metadata.resource_version = live.metadata.resource_version;
        match objects.replace(name, &dry_run, &changed).await {
            // The operator wrote the status meanwhile.
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            verdict => return Ok(words(verdict)),
        }
    }
}

fn objects(namespace: &Namespace, kind: &ApiResource) -> Api<DynamicObject> {
    Api::namespaced_with(namespace.cluster.client.clone(), &namespace.name, kind)
}

fn object(kind: &ApiResource, name: &str, spec: &Value) -> DynamicObject {
    DynamicObject::new(name, kind).data(json!({"spec": spec}))
}

/// A refusal in the words that a person reads.
fn words<T>(verdict: kube::Result<T>) -> Result<(), String> {
    verdict.map(drop).map_err(|error| match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    })
}
