//! The figures, one file each, in the order in which a whole run has them: who needs the loaded stores unchanged first.

pub mod bulk_load;
pub mod durable_many;
pub mod durable_one;
pub mod random_get;

use crate::data::Kind;
use crate::figure::Figure;

/// All figures of a whole run.
pub fn all() -> Vec<Box<dyn Figure>> {
    vec![
        Box::new(durable_many::DurableMany),
        Box::new(bulk_load::BulkLoad { kind: Kind::Text }),
        Box::new(durable_one::DurableOne { is_reopened: false }),
        Box::new(durable_one::DurableOne { is_reopened: true }),
        Box::new(random_get::RandomGet { kind: Kind::Text }),
        Box::new(bulk_load::BulkLoad { kind: Kind::Binary }),
        Box::new(random_get::RandomGet { kind: Kind::Binary }),
    ]
}
