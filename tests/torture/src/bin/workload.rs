//! bin `workload`: opens a folder, says what it finds, works, and says what it does. `kvs_torture::report` has the words.
//!
//! What must hold: it goes on after every error, so that whoever listens sees whether anything is acknowledged that
//! must not be; and it ends when nobody listens any more.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use kvs_engine::{Error, KvStore, KvsEngine as _, Mutation};
use kvs_torture::judge::BACKUP;
use kvs_torture::report::{key_of, value_of};
use kvs_torture::{Change, Random, Report, Script, Task};

/// The exit code for wrong arguments.
const EXIT_USAGE: u8 = 2;
/// Nobody listens any more.
const EXIT_DEAF: i32 = 4;
/// What a number of writers share of the keys in a batch, at most.
const MAX_BATCH: u64 = 4;
/// Sets that fill more than two of the smallest segments.
const FILLING_SETS: usize = 24;
/// One in so many keys is written most of the time.
const HOT_SHARE: u64 = 10;
/// How long a step waits at most for the log's own threads.
const REST: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let Some(task) = Task::parse(&arguments) else {
        let _ = writeln!(std::io::stderr(), "workload: it is started by the tests of kvs-torture");
        return ExitCode::from(EXIT_USAGE);
    };
    let output = match std::io::stdout().as_fd().try_clone_to_owned() {
        Ok(output) => File::from(output),
        Err(_) => return ExitCode::FAILURE,
    };
    let workload = Workload { task, output, numbers: AtomicU64::new(1), trouble: Mutex::new(None) };
    match workload.run() {
        Ok(()) => {
            let trouble = workload.trouble.lock().unwrap_or_else(PoisonError::into_inner).take();
            workload.say(&Report::End(trouble.unwrap_or_else(|| "well".to_owned())));
            ExitCode::SUCCESS
        }
        Err(error) => {
            workload.say(&Report::Trouble(format!("opening: {error}")));
            workload.say(&Report::End(format!("not-open {}", word_of(&error))));
            ExitCode::FAILURE
        }
    }
}

/// One word for an error.
fn word_of(error: &Error) -> &'static str {
    match error {
        Error::KeyNotFound => "absent",
        Error::TooLarge { .. } => "too-large",
        Error::Corruption { .. } => "corruption",
        Error::Poisoned { .. } => "poisoned",
        Error::NoSpace => "no-space",
        Error::Locked { .. } => "locked",
        Error::WrongFolder { .. } => "wrong-folder",
        Error::Closed => "closed",
        Error::Io { .. } => "io",
        _ => "other",
    }
}

/// Whether the kernel says of each other thread that it sleeps and waits for a wake-up.
fn others_sleep() -> bool {
    let own = std::fs::read_link("/proc/thread-self").ok();
    let own = own.as_ref().and_then(|path| path.file_name());
    std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| {
        tasks.flatten().filter(|task| Some(task.file_name().as_os_str()) != own).all(|task| {
            // The state stands behind the name in brackets.
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" S"))
        })
    })
}

struct Workload {
    task: Task,
    /// Not buffered: a line that was said has left the process.
    output: File,
    numbers: AtomicU64,
    /// The worst that happened, for the last word.
    trouble: Mutex<Option<String>>,
}

impl Workload {
    fn say(&self, report: &Report) {
        if (&self.output).write_all(format!("{report}\n").as_bytes()).is_err() {
            std::process::exit(EXIT_DEAF);
        }
    }

    fn phase(&self, name: &str) {
        self.say(&Report::Phase(name.to_owned()));
    }

    fn run(&self) -> Result<(), Error> {
        self.phase("open");
        match self.task.script {
            Script::Probe => {
                let store = self.open()?;
                self.phase("probe");
                self.write(&store, vec![Change::Set(0)]);
                self.close(&store);
            }
            Script::Story => self.story()?,
            Script::Mixed => self.mixed()?,
        }
        Ok(())
    }

    /// Opens the store and says what is in it.
    fn open(&self) -> Result<KvStore, Error> {
        let store = KvStore::open_with(&self.task.folder, self.task.options())?;
        self.say(&Report::Opened(store.stats().torn_bytes));
        for key in 0..self.task.keys {
            let value = store.get(key_of(key))?.map(|value| String::from_utf8_lossy(&value).into_owned());
            self.say(&Report::Value(key, value));
        }
        self.say(&Report::Dumped);
        Ok(store)
    }

    fn close(&self, store: &KvStore) {
        let closed = store.close();
        self.check("closing", closed);
    }

    /// Says what a call without a number did not do.
    fn check(&self, what: &str, result: Result<(), Error>) {
        if let Err(error) = result {
            self.say(&Report::Trouble(format!("{what}: {error}")));
            self.remember(&error);
        }
    }

    fn remember(&self, error: &Error) {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if trouble.is_none() || matches!(error, Error::Poisoned { .. }) {
            *trouble = Some(word_of(error).to_owned());
        }
    }

