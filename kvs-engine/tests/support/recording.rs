//! A storage that notes every call that changes or syncs something, with what writers were told in between; and its
//! player, which does the calls again, up to any of them.
//!
//! What must hold: the notes are in the order in which the calls took effect; an answer is noted after it was given,
//! a request before it was made. So at each note it is certain what had been acknowledged.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use kvs_engine::storage::{MemoryStorage, Storage, StorageFile};

use super::Model;
use super::workload::{Change, apply};

/// One note.
#[derive(Debug, Clone)]
pub(crate) enum Note {
    /// A file was created or opened; later notes name it by its number.
    Create(String, usize),
    Open(String, usize),
    Write(usize, u64, Vec<u8>),
    SetLength(usize, u64),
    Sync(usize),
    Rename(String, String),
    Remove(String),
    SyncFolder,
    /// A writer asks for changes that take effect together.
    Asked(usize, Vec<Change>),
    /// A writer was told that its changes are durable.
    Answered(usize),
}

#[derive(Default)]
struct Notes {
    notes: Vec<Note>,
    files: usize,
}

/// A folder in memory whose calls are noted. Clones are the same folder.
#[derive(Clone)]
pub(crate) struct Recording {
    inner: MemoryStorage,
    /// Held across each call, so that notes and effects have one order.
    notes: Arc<Mutex<Notes>>,
}

impl Recording {
    pub(crate) fn new(inner: MemoryStorage) -> Self {
        Self { inner, notes: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().expect("nobody panics with it")
    }

    /// Notes what a writer is about to ask for, or was answered.
    pub(crate) fn note(&self, note: Note) {
        self.lock().notes.push(note);
    }

    /// All notes up to now.
    pub(crate) fn notes(&self) -> Vec<Note> {
        self.lock().notes.clone()
    }

    /// Does a call and notes it, if it went well.
    fn noted<T>(&self, note: Note, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut notes = self.lock();
        let result = call();
        if result.is_ok() {
            notes.notes.push(note);
        }
        result
    }

    fn file(
        &self,
        note: impl FnOnce(usize) -> Note,
        call: impl FnOnce() -> io::Result<Arc<dyn StorageFile>>,
    ) -> io::Result<Arc<dyn StorageFile>> {
        let mut notes = self.lock();
        let inner = call()?;
        let number = notes.files;
        notes.files += 1;
        notes.notes.push(note(number));
        Ok(Arc::new(RecordedFile { inner, number, recording: self.clone() }))
    }
}

impl Storage for Recording {
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.inner.lock()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.file(|number| Note::Create(name.to_owned(), number), || self.inner.create(name))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.file(|number| Note::Open(name.to_owned(), number), || self.inner.open(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.noted(Note::Rename(from.to_owned(), to.to_owned()), || self.inner.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.noted(Note::Remove(name.to_owned()), || self.inner.remove(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        self.noted(Note::SyncFolder, || self.inner.sync_folder())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.inner.path(name)
    }
}

struct RecordedFile {
    inner: Arc<dyn StorageFile>,
    number: usize,
    recording: Recording,
}

impl StorageFile for RecordedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let note = Note::Write(self.number, offset, bytes.to_vec());
        self.recording.noted(note, || self.inner.write_at(bytes, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.recording.noted(Note::Sync(self.number), || self.inner.sync_data())
    }

    fn links(&self) -> io::Result<u64> {
        self.inner.links()
    }

    fn length(&self) -> io::Result<u64> {
        self.inner.length()
    }

    fn set_length(&self, bytes: u64) -> io::Result<()> {
        self.recording.noted(Note::SetLength(self.number, bytes), || self.inner.set_length(bytes))
    }
}

/// Plays notes on a folder, and knows what had been acknowledged.
pub(crate) struct Player {
    pub(crate) disk: MemoryStorage,
    files: HashMap<usize, Arc<dyn StorageFile>>,
    writers: BTreeMap<usize, Writer>,
}

/// What one writer, whose keys nobody else changes, can rely on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writer {
    acknowledged: Model,
    asked: Option<Vec<Change>>,
}

impl Writer {
    /// Whether what was found of the writer's keys is what was acknowledged, or that and all of what was asked for.
    fn allows(&self, found: &Model) -> bool {
        if *found == self.acknowledged {
            return true;
        }
        let Some(changes) = &self.asked else { return false };
        let mut next = self.acknowledged.clone();
        apply(&mut next, changes);
        *found == next
    }
}

/// What writers can rely on at one moment.
pub(crate) type Promises = BTreeMap<usize, Writer>;

/// What is wrong with what was found, if anything. Keys begin with their writer's number and a slash.
pub(crate) fn broken_promise(promises: &Promises, found: &Model) -> Option<String> {
    let of = |writer: usize| -> Model {
        let prefix = format!("{writer}/");
        found
            .iter()
            .filter(|(key, _)| key.starts_with(&prefix))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    };
    let broken = promises.iter().find(|(number, writer)| !writer.allows(&of(**number)))?;
    Some(format!("writer {} has {:#?} and finds {:#?}", broken.0, broken.1, of(*broken.0)))
}

impl Player {
    pub(crate) fn new(disk: MemoryStorage) -> Self {
        Self { disk, files: HashMap::new(), writers: BTreeMap::new() }
    }

    pub(crate) fn promises(&self) -> Promises {
        self.writers.clone()
    }

    /// Does what a note says; returns whether that changed the folder.
    pub(crate) fn play(&mut self, note: &Note) -> bool {
        const WENT_WELL: &str = "it went well when it was recorded";
        match note {
            Note::Create(name, number) => drop(self.files.insert(*number, self.disk.create(name).expect(WENT_WELL))),
            Note::Open(name, number) => {
                self.files.insert(*number, self.disk.open(name).expect(WENT_WELL));
                return false;
            }
            Note::Write(file, offset, bytes) => {
                self.files[file].write_at(bytes, *offset).expect(WENT_WELL);
            }
            Note::SetLength(file, bytes) => self.files[file].set_length(*bytes).expect(WENT_WELL),
            Note::Sync(file) => self.files[file].sync_data().expect(WENT_WELL),
            Note::Rename(from, to) => self.disk.rename(from, to).expect(WENT_WELL),
            Note::Remove(name) => self.disk.remove(name).expect(WENT_WELL),
            Note::SyncFolder => self.disk.sync_folder().expect(WENT_WELL),
            Note::Asked(writer, changes) => {
                self.writers.entry(*writer).or_default().asked = Some(changes.clone());
                return false;
            }
            Note::Answered(writer) => {
                let writer = self.writers.get_mut(writer).expect("it asked before");
                let changes = writer.asked.take().expect("it asked before");
                apply(&mut writer.acknowledged, &changes);
                // An answer changes what is promised: the same folder is another state now.
                return true;
            }
        }
        true
    }
}
