//! Real processes over the `kvs` engine, killed at any moment, cut off from their disk and refused by it, and judged
//! from outside; and a real server among clients that mean it no good.
//!
//! The program `workload` opens a folder, says what it finds, and says of each operation that it is about to begin and
//! that it was acknowledged. Whoever started it keeps the [`Oracle`]: the process that dies is never its own judge.
//!
//! What must hold: every promise that is counted ("so many kills during a compaction") is counted from what the killed
//! process left behind, and a count that is not reached fails the test.

pub mod crowd;
pub mod evidence;
pub mod judge;
pub mod machine;
pub mod mount;
pub mod oracle;
pub mod process;
pub mod random;
pub mod report;
pub mod server;
pub mod size;
pub mod task;
pub mod tracer;

pub use evidence::Evidence;
pub use mount::{FileSystem, LoopMount};
pub use oracle::Oracle;
pub use process::Process;
pub use random::Random;
pub use report::{Change, Report};
pub use server::Server;
pub use size::{is_full, say};
pub use task::{Script, Task};
