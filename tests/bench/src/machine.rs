//! What the machine says about a measurement: processor time, memory, bytes written to the device, load, and how fast
//! the disk syncs at this moment.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use crate::Result;

/// Bytes that the probe writes before each sync.
const PROBE_BYTES: usize = 200;
/// The probe's file: filled with zeroes before it is used.
const PROBE_FILE_BYTES: usize = 4 << 20;
/// Bytes of a sector in /proc/diskstats, whatever the device.
const SECTOR_BYTES: u64 = 512;

/// Processor time of this process so far, of all its threads, user and system.
pub fn processor_time() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let duration = |seconds: i64, microseconds: i64| {
        Duration::from_secs(seconds.unsigned_abs()) + Duration::from_micros(microseconds.unsigned_abs())
    };
    let (user, system) = (usage.user_time(), usage.system_time());
    Ok(duration(user.tv_sec(), user.tv_usec()) + duration(system.tv_sec(), system.tv_usec()))
}

/// Anonymous memory of this process, in bytes: what the kernel can't take back.
pub fn anonymous_bytes() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("RssAnon:")).ok_or("no RssAnon in /proc/self/status")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kibibytes * 1024)
}

/// The load average of the last minute.
pub fn load() -> f64 {
    let line = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    line.split(' ').next().and_then(|word| word.parse().ok()).unwrap_or(f64::NAN)
}

/// What was measured on, in one line.
pub fn description() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let information = read("/proc/cpuinfo");
    // All of them, also those that this process is kept from.
    let cores = information.lines().filter(|line| line.starts_with("processor")).count();
    let model =
        information.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split(": ").nth(1));
    let kernel = read("/proc/sys/kernel/osrelease");
    format!("{cores} cores ({}), Linux {}, load {}", model.unwrap_or("unknown"), kernel.trim(), load())
}

/// Writes everything of the file system of a folder to its device.
pub fn sync_file_system(folder: &Path) -> Result<()> {
    Ok(nix::unistd::syncfs(File::open(folder)?)?)
}

/// Bytes written so far to the device that a folder lies on, or `None` where the file system hides its device.
/// /proc/PID/io counts pages that were made dirty, which is another thing.
pub fn device_written_bytes(folder: &Path) -> Result<Option<u64>> {
    let device = fs::metadata(folder)?.dev();
    let (major, minor) = (nix::sys::stat::major(device).to_string(), nix::sys::stat::minor(device).to_string());
    for line in fs::read_to_string("/proc/diskstats")?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if words.len() > 9 && words[0] == major && words[1] == minor {
            return Ok(Some(words[9].parse::<u64>()? * SECTOR_BYTES));
        }
    }
    Ok(None)
}

/// Bytes that a folder takes on disk.
pub fn disk_bytes(folder: &Path) -> u64 {
    // Files come and go meanwhile.
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * SECTOR_BYTES,
        Err(_) => 0,
    };
    entries.flatten().map(of_entry).sum()
}

/// Watches a number from a thread of its own and keeps the highest.
pub struct Highest {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Highest {
    /// Looks at a number at every interval.
    pub fn watch(interval: Duration, mut look: impl FnMut() -> u64 + Send + 'static) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let mut highest = look();
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(interval);
                highest = highest.max(look());
            }
            highest
        });
        Self { is_over, thread }
    }

    /// The highest so far.
    pub fn end(self) -> Result<u64> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the thread that watches panicked".into())
    }
}

/// The sync probe: small writes into a file that does not grow, a sync after each.
pub struct Probe {
    file: File,
    offset: usize,
    times: Vec<Duration>,
}

impl Probe {
    /// A probe whose file lies in a folder.
    pub fn new(folder: &Path) -> Result<Self> {
        let path = folder.join("sync-probe");
        fs::write(&path, vec![0; PROBE_FILE_BYTES])?;
        let file = OpenOptions::new().write(true).open(&path)?;
        file.sync_all()?;
        // The file goes with its descriptor.
        fs::remove_file(&path)?;
        File::open(folder)?.sync_all()?;
        Ok(Self { file, offset: 0, times: Vec::new() })
    }

    /// Writes and syncs so many times.
    pub fn run(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            if self.offset + PROBE_BYTES > PROBE_FILE_BYTES {
                self.offset = 0;
            }
            let start = Instant::now();
            self.file.write_all_at(&[b'p'; PROBE_BYTES], self.offset as u64)?;
            self.file.sync_data()?;
            self.times.push(start.elapsed());
            self.offset += PROBE_BYTES;
        }
        Ok(())
    }

    /// The median of all runs so far, in microseconds.
    pub fn median_us(&self) -> f64 {
        let nanoseconds: Vec<u64> = self.times.iter().map(crate::measure::nanoseconds).collect();
        crate::measure::quantile(nanoseconds, 0.5) / 1e3
    }
}
