//! `BackupStream`: a backup on its way to a client, and the [`Storage`] that the engine writes it into.
//!
//! What must hold: the engine's own way of making backups is used, with all its checks; what is made waits in a channel
//! of [`STREAM_PARTS`] parts, so that a slow client makes the thread of its backup wait, and nobody else; when the client
//! is gone, the thread ends with the next part.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread;

use kvs_engine::storage::{Storage, StorageFile};
use kvs_protocol::limits::BACKUP_PART_BYTES;
use kvs_protocol::{BackupEnd, BackupPart, ErrorCode, WireError};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::identity::IDENTITY_NAME;
use crate::limits::{MAX_BACKUPS, STREAM_PARTS};
use crate::operation::code_of;
use crate::store::Store;

type Part = Result<BackupPart, WireError>;

/// The parts of a backup, as they are made.
#[derive(Debug)]
pub(crate) struct BackupStream {
    parts: Receiver<Part>,
}

impl BackupStream {
    /// The next part; `None` after the last one.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Part>> {
        self.parts.poll_recv(context)
    }
}

/// Makes backups, a few at a time.
pub(crate) struct Backups {
    slots: Arc<Semaphore>,
}

impl Default for Backups {
    fn default() -> Self {
        Self { slots: Arc::new(Semaphore::new(MAX_BACKUPS)) }
    }
}

impl Backups {
    /// Begins a backup on a thread of its own.
    ///
    /// # Errors
    /// [`ErrorCode::Busy`] while others are being made.
    pub(crate) fn begin(&self, store: &Arc<dyn Store>) -> Result<BackupStream, WireError> {
        let busy = || WireError::new(ErrorCode::Busy, "another backup is being made; try again later");
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| busy())?;
        let (sender, parts) = channel(STREAM_PARTS);
        let store = Arc::clone(store);
        let started = thread::Builder::new().name("kvs-backup".to_owned()).spawn(move || run(&*store, sender, slot));
        match started {
            Ok(_) => Ok(BackupStream { parts }),
            Err(error) => {
                tracing::error!(%error, "cannot start the thread of a backup");
                Err(WireError::new(ErrorCode::Busy, "there is no thread for a backup now; try again later"))
            }
        }
    }
}

fn run(store: &dyn Store, sender: Sender<Part>, slot: OwnedSemaphorePermit) {
    let target = StreamStorage { stream: Arc::new(Mutex::new(Stream::new(sender.clone()))) };
    let last = match store.backup_into(&target, &[IDENTITY_NAME]) {
        Ok(backup) => {
            let Stream { files, bytes, crc32c, .. } = *target.stream.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(BackupPart::End(BackupEnd { files, bytes, crc32c, last_sequence: backup.last_sequence }))
        }
        Err(error) => Err(WireError::new(code_of(&error), error.to_string())),
    };
    // Before the last word, so that who has heard it may ask for the next backup.
    drop(slot);
    // A client that is gone needs no last word.
    let _ = sender.blocking_send(last);
}

/// Where the engine writes: files become parts, in the order in which they are written.
struct StreamStorage {
    stream: Arc<Mutex<Stream>>,
}

/// What was sent.
struct Stream {
    sender: Sender<Part>,
    /// Files that get their final name by being renamed: held until then. Manifests, which are short.
    staged: HashMap<String, Vec<u8>>,
    files: u64,
    bytes: u64,
    crc32c: u32,
}

/// A file that is written once, from its beginning to its end.
struct StreamFile {
    stream: Arc<Mutex<Stream>>,
    name: String,
}

/// Names that end so are renamed when they are complete.
const STAGED_SUFFIX: &str = ".new";

impl Stream {
    fn new(sender: Sender<Part>) -> Self {
        Self { sender, staged: HashMap::new(), files: 0, bytes: 0, crc32c: 0 }
    }

    fn send(&mut self, part: BackupPart) -> io::Result<()> {
        self.sender.blocking_send(Ok(part)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn begin(&mut self, name: &str) -> io::Result<()> {
        self.files += 1;
        self.send(BackupPart::File(name.to_owned()))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        for piece in bytes.chunks(BACKUP_PART_BYTES) {
            self.bytes += piece.len() as u64;
            self.crc32c = crc32c::crc32c_append(self.crc32c, piece);
            self.send(BackupPart::Data(piece.to_vec()))?;
        }
        Ok(())
    }
}

impl Storage for StreamStorage {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        Ok(Some(Box::new(())))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        if name.ends_with(STAGED_SUFFIX) {
            stream.staged.insert(name.to_owned(), Vec::new());
        } else {
            stream.begin(name)?;
        }
        Ok(Arc::new(StreamFile { stream: Arc::clone(&self.stream), name: name.to_owned() }))
    }

    fn open(&self, _name: &str) -> io::Result<Arc<dyn StorageFile>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = stream.staged.remove(from).ok_or(io::ErrorKind::NotFound)?;
        stream.begin(to)?;
        stream.put(&bytes)
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    /// Who receives the stream makes it durable.
    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("the client").join(name)
    }
}

impl StorageFile for StreamFile {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, bytes: &[u8], _offset: u64) -> io::Result<usize> {
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        match stream.staged.get_mut(&self.name) {
            Some(staged) => staged.extend_from_slice(bytes),
            None => stream.put(bytes)?,
        }
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn set_length(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
