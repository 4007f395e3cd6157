//! `Job`: the decoded batch of one connection's pending requests, on its way through the pool.
//!
//! What must hold: whatever becomes of a job (run, refused, ended by a panic), each of its requests is answered or
//! handed back, and the connection learns that the job has ended, and whether the pool had no place for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::access::Session;
use crate::answered::Answered;
use crate::handler::{Handler, PREFETCHED_REQUESTS};
use crate::pool::job_times;
use crate::responses::{Asked, JobTimes, Responses};

/// Requests of one connection, in order.
pub(crate) struct Job {
    handler: Arc<Handler>,
    session: Arc<Session>,
    responses: Arc<Responses>,
    requests: VecDeque<Asked>,
    /// The requests have waited already, before this job was made.
    has_waited: bool,
    /// The job has got to a worker.
    began: bool,
    /// The job is where it may wait for the disk.
    may_wait: bool,
    /// The request that is being done.
    current: Option<u64>,
    /// The first and the last request that this run has done.
    done: Option<(u64, u64)>,
}

impl Job {
    pub(crate) fn new(
        handler: Arc<Handler>,
        session: Arc<Session>,
        responses: Arc<Responses>,
        requests: VecDeque<Asked>,
    ) -> Self {
        let has_waited = requests.front().is_some_and(|(first, _)| responses.job_begins(*first));
        Self {
            handler,
            session,
            responses,
            requests,
            has_waited,
            began: false,
            may_wait: false,
            current: None,
            done: None,
        }
    }

    /// Does the requests, as long as the connection has room for what they may answer.
    pub(crate) fn run(mut self) {
        (self.began, self.done) = (true, None);
        self.note_wait();
        let mut announced = 0;
        while self.responses.has_room() {
            if announced == 0 {
                announced = PREFETCHED_REQUESTS;
                self.handler.prefetch(self.requests.iter().take(announced).map(|(_, verb)| verb));
            }
            announced -= 1;
            if !self.may_wait && self.requests.front().is_some_and(|(_, verb)| Handler::is_slow(verb)) {
                return self.go_on_slowly();
            }
            let Some((token, verb)) = self.requests.pop_front() else { break };
            self.current = Some(token);
            self.done = Some((self.done.map_or(token, |(first, _)| first), token));
            self.handler.handle(verb, token, &self.session, &self.responses);
            self.current = None;
        }
    }

    /// Notes a long wait before the job began, before anything is answered.
    fn note_wait(&self) {
        let (Some((first, _)), Some((last, _))) = (self.requests.front(), self.requests.back()) else { return };
        if let Some((admitted, began)) = job_times()
            && (self.has_waited || began.duration_since(admitted) >= JobTimes::NOTED)
        {
            self.responses.job_waited(JobTimes { tokens: (*first, *last), began, ended: began, is_long: true });
        }
    }

    /// When it began and ended, if it was run.
    fn times(&self) -> Option<JobTimes> {
        let (tokens, (admitted, began)) = (self.done?, job_times()?);
        let ended = Instant::now();
        Some(JobTimes { tokens, began, ended, is_long: ended.duration_since(admitted) >= JobTimes::NOTED })
    }

    /// Goes on with the rest, in its order, where waiting holds up nobody.
    fn go_on_slowly(mut self) {
        // As if it had not begun: if there is no room, the rest is handed back so.
        (self.began, self.may_wait) = (false, true);
        let handler = Arc::clone(&self.handler);
        handler.go_on_slowly(move || self.run());
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(token) = self.current {
            self.responses.fill_submitted(token, Answered::fault());
        }
        let times = self.times();
        self.responses.job_ends(std::mem::take(&mut self.requests), !self.began, times);
    }
}
