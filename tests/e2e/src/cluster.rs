//! `Cluster`: the real Kubernetes that the stories run on, and the programs that talk to it.
//!
//! What must hold: the operator of the stories is the only one; a cluster that serves somebody's stores is left alone.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};
use tempfile::TempDir;

use crate::audit::{AuditLog, Position};
use crate::failure::Failure;
use crate::namespace::MADE_BY_STORIES;
use crate::process::Program;
use crate::settings::{Settings, repository};
use crate::waiting::{NotYet, until};

/// The namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "e2e-operator";
/// The operator's release, and with it the name of its Deployment and of its account.
pub const OPERATOR_RELEASE: &str = "kvs-operator";
/// The name of the definition of KvsStore.
pub const DEFINITION: &str = "kvsstores.kvs.aryavarth.io";

/// The longest wait for the API server's answer to one call.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// The longest wait for namespaces to be gone, with the pods and volumes in them.
const PURGE_LIMIT: Duration = Duration::from_secs(120);

/// The cluster.
pub struct Cluster {
    /// Where everything is.
    pub settings: Settings,
    /// An administrator's client.
    pub client: Client,
    /// What this run's namespaces have in common and no other run's.
    pub run: String,
    /// What the API server was asked for.
    pub audit: AuditLog,
    /// Where the log stood when this run began.
    pub began: Position,
    /// The home of the programs: their caches vanish with it.
    home: TempDir,
}

/// The generation of Helm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Helm {
    /// The one that most people have.
    Three,
    /// The newest, which applies on the server's side.
    Four,
}

