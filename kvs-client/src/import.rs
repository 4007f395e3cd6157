//! `import`: JSON lines into a store, pipelined over one connection.
//!
//! What must hold: keys are set in the order of the lines, so that the last line of a key wins; a line is counted when
//! its answer has come; what has no answer yet is in the window, and is sent again when the connection broke. Nothing
//! is sent again while an earlier sending of it can still be on its way to the same server: after a `busy`, all
//! answers are awaited first. What is noted for another run is stored, and so is everything before it. Answers are
//! taken while the input is waited for, so that a person who types hears of a refusal; and no time runs out meanwhile.

pub(crate) mod csv;
mod lines;
mod window;

use std::path::Path;
use std::time::Duration;

use futures::FutureExt as _;
use kvs_protocol::{ClientError, ErrorCode, Request, Response, WireError};
use serde_json::json;
use tokio::fs::File;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use crate::arguments::{FileFormat, ImportFlags};
use crate::connection::Connection;
use crate::error::{Error, is_about_data};
use crate::output::{Format, Output, say};
use crate::progress::Progress;
use crate::resume::{Note, NoteFile, mark_of};
use crate::retry::Retry;
use crate::session::{Session, broken};
use crate::value;

use lines::Lines;
use window::{Entry, Window};

/// Imports a file, or standard input if it is called `-`.
pub(crate) async fn run(session: &mut Session, flags: ImportFlags, output: Output) -> Result<(), Error> {
    let ImportFlags { file, format, resume } = flags;
    if resume && file == Path::new("-") {
        return Err(Error::Usage("--resume needs a file that can be read again, not standard input".into()));
    }
    let (input, name) = value::open(&file).await?;
    let metadata = input.metadata().await.ok().filter(std::fs::Metadata::is_file);
    let format = FileFormat::of(format, Some(&file));
    let mut lines = Lines::new(input, name.clone(), format);
    let notes = if resume {
        let Some(metadata) = &metadata else {
            return Err(Error::Usage(format!("--resume needs a file that can be read again, and {name} is none")));
        };
        Some(Notes::find(&file, &name, mark_of(metadata), format, session.target_name())?)
    } else {
        None
    };
    let start = notes.as_ref().map_or(0, |notes| notes.note.bytes);
    if let Some(notes) = &notes
        && start > 0
    {
        lines.go_on(start, notes.note.lines).await?;
        say(&format!("going on behind line {} of {name}", notes.note.lines));
    }
    let import = Import {
        lines,
        window: Window::default(),
        at_end: false,
        failure: None,
        notes,
        progress: Progress::new("imported", start, metadata.map(|metadata| metadata.len())),
    };
    import.run(session, output).await
}

/// An import under way.
struct Import {
    lines: Lines<File>,
    window: Window,
    /// Whether no more lines are read: all were, or something failed for good.
    at_end: bool,
    /// The first thing that failed for good. It is reported when all answers are in, with the final count.
    failure: Option<Error>,
    /// How far it came, if another run is to go on from there.
    notes: Option<Notes>,
    progress: Progress,
}

/// The note of an import and where it is kept.
struct Notes {
    file: NoteFile,
    note: Note,
}

impl Notes {
    /// The note of an earlier run, or a first one.
    fn find(path: &Path, name: &str, mark: (u64, u64), format: FileFormat, place: String) -> Result<Self, Error> {
        let file = NoteFile::beside(path);
        let what = match format {
            FileFormat::Jsonl => "import jsonl",
            FileFormat::Csv => "import csv",
        };
        let note = match file.read(what, &place)? {
            Some(note) if note.file == Some(mark) => note,
            Some(_) => {
                let note = file.name();
                return Err(Error::Data(format!(
                    "{name} has changed since {note} was written; remove {note} to begin anew"
                )));
            }
            None => Note { what: what.to_owned(), place, bytes: 0, lines: 0, file: Some(mark), cursor: None },
        };
        Ok(Self { file, note })
    }

    /// Everything up to the end of this line is stored.
    fn advance(&mut self, entry: &Entry) -> Result<(), Error> {
        (self.note.bytes, self.note.lines) = (entry.end_bytes, entry.end_line);
        if self.file.is_due() { self.file.write(&self.note) } else { Ok(()) }
    }
}

