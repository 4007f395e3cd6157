//! `Handler`: the one place where a request becomes an operation of the engine.
//!
//! What must hold: the match names every verb, so that a new one can't be forgotten; who may do what is decided here
//! and nowhere else; nothing waits for a sync here but what [`is_slow`](Handler::is_slow) names, which runs on threads
//! of its own.

use std::sync::Arc;

use kvs_engine::limits::DEFAULT_PAGE_KEYS;
use kvs_engine::{Condition, Cursor, Mutation, Operation, Scan};
use kvs_protocol::limits::MAX_PAGE_BYTES;
use kvs_protocol::{Answer, Change, Entry, ErrorCode, Page, Verb, WireError};

use crate::about::About;
use crate::access::Session;
use crate::answered::Answered;
use crate::backup_stream::Backups;
use crate::cursors::Cursors;
use crate::limits::{NUMBERED_PAGE_BYTES, SLOW_QUEUE_JOBS, SLOW_THREADS};
use crate::operation::code_of;
use crate::pool::{Pool as _, PoolError, PoolOptions, SharedQueuePool};
use crate::responses::{Responses, is_read};
use crate::slowlog::SlowLog;
use crate::store::Store;

/// How many requests are announced to the engine at once.
pub(crate) const PREFETCHED_REQUESTS: usize = 32;
/// The sections of `info` that are answered only when they are asked for by their names.
const SLOW_LOG_SECTION: &str = "slowlog";
const LOAD_SECTION: &str = "load";

/// Gives requests to the engine.
pub(crate) struct Handler {
    store: Arc<dyn Store>,
    about: About,
    cursors: Cursors,
    backups: Backups,
    slow_log: SlowLog,
    /// Where jobs go on that have come to a request that may wait for the disk.
    slow: SharedQueuePool,
}

impl Handler {
    /// A handler of requests to this store.
    ///
    /// # Errors
    /// Every [`PoolError`].
    pub(crate) fn new(store: Arc<dyn Store>, about: About) -> Result<Self, PoolError> {
        let options = PoolOptions { queue_jobs: SLOW_QUEUE_JOBS, ..PoolOptions::new(SLOW_THREADS) };
        let slow = SharedQueuePool::with_options(options)?;
        Ok(Self {
            store,
            about,
            cursors: Cursors::default(),
            backups: Backups::default(),
            slow_log: SlowLog::default(),
            slow,
        })
    }

    /// The last requests that took long.
    pub(crate) const fn slow_log(&self) -> &SlowLog {
        &self.slow_log
    }

