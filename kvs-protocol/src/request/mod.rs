//! `Request`: one line from client to server, such as `{"set":{"key":"k","value":"v"},"id":7}`.
//!
//! What must hold: one verb a request; each request is written in one way. How it is read stands in `decode`.

mod decode;
mod id;

use crate::text;

pub use id::RequestId;
pub(crate) use id::write_id;

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
    /// Stores a value, over an older one if there is one.
    Set {
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
    /// Removes a key that must be there.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
    /// Applies all changes in order or, after a crash, none.
    Batch(Vec<Change>),
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
            Verb::Ping => out.extend_from_slice(b"{\"ping\":{}"),
            Verb::Get { key } => write_body(out, "get", key, None),
            Verb::Exists { key } => write_body(out, "exists", key, None),
            Verb::Set { key, value } => write_body(out, "set", key, Some(value)),
            Verb::Remove { key } => write_body(out, "rm", key, None),
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
