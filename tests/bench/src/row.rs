//! A row of the result: one number of each store, its ratio to ours, and what we wanted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::Metrics;

/// The name of our own store, with which all others are compared.
pub const OURS: &str = "ours";

/// What every store measured in every round, and how it failed if so.
#[derive(Debug, Default)]
pub struct Measured {
    /// By store, in the order of rounds.
    pub metrics: BTreeMap<String, Vec<Metrics>>,
    /// What did not work.
    pub failures: Vec<String>,
}

/// Which of two values is the better one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// A rate.
    Higher,
    /// A time, a size.
    Lower,
}

/// Something that our value is to meet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// Our ratio to a peer is at least this.
    Times(&'static str, f64),
    /// Our ratio to every durable peer is at least this.
    TimesEvery(f64),
    /// Our value is at most this.
    AtMost(f64),
    /// Our value is at least this.
    AtLeast(f64),
}

/// What a row shows.
#[derive(Debug)]
pub struct Row {
    name: String,
    unit: &'static str,
    metric: String,
    prefix: String,
    better: Better,
    reach: Vec<Goal>,
    aim: Vec<Goal>,
}

impl Row {
    /// A row without goals.
    pub fn new(name: &str, unit: &'static str, metric: &'static str, better: Better) -> Self {
        Self {
            name: name.to_owned(),
            unit,
            metric: metric.to_owned(),
            prefix: String::new(),
            better,
            reach: Vec::new(),
            aim: Vec::new(),
        }
    }

    /// The same row for one of several measurements of a round, whose metrics begin with this text; what is noted
    /// beside it is that measurement's, too.
    #[must_use]
    pub fn of_part(mut self, prefix: &str) -> Self {
        self.metric = format!("{prefix}{}", self.metric);
        self.prefix = prefix.to_owned();
        self
    }

    /// The same row with what is to be reached and what is aimed at.
    #[must_use]
    pub fn goals(mut self, reach: Vec<Goal>, aim: Vec<Goal>) -> Self {
        self.reach = reach;
        self.aim = aim;
        self
    }

    /// The row's values; `None` if ours has none.
    pub fn result(&self, measured: &Measured) -> Option<RowResult> {
        let ours = measured.metrics.get(OURS)?;
        let mut spread = BTreeMap::new();
        let mut beside = BTreeMap::new();
        let (mut peers, mut ratio) = (BTreeMap::new(), BTreeMap::new());
        for (peer, rounds) in &measured.metrics {
            let Some(value) = median(values(rounds, &self.metric)) else { continue };
            let name = peer.clone();
            let all = values(rounds, &self.metric);
            let bound = |start: f64, pick: fn(f64, f64) -> f64| rounded(all.iter().copied().fold(start, pick));
            spread.insert(name.clone(), [bound(f64::INFINITY, f64::min), bound(f64::NEG_INFINITY, f64::max)]);
            beside.insert(name.clone(), Beside::of(rounds, &self.prefix));
            if peer == OURS {
                continue;
            }
            peers.insert(name.clone(), rounded(value));
            // Round by round, so that what slowed a whole round down slows no ratio down.
            let ratios = ours.iter().zip(rounds).filter_map(|(ours, theirs)| {
                let (ours, theirs) = (*ours.get(&self.metric)?, *theirs.get(&self.metric)?);
                let ratio = if self.better == Better::Higher { ours / theirs } else { theirs / ours };
                ratio.is_finite().then_some(ratio)
            });
            if let Some(ratio_of_peer) = median(ratios.collect()) {
                ratio.insert(name, rounded(ratio_of_peer));
            }
        }
        let value = median(values(ours, &self.metric))?;
        let loads = measured.metrics.values().flatten().filter_map(|metrics| metrics.get("load").copied());
        let is_met = |goals: &[Goal]| {
            let met: Vec<Option<bool>> = goals.iter().map(|goal| goal.is_met(value, &ratio)).collect();
            if met.contains(&Some(false)) {
                Some(false)
            } else {
                (!met.is_empty() && !met.contains(&None)).then_some(true)
            }
        };
        Some(RowResult {
            bench: self.name.clone(),
            unit: self.unit.to_owned(),
            ours: rounded(value),
            rounds: ours.len(),
            load: rounded(median(loads.collect()).unwrap_or(0.0)),
            better: if self.better == Better::Higher { "higher" } else { "lower" }.to_owned(),
            reach: self.reach.iter().map(Goal::to_string).collect::<Vec<_>>().join(", "),
            reach_met: is_met(&self.reach),
            aim: self.aim.iter().map(Goal::to_string).collect::<Vec<_>>().join(", "),
            aim_met: is_met(&self.aim),
            peers,
            ratio,
            spread,
            beside,
        })
    }
}

