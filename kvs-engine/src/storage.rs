//! All file I/O of the `kvs` engine goes through [`Storage`], so that a test can lose, tear or refuse any of it.
//!
//! What must hold for an implementation, and what the engine relies on:
//! * bytes are on stable storage only after [`StorageFile::sync_data`] of that file returned;
//! * a created, renamed or removed name is on stable storage only after [`Storage::sync_folder`] returned;
//! * a call that failed may have done part of its work.

mod faulty;
mod memory;
mod real;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use faulty::{Fault, FaultKind, FaultyStorage};
pub use memory::MemoryStorage;
pub use real::RealStorage;

/// One flat folder of files. Names are plain file names, without a path.
pub trait Storage: Send + Sync + 'static {
    /// Takes the folder for this process until the returned guard is dropped; `None` when another one has it.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn lock(&self) -> io::Result<Option<Box<dyn Send + Sync>>>;

    /// Creates a file that must not exist yet, for reading and writing.
    ///
    /// # Errors
    /// `AlreadyExists`, or whatever the file system says.
    fn create(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// `NotFound`, or whatever the file system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn StorageFile>>;

    /// Opens an existing file for reading only, so that a folder that can't be written can be looked at.
    ///
    /// # Errors
    /// `NotFound`, or whatever the file system says.
    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn StorageFile>> {
        self.open(name)
    }

    /// Gives an existing file of another folder a name here as well. Both names are one file then, which neither folder
    /// may write any more.
    ///
    /// # Errors
    /// `Unsupported` where there are no hard links, `CrossesDevices`, or whatever else the file system says.
    fn link_from(&self, path: &Path, name: &str) -> io::Result<()> {
        let _ = (path, name);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The names of all files in the folder, in no order.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Renames a file, over another one if there is one, in one step.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name; those who have it open still read it.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all names in the folder as durable as they are now.
    ///
    /// # Errors
    /// Whatever the file system says; the names are in doubt then.
    fn sync_folder(&self) -> io::Result<()>;

    /// The full path of a name, for messages to people.
    fn path(&self, name: &str) -> PathBuf;
}

/// Bytes of a file in memory. To be copied before they are looked at: what they show can fail to be there.
pub type Mapped = Box<dyn AsRef<[u8]> + Send + Sync>;

/// One open file. All methods take `&self`: positions are explicit and the engine orders its own writes.
pub trait StorageFile: Send + Sync + 'static {
    /// Reads into `buffer` from `offset`; returns how many bytes, zero at the end of the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes some of `bytes` at `offset`; returns how many.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;

    /// Makes the file's bytes and its length durable.
    ///
    /// # Errors
    /// Whatever the device says. After an error nothing is known about any byte written since the last success, and
    /// trying again proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    /// Lets the device begin with bytes that were written, so that a later [`sync_data`](Self::sync_data) has little
    /// left to do and those who sync other files meanwhile do not wait behind megabytes. Promises nothing.
    fn begin_writeback(&self, _offset: u64, _bytes: u64) {}

    /// Takes space for so many bytes from the beginning and makes the file at least so long; what was never written
    /// reads as zero. Where that can't be had, the caller writes zeros.
    ///
    /// # Errors
    /// `Unsupported`, or whatever the file system says.
    fn reserve(&self, _bytes: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The bytes of the file as they are from now on: only for one that is neither written nor cut any more. `None`
    /// where that can't be had; reading still works.
    fn map(&self) -> Option<Mapped> {
        None
    }

    /// How many names the file has: one that has several is shared with another folder.
    ///
    /// # Errors
    /// `Unsupported`: it may be shared; or whatever the file system says.
    fn links(&self) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The file's length in bytes.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn length(&self) -> io::Result<u64>;

    /// Cuts or extends (with zeros) the file.
    ///
    /// # Errors
    /// Whatever the file system says.
    fn set_length(&self, bytes: u64) -> io::Result<()>;
}

/// How often one read or write is tried again after it was interrupted: signals are rare, and a file that only ever
/// says so must not keep a thread for ever.
const MAX_INTERRUPTIONS: u32 = 100;

/// Fills `buffer` from `offset`.
///
/// # Errors
/// `UnexpectedEof` when the file ends before; whatever the file system says.
pub(crate) fn read_exact_at(file: &dyn StorageFile, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    let mut interruptions = 0;
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                buffer = &mut buffer[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted && interruptions < MAX_INTERRUPTIONS => {
                interruptions += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`. A short write is gone on with, an interrupted one is tried again: neither says
/// anything about the bytes. Every other error is the caller's.
///
/// # Errors
/// `WriteZero` when the file takes nothing more; whatever the file system says.
pub(crate) fn write_all_at(file: &dyn StorageFile, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    let mut interruptions = 0;
    while !bytes.is_empty() {
        match file.write_at(bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted && interruptions < MAX_INTERRUPTIONS => {
                interruptions += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The first `length` bytes of a file.
///
/// # Errors
/// As [`read_exact_at`].
pub(crate) fn read_all(file: &dyn StorageFile, length: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(length).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut bytes = vec![0; length];
    read_exact_at(file, &mut bytes, 0)?;
    Ok(bytes)
}
