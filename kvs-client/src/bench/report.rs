//! `Report`: the result of a benchmark, as a table and as an object.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::plan::Plan;
use super::stats::Stats;

/// The columns of latencies: what each is called and which share of the requests was at least as fast.
const QUANTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

/// What was measured, beside what was planned.
pub(super) struct Report<'a> {
    place: String,
    plan: &'a Plan,
    stats: &'a Stats,
}

impl<'a> Report<'a> {
    pub(super) fn new(place: String, plan: &'a Plan, stats: &'a Stats) -> Self {
        Self { place, plan, stats }
    }

    /// The rows that have requests.
    fn rows(&self) -> impl Iterator<Item = (&'static str, &Histogram<u64>)> {
        let rows = [("get", &self.stats.reads), ("set", &self.stats.sets)];
        rows.into_iter().filter(|(_, histogram)| !histogram.is_empty())
    }

    fn per_second(&self, requests: u64) -> f64 {
        requests as f64 / self.stats.elapsed().as_secs_f64().max(1e-9)
    }

    fn requests(&self) -> u64 {
        self.stats.reads.len() + self.stats.sets.len()
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let Plan { connections, pipeline, reads_percent, keys, value_bytes, rate, .. } = self.plan;
        let shape = match rate {
            Some(rate) => format!("open loop of {rate} requests a second"),
            None => format!("closed loop, {pipeline} under way on each connection"),
        };
        let mut text = format!(
            "{}: {shape}, {connections} connections, {reads_percent} % reads, {keys} keys, values of {value_bytes} bytes\n",
            self.place
        );
        write!(text, "{:>5} {:>10} {:>9}", "", "requests", "per s").expect(WRITES);
        for (name, _) in QUANTILES {
            write!(text, " {name:>9}").expect(WRITES);
        }
        text.push_str("   (latency in ms)\n");
        for (name, histogram) in self.rows() {
            let requests = histogram.len();
            write!(text, "{name:>5} {requests:>10} {:>9.0}", self.per_second(requests)).expect(WRITES);
            for (_, quantile) in QUANTILES {
                write!(text, " {:>9.3}", milliseconds(histogram.value_at_quantile(quantile))).expect(WRITES);
            }
            text.push('\n');
        }
        let requests = self.requests();
        write!(text, "  all {requests:>10} {:>9.0}", self.per_second(requests)).expect(WRITES);
        for (code, count) in &self.stats.errors {
            write!(text, "\n{count} requests failed: {code}").expect(WRITES);
        }
        if self.stats.unsent > 0 {
            let unsent = self.stats.unsent;
            write!(text, "\n{unsent} requests were due and not sent: the server or this machine did not keep up")
                .expect(WRITES);
        }
        text
    }

    /// For programs. Latencies are in microseconds.
    pub(super) fn json(&self) -> Value {
        let plan = self.plan;
        let latencies: Map<String, Value> =
            self.rows().map(|(name, histogram)| (name.to_owned(), self.latency(histogram))).collect();
        json!({
            "place": self.place,
            "loop": if plan.rate.is_some() { "open" } else { "closed" },
            "rate": plan.rate,
            "connections": plan.connections,
            "pipeline": plan.pipeline,
            "reads_percent": plan.reads_percent,
            "keys": plan.keys,
            "value_bytes": plan.value_bytes,
            "seconds": self.stats.elapsed().as_secs_f64(),
            "requests": self.requests(),
            "requests_per_second": self.per_second(self.requests()),
            "latency_us": latencies,
            "service_us": self.latency(&self.stats.service),
            "errors": self.stats.errors,
            "unsent": self.stats.unsent,
        })
    }

    fn latency(&self, histogram: &Histogram<u64>) -> Value {
        let mut object = Map::new();
        object.insert("requests".into(), histogram.len().into());
        object.insert("requests_per_second".into(), self.per_second(histogram.len()).into());
        object.insert("mean".into(), (histogram.mean() / 1e3).into());
        for (name, quantile) in QUANTILES {
            object.insert(name.into(), (histogram.value_at_quantile(quantile) as f64 / 1e3).into());
        }
        Value::Object(object)
    }
}

/// Why writing into a string has no error.
const WRITES: &str = "writing into a string can't fail";

fn milliseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e6
}
