//! `export`: every entry of a store into a file or a pipe, in the form that `import` reads.
//!
//! What must hold: a file of the name that was asked for is whole; until then it is called FILE.partial. A key that is
//! there during the whole export comes once. When the server was started anew meanwhile, its cursors are of no use any
//! more: a file is begun anew, a pipe is an error, because what is in it can't be taken back.

use std::ffi::OsString;
use std::io::{self, SeekFrom};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use kvs_protocol::{Entry, ErrorCode, write_bytes_field};
use serde_json::json;
use tokio::fs::{self, File, OpenOptions};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

use crate::arguments::{ExportFlags, FileFormat};
use crate::error::Error;
use crate::escape;
use crate::import::csv;
use crate::output::{Format, Output, say};
use crate::progress::Progress;
use crate::resume::{Note, NoteFile};
use crate::scan::Scan;
use crate::session::Session;

/// How often an export into a file is begun anew because the server was.
const MAX_BEGINNINGS: u32 = 5;

/// Exports into a file, or to standard output if it is called `-`.
pub(crate) async fn run(session: &mut Session, flags: ExportFlags, output: Output) -> Result<(), Error> {
    let ExportFlags { file, prefix, format, resume } = flags;
    let prefix = prefix.into_vec();
    let format = FileFormat::of(format, Some(&file));
    let sink = if file == Path::new("-") {
        if resume {
            return Err(Error::Usage("--resume needs a file, not standard output".into()));
        }
        Sink::Pipe(standard_output()?)
    } else {
        Sink::File(Box::new(Partial::open(file, resume, &what(format, &prefix), session.target_name()).await?))
    };
    // Counting the keys of a prefix takes as long as exporting them: there, nobody knows how long it takes.
    let total = if prefix.is_empty() { Some(Scan::keys(Vec::new()).count(session).await?) } else { None };
    let start = sink.note().map_or(0, |note| note.lines);
    let mut export = Export { prefix, format, sink, progress: Progress::new("exported", start, total) };
    let result = export.run(session).await;
    export.progress.finish();
    result?;
    if output.format == Format::Json && matches!(export.sink, Sink::File(_)) {
        let elapsed = export.progress.elapsed();
        let (exported, rate) = (export.progress.keys(), export.progress.rate(elapsed));
        let object = json!({"exported": exported, "seconds": elapsed.as_secs_f64(), "keys_per_second": rate});
        output.report("", &object)?;
    }
    Ok(())
}

/// What must be the same when an export goes on.
fn what(format: FileFormat, prefix: &[u8]) -> String {
    let format = match format {
        FileFormat::Jsonl => "jsonl",
        FileFormat::Csv => "csv",
    };
    format!("export {format} of '{}'", escape::bytes(prefix))
}

/// An export under way.
struct Export {
    prefix: Vec<u8>,
    format: FileFormat,
    sink: Sink,
    progress: Progress,
}

/// Where the entries go.
enum Sink {
    Pipe(File),
    File(Box<Partial>),
}

impl Export {
    async fn run(&mut self, session: &mut Session) -> Result<(), Error> {
        for _ in 0..MAX_BEGINNINGS {
            match self.scan(session).await {
                Err(error) if is_stale_cursor(&error) => self.begin_anew(&error).await?,
                Err(error) => return Err(error),
                Ok(()) => return self.sink.finish().await,
            }
        }
        Err(Error::Data(format!(
            "the server was started anew {MAX_BEGINNINGS} times during the export; try again later"
        )))
    }

    async fn scan(&mut self, session: &mut Session) -> Result<(), Error> {
        let cursor = self.sink.note().and_then(|note| note.cursor.clone());
        let mut written = Vec::new();
        if cursor.is_none() && self.format == FileFormat::Csv {
            written.extend_from_slice(csv::HEADER);
        }
        let mut scan = Scan::entries(self.prefix.clone()).behind(cursor);
        let mut keys = self.sink.note().map_or(0, |note| note.lines);
        while let Some(page) = scan.next_page(session, u64::MAX).await? {
            for entry in page {
                write_entry(&mut written, self.format, &entry);
                keys += 1;
                self.progress.count(keys);
            }
            self.sink.write(&written, keys, scan.cursor()).await?;
            written.clear();
        }
        // The header of an empty store.
        self.sink.write(&written, keys, None).await
    }

    async fn begin_anew(&mut self, error: &Error) -> Result<(), Error> {
        match &mut self.sink {
            Sink::Pipe(_) => Err(Error::Data(format!(
                "the server was started anew during the export ({error}); export into a file, which can be begun anew"
            ))),
            Sink::File(partial) => {
                say("the server was started anew during the export; beginning anew");
                self.progress.restart();
                partial.begin_anew().await
            }
        }
    }
}

/// Whether the server does not know its cursor any more.
fn is_stale_cursor(error: &Error) -> bool {
    matches!(error, Error::Refused { error, .. } if error.code == ErrorCode::InvalidRequest)
}

