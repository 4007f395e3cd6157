//! The operator of one namespace: its chart with `watchNamespace`, on a cluster that gives it no right anywhere else.
//!
//! What must hold: it serves the stores of that namespace with a Role there, and no ClusterRole of it exists.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role};
use kube::Api;
use kube::ResourceExt as _;
use kube::api::ListParams;
use kvs_e2e::Failure;
use kvs_e2e::cluster::{Helm, OPERATOR_NAMESPACE, OPERATOR_RELEASE};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;

use crate::access;
use crate::helm::start_afresh;
use crate::rights::rights;

/// How long a store outside the namespace is watched for what must not happen.
const ELSEWHERE_LIMIT: Duration = Duration::from_secs(5);

/// A store of the namespace becomes Ready, changes, and goes; one of another namespace is left alone; a Secret of another
/// namespace can't be named, and one of the same name there is not read; nothing was refused, and nothing used that the Role
/// does not grant.
pub(super) async fn serves_with_a_role(namespace: Namespace) -> Told {
    let cluster = &namespace.cluster;
    start_afresh(&namespace, Helm::Four).await?;
    let began = cluster.audit.end()?;
    let only = format!("--set=watchNamespace={}", namespace.name);
    cluster.install_operator_with(Helm::Four, &[&only]).await?;
    let client = || cluster.client.clone();
    let ours = ListParams::default().labels(&format!("app.kubernetes.io/instance={OPERATOR_RELEASE}"));
    let roles = Api::<ClusterRole>::all(client()).list(&ours).await.map_err(Failure::kubernetes("listing roles"))?;
    assert!(roles.items.is_empty(), "{:?}", roles.items);
    let bindings = Api::<ClusterRoleBinding>::all(client()).list(&ours).await;
    let bindings = bindings.map_err(Failure::kubernetes("listing bindings"))?;
    assert!(bindings.items.is_empty(), "{:?}", bindings.items);

    let elsewhere = Namespace::create(std::rc::Rc::clone(cluster), format!("{}-elsewhere", cluster.run)).await?;
    elsewhere.store("stranger").apply("{}").await?;
    access::secret(&elsewhere, "token", &[("token", "a-token-of-another-namespace")]).await?;

    let store = namespace.store("orders");
    // There is no word for another namespace, no name leads there, and the Secret of that name there is not found.
    let manifest =
        store.manifest("{auth: {mode: Token, tokenSecretRef: {name: token, key: token, namespace: elsewhere}}}")?;
    let strict = ["apply", "--validate=strict", "--filename", "-"];
    let refused = namespace.kubectl(strict).input(manifest).fail().await?;
    assert!(refused.stderr.contains("tokenSecretRef.namespace"), "{}", refused.stderr);
    let way = format!("../../{}/secrets/token", elsewhere.name);
    let manifest =
        store.manifest(&format!("{{auth: {{mode: Token, tokenSecretRef: {{name: {way}, key: token}}}}}}"))?;
    let refused = namespace.kubectl(strict).input(manifest).fail().await?;
    assert!(refused.stderr.contains("tokenSecretRef.name"), "{}", refused.stderr);
    store.apply("{auth: {mode: Token, tokenSecretRef: {name: token, key: token}}}").await?;
    access::says(&store, "Ready", "SecretMissing").await?;

    store.apply("{}").await?;
    store.ready().await?;
    store.set("order/1", "kept").await?;
    let pod = store.pod().await?;
    store.apply("{threadPool: {strategy: rayon}}").await?;
    store.other_pod(&pod.uid().unwrap_or_default()).await?;
    store.ready().await?;
    assert_eq!(store.get("order/1").await?, "kept");

    tokio::time::sleep(ELSEWHERE_LIMIT).await;
    let stranger = elsewhere.store("stranger").read().await?;
    assert!(stranger.data.get("status").is_none(), "a store of another namespace is none of its business");

    let requests = cluster.audit.operator_requests(began)?;
    let refused: Vec<_> = requests.iter().filter(|request| !request.is_allowed).collect();
    assert!(refused.is_empty(), "its Role lacks rights: {refused:?}");
    let abroad: Vec<_> = requests
        .iter()
        .filter(|request| ![&namespace.name, OPERATOR_NAMESPACE, ""].contains(&request.namespace.as_str()))
        .collect();
    assert!(abroad.is_empty(), "it asked about other namespaces: {abroad:?}");
    let granted = granted(&namespace).await?;
    let used: BTreeSet<String> = requests.into_iter().flat_map(|request| request.rights).collect();
    let beyond: Vec<&String> = used.difference(&granted).collect();
    assert!(used.len() > 15 && beyond.is_empty(), "used and granted by someone else: {beyond:?} of {used:?}");
    elsewhere.delete().await
}

/// What its two Roles grant.
async fn granted(namespace: &Namespace) -> Result<BTreeSet<String>, Failure> {
    let roles = |of: &str| Api::<Role>::namespaced(namespace.cluster.client.clone(), of);
    let role = roles(&namespace.name).get(OPERATOR_RELEASE).await.map_err(Failure::kubernetes("reading its Role"))?;
    let lease = roles(OPERATOR_NAMESPACE).get(&format!("{OPERATOR_RELEASE}-lease")).await;
    let lease = lease.map_err(Failure::kubernetes("reading the Lease's Role"))?;
    assert_eq!(role.namespace().as_deref(), Some(namespace.name.as_str()));
    Ok([role.rules, lease.rules].iter().flatten().flatten().flat_map(rights).collect())
}
