//! `spec.threadPool`: how the server runs requests.

use kube::KubeSchema;
use kvs_protocol::names::PoolStrategy;
use serde::{Deserialize, Serialize};

/// How the server runs the decoded requests of its connections.
#[derive(KubeSchema, Deserialize, Serialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(self.strategy in ['naive', 'inline']) || !has(self.size)").message(
    "threadPool.size has no meaning for naive (a thread for each job) or inline (the connection's own task); leave it out"
))]
pub struct ThreadPool {
    /// `naive`, `sharedQueue`, `rayon` or `inline`.
    #[serde(default)]
    pub strategy: PoolStrategy,

    /// Worker threads, 1 to 1024. Unset means the cores that the container may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub size: Option<i32>,
}
