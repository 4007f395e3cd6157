//! `Job`: the decoded batch of one connection's pending requests, on its way through the pool.
//!
//! What must hold: whatever becomes of a job (run, refused, ended by a panic), each of its requests is answered or
//! handed back, and the connection learns that the job has ended.

use std::collections::VecDeque;
use std::sync::Arc;

use kvs_protocol::{ErrorCode, WireError};

use crate::handler::Handler;
use crate::responses::{Answered, Asked, Responses};

/// Requests of one connection, in order.
pub(crate) struct Job {
    handler: Arc<Handler>,
    responses: Arc<Responses>,
    requests: VecDeque<Asked>,
    /// The job has got to a worker.
    began: bool,
    /// The request that is being done.
    current: Option<u64>,
}

impl Job {
    pub(crate) fn new(handler: Arc<Handler>, responses: Arc<Responses>, requests: VecDeque<Asked>) -> Self {
        responses.job_begins();
        Self { handler, responses, requests, began: false, current: None }
    }

    /// Does the requests, as long as the connection has room for what they may answer.
    pub(crate) fn run(mut self) {
        self.began = true;
        while self.responses.has_room() {
            let Some((token, verb)) = self.requests.pop_front() else { break };
            self.current = Some(token);
            self.handler.handle(verb, token, &self.responses);
            self.current = None;
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(token) = self.current {
            self.responses.fill_submitted(token, Answered::fault());
        }
        if !self.began {
            for (token, _) in self.requests.drain(..) {
                let error = WireError::new(ErrorCode::Busy, "the pool's queue is full; try again later");
                self.responses.fill(token, Answered::Refused(error));
            }
        }
        self.responses.job_ends(std::mem::take(&mut self.requests));
    }
}