impl Goal {
    /// Whether it is met, as far as what it compares with was measured.
    fn is_met(&self, value: f64, ratio: &BTreeMap<String, f64>) -> Option<bool> {
        match self {
            Self::Times(peer, factor) => ratio.get(*peer).map(|ratio| ratio >= factor),
            Self::TimesEvery(factor) => {
                let peers: Vec<f64> =
                    ratio.iter().filter(|(name, _)| *name != "naive").map(|(_, ratio)| *ratio).collect();
                (!peers.is_empty()).then(|| peers.iter().all(|ratio| ratio >= factor))
            }
            Self::AtMost(bound) => Some(value <= *bound),
            Self::AtLeast(bound) => Some(value >= *bound),
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Times(peer, factor) => write!(formatter, "{factor}x {peer}"),
            Self::TimesEvery(factor) => write!(formatter, "{factor}x every peer"),
            Self::AtMost(bound) => write!(formatter, "{bound}"),
            Self::AtLeast(bound) => write!(formatter, "{bound}"),
        }
    }
}

/// A row's values: one line of engine.jsonl or server.jsonl. The first seven fields are what a reader needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RowResult {
    /// What was measured.
    pub bench: String,
    /// Its unit.
    pub unit: String,
    /// Our median.
    pub ours: f64,
    /// The peers' medians.
    pub peers: BTreeMap<String, f64>,
    /// How many times better ours is than each peer: the median of the rounds' ratios.
    pub ratio: BTreeMap<String, f64>,
    /// Our rounds.
    pub rounds: usize,
    /// The median of the load averages after each measurement.
    pub load: f64,
    /// Whether a higher or a lower value is better.
    pub better: String,
    /// Least and greatest of the rounds, of each store.
    pub spread: BTreeMap<String, [f64; 2]>,
    /// What was noted beside, of each store.
    pub beside: BTreeMap<String, Beside>,
    /// What is to be reached.
    pub reach: String,
    /// Whether it is; `None` if a peer that it names was not measured.
    pub reach_met: Option<bool>,
    /// What is aimed at.
    pub aim: String,
    /// Whether it is met, likewise.
    pub aim_met: Option<bool>,
}

/// What is noted beside a value, medians of the rounds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Beside {
    /// Processor time for each operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_us_per_op: Option<f64>,
    /// Bytes written to the device for each operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_bytes_per_op: Option<f64>,
    /// The median of the sync probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe_us: Option<f64>,
    /// The load average.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub load: Option<f64>,
    /// Resident memory at the end of the measurement, in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resident_mib: Option<f64>,
}

impl Beside {
    fn of(rounds: &[Metrics], prefix: &str) -> Self {
        let of = |metric: &str| {
            let part = values(rounds, &format!("{prefix}{metric}"));
            median(if part.is_empty() { values(rounds, metric) } else { part }).map(rounded)
        };
        Self {
            cpu_us_per_op: of("cpu_us"),
            device_bytes_per_op: of("device_bytes"),
            probe_us: of("probe_us"),
            load: of("load"),
            resident_mib: of("resident_mib"),
        }
    }
}

fn values(rounds: &[Metrics], metric: &str) -> Vec<f64> {
    rounds.iter().filter_map(|metrics| metrics.get(metric).copied()).collect()
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Four digits: more would be noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3.0 - value.abs().log10().floor();
    if digits <= 0.0 { value.round() } else { (value * 10f64.powf(digits)).round() / 10f64.powf(digits) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(ours: &[f64], heed: &[f64]) -> Measured {
        let rounds = |values: &[f64]| {
            values.iter().map(|value| Metrics::from([("seconds".to_owned(), *value)])).collect::<Vec<_>>()
        };
        let metrics = BTreeMap::from([(OURS.to_owned(), rounds(ours)), ("naive".to_owned(), rounds(heed))]);
        Measured { metrics, ..Measured::default() }
    }

    #[test]
    fn a_ratio_above_one_always_means_that_ours_is_better() {
        let measured = measured(&[2.0, 2.0, 4.0], &[4.0, 4.0, 8.0]);
        let lower = Row::new("row", "s", "seconds", Better::Lower).result(&measured).unwrap();
        assert!((lower.ratio["naive"] - 2.0).abs() < 1e-9);
        let higher = Row::new("row", "1/s", "seconds", Better::Higher).result(&measured).unwrap();
        assert!((higher.ratio["naive"] - 0.5).abs() < 1e-9);
        assert_eq!((lower.spread["ours"], lower.rounds), ([2.0, 4.0], 3));
    }

    #[test]
    fn a_goal_about_a_peer_that_was_not_measured_is_neither_met_nor_missed() {
        let measured = measured(&[2.0], &[3.0]);
        let row = |goal| Row::new("row", "s", "seconds", Better::Lower).goals(vec![goal], vec![]);
        assert_eq!(row(Goal::Times("naive", 1.5)).result(&measured).unwrap().reach_met, Some(true));
        assert_eq!(row(Goal::Times("naive", 1.6)).result(&measured).unwrap().reach_met, Some(false));
        assert_eq!(row(Goal::Times("absent", 1.0)).result(&measured).unwrap().reach_met, None);
        assert_eq!(row(Goal::AtMost(2.0)).result(&measured).unwrap().aim_met, None);
    }

    #[test]
    fn numbers_keep_four_digits() {
        assert!((rounded(123_456.0) - 123_456.0).abs() < 1e-9);
        assert!((rounded(1.234_56) - 1.235).abs() < 1e-9);
        assert!((rounded(0.000_123_456) - 0.000_123_5).abs() < 1e-12);
    }
}
