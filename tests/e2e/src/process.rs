//! `Program`: a program as a person would call it, with a time limit.
//!
//! What must hold: nothing of the caller's own Kubernetes is seen or touched; a program that outlives its limit, or
//! whose story ends before it, is killed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::failure::Failure;

/// The time that a program has unless it is given another.
const LIMIT: Duration = Duration::from_secs(60);

/// A program that is about to run.
#[derive(Debug)]
pub struct Program {
    command: Command,
    line: String,
    input: Option<Vec<u8>>,
    limit: Duration,
}

/// What a program left behind.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Program {
    /// A program that believes `home` to be its user's home.
    #[must_use]
    pub fn new(path: &Path, home: &Path) -> Self {
        let mut command = Command::new(path);
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("HOME", home);
        for variable in ["KUBECONFIG", "KVS_ADDR", "KVS_STORE", "HELM_NAMESPACE", "HELM_KUBECONTEXT"] {
            command.env_remove(variable);
        }
        for variable in ["HELM_CONFIG_HOME", "HELM_CACHE_HOME", "HELM_DATA_HOME"] {
            command.env(variable, home.join("helm"));
        }
        let line = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Self { command, line, input: None, limit: LIMIT }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        for argument in arguments {
            self.line = format!("{} {}", self.line, argument.as_ref().to_string_lossy());
            self.command.arg(argument);
        }
        self
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What it reads from its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self.command.stdin(Stdio::piped());
        self
    }

    /// Its time limit.
    #[must_use]
    pub const fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Runs it to its end, however it ends.
    ///
    /// # Errors
    /// When it can't be started or outlives its limit.
    pub async fn run(mut self) -> Result<Output, Failure> {
        let mut child = self.command.spawn().map_err(Failure::io(format!("starting {}", self.line)))?;
        let input = child.stdin.take().zip(self.input.take());
        let feeding = async {
            if let Some((mut pipe, input)) = input {
                // A program that ends without reading all of it says why by itself.
                let _ = pipe.write_all(&input).await;
            }
        };
        let ending = async { tokio::join!(feeding, child.wait_with_output()).1 };
        let Ok(output) = timeout(self.limit, ending).await else {
            let ending = format!("is not done after {} s", self.limit.as_secs());
            return Err(Failure::Program { line: self.line, ending, output: String::new() });
        };
        let output = output.map_err(Failure::io(format!("waiting for {}", self.line)))?;
        Ok(Output {
            line: self.line,
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs it and returns its standard output; it must succeed.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when it fails.
    pub async fn succeed(self) -> Result<String, Failure> {
        let output = self.run().await?;
        if output.status.success() { Ok(output.stdout) } else { Err(output.surprise()) }
    }

    /// Runs it and returns what it left behind; it must fail.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when it succeeds.
    pub async fn fail(self) -> Result<Output, Failure> {
        let output = self.run().await?;
        if output.status.success() { Err(output.surprise()) } else { Ok(output) }
    }

    /// Starts it and lets it run. Its standard input stays open; it must write less than a pipe holds to its standard
    /// error, which is read at its end.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(mut self) -> Result<Background, Failure> {
        self.command.stdin(Stdio::piped());
        let mut child = self.command.spawn().map_err(Failure::io(format!("starting {}", self.line)))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Failure::Unexpected(format!("{} has no pipes", self.line)));
        };
        Ok(Background {
            child,
            line: self.line,
            limit: self.limit,
            input: Some(input),
            lines: BufReader::new(output).lines(),
        })
    }
}

impl Output {
    /// A failure that tells how the program ended and what it wrote.
    #[must_use]
    pub fn surprise(self) -> Failure {
        let Self { line, status, stdout, stderr } = self;
        let output = [stdout, stderr].map(|text| text.trim().to_owned()).join("\n").trim().to_owned();
        let output = if output.is_empty() { output } else { format!(":\n{output}") };
        Failure::Program { line, ending: format!("ended with {status}"), output }
    }
}

/// A program that runs while the story goes on. It is killed when this is dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    line: String,
    limit: Duration,
    /// Its standard input; taken to write to it, and dropped to end it.
    pub input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Background {
    /// The next line of its standard output.
    ///
    /// # Errors
    /// When none comes within the limit, or the program ends.
    pub async fn next_line(&mut self) -> Result<String, Failure> {
        let failure =
            |ending: &str| Failure::Program { line: self.line.clone(), ending: ending.into(), output: String::new() };
        match timeout(self.limit, self.lines.next_line()).await {
            Ok(Ok(Some(line))) => Ok(line),
            Ok(Ok(None)) => Err(failure("ended too early")),
            Ok(Err(error)) => Err(Failure::io(format!("reading from {}", self.line))(error)),
            Err(_elapsed) => Err(failure("says nothing")),
        }
    }

    /// Waits for its end, which must be a success, and returns its standard error.
    ///
    /// # Errors
    /// When it fails or outlives the limit.
    pub async fn finish(self) -> Result<String, Failure> {
        let Self { child, line, limit, input, lines } = self;
        drop((input, lines));
        let Ok(output) = timeout(limit, child.wait_with_output()).await else {
            let ending = format!("is not done after {} s", limit.as_secs());
            return Err(Failure::Program { line, ending, output: String::new() });
        };
        let output = output.map_err(Failure::io(format!("waiting for {line}")))?;
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok(stderr);
        }
        Err(Output { line, status: output.status, stdout: String::new(), stderr }.surprise())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new(Path::new("/bin/sh"), Path::new("/nonexistent")).args(["-c", script])
    }

    #[tokio::test]
    async fn a_program_gets_its_input_and_gives_its_output() {
        assert_eq!(shell("cat; echo $HOME").input("in ").succeed().await.unwrap(), "in /nonexistent\n");
        let failure = shell("echo why >&2; exit 3").succeed().await.unwrap_err().to_string();
        assert!(failure.contains("exit status: 3") && failure.ends_with("why"), "{failure}");
        assert_eq!(shell("exit 3").fail().await.unwrap().status.code(), Some(3));
        assert!(shell("true").fail().await.is_err());
    }

    #[tokio::test]
    async fn a_program_that_outlives_its_limit_is_killed() {
        let failure = shell("sleep 600").limit(Duration::from_millis(50)).run().await.unwrap_err().to_string();
        assert!(failure.contains("is not done"), "{failure}");
    }

    #[tokio::test]
    async fn a_background_program_is_talked_to_line_by_line() {
        let mut program = shell("read word; echo $word; read more || echo end >&2").start().unwrap();
        program.input.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
        assert_eq!(program.next_line().await.unwrap(), "hello");
        assert_eq!(program.finish().await.unwrap(), "end\n");
    }
}
