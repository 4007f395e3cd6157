//! Random operations with every kind of reopening, against a list of entries.

use kvs_engine::Error;
use kvs_engine::log::{Entry, FramedLog, ReadLimits};
use kvs_engine::storage::MemoryStorage;

use crate::fixture::{contents, open};
use crate::support::{Random, is_full};

/// What a log should hold.
#[derive(Debug, Clone)]
struct Model {
    entries: Vec<Entry>,
    next: u64,
    /// How many of them are durable.
    durable: usize,
}

impl Model {
    fn first(&self) -> u64 {
        self.entries.first().map_or(self.next, |entry| entry.sequence)
    }

    fn append(&mut self, log: &FramedLog, random: &mut Random, durable: bool) {
        let text = format!(r#""{} {}""#, random.next(), "z".repeat(random.index(700))).into_bytes();
        let sequence = if durable { log.append(&text) } else { log.enqueue(&text) }.expect("the disk is in order");
        assert_eq!(sequence, self.next);
        self.entries.push(Entry { sequence, payload: text });
        self.next += 1;
        if durable {
            self.durable = self.entries.len();
        }
    }

    fn truncate(&mut self, log: &FramedLog, after: u64) {
        log.truncate_after(after).expect("the disk is in order");
        self.entries.retain(|entry| entry.sequence <= after);
        self.next = self.next.min(after + 1);
        self.durable = self.entries.len();
    }

    /// Purges and sees what was left, which is more than was asked for.
    fn purge(&mut self, log: &FramedLog, before: u64) {
        log.purge_before(before).expect("the disk is in order");
        if before >= self.next {
            *self = Self { entries: Vec::new(), next: before, durable: 0 };
        }
        let first = log.first_sequence();
        assert!(first <= before.max(self.first()), "{first} is gone with what is before {before}");
        let count = self.entries.iter().filter(|entry| entry.sequence < first).count();
        self.entries.drain(..count);
        self.durable = self.durable.saturating_sub(count);
    }

    /// Takes over what was found after the loss of power: all that was durable, and perhaps more.
    fn survive(&mut self, found: &[Entry], seed: u64) {
        assert!(self.entries.starts_with(found), "seed {seed}: something came that was never there");
        assert!(found.len() >= self.durable, "seed {seed}: {} of {} durable ones are left", found.len(), self.durable);
        self.next -= (self.entries.len() - found.len()) as u64;
        self.entries.truncate(found.len());
        self.durable = found.len();
    }
}

#[test]
fn a_log_is_what_a_list_of_entries_is() {
    for seed in 0..if is_full() { 2_000 } else { 60 } {
        let mut random = Random(seed);
        let mut disk = MemoryStorage::new();
        let mut log = open(&disk);
        let mut model = Model { entries: Vec::new(), next: 1, durable: 0 };
        for _ in 0..60 {
            match random.below(20) {
                0..=6 => model.append(&log, &mut random, true),
                7..=11 => (0..random.below(12)).for_each(|_| model.append(&log, &mut random, false)),
                12 | 13 => {
                    let span = model.next - model.first() + 3;
                    let after = model.first() + random.below(span) - 1;
                    model.truncate(&log, after);
                }
                14 | 15 => {
                    let before = model.first() + random.below(model.next - model.first() + 2);
                    model.purge(&log, before);
                }
                16 => {
                    drop(log);
                    log = open(&disk);
                    model.durable = model.entries.len();
                }
                17 => {
                    disk = disk.after_kill();
                    log = open(&disk);
                    model.survive(&contents(&log), seed);
                }
                18 => {
                    let kept = random.below(101);
                    disk = disk.after_power_loss(|| random.below(100) < kept);
                    log = open(&disk);
                    model.survive(&contents(&log), seed);
                }
                _ => {
                    let from = model.first() + random.below(model.next - model.first() + 1);
                    let found = log.read_appended(from, ReadLimits { records: 7, bytes: 3_000 }).expect("readable");
                    let at = usize::try_from(from - model.first()).expect("a short log");
                    assert!(model.entries[at..].starts_with(&found), "seed {seed}: read from {from}");
                    assert!(!found.is_empty() || at == model.entries.len(), "seed {seed}: nothing from {from}");
                    assert!(found.len() <= 7);
                }
            }
            assert_eq!((log.first_sequence(), log.last_sequence()), (model.first(), model.next - 1), "seed {seed}");
            if model.first() > 0 {
                let below = log.read(model.first() - 1, ReadLimits::default());
                assert!(matches!(below, Err(Error::NotInLog { .. })) || log.durable_sequence() + 1 < model.first());
            }
        }
        log.flush().expect("the disk is in order");
        assert_eq!(contents(&log), model.entries, "seed {seed}");
    }
}
