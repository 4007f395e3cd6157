//! Who judges: for each key, which values it may have after a crash.
//!
//! What must hold: a key has the value of some operation on it that no acknowledged operation replaced. An operation
//! replaces another one for certain when it began after that one was acknowledged; of operations that overlapped,
//! either may be the last. One that was never acknowledged may have happened or not. A value that was read or found
//! after opening counts as acknowledged: what was shown once must stay. A batch shows all of its changes or none.

use std::collections::HashMap;

use crate::report::{Change, Report, value_of};

/// What is thought of an operation's effect on one key.
#[derive(Debug, Clone)]
struct Entry {
    /// Run and number; `None` for what was found after opening.
    operation: Option<(u64, u64)>,
    value: Option<String>,
    began: u64,
    acknowledged: Option<u64>,
}

/// The legal states of all keys, learnt from the reports of one workload after the other.
#[derive(Debug, Clone)]
pub struct Oracle {
    /// Counts reports: the time in which operations begin and are acknowledged.
    clock: u64,
    run: u64,
    keys: Vec<Vec<Entry>>,
    /// What was found since the last opening.
    found: Vec<Option<Option<String>>>,
    /// Batches since the last dump, with when they began.
    batches: HashMap<(u64, u64), (u64, Vec<Change>)>,
    /// The keys of operations that were not acknowledged yet.
    under_way: HashMap<(u64, u64), Vec<usize>>,
    /// Operations that were acknowledged in all runs, reads not included.
    pub acknowledged: u64,
}

impl Oracle {
    /// The oracle of a folder that is new.
    #[must_use]
    pub fn new(keys: usize) -> Self {
        let missing = Entry { operation: None, value: None, began: 0, acknowledged: Some(0) };
        Self {
            clock: 0,
            run: 0,
            keys: vec![vec![missing]; keys],
            found: vec![None; keys],
            batches: HashMap::new(),
            under_way: HashMap::new(),
            acknowledged: 0,
        }
    }

    /// A workload is started; its reports follow.
    pub fn begin(&mut self, run: u64) {
        self.run = run;
        self.found.fill(None);
    }

    /// Operations that began and were not acknowledged.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Takes in one report.
    ///
    /// # Errors
    /// What must never be: a value that was lost, came back or never was.
    pub fn hear(&mut self, report: &Report) -> Result<(), String> {
        self.clock += 1;
        match report {
            Report::Value(key, value) => self.find(*key, value),
            // A reopening inside of one run finds everything again.
            Report::Dumped => self.settle(),
            Report::Intent(number, changes) => {
                self.intend(*number, changes);
                Ok(())
            }
            Report::Done(number) => {
                self.acknowledged += 1;
                self.acknowledge((self.run, *number));
                Ok(())
            }
            Report::Refused(number, _) => {
                let operation = (self.run, *number);
                for key in self.under_way.remove(&operation).unwrap_or_default() {
                    self.keys[key].retain(|entry| entry.operation != Some(operation));
                }
                self.batches.remove(&operation);
                Ok(())
            }
            Report::Read(key, value) => self.show(*key, value),
            Report::Failed(..) | Report::Opened(_) | Report::Phase(_) | Report::Trouble(_) | Report::End(_) => Ok(()),
        }
    }

    fn intend(&mut self, number: u64, changes: &[Change]) {
        let operation = (self.run, number);
        for change in changes {
            let value = matches!(change, Change::Set(_)).then(|| value_of(self.run, number));
            self.keys[change.key()].push(Entry {
                operation: Some(operation),
                value,
                began: self.clock,
                acknowledged: None,
            });
        }
        self.under_way.insert(operation, changes.iter().map(|change| change.key()).collect());
        if changes.len() > 1 {
            self.batches.insert(operation, (self.clock, changes.to_vec()));
        }
    }

    fn acknowledge(&mut self, operation: (u64, u64)) {
        let clock = self.clock;
        for key in self.under_way.remove(&operation).unwrap_or_default() {
            let mine = self.keys[key].iter_mut().filter(|entry| entry.operation == Some(operation));
            mine.for_each(|entry| entry.acknowledged = entry.acknowledged.or(Some(clock)));
            self.forget_replaced(key);
        }
    }

    /// Drops what can't be seen any more, so that a key that is written often stays cheap to judge.
    fn forget_replaced(&mut self, key: usize) {
        let latest = self.keys[key].iter().filter(|entry| entry.acknowledged.is_some()).map(|entry| entry.began).max();
        let latest = latest.unwrap_or(0);
        self.keys[key].retain(|entry| entry.acknowledged.is_none_or(|at| at >= latest));
    }

    /// A read was answered: what it showed is durable from now on.
    fn show(&mut self, key: usize, value: &str) -> Result<(), String> {
        let clock = self.clock;
        let found = self.keys[key].iter_mut().find(|entry| entry.value.as_deref() == Some(value));
        if let Some(entry) = found {
            entry.acknowledged = entry.acknowledged.or(Some(clock));
            self.forget_replaced(key);
            return Ok(());
        }
        // It may have been replaced between the read and the report of it; then it was a value of this key at least.
        let mut parts = value.splitn(3, '.').map(str::parse::<u64>);
        match (parts.next(), parts.next()) {
            (Some(Ok(run)), Some(Ok(number))) if value_of(run, number) == value => Ok(()),
            _ => Err(format!("key {key} was read as {value:?}, which nobody wrote")),
        }
    }

