//! `Watched`: a process as the kernel sees it from outside.

use std::fs;
use std::io;
use std::time::Duration;

/// Ticks of /proc/PID/stat in a second; Linux promises it to programs, whatever its own clock does.
const TICKS_PER_SECOND: u64 = 100;

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// Its number.
    pub pid: u32,
}

impl Watched {
    /// Processor time so far, user and system, of all threads that it has or had; in steps of 10 ms.
    ///
    /// # Errors
    /// The process has ended.
    pub fn processor_time(self) -> io::Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // The name may hold anything, a parenthesis too; what follows it is numbers.
        let (_, fields) = stat.rsplit_once(')').ok_or_else(|| unexpected(&stat))?;
        let field = |place: usize| fields.split_whitespace().nth(place).and_then(|field| field.parse::<u64>().ok());
        // The 14th and 15th field of the line, counted from the third, which follows the name.
        let (Some(user), Some(system)) = (field(11), field(12)) else { return Err(unexpected(&stat)) };
        Ok(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
    }

    /// Resident memory in bytes, pages of files included.
    ///
    /// # Errors
    /// The process has ended.
    pub fn resident_bytes(self) -> io::Result<u64> {
        self.status("VmRSS:")
    }

    /// Anonymous resident memory in bytes: what the kernel can't take back.
    ///
    /// # Errors
    /// The process has ended.
    pub fn anonymous_bytes(self) -> io::Result<u64> {
        self.status("RssAnon:")
    }

    fn status(self, name: &str) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or_else(|| unexpected(&status))?;
        let kibibytes = line.trim().trim_end_matches(" kB").parse::<u64>().map_err(|_| unexpected(line))?;
        Ok(kibibytes * 1024)
    }
}

fn unexpected(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the kernel says of a process: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let this = Watched { pid: std::process::id() };
        let before = this.processor_time().unwrap();
        let mut number = 1_u64;
        while this.processor_time().unwrap() < before + Duration::from_millis(20) {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
        let (resident, anonymous) = (this.resident_bytes().unwrap(), this.anonymous_bytes().unwrap());
        assert!(resident > anonymous && anonymous > 4096, "{resident} {anonymous}");
    }
}
