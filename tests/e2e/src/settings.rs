//! `Settings`: which cluster and which programs the stories use. All of it is said by the environment.

use std::env;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Which cluster and which programs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The cluster's kubeconfig, with an administrator's rights.
    pub kubeconfig: PathBuf,
    /// What the API server was asked for and by whom, one JSON object a line.
    pub audit_log: PathBuf,
    /// The folder with kubectl, helm, helm3 and promtool.
    pub tools: PathBuf,
    /// The program kvs-client.
    pub kvs_client: PathBuf,
    /// The program kvs-operator, for tests that run it as a process.
    pub kvs_operator: PathBuf,
    /// Whether the namespaces of failed stories stay, for a person to look at.
    pub keep_failed: bool,
}

/// The top folder of this repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies two folders below the top")
}

impl Settings {
    /// Reads the environment and checks that everything is there.
    ///
    /// # Errors
    /// What is missing, and what to run.
    pub fn from_environment() -> Result<Self, Failure> {
        let state = folder("KVS_E2E_STATE", "the folder of a running test cluster, such as .cluster/test")?;
        let tools = folder("KVS_E2E_TOOLS", "the folder with kubectl, helm, helm3 and promtool")?;
        let settings = Self {
            kubeconfig: present(state.join("kubeconfig"), "start the cluster first, with `make test`")?,
            audit_log: present(state.join("audit.log"), "start the cluster first, with `make test`")?,
            kvs_client: program("KVS_CLIENT", "kvs-client")?,
            kvs_operator: program("KVS_OPERATOR", "kvs-operator")?,
            keep_failed: env::var_os("KVS_E2E_KEEP").is_some(),
            tools,
        };
        for tool in ["kubectl", "helm", "helm3", "promtool"] {
            present(settings.tools.join(tool), "build the tools with tests/bin/tools")?;
        }
        Ok(settings)
    }
}

/// A folder that a variable names, seen from the top of the repository.
fn folder(variable: &str, meaning: &str) -> Result<PathBuf, Failure> {
    let Some(value) = env::var_os(variable).filter(|value| !value.is_empty()) else {
        return Err(Failure::Setup(format!(
            "{variable} is not set ({meaning}); `make test` makes a real Kubernetes and runs these stories on it"
        )));
    };
    Ok(repository().join(value))
}

/// What a variable names, else what cargo built beside this program.
fn program(variable: &str, name: &str) -> Result<PathBuf, Failure> {
    let advice = format!("run `cargo build -p {name}`, or set {variable} to the program");
    if let Some(value) = env::var_os(variable).filter(|value| !value.is_empty()) {
        return present(repository().join(value), &advice);
    }
    let own = env::current_exe().map_err(Failure::io("finding this program"))?;
    // target/PROFILE/deps/stories-HASH
    let profile = own.ancestors().nth(2).unwrap_or(Path::new("."));
    present(profile.join(name), &advice)
}

fn present(path: PathBuf, advice: &str) -> Result<PathBuf, Failure> {
    if path.exists() { Ok(path) } else { Err(Failure::Setup(format!("there is no {}; {advice}", path.display()))) }
}
