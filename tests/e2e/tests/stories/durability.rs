//! Acknowledged data against the death of the server and of the pod, under load.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::try_join;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use kvs_e2e::forward::KvsClient;
use kvs_e2e::namespace::Namespace;
use kvs_e2e::runner::Told;
use kvs_e2e::server_process::ServerProcess;
use kvs_e2e::store::{READY_LIMIT, Store, is_ready};
use kvs_e2e::unicode::{self, Character};
use kvs_e2e::{Failure, NotYet, until};
use kvs_protocol::{Answer, ClientError, Request, Verb};
use tokio::io::AsyncWriteExt as _;
use tokio::time::{sleep, timeout};

/// Lines of the import after which the server is killed, and after which its pod is deleted. The import waits at the
/// next mark until that has happened, so that both fall into its middle on any machine.
const KILL_AFTER_LINES: usize = 10_000;
const DELETE_AFTER_LINES: usize = 22_000;
const END_AFTER_LINES: usize = 33_000;
/// Lines that are written to the import at once.
const LINES_AT_ONCE: usize = 500;
/// The longest wait for one answer: a stream into a pod that died may stay silent.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Keys of one writer; then it sets them anew, so that a slow cluster fills no volume.
const KEYS_OF_A_WRITER: u32 = 4_000;
/// Requests of one pipeline when everything is read back.
const PIPELINE: usize = 1_000;

/// How far everybody is. One thread runs them all.
#[derive(Default)]
struct Stage {
    lines_written: Cell<usize>,
    killed: Cell<bool>,
    deleted: Cell<bool>,
    imported: Cell<bool>,
    over: Cell<bool>,
    acknowledged: Cell<u64>,
    interrupted: Cell<u64>,
}

/// What writers were told is stored.
type Acknowledged = BTreeMap<Vec<u8>, Vec<u8>>;

/// 35,000 names are imported while others write; the server is killed by SIGKILL in the middle and its pod deleted
/// later; then every key that was acknowledged to anybody is read back equal.
pub(super) async fn acknowledged_keys_survive(namespace: Namespace) -> Told {
    let characters = unicode::characters()?;
    let store = namespace.store("names");
    store.apply("{engine: kvs, threadPool: {strategy: sharedQueue}, storage: {size: 128Mi}}").await?;
    store.ready().await?;

    let stage = Stage::default();
    let ((), (), first, second) = try_join!(
        import(&store, &characters, &stage),
        misfortune(&store, &stage),
        write(&store, "first", &stage),
        write(&store, "second", &stage),
    )?;
    let names =
        characters.into_iter().map(|character| (character.code_point.into_bytes(), character.name.into_bytes()));
    let expected: Acknowledged = names.chain(first).chain(second).collect();
    read_back(&store, &expected).await
}

/// What happens to the server while everybody writes.
async fn misfortune(store: &Store, stage: &Stage) -> Told {
    reached("the import is in its first third", || stage.lines_written.get() >= KILL_AFTER_LINES).await?;
    reached("the writers write", || stage.acknowledged.get() > 0).await?;
    let before = store.pod().await?;
    ServerProcess::of(&before)?.kill()?;
    stage.killed.set(true);
    let restarted = until("the server is started again by its node", READY_LIMIT, async || {
        let pod = store.pod().await?;
        match server(&pod) {
            Some(server) if server.restart_count > 0 && is_ready(&pod) => Ok(pod),
            server => Err(NotYet(format!("{server:?}"))),
        }
    })
    .await?;
    let end = server(&restarted).and_then(|server| server.last_state.as_ref()?.terminated.as_ref());
    assert_eq!(end.map(|end| end.exit_code), Some(137), "it ended by SIGKILL and not in order");
    assert_eq!(restarted.uid(), before.uid());

    reached("the import is in its last third", || stage.lines_written.get() >= DELETE_AFTER_LINES).await?;
    goes_on(stage).await?;
    store.namespace.kubectl(["delete", "pod", &store.pod_name(), "--wait=false"]).succeed().await?;
    stage.deleted.set(true);
    store.other_pod(&before.uid().unwrap_or_default()).await?;
    reached("the import is done", || stage.imported.get()).await?;
    goes_on(stage).await?;
    stage.over.set(true);
    Ok(())
}

/// The writers were told of more than before.
async fn goes_on(stage: &Stage) -> Told {
    let before = stage.acknowledged.get();
    reached("the writers go on", || stage.acknowledged.get() > before + 20).await
}

