//! The promise that old data opens, and that the files are what FORMAT.md says.
//!
//! To add a format: raise its version, write its fixture with
//! `KVS_FIXTURE_FOLDER=kvs-engine/tests/fixtures/format-N cargo test -p kvs-engine --test format -- --ignored`, and give
//! it a line in `upgrade.rs`. A fixture, once it is in the tree, is never written again.

mod fixture;
mod script;
mod upgrade;
