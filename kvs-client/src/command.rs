//! What each command says to the server, and what it prints.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kvs_protocol::limits::MAX_BATCH_CHANGES;
use kvs_protocol::{Answer, Change, ErrorCode, Request, Verb};
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};

use crate::arguments::{Command, DataCommand};
use crate::error::Error;
use crate::output::{self, Output};
use crate::scan::Scan;
use crate::session::Session;
use crate::value::{INPUT_NAME, ValueSource, cannot_read, standard_input};
use crate::{backup, bench, export, import, manual, status};

/// The longest input of `batch`, in bytes: more than any server takes as one batch.
const MAX_BATCH_INPUT_BYTES: u64 = 256 * 1024 * 1024;
/// How many bytes of a scan are written at once.
const WRITE_BYTES: usize = 64 * 1024;

/// Runs one command to its end.
pub(crate) async fn run(command: Command, mut session: Session, output: Output) -> Result<(), Error> {
    match command {
        Command::Data(command) => data(command, &mut session, output).await,
        Command::Check => check(&mut session, output).await,
        Command::Import(flags) => import::run(&mut session, flags, output).await,
        Command::Export(flags) => export::run(&mut session, flags, output).await,
        Command::Backup(flags) => backup::run(&mut session, flags, output).await,
        Command::Bench(flags) => bench::run(&mut session, flags, output).await,
        Command::Repl { .. } => Err(Error::Usage("a prompt inside of a prompt makes no sense".into())),
        Command::Kubectl { .. } => Err(Error::Usage("kubectl talks to a cluster and not to a server".into())),
        Command::Completion { shell } => manual::completion(shell),
        Command::Man { dir } => manual::pages(dir.as_deref()),
    }
}

/// Runs one command of those that a prompt takes, too.
pub(crate) async fn data(command: DataCommand, session: &mut Session, output: Output) -> Result<(), Error> {
    match command {
        DataCommand::Set { key, value, literal } => {
            let value = ValueSource::of(value, literal).read().await?;
            let key = key.into_vec();
            set(session, key.clone(), value).await?;
            output.done("set", &key)
        }
        DataCommand::Get { key } => {
            let key = key.into_vec();
            let value = get(session, key.clone()).await?;
            output.value(&key, value.as_deref())
        }
        DataCommand::Rm { key } => {
            let key = key.into_vec();
            remove(session, key.clone()).await?;
            output.done("removed", &key)
        }
        DataCommand::Exists { key } => {
            let key = key.into_vec();
            let exists = exists(session, key.clone()).await?;
            output.exists(&key, exists)?;
            if exists { Ok(()) } else { Err(Error::Said(1)) }
        }
        DataCommand::Scan { prefix, limit, values } => scan(session, prefix.into_vec(), limit, values, output).await,
        DataCommand::Count { prefix } => {
            let count = Scan::keys(prefix.into_vec()).count(session).await?;
            output.number("count", count)
        }
        DataCommand::Batch { changes, literal } => {
            let changes = match changes.is_empty() {
                true => changes_of_input().await?,
                false => changes_of_words(changes, literal).await?,
            };
            let count = u64::try_from(changes.len()).expect("a length fits 64 bits");
            session.call(Verb::Batch(changes)).await?;
            output.done_changes(count)
        }
        DataCommand::Status { slow: true, .. } => status::slow(session, output).await,
        DataCommand::Status { watch: false, .. } => status::run(session, output).await,
        DataCommand::Status { watch: true, every, count, .. } => {
            status::watch(session, output, Duration::from_secs(every.into()), count).await
        }
    }
}

async fn set(session: &mut Session, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
    session.call(Verb::Set { key, value }).await.map(|_| ())
}

async fn get(session: &mut Session, key: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
    match session.call(Verb::Get { key }).await? {
        Answer::Null => Ok(None),
        Answer::Bytes(value) => Ok(Some(value)),
        _ => Err(session.unexpected("get")),
    }
}

async fn exists(session: &mut Session, key: Vec<u8>) -> Result<bool, Error> {
    match session.call(Verb::Exists { key }).await? {
        Answer::Bool(exists) => Ok(exists),
        _ => Err(session.unexpected("exists")),
    }
}

async fn remove(session: &mut Session, key: Vec<u8>) -> Result<(), Error> {
    match session.call(Verb::Remove { key }).await {
        Ok(_) => Ok(()),
        Err(Error::Refused { error, .. }) if error.code == ErrorCode::KeyNotFound => Err(Error::KeyNotFound),
        Err(error) => Err(error),
    }
}

async fn scan(
    session: &mut Session,
    prefix: Vec<u8>,
    limit: Option<u64>,
    values: bool,
    output: Output,
) -> Result<(), Error> {
    let mut scan = if values { Scan::entries(prefix) } else { Scan::keys(prefix) };
    let mut left = limit.unwrap_or(u64::MAX);
    let mut written = Vec::new();
    while left > 0
        && let Some(page) = scan.next_page(session, left).await?
    {
        for entry in page {
            if left == 0 {
                break;
            }
            left -= 1;
            output.entry(&mut written, &entry.key, entry.value.as_deref());
            if written.len() >= WRITE_BYTES {
                output::write(&[&written])?;
                written.clear();
            }
        }
        output::write(&[&written])?;
        written.clear();
    }
    Ok(())
}

