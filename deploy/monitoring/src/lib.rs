//! What Aryavarth KVS is watched with. The catalogues of server and operator say which metrics there are; here stand the
//! alert rules and the dashboards that use them, and `kvs-monitoring generate` writes every file that is made of them.
//!
//! * [`metrics`]: both catalogues together, and which of their metrics an expression names.
//! * [`rules`]: the alerts, as rules of Prometheus and as tests for `promtool`.
//! * [`dashboards`]: the dashboards, as JSON of Grafana.
//! * [`document`] is docs/metrics.md and the page with the pictures.
//! * [`lint`]: what a compiler can't see of them.
//! * [`prometheus`]: a Prometheus of one's own, and its answers; [`ask`] asks it all; [`picture`] draws them.
//!
//! What must hold: no expression names a metric that no catalogue has; what is written depends on nothing but the code.

#![forbid(unsafe_code)]

pub mod ask;
pub mod dashboards;
pub mod document;
pub mod generated;
pub mod lint;
pub mod metrics;
pub mod picture;
pub mod prometheus;
pub mod rules;
