//! `SlowLog`: the last requests that took long, each with where its time went.
//!
//! What must hold:
//! * no key and no value stands in it: it is read by whoever may read figures, and copied into tickets;
//! * it has at most `ENTRIES` requests, the oldest goes first;
//! * a request that is not slow costs no lock and no look at the clock for it: where time goes is known by what jobs and
//!   groups note about themselves, one look at the clock each, and looked up when a request turns out to be slow.
//!
//! | time | from | to |
//! |---|---|---|
//! | queue | the request was decoded | its job began |
//! | index | its job began | its job had given all its requests to the engine, or it was answered |
//! | log | | what is left: waiting for the group before, and writing the own one |
//! | sync | the group's sync began | it ended |
//! | answer | the engine had answered it: it was durable | it was encoded, after the answers before it, for a client that takes them |

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kvs_engine::Repeated;
use kvs_protocol::{ErrorCode, RequestId};
use serde_json::{Value, json};

use crate::failed_requests::RequestName;
use crate::operation::OperationName;

/// The most requests that are remembered: enough for a look at what happened, a few hundred bytes each.
pub(crate) const ENTRIES: usize = 128;

/// Where the time of a request went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Until its job began.
    pub(crate) queue: Duration,
    /// From then on until the engine had the job's requests.
    pub(crate) index: Duration,
    /// The sync of its group.
    pub(crate) sync: Duration,
    /// From the engine's answer until it was encoded.
    pub(crate) answer: Duration,
}

impl Parts {
    /// Parts that together are not longer than the whole: where a job still ran while the group was synced, that time is the
    /// sync's.
    pub(crate) fn within(self, took: Duration) -> Self {
        let queue = self.queue.min(took);
        let sync = self.sync.min(took - queue);
        let answer = self.answer.min(took - queue - sync);
        let index = self.index.min(took - queue - sync - answer);
        Self { queue, index, sync, answer }
    }
}

/// One slow request.
#[derive(Debug, Clone)]
pub(crate) struct SlowRequest {
    pub(crate) operation: OperationName,
    pub(crate) error: Option<ErrorCode>,
    pub(crate) name: RequestName,
    pub(crate) took: Duration,
    pub(crate) parts: Parts,
}

/// The last slow requests.
#[derive(Debug, Default)]
pub(crate) struct SlowLog {
    /// Held for a push or a copy.
    last: Mutex<Last>,
    logged: Repeated,
}

#[derive(Debug, Default)]
struct Last {
    /// The number of the next request, from 1.
    total: u64,
    requests: VecDeque<Value>,
}

impl SlowLog {
    /// Notes a request; now and then a line of the server's log says so, too.
    pub(crate) fn note(&self, request: &SlowRequest) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.total += 1;
        let number = last.total;
        if last.requests.len() >= ENTRIES {
            last.requests.pop_front();
        }
        let mut entry = request.fields();
        entry["number"] = number.into();
        last.requests.push_back(entry);
        drop(last);
        if let Some(slow) = self.logged.count() {
            tracing::warn!(
                slow,
                number,
                op = request.operation.as_str(),
                took_us = micros(request.took),
                queue_us = micros(request.parts.queue),
                index_us = micros(request.parts.index),
                log_us = micros(request.log()),
                sync_us = micros(request.parts.sync),
                answer_us = micros(request.parts.answer),
                connection = request.name.connection,
                request = request.name.request,
                id = request.name.id.as_ref().map(tracing::field::display),
                "{slow} slow requests; the last is told, `info` with the section `slowlog` has {ENTRIES} of them"
            );
        }
    }

    /// The section `slowlog` of `info`: the newest request first.
    pub(crate) fn section(&self) -> Value {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let requests: Vec<&Value> = last.requests.iter().rev().collect();
        json!({ "total": last.total, "requests": requests })
    }
}

impl SlowRequest {
    /// What is left of its time.
    fn log(&self) -> Duration {
        let Parts { queue, index, sync, answer } = self.parts;
        [queue, index, sync, answer].into_iter().fold(self.took, Duration::saturating_sub)
    }

