//! `Greeting`: what a connection says of itself and asks of the server's nature: HELLO, AUTH, CLIENT, SELECT, RESET,
//! CONFIG GET and COMMAND. None of it needs the store.

use super::command::{COMMANDS, CommandInfo};
use super::frame::Words;
use super::pattern::Pattern;
use super::read::{Read, Result, invalid, local, lower, number, quoted};
use super::reply::{Reply, write_array, write_bulk, write_integer, write_map, write_set, write_word};
use super::version::Version;
use crate::error_code::ErrorCode;
use crate::request::{Token, Verb};
use crate::response::WireError;

/// The longest name of a connection, in bytes.
const MAX_NAME_BYTES: usize = 256;
/// What `CONFIG GET` knows: what clients ask for before they go on.
const CONFIGURED: &[(&str, &str)] = &[("appendonly", "yes"), ("databases", "1"), ("save", "")];

/// What a connection is called.
#[derive(Debug)]
pub(super) struct Greeting {
    connection: u64,
    name: Vec<u8>,
    /// What the client asked for last.
    version: Version,
}

impl Greeting {
    pub(super) fn new(connection: u64) -> Self {
        Self { connection, name: Vec::new(), version: Version::default() }
    }

    /// `HELLO [2|3 [AUTH user password] [SETNAME name]]`.
    pub(super) fn hello<'a>(&mut self, mut words: Words<'a>) -> Result<'a> {
        let mut version = self.version;
        if let Some(wanted) = words.next() {
            let wanted = number(wanted);
            let wanted = wanted.ok_or_else(|| invalid("Protocol version is not an integer or out of range"))?;
            version = Version::of(wanted).ok_or_else(|| {
                let message = "NOPROTO unsupported protocol version; this server speaks 2 and 3";
                WireError::new(ErrorCode::NotSupported, message)
            })?;
        }
        let (mut token, mut name) = (None, None);
        while let Some(option) = words.next() {
            if option.eq_ignore_ascii_case(b"AUTH") && words.left() >= 2 {
                token = words.by_ref().nth(1).map(Token::new);
            } else if option.eq_ignore_ascii_case(b"SETNAME") && words.left() >= 1 {
                name = words.next();
            } else {
                return Err(invalid(format!("syntax error in HELLO option '{}'", quoted(option))));
            }
        }
        if let Some(name) = name {
            self.set_name(name)?;
        }
        self.version = version;
        let mut raw = Vec::new();
        write_map(&mut raw, 7);
        for (field, value) in [("server", "aryavarth-kvs"), ("version", env!("CARGO_PKG_VERSION"))] {
            write_bulk(&mut raw, field.as_bytes());
            write_bulk(&mut raw, value.as_bytes());
        }
        for (field, value) in [("proto", version.number()), ("id", self.connection)] {
            write_bulk(&mut raw, field.as_bytes());
            write_integer(&mut raw, value);
        }
        for (field, value) in [("mode", "standalone"), ("role", "master")] {
            write_bulk(&mut raw, field.as_bytes());
            write_bulk(&mut raw, value.as_bytes());
        }
        write_bulk(&mut raw, b"modules");
        write_array(&mut raw, 0);
        Ok(Read::Ask(token.map_or(Verb::Ping, |token| Verb::Auth { token }), Reply::Switch { version, raw }))
    }

    /// `AUTH [user] password`; the token alone says who it is.
    pub(super) fn auth<'a>(&mut self, words: Words<'a>) -> Result<'a> {
        match words.left() {
            1 | 2 => {
                let token = Token::new(words.last().unwrap_or_default());
                Ok(Read::Ask(Verb::Auth { token }, Reply::Word("OK")))
            }
            _ => Err(invalid("syntax error")),
        }
    }

    /// `CLIENT ID | GETNAME | SETNAME name | SETINFO attribute value`.
    pub(super) fn client<'a>(&mut self, mut words: Words<'a>) -> Result<'a> {
        let subcommand = words.next().unwrap_or_default();
        let mut raw = Vec::new();
        match (lower(subcommand).as_str(), words.left()) {
            ("id", 0) => write_integer(&mut raw, self.connection),
            ("getname", 0) if self.name.is_empty() => return local(Reply::Nil),
            ("getname", 0) => write_bulk(&mut raw, &self.name),
            ("setname", 1) => {
                self.set_name(words.next().unwrap_or_default())?;
                write_word(&mut raw, "OK");
            }
            ("setinfo", 2) => match lower(words.next().unwrap_or_default()).as_str() {
                "lib-name" | "lib-ver" => write_word(&mut raw, "OK"),
                other => return Err(invalid(format!("Unrecognized option '{other}'"))),
            },
            _ => return Err(unknown_subcommand("CLIENT", subcommand)),
        }
        local(Reply::Raw(raw))
    }

    fn set_name(&mut self, name: &[u8]) -> std::result::Result<(), WireError> {
        if name.len() > MAX_NAME_BYTES {
            let message = format!("name of {} bytes is larger than the limit of {MAX_NAME_BYTES} bytes", name.len());
            return Err(WireError::new(ErrorCode::TooLarge, message));
        }
        if !name.iter().all(u8::is_ascii_graphic) {
            return Err(invalid("Client names cannot contain spaces, newlines or special characters."));
        }
        self.name = name.to_vec();
        Ok(())
    }

    pub(super) fn select<'a>(&mut self, mut words: Words<'a>) -> Result<'a> {
        match number::<u64>(words.next().unwrap_or_default()) {
            Some(0) => local(Reply::Word("OK")),
            Some(_) => Err(invalid("DB index is out of range")),
            None => Err(invalid("invalid DB index")),
        }
    }

    pub(super) fn reset<'a>(&mut self) -> Result<'a> {
        (self.name, self.version) = (Vec::new(), Version::default());
        let mut raw = Vec::new();
        write_word(&mut raw, "RESET");
        local(Reply::Switch { version: self.version, raw })
    }

    /// `CONFIG GET pattern [pattern ...]`.
    pub(super) fn config<'a>(&mut self, mut words: Words<'a>) -> Result<'a> {
        let subcommand = words.next().unwrap_or_default();
        if !subcommand.eq_ignore_ascii_case(b"GET") || words.left() == 0 {
            return Err(unknown_subcommand("CONFIG", subcommand));
        }
        // Each word is looked at once, and those that are too long to be a pattern match nothing.
        let mut wanted = [false; CONFIGURED.len()];
        for pattern in words.filter_map(Pattern::new) {
            for (wanted, (name, _)) in wanted.iter_mut().zip(CONFIGURED) {
                *wanted |= pattern.matches(name.as_bytes());
            }
        }
        let mut raw = Vec::new();
        write_map(&mut raw, wanted.iter().filter(|wanted| **wanted).count());
        for ((name, value), _) in CONFIGURED.iter().zip(wanted).filter(|(_, wanted)| *wanted) {
            write_bulk(&mut raw, name.as_bytes());
            write_bulk(&mut raw, value.as_bytes());
        }
        local(Reply::Raw(raw))
    }

    /// `COMMAND [COUNT | LIST | INFO [name ...] | DOCS [name ...]]`.
    pub(super) fn command<'a>(&mut self, mut words: Words<'a>) -> Result<'a> {
        let subcommand = words.next();
        let mut raw = Vec::new();
        match (subcommand.map(lower).as_deref(), words.left()) {
            (None, _) => write_all(&mut raw, COMMANDS.iter(), write_info),
            (Some("count"), 0) => write_integer(&mut raw, COMMANDS.len() as u64),
            (Some("list"), 0) => {
                write_all(&mut raw, COMMANDS.iter(), |raw, command| write_bulk(raw, command.name.as_bytes()));
            }
            (Some("info"), 0) => write_all(&mut raw, COMMANDS.iter(), write_info),
            // Names beyond the number of commands can only repeat themselves.
            (Some("info"), count) if count <= COMMANDS.len() => {
                let found = words.map(CommandInfo::find).collect::<Vec<_>>();
                write_all(&mut raw, found.into_iter(), |raw, command| match command {
                    Some(command) => write_info(raw, command),
                    None => Version::Three.write_null(raw),
                });
            }
            (Some("docs"), count) if count <= COMMANDS.len() => {
                let names: Vec<&[u8]> = words.collect();
                let is_wanted = |command: &&CommandInfo| {
                    names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(command.name.as_bytes()))
                };
                let found: Vec<_> = COMMANDS.iter().filter(is_wanted).collect();
                write_map(&mut raw, found.len());
                for command in found {
                    write_bulk(&mut raw, command.name.as_bytes());
                    write_map(&mut raw, 1);
                    write_bulk(&mut raw, b"summary");
                    write_bulk(&mut raw, command.summary.as_bytes());
                }
            }
            _ => return Err(unknown_subcommand("COMMAND", subcommand.unwrap_or_default())),
        }
        local(Reply::Raw(raw))
    }
}

fn write_all<T>(raw: &mut Vec<u8>, items: impl ExactSizeIterator<Item = T>, write: impl Fn(&mut Vec<u8>, T)) {
    write_array(raw, items.len());
    items.for_each(|item| write(raw, item));
}

/// One command, in the six fields that every version of Redis has.
fn write_info(raw: &mut Vec<u8>, command: &CommandInfo) {
    write_array(raw, 6);
    write_bulk(raw, command.name.as_bytes());
    write_integer(raw, command.arity);
    write_set(raw, command.flags.len());
    command.flags.iter().for_each(|flag| write_word(raw, flag));
    write_integer(raw, command.keys.0);
    write_integer(raw, command.keys.1);
    write_integer(raw, command.step);
}

fn unknown_subcommand(command: &str, subcommand: &[u8]) -> WireError {
    invalid(format!("unknown subcommand or wrong number of arguments for '{}' of {command}", quoted(subcommand)))
}
