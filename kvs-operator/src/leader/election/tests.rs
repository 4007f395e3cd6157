//! Elections in a world whose clock, API server and faults this test rules: every run is a seed.

use super::*;

/// Times of a run are counted from its begin, in milliseconds.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn at(self, milliseconds: u64) -> Instant {
        self.0 + Duration::from_millis(milliseconds)
    }

    /// A time of day that is this many seconds wrong.
    fn day(milliseconds: u64, skew_seconds: i64) -> MicroTime {
        let microseconds = i64::try_from(milliseconds).unwrap() * 1000 + (1_800_000_000 + skew_seconds) * 1_000_000;
        MicroTime(Timestamp::from_microsecond(microseconds).unwrap())
    }
}

/// The API server as far as one Lease goes.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
    /// Who became the holder, in order.
    holders: Vec<String>,
}

impl Server {
    fn answer(&mut self, call: &Call) -> Answer {
        let found =
            |lease: &Option<Lease>| lease.clone().map_or(Answer::Absent, |lease| Answer::Found(Box::new(lease)));
        match (call, &self.lease) {
            (Call::Read, lease) => found(lease),
            (Call::Create(_), Some(_)) => Answer::Conflict,
            (Call::Replace(_), None) => Answer::Absent,
            (Call::Replace(new), Some(old)) if new.metadata.resource_version != old.metadata.resource_version => {
                Answer::Conflict
            }
            // As the real one: what changes nothing makes no version.
            (Call::Replace(new), Some(old)) if new.spec == old.spec => found(&self.lease),
            (Call::Create(new) | Call::Replace(new), before) => {
                if before.as_ref().and_then(holder) != holder(new) {
                    self.holders.extend(holder(new).map(str::to_owned));
                }
                self.version += 1;
                let mut stored = new.as_ref().clone();
                stored.metadata.resource_version = Some(self.version.to_string());
                self.lease = Some(stored);
                found(&self.lease)
            }
        }
    }
}

/// Numbers that a seed decides.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        // splitmix64 of Steele, Lea and Flood.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// A call under way.
struct Flight {
    call: Call,
    sent: u64,
    /// When it takes effect, unless it is lost on the way or did already.
    commit: Option<u64>,
    /// What is on its way back; `None` until it took effect.
    answer: Option<Answer>,
    /// When something, or nothing, is received.
    received: u64,
    is_lost: bool,
}

struct Candidate {
    election: Election,
    skew_seconds: i64,
    /// The clock of the day stands still.
    is_frozen: bool,
    /// It does nothing before that, as a process that was stopped.
    paused_until: u64,
    flight: Option<Flight>,
}

/// The longest wait for an answer, as in the edge.
const CALL_LIMIT_MS: u64 = 2000;

struct World {
    clock: Clock,
    dice: Dice,
    server: Server,
    candidates: Vec<Candidate>,
    /// Calls that their sender gave up and that still take effect.
    stray: Vec<(u64, Call)>,
    now: u64,
    faults: bool,
}

impl World {
    fn new(seed: u64, candidates: u64) -> Self {
        let clock = Clock(Instant::now());
        let mut dice = Dice(seed);
        let candidates = (0..candidates)
            .map(|number| Candidate {
                election: Election::new(format!("operator-{number}"), Timing::USUAL, clock.at(0)),
                skew_seconds: i64::try_from(dice.below(7200)).unwrap() - 3600,
                is_frozen: dice.one_in(4),
                paused_until: 0,
                flight: None,
            })
            .collect();
        Self { clock, dice, server: Server::default(), candidates, stray: Vec::new(), now: 0, faults: true }
    }

    /// Who believes to lead now.
    fn leaders(&self) -> Vec<usize> {
        let now = self.clock.at(self.now);
        let leads = |candidate: &Candidate| candidate.election.leads_until().is_some_and(|until| until > now);
        (0..self.candidates.len()).filter(|number| leads(&self.candidates[*number])).collect()
    }

    /// When something happens next to a candidate.
    fn next(&self, candidate: &Candidate) -> u64 {
        let due = match &candidate.flight {
            Some(Flight { commit: Some(commit), .. }) => return *commit,
            Some(flight) => flight.received,
            None => {
                let due = candidate.election.due().saturating_duration_since(self.clock.0);
                u64::try_from(due.as_millis()).unwrap() + 1
            }
        };
        due.max(candidate.paused_until).max(self.now)
    }

