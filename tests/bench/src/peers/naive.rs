//! The store of the textbook: a `HashMap` from key to place, a `BufWriter`, one line of serde_json for each change.
//! No checksum, no sync, no compaction; what its writer's buffer holds when the process is killed is lost.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::data::Data;
use crate::peer::{Peer, Reader};

#[derive(Serialize, Deserialize)]
enum Line {
    Set { key: String, value: String },
    Remove { key: String },
}

/// Where a line lies in the file.
#[derive(Clone, Copy)]
struct Pointer {
    offset: u64,
    bytes: u64,
}

struct State {
    index: HashMap<String, Pointer>,
    writer: BufWriter<File>,
    end: u64,
}

struct Naive {
    path: PathBuf,
    state: Mutex<State>,
}

/// Opens the store and reads its whole log.
pub fn open(folder: &Path) -> Result<Box<dyn Peer>> {
    let path = folder.join("log.json");
    let file = OpenOptions::new().create(true).append(true).read(true).open(&path)?;
    let mut reader = BufReader::new(File::open(&path)?);
    let mut index = HashMap::new();
    let (mut end, mut line) = (0, String::new());
    loop {
        line.clear();
        let bytes = reader.read_line(&mut line)? as u64;
        // A line without its end is what a kill left of the last one.
        if !line.ends_with('\n') {
            break;
        }
        match serde_json::from_str(&line)? {
            Line::Set { key, .. } => index.insert(key, Pointer { offset: end, bytes }),
            Line::Remove { key } => index.remove(&key),
        };
        end += bytes;
    }
    file.set_len(end)?;
    Ok(Box::new(Naive { path, state: Mutex::new(State { index, writer: BufWriter::new(file), end }) }))
}

fn text(bytes: &[u8]) -> Result<String> {
    Ok(String::from_utf8(bytes.to_vec())?)
}

impl Naive {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, line: &Line) -> Result<Pointer> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.writer.write_all(&bytes)?;
        let pointer = Pointer { offset: self.end, bytes: bytes.len() as u64 };
        self.end += pointer.bytes;
        Ok(pointer)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let line = Line::Set { key: text(key)?, value: text(value)? };
        let pointer = self.append(&line)?;
        if let Line::Set { key, .. } = line {
            self.index.insert(key, pointer);
        }
        Ok(())
    }
}

impl Peer for Naive {
    fn set_durable(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let mut state = self.lock();
        state.set(key, value)?;
        Ok(state.writer.flush()?)
    }

    fn batch_durable(&self, data: &Data, indexes: &[u64], version: u64) -> Result<()> {
        let mut state = self.lock();
        for index in indexes {
            state.set(&data.key(*index), data.value(*index, version))?;
        }
        Ok(state.writer.flush()?)
    }

    fn remove_durable(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        let mut state = self.lock();
        for index in indexes {
            let key = text(&data.key(index))?;
            state.index.remove(&key);
            state.append(&Line::Remove { key })?;
        }
        Ok(state.writer.flush()?)
    }

    fn bulk_load(&self, data: &Data, indexes: Range<u64>) -> Result<()> {
        let mut state = self.lock();
        for index in indexes {
            state.set(&data.key(index), data.value(index, 0))?;
        }
        Ok(state.writer.flush()?)
    }

    fn reader(&self) -> Result<Box<dyn Reader + '_>> {
        Ok(Box::new(NaiveReader { store: self, file: File::open(&self.path)? }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.lock().writer.flush()?)
    }
}

struct NaiveReader<'a> {
    store: &'a Naive,
    file: File,
}

impl Reader for NaiveReader<'_> {
    fn get(&mut self, key: &[u8], see: &mut dyn FnMut(&[u8])) -> Result<bool> {
        let Some(pointer) = self.store.lock().index.get(std::str::from_utf8(key)?).copied() else { return Ok(false) };
        self.file.seek(SeekFrom::Start(pointer.offset))?;
        // Exactly as the textbook has it: parsed straight from a reader that ends with the line.
        match serde_json::from_reader(BufReader::new((&self.file).take(pointer.bytes)))? {
            Line::Set { value, .. } => see(value.as_bytes()),
            Line::Remove { .. } => return Ok(false),
        }
        Ok(true)
    }
}
