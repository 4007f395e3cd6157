//! Damage of acknowledged data: the server refuses to start, and the resource says why.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::server_process::ServerProcess;
use kvs_e2e::store::{READY_LIMIT, Store, condition};
use kvs_e2e::{Failure, NotYet, until};

/// Where the server keeps its data, in its own file system.
pub(super) const DATA_FOLDER: &str = "var/lib/kvs/data";
/// Files of a log that a search looks into, and bytes of each; a store of a few keys has less of both.
const MOST_FILES: usize = 64;
/// Keys set before and after the one that is damaged, so that the log knows that it was durable.
const KEYS: u32 = 20;
/// A restart comes after one of the node's first pauses, 10 s and 20 s.
const RESTART_LIMIT: Duration = Duration::from_secs(120);

/// One flipped bit in an acknowledged record: no data is served as if nothing had been, the cause stands in the
/// conditions with file, byte and sequence, and it stays the same while the node restarts the server again and again.
pub(super) async fn damage_is_told(namespace: Namespace) -> Told {
    let store = namespace.store("orders");
    store.apply("{}").await?;
    store.ready().await?;
    for number in 1..=KEYS {
        store.set(&format!("order/{number}"), &format!("value <{number}>")).await?;
    }
    let process = ServerProcess::of(&store.pod().await?)?;
    let file = flip_a_bit(&process.root().join(DATA_FOLDER), b"value <3>")?;
    process.kill()?;

    let degraded = until("the store says that it is damaged", READY_LIMIT, async || {
        let degraded = condition(&store.read().await?, "Degraded");
        if degraded["reason"] == "LogCorrupted" { Ok(degraded) } else { Err(NotYet(degraded.to_string())) }
    })
    .await?;
    let message = degraded["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.contains(&file) && message.contains("byte") && message.contains("sequence"), "{message}");
    assert_eq!(condition(&store.read().await?, "Ready")["reason"], "LogCorrupted");
    let refused = store.client(["--timeout", "10", "get", "order/1"]).fail().await?;
    assert!(refused.stderr.contains("LogCorrupted"), "the client passes it on: {}", refused.stderr);

    let audit = &namespace.cluster.audit;
    let told = audit.at_rest(&namespace.name).await?;
    let restarts = restarts(&store).await?;
    until("the node has restarted the server once more", RESTART_LIMIT, async || {
        let now = self::restarts(&store).await?;
        if now > restarts { Ok(()) } else { Err(NotYet(format!("{now} restarts"))) }
    })
    .await?;
    assert_eq!(condition(&store.read().await?, "Degraded")["message"], message.as_str());
    let writes = audit.operator_writes(&namespace.name, told)?;
    assert!(writes.is_empty(), "going round its restarts is no news: {writes:?}");
    Ok(())
}

async fn restarts(store: &Store) -> Result<i32, Failure> {
    let statuses = store.pod().await?.status.and_then(|status| status.container_statuses);
    Ok(statuses.and_then(|statuses| Some(statuses.first()?.restart_count)).unwrap_or(0))
}

/// Flips one bit of the one place in a folder's files that holds these bytes, and returns the file's name.
pub(super) fn flip_a_bit(folder: &Path, bytes: &[u8]) -> Result<String, Failure> {
    for path in files(folder)? {
        let content = fs::read(&path).map_err(Failure::io(format!("reading {}", path.display())))?;
        let Some(place) = content.windows(bytes.len()).position(|window| window == bytes) else { continue };
        let damage = || -> std::io::Result<()> {
            let file = OpenOptions::new().write(true).open(&path)?;
            file.write_all_at(&[content[place] ^ 1], u64::try_from(place).expect("an offset fits 64 bits"))?;
            file.sync_all()
        };
        damage().map_err(Failure::io(format!("damaging {}", path.display())))?;
        return Ok(path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default());
    }
    Err(Failure::Unexpected(format!("no file in {} holds the value", folder.display())))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = fs::read_dir(folder).map_err(Failure::io(format!("listing {}", folder.display())))?;
    let files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    assert!(files.len() <= MOST_FILES, "{} holds {} files", folder.display(), files.len());
    Ok(files)
}
