//! JSON lines against RESP on our own server, by our own generator: the same requests, the same connections.

use kvs_bench::Result;
use kvs_bench::measure::Metrics;
use kvs_bench::row::{Better, Goal, OURS, Row};
use kvs_load::{Group, Load, Wire};

use crate::contestant::Contestant;
use crate::figure::{Bench, Figure, drive, load_of, with_cost};

const SECONDS: f64 = 1.5;
const CLIENTS: usize = 64;

/// What is asked: its name, whether it is a get, and how many are sent at once.
const PARTS: [(&str, bool, usize); 4] =
    [("get-64", true, 1), ("get-64-pipeline-16", true, 16), ("set-64", false, 1), ("set-64-pipeline-16", false, 16)];

/// The figure.
pub struct JsonByResp;

impl Figure for JsonByResp {
    fn name(&self) -> String {
        "json-by-resp".to_owned()
    }

    fn contestants(&self) -> Vec<&'static str> {
        vec![OURS]
    }

    fn rounds(&self) -> usize {
        5
    }

    fn round(&self, bench: &mut Bench, _contestant: &str, _round: usize) -> Result<Metrics> {
        let (seconds, keys) = (bench.scale.seconds(SECONDS), bench.keys());
        let server = bench.loaded(Contestant::Ours)?;
        let mut all = Metrics::new();
        for (name, is_get, depth) in PARTS {
            let mut rates = [0.0; 2];
            // There and back, so that neither is always the first.
            for (place, wire) in [(0, Wire::Resp), (1, Wire::JsonLines), (1, Wire::JsonLines), (0, Wire::Resp)] {
                let group = if is_get { Group::gets(CLIENTS, depth, keys) } else { Group::sets(CLIENTS, depth, keys) };
                let load = Load { wire, ..load_of(server, seconds / 2.0, vec![group]) };
                let prefix = if place == 0 { format!("{name}-resp.") } else { format!("{name}.") };
                rates[place] += with_cost(server, &prefix, &mut all, || {
                    let outcome = drive(&load)?.remove(0);
                    Ok((outcome.rate(), outcome.done))
                })?;
            }
            all.insert(format!("{name}.ratio"), rates[1] / rates[0]);
            all.insert(format!("{name}.rate"), rates[1] / 2.0);
            all.insert(format!("{name}-resp.rate"), rates[0] / 2.0);
        }
        Ok(all)
    }

    fn rows(&self) -> Vec<Row> {
        let goals = |row: Row| row.goals(vec![Goal::AtLeast(0.7)], vec![Goal::AtLeast(0.9)]);
        let ratio = |(name, ..): (&str, bool, usize)| {
            let title = format!("json-by-resp-{name}");
            goals(Row::new(&title, "rate / rate", "ratio", Better::Higher).of_part(&format!("{name}.")))
        };
        let rate = |title: String, part: String| Row::new(&title, "ops/s", "rate", Better::Higher).of_part(&part);
        let of_json = PARTS.map(|(name, ..)| rate(format!("json-{name}"), format!("{name}.")));
        let of_resp = PARTS.map(|(name, ..)| rate(format!("resp-{name}"), format!("{name}-resp.")));
        PARTS.into_iter().map(ratio).chain(of_json).chain(of_resp).collect()
    }
}
