//! The stories of the framed log on its own: appending, reading, truncating, purging, and a crash at every point of it.

mod appending;
mod crashes;
mod cutting;
mod fixture;
#[path = "../support/hooked.rs"]
mod hooked;
mod model;
mod reading;
#[path = "../support/mod.rs"]
mod support;
