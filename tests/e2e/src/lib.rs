//! What the end-to-end stories of tests/stories stand on: a real cluster, bounded processes, waiting, and diagnostics.
//!
//! What must hold: every wait polls a condition and has a deadline, and every process a time limit; a story touches its
//! own namespace only, and nobody's kubeconfig but the test cluster's; a failure says what was seen instead.
//!
//! ```text
//! cluster -> namespace -> store -> forward -> (kvs-protocol, admin)
//! proxy -> operator_process: an operator before an API server that does not mean well (tests/faults)
//! runner: one story after the other or side by side, diagnosis when one fails
//! ```

pub mod admin;
pub mod audit;
pub mod cluster;
pub mod diagnosis;
mod failure;
pub mod forward;
pub mod kubelet;
pub mod namespace;
pub mod operator_process;
pub mod process;
pub mod proxy;
pub mod runner;
pub mod server_process;
mod settings;
pub mod store;
pub mod unicode;
mod waiting;

pub use failure::Failure;
pub use settings::{Settings, repository};
pub use waiting::{NotYet, until};