/// Why sending and receiving stopped before the end.
enum Interruption {
    /// The connection is of no use any more.
    Connection(Error),
    /// The server has too much to do; all answers are in.
    Busy(Error),
}

impl Import {
    async fn run(mut self, session: &mut Session, output: Output) -> Result<(), Error> {
        let mut retry = session.retry();
        let mut connection = None;
        let result = loop {
            let error = match self.attempt(session, &mut connection, &mut retry).await {
                Ok(()) => break self.failure.take().map_or(Ok(()), Err),
                Err(Interruption::Busy(error)) => error,
                Err(Interruption::Connection(error)) => {
                    connection = None;
                    error
                }
            };
            // A server closes a connection on which nothing was asked for long, and a pipe may be as slow as it likes:
            // waiting for it has left the whole time.
            let again = matches!(error, Error::Broken { .. }) || session.is_worth_retrying(&error, true);
            if !again || !retry.pause().await {
                break Err(error);
            }
        };
        self.progress.finish();
        if let Some(notes) = &mut self.notes {
            match &result {
                Ok(()) => notes.file.remove()?,
                Err(_) => notes.file.write(&notes.note)?,
            }
        }
        result.map_err(|error| self.with_count(error))?;
        if output.format == Format::Json {
            let elapsed = self.progress.elapsed();
            let (imported, rate) = (self.progress.keys(), self.progress.rate(elapsed));
            let object = json!({"imported": imported, "seconds": elapsed.as_secs_f64(), "keys_per_second": rate});
            output.report("", &object)?;
        }
        Ok(())
    }

    /// Sends and receives until the end of the input, or until something stops it.
    async fn attempt(
        &mut self,
        session: &mut Session,
        connection: &mut Option<Connection>,
        retry: &mut Retry,
    ) -> Result<(), Interruption> {
        let connection = match connection {
            Some(connection) => connection,
            None => connection.insert(session.take_connection(retry).await.map_err(Interruption::Connection)?),
        };
        let limit = session.answer_limit(retry, true);
        let whole_limit = session.answer_limit(&session.retry(), true);
        let mut link = Link { connection, limit, whole_limit, due: None, retry };
        self.window.unsend();
        loop {
            self.send(&mut link).await?;
            if self.window.is_empty() {
                return Ok(());
            }
            // Half of the window stays on its way while the other half is read and sent.
            let until = if self.at_end { 0 } else { self.window.len() / 2 };
            while self.window.is_awaiting() && self.window.len() > until {
                let response = link.receive().await?;
                self.take(response, &mut link).await?;
            }
        }
    }

    /// Sends what is in the window unsent, then fills it from the input.
    async fn send(&mut self, link: &mut Link<'_>) -> Result<(), Interruption> {
        loop {
            if let Some(entry) = self.window.next_unsent() {
                link.send(&entry.request).await?;
                self.window.mark_sent();
                continue;
            }
            if self.at_end || self.window.is_full() {
                return link.flush().await;
            }
            let next = match self.lines.next().now_or_never() {
                Some(next) => next,
                None => {
                    // What was read must not wait for what is not written yet.
                    link.flush().await?;
                    self.wait(link).await?
                }
            };
            match next {
                Ok(Some(entry)) => self.window.push(entry),
                Ok(None) => self.at_end = true,
                Err(error) => self.fail(error),
            }
        }
    }

    /// Waits for the next line of the input, and takes the answers that come meanwhile; `None` also when one of them
    /// ends the reading.
    async fn wait(&mut self, link: &mut Link<'_>) -> Result<Result<Option<Entry>, Error>, Interruption> {
        while !self.at_end {
            let is_awaiting = self.window.is_awaiting();
            tokio::select! {
                biased;
                next = self.lines.next() => {
                    // Nobody but the input was waited for.
                    if !is_awaiting {
                        link.restart();
                    }
                    return Ok(next);
                }
                response = link.receive_when_due(), if is_awaiting => self.take(response?, link).await?,
            }
        }
        Ok(Ok(None))
    }

    /// Takes an answer. After a `busy` all others are awaited, because all lines from there on are sent again.
    async fn take(&mut self, response: Response, link: &mut Link<'_>) -> Result<(), Interruption> {
        let Some(busy) = self.judge(response, link) else { return Ok(()) };
        while self.window.is_awaiting() {
            let response = link.receive().await?;
            self.judge(response, link);
        }
        Err(Interruption::Busy(busy))
    }

