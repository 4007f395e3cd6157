//! `Player`: the connections of one group while a load runs.

use std::io;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};

use crate::keys::{Numbers, Values, key};
use crate::load::{Group, Load, Pace};
use crate::outcome::Outcome;
use crate::socket::{Asked, Socket};
use crate::wire::{Reply, Wire};

/// How many requests that are due an open loop hands out before it looks at the sockets again.
const DUE_AT_ONCE: usize = 256;
/// How many of those that are due together go to one connection: a system call for each would be what limits the load.
const DUE_TOGETHER: usize = 32;

/// The connections of one group.
pub(crate) struct Player<'a> {
    group: Group,
    wire: Wire,
    epoll: &'a OwnedFd,
    sockets: Vec<Socket>,
    /// The number of the first socket.
    first: usize,
    numbers: Numbers,
    values: Values,
    /// The next key of a group that sets each once.
    next_key: u64,
    /// When the next request of an open loop is due, and how far the ones after it lie apart.
    due_ns: f64,
    interval_ns: f64,
    /// The socket whose turn it is.
    turn: usize,
    /// Sockets that have something to send.
    unsent: Vec<usize>,
    begun: bool,
    is_over: bool,
    outcome: Outcome,
}

impl<'a> Player<'a> {
    pub(crate) fn connect(load: &Load, group: &Group, epoll: &'a OwnedFd, first: usize) -> io::Result<Self> {
        let mut sockets = Vec::with_capacity(group.connections);
        for place in 0..group.connections {
            let socket = Socket::connect(load.addr)?;
            let number = EventData::new_u64((first + place) as u64);
            epoll::add(epoll, &socket.stream, number, EventFlags::IN)?;
            sockets.push(socket);
        }
        let interval_ns = match group.pace {
            Pace::Closed => 0.0,
            Pace::PerSecond(rate) => 1e9 / rate,
        };
        Ok(Self {
            wire: load.wire,
            epoll,
            sockets,
            first,
            numbers: Numbers::new(load.seed ^ ((first as u64) << 32)),
            values: Values::new(load.value_bytes),
            next_key: group.once_from.unwrap_or(0),
            due_ns: 0.0,
            interval_ns,
            turn: 0,
            unsent: Vec::new(),
            begun: false,
            is_over: false,
            outcome: Outcome::default(),
            group: group.clone(),
        })
    }

    pub(crate) fn sockets(&self) -> usize {
        self.sockets.len()
    }

    pub(crate) fn has(&self, number: usize) -> bool {
        (self.first..self.first + self.sockets.len()).contains(&number)
    }

    /// When an open loop has to ask again; `None` when nothing is due before an answer.
    pub(crate) fn next_due_ns(&self) -> Option<u64> {
        let is_open = self.group.pace != Pace::Closed && !self.is_over;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a time since the beginning")]
        let due_ns = self.due_ns as u64;
        is_open.then_some(due_ns)
    }

    /// Whether nothing more is asked and all is answered.
    pub(crate) fn is_done(&self) -> bool {
        let has_asked_all = self.is_over || self.has_set_all();
        has_asked_all && self.sockets.iter().all(|socket| socket.asked.is_empty() || socket.is_closed)
    }

    fn has_set_all(&self) -> bool {
        self.group.once_from.is_some() && self.next_key >= self.group.keys
    }

    /// Asks what is due.
    pub(crate) fn ask(&mut self, now_ns: u64, is_over: bool) -> io::Result<()> {
        self.is_over = is_over;
        if !is_over {
            match self.group.pace {
                Pace::Closed if self.begun => {}
                Pace::Closed => (0..self.sockets.len()).for_each(|place| self.fill(place, now_ns)),
                Pace::PerSecond(_) => self.ask_what_is_due(now_ns),
            }
            self.begun = true;
        }
        self.send()
    }

    /// An open loop's requests go to the connections in turn; one that has as many under way as it may is left out.
    fn ask_what_is_due(&mut self, now_ns: u64) {
        let places = self.sockets.len();
        for asked in 0..DUE_AT_ONCE {
            let Some(due_ns) = self.next_due_ns().filter(|due_ns| *due_ns <= now_ns) else { return };
            let may_ask = |socket: &Socket| socket.asked.len() < self.group.depth && !socket.is_closed;
            let first = if asked % DUE_TOGETHER == 0 { self.turn + 1 } else { self.turn };
            let free = (0..places).map(|step| (first + step) % places).find(|place| may_ask(&self.sockets[*place]));
            // Without a free connection it stays due.
            let Some(place) = free else { return };
            self.turn = place;
            self.due_ns += self.interval_ns;
            self.push(place, due_ns);
        }
    }