    fn fields(&self) -> Value {
        let Parts { queue, index, sync, answer } = self.parts;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        json!({
            "op": self.operation.as_str(),
            "outcome": self.error.map_or("ok", ErrorCode::as_str),
            "connection": self.name.connection,
            "request": self.name.request,
            "id": match &self.name.id {
                None => Value::Null,
                Some(RequestId::Number(number)) => (*number).into(),
                Some(RequestId::Text(text)) => text.as_str().into(),
            },
            "atMs": u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX),
            "tookUs": micros(self.took),
            "queueUs": micros(queue),
            "indexUs": micros(index),
            "logUs": micros(self.log()),
            "syncUs": micros(sync),
            "answerUs": micros(answer),
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What the thread that answers a group knows about the group's time at the disk.
pub(crate) mod disk_times {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    /// A group whose requests are being answered.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Group {
        /// How long its sync took; nothing if it needed none.
        pub(crate) sync: Duration,
        /// When its requests began to be answered. No two groups of a thread share it.
        pub(crate) settled: Instant,
    }

    thread_local! {
        static SYNC: Cell<Duration> = const { Cell::new(Duration::ZERO) };
        static GROUP: Cell<Option<Group>> = const { Cell::new(None) };
    }

    /// A group's file was written.
    pub(crate) fn wrote() {
        SYNC.set(Duration::ZERO);
    }

    /// The group's sync took so long.
    pub(crate) fn synced(took: Duration) {
        SYNC.set(took);
    }

    /// From now on this thread answers the group.
    pub(crate) fn answers() {
        GROUP.set(Some(Group { sync: SYNC.take(), settled: Instant::now() }));
    }

    /// The group is answered.
    pub(crate) fn answered() {
        GROUP.set(None);
    }

    /// The group that this thread is answering.
    pub(crate) fn group() -> Option<Group> {
        GROUP.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(took_ms: u64, parts: Parts) -> SlowRequest {
        let took = Duration::from_millis(took_ms);
        let name = RequestName { connection: 3, request: 9, id: Some(RequestId::Number(7)) };
        SlowRequest { operation: OperationName::Set, error: None, name, took, parts }
    }

    #[test]
    fn parts_that_overlap_are_not_longer_than_the_whole() {
        let ms = Duration::from_millis;
        let parts = Parts { queue: ms(12), index: ms(25), sync: ms(2), answer: ms(1) };
        let Parts { queue, index, sync, answer } = parts.within(ms(38));
        assert_eq!((queue, index, sync, answer), (ms(12), ms(23), ms(2), ms(1)));
        let Parts { queue, index, sync, answer } = parts.within(ms(13));
        assert_eq!((queue, index, sync, answer), (ms(12), ms(0), ms(1), ms(0)));
    }

    #[test]
    fn the_oldest_goes_first_and_the_newest_is_told_first() {
        let log = SlowLog::default();
        for took_ms in 1..=ENTRIES as u64 + 5 {
            log.note(&request(took_ms, Parts::default()));
        }
        let section = log.section();
        let requests = section["requests"].as_array().unwrap();
        assert_eq!((requests.len(), section["total"].as_u64()), (ENTRIES, Some(ENTRIES as u64 + 5)));
        assert_eq!(requests[0]["tookUs"], (ENTRIES as u64 + 5) * 1000);
        assert_eq!(requests[ENTRIES - 1]["number"], 6);
    }

    #[test]
    fn the_parts_add_up_to_the_whole() {
        let ms = Duration::from_millis;
        let entry = request(100, Parts { queue: ms(20), index: ms(5), sync: ms(60), answer: ms(3) }).fields();
        assert_eq!(entry["logUs"], 12_000);
        assert_eq!(entry["answerUs"], 3_000);
        assert_eq!(entry["id"], 7);
        let measured_apart = request(10, Parts { queue: ms(6), index: ms(6), ..Parts::default() }).fields();
        assert_eq!(measured_apart["logUs"], 0, "clocks that were read apart give no negative time");
    }
}
