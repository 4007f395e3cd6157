//! The server ends and begins again under load: clients that try again see nothing but closed connections, and nothing
//! that was acknowledged is lost.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Over, PATIENCE, Process, Wire, is_full, say, until};
use tempfile::tempdir;

const CLIENTS: usize = 8;
/// Requests that a client sends before it looks for answers.
const PIPELINE: u64 = 16;
/// Writes that must have been acknowledged between two restarts.
const WRITES_BETWEEN: u64 = 300;

/// Sets one key after the other, and gives how many were acknowledged. A closed connection is met by a new one; anything
/// else is an error.
fn write_until(over: &AtomicBool, addr: SocketAddr, client: usize, acknowledged: &AtomicU64) -> u64 {
    let mut next = 0_u64;
    while !over.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(addr) else {
            // Nobody listens between two servers.
            std::thread::sleep(Duration::from_millis(2));
            continue;
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answers = BufReader::new(stream.try_clone().unwrap());
        'connected: while !over.load(Ordering::Relaxed) {
            let batch: String = (next..next + PIPELINE)
                .map(|number| format!("{{\"set\":{{\"key\":\"{client}-{number}\",\"value\":\"{number}\"}}}}\n"))
                .collect();
            if stream.write_all(batch.as_bytes()).is_err() {
                break;
            }
            for _ in 0..PIPELINE {
                let mut line = String::new();
                match answers.read_line(&mut line) {
                    Err(error) => {
                        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
                        break 'connected;
                    }
                    Ok(_) if !line.ends_with('\n') => {
                        assert_eq!(line, "", "an answer is whole or not there");
                        break 'connected;
                    }
                    Ok(_) => assert_eq!(line, "{\"ok\":null}\n", "nothing but closed connections"),
                }
                next += 1;
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    next
}

/// An address that the system gives nobody by itself: a client that tries again while nobody listens could otherwise be
/// given the very port that it tries, and be connected with itself.
fn quiet_addr() -> SocketAddr {
    let offset = u16::try_from(std::process::id() % 10_000).unwrap();
    let free = (0..10_000).map(|next| SocketAddr::from(([127, 0, 0, 1], 15_000 + (offset + next) % 10_000)));
    free.into_iter().find(|addr| TcpListener::bind(addr).is_ok()).unwrap()
}

#[test]
fn restarts_under_load_lose_nothing_and_show_only_closed_connections() {
    let here = tempdir().unwrap();
    let restarts = if is_full() { 200 } else { 10 };
    let addr = quiet_addr();
    let text = addr.to_string();
    let mut server = Process::start_at(here.path(), &text);
    let (over, acknowledged) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut longest = Duration::ZERO;
    let (numbers, server): (Vec<u64>, Process) = std::thread::scope(|scope| {
        let (over, acknowledged) = (&over, &acknowledged);
        let clients: Vec<_> =
            (0..CLIENTS).map(|client| scope.spawn(move || write_until(over, addr, client, acknowledged))).collect();
        let story = Over(over);
        for restart in 0..restarts {
            let before = acknowledged.load(Ordering::Relaxed);
            until("writes go on", || (acknowledged.load(Ordering::Relaxed) > before + WRITES_BETWEEN).then_some(()));
            let began = Instant::now();
            server.signal(Signal::TERM);
            if restart % 3 == 2 {
                // It hastens the end, and loses nothing either.
                server.signal(Signal::TERM);
            }
            let (status, log) = server.wait();
            assert!(status.success(), "{status}: {log}");
            assert!(log.contains("all that was acknowledged is durable"), "{log}");
            longest = longest.max(began.elapsed());
            server = Process::start_at(here.path(), &text);
        }
        drop(story);
        (clients.into_iter().map(|client| client.join().unwrap()).collect(), server)
    });
    let mut reader = Wire::connect(addr);
    for (client, acknowledged) in numbers.iter().enumerate() {
        for number in 0..*acknowledged {
            let answer = reader.ask(&format!("{{\"get\":{{\"key\":\"{client}-{number}\"}}}}"));
            assert_eq!(answer, format!("{{\"ok\":\"{number}\"}}"), "{client}-{number} was acknowledged");
        }
    }
    drop((reader, server));
    say(&format!(
        "{} acknowledged writes over {restarts} restarts, the slowest end took {longest:?}",
        numbers.iter().sum::<u64>()
    ));
}
