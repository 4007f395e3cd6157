//! `repl`: commands line by line, over one connection.
//!
//! What must hold: while a line is edited the connection is served, because a forwarded port needs it; a line that fails
//! says so and the next one is read; Ctrl-C ends what is under way and not the prompt. Without a terminal, lines are read
//! from standard input without a prompt, and the exit code is that of the first line that failed.

mod completion;
mod editor;
mod words;

use std::io::IsTerminal as _;
use std::path::PathBuf;

use kvs_protocol::Verb;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::arguments::PromptLine;
use crate::command;
use crate::error::Error;
use crate::escape;
use crate::interrupt::interruptible;
use crate::output::{self, Output, complain};
use crate::session::Session;
use crate::value::{INPUT_NAME, cannot_read, standard_input};

use completion::KeysWanted;
use editor::{Editor, Read};

/// How lines end the prompt.
const LAST_WORDS: [&str; 2] = ["quit", "exit"];

/// Reads and runs lines until there are no more.
pub(crate) async fn run(mut session: Session, history: Option<PathBuf>, output: Output) -> Result<(), Error> {
    let mut prompt = Prompt { output, exit: None };
    if std::io::stdin().is_terminal() {
        // Who sits there wants to know at once that nobody answers.
        interruptible(session.call(Verb::Ping)).await?;
        prompt.edit(session, history).await
    } else {
        prompt.read(session).await
    }
}

/// What one line leads to.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Line,
    End,
}

struct Prompt {
    output: Output,
    /// The exit code of the first line that failed.
    exit: Option<u8>,
}

impl Prompt {
    /// Lines that a person edits.
    async fn edit(&mut self, mut session: Session, history: Option<PathBuf>) -> Result<(), Error> {
        let name = escape::line(&session.target_name());
        output::write(&[format!("{name}: `help` lists the commands, Ctrl-D ends\n").as_bytes()])?;
        // One wish at a time: the editor waits for its answer.
        let (wishes, mut wanted) = mpsc::channel::<KeysWanted>(1);
        let mut editor = Editor::new(wishes, format!("{name}> "), history)?;
        loop {
            let mut reading = spawn_blocking(move || {
                let read = editor.read();
                (editor, read)
            });
            let (returned, read) = loop {
                tokio::select! {
                    done = &mut reading => break done.map_err(|error| Error::Runtime(std::io::Error::other(error)))?,
                    Some(wish) = wanted.recv() => wish.answer(&mut session).await,
                }
            };
            editor = returned;
            match read? {
                Read::Line(line) => {
                    if self.line(&line, &mut session).await? == Next::End {
                        return Ok(());
                    }
                }
                Read::Cancelled => {}
                Read::End => return Ok(()),
            }
        }
    }

    /// Lines of a pipe or a file.
    async fn read(&mut self, mut session: Session) -> Result<(), Error> {
        let mut lines = BufReader::new(standard_input()?).lines();
        while let Some(line) = lines.next_line().await.map_err(|error| cannot_read(INPUT_NAME, &error))? {
            if self.line(&line, &mut session).await? == Next::End {
                break;
            }
        }
        self.exit.map_or(Ok(()), |exit| Err(Error::Said(exit)))
    }

    /// Runs one line. An error of the line is told; one that ends the prompt is returned.
    async fn line(&mut self, line: &str, session: &mut Session) -> Result<Next, Error> {
        let words = match words::split(line) {
            Ok(words) => words,
            Err(cause) => {
                self.fail(&Error::Usage(cause));
                return Ok(Next::Line);
            }
        };
        let Some(first) = words.first() else { return Ok(Next::Line) };
        if words.len() == 1 && LAST_WORDS.iter().any(|word| first == word) {
            return Ok(Next::End);
        }
        match PromptLine::parse(words) {
            Ok(None) => {}
            Ok(Some(line)) if line.command.reads_input() => {
                self.fail(&Error::Usage(
                    "standard input is where the commands come from; name a file or a value".into(),
                ));
            }
            Ok(Some(line)) => match interruptible(command::data(line.command, session, self.output)).await {
                Ok(()) => {}
                Err(error @ Error::Output(_)) => return Err(error),
                Err(error) => self.fail(&error),
            },
            Err(error) => self.fail(&error),
        }
        Ok(Next::Line)
    }

    fn fail(&mut self, error: &Error) {
        complain(error, self.output.format);
        self.exit.get_or_insert(error.exit_code());
    }
}
