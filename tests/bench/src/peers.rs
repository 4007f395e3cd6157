//! The stores, one file each.

#[cfg(feature = "fjall")]
pub mod fjall;
#[cfg(feature = "heed")]
pub mod heed;
pub mod naive;
pub mod ours;
#[cfg(feature = "redb")]
pub mod redb;
#[cfg(feature = "rocksdb")]
pub mod rocksdb;
#[cfg(feature = "sled")]
pub mod sled;
