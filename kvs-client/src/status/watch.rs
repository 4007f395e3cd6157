//! `status --watch`: what a server is doing, look by look: the difference between two answers of `info`.
//!
//! ```text
//! 12:00:07 UTC  127.0.0.1:4000  12 clients  1000000 keys
//!   requests   52310/s   refused 0/s   failed 0/s
//!   latency    p50 81.2 us   p99 310.4 us   p99.9 1.2 ms
//!   pool       0.84 of 2 threads busy   waits p99 95.1 us
//!   log        4.1 MB/s   1310 syncs/s   sync p99 640.0 us
//!   files      4   20.1 MB live   3.3 MB dead
//!   compaction 2 done   0 failed   idle   backlog 0 B
//! ```
//!
//! What must hold: on a terminal a look takes the place of the one before, so that none of its lines may wrap, and they
//! fit 80 columns; elsewhere each follows the other, as JSON one object a line; what a server says is a stranger's text,
//! of which numbers are taken and nothing else.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kvs_protocol::{Answer, Info, Verb};
use serde_json::{Value, json};

use crate::error::Error;
use crate::escape;
use crate::output::{self, Format, Output};
use crate::session::Session;

/// Before a look: the terminal cuts lines that are longer than it is wide (a store's name may be) instead of wrapping
/// them. After it: it wraps again.
const CUT_LINES: &str = "\x1b[?7l";
const WRAP_LINES: &str = "\x1b[?7h";

/// What a server has done until a moment.
struct Look {
    at: Instant,
    load: Info,
    all: Info,
}

/// Buckets of a histogram: upper bounds in seconds, the last one without, and how many lie below each.
type Buckets = Vec<(f64, u64)>;

/// Looks again and again, until it is interrupted or has looked so often.
pub(crate) async fn watch(
    session: &mut Session,
    output: Output,
    every: Duration,
    count: Option<u64>,
) -> Result<(), Error> {
    let redraws = output.format != Format::Json && std::io::stdout().is_terminal();
    let mut before = look(session).await?;
    let mut looks = 0_u64;
    while count.is_none_or(|count| looks < count) {
        tokio::time::sleep(every).await;
        let now = look(session).await?;
        let seen = Seen::between(&before, &now);
        if output.format == Format::Json {
            output.report("", &seen.json(&session.place()))?;
        } else {
            let text = seen.text(&session.place());
            if redraws {
                let back = if looks > 0 { format!("\x1b[{}A\x1b[J", text.lines().count()) } else { String::new() };
                // At once, so that no interruption leaves the terminal with its lines cut.
                output::write(&[format!("{back}{CUT_LINES}{text}{WRAP_LINES}").as_bytes()])?;
            } else {
                output::write(&[text.as_bytes()])?;
            }
        }
        before = now;
        looks += 1;
    }
    Ok(())
}

async fn look(session: &mut Session) -> Result<Look, Error> {
    let mut ask =
        async |section: Option<&str>| match session.call(Verb::Info { section: section.map(str::to_owned) }).await? {
            Answer::Info(info) => Ok(info),
            _ => Err(session.unexpected("info")),
        };
    let load = ask(Some("load")).await?;
    let all = ask(None).await?;
    Ok(Look { at: Instant::now(), load, all })
}

/// What happened between two looks, in a second, and how things stand.
struct Seen {
    done: f64,
    refused: f64,
    failed: f64,
    /// Latencies in seconds: half, 99 of a hundred, 999 of a thousand are shorter.
    latency: [Option<f64>; 3],
    busy_threads: f64,
    threads: f64,
    wait_p99: Option<f64>,
    written_bytes: f64,
    syncs: f64,
    sync_p99: Option<f64>,
    segments: f64,
    live_bytes: f64,
    dead_bytes: f64,
    compactions: f64,
    compaction_failures: f64,
    compacting: bool,
    backlog_bytes: f64,
    keys: f64,
    clients: f64,
}

impl Seen {
    fn between(before: &Look, now: &Look) -> Self {
        let seconds = now.at.duration_since(before.at).as_secs_f64().max(1e-3);
        let load = |look: &Look, field: &str| number(&look.load, "load", field);
        let store = |field: &str| number(&now.all, "store", field);
        let rate = |field: &str| (load(now, field) - load(before, field)).max(0.0) / seconds;
        let store_rate = |field: &str| (store(field) - number(&before.all, "store", field)).max(0.0) / seconds;
        let between = |field: &str| difference(&buckets(&before.load, field), &buckets(&now.load, field));
        let latencies = between("secondsBuckets");
        Self {
            done: rate("done"),
            refused: rate("refused"),
            failed: rate("failed"),
            latency: [0.5, 0.99, 0.999].map(|share| quantile(&latencies, share)),
            busy_threads: rate("poolBusySeconds"),
            threads: load(now, "threads"),
            wait_p99: quantile(&between("poolWaitSecondsBuckets"), 0.99),
            written_bytes: store_rate("appendedBytes"),
            syncs: store_rate("syncs"),
            sync_p99: quantile(&between("syncSecondsBuckets"), 0.99),
            segments: store("segments"),
            live_bytes: store("liveBytes"),
            dead_bytes: store("deadBytes"),
            compactions: store("compactions"),
            compaction_failures: store("compactionFailures"),
            compacting: now.all.get("store", "compacting") == Some(&Value::Bool(true)),
            backlog_bytes: store("compactionBacklogBytes"),
            keys: store("keys"),
            clients: number(&now.all, "clients", "connectedClients"),
        }
    }