    /// Has the engine bring nearer what the next requests need. A single one is done sooner without.
    pub(crate) fn prefetch<'a>(&self, requests: impl Iterator<Item = &'a Verb>) {
        let mut keys = [&[][..]; PREFETCHED_REQUESTS];
        let mut count = 0;
        for (place, key) in keys.iter_mut().zip(requests.filter_map(key_of)) {
            *place = key;
            count += 1;
        }
        if count > 1 {
            self.store.prefetch(&keys[..count]);
        }
    }

    /// Whether a request may wait for the disk, or take long.
    pub(crate) const fn is_slow(verb: &Verb) -> bool {
        matches!(verb, Verb::Scan { .. } | Verb::Count | Verb::Clear)
    }

    /// Goes on with a job where nobody minds that it waits. A job that finds no room there is dropped, which answers its
    /// requests.
    pub(crate) fn go_on_slowly(&self, job: impl FnOnce() + Send + 'static) {
        let _ = self.slow.spawn(job);
    }

    /// Does one request, if who asks may have it done. Its answer goes to this slot, now or when it is durable.
    pub(crate) fn handle(&self, verb: Verb, slot: u64, session: &Session, responses: &Arc<Responses>) {
        if let Err(refusal) = session.authorize(verb.name()) {
            return responses.fill(slot, Answered::Refused(refusal));
        }
        let reads = is_read(&verb);
        let answer = |answered| responses.fill(slot, answered);
        let operation = match verb {
            Verb::Ping => return answer(Answered::Pong),
            Verb::Auth { token } => {
                let responses = Arc::clone(responses);
                return session.authenticate(&token, move |result| {
                    let done = |()| Answered::Direct(Answer::Null);
                    responses.fill(slot, result.map_or_else(Answered::Refused, done));
                });
            }
            Verb::Get { key } | Verb::Exists { key } | Verb::Length { key } => Operation::Get { key },
            Verb::Set { key, value } => Operation::Set { key, value },
            Verb::SetIf { key, value, condition, old } => {
                Operation::SetIf { key, value, condition: condition_of(condition), old }
            }
            Verb::Take { key } => Operation::Take { key },
            Verb::Remove { key } => Operation::Remove { key },
            Verb::Batch(changes) => Operation::Batch(changes.into_iter().map(mutation).collect()),
            Verb::Scan { prefix, cursor, limit, values, numbered } => {
                return answer(self.scan(prefix, cursor.as_deref(), limit, values, numbered));
            }
            Verb::Count => return answer(direct(self.store.count().map(Answer::Number))),
            Verb::Clear => return answer(direct(self.store.clear().map(|()| Answer::Null))),
            Verb::Info { section } => return answer(self.info(section.as_deref())),
            Verb::Backup => {
                return answer(self.backups.begin(&self.store).map_or_else(Answered::Refused, Answered::Stream));
            }
        };
        if reads {
            responses.read_begins();
        }
        self.store.submit(operation, responses.completion(slot));
    }

    fn scan(
        &self,
        prefix: Vec<u8>,
        cursor: Option<&str>,
        limit: Option<u32>,
        values: bool,
        numbered: bool,
    ) -> Answered {
        let after = match cursor.map(|text| self.cursor(text, numbered)).transpose() {
            Ok(after) => after,
            Err(error) => return Answered::Engine(Err(error)),
        };
        let max_keys = limit.map_or(DEFAULT_PAGE_KEYS, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let max_bytes = if numbered { NUMBERED_PAGE_BYTES } else { MAX_PAGE_BYTES };
        let page = self.store.scan(&Scan { prefix, after, max_keys, max_bytes, values });
        direct(page.map(|kvs_engine::Page { entries, next }| {
            let entries = entries.into_iter().map(|kvs_engine::Entry { key, value }| Entry { key, value }).collect();
            let text = |cursor: Cursor| match numbered {
                true => self.cursors.number_of(cursor).to_string(),
                false => cursor.to_string(),
            };
            Answer::Page(Page { entries, cursor: next.map(text) })
        }))
    }

    /// The engine's cursor of one that a client was given.
    fn cursor(&self, text: &str, numbered: bool) -> kvs_engine::Result<Cursor> {
        if !numbered {
            return text.parse();
        }
        let number = text.parse().map_err(|_| kvs_engine::Error::WrongCursor)?;
        Ok(self.cursors.cursor_of(number))
    }

    fn info(&self, section: Option<&str>) -> Answered {
        let by_name = match section {
            Some(SLOW_LOG_SECTION) => Some((SLOW_LOG_SECTION, self.slow_log.section())),
            Some(LOAD_SECTION) => Some((LOAD_SECTION, self.about.load())),
            _ => None,
        };
        if let Some((name, fields)) = by_name {
            return Answered::Direct(Answer::Info(About::section(name, fields)));
        }
        let mut info = self.about.info(&self.store.stats());
        if let Some(wanted) = section {
            let known = info.sections.keys().map(String::as_str).chain([SLOW_LOG_SECTION, LOAD_SECTION]);
            let known = known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            info.sections.retain(|name, _| name == wanted);
            if info.sections.is_empty() {
                let message = format!("there is no such section; use one of {known}");
                return Answered::Refused(WireError::new(ErrorCode::InvalidRequest, message));
            }
        }
        Answered::Direct(Answer::Info(info))
    }
}

/// The answer to a request that the engine has done while we waited.
fn direct(result: kvs_engine::Result<Answer>) -> Answered {
    match result {
        Ok(answer) => Answered::Direct(answer),
        Err(error) if error.is_fatal() => Answered::Engine(Err(error)),
        Err(error) => Answered::Refused(WireError::new(code_of(&error), error.to_string())),
    }
}

/// The one key that a request is about, if there is one.
fn key_of(verb: &Verb) -> Option<&[u8]> {
    match verb {
        Verb::Get { key }
        | Verb::Exists { key }
        | Verb::Length { key }
        | Verb::Take { key }
        | Verb::Remove { key }
        | Verb::Set { key, .. }
        | Verb::SetIf { key, .. } => Some(key),
        Verb::Ping
        | Verb::Auth { .. }
        | Verb::Batch(_)
        | Verb::Scan { .. }
        | Verb::Count
        | Verb::Clear
        | Verb::Info { .. }
        | Verb::Backup => None,
    }
}

fn condition_of(condition: kvs_protocol::Condition) -> Condition {
    match condition {
        kvs_protocol::Condition::Always => Condition::Always,
        kvs_protocol::Condition::Missing => Condition::Missing,
        kvs_protocol::Condition::Present => Condition::Present,
    }
}

fn mutation(change: Change) -> Mutation {
    match change {
        Change::Set { key, value } => Mutation::Set { key, value },
        Change::Remove { key } => Mutation::Remove { key },
    }
}
