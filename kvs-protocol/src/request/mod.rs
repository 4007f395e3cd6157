//! `Request`: one line from client to server, such as `{"set":{"key":"k","value":"v"},"id":7}`.
//!
//! What must hold: one verb a request; each request is written in one way. How it is read stands in `decode`.

mod decode;
mod id;
mod name;
mod options;
mod shape;
mod token;

use crate::text;

pub use id::RequestId;
pub(crate) use id::write_id;
pub use name::VerbName;
pub use token::Token;

/// What a client asks, with the id that the response echoes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// Echoed in the response; `None` sends none.
    pub id: Option<RequestId>,
}

/// What can be asked. Keys and values are bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Answers `"pong"`, in its turn.
    Ping,
    /// Says who asks from now on.
    Auth {
        /// The secret that the server knows them by.
        token: Token,
    },
    /// The value of a key, or null.
    Get {
        /// The key.
        key: Vec<u8>,
    },
    /// Whether a key has a value.
    Exists {
        /// The key.
        key: Vec<u8>,
    },
    /// How many bytes the value of a key has, or null.
    Length {
        /// The key.
        key: Vec<u8>,
    },
    /// Stores a value, over an older one if there is one.
    Set {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Stores a value if the condition holds, in one step. In JSON a `set` with `if` or `old`.
    SetIf {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
        /// What must hold.
        condition: Condition,
        /// Whether the answer is the old value, or null where there was none. Else it is whether the value was stored.
        old: bool,
    },
    /// Removes a key, if it is there, in one step with reading it. The answer is the value that it had, or null.
    Take {
        /// The key.
        key: Vec<u8>,
    },
    /// Removes a key that must be there.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
    /// Applies all changes in order or, after a crash, none.
    Batch(Vec<Change>),
    /// One page of the entries whose keys begin with a prefix, in no order.
    Scan {
        /// What the keys begin with; empty for every key.
        prefix: Vec<u8>,
        /// Where the page before ended; `None` begins the scan.
        cursor: Option<String>,
        /// The most entries, 1 to [`MAX_PAGE_ENTRIES`](crate::limits::MAX_PAGE_ENTRIES); `None` is the server's choice.
        limit: Option<u32>,
        /// Whether the values are wanted as well.
        values: bool,
        /// Whether cursors are decimal numbers, as the clients of Redis need them. JSON has no word for it.
        numbered: bool,
    },
    /// How many keys there are.
    Count,
    /// Removes every key.
    Clear,
    /// What the server is and does.
    Info {
        /// One section; `None` is all of them.
        section: Option<String>,
    },
    /// A backup of the store, in many responses.
    Backup,
}

/// What must hold for a value to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Always,
    /// The key has no value; `"if":"missing"`.
    Missing,
    /// The key has a value; `"if":"present"`.
    Present,
}

/// One change of a batch. Removing a key that is not there is no error in a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Stores a value.
    Set {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a key.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
}

impl From<Verb> for Request {
    fn from(verb: Verb) -> Self {
        Self { verb, id: None }
    }
}

impl Request {
    /// Appends the request as one line with its line end.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match &self.verb {
            Verb::Ping | Verb::Count | Verb::Clear | Verb::Backup => {
                out.extend_from_slice(b"{\"");
                out.extend_from_slice(self.verb.name().as_str().as_bytes());
                out.extend_from_slice(b"\":{}");
            }
            Verb::Get { key }
            | Verb::Exists { key }
            | Verb::Length { key }
            | Verb::Take { key }
            | Verb::Remove { key } => write_body(out, self.verb.name().as_str(), key, None),
            Verb::Set { key, value } => write_body(out, "set", key, Some(value)),
            Verb::SetIf { key, value, condition, old } => {
                write_body(out, "set", key, Some(value));
                out.pop();
                match condition {
                    Condition::Always => {}
                    Condition::Missing => out.extend_from_slice(b",\"if\":\"missing\""),
                    Condition::Present => out.extend_from_slice(b",\"if\":\"present\""),
                }
                // A set with neither is the plain one, whose answer is null.
                if *old || *condition == Condition::Always {
                    out.extend_from_slice(if *old { b",\"old\":true" } else { b",\"old\":false" });
                }
                out.push(b'}');
            }
            Verb::Auth { token } => write_one(out, "auth", "token", Some(token.as_bytes())),
            Verb::Info { section } => write_one(out, "info", "section", section.as_ref().map(String::as_bytes)),
            Verb::Scan { prefix, cursor, limit, values, numbered: _ } => {
                out.extend_from_slice(b"{\"scan\":{");
                text::write_field(out, "prefix", prefix);
                if let Some(cursor) = cursor {
                    out.extend_from_slice(b",\"cursor\":");
                    text::write_string(out, cursor);
                }
                if let Some(limit) = limit {
                    out.extend_from_slice(format!(",\"limit\":{limit}").as_bytes());
                }
                out.extend_from_slice(if *values { b"}" } else { b",\"values\":false}" });
            }
            Verb::Batch(changes) => {
                out.extend_from_slice(b"{\"batch\":[");
                for (position, change) in changes.iter().enumerate() {
                    if position > 0 {
                        out.push(b',');
                    }
                    match change {
                        Change::Set { key, value } => write_body(out, "set", key, Some(value)),
                        Change::Remove { key } => write_body(out, "rm", key, None),
                    }
                    out.push(b'}');
                }
                out.push(b']');
            }
        }
        write_id(out, self.id.as_ref());
        out.extend_from_slice(b"}\n");
    }
}

/// Appends `{"verb":{"field":..}` with its one field, if there is one, and leaves the outer object open.
fn write_one(out: &mut Vec<u8>, verb: &str, field: &str, bytes: Option<&[u8]>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(verb.as_bytes());
    out.extend_from_slice(b"\":{");
    if let Some(bytes) = bytes {
        text::write_field(out, field, bytes);
    }
    out.push(b'}');
}

/// Appends `{"verb":{"key":..,"value":..}` and leaves the outer object open.
fn write_body(out: &mut Vec<u8>, verb: &str, key: &[u8], value: Option<&[u8]>) {
    out.extend_from_slice(b"{\"");
    out.extend_from_slice(verb.as_bytes());
    out.extend_from_slice(b"\":{");
    text::write_field(out, "key", key);
    if let Some(value) = value {
        out.push(b',');
        text::write_field(out, "value", value);
    }
    out.push(b'}');
}