    fn step(&mut self) {
        let stray = self.stray.iter().map(|(at, _)| *at).min();
        let (number, at) = (0..self.candidates.len())
            .map(|number| (number, self.next(&self.candidates[number])))
            .min_by_key(|(_, at)| *at)
            .unwrap();
        if let Some(first) = stray.filter(|first| *first <= at) {
            let index = self.stray.iter().position(|(at, _)| *at == first).unwrap();
            let (_, call) = self.stray.swap_remove(index);
            self.now = self.now.max(first);
            self.server.answer(&call);
            return;
        }
        self.now = self.now.max(at);
        if self.faults && self.dice.one_in(40) {
            self.candidates[number].paused_until = self.now + self.dice.below(30_000);
        }
        match self.candidates[number].flight.take() {
            None => self.send(number),
            Some(mut flight) if flight.commit.is_some() => {
                flight.commit = None;
                flight.answer = Some(self.server.answer(&flight.call));
                self.candidates[number].flight = Some(flight);
            }
            Some(flight) => {
                let answer = flight.answer.filter(|_| !flight.is_lost).unwrap_or(Answer::Lost);
                let (sent, now) = (self.clock.at(flight.sent), self.clock.at(self.now));
                self.candidates[number].election.answered(&flight.call, sent, now, answer);
            }
        }
    }

    fn send(&mut self, number: usize) {
        let candidate = &self.candidates[number];
        let day = Clock::day(if candidate.is_frozen { 0 } else { self.now }, candidate.skew_seconds);
        let call = candidate.election.call(self.clock.at(self.now), &day);
        let there = 1 + self.dice.below(100);
        let back = 1 + self.dice.below(100);
        let mut flight = Flight {
            call,
            sent: self.now,
            commit: Some(self.now + there),
            answer: None,
            received: self.now + there + back,
            is_lost: false,
        };
        if self.faults && self.dice.one_in(5) {
            flight.is_lost = true;
            flight.received = self.now + CALL_LIMIT_MS;
            match self.dice.below(3) {
                // Lost on the way there, lost on the way back, or late: it takes effect after its sender gave up.
                0 => flight.commit = None,
                1 => {}
                _ => {
                    flight.commit = None;
                    self.stray.push((flight.received + self.dice.below(3000), flight.call.clone()));
                }
            }
        }
        self.candidates[number].flight = Some(flight);
    }

    fn run_until(&mut self, end: u64) {
        while self.now < end {
            self.step();
            assert!(self.leaders().len() <= 1, "{:?} lead at {} ms", self.leaders(), self.now);
        }
    }
}

#[test]
fn never_two_lead_whatever_is_lost_late_or_stopped_and_in_the_end_one_does() {
    for seed in 0..1000 {
        let candidates = 2 + seed % 3;
        let mut world = World::new(seed, candidates);
        world.run_until(120_000);
        world.faults = false;
        for candidate in &mut world.candidates {
            candidate.paused_until = 0;
        }
        let calm = world.now;
        // A call that is under way may still be lost, and a holder that was stopped is waited for.
        world.run_until(calm + 40_000);
        assert_eq!(world.leaders().len(), 1, "seed {seed}: nobody leads in a calm world");
        let holders = world.server.holders.len();
        world.run_until(world.now + 60_000);
        assert_eq!(world.server.holders.len(), holders, "seed {seed}: a calm world changes no leader");
    }
}

#[test]
fn of_two_candidates_at_the_same_instant_one_wins() {
    for seed in 0..10_000 {
        let mut world = World::new(seed, 2);
        world.faults = false;
        world.run_until(3000);
        assert_eq!(world.server.holders.len(), 1, "seed {seed}");
        assert_eq!(world.leaders().len(), 1, "seed {seed}");
    }
}

/// One candidate and the server, call by call, without faults.
fn turn(server: &mut Server, election: &mut Election, clock: Clock, at: u64) -> (Call, Answer) {
    let call = election.call(clock.at(at), &Clock::day(at, 0));
    let answer = server.answer(&call);
    election.answered(&call, clock.at(at), clock.at(at), answer.clone());
    (call, answer)
}

/// A leader of a fresh Lease, which confirmed it at 0.
fn leader(server: &mut Server, clock: Clock) -> Election {
    let mut election = Election::new("one".into(), Timing::USUAL, clock.at(0));
    assert!(matches!(turn(server, &mut election, clock, 0), (Call::Read, Answer::Absent)));
    assert!(matches!(turn(server, &mut election, clock, 0), (Call::Create(_), Answer::Found(_))));
    assert_eq!(election.leads_until(), Some(clock.at(10_000)));
    election
}