    /// Does what an answer says of its line; the refusal, if the same line can be accepted later.
    fn judge(&mut self, response: Response, link: &mut Link<'_>) -> Option<Error> {
        match response.body {
            Ok(_) => {
                if let Some(entry) = self.window.confirm() {
                    self.progress.count(entry.end_bytes);
                    link.restart();
                    self.note(&entry);
                }
            }
            Err(error) if is_temporary(error.code) => {
                self.window.postpone();
                return Some(Error::Refused { place: link.place(), error });
            }
            Err(error) => {
                let line = self.lines.place(self.window.refuse());
                self.fail(refused(&line, link.place(), error));
            }
        }
        None
    }

    /// Notes that a line is stored. Behind a line that failed nothing is: the next run must come to that line again.
    fn note(&mut self, entry: &Entry) {
        if self.failure.is_none()
            && let Some(notes) = &mut self.notes
            && let Err(error) = notes.advance(entry)
        {
            self.fail(error);
        }
    }

    /// Ends the reading. The answers that are on their way are awaited.
    fn fail(&mut self, error: Error) {
        self.at_end = true;
        self.failure.get_or_insert(error);
    }

    /// An error with what was done before it, so that nobody has to guess.
    fn with_count(&self, error: Error) -> Error {
        let imported = self.progress.keys();
        match error {
            Error::Data(message) => Error::Data(format!("{message}; {imported} keys were imported")),
            Error::Refused { place, error } => {
                let message = format!("{}; {imported} keys were imported", error.message);
                Error::Refused { place, error: WireError { message, ..error } }
            }
            // The others say that importing again is safe, and the last line of the progress has the count.
            error => error,
        }
    }
}

/// Whether the same line can be accepted later.
fn is_temporary(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::Busy | ErrorCode::ShuttingDown)
}

/// What the server said about a line.
fn refused(line: &str, place: String, error: WireError) -> Error {
    if is_about_data(error.code) {
        return Error::Data(format!("{line}: {error}"));
    }
    Error::Refused { place, error: WireError { message: format!("{line}: {}", error.message), ..error } }
}

/// A connection whose every step has a time limit.
struct Link<'a> {
    connection: &'a mut Connection,
    /// The limit of a step: what earlier attempts have left, until something goes well.
    limit: Duration,
    whole_limit: Duration,
    /// Until when an answer must come while lines come and go.
    due: Option<Instant>,
    retry: &'a mut Retry,
}

impl Link<'_> {
    fn place(&self) -> String {
        self.connection.place().to_owned()
    }

    /// All time limits begin anew, because something went well.
    fn restart(&mut self) {
        self.retry.restart();
        self.limit = self.whole_limit;
    }

    async fn send(&mut self, request: &Request) -> Result<(), Interruption> {
        let result = tokio::time::timeout(self.limit, self.connection.send(request)).await;
        self.check(result)
    }

    async fn flush(&mut self) -> Result<(), Interruption> {
        let result = tokio::time::timeout(self.limit, self.connection.flush()).await;
        self.check(result)
    }

    async fn receive(&mut self) -> Result<Response, Interruption> {
        let result = tokio::time::timeout(self.limit, self.connection.receive()).await;
        self.due = None;
        self.check(result)
    }

    /// As [`receive`](Self::receive), but can be given up: the next call goes on with the same limit.
    async fn receive_when_due(&mut self) -> Result<Response, Interruption> {
        let due = *self.due.get_or_insert_with(|| Instant::now() + self.limit);
        let result = tokio::time::timeout_at(due, self.connection.receive()).await;
        self.due = None;
        self.check(result)
    }

    fn check<T>(&self, result: Result<Result<T, ClientError>, Elapsed>) -> Result<T, Interruption> {
        let advice = "importing the same file again is safe";
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Interruption::Connection(broken(self.place(), &error, advice))),
            Err(Elapsed { .. }) => {
                let (place, limit) = (self.place(), self.retry.limit());
                Err(Interruption::Connection(Error::Timeout { place, limit, advice }))
            }
        }
    }
}