/// The changes of `set KEY VALUE rm KEY ...`; values come from where `set` takes them, unless all are literal.
async fn changes_of_words(words: Vec<OsString>, literal: bool) -> Result<Vec<Change>, Error> {
    let mut words = words.into_iter();
    let mut changes = Vec::new();
    let mut has_read_input = false;
    while let Some(verb) = words.next() {
        let missing = |what: &str| Error::Usage(format!("batch: `{}` has no {what}", verb.display()));
        match verb.to_str() {
            Some("set") => {
                let key = words.next().ok_or_else(|| missing("KEY"))?.into_vec();
                let value = ValueSource::of(words.next().ok_or_else(|| missing("VALUE"))?, literal);
                if value == ValueSource::Input && std::mem::replace(&mut has_read_input, true) {
                    return Err(Error::Usage("batch: only one value can be `-`, standard input".into()));
                }
                changes.push(Change::Set { key, value: value.read().await? });
            }
            Some("rm") => changes.push(Change::Remove { key: words.next().ok_or_else(|| missing("KEY"))?.into_vec() }),
            _ => {
                let found = verb.display();
                return Err(Error::Usage(format!("batch: want `set KEY VALUE` or `rm KEY`, found '{found}'")));
            }
        }
    }
    Ok(changes)
}

/// The changes of JSON lines on standard input, each as on the wire.
async fn changes_of_input() -> Result<Vec<Change>, Error> {
    let mut input = BufReader::new(standard_input()?.take(MAX_BATCH_INPUT_BYTES));
    let mut changes = Vec::new();
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let read = input.read_until(b'\n', &mut line).await.map_err(|error| cannot_read(INPUT_NAME, &error))?;
        if read == 0 {
            break;
        }
        if line.trim_ascii().is_empty() {
            continue;
        }
        let wrong = |cause: &str| Error::Data(format!("{INPUT_NAME}:{number}: {cause}; nothing was changed"));
        match Request::decode(line.trim_ascii()) {
            Ok(Request { verb: Verb::Set { key, value }, id: None }) => changes.push(Change::Set { key, value }),
            Ok(Request { verb: Verb::Remove { key }, id: None }) => changes.push(Change::Remove { key }),
            Ok(_) => {
                return Err(wrong("want {\"set\":{\"key\":\"..\",\"value\":\"..\"}} or {\"rm\":{\"key\":\"..\"}}"));
            }
            Err(response) => {
                let cause = response.body.err().map_or_else(String::new, |error| error.message);
                // What a server would do next; here is no connection.
                return Err(wrong(cause.trim_end_matches("; the connection is closed")));
            }
        }
        if changes.len() > MAX_BATCH_CHANGES {
            return Err(wrong(&format!("a batch has at most {MAX_BATCH_CHANGES} changes; `import` takes more lines")));
        }
    }
    Ok(changes)
}

/// Proves that a server takes, keeps and gives back. The key is this run's own and is gone afterwards.
async fn check(session: &mut Session, output: Output) -> Result<(), Error> {
    let begin = Instant::now();
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let name = format!("kvs-client/check/{}/{}", std::process::id(), since_epoch.as_nanos());
    let key = name.clone().into_bytes();
    // Bytes that a text protocol could get wrong: control characters, quotes, no UTF-8.
    let value: Vec<u8> = (0..=255).chain(name.bytes()).collect();

    set(session, key.clone(), value.clone()).await?;
    let found = get(session, key.clone()).await;
    // Removed before the comparison, so that nothing stays behind when it fails.
    let removed = remove(session, key.clone()).await;
    if found? != Some(value) {
        return Err(Error::Data(format!("{} gave back another value than was set under '{name}'", session.place())));
    }
    removed?;
    if get(session, key).await?.is_some() {
        return Err(Error::Data(format!("{} still has '{name}' after it was removed", session.place())));
    }
    let place = session.place();
    let milliseconds = begin.elapsed().as_millis();
    let text = format!("ok: {place} set, read, compared and removed a key in {milliseconds} ms");
    output.report(&text, &json!({"ok": true, "place": place, "milliseconds": begin.elapsed().as_secs_f64() * 1e3}))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn changes(line: &str) -> Result<Vec<Change>, Error> {
        let words = changes_of_words(line.split_whitespace().map(OsString::from).collect(), true);
        words.now_or_never().expect("literal values are there already")
    }

    #[test]
    fn the_words_of_a_batch_are_changes() {
        let set = |key: &str, value: &str| Change::Set { key: key.into(), value: value.into() };
        let all = changes("set a 1 rm set set rm rm").unwrap();
        assert_eq!(all, [set("a", "1"), Change::Remove { key: b"set".to_vec() }, set("rm", "rm")]);
        for wrong in ["set", "set a", "rm", "get a", "set a 1 2"] {
            assert!(matches!(changes(wrong), Err(Error::Usage(_))), "{wrong}");
        }
    }
}
