//! `Progress`: how far an import is, on standard error: one line that is redrawn on a terminal, plain lines elsewhere.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often the line on a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(200);
/// How often a plain line is written.
const PLAIN: Duration = Duration::from_secs(10);
/// Keys between two looks at the clock.
const KEYS_BETWEEN_LOOKS: u64 = 256;

/// Counts keys and shows the count now and then.
pub(super) struct Progress {
    begin: Instant,
    keys: u64,
    is_terminal: bool,
    /// When the count was last shown.
    shown: Instant,
    /// The share of the input that is read.
    input: InputShare,
}

/// How much of the input is read; of a pipe nobody knows.
pub(super) struct InputShare {
    /// Bytes of the whole input.
    total_bytes: Option<u64>,
    read_bytes: u64,
}

impl Progress {
    /// Begins now, with the size of the input where it is known.
    pub(super) fn new(total_bytes: Option<u64>) -> Self {
        let begin = Instant::now();
        let is_terminal = std::io::stderr().is_terminal();
        Self { begin, keys: 0, is_terminal, shown: begin, input: InputShare { total_bytes, read_bytes: 0 } }
    }

    /// Keys so far.
    pub(super) fn keys(&self) -> u64 {
        self.keys
    }

    /// One key more is imported, when so many bytes of the input are read.
    pub(super) fn count(&mut self, read_bytes: u64) {
        self.keys += 1;
        self.input.read_bytes = read_bytes;
        if !self.keys.is_multiple_of(KEYS_BETWEEN_LOOKS) {
            return;
        }
        let due = if self.is_terminal { REDRAW } else { PLAIN };
        if self.shown.elapsed() >= due {
            self.shown = Instant::now();
            let line = self.line();
            self.show(&line);
        }
    }

    /// The last word.
    pub(super) fn finish(&self) {
        let elapsed = self.begin.elapsed();
        let line = format!("imported {} keys in {:.1} s ({}/s)", self.keys, elapsed.as_secs_f64(), self.rate(elapsed));
        self.show(&line);
        if self.is_terminal {
            eprintln!();
        }
    }

    fn line(&self) -> String {
        let elapsed = self.begin.elapsed();
        let mut line = format!("{} keys, {}/s", self.keys, self.rate(elapsed));
        if let Some(left) = self.input.time_left(elapsed) {
            let percent = self.input.percent().unwrap_or(0);
            line = format!("{line}, {percent} %, {} s left", left.as_secs());
        }
        line
    }

    /// Keys per second.
    fn rate(&self, elapsed: Duration) -> u64 {
        let microseconds = elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.keys) * 1_000_000 / microseconds).unwrap_or(u64::MAX)
    }

    fn show(&self, line: &str) {
        let mut output = std::io::stderr().lock();
        // Nobody is left to tell that standard error is closed.
        let _ = if self.is_terminal {
            // Back to the first column, and clear what the longer line before left.
            write!(output, "\r\x1b[K{line}").and_then(|()| output.flush())
        } else {
            writeln!(output, "{line}")
        };
    }
}

impl InputShare {
    fn percent(&self) -> Option<u64> {
        let total = self.total_bytes.filter(|total| *total > 0)?;
        Some((self.read_bytes.min(total)) * 100 / total)
    }

    /// The time that the rest takes at the rate so far.
    fn time_left(&self, elapsed: Duration) -> Option<Duration> {
        let total = self.total_bytes?;
        let left = total.saturating_sub(self.read_bytes);
        let microseconds = elapsed.as_micros() * u128::from(left) / u128::from(self.read_bytes.max(1));
        Some(Duration::from_micros(u64::try_from(microseconds).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_what_is_done_did() {
        let input = InputShare { total_bytes: Some(400), read_bytes: 100 };
        assert_eq!(input.percent(), Some(25));
        assert_eq!(input.time_left(Duration::from_secs(10)), Some(Duration::from_secs(30)));
        let pipe = InputShare { total_bytes: None, read_bytes: 100 };
        assert_eq!((pipe.percent(), pipe.time_left(Duration::from_secs(10))), (None, None));
        let empty = InputShare { total_bytes: Some(0), read_bytes: 0 };
        assert_eq!(empty.percent(), None);
    }
}
