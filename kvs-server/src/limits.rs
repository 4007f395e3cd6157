//! Every limit of the server, with its unit and its reason. Past a limit a client gets a typed error or a closed
//! connection; nothing waits or grows without bound.

use std::time::Duration;

use kvs_protocol::limits::{MAX_KEY_BYTES, max_frame_bytes};

use crate::pool::DEFAULT_QUEUE_JOBS;

/// Client connections, taken before `accept`: beyond this, clients wait in the system's backlog. 10,000 idle ones
/// take some 100 MB.
pub const MAX_CONNECTIONS: usize = 10_000;
/// Clients that the system keeps for us while we are busy accepting; the system may allow fewer.
pub const LISTEN_BACKLOG: u32 = 4096;
/// Answers that the system keeps for one client, in bytes; it counts about twice as much. Left to itself it would keep some
/// megabytes for each client that reads nothing, and a few hundred of those would leave the machine none for others.
pub const SEND_BUFFER_BYTES: u32 = 128 * 1024;
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
/// Answers of many responses are made no further ahead of what the client takes than so many bytes.
pub const STREAM_OUTPUT_BYTES: usize = 128 * 1024;
/// Parts of a backup between who reads the store and who writes to the client, each of 48 KiB at most.
pub const STREAM_PARTS: usize = 4;
/// Backups over the wire at once: each has a thread, and reads the whole store.
pub const MAX_BACKUPS: usize = 1;
/// Threads for requests that walk through the store (`scan`, `count`, `clear`): they may wait for the disk, which no
/// thread of the pool and none of the sockets does. Two, so that one long walk does not make all others wait.
pub const SLOW_THREADS: u32 = 2;
/// Jobs that wait for one of those threads, one a connection; beyond, they are answered `busy`.
pub const SLOW_QUEUE_JOBS: usize = 1024;
/// Keys in one page that answers SCAN of RESP, in bytes: its patterns are matched where answers are encoded, in one step
/// for each byte.
pub const NUMBERED_PAGE_BYTES: usize = 64 * 1024;
/// Cursors that are remembered for scans whose engine has none that are numbers; the oldest is forgotten first.
pub const MAX_NUMBERED_CURSORS: usize = 1024;
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
/// How long nothing more is read from a connection whose requests were answered `busy` for want of bytes in flight:
/// refusing at full speed would take the time from what is done.
pub const IN_FLIGHT_PAUSE: Duration = Duration::from_millis(100);
/// How many of its requests are so answered before it pauses: refusals are answers that take memory, too.
pub const IN_FLIGHT_REFUSALS: usize = 16;
/// How long a connection waits for a place in the pool's queue before its requests are answered `busy`. A client that
/// asks again at once costs as much as the work that it is refused, so it does not get its answer at once.
pub const QUEUE_DEADLINE: Duration = Duration::from_millis(200);
/// How often it asks meanwhile: about as long as a full queue takes to be worked off.
pub const QUEUE_RETRY: Duration = Duration::from_millis(50);
/// How long a closed connection may still send, so that the last answer is not lost to a reset.
pub const LINGER_DEADLINE: Duration = Duration::from_millis(500);
/// How many bytes it may send meanwhile.
pub const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// The first wait after a failed `accept`, when descriptors have run out for example; doubled up to the last.
pub const ACCEPT_RETRY_FIRST: Duration = Duration::from_millis(10);
/// The longest wait after a failed `accept`. The server serves new clients again within twice this time: some of it is
/// for the clients that were kept waiting.
pub const ACCEPT_RETRY_LAST: Duration = Duration::from_millis(500);

/// How long a shutdown waits for requests in flight. Kubernetes gives 30 s; closing the engine needs some of them.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(15);
/// How long the end waits for threads that are still in a system call.
pub const RUNTIME_END_DEADLINE: Duration = Duration::from_secs(1);
/// How long a server that can't go on gives its last answers; it must end within a second.
pub const FATAL_DRAIN_DEADLINE: Duration = Duration::from_millis(300);
/// How often the engine is asked whether it can go on, should no request meet the failure.
pub const FATAL_CHECK: Duration = Duration::from_millis(200);

