//! `Lane`: one connection of a benchmark: what is due, what is under way, and the two loops that send and receive.
//!
//! What must hold: the sender never waits for an answer but for room in the window; the n-th answer belongs to the n-th
//! request under way; no borrow of a cell lives across a wait.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Instant;

use kvs_protocol::ClientError;
use tokio::sync::Notify;

use super::plan::Requests;
use super::stats::{Sample, Stats};
use crate::connection::{Connection, Receiver, Sender};
use crate::error::Error;
use crate::session::broken;

/// Open loop: what is due. Closed loop: nothing, because everything is due as soon as there is room.
#[derive(Default)]
pub(super) struct Lane {
    due: RefCell<VecDeque<Instant>>,
    under_way: RefCell<VecDeque<UnderWay>>,
    is_open_loop: Cell<bool>,
    ended: Cell<bool>,
    /// The sender has something to do: a request is due, or an answer made room.
    to_send: Notify,
    /// The receiver has something to wait for.
    to_receive: Notify,
}

/// A request that was sent.
#[derive(Clone, Copy)]
struct UnderWay {
    due: Instant,
    sent: Instant,
    reads: bool,
}

impl Lane {
    /// A request is due; `false` if too many are and this one is forgotten.
    pub(super) fn push_due(&self, due: Instant, most: usize) -> bool {
        self.is_open_loop.set(true);
        let mut queue = self.due.borrow_mut();
        if queue.len() >= most {
            return false;
        }
        queue.push_back(due);
        self.to_send.notify_one();
        true
    }

    /// Lets a closed loop begin.
    pub(super) fn wake(&self) {
        self.to_send.notify_one();
    }

    /// Nothing more is sent; returns how many requests were due and are not sent any more.
    pub(super) fn end(&self) -> u64 {
        self.ended.set(true);
        self.to_send.notify_one();
        self.to_receive.notify_one();
        let unsent = std::mem::take(&mut *self.due.borrow_mut()).len();
        u64::try_from(unsent).expect("a length fits 64 bits")
    }

    /// When the next request was due, if one is to be sent now.
    fn next_due(&self, window: usize) -> Option<Instant> {
        if self.ended.get() || self.under_way.borrow().len() >= window {
            return None;
        }
        if self.is_open_loop.get() { self.due.borrow_mut().pop_front() } else { Some(Instant::now()) }
    }
}

/// Sends and receives until the lane has ended and every answer is in.
pub(super) async fn work(
    lane: Rc<Lane>,
    connection: Connection,
    mut requests: Requests,
    window: usize,
    stats: Rc<RefCell<Stats>>,
) -> Result<(), Error> {
    let place = connection.place().to_owned();
    let (mut sender, mut receiver, failure) = connection.split();
    let both = async {
        tokio::try_join!(send(&lane, &mut sender, &mut requests, window), receive(&lane, &mut receiver, &stats))
    };
    let result = tokio::select! {
        result = both => result.map(|_| ()),
        cause = failure => Err(ClientError::Io(std::io::Error::other(cause))),
    };
    result.map_err(|error| broken(place, &error, "the benchmark ends with it"))
}

async fn send(lane: &Lane, sender: &mut Sender, requests: &mut Requests, window: usize) -> Result<(), ClientError> {
    loop {
        // The first word to begin, then to go on.
        lane.to_send.notified().await;
        let mut some = false;
        while let Some(due) = lane.next_due(window) {
            let (request, reads) = requests.next();
            sender.send(&request).await?;
            lane.under_way.borrow_mut().push_back(UnderWay { due, sent: Instant::now(), reads });
            some = true;
        }
        if some {
            sender.flush().await?;
            lane.to_receive.notify_one();
        }
        if lane.ended.get() {
            return Ok(());
        }
    }
}

async fn receive(lane: &Lane, receiver: &mut Receiver, stats: &RefCell<Stats>) -> Result<(), ClientError> {
    loop {
        if lane.under_way.borrow().is_empty() {
            if lane.ended.get() {
                return Ok(());
            }
            lane.to_receive.notified().await;
            continue;
        }
        let response = receiver.receive().await?;
        let answered = Instant::now();
        let request = lane.under_way.borrow_mut().pop_front();
        let UnderWay { due, sent, reads } = request.expect("an answer belongs to a request under way");
        let error = response.body.err().map(|error| error.code);
        stats.borrow_mut().record(&Sample { due, sent, answered, reads, error });
        lane.to_send.notify_one();
    }
}
