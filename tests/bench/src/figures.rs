//! The figures, one file each, in the order of a whole run: who needs the loaded stores unchanged comes before who
//! changes them.

pub mod bulk_load;
pub mod compaction;
pub mod durable_many;
pub mod durable_one;
pub mod many_keys;
pub mod overwrite;
pub mod random_get;
pub mod redb_shape;
pub mod reopen;

use crate::data::Kind;
use crate::figure::Figure;

/// All figures of a whole run.
pub fn all() -> Vec<Box<dyn Figure>> {
    vec![
        Box::new(durable_many::DurableMany),
        Box::new(bulk_load::BulkLoad { kind: Kind::Text }),
        Box::new(reopen::Reopen { is_killed: false }),
        Box::new(reopen::Reopen { is_killed: true }),
        Box::new(durable_one::DurableOne { is_reopened: false }),
        Box::new(durable_one::DurableOne { is_reopened: true }),
        Box::new(random_get::RandomGet { kind: Kind::Text }),
        Box::new(bulk_load::BulkLoad { kind: Kind::Binary }),
        Box::new(random_get::RandomGet { kind: Kind::Binary }),
        Box::new(compaction::Compaction),
        Box::new(overwrite::Overwrite),
        Box::new(many_keys::ManyKeys { is_long: false }),
        Box::new(many_keys::ManyKeys { is_long: true }),
        Box::new(redb_shape::RedbShape),
    ]
}
