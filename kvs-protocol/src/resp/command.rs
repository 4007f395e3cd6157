//! The commands: one table that says how many words each has, and that `COMMAND` shows.

/// What a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Get,
    Set,
    Ping,
    Echo,
    GetDel,
    MGet,
    MSet,
    Del,
    Exists,
    StrLen,
    Scan,
    DbSize,
    FlushDb,
    Info,
    Config,
    Command,
    Hello,
    Auth,
    Client,
    Select,
    Quit,
    Reset,
}

/// One command, as `COMMAND` tells it.
#[derive(Debug)]
pub struct CommandInfo {
    pub(super) kind: Kind,
    /// Its name, in lower case.
    pub name: &'static str,
    /// How many words it has, its name counted; below zero at least so many.
    pub arity: i64,
    /// What it does, in Redis' words.
    pub flags: &'static [&'static str],
    /// The first and the last word that is a key, counted from the name on, -1 being the very last; 0 when none is.
    pub keys: (i64, i64),
    /// From one key to the next.
    pub step: i64,
    /// One sentence.
    pub summary: &'static str,
}

const READ: &[&str] = &["readonly", "fast"];
const WRITE: &[&str] = &["write", "denyoom"];
const REMOVE: &[&str] = &["write"];
const SCAN: &[&str] = &["readonly"];
const CONNECTION: &[&str] = &["loading", "stale", "fast"];
const BEFORE_AUTH: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth"];
const SERVER: &[&str] = &["loading", "stale"];

/// Declares a row of the table.
const fn command(
    kind: Kind,
    name: &'static str,
    arity: i64,
    flags: &'static [&'static str],
    (first, last, step): (i64, i64, i64),
    summary: &'static str,
) -> CommandInfo {
    CommandInfo { kind, name, arity, flags, keys: (first, last), step, summary }
}

const NO_KEY: (i64, i64, i64) = (0, 0, 0);
const ONE_KEY: (i64, i64, i64) = (1, 1, 1);
const ALL_KEYS: (i64, i64, i64) = (1, -1, 1);

/// Every command, the frequent ones first.
pub const COMMANDS: &[CommandInfo] = &[
    command(Kind::Get, "get", 2, READ, ONE_KEY, "Gives the value of a key."),
    command(Kind::Set, "set", -3, WRITE, ONE_KEY, "Stores a value, with NX, XX and GET."),
    command(Kind::MGet, "mget", -2, READ, ALL_KEYS, "Gives the values of keys."),
    command(Kind::MSet, "mset", -3, WRITE, (1, -1, 2), "Stores values in one step."),
    command(Kind::Del, "del", -2, REMOVE, ALL_KEYS, "Removes keys; gives how many were there."),
    command(Kind::Exists, "exists", -2, READ, ALL_KEYS, "Gives how many of the keys are there."),
    command(Kind::GetDel, "getdel", 2, REMOVE, ONE_KEY, "Gives the value of a key and removes it, in one step."),
    command(Kind::StrLen, "strlen", 2, READ, ONE_KEY, "Gives the length of a value."),
    command(Kind::Ping, "ping", -1, CONNECTION, NO_KEY, "Answers."),
    command(Kind::Echo, "echo", 2, CONNECTION, NO_KEY, "Answers what it was given."),
    command(Kind::Scan, "scan", -2, SCAN, NO_KEY, "Gives a page of the keys, with MATCH, COUNT and TYPE."),
    command(Kind::DbSize, "dbsize", 1, READ, NO_KEY, "Gives the number of keys."),
    command(Kind::FlushDb, "flushdb", -1, REMOVE, NO_KEY, "Removes every key."),
    command(Kind::Info, "info", -1, SERVER, NO_KEY, "Tells what the server is and does."),
    command(Kind::Config, "config", -2, SERVER, NO_KEY, "Gives configured values, by CONFIG GET."),
    command(Kind::Command, "command", -1, SERVER, NO_KEY, "Gives this table."),
    command(Kind::Hello, "hello", -1, BEFORE_AUTH, NO_KEY, "Greets; protocol 2 alone is spoken."),
    command(Kind::Auth, "auth", -2, BEFORE_AUTH, NO_KEY, "Says who asks."),
    command(Kind::Client, "client", -2, CONNECTION, NO_KEY, "Names the connection; gives its id."),
    command(Kind::Select, "select", 2, CONNECTION, NO_KEY, "Chooses the database, of which there is one, 0."),
    command(Kind::Quit, "quit", -1, BEFORE_AUTH, NO_KEY, "Ends the connection."),
    command(Kind::Reset, "reset", 1, BEFORE_AUTH, NO_KEY, "Forgets the connection's name."),
];

impl CommandInfo {
    /// The command of a name in any case.
    #[must_use]
    pub fn find(name: &[u8]) -> Option<&'static Self> {
        COMMANDS.iter().find(|command| name.eq_ignore_ascii_case(command.name.as_bytes()))
    }

    /// Whether the command can have so many words, its name counted.
    pub(super) fn takes(&self, words: usize) -> bool {
        let words = i64::try_from(words).unwrap_or(i64::MAX);
        if self.arity < 0 { words >= -self.arity } else { words == self.arity }
    }
}
