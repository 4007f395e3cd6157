//! Every command of README.md's part about Kubernetes, of the charts' READMEs and of their notes, word for word.
//!
//! What must hold: what is run is what the document says, in its order, typed at the top of this repository; nothing is put in
//! between. A command is a line of a block marked `sh`, or an indented line of Helm's notes, with its indentation.

use std::time::Duration;

use kvs_e2e::cluster::Helm;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::{Failure, repository};

use crate::helm::start_afresh;

/// The longest that one command may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(180);
/// Takes away what the documents made, in the namespaces that they name. What is not there needs no taking away.
const CLEAN_UP: &str = "set +e
    helm uninstall orders --namespace default
    kubectl delete kvsstores --all --namespace default
    kubectl delete persistentvolumeclaims --selector app.kubernetes.io/part-of=aryavarth-kvs --namespace default
    helm uninstall kvs-operator --namespace kvs-system --wait
    kubectl delete namespace kvs-system
    kubectl delete crd --selector app.kubernetes.io/part-of=aryavarth-kvs
    exit 0";

/// A person goes through README.md; then, afresh, through the README of the operator's chart, its notes, the README of the
/// store's chart and its notes.
pub(super) async fn work_word_for_word(namespace: Namespace) -> Told {
    start_afresh(&namespace, Helm::Four).await?;
    let told = go_through(&namespace).await;
    // Also after a failure: the namespaces are not those of stories.
    let cleaned = namespace.cluster.shell(CLEAN_UP).limit(COMMAND_LIMIT).succeed().await;
    told.and(cleaned.map(drop))
}

async fn go_through(namespace: &Namespace) -> Told {
    let readme = section(&read("README.md")?, "## On Kubernetes")?;
    let mut count = run_all(namespace, &blocks(&readme)).await?;
    namespace.cluster.shell(CLEAN_UP).limit(COMMAND_LIMIT).succeed().await?;

    count += run_all(namespace, &blocks(&read("charts/kvs-operator/README.md")?)).await?;
    count += run_all(namespace, &notes(namespace, "kvs-operator", "kvs-system").await?).await?;
    count += run_all(namespace, &blocks(&read("charts/kvs-store/README.md")?)).await?;
    count += run_all(namespace, &notes(namespace, "orders", "default").await?).await?;
    assert!(count >= 18, "the documents hold {count} commands");
    Ok(())
}

/// Runs them in their order and counts them.
async fn run_all(namespace: &Namespace, commands: &[String]) -> Result<usize, Failure> {
    assert!(!commands.is_empty(), "a document without commands");
    for command in commands {
        namespace.cluster.shell(command).limit(COMMAND_LIMIT).succeed().await?;
    }
    Ok(commands.len())
}

fn read(path: &str) -> Result<String, Failure> {
    std::fs::read_to_string(repository().join(path)).map_err(Failure::io(format!("reading {path}")))
}

/// The part of a document under a heading, up to the next one of its rank.
fn section(text: &str, heading: &str) -> Result<String, Failure> {
    let after = text.split_once(&format!("\n{heading}\n"));
    let (_, after) = after.ok_or_else(|| Failure::Unexpected(format!("README.md has no part '{heading}'")))?;
    Ok(after.split("\n## ").next().unwrap_or_default().to_owned())
}

/// The commands of the blocks that are marked as shell.
fn blocks(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default());
    blocks.flat_map(str::lines).filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// The commands of a release's notes.
async fn notes(namespace: &Namespace, release: &str, of: &str) -> Result<Vec<String>, Failure> {
    let text = namespace.cluster.helm(Helm::Four, of).args(["get", "notes", release]).succeed().await?;
    Ok(text.lines().filter(|line| line.starts_with("  ")).map(str::to_owned).collect())
}
