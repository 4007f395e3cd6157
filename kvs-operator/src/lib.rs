//! The operator of Aryavarth KVS: for each `KvsStore` a StatefulSet, two Services, a ConfigMap and a ServiceAccount.
//!
//! The way of a reconcile is the order of these modules:
//!
//! 1. [`observe`]: what is there (reads);
//! 2. [`validate`]: what is wanted, in a form that can be built (pure);
//! 3. [`plan`]: the difference, as a list of writes (pure);
//! 4. [`apply`]: those writes, one after the other;
//! 5. [`status`]: what it means for people, as conditions and events (pure, then one write at most).
//!
//! [`controller`] leads through them, woken by [`watches`]; [`report`] writes what the last one found.

#![forbid(unsafe_code)]

pub mod apply;
pub mod backoff;
pub mod cli;
pub mod controller;
pub mod error;
pub mod health;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod plan;
pub mod program;
pub mod quantity;
pub mod report;
pub mod resource;
pub mod selftest;
pub mod status;
pub mod validate;
pub mod watches;
