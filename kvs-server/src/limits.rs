//! Every limit of the server, with its unit and its reason. Past a limit a client gets a typed error or a closed
//! connection; nothing waits or grows without bound.

use std::time::Duration;

use kvs_protocol::limits::{MAX_KEY_BYTES, max_frame_bytes};

/// Client connections, taken before `accept`: beyond this, clients wait in the system's backlog. 10,000 idle ones
/// take some 100 MB.
pub const MAX_CONNECTIONS: usize = 10_000;
/// Clients that the system keeps for us while we are busy accepting; the system may allow fewer.
pub const LISTEN_BACKLOG: u32 = 4096;
/// Admin connections: a scraper, the probes, a few people.
pub const MAX_ADMIN_CONNECTIONS: usize = 64;
/// Requests of one connection that are read and not yet answered: enough to keep every layer busy, and what one client
/// can make others wait for.
pub const MAX_PIPELINE_REQUESTS: usize = 1024;
/// Bytes of keys and values of one connection that are read and not yet answered; the request that passes this is
/// still taken, so any frame fits.
pub const MAX_PIPELINE_BYTES: usize = 1024 * 1024;
/// Answers of one connection, in bytes, that wait to be written. Beyond this its requests wait, so that a client that
/// does not read stops being read; the answer that passes this is still taken.
pub const MAX_OUTPUT_BYTES: usize = 1024 * 1024;
/// Reads of one connection that the engine holds back until an earlier write is durable: each can hold a value of the
/// largest size.
pub const MAX_HELD_READS: usize = 64;
/// What a connection may use without asking, in bytes: an idle one and one with small requests stay below.
pub const CONNECTION_ALLOWANCE_BYTES: usize = 16 * 1024;
/// Bytes that all connections together may use beyond their allowances, in bytes: a quarter of a small pod's memory.
pub const MIN_IN_FLIGHT_BYTES: usize = 64 * 1024 * 1024;
/// Frames of the largest size that must fit into the bytes in flight together, whatever the largest size is.
const IN_FLIGHT_FRAMES: usize = 2;

/// A line that was begun must end within this time, and one second more for each [`SLOWEST_RATE_BYTES`] of it.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(10);
/// Answers that are ready must be taken within this time, and one second more for each [`SLOWEST_RATE_BYTES`] of them.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// The slowest rate, in bytes per second, at which long lines and answers may travel: whoever trickled slower could
/// hold memory for ever.
pub const SLOWEST_RATE_BYTES: usize = 256 * 1024;
/// A client that asks nothing for this long is disconnected.
pub const IDLE_DEADLINE: Duration = Duration::from_secs(300);
/// How long a connection waits for a part of the bytes in flight before it is told that the server is busy.
pub const IN_FLIGHT_DEADLINE: Duration = Duration::from_secs(1);
/// How often it looks meanwhile.
pub const IN_FLIGHT_RETRY: Duration = Duration::from_millis(20);
/// How long a closed connection may still send, so that the last answer is not lost to a reset.
pub const LINGER_DEADLINE: Duration = Duration::from_millis(500);
/// How many bytes it may send meanwhile.
pub const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// The first wait after a failed `accept`, when descriptors have run out for example; doubled up to the last.
pub const ACCEPT_RETRY_FIRST: Duration = Duration::from_millis(10);
/// The longest wait after a failed `accept`: the server heals within this time.
pub const ACCEPT_RETRY_LAST: Duration = Duration::from_secs(1);

/// How long a shutdown waits for requests in flight. Kubernetes gives 30 s; closing the engine needs some of them.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(15);
/// How long the end waits for threads that are still in a system call.
pub const RUNTIME_END_DEADLINE: Duration = Duration::from_secs(1);
/// How long a server that can't go on gives its last answers; it must end within a second.
pub const FATAL_DRAIN_DEADLINE: Duration = Duration::from_millis(300);
/// How often the engine is asked whether it can go on, should no request meet the failure.
pub const FATAL_CHECK: Duration = Duration::from_millis(200);

/// The head of an admin request, in bytes.
pub const ADMIN_HEAD_BYTES: usize = 8 * 1024;
/// How long an admin client may take in all, from connecting to having taken its one answer.
pub const ADMIN_DEADLINE: Duration = Duration::from_secs(10);

/// The limits of one server that follow from its largest value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The longest line of a request, in bytes.
    pub frame_bytes: usize,
    /// What all connections together may use beyond their allowances, in bytes.
    pub in_flight_bytes: usize,
}

impl Limits {
    /// The limits of a server that accepts values up to this size.
    #[must_use]
    pub const fn for_values(max_value_bytes: usize) -> Self {
        let frame_bytes = max_frame_bytes(MAX_KEY_BYTES, max_value_bytes);
        let frames = frame_bytes * IN_FLIGHT_FRAMES;
        let in_flight_bytes = if frames > MIN_IN_FLIGHT_BYTES { frames } else { MIN_IN_FLIGHT_BYTES };
        Self { frame_bytes, in_flight_bytes }
    }
}

#[cfg(test)]
mod tests {
    use kvs_protocol::limits as wire;

    #[test]
    fn wire_and_engine_agree_on_sizes() {
        assert_eq!(wire::MAX_KEY_BYTES, kvs_engine::limits::MAX_KEY_BYTES);
        assert_eq!(wire::DEFAULT_MAX_VALUE_BYTES, kvs_engine::limits::DEFAULT_MAX_VALUE_BYTES);
        assert_eq!(wire::MAX_BATCH_CHANGES, kvs_engine::limits::MAX_BATCH_OPERATIONS);
        assert_eq!(wire::HIGHEST_MAX_VALUE_BYTES, kvs_engine::limits::HIGHEST_MAX_VALUE_BYTES);
    }
}
