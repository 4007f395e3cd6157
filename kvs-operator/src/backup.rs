//! Backups: the reconciles of `KvsBackup` and of `KvsBackupSchedule`.
//!
//! A backup's reconcile has the steps of a store's: it reads its Job, and while there is none the store and the volume that
//! one would need; [`plan`] says what to do (pure); [`status`] says what it means (pure). Its Job is [`job`]. A schedule's
//! reconcile is [`schedule`] (pure) with the times of [`cron`]. [`controller`] leads through both.
//!
//! What must hold: a backup that is complete or has failed is never touched again; a quiet backup costs no write.

pub mod controller;
pub mod cron;
pub mod job;
mod observe;
pub mod plan;
mod report;
pub mod schedule;
pub mod status;

pub use report::Telling;
