//! The operator's rights, judged by what it did in all stories before.

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
    assert!(!requests.iter().any(|request| request.deed.contains(" secrets")), "it reads no Secret");
    Ok(())
}
