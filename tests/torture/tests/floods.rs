//! The server among clients that mean it no good: honest ones don't notice, memory stays, too much work is refused with
//! a typed answer instead of being done late, and descriptors that ran out are no end.
//!
//! What must hold: what honest clients see is measured by the same load before and during an attack; limits of memory
//! are the kernel's, not ours.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kvs_load::{ControlGroup, Group, Load, Outcome, Pace, Watched, Wire};
use kvs_torture::crowd::{Crowd, LARGE_KEY};
use kvs_torture::{Server, is_full, machine, say};

/// The memory that the kernel lets the server have.
const GROUP_BYTES: u64 = 512 * 1024 * 1024;
/// What the server may have resident among all of them.
const RESIDENT_BYTES: u64 = 256 * 1024 * 1024;
/// How much slower the slowest hundredth of honest requests may become.
const SLOWER: f64 = 2.0;
/// A short run beside other work meets the scheduler's ticks, one of which is 4 ms: two of them are no attack's work.
const TICKS_US: f64 = 8_000.0;
/// Keys that honest clients use.
const KEYS: u64 = 10_000;
/// How much more than it can do a server is asked.
const OVERLOAD: f64 = 4.0;
/// The share of its best that it must still do then.
const GOODPUT: f64 = 0.9;
/// The same for a short run beside other work, whose load does not get the core that it needs.
const SHORT_GOODPUT: f64 = 0.25;
/// Bytes in flight of a server in a short run, whose clients have less under way: room for both loads without trouble, and
/// not for the overload.
const SHORT_IN_FLIGHT: &str = "8388608";
/// How long accepting fails: longer than its pauses take to grow to the longest one.
const FAILS_FOR: Duration = Duration::from_secs(2);
/// How soon a server serves again when descriptors are free again.
const HEALS_WITHIN: Duration = Duration::from_secs(1);

const PING: &str = "{\"ping\":{}}";
const PONG: &str = "{\"ok\":\"pong\"}\n";

/// One test at a time: each measures time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    machine::raise_descriptor_limit().unwrap();
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The server: as it is shipped in the long versions, whose promises are about time.
fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_workload"));
    let folder = built.parent().unwrap();
    if is_full() { folder.with_file_name("production").join("kvs-server") } else { folder.join("kvs-server") }
}

/// Waits until a process does nearly nothing: what its clients asked for at first is done.
fn settle(watched: Watched) {
    const LOOK: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut before = watched.processor_time().unwrap();
    loop {
        std::thread::sleep(LOOK);
        let now = watched.processor_time().unwrap();
        if now - before <= LOOK / 10 {
            return;
        }
        assert!(Instant::now() < deadline, "the server is never quiet, though nobody asks for anything");
        before = now;
    }
}

/// A client that asks one line and waits for its answer.
struct Asker {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Asker {
    fn connect(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        Ok(Self { reader: BufReader::new(stream.try_clone()?), stream })
    }

    fn ask(&mut self, line: &str) -> std::io::Result<String> {
        writeln!(self.stream, "{line}")?;
        let mut answer = String::new();
        self.reader.read_line(&mut answer)?;
        Ok(answer)
    }
}

/// Stores what the clients ask for.
fn fill(addr: SocketAddr) {
    let every_key = Group { once_from: Some(0), ..Group::sets(16, 16, KEYS) };
    let outcome = Load::new(addr, Wire::JsonLines, Duration::from_secs(60), vec![every_key]).run().unwrap().remove(0);
    assert_eq!((outcome.done, outcome.trouble()), (KEYS, None));
    let large = "x".repeat(200_000);
    let answer =
        Asker::connect(addr).unwrap().ask(&format!("{{\"set\":{{\"key\":\"{LARGE_KEY}\",\"value\":\"{large}\"}}}}"));
    assert_eq!(answer.unwrap(), "{\"ok\":null}\n");
}

/// What honest clients see: each asks some ten times a second, one in five requests is a set.
fn honest(addr: SocketAddr, clients: usize, time: Duration) -> Outcome {
    let pace = Pace::PerSecond(10.0 * clients as f64);
    // Few under way at once: whoever has much under way uses what large answers that nobody reads use up.
    let group = Group { set_percent: 20, ..Group::gets(clients, 4, KEYS) }.at(pace);
    let outcome = Load::new(addr, Wire::JsonLines, time, vec![group]).run().unwrap().remove(0);
    assert_eq!(outcome.trouble(), None);
    assert_eq!(outcome.missing, 0);
    outcome
}

/// Says that something is over, also when it ends by a panic.
struct SayOver<'a>(&'a AtomicBool);

