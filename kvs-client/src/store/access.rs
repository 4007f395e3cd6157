//! `ClusterAccess`: which cluster, and as whom.

use std::path::PathBuf;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::error::StoreError;

/// What the command line says about the cluster. Without a word: as kubectl, and inside a pod the pod's own account.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterAccess {
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) context: Option<String>,
}

impl ClusterAccess {
    /// A client for that cluster. Nothing is sent yet.
    pub(crate) async fn client(&self) -> Result<Client, StoreError> {
        // Two libraries below could each bring a TLS provider; this says which one counts. An error means that it was
        // said before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let config = match (&self.kubeconfig, &self.context) {
            (Some(file), _) => {
                let kubeconfig = Kubeconfig::read_from(file).map_err(StoreError::kubeconfig)?;
                Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(StoreError::kubeconfig)?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options).await.map_err(StoreError::kubeconfig)?,
            (None, None) => Config::infer().await.map_err(StoreError::kubeconfig)?,
        };
        Client::try_from(config).map_err(StoreError::kubeconfig)
    }
}
