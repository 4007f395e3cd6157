//! Two operators, of which one leads: what becomes of the work when it ends, dies or is stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::DeleteParams;
use kube::config::Kubeconfig;
use kvs_e2e::audit::Position;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::operator_process::{OperatorProcess, Options};
use kvs_e2e::proxy::Verdict;
use kvs_e2e::runner::Told;
use kvs_e2e::{Failure, NotYet, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::ground::Ground;
use crate::is_torture;

/// The longest wait for a successor: it follows a dead leader after 15 s, and this machine is shared.
const LIMIT: Duration = Duration::from_secs(60);
/// How long nobody may work after a leader was told to end, and after it died. The short form shares its machine with other
/// stories and gets as much again.
const AFTER_SIGTERM: Duration = Duration::from_secs(2);
const AFTER_SIGKILL: Duration = Duration::from_secs(17);
/// How often something is broken, so that whoever leads has something to write.
const BREAK: Duration = Duration::from_millis(100);

/// The rights of an operator in one namespace, for two accounts.
const RIGHTS: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: operators}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: kvs-operator}
subjects: [{kind: ServiceAccount, name: one}, {kind: ServiceAccount, name: two}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: lease}
rules:
- {apiGroups: [coordination.k8s.io], resources: [leases], resourceNames: [kvs-operator], verbs: [get, update]}
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: lease}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: lease}
subjects: [{kind: ServiceAccount, name: one}, {kind: ServiceAccount, name: two}]
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: one}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: two}
";

/// One after the other leads, and the audit log shows at each moment writes of one of them only.
pub(super) async fn handed_over(namespace: Namespace) -> Told {
    namespace.kubectl(["create", "quota", "no-pods", "--hard=pods=0"]).succeed().await?;
    namespace.apply(RIGHTS).await?;
    let folder = tempfile::tempdir().map_err(Failure::io("making a folder"))?;
    let one = Place { account: "one", kubeconfig: kubeconfig(&namespace, &folder, "one").await? };
    let two = Place { account: "two", kubeconfig: kubeconfig(&namespace, &folder, "two").await? };
    let begin = namespace.cluster.audit.end()?;
    namespace.store("orders").apply("{}").await?;
    let work = hand_over(&namespace, &one, &two, begin);
    tokio::select! {
        told = work => told,
        told = break_again_and_again(&namespace) => told,
    }
}

/// An account, and where its operator finds its cluster.
struct Place {
    account: &'static str,
    kubeconfig: PathBuf,
}

impl Place {
    fn start(&self, namespace: &Namespace, identity: &str) -> Result<OperatorProcess, Failure> {
        OperatorProcess::start(Options {
            program: &namespace.cluster.settings.kvs_operator,
            kubeconfig: &self.kubeconfig,
            namespace: &namespace.name,
            identity,
        })
    }
}

/// A leader that can't renew its Lease, and reaches everything else, goes on while its Lease lasts, and has stopped before
/// anybody else may have it.
pub(super) async fn cut_off(namespace: Namespace) -> Told {
    let ground = Ground::new(&namespace, "cut-off").await?;
    let is_cut = Arc::new(AtomicBool::new(false));
    let judged = Arc::clone(&is_cut);
    ground.proxy.judge(move |asked| match asked.is_lease() && judged.load(Ordering::Relaxed) {
        true => Verdict::LoseRequest,
        false => Verdict::Pass,
    });
    let mut operator = ground.operator()?;
    ground.store.apply("{}").await?;
    until("the operator works", LIMIT, async || {
        let writes = ground.proxy.writes().len();
        if writes > 5 { Ok(()) } else { Err(NotYet(format!("{writes} writes"))) }
    })
    .await?;
    is_cut.store(true, Ordering::Relaxed);
    let mut renewals = ground.proxy.asked().into_iter().filter(|asked| asked.is_lease() && asked.is_write());
    let renewed = renewals.next_back().map(|asked| asked.at).ok_or_else(|| Failure::Unexpected("no renewal".into()))?;
    let ended = tokio::select! {
        ended = operator.end(LIMIT) => ended?,
        broken = break_again_and_again(&ground.store.namespace) => return broken,
    };
    assert!(!ended.success(), "it is to be started again: {}", operator.log());
    let last = ground.proxy.writes().last().map(|asked| asked.at.duration_since(renewed)).unwrap_or_default();
    eprintln!("    cut off from its Lease, it wrote for {:.1} s", last.as_secs_f32());
    assert!(last > Duration::from_secs(4), "a short fault changes nothing: {last:?}");
    assert!(last < Duration::from_secs(14), "it wrote when another one might have led: {last:?}");
    ground.leave().await
}