    fn text(&self, place: &str) -> String {
        let [p50, p99, p999] = self.latency.map(time);
        let since_midnight = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
        let (hours, minutes, seconds) = (since_midnight / 3600, since_midnight / 60 % 60, since_midnight % 60);
        let lines = [
            format!(
                "{hours:02}:{minutes:02}:{seconds:02} UTC  {}  {:.0} clients  {:.0} keys",
                escape::line(place),
                self.clients,
                self.keys
            ),
            format!("  requests   {:.0}/s   refused {:.0}/s   failed {:.0}/s", self.done, self.refused, self.failed),
            format!("  latency    p50 {p50}   p99 {p99}   p99.9 {p999}"),
            format!(
                "  pool       {:.2} of {:.0} threads busy   waits p99 {}",
                self.busy_threads,
                self.threads,
                time(self.wait_p99)
            ),
            format!(
                "  log        {}/s   {:.0} syncs/s   sync p99 {}",
                size(self.written_bytes),
                self.syncs,
                time(self.sync_p99)
            ),
            format!(
                "  files      {:.0}   {} live   {} dead",
                self.segments,
                size(self.live_bytes),
                size(self.dead_bytes)
            ),
            format!(
                "  compaction {:.0} done   {:.0} failed   {}   backlog {}",
                self.compactions,
                self.compaction_failures,
                if self.compacting { "running" } else { "idle" },
                size(self.backlog_bytes)
            ),
        ];
        lines.map(|line| line + "\n").concat()
    }

    fn json(&self, place: &str) -> Value {
        let [p50, p99, p999] = self.latency;
        json!({
            "place": place,
            "requestsPerSecond": { "done": self.done, "refused": self.refused, "failed": self.failed },
            "latencySeconds": { "p50": p50, "p99": p99, "p999": p999 },
            "pool": { "busyThreads": self.busy_threads, "threads": self.threads, "waitP99Seconds": self.wait_p99 },
            "log": {
                "writtenBytesPerSecond": self.written_bytes,
                "syncsPerSecond": self.syncs,
                "syncP99Seconds": self.sync_p99,
                "segments": self.segments,
                "liveBytes": self.live_bytes,
                "deadBytes": self.dead_bytes,
            },
            "compaction": {
                "done": self.compactions,
                "failed": self.compaction_failures,
                "running": self.compacting,
                "backlogBytes": self.backlog_bytes,
            },
            "keys": self.keys,
            "clients": self.clients,
        })
    }
}

/// A number that a server tells; one that it does not tell counts as 0.
fn number(info: &Info, section: &str, field: &str) -> f64 {
    info.get(section, field).and_then(Value::as_f64).unwrap_or(0.0)
}

fn buckets(info: &Info, field: &str) -> Buckets {
    let pairs = info.get("load", field).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    pairs.iter().filter_map(|pair| Some((pair[0].as_f64().unwrap_or(f64::INFINITY), pair[1].as_u64()?))).collect()
}

/// What came into each bucket. A server that has started again meanwhile begins anew.
fn difference(before: &Buckets, now: &Buckets) -> Buckets {
    let began_anew = before.last().map(|last| last.1) > now.last().map(|last| last.1);
    let was = |place: usize| if began_anew { 0 } else { before.get(place).map_or(0, |(_, count)| *count) };
    now.iter().enumerate().map(|(place, (bound, count))| (*bound, count.saturating_sub(was(place)))).collect()
}

/// The value below which so large a share lies, taken as spread evenly inside its bucket; `None` without any.
fn quantile(buckets: &Buckets, share: f64) -> Option<f64> {
    let total = buckets.last()?.1;
    if total == 0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a look are far below 2^52")]
    let (rank, as_share) = (share * total as f64, |count: u64| count as f64);
    let place = buckets.iter().position(|(_, count)| as_share(*count) >= rank)?;
    let (lower, below) = if place == 0 { (0.0, 0) } else { buckets[place - 1] };
    let (upper, count) = buckets[place];
    if upper.is_infinite() {
        // All that is known is that it is longer than the last bound.
        return Some(lower);
    }
    Some(lower + (upper - lower) * (rank - as_share(below)) / as_share(count - below).max(1.0))
}

/// A time as people read it.
pub(super) fn time(seconds: Option<f64>) -> String {
    match seconds {
        None => "-".to_owned(),
        Some(seconds) if seconds >= 1.0 => format!("{seconds:.1} s"),
        Some(seconds) if seconds >= 1e-3 => format!("{:.1} ms", seconds * 1e3),
        Some(seconds) => format!("{:.1} us", seconds * 1e6),
    }
}

fn size(bytes: f64) -> String {
    let mut bytes = bytes;
    for unit in ["B", "kB", "MB", "GB"] {
        if bytes < 1000.0 {
            return if unit == "B" { format!("{bytes:.0} B") } else { format!("{bytes:.1} {unit}") };
        }
        bytes /= 1000.0;
    }
    format!("{bytes:.1} TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_what_is_new() {
        let before = vec![(0.001, 5), (0.002, 5), (f64::INFINITY, 5)];
        let now = vec![(0.001, 55), (0.002, 104), (f64::INFINITY, 105)];
        let new = difference(&before, &now);
        assert_eq!(new, [(0.001, 50), (0.002, 99), (f64::INFINITY, 100)]);
        assert_eq!(quantile(&new, 0.5), Some(0.001));
        assert_eq!(quantile(&new, 0.99), Some(0.002));
        assert_eq!(quantile(&new, 0.999), Some(0.002), "longer than the last bound");
        assert_eq!(quantile(&difference(&now, &now), 0.5), None);
        assert_eq!(difference(&now, &before), before, "the server has started again");
    }

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!([Some(0.000_08), Some(0.0123), Some(2.0), None].map(time), ["80.0 us", "12.3 ms", "2.0 s", "-"]);
        assert_eq!([0.0, 999.0, 4_100_000.0].map(size), ["0 B", "999 B", "4.1 MB"]);
    }
}
