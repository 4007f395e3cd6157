//! Every engine and every strategy, as deploy/examples shows them, reached in both ways that a person has from outside.

use std::path::PathBuf;

use futures::future::try_join_all;
use kvs_e2e::forward::PortForward;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::process::Program;
use kvs_e2e::repository;
use kvs_e2e::runner::Told;
use kvs_e2e::store::Store;
use kvs_protocol::config::CLIENT_PORT;
use kvs_protocol::names::{EngineName, PoolStrategy};

/// Each example is applied as it is, becomes Ready and serves.
pub(super) async fn every_engine_and_strategy(namespace: Namespace) -> Told {
    let engines = EngineName::ALL.iter().map(|engine| format!("engine-{}", engine.as_str()));
    let strategies = PoolStrategy::ALL.iter().map(|strategy| format!("strategy-{}", kebab_case(strategy.as_str())));
    let names: Vec<String> = engines.chain(strategies).collect();
    try_join_all(names.iter().map(|name| serves(&namespace, name))).await?;

    let table = namespace.kubectl(["get", "kvsstores"]).succeed().await?;
    let rows: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(rows.len(), names.len(), "{table}");
    assert!(rows.iter().all(|row| row.contains("AllMembersReady")), "the short list says how each store is:\n{table}");
    Ok(())
}

async fn serves(namespace: &Namespace, name: &str) -> Told {
    let file = example(name);
    namespace.kubectl(["apply", "--filename", &file.display().to_string()]).succeed().await?;
    let store = namespace.store(name);
    let object = store.ready().await?;

    let spec = &object.data["spec"];
    let status = store.server_status().await?;
    assert_eq!(status["engine"], spec["engine"], "{name}: the server runs on what the resource chose");
    assert_eq!(status["pool"], spec["threadPool"]["strategy"], "{name}");
    assert_eq!(status["store"], store.full_name(), "{name}: the volume remembers whose it is");

    through_its_own_port_forward(&store).await?;
    through_kubectl_port_forward(&store).await
}

async fn through_its_own_port_forward(store: &Store) -> Told {
    converse(|arguments| store.client(arguments.iter().copied())).await
}

async fn through_kubectl_port_forward(store: &Store) -> Told {
    let forward = PortForward::start(&store.namespace, &format!("service/{}", store.name), CLIENT_PORT).await?;
    let address = forward.address.to_string();
    converse(|arguments| store.namespace.cluster.kvs_client().args(["--addr", &address]).args(arguments)).await
}

/// The command line's contract: what set, get and rm print and how they end.
async fn converse(client: impl Fn(&[&str]) -> Program) -> Told {
    assert_eq!(client(&["set", "colour", "blau \u{1f499}"]).succeed().await?, "");
    assert_eq!(client(&["get", "colour"]).succeed().await?, "blau \u{1f499}\n");
    assert_eq!(client(&["set", "colour", "rot"]).succeed().await?, "");
    assert_eq!(client(&["get", "colour"]).succeed().await?, "rot\n");
    assert_eq!(client(&["rm", "colour"]).succeed().await?, "");
    assert_eq!(client(&["get", "colour"]).succeed().await?, "Key not found\n");
    let refused = client(&["rm", "colour"]).fail().await?;
    assert_eq!((refused.stdout.as_str(), refused.stderr.as_str()), ("", "Key not found\n"));
    Ok(())
}

fn example(name: &str) -> PathBuf {
    repository().join("deploy/examples").join(format!("{name}.yaml"))
}

/// `sharedQueue` becomes `shared-queue`.
fn kebab_case(word: &str) -> String {
    let mut kebab = String::new();
    for letter in word.chars() {
        if letter.is_ascii_uppercase() {
            kebab.push('-');
        }
        kebab.push(letter.to_ascii_lowercase());
    }
    kebab
}
