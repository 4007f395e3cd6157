//! What the benchmarks of the engine and of the server share: data, the machine, measuring, rows and reports.

pub mod data;
pub mod machine;
pub mod measure;
pub mod report;
pub mod row;
pub mod scale;

/// What fails here fails the run: any error, with its text.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;