/// Appends an entry as `import` reads it.
fn write_entry(out: &mut Vec<u8>, format: FileFormat, entry: &Entry) {
    let value = entry.value.as_deref().unwrap_or_default();
    match format {
        FileFormat::Csv => csv::write_entry(out, &entry.key, value),
        FileFormat::Jsonl => {
            out.push(b'{');
            write_bytes_field(out, "key", &entry.key);
            out.push(b',');
            write_bytes_field(out, "value", value);
            out.extend_from_slice(b"}\n");
        }
    }
}

impl Sink {
    fn note(&self) -> Option<&Note> {
        match self {
            Self::Pipe(_) => None,
            Self::File(partial) => Some(&partial.note),
        }
    }

    async fn write(&mut self, bytes: &[u8], keys: u64, cursor: Option<&str>) -> Result<(), Error> {
        match self {
            Self::Pipe(pipe) => {
                pipe.write_all(bytes).await.map_err(Error::Output)?;
                pipe.flush().await.map_err(Error::Output)
            }
            Self::File(partial) => partial.write(bytes, keys, cursor).await,
        }
    }

    async fn finish(&mut self) -> Result<(), Error> {
        match self {
            Self::Pipe(_) => Ok(()),
            Self::File(partial) => partial.finish().await,
        }
    }
}

/// A file that is not whole yet.
struct Partial {
    /// The name that it gets when it is.
    path: PathBuf,
    partial: PathBuf,
    file: File,
    note: Note,
    /// Where the note is kept, if another run is to go on from there.
    notes: Option<NoteFile>,
}

impl Partial {
    async fn open(path: PathBuf, resume: bool, what: &str, place: String) -> Result<Self, Error> {
        if fs::try_exists(&path).await.unwrap_or(true) {
            let name = path.display();
            return Err(Error::Data(format!("{name} exists; remove it, or name a file that does not")));
        }
        let notes = resume.then(|| NoteFile::beside(&path));
        let found = notes.as_ref().map(|notes| notes.read(what, &place)).transpose()?.flatten();
        let first = Note { what: what.to_owned(), place, bytes: 0, lines: 0, file: None, cursor: None };
        let note = found.unwrap_or(first);
        let mut name: OsString = path.clone().into_os_string();
        name.push(".partial");
        let partial = PathBuf::from(name);
        let mut options = OpenOptions::new();
        let opened = options.write(true).create(true).truncate(note.bytes == 0).open(&partial).await;
        let file = opened.map_err(|error| cannot_write(&partial, &error))?;
        let mut this = Self { path, partial, file, note, notes };
        let length = this.file.metadata().await.map_err(|error| cannot_write(&this.partial, &error))?.len();
        if length < this.note.bytes {
            // What the note speaks of is gone.
            this.begin_anew().await?;
        } else if this.note.bytes > 0 {
            // Behind it stands what came after the note; it comes again.
            this.cut(this.note.bytes).await?;
            say(&format!("going on behind {} keys in {}", this.note.lines, this.partial.display()));
        }
        Ok(this)
    }

    async fn begin_anew(&mut self) -> Result<(), Error> {
        (self.note.bytes, self.note.lines, self.note.cursor) = (0, 0, None);
        self.cut(0).await
    }

    async fn cut(&mut self, bytes: u64) -> Result<(), Error> {
        let cut = async {
            self.file.set_len(bytes).await?;
            self.file.seek(SeekFrom::Start(bytes)).await
        };
        cut.await.map(|_| ()).map_err(|error| cannot_write(&self.partial, &error))
    }

    async fn write(&mut self, bytes: &[u8], keys: u64, cursor: Option<&str>) -> Result<(), Error> {
        self.file.write_all(bytes).await.map_err(|error| cannot_write(&self.partial, &error))?;
        self.note.bytes += u64::try_from(bytes.len()).expect("a length fits 64 bits");
        self.note.lines = keys;
        self.note.cursor = cursor.map(str::to_owned);
        if let Some(notes) = &mut self.notes
            && notes.is_due()
            && cursor.is_some()
        {
            // On the disk before the note says so.
            self.file.flush().await.map_err(|error| cannot_write(&self.partial, &error))?;
            self.file.sync_data().await.map_err(|error| cannot_write(&self.partial, &error))?;
            notes.write(&self.note)?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Error> {
        let finish = async {
            self.file.flush().await?;
            self.file.sync_all().await?;
            fs::rename(&self.partial, &self.path).await
        };
        finish.await.map_err(|error| cannot_write(&self.path, &error))?;
        self.notes.as_ref().map_or(Ok(()), NoteFile::remove)
    }
}

/// Standard output as a file of its own, which is written on a thread that may wait: an interruption is heard meanwhile.
fn standard_output() -> Result<File, Error> {
    let duplicate = io::stdout().as_fd().try_clone_to_owned().map_err(Error::Output)?;
    Ok(File::from_std(std::fs::File::from(duplicate)))
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::Data(format!("cannot write {}: {error}", path.display()))
}
