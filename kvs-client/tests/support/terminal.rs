//! A terminal: what a person would see of a command, and keys to press.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use super::{poll, until};

/// The terminal's columns.
pub const COLUMNS: usize = 80;

/// A command at a terminal of [`COLUMNS`], killed when the test ends.
pub struct Terminal {
    keys: File,
    child: Child,
    /// Every byte that was written to the terminal.
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Starts a command whose standard input, output and error are the terminal.
    pub fn start(command: &mut Command) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        tcsetwinsize(
            &terminal,
            Winsize { ws_row: 24, ws_col: u16::try_from(COLUMNS).unwrap(), ws_xpixel: 0, ws_ypixel: 0 },
        )
        .unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let side =
            OpenOptions::new().read(true).write(true).open(std::ffi::OsStr::from_bytes(name.as_bytes())).unwrap();
        command.env("TERM", "xterm").stdin(side.try_clone().unwrap());
        command.stdout(side.try_clone().unwrap()).stderr(side);
        let child = command.spawn().unwrap();
        // The command holds copies of the terminal's side; without them gone, its end would not be seen.
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let keys = File::from(terminal);
        let mut screen = keys.try_clone().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&seen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                written.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { keys, child, seen }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything that was shown so far.
    pub fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// The rows that stand on a screen without a lower end: what was taken back or written over is gone, and what is
    /// longer than a row is wide goes on in the next one, unless the terminal was told to cut.
    pub fn rows(&self) -> Vec<String> {
        let seen = self.seen();
        let mut rows = vec![String::new()];
        let (mut row, mut column, mut wraps) = (0, 0, true);
        let mut rest = seen.chars();
        while let Some(character) = rest.next() {
            match character {
                '\r' => column = 0,
                '\n' => row += 1,
                '\u{1b}' => {
                    assert_eq!(rest.next(), Some('['), "only such commands are known here: {seen:?}");
                    let after = rest.as_str();
                    let end = after.find(|letter: char| letter.is_ascii_alphabetic()).expect("a command ends") + 1;
                    rest = after[end..].chars();
                    match &after[..end] {
                        "K" => rows[row].truncate(column),
                        "J" => {
                            rows.truncate(row + 1);
                            rows[row].truncate(column);
                        }
                        "?7l" => wraps = false,
                        "?7h" => wraps = true,
                        up if up.ends_with('A') => row -= up[..up.len() - 1].parse::<usize>().unwrap(),
                        other => panic!("no screen of a test knows {other:?}"),
                    }
                }
                character => {
                    if column == COLUMNS {
                        match wraps {
                            true => (row, column) = (row + 1, 0),
                            false => column -= 1,
                        }
                    }
                    rows.resize(rows.len().max(row + 1), String::new());
                    let place = &mut rows[row];
                    place.truncate(column);
                    place.push(character);
                    column += 1;
                }
            }
            rows.resize(rows.len().max(row + 1), String::new());
        }
        rows
    }

    /// Waits until so many places of what was shown hold this text.
    pub fn wait_for(&self, text: &str, times: usize) {
        let found = poll(|| (self.seen().matches(text).count() >= times).then_some(()));
        assert!(found.is_some(), "{text:?} is not shown {times} times: {:?}", self.seen());
    }

    /// Waits for the command to end.
    pub fn wait(&mut self) -> ExitStatus {
        until("the command ends", || self.child.try_wait().unwrap())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
