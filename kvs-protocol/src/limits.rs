//! The sizes that the wire accepts. Everything else about frames follows from the longest key and the longest value.
//!
//! What must hold: a request with a key and a value within their limits always fits a frame, however its author
//! escaped it. The server's tests keep these numbers equal to those of the engine, which this crate does not know.

/// The longest key, in bytes.
pub const MAX_KEY_BYTES: usize = 64 * 1024;
/// The longest value unless the server is configured otherwise, in bytes.
pub const DEFAULT_MAX_VALUE_BYTES: usize = 1024 * 1024;
/// The longest value that a server can be configured to accept, in bytes.
pub const HIGHEST_MAX_VALUE_BYTES: usize = 64 * 1024 * 1024;
/// The most changes in one batch: a batch is one line of the log and one step for every reader.
pub const MAX_BATCH_CHANGES: usize = 10_000;
/// The most entries of one page of a scan.
pub const MAX_PAGE_ENTRIES: u32 = 10_000;
/// The bytes of keys and values in one page of a scan. A single entry that is larger is a page of its own.
pub const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// The bytes of one part of a backup, before base64: many parts a second, and little to hold for a slow reader.
pub const BACKUP_PART_BYTES: usize = 48 * 1024;
/// The longest request id that is text, in bytes: room for a UUID with a prefix, and cheap to echo.
pub const MAX_ID_BYTES: usize = 64;

/// How many bytes of JSON one byte of a string can take: `\u0001` is the longest form.
const ESCAPE_GROWTH: usize = 6;
/// Room for verb, field names, punctuation and id of a request or response, in bytes.
const ENVELOPE_BYTES: usize = 1024;

/// The longest line, in bytes without its line end, that carries a key and a value of these sizes in any spelling.
#[must_use]
pub const fn max_frame_bytes(key_bytes: usize, value_bytes: usize) -> usize {
    (key_bytes + value_bytes) * ESCAPE_GROWTH + ENVELOPE_BYTES
}

/// The longest line that a server with default limits accepts, in bytes without its line end.
pub const DEFAULT_MAX_FRAME_BYTES: usize = max_frame_bytes(MAX_KEY_BYTES, DEFAULT_MAX_VALUE_BYTES);
/// The longest line that any server sends, in bytes without its line end: what a client must be ready for.
pub const HIGHEST_MAX_FRAME_BYTES: usize = max_frame_bytes(MAX_KEY_BYTES, HIGHEST_MAX_VALUE_BYTES);
