//! What being watched costs: throughput beside a Prometheus that scrapes every second, as a share of that without one; how
//! long a scrape takes under full load, of a thousand the tenth longest; and how many series a server has.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, Goal, Row};
use kvs_load::Group;

use crate::ask;
use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, drive, load_of, metrics};

const SECONDS: f64 = 3.0;
const CLIENTS: usize = 16;
const PIPELINE: usize = 4;
/// Far more often than anybody scrapes.
const EVERY: Duration = Duration::from_secs(1);
/// Between two of the scrapes that are timed: they are to be many, and still a small part of the load.
const PAUSE: Duration = Duration::from_millis(2);
/// Scrapes that are timed, at least.
const SCRAPES: usize = 1_000;
/// Loads of [`SECONDS`] that these may take: beyond, a scrape takes so long that its p99 is known to be too long.
const MOST_LOADS: usize = 20;

/// The figure.
pub struct Scrapes;

impl Figure for Scrapes {
    fn name(&self) -> String {
        "scrapes".to_owned()
    }

    fn contestants(&self) -> Vec<&'static str> {
        vec![Contestant::Ours.as_str()]
    }

    fn rounds(&self) -> usize {
        9
    }

    fn round(&self, bench: &mut Bench, contestant: &str, round: usize) -> Result<Metrics> {
        let (seconds, keys) = (bench.scale.seconds(SECONDS), bench.keys());
        let server = bench.loaded(Contestant::of(contestant)?)?;
        let rate = || -> Result<f64> {
            Ok(drive(&load_of(server, seconds, vec![Group::gets(CLIENTS, PIPELINE, keys)]))?.remove(0).rate())
        };
        // Which comes first must make no difference.
        let (alone, beside) = if round.is_multiple_of(2) {
            let alone = rate()?;
            (alone, watched(server.admin, EVERY, rate)?.0)
        } else {
            let beside = watched(server.admin, EVERY, rate)?.0;
            (rate()?, beside)
        };
        let mut took_ms = Vec::new();
        for _ in 0..MOST_LOADS {
            took_ms.extend(watched(server.admin, PAUSE, rate)?.1);
            if took_ms.len() >= SCRAPES {
                break;
            }
        }
        if took_ms.is_empty() {
            return Err("no scrape was answered".into());
        }
        took_ms.sort_by(f64::total_cmp);
        let p99_ms = took_ms[(took_ms.len() * 99 / 100).min(took_ms.len() - 1)];
        let series = ask::series(&ask::metrics(server.admin)?);
        Ok(metrics([
            ("share", beside / alone),
            ("rate", alone),
            ("scrape_p99_ms", p99_ms),
            ("scrapes", took_ms.len() as f64),
            ("series", series as f64),
        ]))
    }

    fn rows(&self) -> Vec<Row> {
        vec![
            Row::new("throughput-beside-scrapes", "x of alone", "share", Better::Higher)
                .goals(vec![Goal::AtLeast(0.99)], Vec::new()),
            Row::new("scrape-p99-under-load", "ms", "scrape_p99_ms", Better::Lower)
                .goals(vec![Goal::AtMost(10.0)], Vec::new()),
            Row::new("scrapes-of-that-p99", "scrapes", "scrapes", Better::Higher)
                .goals(vec![Goal::AtLeast(SCRAPES as f64)], Vec::new()),
            Row::new("series-of-a-server", "series", "series", Better::Lower)
                .goals(vec![Goal::AtMost(600.0)], Vec::new()),
        ]
    }
}

/// What some work yields beside scrapes that begin so far apart at least, and how long each of these took, in milliseconds.
fn watched<T>(admin: SocketAddr, every: Duration, work: impl FnOnce() -> Result<T>) -> Result<(T, Vec<f64>)> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            let mut took_ms = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let begin = Instant::now();
                if ask::metric(admin, "kvs_ready").is_ok() {
                    took_ms.push(begin.elapsed().as_secs_f64() * 1e3);
                }
                let wake = begin + every;
                while Instant::now() < wake && !stop.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(5).min(every));
                }
            }
            took_ms
        });
        let done = work();
        stop.store(true, Ordering::SeqCst);
        let took_ms = scraper.join().map_err(|_| "the scraper panicked")?;
        Ok((done?, took_ms))
    })
}