    /// Judges what was found after opening.
    fn find(&mut self, key: usize, value: &Option<String>) -> Result<(), String> {
        self.found[key] = Some(value.clone());
        if self.keys[key].iter().any(|entry| entry.value == *value && !self.is_replaced(key, entry)) {
            return Ok(());
        }
        Err(format!("key {key} is {value:?}; it may be: {}", self.legal(key)))
    }

    fn is_replaced(&self, key: usize, entry: &Entry) -> bool {
        let Some(acknowledged) = entry.acknowledged else { return false };
        self.keys[key].iter().any(|other| other.acknowledged.is_some() && other.began > acknowledged)
    }

    fn legal(&self, key: usize) -> String {
        let legal = self.keys[key].iter().filter(|entry| !self.is_replaced(key, entry));
        let words: Vec<String> = legal
            .map(|entry| {
                let how = if entry.acknowledged.is_some() { "acknowledged" } else { "under way" };
                format!("{:?} ({how})", entry.value.as_deref().map(|value| &value[..value.len().min(24)]))
            })
            .collect();
        words.join(", ")
    }

    /// Everything was said: judges batches, and takes what was found for what is.
    fn settle(&mut self) -> Result<(), String> {
        for (operation, (began, changes)) in &self.batches {
            let value = value_of(operation.0, operation.1);
            let shown = changes.iter().any(|change| self.found[change.key()].as_ref() == Some(&Some(value.clone())));
            if !shown {
                continue;
            }
            for change in changes {
                let key = change.key();
                let found = self.found[key].as_ref().ok_or_else(|| format!("key {key} was not said"))?;
                let wanted = matches!(change, Change::Set(_)).then(|| value.clone());
                let later = |entry: &Entry| entry.acknowledged.is_none_or(|at| at >= *began) && entry.value == *found;
                if *found != wanted && !self.keys[key].iter().any(later) {
                    return Err(format!(
                        "key {key} is {found:?}: it shows nothing of batch {operation:?}, other keys do"
                    ));
                }
            }
        }
        for (key, found) in self.found.iter_mut().enumerate() {
            let value = found.take().ok_or_else(|| format!("key {key} was not said"))?;
            self.keys[key] = vec![Entry { operation: None, value, began: 0, acknowledged: Some(0) }];
        }
        self.batches.clear();
        self.under_way.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]
    use super::*;

    /// Runs a story of lines; the value of operation n of the first run is written `=n`.
    fn story(lines: &str) -> Result<(), String> {
        let mut oracle = Oracle::new(2);
        oracle.begin(1);
        for line in lines.split(';') {
            let line = match line.trim().split_once('=') {
                Some((before, number)) => format!("{before}{}", value_of(1, number.parse().unwrap())),
                None => line.trim().to_owned(),
            };
            let report = Report::parse(&line).unwrap_or_else(|| panic!("{line}"));
            oracle.hear(&report)?;
        }
        Ok(())
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        story("intent 1 s0; done 1; value 0 =1").unwrap();
        story("intent 1 s0; done 1; value 0 -").unwrap_err();
        story("intent 1 s0; done 1; intent 2 s0; done 2; value 0 =1").unwrap_err();
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there() {
        story("intent 1 s0; value 0 =1").unwrap();
        story("intent 1 s0; value 0 -").unwrap();
        story("intent 1 s0; done 1; intent 2 s0; value 0 =1").unwrap();
        story("intent 1 s0; refused 1 no-space; value 0 =1").unwrap_err();
        story("intent 1 s0; value 0 =7").unwrap_err();
    }

    #[test]
    fn what_was_removed_must_not_come_back() {
        story("intent 1 s0; done 1; intent 2 r0; done 2; value 0 -").unwrap();
        story("intent 1 s0; done 1; intent 2 r0; done 2; value 0 =1").unwrap_err();
        story("intent 1 s0; done 1; intent 2 r0; value 0 =1").unwrap();
    }

    #[test]
    fn of_two_that_overlapped_either_may_be_last() {
        for last in ["=1", "=2"] {
            story(&format!("intent 1 s0; intent 2 s0; done 2; done 1; value 0 {last}")).unwrap();
        }
        story("intent 1 s0; intent 2 s0; done 2; done 1; intent 3 s0; done 3; value 0 =2").unwrap_err();
    }

    #[test]
    fn what_was_shown_stays() {
        story("intent 1 s0; read 0 =1; value 0 -").unwrap_err();
        story("intent 1 s0; read 0 =1; value 0 =1").unwrap();
        story("intent 1 s0; value 0 =1; value 1 -; dumped; value 0 -").unwrap_err();
        story("read 0 nonsense").unwrap_err();
    }

    #[test]
    fn a_batch_is_there_or_not() {
        let begin = "intent 1 s0; done 1; intent 2 s1; done 2; intent 3 s0 s1;";
        story(&format!("{begin} value 0 =3; value 1 =3; dumped")).unwrap();
        story(&format!("{begin} value 0 =1; value 1 =2; dumped")).unwrap();
        story(&format!("{begin} value 0 =3; value 1 =2; dumped")).unwrap_err();
        story(&format!("{begin} intent 4 s1; value 0 =3; value 1 =4; dumped")).unwrap();
    }
}