impl Drop for SayOver<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs something and gives the most memory that a process had resident meanwhile, looked at every few milliseconds.
fn with_highest<T>(watched: Watched, work: impl FnOnce() -> T) -> (T, u64) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut highest = 0;
            while !is_over.load(Ordering::Relaxed) {
                highest = highest.max(watched.resident_bytes().unwrap_or(0));
                std::thread::sleep(Duration::from_millis(20));
            }
            highest
        });
        let over = SayOver(&is_over);
        let done = work();
        drop(over);
        (done, watcher.join().unwrap())
    })
}

#[test]
fn honest_clients_do_not_notice_a_crowd_that_means_no_good() {
    let _turn = alone();
    let (crowd, clients, seconds) = if is_full() {
        (Crowd { idle: 9_000, slow: 500, deaf: 200 }, 200, 30)
    } else {
        (Crowd { idle: 900, slow: 50, deaf: 10 }, 20, 3)
    };
    let time = Duration::from_secs(seconds);
    let here = tempfile::tempdir().unwrap();
    let group = ControlGroup::new("kvs-torture-floods", Some(GROUP_BYTES)).unwrap();
    let limits = format!("echo 0 >{}", group.door().display());
    let mut server = Server::start(&program(), here.path(), &limits, &["--log-level", "info"]).unwrap();
    fill(server.addr);
    let watched = server.watched();
    let unloaded = honest(server.addr, clients, time);
    let ((attacked, closed), highest) = with_highest(watched, || {
        let gathered = crowd.gather(server.addr).unwrap();
        settle(watched);
        let attacked = honest(server.addr, clients, time);
        (attacked, gathered.disperse().unwrap())
    });
    assert!(!server.has_ended().unwrap(), "the server ended: {}", server.log());
    let (before_us, during_us) = (unloaded.latency_us(0.99), attacked.latency_us(0.99));
    say(&format!(
        "{} idle, {} slow and {} deaf clients ({} and {} closed by the server): p99 of {clients} honest ones {before_us:.0} us \
         without them, {during_us:.0} us with them ({:.2}x); p50 {:.0} and {:.0} us; {} MiB resident at most, {} MiB \
         charged to the group, {} killed",
        crowd.idle,
        crowd.slow,
        crowd.deaf,
        closed.slow,
        closed.deaf,
        during_us / before_us,
        unloaded.latency_us(0.5),
        attacked.latency_us(0.5),
        highest >> 20,
        group.highest_bytes().unwrap_or(0) >> 20,
        group.kills().unwrap(),
    ));
    let bound_us = if is_full() { before_us * SLOWER } else { before_us * SLOWER + TICKS_US };
    assert!(during_us <= bound_us, "p99 {during_us:.0} us, {bound_us:.0} us are promised");
    assert!(highest <= RESIDENT_BYTES, "{highest} bytes resident");
    assert_eq!(group.kills().unwrap(), 0, "the kernel killed for want of memory");
    if is_full() {
        // The deadlines are 10 s: within this time each met one, and the deaf ones twice, because they come back.
        assert!(closed.slow >= 500 && closed.deaf >= 200, "{closed:?}: who means no good is closed");
    }
    drop(server);
}

