//! `import`: JSON lines into a store, pipelined over one connection.
//!
//! What must hold: keys are set in the order of the lines, so that the last line of a key wins; a line is counted when
//! its answer has come; what has no answer yet is in the window, and is sent again when the connection broke. Nothing
//! is sent again while an earlier sending of it can still be on its way to the same server: after a `busy`, all
//! answers are awaited first.

mod lines;
mod progress;
mod window;

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use kvs_protocol::{ClientError, ErrorCode, Request, Response, WireError};
use tokio::fs::File;
use tokio::time::error::Elapsed;

use crate::connection::Connection;
use crate::error::{Error, is_about_data};
use crate::retry::Retry;
use crate::session::{Session, broken};

use lines::Lines;
use progress::Progress;
use window::Window;

/// Imports a file, or standard input if it is called `-`.
pub(crate) async fn run(session: &mut Session, file: &Path) -> Result<(), Error> {
    let (input, name, bytes) = if file == Path::new("-") {
        let name = "standard input".to_owned();
        let duplicate = std::io::stdin().as_fd().try_clone_to_owned();
        let duplicate = duplicate.map_err(|error| Error::Data(format!("cannot read {name}: {error}")))?;
        (File::from_std(std::fs::File::from(duplicate)), name, None)
    } else {
        let name = file.display().to_string();
        let opened = File::open(file).await.map_err(|error| Error::Data(format!("cannot read {name}: {error}")))?;
        let bytes = opened.metadata().await.ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
        (opened, name, bytes)
    };
    let import = Import {
        lines: Lines::new(input, name),
        window: Window::default(),
        at_end: false,
        failure: None,
        progress: Progress::new(bytes),
    };
    import.run(session).await
}

/// An import under way.
struct Import {
    lines: Lines<File>,
    window: Window,
    /// Whether no more lines are read: all were, or something failed for good.
    at_end: bool,
    /// The first thing that failed for good. It is reported when all answers are in, with the final count.
    failure: Option<Error>,
    progress: Progress,
}

/// Why sending and receiving stopped before the end.
enum Interruption {
    /// The connection is of no use any more.
    Connection(Error),
    /// The server has too much to do; all answers are in.
    Busy(Error),
}

impl Import {
    async fn run(mut self, session: &mut Session) -> Result<(), Error> {
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
            // A server closes a connection on which nothing was asked for long, and a pipe may be as slow as it likes.
            let again = matches!(error, Error::Broken { .. }) || session.is_worth_retrying(&error, true);
            if !again || !retry.pause().await {
                break Err(error);
            }
        };
        self.progress.finish();
        result.map_err(|error| self.with_count(error))
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
        let mut link = Link { connection, limit: session.answer_limit(retry, true) };
        self.window.unsend();
        loop {
            self.send(&mut link).await?;
            if self.window.is_empty() {
                return Ok(());
            }
            // Half of the window stays on its way while the other half is read and sent.
            let until = if self.at_end { 0 } else { self.window.len() / 2 };
            self.receive(&mut link, retry, until).await?;
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
            if self.lines.may_wait() {
                // What was read must not wait for what is not written yet.
                link.flush().await?;
            }
            match self.lines.next().await {
                Ok(Some(entry)) => self.window.push(entry),
                Ok(None) => self.at_end = true,
                Err(error) => self.fail(error),
            }
        }
    }

    /// Receives answers until so many lines of the window have none.
    async fn receive(&mut self, link: &mut Link<'_>, retry: &mut Retry, until: usize) -> Result<(), Interruption> {
        let mut busy = None;
        while self.window.is_awaiting() && (busy.is_some() || self.window.len() > until) {
            match link.receive().await?.body {
                Ok(_) => {
                    if self.window.confirm() {
                        self.progress.count(self.lines.read_bytes());
                        retry.restart();
                    }
                }
                Err(error) if is_temporary(error.code) => {
                    self.window.postpone();
                    busy.get_or_insert(Error::Refused { place: link.place(), error });
                }
                Err(error) => {
                    let line = self.lines.place(self.window.refuse());
                    self.fail(refused(&line, link.place(), error));
                }
            }
        }
        busy.map_or(Ok(()), |error| Err(Interruption::Busy(error)))
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
    limit: Duration,
}

impl Link<'_> {
    fn place(&self) -> String {
        self.connection.place().to_owned()
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
        self.check(result)
    }

    fn check<T>(&self, result: Result<Result<T, ClientError>, Elapsed>) -> Result<T, Interruption> {
        let advice = "importing the same file again is safe";
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Interruption::Connection(broken(self.place(), &error, advice))),
            Err(Elapsed { .. }) => {
                let (place, limit) = (self.place(), self.limit);
                Err(Interruption::Connection(Error::Timeout { place, limit, advice }))
            }
        }
    }
}
