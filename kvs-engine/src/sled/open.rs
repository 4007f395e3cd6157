//! Opening sled's own files, and sled's errors as ours.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// How long to wait for sled's own lock on its file. Threads of sled can hold it a moment after a store was closed.
const SLED_LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// How often to try within that time.
const SLED_LOCK_RETRY: Duration = Duration::from_millis(20);

/// Opens sled's own files, with so many bytes of memory for its pages; the folder's lock must be held.
pub(super) fn open_sled(folder: &Path, cache_bytes: u64) -> Result<::sled::Db> {
    let deadline = Instant::now() + SLED_LOCK_TIMEOUT;
    loop {
        let config = ::sled::Config::new().path(folder).cache_capacity(cache_bytes);
        // sled's start asserts where a check would do; a damaged file must end in an error, not in a panic.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(error)) if !is_lock_failure(&error) => return Err(from_sled(folder, error)),
            Ok(Err(_)) if Instant::now() < deadline => thread::sleep(SLED_LOCK_RETRY),
            Ok(Err(_)) => return Err(Error::Locked { folder: folder.to_owned() }),
            Err(panic) => {
                let reason =
                    format!("cannot open {}: it panicked: {}", folder.display(), super::panic_message(&*panic));
                return Err(Error::Sled(reason));
            }
        }
    }
}

/// Whether sled found its file locked. It says so in words only; version 0.34 is final, so they stay.
fn is_lock_failure(error: &::sled::Error) -> bool {
    matches!(error, ::sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// sled's error as ours.
pub(super) fn from_sled(folder: &Path, error: ::sled::Error) -> Error {
    match error {
        ::sled::Error::Io(source) => Error::io(format!("sled in {}", folder.display()), source),
        ::sled::Error::Corruption { at, .. } => Error::Corruption {
            file: folder.join("db"),
            offset: at.map_or(0, |pointer| pointer.lid()),
            sequence: 0,
            reason: "sled cannot read what it wrote (it keeps no sequence numbers)".into(),
        },
        error => Error::Sled(error.to_string()),
    }
}
