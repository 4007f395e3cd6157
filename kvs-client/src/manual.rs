//! Completion scripts and manual pages, made from the command line's own description.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;
use clap_mangen::Man;

use crate::arguments::Arguments;
use crate::error::Error;
use crate::output;

/// Prints the completion script of a shell.
pub(crate) fn completion(shell: Shell) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "kvs-client", &mut script);
    let mut script = String::from_utf8(script).expect("our commands are called by plain words");
    if shell == Shell::Bash {
        // clap_complete 4.6 spells a program with a hyphen in two ways, and so finds no command's flags.
        script = script.replace("kvs__subcmd__client", "kvs__client");
    }
    output::write(&[script.as_bytes()])
}

/// Prints the manual page, or writes one for each command into a folder.
pub(crate) fn pages(folder: Option<&Path>) -> Result<(), Error> {
    let command = Arguments::command();
    let Some(folder) = folder else {
        let mut page = Vec::new();
        Man::new(command).render(&mut page).map_err(Error::Output)?;
        return output::write(&[&page]);
    };
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    written.map_err(|error| Error::Data(format!("cannot write manual pages into {}: {error}", folder.display())))
}
