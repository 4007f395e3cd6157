//! `Progress`: how far an import or export is, on standard error: a bar that is redrawn on a terminal, plain lines
//! elsewhere.
//!
//! ```text
//!  45 % [#########-----------] 123456 keys, 84000/s, 0:12 left
//! ```

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// How often the line on a terminal is redrawn.
const REDRAW: Duration = Duration::from_millis(200);
/// How often a plain line is written.
const PLAIN: Duration = Duration::from_secs(10);
/// Keys between two looks at the clock: few enough for values of a megabyte each.
const KEYS_BETWEEN_LOOKS: u64 = 16;
/// The bar's width in characters: with its numbers it fits 80 columns.
const BAR_CHARACTERS: u64 = 20;

/// Counts keys and shows the count now and then.
pub(crate) struct Progress {
    /// What is done to keys: `imported`.
    verb: &'static str,
    begin: Instant,
    /// Keys of this run.
    keys: u64,
    is_terminal: bool,
    /// When the count was last shown.
    shown: Instant,
    share: Share,
}

/// How much of the whole is done, in bytes or in keys.
pub(crate) struct Share {
    /// The whole; `None` where nobody knows, as of a pipe.
    total: Option<u64>,
    /// What earlier runs had done.
    start: u64,
    done: u64,
}

impl Progress {
    /// Begins now, `start` of `total` being done.
    pub(crate) fn new(verb: &'static str, start: u64, total: Option<u64>) -> Self {
        let begin = Instant::now();
        let is_terminal = std::io::stderr().is_terminal();
        Self { verb, begin, keys: 0, is_terminal, shown: begin, share: Share { total, start, done: start } }
    }

    /// Keys of this run so far.
    pub(crate) fn keys(&self) -> u64 {
        self.keys
    }

    /// The time of this run so far.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// One key more is done, and so much of the whole.
    pub(crate) fn count(&mut self, done: u64) {
        self.keys += 1;
        self.share.done = done;
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

    /// Begins to count from nothing again.
    pub(crate) fn restart(&mut self) {
        (self.keys, self.share.start, self.share.done) = (0, 0, 0);
    }

    /// The last word.
    pub(crate) fn finish(&self) {
        let elapsed = self.elapsed();
        let seconds = elapsed.as_secs_f64();
        let line = format!("{} {} keys in {seconds:.1} s ({}/s)", self.verb, self.keys, self.rate(elapsed));
        self.show(&line);
        if self.is_terminal {
            let _ = writeln!(std::io::stderr());
        }
    }

    fn line(&self) -> String {
        let elapsed = self.elapsed();
        let line = format!("{} keys, {}/s", self.keys, self.rate(elapsed));
        let (Some(percent), Some(left)) = (self.share.percent(), self.share.time_left(elapsed)) else { return line };
        let full = percent * BAR_CHARACTERS / 100;
        let bar: String = (0..BAR_CHARACTERS).map(|place| if place < full { '#' } else { '-' }).collect();
        format!("{percent:3} % [{bar}] {line}, {}:{:02} left", left.as_secs() / 60, left.as_secs() % 60)
    }

    /// Keys per second.
    pub(crate) fn rate(&self, elapsed: Duration) -> u64 {
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

impl Share {
    fn percent(&self) -> Option<u64> {
        let total = self.total.filter(|total| *total > 0)?;
        Some(self.done.min(total).saturating_mul(100) / total)
    }

    /// The time that the rest takes at the rate of this run.
    fn time_left(&self, elapsed: Duration) -> Option<Duration> {
        let left = self.total?.saturating_sub(self.done);
        let done_now = self.done.saturating_sub(self.start).max(1);
        let microseconds = elapsed.as_micros() * u128::from(left) / u128::from(done_now);
        Some(Duration::from_micros(u64::try_from(microseconds).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_takes_as_long_as_the_rate_of_this_run_says() {
        let share = Share { total: Some(1_000), start: 500, done: 750 };
        assert_eq!(share.percent(), Some(75));
        assert_eq!(share.time_left(Duration::from_secs(10)), Some(Duration::from_secs(10)));
        let pipe = Share { total: None, start: 0, done: 250 };
        assert_eq!((pipe.percent(), pipe.time_left(Duration::from_secs(10))), (None, None));
        let empty = Share { total: Some(0), start: 0, done: 0 };
        assert_eq!(empty.percent(), None);
    }

    #[test]
    fn the_bar_fits_a_terminal() {
        let mut progress = Progress::new("imported", 0, Some(10_000_000));
        progress.keys = 9_999_999;
        progress.share.done = 4_500_000;
        let line = progress.line();
        assert!(line.starts_with(" 45 % [#########-----------] 9999999 keys, ") && line.ends_with(" left"), "{line}");
    }
}
