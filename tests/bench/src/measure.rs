//! Numbers that a measurement yields, and what is noted beside each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::{Result, machine};

/// What a child measured, by name.
pub type Metrics = BTreeMap<String, f64>;

/// A duration in nanoseconds.
pub fn nanoseconds(duration: &Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The value below which a share of all values lies; zero of none.
pub fn quantile(mut values: Vec<u64>, share: f64) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    values.sort_unstable();
    let place = ((values.len() - 1) as f64 * share).ceil();
    values[(place as usize).min(values.len() - 1)] as f64
}

/// Measures time, processor time and bytes written to the device from its start to [`finish`](Self::finish).
pub struct Meter {
    folder: PathBuf,
    device_bytes: Option<u64>,
    processor: Duration,
    start: Instant,
}

impl Meter {
    /// Starts, once nothing is left to be written from before.
    pub fn start(folder: &Path) -> Result<Self> {
        machine::sync_file_system(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            device_bytes: machine::device_written_bytes(folder)?,
            processor: machine::processor_time()?,
            start: Instant::now(),
        })
    }

    /// Notes the time of so many operations as `seconds`, and for each operation `cpu_us` and `device_bytes`. What is
    /// still in the page cache is written to the device first, so that nobody is charged less for being late.
    pub fn finish(self, operations: u64, metrics: &mut Metrics) -> Result<f64> {
        let seconds = self.start.elapsed().as_secs_f64();
        let processor = machine::processor_time()?.saturating_sub(self.processor);
        machine::sync_file_system(&self.folder)?;
        let operations = operations.max(1) as f64;
        metrics.insert("seconds".to_owned(), seconds);
        metrics.insert("cpu_us".to_owned(), processor.as_secs_f64() * 1e6 / operations);
        if let (Some(before), Some(after)) = (self.device_bytes, machine::device_written_bytes(&self.folder)?) {
            metrics.insert("device_bytes".to_owned(), after.saturating_sub(before) as f64 / operations);
        }
        Ok(seconds)
    }
}

/// Returns when this process has done nearly nothing for a while: the store's own threads have caught up with what was
/// asked of them. Gives up after a bound, so that a store that is never quiet is measured all the same.
pub fn settle() -> Result<()> {
    const LOOK: Duration = Duration::from_millis(200);
    const QUIET_SHARE: f64 = 0.05;
    const LONGEST: Duration = Duration::from_secs(20);
    let start = Instant::now();
    let mut before = machine::processor_time()?;
    while start.elapsed() < LONGEST {
        std::thread::sleep(LOOK);
        let now = machine::processor_time()?;
        if now.saturating_sub(before).as_secs_f64() < LOOK.as_secs_f64() * QUIET_SHARE {
            break;
        }
        before = now;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_of_few_and_of_many() {
        assert!(quantile(vec![], 0.5).abs() < f64::EPSILON);
        assert!((quantile(vec![3, 1, 2], 0.5) - 2.0).abs() < f64::EPSILON);
        assert!((quantile((1..=1_000).rev().collect(), 0.999) - 1_000.0).abs() < 1.5);
    }
}
