//! The operator of Aryavarth KVS: for each `KvsStore` a StatefulSet, two Services, a ConfigMap, a ServiceAccount and a
//! NetworkPolicy, and what else the store asks for and the cluster knows.
//!
//! The way of a reconcile is the order of these modules:
//!
//! 1. [`validate`]: what is wanted, in a form that can be built (pure);
//! 2. [`observe`]: what is there (reads);
//! 3. [`plan`]: the difference, as a list of writes (pure);
//! 4. [`apply`]: those writes, one after the other;
//! 5. [`status`]: what it means for people, as conditions and events (pure, then one write at most).
//!
//! [`controller`] leads through them, woken by [`watches`]; [`report`] writes what the last one found. Of several
//! operators one works: [`leader`]. Backups and their schedules are resources with reconciles of their own: [`backup`].

#![forbid(unsafe_code)]

pub mod access;
pub mod apply;
pub mod backoff;
pub mod backup;
pub mod census;
pub mod cli;
pub mod controller;
pub mod error;
pub mod health;
pub mod kinds;
pub mod leader;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod orphans;
pub mod overlay;
pub mod plan;
pub mod program;
pub mod quantity;
pub mod report;
pub mod resource;
pub mod restore;
pub mod selftest;
pub mod status;
pub mod validate;
pub mod watches;
