//! What each command does.

use std::io::{self, Write as _};
use std::os::unix::ffi::OsStringExt as _;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use kvs_protocol::{Answer, ErrorCode, Verb};

use crate::arguments::Command;
use crate::error::Error;
use crate::import;
use crate::session::Session;

/// Runs one command to its end.
pub(crate) async fn run(command: Command, mut session: Session) -> Result<(), Error> {
    match command {
        Command::Set { key, value } => set(&mut session, key.into_vec(), value.into_vec()).await,
        Command::Get { key } => {
            let value = get(&mut session, key.into_vec()).await?;
            print(value.as_deref().unwrap_or(b"Key not found"))
        }
        Command::Rm { key } => remove(&mut session, key.into_vec()).await,
        Command::Check => check(&mut session).await,
        Command::Import { file } => import::run(&mut session, &file).await,
    }
}

async fn set(session: &mut Session, key: Vec<u8>, value: Vec<u8>) -> Result<(), Error> {
    session.call(Verb::Set { key, value }).await.map(|_| ())
}

async fn get(session: &mut Session, key: Vec<u8>) -> Result<Option<Vec<u8>>, Error> {
    match session.call(Verb::Get { key }).await? {
        Answer::Null => Ok(None),
        Answer::Bytes(value) => Ok(Some(value)),
        Answer::Bool(_) => {
            Err(Error::NotAServer { place: session.place(), cause: "`get` was answered with a truth value".into() })
        }
    }
}

async fn remove(session: &mut Session, key: Vec<u8>) -> Result<(), Error> {
    match session.call(Verb::Remove { key }).await {
        Ok(_) => Ok(()),
        Err(Error::Refused { error, .. }) if error.code == ErrorCode::KeyNotFound => Err(Error::KeyNotFound),
        Err(error) => Err(error),
    }
}

/// Proves that a server takes, keeps and gives back. The key is this run's own and is gone afterwards.
async fn check(session: &mut Session) -> Result<(), Error> {
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
    let milliseconds = begin.elapsed().as_millis();
    print(format!("ok: {} set, read, compared and removed a key in {milliseconds} ms", session.place()).as_bytes())
}

/// Writes one line of any bytes to standard output.
fn print(bytes: &[u8]) -> Result<(), Error> {
    let mut output = io::stdout().lock();
    output.write_all(bytes).and_then(|()| output.write_all(b"\n")).and_then(|()| output.flush()).map_err(Error::Output)
}
