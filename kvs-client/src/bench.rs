//! `bench`: load on a server, and how fast it answered.
//!
//! Two ways to put load on:
//! * closed loop: each connection has so many requests under way, and a slow answer delays the next request. It shows the
//!   most that a server can do.
//! * open loop (`--rate`): requests are due at times that no answer changes, and latency counts from when a request was
//!   due, not from when it could at last be sent. So a stall is felt by every request that came during it, as users would
//!   feel it; a closed loop leaves those out (coordinated omission).
//!
//! What must hold: keys of others are never touched; nothing of the measurement is counted that began before the
//! measurement did.

mod lane;
mod pace;
mod plan;
mod report;
mod stats;

use std::cell::RefCell;
use std::io::{IsTerminal as _, Write as _};
use std::rc::Rc;
use std::time::{Duration, Instant};

use kvs_protocol::Verb;
use tokio::task::LocalSet;

use crate::arguments::BenchFlags;
use crate::error::Error;
use crate::output::{Format, Output};
use crate::session::Session;

use lane::Lane;
use plan::Plan;
use report::Report;
use stats::Stats;

/// How often the live line is redrawn.
const LIVE: Duration = Duration::from_secs(1);

/// Runs a benchmark and prints its result.
pub(crate) async fn run(session: &mut Session, flags: BenchFlags, output: Output) -> Result<(), Error> {
    let output = if flags.json { Output { format: Format::Json } } else { output };
    let plan = Rc::new(Plan::new(&flags)?);
    session.call(Verb::Ping).await?;
    if plan.reads_percent > 0 {
        for batch in plan.filling() {
            session.call(batch).await?;
        }
    }
    // Only what is measured is connected meanwhile.
    session.disconnect();
    let measured = LocalSet::new().run_until(measure(session, &plan)).await;
    if !flags.keep {
        for batch in plan.emptying() {
            session.call(batch).await?;
        }
    }
    let measured = measured?;
    let report = Report::new(session.place(), &plan, &measured);
    output.report(&report.text(), &report.json())
}

/// Puts the load on for as long as the plan says.
async fn measure(session: &mut Session, plan: &Rc<Plan>) -> Result<Stats, Error> {
    let mut connections = Vec::new();
    for _ in 0..plan.connections {
        let mut session = session.another();
        let retry = session.retry();
        connections.push(session.take_connection(&retry).await?);
    }
    let begin = Instant::now();
    let stats = Rc::new(RefCell::new(Stats::new(begin + plan.warmup)));
    let mut lanes = Vec::new();
    let mut tasks = Vec::new();
    for (number, connection) in (0..).zip(connections) {
        let lane = Rc::new(Lane::default());
        let requests = plan.requests(number);
        tasks.push(tokio::task::spawn_local(lane::work(
            Rc::clone(&lane),
            connection,
            requests,
            plan.window(),
            Rc::clone(&stats),
        )));
        lanes.push(lane);
    }
    let end = begin + plan.warmup + plan.duration;
    let pacing = async {
        match plan.rate {
            Some(rate) => pace::keep(rate, begin, end, &lanes).await,
            None => {
                lanes.iter().for_each(|lane| lane.wake());
                tokio::time::sleep_until(end.into()).await;
                0
            }
        }
    };
    let unsent = {
        let first_end = futures::future::select_all(tasks.iter_mut());
        tokio::select! {
            unsent = pacing => unsent,
            () = show(&stats) => unreachable!("the live line is redrawn until the end"),
            // Before the end, a connection ends only because it broke.
            (ended, ..) = first_end => {
                ended.map_err(panicked)??;
                return Err(Error::Data("a connection of the benchmark ended early".into()));
            }
        }
    };
    let unsent = unsent + lanes.iter().map(|lane| lane.end()).sum::<u64>();
    stats.borrow_mut().end(unsent);
    let (place, limit) = (session.target_name(), session.retry().limit());
    let answers = futures::future::try_join_all(tasks);
    match tokio::time::timeout(limit, answers).await {
        Ok(answers) => answers.map_err(panicked)?.into_iter().collect::<Result<(), Error>>()?,
        Err(_) => {
            return Err(Error::Timeout { place, limit, advice: "the server took requests and stopped to answer" });
        }
    }
    Ok(stats.replace(Stats::new(end)))
}

fn panicked(error: tokio::task::JoinError) -> Error {
    Error::Runtime(std::io::Error::other(error))
}

/// Redraws the live line on a terminal until it is dropped.
async fn show(stats: &RefCell<Stats>) {
    if !std::io::stderr().is_terminal() {
        return std::future::pending().await;
    }
    let _end = EndOfLine;
    loop {
        tokio::time::sleep(LIVE).await;
        let line = stats.borrow_mut().live_line();
        let mut terminal = std::io::stderr().lock();
        // Nobody is left to tell that standard error is closed.
        let _ = write!(terminal, "\r\x1b[K{line}").and_then(|()| terminal.flush());
    }
}

/// Takes the live line away, so that what comes next begins in the first column.
struct EndOfLine;

impl Drop for EndOfLine {
    fn drop(&mut self) {
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}