impl Cluster {
    /// Connects to the cluster.
    ///
    /// # Errors
    /// When the kubeconfig is unusable or the API server does not answer.
    pub async fn connect(settings: Settings) -> Result<Self, Failure> {
        // Two libraries below could each bring a TLS provider; this says which one counts. An error means that it was
        // said before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let unusable = |error: &dyn std::error::Error| {
            Failure::Setup(format!("{} is unusable: {error}", settings.kubeconfig.display()))
        };
        let kubeconfig = Kubeconfig::read_from(&settings.kubeconfig).map_err(|error| unusable(&error))?;
        let options = KubeConfigOptions::default();
        let mut config =
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|error| unusable(&error))?;
        config.connect_timeout = Some(CALL_LIMIT);
        let client = Client::try_from(config).map_err(|error| unusable(&error))?;
        let version = client.apiserver_version().await.map_err(|error| {
            Failure::Setup(format!(
                "the cluster of {} does not answer: {error}; `make test` starts one",
                settings.kubeconfig.display()
            ))
        })?;
        eprintln!("Kubernetes {} of {}", version.git_version, settings.kubeconfig.display());
        let home = tempfile::tempdir().map_err(Failure::io("making a folder for the programs"))?;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let audit = AuditLog::new(settings.audit_log.clone());
        let began = audit.end()?;
        Ok(Self { settings, client, audit, began, run: format!("e2e-{:x}", seconds & 0x00ff_ffff), home })
    }

    /// kubectl, as this cluster's administrator.
    #[must_use]
    pub fn kubectl(&self, namespace: &str) -> Program {
        self.program(&self.settings.tools.join("kubectl"))
            .args([Path::new("--kubeconfig"), &self.settings.kubeconfig])
            .args(["--namespace", namespace])
    }

    /// Helm, as this cluster's administrator.
    #[must_use]
    pub fn helm(&self, generation: Helm, namespace: &str) -> Program {
        let name = match generation {
            Helm::Three => "helm3",
            Helm::Four => "helm",
        };
        self.program(&self.settings.tools.join(name))
            .args([Path::new("--kubeconfig"), &self.settings.kubeconfig])
            .args(["--namespace", namespace])
    }

    /// kvs-client, with this cluster's kubeconfig for `--store`.
    #[must_use]
    pub fn kvs_client(&self) -> Program {
        self.program(&self.settings.kvs_client)
    }

    /// promtool.
    #[must_use]
    pub fn promtool(&self) -> Program {
        self.program(&self.settings.tools.join("promtool"))
    }

    /// Takes a node's network link down (`cut`) or up again (`heal`).
    #[must_use]
    pub fn link(&self, verb: &str, node: &str) -> Program {
        // .cluster/NAME/kubeconfig
        let state = self.settings.kubeconfig.parent().unwrap_or(Path::new("."));
        let name = state.file_name().unwrap_or_default();
        let program = self.program(&self.settings.tools.join("cluster")).args([verb, "--name"]).args([name]);
        program.args([Path::new("--state"), state]).args([node])
    }

    /// A line of shell as a person types it at the top of this repository, with kubectl, helm and kvs-client on the path
    /// and this cluster as the current one.
    #[must_use]
    pub fn shell(&self, line: &str) -> Program {
        let client = self.settings.kvs_client.parent().unwrap_or(Path::new("."));
        let path = format!("{}:{}:/usr/bin:/bin", self.settings.tools.display(), client.display());
        self.program(Path::new("/bin/bash"))
            .args(["-euc", line])
            .folder(repository())
            .variable("PATH", path)
            .variable("KUBECONFIG", &self.settings.kubeconfig)
    }

    fn program(&self, path: &Path) -> Program {
        Program::new(path, self.home.path())
    }

    /// Installs the operator's chart into [`OPERATOR_NAMESPACE`], which must exist, and waits until it answers.
    ///
    /// # Errors
    /// What Helm said.
    pub async fn install_operator(&self, generation: Helm) -> Result<(), Failure> {
        self.install_operator_with(generation, &[]).await
    }

    /// The same with flags for Helm, such as `--set=replicas=0` for the definition and the rights alone.
    ///
    /// # Errors
    /// What Helm said.
    pub async fn install_operator_with(&self, generation: Helm, flags: &[&str]) -> Result<(), Failure> {
        self.helm(generation, OPERATOR_NAMESPACE)
            .args(["install", OPERATOR_RELEASE])
            .args([chart("kvs-operator")])
            .args(flags)
            .args(["--wait", "--timeout", "150s"])
            .limit(Duration::from_secs(170))
            .succeed()
            .await
            .map(drop)
    }

    /// KvsStores of a namespace.
    #[must_use]
    pub fn stores(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &kvs_stores())
    }

    /// Refuses a cluster that serves somebody else, and takes away what an interrupted run left. Then this run begins.
    ///
    /// # Errors
    /// When the cluster is not for tests, or the rest of an earlier run does not go.
    pub async fn prepare(&mut self) -> Result<(), Failure> {
        let definitions = Api::<CustomResourceDefinition>::all(self.client.clone());
        let definition =
            definitions.get_opt(DEFINITION).await.map_err(Failure::kubernetes("reading the definition"))?;
        let owner = definition.map(|definition| {
            definition.annotations().get("meta.helm.sh/release-namespace").cloned().unwrap_or_default()
        });
        match owner.as_deref() {
            None | Some(OPERATOR_NAMESPACE) => self.purge().await?,
            Some(_) => {
                let advice = "set KVS_E2E_STATE to a cluster for tests, as `make test` does";
                return Err(Failure::Setup(format!("this cluster serves KvsStores already; {advice}")));
            }
        }
        self.began = self.audit.end()?;
        Ok(())
    }

    /// Takes everything away that stories made, the operator and the definition included. Its order is the worst one:
    /// the operator may go before the stores, so that nothing that waits for it could go.
    ///
    /// # Errors
    /// When something does not go.
    pub async fn purge(&self) -> Result<(), Failure> {
        let namespaces = Api::<NamespaceObject>::all(self.client.clone());
        let ours = ListParams::default().labels(MADE_BY_STORIES);
        let list = namespaces.list(&ours).await.map_err(Failure::kubernetes("listing namespaces"))?;
        for namespace in list {
            delete(&namespaces, &namespace.name_any()).await?;
        }
        until("every namespace of the stories is gone", PURGE_LIMIT, async || {
            let left = namespaces.list(&ours).await.map_err(Failure::kubernetes("listing namespaces"))?;
            let left: Vec<String> = left.iter().map(why_left).collect();
            if left.is_empty() { Ok(()) } else { Err(NotYet(left.join(", "))) }
        })
        .await?;
        // What has no namespace, and the one of deploy/operator.yaml.
        self.kubectl("default")
            .args(["delete", "--ignore-not-found", "--selector", "app.kubernetes.io/part-of=aryavarth-kvs"])
            .args(["customresourcedefinitions,clusterroles,clusterrolebindings,namespaces"])
            .succeed()
            .await
            .map(drop)
    }
}

/// A chart of this repository.
#[must_use]
pub fn chart(name: &str) -> std::path::PathBuf {
    repository().join("charts").join(name)
}

/// The resource as a person sees it: without the operator's Rust types.
#[must_use]
pub fn kvs_stores() -> ApiResource {
    own_kind("KvsStore", "kvsstores")
}

/// The same of backups.
#[must_use]
pub fn kvs_backups() -> ApiResource {
    own_kind("KvsBackup", "kvsbackups")
}

/// The same of schedules of backups.
#[must_use]
pub fn kvs_backup_schedules() -> ApiResource {
    own_kind("KvsBackupSchedule", "kvsbackupschedules")
}

fn own_kind(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: "kvs.aryavarth.io".into(),
        version: "v1alpha1".into(),
        api_version: "kvs.aryavarth.io/v1alpha1".into(),
        kind: kind.into(),
        plural: plural.into(),
    }
}

/// Deletes what may be gone already.
async fn delete(namespaces: &Api<NamespaceObject>, name: &str) -> Result<(), Failure> {
    match namespaces.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        // Not there, or going already.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(Failure::kubernetes(format!("deleting namespace {name}"))(error)),
    }
}

/// A namespace with what it still waits for.
fn why_left(namespace: &NamespaceObject) -> String {
    let conditions = namespace.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let reasons: Vec<&str> = conditions
        .filter(|condition| condition.status == "True")
        .filter_map(|condition| condition.message.as_deref())
        .collect();
    format!("{} ({})", namespace.name_any(), reasons.join("; "))
}
