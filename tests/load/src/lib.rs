//! Load on a running server, from one thread: closed loops, open loops whose latencies count from when a request was
//! due, both protocols; and what the kernel says of the server's process meanwhile.
//!
//! What must hold: the generator is the same for whichever server is measured; a request that was due and could not be
//! sent in time makes its latency longer, never shorter (no coordinated omission); every wait has an end.

pub mod control_group;
pub mod histogram;
pub mod keys;
pub mod load;
pub mod outcome;
mod player;
mod socket;
pub mod watched;
pub mod wire;

pub use control_group::ControlGroup;
pub use histogram::Histogram;
pub use load::{Group, Load, Pace};
pub use outcome::Outcome;
pub use watched::Watched;
pub use wire::{Reply, Wire};
