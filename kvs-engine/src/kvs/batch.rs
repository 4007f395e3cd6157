//! The way of a batch: its mutations in few short lines, which the log keeps together.
//!
//! Of several mutations of one key only the last is written: together with the others it would never be seen. A line
//! holds several mutations, because each line costs 41 bytes, and not many, because who reads one of them reads, checks
//! and searches its line: measured, a get out of one line of 1,000 mutations took 400 us, one out of a line of three or
//! four takes 1.4 us, and one of a line of its own 0.9 us.
//!
//! What must hold: no line holds two keys of one hash, so that an index entry (hash and line) is one key's.

use std::collections::HashMap;
use std::ops::Range;

use super::index::{KeyHash, Shard};
use super::location::Location;
use super::mutate::TOGETHER;
use super::read::Found;
use super::record;
use super::store::{Core, Waiting};
use crate::completion::Completion;
use crate::error::{Error, Result};
use crate::log::{Placed, Purpose};
use crate::operation::{Mutation, Outcome};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;

/// A line takes no further mutation beyond so many bytes of them.
const LINE_BYTES: usize = 640;

/// The shards of a batch, locked, by ascending number.
type Shards<'a> = Vec<(usize, MutexGuard<'a, Shard>)>;

impl Core {
    /// Applies mutations together under the locks of all their keys; the answer waits for the log.
    pub(super) fn batch(&self, mutations: &[Mutation], completion: &mut Option<Completion>) -> Result<()> {
        if mutations.is_empty() {
            completion.take().expect("nobody answered yet").complete(Ok(Outcome::Done));
            return Ok(());
        }
        let last = last_of_each_key(mutations);
        let elements: Vec<Vec<u8>> = last.iter().map(|mutation| record::encode(mutation)).collect();
        let hashes: Vec<KeyHash> = last.iter().map(|mutation| self.index.hash(mutation.key())).collect();
        let lines = lines_of(&elements, &hashes);
        let payloads: Vec<Vec<u8>> = lines.iter().map(|line| payload_of(&elements[line.clone()])).collect();

        let shrinks = last.iter().all(|mutation| matches!(mutation, Mutation::Remove { .. }));
        let purpose = if shrinks { Purpose::Shrink } else { Purpose::Grow };
        let (found, mut shards) = self.find_and_lock_all(&last, &hashes)?;
        let _together = self.log.or_poison(TOGETHER);
        let placed = self.append_lines(&payloads, purpose, completion)?;
        let mut found = found.into_iter();
        for (line, placed) in lines.into_iter().zip(&placed) {
            let alone = line.len() == 1;
            let sets = last[line.clone()].iter().filter(|mutation| matches!(mutation, Mutation::Set { .. })).count();
            for place in line {
                let bytes = if alone { placed.bytes } else { record::bytes_in_batch(elements[place].len(), sets) };
                let new = matches!(last[place], Mutation::Set { .. })
                    .then(|| Location::new(placed.segment.slot(), placed.offset, !alone, bytes));
                let old = found.next().and_then(|found| found.place);
                let hash = hashes[place];
                let shard = shards.binary_search_by_key(&hash.shard, |(shard, _)| *shard).expect("it was locked");
                self.point(&mut shards[shard].1, hash, old, new, placed.sequence);
            }
        }
        drop(shards);
        self.count_appended(placed.iter().map(|placed| placed.bytes).sum());
        Ok(())
    }

    /// Appends the lines of a batch; its only one without further ado.
    fn append_lines(
        &self,
        payloads: &[Vec<u8>],
        purpose: Purpose,
        completion: &mut Option<Completion>,
    ) -> Result<Vec<Placed>> {
        if let [payload] = payloads {
            return self.append(payload, purpose, Outcome::Done, completion).map(|placed| vec![placed]);
        }
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.log.append_group(payloads, purpose, || Waiting {
            completion: completion.take().expect("nobody answered yet"),
            result: Ok(Outcome::Done),
        })
    }

    /// Looks all keys up and locks all their shards, in ascending order, with nothing changed in between.
    fn find_and_lock_all(&self, mutations: &[&Mutation], hashes: &[KeyHash]) -> Result<(Vec<Found>, Shards<'_>)> {
        let mut numbers: Vec<usize> = hashes.iter().map(|hash| hash.shard).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let mut found: Vec<Option<Found>> = hashes.iter().map(|_| None).collect();
        loop {
            for ((found, mutation), hash) in found.iter_mut().zip(mutations).zip(hashes) {
                if found.is_none() {
                    *found = Some(self.find(*hash, mutation.key())?);
                }
            }
            let shards: Shards<'_> = numbers.iter().map(|number| (*number, self.index.lock_shard(*number))).collect();
            // Who changed meanwhile is looked up again, and only those, so that this ends beside a compaction.
            for (slot, hash) in found.iter_mut().zip(hashes) {
                let place = shards.binary_search_by_key(&hash.shard, |(shard, _)| *shard).expect("it was locked");
                let shard = &shards[place].1;
                if slot.as_ref().is_some_and(|found| !found.candidates.are_those_of(shard, *hash)) {
                    *slot = None;
                }
            }
            if found.iter().all(Option::is_some) {
                return Ok((found.into_iter().flatten().collect(), shards));
            }
        }
    }
}

/// The last mutation of each key, in order.
fn last_of_each_key(mutations: &[Mutation]) -> Vec<&Mutation> {
    let last: HashMap<&[u8], usize> =
        mutations.iter().enumerate().map(|(place, mutation)| (mutation.key(), place)).collect();
    let is_last = |(place, mutation): &(usize, &Mutation)| last[mutation.key()] == *place;
    mutations.iter().enumerate().filter(is_last).map(|(_, mutation)| mutation).collect()
}

/// The record of the elements of one line.
fn payload_of(elements: &[Vec<u8>]) -> Vec<u8> {
    match elements {
        [alone] => alone.clone(),
        several => record::join_batch(several),
    }
}

/// Which elements share a line.
fn lines_of(elements: &[Vec<u8>], hashes: &[KeyHash]) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for place in 0..elements.len() {
        let full = bytes >= LINE_BYTES || bytes > 0 && bytes + elements[place].len() > LINE_BYTES * 2;
        if full || hashes[start..place].contains(&hashes[place]) {
            lines.push(start..place);
            (start, bytes) = (place, 0);
        }
        bytes += elements[place].len();
    }
    lines.push(start..elements.len());
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_short_and_hold_no_hash_twice() {
        let hash = |bits| KeyHash { shard: 0, bits };
        let elements = vec![vec![b'x'; 300]; 7];
        let hashes: Vec<KeyHash> = [1, 2, 3, 4, 5, 5, 6].map(hash).to_vec();
        assert_eq!(lines_of(&elements, &hashes), [0..3, 3..5, 5..7]);
        let elements = vec![vec![b'x'; 10], vec![b'x'; 5000], vec![b'x'; 10]];
        assert_eq!(lines_of(&elements, &hashes[..3]), [0..1, 1..2, 2..3]);
    }

    #[test]
    fn only_the_last_mutation_of_a_key_counts() {
        let set = |key: &str, value: &str| Mutation::Set { key: key.into(), value: value.into() };
        let mutations = [set("a", "1"), set("b", "1"), Mutation::Remove { key: b"a".to_vec() }];
        assert_eq!(last_of_each_key(&mutations), [&mutations[1], &mutations[2]]);
    }
}