#[test]
fn too_much_work_is_refused_and_the_rest_is_done_at_full_speed() {
    let _turn = alone();
    let (seconds, depth) = if is_full() { (20, 4_096) } else { (2, 256) };
    let time = Duration::from_secs(seconds);
    let here = tempfile::tempdir().unwrap();
    // The server on the first core, the load on the last: what overloads it is the number of requests.
    let limits =
        if std::thread::available_parallelism().unwrap().get() > 1 { "taskset -p -c 0 $$ >/dev/null" } else { "" };
    let few_bytes: &[&str] = if is_full() { &[] } else { &["--limits-in-flight-bytes", SHORT_IN_FLIGHT] };
    let server = Server::start(&program(), here.path(), limits, few_bytes).unwrap();
    fill(server.addr);
    std::thread::scope(|scope| {
        let measured = scope.spawn(|| {
            machine::keep_to_last_core().unwrap();
            let load = |group| Load::new(server.addr, Wire::JsonLines, time, vec![group]).run().unwrap().remove(0);
            // The best of a moderate and of a deep pipeline, both without trouble.
            let peaks = [8, 32].map(|depth| load(Group::sets(200, depth, KEYS)));
            peaks.iter().for_each(|peak| assert_eq!(peak.trouble(), None));
            let peak = peaks.iter().map(Outcome::rate).fold(0.0, f64::max);
            let pace = Pace::PerSecond(OVERLOAD * peak);
            let overloaded = load(Group::sets(200, depth, KEYS).at(pace));
            (peak, overloaded)
        });
        let (peak, overloaded) = measured.join().unwrap();
        // What was due and what got onto the wire: a server that is asked too much reads less, and then the rest is kept
        // back by its clients, whose connections have as much under way as they may.
        let answered = overloaded.done + overloaded.late + overloaded.busy + overloaded.errors;
        let sent = answered + overloaded.unanswered;
        let times = |count: u64| count as f64 / overloaded.seconds / peak;
        let (due, sent) = (times(sent + overloaded.unsent), times(sent));
        say(&format!(
            "peak {peak:.0} sets/s; when {due:.1} times as many were due and {sent:.1} times as many sent: {:.0} done/s \
             ({:.0} %), {:.0} refused as busy/s, {} other errors; p99 of those done {:.0} ms; {} MiB resident",
            overloaded.rate(),
            overloaded.rate() / peak * 100.0,
            overloaded.busy as f64 / overloaded.seconds,
            overloaded.errors,
            overloaded.latency_us(0.99) / 1e3,
            server.watched().resident_bytes().unwrap() >> 20,
        ));
        assert!(due >= OVERLOAD * 0.95, "{due:.2} times its best were due, which is no overload of {OVERLOAD} times");
        let share = if is_full() { GOODPUT } else { SHORT_GOODPUT };
        assert!(overloaded.rate() >= peak * share, "{:.0} of {peak:.0} a second are done", overloaded.rate());
        assert_eq!((overloaded.errors, overloaded.closed), (0, 0));
        // A short load that does not get its core may be kept back as a whole by what its connections have under way.
        assert!(overloaded.busy > 0 || !is_full(), "what can't be done is refused, not kept waiting");
    });
    // And then all is as before.
    let after = honest(server.addr, 10, Duration::from_secs(1));
    assert!(after.done > 0);
}

#[test]
fn descriptors_that_ran_out_are_no_end() {
    const KEPT_WAITING: usize = 20;
    let _turn = alone();
    let (limit, clients, times) = if is_full() { (1_024, 2_000, 10) } else { (128, 300, 2) };
    let here = tempfile::tempdir().unwrap();
    let mut server = Server::start(&program(), here.path(), &format!("ulimit -n {limit}"), &[]).unwrap();
    let mut old = Asker::connect(server.addr).unwrap();
    let mut ping_old = || assert_eq!(old.ask(PING).unwrap(), PONG, "who is connected is served meanwhile");
    ping_old();
    settle(server.watched());
    let (mut after_failures, mut after_clients) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..times {
        // There is none left, for nobody: accepting itself fails.
        server.allow_descriptors(server.descriptors().unwrap(), limit).unwrap();
        let open = server.descriptors().unwrap();
        let waiting: Vec<_> = (0..KEPT_WAITING).map(|_| Asker::connect(server.addr).unwrap()).collect();
        // Some failures in a row, of which the log tells the first: then the longest pause between two tries is reached.
        std::thread::sleep(FAILS_FOR);
        assert!(server.log().contains("cannot accept a connection"), "accepting does not fail: {}", server.log());
        assert!(server.descriptors().unwrap() < open + KEPT_WAITING as u64, "all were accepted");
        ping_old();
        let free = Instant::now();
        server.allow_descriptors(limit, limit).unwrap();
        for mut client in waiting {
            assert_eq!(client.ask(PING).unwrap(), PONG);
        }
        after_failures = after_failures.max(free.elapsed());
    }
    for _ in 0..times {
        // More clients than may be: they are kept waiting, and the log has its files.
        let held: Vec<TcpStream> = (0..clients).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
        ping_old();
        let free = Instant::now();
        drop(held);
        assert_eq!(Asker::connect(server.addr).and_then(|mut client| client.ask(PING)).unwrap(), PONG);
        after_clients = after_clients.max(free.elapsed());
    }
    assert!(!server.has_ended().unwrap(), "the server ended: {}", server.log());
    say(&format!(
        "{times} times no descriptor for anybody: {KEPT_WAITING} clients were served {} ms after there were some; \
         {times} times {clients} clients where {limit} are allowed: a new one was served {} ms after they went",
        after_failures.as_millis(),
        after_clients.as_millis()
    ));
    assert!(after_failures.max(after_clients) <= HEALS_WITHIN, "healed after {after_failures:?}, {after_clients:?}");
}
