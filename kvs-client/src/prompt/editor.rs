//! `Editor`: a line that a person types, with history and completion.

use std::path::PathBuf;

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Helper};
use tokio::sync::mpsc;

use super::completion::{KeysWanted, Offers};
use crate::error::Error;
use crate::output::say;

/// The most lines of history that are kept.
const MAX_HISTORY_LINES: usize = 1_000;

/// What reading a line led to.
pub(super) enum Read {
    Line(String),
    /// Ctrl-C: the line is forgotten.
    Cancelled,
    /// Ctrl-D on an empty line.
    End,
}

/// Reads lines from the terminal.
pub(super) struct Editor {
    lines: rustyline::Editor<Help, DefaultHistory>,
    prompt: String,
    history: Option<PathBuf>,
}

impl Editor {
    /// An editor whose wishes for keys go there. Its history is read from the file, and kept in it.
    pub(super) fn new(
        wishes: mpsc::Sender<KeysWanted>,
        prompt: String,
        history: Option<PathBuf>,
    ) -> Result<Self, Error> {
        // A line that begins with a space is not kept: the way to type a secret.
        let config = Config::builder()
            .max_history_size(MAX_HISTORY_LINES)
            .and_then(|config| config.history_ignore_dups(true))
            .map_err(|error| terminal(&error))?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .auto_add_history(true)
            .build();
        let mut lines = rustyline::Editor::with_config(config).map_err(|error| terminal(&error))?;
        lines.set_helper(Some(Help(Offers::new(wishes))));
        let mut this = Self { lines, prompt, history };
        this.load();
        Ok(this)
    }

    /// Waits for a line.
    pub(super) fn read(&mut self) -> Result<Read, Error> {
        match self.lines.readline(self.prompt.as_str()) {
            Ok(line) => {
                self.keep();
                Ok(Read::Line(line))
            }
            Err(ReadlineError::Interrupted) => Ok(Read::Cancelled),
            Err(ReadlineError::Eof) => Ok(Read::End),
            Err(error) => Err(terminal(&error)),
        }
    }

    fn load(&mut self) {
        let Some(file) = &self.history else { return };
        if let Some(folder) = file.parent() {
            // If it can't be made, keeping the first line will say so.
            let _ = std::fs::create_dir_all(folder);
        }
        if file.exists()
            && let Err(error) = self.lines.load_history(file)
        {
            say(&format!("cannot read the history {}: {error}", file.display()));
        }
    }

    /// Keeps the new lines; a history that can't be kept is told of once and is no reason to end.
    fn keep(&mut self) {
        if let Some(file) = &self.history
            && let Err(error) = self.lines.append_history(file)
        {
            say(&format!("cannot keep the history in {}: {error}", file.display()));
            self.history = None;
        }
    }
}

fn terminal(error: &ReadlineError) -> Error {
    Error::Runtime(std::io::Error::other(format!("the terminal: {error}")))
}

/// What the editor asks while a line is typed.
struct Help(Offers);

impl Helper for Help {}
impl Highlighter for Help {}
impl Validator for Help {}

impl Hinter for Help {
    type Hint = String;
}

impl Completer for Help {
    type Candidate = String;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        Ok(self.0.of(&line[..position]))
    }
}
