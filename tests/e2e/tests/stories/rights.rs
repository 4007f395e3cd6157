//! The operator's rights, judged by what it did in all stories before.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::Api;
use kvs_e2e::Failure;
use kvs_e2e::cluster::{OPERATOR_NAMESPACE, OPERATOR_RELEASE};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;

/// The API server never told it that it may not. Told before the operator is taken away: a role that goes a moment
/// before its pod would refuse it.
pub(super) async fn suffice(namespace: Namespace) -> Told {
    let cluster = &namespace.cluster;
    let requests = cluster.audit.operator_requests(cluster.began)?;
    assert!(requests.iter().any(|request| request.is_write), "the log tells of the operator");
    let refused: Vec<_> = requests.iter().filter(|request| !request.is_allowed).collect();
    assert!(refused.is_empty(), "its role lacks rights: {refused:?}");
    let mut secrets = requests.iter().filter(|request| request.deed.contains(" secrets"));
    assert!(secrets.all(|request| request.deed.starts_with("get secrets ")), "it reads a Secret by its name only");
    Ok(())
}

/// Every right that its roles grant was used: one that no story needs is one too many. Holds only after all stories.
pub(super) async fn are_all_used(namespace: Namespace) -> Told {
    let cluster = &namespace.cluster;
    let client = || cluster.client.clone();
    let role = Api::<ClusterRole>::all(client()).get(OPERATOR_RELEASE).await;
    let lease = Api::<Role>::namespaced(client(), OPERATOR_NAMESPACE).get(&format!("{OPERATOR_RELEASE}-lease")).await;
    let rules = [
        role.map_err(Failure::kubernetes("reading the operator's role"))?.rules,
        lease.map_err(Failure::kubernetes("reading the Lease's role"))?.rules,
    ];
    let granted: BTreeSet<String> = rules.iter().flatten().flatten().flat_map(rights).collect();
    assert!(granted.len() > 20 && granted.iter().all(|right| !right.contains('*')), "{granted:?}");
    let used: BTreeSet<String> =
        cluster.audit.operator_requests(cluster.began)?.into_iter().flat_map(|request| request.rights).collect();
    let idle: Vec<&String> = granted.difference(&used).collect();
    assert!(idle.is_empty(), "granted and never used (were all stories told?): {idle:?}");
    let beyond: Vec<&String> = used.difference(&granted).collect();
    assert!(beyond.is_empty(), "used and granted by someone else: {beyond:?}");
    Ok(())
}

/// The rights of a rule, one by one.
pub(super) fn rights(rule: &PolicyRule) -> Vec<String> {
    let groups = rule.api_groups.iter().flatten();
    groups
        .flat_map(|group| rule.resources.iter().flatten().map(move |resource| (group, resource)))
        .flat_map(|(group, resource)| rule.verbs.iter().map(move |verb| (group, resource, verb)))
        .map(|(group, resource, verb)| {
            let group = if group.is_empty() { "core" } else { group.as_str() };
            format!("{verb} {group}/{resource}")
        })
        .collect()
}