async fn reached(what: &str, condition: impl Fn() -> bool) -> Told {
    until(what, READY_LIMIT, async || if condition() { Ok(()) } else { Err(NotYet("not so".into())) }).await
}

fn server(pod: &Pod) -> Option<&ContainerStatus> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()
}

/// One `kvs-client import` of all characters through a pipe. It must get over both misfortunes by itself.
async fn import(store: &Store, characters: &[Character], stage: &Stage) -> Told {
    let program = store.client(["--timeout", "120", "import", "-"]).limit(READY_LIMIT * 2);
    let mut program = program.start()?;
    let mut pipe = program.input.take().ok_or_else(|| Failure::Unexpected("the import has no input".into()))?;
    for lines in characters.chunks(LINES_AT_ONCE) {
        let written = stage.lines_written.get();
        if written >= DELETE_AFTER_LINES {
            reached("the server was killed", || stage.killed.get()).await?;
        }
        if written >= END_AFTER_LINES {
            reached("the pod was deleted", || stage.deleted.get()).await?;
        }
        let text: String = lines.iter().map(Character::json_line).collect();
        if let Err(error) = pipe.write_all(text.as_bytes()).await {
            // It has ended; its own words say why.
            program.finish().await?;
            return Err(Failure::io("writing to the import")(error));
        }
        stage.lines_written.set(written + lines.len());
    }
    drop(pipe);
    let said = program.finish().await?;
    assert!(said.contains(&format!("imported {} keys", characters.len())), "{said}");
    stage.imported.set(true);
    Ok(())
}

/// Sets key after key until all is over, each until it is acknowledged, and returns what was.
async fn write(store: &Store, writer: &str, stage: &Stage) -> Result<Acknowledged, Failure> {
    let mut acknowledged = Acknowledged::new();
    let mut connection = None;
    let mut number = 0_u32;
    while !stage.over.get() {
        let key = format!("{writer}/{}", number % KEYS_OF_A_WRITER).into_bytes();
        // Bytes that are no text, and different ones each time.
        let value: Vec<u8> = number.to_be_bytes().into_iter().chain(0..=255).collect();
        until(format!("key {number} of the {writer} writer is acknowledged"), READY_LIMIT, async || {
            let client = match &mut connection {
                Some(client) => client,
                None => connection.insert(store.connect().await?),
            };
            let answer = timeout(ANSWER_LIMIT, client.set(key.clone(), value.clone())).await;
            if let Some(cause) = cause_of(answer) {
                connection = None;
                stage.interrupted.set(stage.interrupted.get() + 1);
                return Err(NotYet(cause));
            }
            Ok(())
        })
        .await?;
        acknowledged.insert(key, value);
        stage.acknowledged.set(stage.acknowledged.get() + 1);
        number += 1;
        // Leaves the machine to those that must restart on it.
        sleep(Duration::from_millis(1)).await;
    }
    Ok(acknowledged)
}

/// Why a request has no answer that says done.
fn cause_of(answer: Result<Result<(), ClientError>, tokio::time::error::Elapsed>) -> Option<String> {
    match answer {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_elapsed) => Some("no answer".to_owned()),
    }
}

/// Every key has its value, and there is no key more.
async fn read_back(store: &Store, expected: &Acknowledged) -> Told {
    let mut client: KvsClient = store.connect().await?;
    let pairs: Vec<(&Vec<u8>, &Vec<u8>)> = expected.iter().collect();
    for pairs in pairs.chunks(PIPELINE) {
        let gets: Vec<Request> = pairs.iter().map(|(key, _)| Verb::Get { key: (*key).clone() }.into()).collect();
        let answers = timeout(READY_LIMIT, client.pipeline(&gets)).await;
        let answers = answers.map_err(|_elapsed| Failure::Unexpected("no answer when reading back".into()))?;
        let answers = answers.map_err(|error| Failure::Unexpected(format!("reading back: {error}")))?;
        for ((key, value), answer) in pairs.iter().zip(answers) {
            let key = String::from_utf8_lossy(key);
            assert_eq!(answer.body, Ok(Answer::Bytes((*value).clone())), "{key} is not what was acknowledged");
        }
    }
    let keys = store.server_status().await?["keys"].as_u64();
    assert_eq!(keys, u64::try_from(expected.len()).ok(), "the store holds these keys and no other");
    Ok(())
}
