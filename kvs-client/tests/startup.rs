//! A command is over before a person notices that it was a process: from its start to its end, with a server beside it.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::{Server, client, figure, is_full};

/// Starts of each command.
const STARTS: usize = 50;
/// What the median of a release build may take. A debug build, and a machine that does other things, say nothing.
const LONGEST: Duration = Duration::from_millis(15);

/// The median time from the start of a command to its end.
fn median(command: &mut Command) -> Duration {
    command.stdout(Stdio::null());
    let mut times: Vec<Duration> = (0..STARTS)
        .map(|_| {
            let begin = Instant::now();
            assert!(command.status().unwrap().success());
            begin.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[STARTS / 2]
}

#[test]
fn a_command_starts_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(&folder.path().join("data"));
    server.run(["set", "k", "v"]).assert_prints("");
    for (name, mut command) in [("--version", client(["--version"])), ("get", server.client(["get", "k"]))] {
        let median = median(&mut command);
        figure(&format!("kvs-client {name}: a median of {median:.1?} over {STARTS} starts"));
        assert!(!is_full() || median <= LONGEST, "`kvs-client {name}` takes {median:?}, more than {LONGEST:?}");
    }
}