#[test]
fn a_lease_that_was_given_back_is_taken_at_the_next_look() {
    let (mut server, clock) = (Server::default(), Clock(Instant::now()));
    let mut one = leader(&mut server, clock);
    let mut two = Election::new("two".into(), Timing::USUAL, clock.at(0));
    turn(&mut server, &mut two, clock, 0);
    assert_eq!(two.due(), clock.at(1000), "it looks once a second");

    let release = one.release(&Clock::day(500, 0)).unwrap();
    let answer = server.answer(&release);
    one.answered(&release, clock.at(500), clock.at(500), answer);
    assert_eq!((one.leads_until(), one.holder()), (None, None));
    assert_eq!(one.release(&Clock::day(500, 0)), None, "there is nothing left to give back");
    turn(&mut server, &mut two, clock, 1000);
    assert_eq!(two.due(), clock.at(1000), "it takes it at once");
    turn(&mut server, &mut two, clock, 1000);
    assert_eq!(two.leads_until(), Some(clock.at(11_000)));
    let spec = server.lease.unwrap().spec.unwrap();
    assert_eq!((spec.lease_transitions, spec.lease_duration_seconds), (Some(1), Some(15)));
}

#[test]
fn a_holder_without_a_sign_of_life_is_followed_after_fifteen_seconds_and_not_before() {
    let (mut server, clock) = (Server::default(), Clock(Instant::now()));
    leader(&mut server, clock);
    let mut two = Election::new("two".into(), Timing::USUAL, clock.at(0));
    let mut at = 300;
    turn(&mut server, &mut two, clock, at);
    while matches!(two.call(clock.at(at), &Clock::day(at, 3600)), Call::Read) {
        turn(&mut server, &mut two, clock, at);
        at = u64::try_from(two.due().duration_since(clock.0).as_millis()).unwrap();
        assert!(at < 20_000);
    }
    assert_eq!(at, 15_300, "counted from its own look, not from the times in the Lease");
}

#[test]
fn a_renewal_whose_answer_was_lost_is_found_and_confirmed() {
    let (mut server, clock) = (Server::default(), Clock(Instant::now()));
    let mut one = leader(&mut server, clock);
    let renewal = one.call(clock.at(2000), &Clock::day(2000, 0));
    server.answer(&renewal);
    one.answered(&renewal, clock.at(2000), clock.at(4000), Answer::Lost);
    assert_eq!(one.leads_until(), Some(clock.at(10_000)), "what was not confirmed does not count");
    assert!(matches!(turn(&mut server, &mut one, clock, 6000).0, Call::Read));
    assert!(matches!(turn(&mut server, &mut one, clock, 6000), (Call::Replace(_), Answer::Found(_))));
    assert_eq!(one.leads_until(), Some(clock.at(16_000)));
    assert_eq!(server.holders, ["one"], "it was the holder all the time");
}

#[test]
fn a_leader_whose_lease_was_deleted_or_taken_stops_at_once() {
    for taken in [false, true] {
        let (mut server, clock) = (Server::default(), Clock(Instant::now()));
        let mut one = leader(&mut server, clock);
        server.lease = None;
        if taken {
            leader(&mut server, clock);
            server.lease.as_mut().unwrap().spec.as_mut().unwrap().holder_identity = Some("two".into());
            // Another version than the one that the first leader holds.
            server.lease.as_mut().unwrap().metadata.resource_version = Some("77".into());
            assert!(matches!(turn(&mut server, &mut one, clock, 2000).1, Answer::Conflict));
        }
        turn(&mut server, &mut one, clock, 2100);
        assert_eq!(one.leads_until(), None, "taken: {taken}");
    }
}

#[test]
fn a_process_that_starts_again_in_its_place_goes_on_at_once() {
    let (mut server, clock) = (Server::default(), Clock(Instant::now()));
    leader(&mut server, clock);
    let mut again = Election::new("one".into(), Timing::USUAL, clock.at(1000));
    turn(&mut server, &mut again, clock, 1000);
    assert_eq!(again.leads_until(), None, "reading confirms nothing");
    turn(&mut server, &mut again, clock, 1000);
    assert_eq!(again.leads_until(), Some(clock.at(11_000)));
    assert_eq!(server.lease.unwrap().spec.unwrap().lease_transitions, Some(0));
}

#[test]
fn a_clock_that_stands_still_gives_signs_of_life_all_the_same() {
    let (mut server, clock) = (Server::default(), Clock(Instant::now()));
    let mut one = leader(&mut server, clock);
    for at in [2000, 4000, 6000] {
        let before = server.version;
        let call = one.call(clock.at(at), &Clock::day(0, 0));
        let answer = server.answer(&call);
        one.answered(&call, clock.at(at), clock.at(at), answer);
        assert_eq!(server.version, before + 1, "a renewal at {at} ms that nobody sees");
    }
}