    /// One operation, announced and reported; returns whether more can be asked of the store.
    fn write(&self, store: &KvStore, changes: Vec<Change>) -> bool {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let value = || value_of(self.task.run, number).into_bytes();
        self.say(&Report::Intent(number, changes.clone()));
        let result = match changes[..] {
            [Change::Set(key)] => store.set(key_of(key), value()),
            [Change::Remove(key)] => store.remove(key_of(key)),
            _ => store.write_batch(
                changes
                    .iter()
                    .map(|change| match *change {
                        Change::Set(key) => Mutation::Set { key: key_of(key).into(), value: value() },
                        Change::Remove(key) => Mutation::Remove { key: key_of(key).into() },
                    })
                    .collect(),
            ),
        };
        match result {
            Ok(()) => self.say(&Report::Done(number)),
            Err(error) => {
                let word = word_of(&error).to_owned();
                match error {
                    Error::KeyNotFound => self.say(&Report::Refused(number, word)),
                    Error::NoSpace | Error::Closed | Error::TooLarge { .. } => {
                        self.remember(&error);
                        self.say(&Report::Refused(number, word));
                    }
                    _ => {
                        self.remember(&error);
                        self.say(&Report::Failed(number, word));
                        return false;
                    }
                }
            }
        }
        true
    }

    /// Reads a key; what was read must stay.
    fn read(&self, store: &KvStore, key: usize) {
        match store.get(key_of(key)) {
            Ok(Some(value)) => self.say(&Report::Read(key, String::from_utf8_lossy(&value).into_owned())),
            Ok(None) => {}
            Err(error) => {
                self.remember(&error);
                self.say(&Report::Trouble(format!("reading: {error}")));
            }
        }
    }

    /// One of every kind of work, on one thread, in a fixed order that the seed shifts a little. With an odd seed, the
    /// log's own threads have come to rest before each step, so that every run makes the same calls in the same order;
    /// with an even one they run beside it.
    fn story(&self) -> Result<(), Error> {
        let mut random = Random::new(self.task.seed);
        let keys = self.task.keys;
        let mut key = || usize::try_from(random.below(keys as u64)).unwrap_or(0);
        let step = |store: &KvStore, changes: Vec<Change>| {
            self.write(store, changes);
            self.rest();
        };
        let store = self.open()?;
        self.rest();
        self.phase("set");
        (0..keys.min(6)).for_each(|key| step(&store, vec![Change::Set(key)]));
        self.phase("remove");
        (3..6).for_each(|key| step(&store, vec![Change::Remove(key)]));
        self.phase("batch");
        step(&store, vec![Change::Set(0), Change::Remove(1), Change::Set(2)]);
        step(&store, vec![Change::Remove(0), Change::Set(1), Change::Set(4)]);
        self.phase("rotate");
        (0..FILLING_SETS).for_each(|_| step(&store, vec![Change::Set(key())]));
        self.read(&store, 0);
        self.phase("compact");
        self.check("compacting", store.compact());
        self.rest();
        self.phase("set");
        step(&store, vec![Change::Set(key())]);
        step(&store, vec![Change::Remove(key())]);
        self.phase("flush");
        self.check("flushing", store.flush());
        self.phase("backup");
        let copy = store.backup(self.task.folder.with_file_name(BACKUP), &[]).map(|_| ());
        self.check("making a backup", copy);
        self.phase("close");
        self.close(&store);
        drop(store);
        self.phase("open");
        let store = self.open()?;
        self.rest();
        self.phase("set");
        step(&store, vec![Change::Set(key())]);
        self.phase("close");
        self.close(&store);
        Ok(())
    }

    /// Waits until every other thread sleeps, with an odd seed.
    fn rest(&self) {
        if self.task.seed.is_multiple_of(2) {
            return;
        }
        let deadline = Instant::now() + REST;
        while Instant::now() < deadline && !others_sleep() {
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Random operations by many threads, each until its count is reached or the store is poisoned.
    fn mixed(&self) -> Result<(), Error> {
        let store = self.open()?;
        self.phase("mixed");
        let store = Arc::new(store);
        std::thread::scope(|scope| {
            for writer in 0..self.task.writers {
                let store = Arc::clone(&store);
                scope.spawn(move || {
                    let mut random = Random::new(self.task.seed.wrapping_mul(1_000).wrapping_add(writer));
                    for _ in 0..self.task.operations {
                        if !self.one_of_many(&store, &mut random) {
                            return;
                        }
                    }
                });
            }
        });
        self.phase("close");
        self.close(&store);
        Ok(())
    }

    fn one_of_many(&self, store: &KvStore, random: &mut Random) -> bool {
        let keys = self.task.keys as u64;
        // Most operations are on a few keys: what is written of the others stays in segments that nobody compacts for
        // long, while the removals of them lie in segments that are soon worth it.
        let key = |random: &mut Random| {
            let limit = if random.below(8) == 0 { keys } else { keys / HOT_SHARE };
            usize::try_from(random.below(limit.max(1))).unwrap_or(0)
        };
        let chance = random.below(100);
        if chance < 5 {
            self.read(store, key(random));
            return true;
        }
        let changes = match chance {
            5..20 => vec![Change::Remove(key(random))],
            20..30 => {
                let mut changes: Vec<Change> = Vec::new();
                for _ in 0..2 + random.below(MAX_BATCH - 1) {
                    let key = key(random);
                    if changes.iter().all(|change| change.key() != key) {
                        changes.push(if random.below(4) == 0 { Change::Remove(key) } else { Change::Set(key) });
                    }
                }
                changes
            }
            _ => vec![Change::Set(key(random))],
        };
        self.write(store, changes)
    }
}
