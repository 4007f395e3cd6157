//! The figures, one file each, in the order of a whole run: who needs the loaded servers comes before who ends them.

pub mod durable_sets;
pub mod gets;
pub mod json_by_resp;
pub mod memory;
pub mod open_loop;
pub mod readers_beside_writers;
pub mod restart;
pub mod rewrite;
pub mod scrapes;
pub mod strategies;

use crate::figure::Figure;

/// All figures of a whole run.
pub fn all() -> Vec<Box<dyn Figure>> {
    vec![
        Box::new(gets::Gets { pipeline: 1 }),
        Box::new(gets::Gets { pipeline: 16 }),
        Box::new(durable_sets::DurableSets { clients: 1, pipeline: 1 }),
        Box::new(durable_sets::DurableSets { clients: 8, pipeline: 1 }),
        Box::new(durable_sets::DurableSets { clients: 64, pipeline: 1 }),
        Box::new(durable_sets::DurableSets { clients: 64, pipeline: 16 }),
        Box::new(json_by_resp::JsonByResp),
        Box::new(open_loop::OpenLoop),
        Box::new(readers_beside_writers::ReadersBesideWriters { slow_disk: false }),
        Box::new(scrapes::Scrapes),
        Box::new(restart::Restart),
        Box::new(readers_beside_writers::ReadersBesideWriters { slow_disk: true }),
        Box::new(rewrite::Rewrite),
        Box::new(memory::Memory),
        Box::new(strategies::Strategies::new()),
    ]
}
