//! `Load`: groups of connections to one server, driven by one thread for a time.
//!
//! What must hold: a closed loop asks again as soon as it is answered; an open loop asks when it is due, whatever the
//! server does, and counts latency from then on. Nothing is asked after the time is over, and what is still under way
//! then has some seconds to be answered.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};

use crate::keys::VALUE_BYTES;
use crate::outcome::Outcome;
use crate::player::Player;
use crate::wire::Wire;

/// How long answers are waited for after the end.
const GRACE: Duration = Duration::from_secs(10);
/// The longest sleep, so that the end is not slept over.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);
/// Events taken at once.
const EVENTS: usize = 1024;
/// What all sockets read through, in bytes: longer than any answer.
const BUFFER_BYTES: usize = 8 << 20;

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As soon as all that the connection asked is answered, as many as its depth.
    Closed,
    /// So many a second by all connections of the group together, each when it is due.
    PerSecond(f64),
}

/// Connections that do the same.
#[derive(Debug, Clone)]
pub struct Group {
    /// How many.
    pub connections: usize,
    /// The most requests of one connection under way.
    pub depth: usize,
    /// When they are sent.
    pub pace: Pace,
    /// Sets among a hundred requests; the others are gets.
    pub set_percent: u64,
    /// Keys are chosen from the first so many.
    pub keys: u64,
    /// Every key from this one on is set once, in order, and then the group is done.
    pub once_from: Option<u64>,
}

impl Group {
    /// Closed loops that set.
    #[must_use]
    pub const fn sets(connections: usize, depth: usize, keys: u64) -> Self {
        Self { connections, depth, pace: Pace::Closed, set_percent: 100, keys, once_from: None }
    }

    /// Closed loops that get.
    #[must_use]
    pub const fn gets(connections: usize, depth: usize, keys: u64) -> Self {
        Self { set_percent: 0, ..Self::sets(connections, depth, keys) }
    }

    /// The same group with another pace.
    #[must_use]
    pub const fn at(self, pace: Pace) -> Self {
        Self { pace, ..self }
    }
}

/// What is done to a server.
#[derive(Debug, Clone)]
pub struct Load {
    /// The server.
    pub addr: SocketAddr,
    /// What is spoken.
    pub wire: Wire,
    /// Bytes of a value.
    pub value_bytes: usize,
    /// How long requests are sent.
    pub time: Duration,
    /// Never sleep: for a generator that has a core of its own. A sleeping one wakes some 60 us late.
    pub spin: bool,
    /// Which keys are chosen.
    pub seed: u64,
    /// Who asks.
    pub groups: Vec<Group>,
}

impl Load {
    /// A load that sleeps while there is nothing to do.
    #[must_use]
    pub const fn new(addr: SocketAddr, wire: Wire, time: Duration, groups: Vec<Group>) -> Self {
        Self { addr, wire, value_bytes: VALUE_BYTES, time, spin: false, seed: 1, groups }
    }

    /// Runs it; gives an outcome for each group.
    ///
    /// # Errors
    /// When no connection could be made, or what comes back is no answer.
    pub fn run(&self) -> io::Result<Vec<Outcome>> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut players = Vec::new();
        for group in &self.groups {
            let first: usize = players.iter().map(Player::sockets).sum();
            players.push(Player::connect(self, group, &epoll, first)?);
        }
        let time_ns = nanoseconds(self.time);
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut events: Vec<epoll::Event> = Vec::with_capacity(EVENTS);
        let began = Instant::now();
        loop {
            let now_ns = nanoseconds(began.elapsed());
            let is_over = now_ns >= time_ns;
            for player in &mut players {
                player.ask(now_ns, is_over)?;
            }
            if players.iter().all(Player::is_done) || now_ns >= time_ns + nanoseconds(GRACE) {
                break;
            }
            let sleep = self.sleep(&players, now_ns);
            events.clear();
            match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), Some(&sleep)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                let number = usize::try_from(event.data.u64()).expect("a socket's number");
                let player = players.iter_mut().find(|player| player.has(number)).expect("a socket has a player");
                // Answers that came together are as late as the last look at the clock says.
                let now_ns = nanoseconds(began.elapsed());
                player.hear(number, event.flags, now_ns, time_ns, &mut buffer)?;
            }
        }
        let seconds = began.elapsed().min(self.time).as_secs_f64();
        let now_ns = nanoseconds(began.elapsed());
        Ok(players.into_iter().map(|player| player.end(now_ns.min(time_ns), seconds)).collect())
    }

    /// Until the next request is due.
    fn sleep(&self, players: &[Player<'_>], now_ns: u64) -> Timespec {
        let longest = if self.spin { 0 } else { nanoseconds(LONGEST_SLEEP) };
        let due = players.iter().filter_map(Player::next_due_ns).map(|due_ns| due_ns.saturating_sub(now_ns)).min();
        let sleep_ns = due.unwrap_or(longest).min(longest);
        Timespec { tv_sec: 0, tv_nsec: i64::try_from(sleep_ns).expect("it is short") }
    }
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