async fn hand_over(namespace: &Namespace, one: &Place, two: &Place, begin: Position) -> Told {
    let mut leader = one.start(namespace, "one-a")?;
    writes_of(namespace, one, begin, &[&leader]).await?;
    let standby = two.start(namespace, "two-a")?;
    standby.says("stands by while", LIMIT).await?;

    // It is told to end: it finishes, gives the Lease back, and the other one goes on.
    let since = namespace.cluster.audit.end()?;
    let at = Instant::now();
    leader.signal(Signal::TERM)?;
    writes_of(namespace, two, since, &[&leader, &standby]).await?;
    let waited = at.elapsed();
    eprintln!("    after SIGTERM the other one wrote within {:.1} s", waited.as_secs_f32());
    assert!(waited <= generous(AFTER_SIGTERM), "nobody worked for {waited:?}");
    assert!(leader.end(LIMIT).await?.success(), "an orderly end is a success: {}", leader.log());

    // It dies: its Lease runs out.
    let (mut leader, standby) = (standby, one.start(namespace, "one-b")?);
    standby.says("stands by while", LIMIT).await?;
    let since = namespace.cluster.audit.end()?;
    let at = Instant::now();
    leader.killer()();
    leader.end(LIMIT).await?;
    writes_of(namespace, one, since, &[&leader, &standby]).await?;
    let waited = at.elapsed();
    eprintln!("    after SIGKILL the other one wrote within {:.1} s", waited.as_secs_f32());
    assert!(waited >= Duration::from_secs(12), "nobody may be followed so soon: {waited:?}");
    assert!(waited <= generous(AFTER_SIGKILL), "nobody worked for {waited:?}");

    // It is stopped in the middle of its work, and goes on when another one leads.
    let (mut leader, standby) = (standby, two.start(namespace, "two-b")?);
    standby.says("stands by while", LIMIT).await?;
    let since = namespace.cluster.audit.end()?;
    leader.signal(Signal::STOP)?;
    writes_of(namespace, two, since, &[&leader, &standby]).await?;
    let since = namespace.cluster.audit.end()?;
    leader.signal(Signal::CONT)?;
    let ended = leader.end(LIMIT).await?;
    assert!(!ended.success(), "who lost its Lease ends as a failure, to be started again: {ended}");
    sleep(BREAK * 10).await;
    let late: Vec<_> = namespace.cluster.audit.writes_of_accounts(&namespace.name, since)?;
    assert!(late.iter().all(|write| write.user == two.account), "it wrote after it had lost its Lease: {late:?}");

    let writes = namespace.cluster.audit.writes_of_accounts(&namespace.name, begin)?;
    let mut reigns: Vec<&str> = writes.iter().map(|write| write.user.as_str()).collect();
    reigns.dedup();
    assert_eq!(reigns, ["one", "two", "one", "two"], "at each moment one of them wrote: {} writes", writes.len());
    eprintln!("    {} writes in 4 reigns, none of them in another's", writes.len());
    Ok(())
}

/// A bound, with room for what else the machine does in the short form.
fn generous(bound: Duration) -> Duration {
    if is_torture() { bound } else { bound * 2 }
}

/// Waits until an account writes.
async fn writes_of(namespace: &Namespace, place: &Place, since: Position, operators: &[&OperatorProcess]) -> Told {
    let written = until(format!("account {} writes", place.account), LIMIT, async || {
        let writes = namespace.cluster.audit.writes_of_accounts(&namespace.name, since)?;
        if writes.iter().any(|write| write.user == place.account) {
            return Ok(());
        }
        Err(NotYet(format!("{} writes of others", writes.len())))
    });
    written.await.map_err(|failure| {
        let logs: Vec<String> = operators.iter().map(|operator| operator.log()).collect();
        Failure::Unexpected(format!("{failure}\n-- the operators said:\n{}", logs.join("--\n")))
    })
}

/// Deletes a Service whenever it is there, so that whoever leads makes it again.
async fn break_again_and_again(namespace: &Namespace) -> Told {
    let services = Api::<Service>::namespaced(namespace.cluster.client.clone(), &namespace.name);
    loop {
        match services.delete("orders", &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            deleted => drop(deleted.map_err(Failure::kubernetes("deleting the Service"))?),
        }
        sleep(BREAK).await;
    }
}

/// A kubeconfig with the rights of an account.
async fn kubeconfig(namespace: &Namespace, folder: &TempDir, account: &str) -> Result<PathBuf, Failure> {
    let token = namespace.kubectl(["create", "token", account]).succeed().await?;
    let admin = Kubeconfig::read_from(&namespace.cluster.settings.kubeconfig)
        .map_err(|error| Failure::Setup(format!("the cluster's kubeconfig is unusable: {error}")))?;
    let cluster = admin.clusters.into_iter().next().and_then(|cluster| cluster.cluster).unwrap_or_default();
    let config: Value = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it", "namespace": namespace.name}}],
        "clusters": [{"name": "it", "cluster": {
            "server": cluster.server, "certificate-authority-data": cluster.certificate_authority_data,
        }}],
        "users": [{"name": "it", "user": {"token": token.trim()}}],
    });
    let path = folder.path().join(account);
    std::fs::write(&path, config.to_string()).map_err(Failure::io(format!("writing {}", path.display())))?;
    Ok(path)
}
