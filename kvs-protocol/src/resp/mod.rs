//! RESP, the protocol of Redis, for the verbs that we have: another spelling of the same requests and answers. Requests
//! are spelled the same in its two versions; answers in the second one unless the client says `HELLO 3`.
//!
//! The way of a command: [`Decoder`] finds its end and its words among the bytes that have arrived, and gives it as one
//! request, or as many where it names many keys; each request comes with the [`Reply`] that says how its answer is
//! spelled; [`Replies`] spells it.
//!
//! What must hold:
//! * a command is read only when all of it has arrived, and each byte of it is looked at a bounded number of times,
//!   however it arrives;
//! * nothing is held but what the bytes themselves take, and no length is believed before it is compared with a limit;
//! * after the first byte that is no RESP nothing is read any more.
//!
//! `docs/redis-compatibility.md` says what is the same as in Redis and what is not.

mod command;
mod decoder;
mod frame;
mod hello;
mod pattern;
mod read;
mod reply;
mod version;

pub use command::{COMMANDS, CommandInfo};
pub use decoder::{Decoder, Step, What};
pub use frame::{MAX_ARGUMENTS, ProtocolError};
pub use pattern::{MAX_PATTERN_BYTES, Matcher, Pattern};
pub use reply::{Replies, Reply};
pub use version::Version;