    /// A closed loop's next requests.
    fn fill(&mut self, place: usize, now_ns: u64) {
        for _ in 0..self.group.depth {
            if self.has_set_all() {
                return;
            }
            self.push(place, now_ns);
        }
    }

    fn push(&mut self, place: usize, due_ns: u64) {
        let socket = &mut self.sockets[place];
        let is_get = self.group.once_from.is_none() && self.numbers.below(100) >= self.group.set_percent;
        let index = if self.group.once_from.is_some() { self.next_key } else { self.numbers.below(self.group.keys) };
        self.next_key += 1;
        if is_get {
            self.wire.get(&key(index), &mut socket.output);
        } else {
            self.wire.set(&key(index), self.values.value(self.numbers.number()), &mut socket.output);
        }
        // A closed loop asks several at once, which are sent together.
        if socket.asked.back().is_none_or(|last| last.due_ns != due_ns) {
            self.unsent.push(place);
        }
        socket.asked.push_back(Asked { due_ns, is_get });
    }

    /// Sends what was asked since the last time.
    fn send(&mut self) -> io::Result<()> {
        while let Some(place) = self.unsent.pop() {
            self.send_to(place)?;
        }
        Ok(())
    }

    fn send_to(&mut self, place: usize) -> io::Result<()> {
        let socket = &mut self.sockets[place];
        let waits = !socket.send();
        if waits != socket.waits_to_send && !socket.is_closed {
            socket.waits_to_send = waits;
            let flags = if waits { EventFlags::IN | EventFlags::OUT } else { EventFlags::IN };
            let number = EventData::new_u64((self.first + place) as u64);
            epoll::modify(self.epoll, &socket.stream, number, flags)?;
        }
        Ok(())
    }

    /// Takes what a socket has to tell.
    pub(crate) fn hear(
        &mut self,
        number: usize,
        flags: EventFlags,
        now_ns: u64,
        time_ns: u64,
        buffer: &mut [u8],
    ) -> io::Result<()> {
        let place = number - self.first;
        if flags.intersects(EventFlags::IN | EventFlags::ERR | EventFlags::HUP) {
            let (outcome, socket) = (&mut self.outcome, &mut self.sockets[place]);
            socket.receive(self.wire, buffer, |asked, reply, answer| {
                note(outcome, asked, reply, answer, [now_ns, time_ns]);
            })?;
            if socket.is_closed {
                self.outcome.closed += 1;
                self.outcome.unanswered += socket.asked.len() as u64;
                socket.asked.clear();
                return Ok(epoll::delete(self.epoll, &socket.stream)?);
            }
            if self.group.pace == Pace::Closed && socket.asked.is_empty() && now_ns < time_ns {
                self.fill(place, now_ns);
            }
        }
        if flags.contains(EventFlags::OUT) {
            self.send_to(place)?;
        }
        self.send()
    }

    /// The outcome, with what was not answered.
    pub(crate) fn end(mut self, now_ns: u64, seconds: f64) -> Outcome {
        let left: usize = self.sockets.iter().map(|socket| socket.asked.len()).sum();
        self.outcome.unanswered += left as u64;
        if self.interval_ns > 0.0 {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests")]
            let due = ((now_ns as f64 - self.due_ns).max(0.0) / self.interval_ns) as u64;
            self.outcome.unsent = due;
        }
        self.outcome.seconds = seconds;
        self.outcome
    }
}

fn note(outcome: &mut Outcome, asked: Asked, reply: Reply, answer: &[u8], [now_ns, time_ns]: [u64; 2]) {
    if matches!(reply, Reply::Busy | Reply::Error) {
        outcome.refusal.get_or_insert_with(|| String::from_utf8_lossy(answer).trim_end().to_owned());
    }
    match reply {
        Reply::Busy => outcome.busy += 1,
        Reply::Error => outcome.errors += 1,
        Reply::Done | Reply::Value => {
            outcome.done += u64::from(now_ns <= time_ns);
            outcome.late += u64::from(now_ns > time_ns);
            outcome.missing += u64::from(asked.is_get && reply == Reply::Done);
            outcome.note_latency(asked.due_ns, now_ns.saturating_sub(asked.due_ns));
        }
    }
}