/// A client must have authenticated within this time, where it must at all.
pub const AUTH_DEADLINE: Duration = Duration::from_secs(10);
/// The longest line of a client that has not authenticated yet, in bytes: a token of any length fits.
pub const STRANGER_FRAME_BYTES: usize = 16 * 1024;
/// Failed attempts to authenticate, after which a connection is closed.
pub const MAX_FAILED_AUTHS: u32 = 3;
/// How long the answer to a failed attempt waits; a fuzzer does not wait for half a second each time.
pub const FAILED_AUTH_DELAY: Duration = Duration::from_millis(if cfg!(fuzzing) { 1 } else { 500 });
/// A TLS handshake must be done within this time, from connecting on.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Encrypted answers of one connection that wait for its socket, in bytes: one record of TLS.
pub const TLS_BUFFER_BYTES: usize = 16 * 1024;
/// How often files with certificates and tokens are looked at. A change counts when it is seen twice, so that files that
/// are being replaced one by one are not taken for a pair.
pub const FILE_CHECK: Duration = Duration::from_millis(500);
/// The longest file of settings, certificates or tokens that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// A request that takes longer is remembered in the slow log: far longer than any sync of a disk that is well.
pub const SLOW_REQUEST: Duration = Duration::from_millis(50);

/// The head of an admin request, in bytes.
pub const ADMIN_HEAD_BYTES: usize = 8 * 1024;
/// How long an admin client may take in all, from connecting to having taken its one answer.
pub const ADMIN_DEADLINE: Duration = Duration::from_secs(10);

/// The limits of one server, as they are configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections.
    pub connections: usize,
    /// The longest line of a request, in bytes. It follows from the largest value.
    pub frame_bytes: usize,
    /// Requests of one connection that are read and not yet answered.
    pub pipeline_requests: usize,
    /// Bytes of keys and values of one connection that are read and not yet answered.
    pub pipeline_bytes: usize,
    /// Bytes of answers of one connection that wait to be taken.
    pub output_bytes: usize,
    /// What all connections together may use beyond their allowances, in bytes.
    pub in_flight_bytes: usize,
    /// Jobs that wait for a worker of the pool.
    pub queue_jobs: usize,
    /// As [`FRAME_DEADLINE`].
    pub frame_deadline: Duration,
    /// As [`WRITE_DEADLINE`].
    pub write_deadline: Duration,
    /// As [`IDLE_DEADLINE`].
    pub idle_deadline: Duration,
    /// As [`AUTH_DEADLINE`].
    pub auth_deadline: Duration,
    /// As [`HANDSHAKE_DEADLINE`].
    pub handshake_deadline: Duration,
    /// As [`DRAIN_DEADLINE`].
    pub drain_deadline: Duration,
    /// As [`SLOW_REQUEST`].
    pub slow_request: Duration,
}

impl Limits {
    /// The limits of a server that accepts values up to this size, and is configured in nothing else.
    #[must_use]
    pub const fn for_values(max_value_bytes: usize) -> Self {
        let frame_bytes = max_frame_bytes(MAX_KEY_BYTES, max_value_bytes);
        let frames = frame_bytes * IN_FLIGHT_FRAMES;
        let in_flight_bytes = if frames > MIN_IN_FLIGHT_BYTES { frames } else { MIN_IN_FLIGHT_BYTES };
        Self {
            connections: MAX_CONNECTIONS,
            frame_bytes,
            pipeline_requests: MAX_PIPELINE_REQUESTS,
            pipeline_bytes: MAX_PIPELINE_BYTES,
            output_bytes: MAX_OUTPUT_BYTES,
            in_flight_bytes,
            queue_jobs: DEFAULT_QUEUE_JOBS,
            frame_deadline: FRAME_DEADLINE,
            write_deadline: WRITE_DEADLINE,
            idle_deadline: IDLE_DEADLINE,
            auth_deadline: AUTH_DEADLINE,
            handshake_deadline: HANDSHAKE_DEADLINE,
            drain_deadline: DRAIN_DEADLINE,
            slow_request: SLOW_REQUEST,
        }
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
