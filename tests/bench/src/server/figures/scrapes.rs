//! What being watched costs: throughput beside a Prometheus that scrapes every second, as a share of that without one, and
//! how long a scrape takes under full load.

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
        let admin = server.admin;
        let watched = || {
            let stop = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let scraper = scope.spawn(|| {
                    let mut took_ms = Vec::new();
                    while !stop.load(Ordering::SeqCst) {
                        let begin = Instant::now();
                        if ask::metric(admin, "kvs_ready").is_ok() {
                            took_ms.push(begin.elapsed().as_secs_f64() * 1e3);
                        }
                        let wake = begin + EVERY;
                        while Instant::now() < wake && !stop.load(Ordering::SeqCst) {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                    }
                    took_ms
                });
                let rate = rate();
                stop.store(true, Ordering::SeqCst);
                let took_ms = scraper.join().map_err(|_| "the scraper panicked")?;
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>((rate?, took_ms))
            })
        };
        // Which comes first must make no difference.
        let (alone, (beside, took_ms)) = if round.is_multiple_of(2) {
            let alone = rate()?;
            (alone, watched()?)
        } else {
            let beside = watched()?;
            (rate()?, beside)
        };
        let longest_ms = took_ms.iter().copied().fold(0.0, f64::max);
        Ok(metrics([("share", beside / alone), ("rate", alone), ("scrape_ms", longest_ms)]))
    }

    fn rows(&self) -> Vec<Row> {
        vec![
            Row::new("throughput-beside-scrapes", "x of alone", "share", Better::Higher)
                .goals(vec![Goal::AtLeast(0.99)], Vec::new()),
            Row::new("longest-scrape-of-a-round", "ms", "scrape_ms", Better::Lower)
                .goals(vec![Goal::AtMost(10.0)], Vec::new()),
        ]
    }
}
