//! What the tab key offers at the prompt: commands, their flags, and the keys of the store.
//!
//! What must hold: a store that is slow or gone costs a moment, not the line; what is offered is written so that it is
//! read back as the same key.

use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use clap::CommandFactory as _;
use tokio::sync::mpsc;

use super::words;
use crate::arguments::PromptLine;
use crate::scan::Scan;
use crate::session::Session;

/// The most keys that are offered: more than a person reads.
const MAX_KEYS: u64 = 100;
/// The most pages of a scan that are looked at for them: a page may be empty.
const MAX_PAGES: usize = 4;
/// How long a person waits for an offer without wondering.
const PATIENCE: Duration = Duration::from_millis(700);

/// Somebody pressed the tab key behind the beginning of a key.
pub(super) struct KeysWanted {
    prefix: Vec<u8>,
    reply: SyncSender<Vec<Vec<u8>>>,
}

impl KeysWanted {
    /// Looks for the keys. No keys are an answer as well.
    pub(super) async fn answer(self, session: &mut Session) {
        let mut keys = Vec::new();
        let looking = async {
            let mut scan = Scan::keys(self.prefix.clone());
            for _ in 0..MAX_PAGES {
                match scan.next_page(session, MAX_KEYS).await {
                    Ok(Some(page)) if keys.len() < 100 => keys.extend(page.into_iter().map(|entry| entry.key)),
                    _ => break,
                }
            }
        };
        // Dropping a call in its middle drops its connection with it.
        let _ = tokio::time::timeout(PATIENCE, looking).await;
        keys.sort_unstable();
        let _ = self.reply.try_send(keys);
    }
}

/// Finds what can follow.
pub(super) struct Offers {
    wishes: mpsc::Sender<KeysWanted>,
    /// The commands with their flags.
    commands: Vec<(String, Vec<String>)>,
}

impl Offers {
    pub(super) fn new(wishes: mpsc::Sender<KeysWanted>) -> Self {
        let flags = |command: &clap::Command| {
            command.get_arguments().filter_map(|argument| Some(format!("--{}", argument.get_long()?))).collect()
        };
        let commands = PromptLine::command();
        let mut commands: Vec<_> =
            commands.get_subcommands().map(|command| (command.get_name().to_owned(), flags(command))).collect();
        commands.extend(["help", "quit"].map(|word| (word.to_owned(), Vec::new())));
        commands.sort_unstable();
        Self { wishes, commands }
    }

    /// Where the word begins that the line ends with, and what it can become.
    pub(super) fn of(&self, line: &str) -> (usize, Vec<String>) {
        let start = line.rfind(char::is_whitespace).map_or(0, |place| place + 1);
        let word = &line[start..];
        let before: Vec<&str> = line[..start].split_whitespace().collect();
        let begins = |name: &String| name.starts_with(word);
        let offers = match before.as_slice() {
            [] => self.commands.iter().map(|(name, _)| name.clone()).filter(begins).collect(),
            ["help"] => self.commands.iter().map(|(name, _)| name.clone()).filter(begins).collect(),
            // What is quoted is left to whoever quotes it.
            _ if line.contains(['"', '\'']) => Vec::new(),
            [command, ..] if word.starts_with('-') => {
                let flags = self.commands.iter().find(|(name, _)| name == command).map(|(_, flags)| flags.as_slice());
                flags.unwrap_or_default().iter().filter(|flag| flag.starts_with(word)).cloned().collect()
            }
            ["set" | "get" | "rm" | "exists" | "scan" | "count"] => self.keys(word),
            ["batch", changes @ ..] if is_key_next(changes) => self.keys(word),
            _ => Vec::new(),
        };
        (start, offers)
    }

    fn keys(&self, word: &str) -> Vec<String> {
        let Ok(mut prefix) = words::split(word) else { return Vec::new() };
        let prefix = prefix.pop().map(std::os::unix::ffi::OsStringExt::into_vec).unwrap_or_default();
        let (reply, answer) = sync_channel(1);
        if self.wishes.try_send(KeysWanted { prefix, reply }).is_err() {
            return Vec::new();
        }
        match answer.recv_timeout(PATIENCE * 2) {
            Ok(keys) => keys.iter().map(|key| words::quoted(key)).collect(),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Vec::new(),
        }
    }
}

/// Whether a key stands behind these words of a batch.
fn is_key_next(changes: &[&str]) -> bool {
    let mut words = changes.iter();
    while let Some(verb) = words.next() {
        let rest = words.len();
        if rest == 0 {
            return true;
        }
        words.next();
        if *verb == "set" {
            words.next();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offers(line: &str, keys: &[&str]) -> Vec<String> {
        let (wishes, mut wanted) = mpsc::channel::<KeysWanted>(1);
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        let store = std::thread::spawn(move || {
            while let Some(wish) = wanted.blocking_recv() {
                let found = keys.iter().filter(|key| key.as_bytes().starts_with(&wish.prefix));
                wish.reply.send(found.map(|key| key.clone().into_bytes()).collect()).unwrap();
            }
        });
        let found = Offers::new(wishes).of(line).1;
        store.join().unwrap();
        found
    }

    #[test]
    fn commands_flags_and_keys_are_offered() {
        assert_eq!(offers("s", &[]), ["scan", "set", "status"]);
        assert_eq!(offers("help g", &[]), ["get"]);
        assert!(offers("scan --l", &[]).contains(&"--limit".to_owned()));
        assert_eq!(offers("get us", &["user/1", "user/2", "other"]), ["user/1", "user/2"]);
        assert_eq!(offers("get ", &["two words"]), ["\"two words\""]);
        assert_eq!(offers("batch set a 1 rm ", &["k"]), ["k"]);
        assert!(offers("set a ", &["k"]).is_empty(), "a value is nobody's to guess");
        assert!(offers("get \"a", &["a"]).is_empty());
    }
}
