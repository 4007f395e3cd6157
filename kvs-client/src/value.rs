//! `ValueSource`: where a value on the command line comes from: the argument, a file (`@FILE`), standard input (`-`).
//!
//! What must hold: the bytes arrive as they are, a newline at the end included; reading never stops the thread, so that
//! an interruption is heard; what can't fit any server is refused before it is all in memory.

use std::ffi::OsString;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use kvs_protocol::limits::HIGHEST_MAX_VALUE_BYTES;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::error::Error;

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ValueSource {
    /// The argument itself.
    Argument(Vec<u8>),
    /// A file.
    File(PathBuf),
    /// Standard input, to its end.
    Input,
}

impl ValueSource {
    /// What an argument means; `literal` if it means itself, whatever it begins with.
    pub(crate) fn of(argument: OsString, literal: bool) -> Self {
        if !literal && argument == "-" {
            return Self::Input;
        }
        match argument.as_bytes().strip_prefix(b"@") {
            Some(path) if !literal => Self::File(PathBuf::from(OsString::from_vec(path.to_vec()))),
            _ => Self::Argument(argument.into_vec()),
        }
    }

    /// The bytes.
    pub(crate) async fn read(self) -> Result<Vec<u8>, Error> {
        match self {
            Self::Argument(bytes) => Ok(bytes),
            Self::File(path) => {
                let name = path.display().to_string();
                let file = File::open(&path).await.map_err(|error| no_file_of_value(&name, &error))?;
                read_bounded(file, &name).await
            }
            Self::Input => read_bounded(standard_input()?, INPUT_NAME).await,
        }
    }
}

/// Standard input, as an error names it.
pub(crate) const INPUT_NAME: &str = "standard input";

/// Standard input as a file of its own, which is read on a thread that may wait.
pub(crate) fn standard_input() -> Result<File, Error> {
    let duplicate = std::io::stdin().as_fd().try_clone_to_owned();
    let duplicate = duplicate.map_err(|error| cannot_read(INPUT_NAME, &error))?;
    Ok(File::from_std(std::fs::File::from(duplicate)))
}

/// A file, or standard input if it is called `-`, with the name that an error gives it.
pub(crate) async fn open(path: &Path) -> Result<(File, String), Error> {
    if path == Path::new("-") {
        return Ok((standard_input()?, INPUT_NAME.to_owned()));
    }
    let name = path.display().to_string();
    let file = File::open(path).await.map_err(|error| cannot_read(&name, &error))?;
    Ok((file, name))
}

/// A file that could not be read.
pub(crate) fn cannot_read(name: &str, error: &std::io::Error) -> Error {
    Error::Data(format!("cannot read {name}: {error}"))
}

/// Whoever stores a handle or an address does not think of files.
fn no_file_of_value(name: &str, error: &std::io::Error) -> Error {
    Error::Data(format!(
        "cannot read '{name}': {error}; a value @FILE is that file's bytes, --literal takes it as it is"
    ))
}

async fn read_bounded(input: impl AsyncRead + Unpin, name: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(HIGHEST_MAX_VALUE_BYTES).expect("a length fits 64 bits") + 1;
    input.take(limit).read_to_end(&mut bytes).await.map_err(|error| cannot_read(name, &error))?;
    if bytes.len() > HIGHEST_MAX_VALUE_BYTES {
        return Err(Error::Data(format!(
            "{name} is larger than {HIGHEST_MAX_VALUE_BYTES} bytes, the largest value that any server takes; split it"
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_character_says_where_a_value_comes_from() {
        let of = |text: &str, literal| ValueSource::of(OsString::from(text), literal);
        assert_eq!(of("v", false), ValueSource::Argument(b"v".to_vec()));
        assert_eq!(of("-", false), ValueSource::Input);
        assert_eq!(of("-1", false), ValueSource::Argument(b"-1".to_vec()));
        assert_eq!(of("@a/b", false), ValueSource::File("a/b".into()));
        assert_eq!(of("@a/b", true), ValueSource::Argument(b"@a/b".to_vec()));
        assert_eq!(of("-", true), ValueSource::Argument(b"-".to_vec()));
    }

    #[tokio::test]
    async fn who_meant_no_file_is_told_of_literal() {
        for argument in ["@nobody-has-this-file", "@"] {
            let error = ValueSource::of(OsString::from(argument), false).read().await.unwrap_err().to_string();
            assert!(error.contains(&format!("'{}'", &argument[1..])) && error.contains("--literal"), "{error}");
        }
    }
}
