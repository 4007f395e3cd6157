//! Where sequences stand: for each segment of a [`FramedLog`](super::FramedLog) its first one, and a mark every few
//! kilobytes, so that a read begins near the entry that it wants.
//!
//! What must hold: segments and marks ascend by sequence; every appended entry is covered before anybody but its writer
//! knows its sequence, because [`Places::note`] runs under the lock that gives sequences out.

use std::collections::VecDeque;

use super::segment::Segment;
use crate::sync::Arc;

/// How far two marks are apart at least, in bytes: 16 bytes of memory for each 4 KiB of log.
const MARK_BYTES: u64 = 4 * 1024;

/// Where one line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) sequence: u64,
    pub(super) offset: u64,
}

/// One segment that holds entries.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) segment: Arc<Segment>,
    /// The first is that of the segment's first line.
    marks: Vec<Mark>,
}

impl Place {
    pub(super) fn new(segment: Arc<Segment>, first: Mark) -> Self {
        Self { segment, marks: vec![first] }
    }

    /// The sequence of its first line.
    fn first(&self) -> u64 {
        self.marks[0].sequence
    }

    /// Takes in one more line of this segment.
    pub(super) fn note(&mut self, mark: Mark) {
        let last = self.marks.last().expect("a place has the mark of its first line");
        if mark.offset - last.offset >= MARK_BYTES {
            self.marks.push(mark);
        }
    }
}

/// Where to begin in order to find an entry.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub(super) segment: Arc<Segment>,
    /// The nearest line at or before the entry whose offset is known.
    pub(super) mark: Mark,
    /// The segment's first line.
    pub(super) first: Mark,
    /// The sequence of the segment's last line.
    pub(super) last: u64,
}

/// Where all entries of a log are.
#[derive(Debug)]
pub(super) struct Places {
    segments: VecDeque<Place>,
    next_sequence: u64,
    /// How often the end was moved back or everything went: who reads from several segments compares it.
    moves: u64,
}

impl Places {
    /// The places of a log without entries, whose next one has this sequence.
    pub(super) const fn new(next_sequence: u64) -> Self {
        Self { segments: VecDeque::new(), next_sequence, moves: 0 }
    }

    /// The lowest sequence that can be read; that of the next entry when there is none.
    pub(super) fn first_sequence(&self) -> u64 {
        self.segments.front().map_or(self.next_sequence, Place::first)
    }

    /// The sequence of the next entry.
    pub(super) const fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(super) const fn moves(&self) -> u64 {
        self.moves
    }

    /// Takes in the next entry.
    pub(super) fn note(&mut self, segment: &Arc<Segment>, offset: u64, sequence: u64) {
        let mark = Mark { sequence, offset };
        match self.segments.back_mut() {
            Some(last) if last.segment.id == segment.id => last.note(mark),
            _ => self.segments.push_back(Place::new(Arc::clone(segment), mark)),
        }
        self.next_sequence = sequence + 1;
    }

    /// Names the segments as they are after opening, which reopens some of those that it read.
    pub(super) fn rebind(&mut self, segments: &[Arc<Segment>]) {
        for place in &mut self.segments {
            let found = segments.iter().find(|segment| segment.id == place.segment.id);
            place.segment = Arc::clone(found.expect("a segment with entries is part of the log"));
        }
    }

    /// Where an entry is; `None` when there is none of that sequence.
    pub(super) fn locate(&self, sequence: u64) -> Option<Start> {
        if !(self.first_sequence()..self.next_sequence).contains(&sequence) {
            return None;
        }
        let number = self.segments.partition_point(|place| place.first() <= sequence) - 1;
        let place = &self.segments[number];
        let mark = place.marks[place.marks.partition_point(|mark| mark.sequence <= sequence) - 1];
        let last = self.segments.get(number + 1).map_or(self.next_sequence, Place::first) - 1;
        Some(Start { segment: Arc::clone(&place.segment), mark, first: place.marks[0], last })
    }

    /// The segments all of whose entries are below a sequence, oldest first.
    pub(super) fn below(&self, sequence: u64) -> Vec<Arc<Segment>> {
        let next_of = |number| self.segments.get(number + 1).map_or(self.next_sequence, Place::first);
        let count = (0..self.segments.len()).take_while(|number| next_of(*number) <= sequence).count();
        self.segments.iter().take(count).map(|place| Arc::clone(&place.segment)).collect()
    }

    /// Drops the `count` oldest segments.
    pub(super) fn drop_oldest(&mut self, count: usize) {
        self.segments.drain(..count);
    }

    /// Drops all segments that begin at or behind `from`; `last` comes in their place, and the next entry has the
    /// sequence `next_sequence`.
    pub(super) fn move_end(&mut self, from: u64, last: Option<Place>, next_sequence: u64) {
        self.segments.retain(|place| place.first() < from);
        self.segments.extend(last);
        self.next_sequence = next_sequence;
        self.moves += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::segment::Filling;
    use crate::storage::MemoryStorage;

    fn segment(storage: &MemoryStorage, id: u64) -> Arc<Segment> {
        Arc::new(Segment::create(storage, "log", id, 4096, Filling::Zeros).unwrap())
    }

    /// Entries 10 to 19 in one segment and 20 to 24 in the next, 2 KiB each.
    fn example() -> Places {
        let storage = MemoryStorage::new();
        let segments = [segment(&storage, 1), segment(&storage, 2)];
        let mut places = Places::new(10);
        for sequence in 10..25 {
            let (segment, number) = if sequence < 20 { (0, sequence - 10) } else { (1, sequence - 20) };
            places.note(&segments[segment], 100 + number * 2048, sequence);
        }
        places
    }

    #[test]
    fn an_entry_is_found_by_the_mark_before_it() {
        let places = example();
        assert_eq!((places.first_sequence(), places.next_sequence()), (10, 25));
        let start = places.locate(13).unwrap();
        assert_eq!(start.mark, Mark { sequence: 12, offset: 100 + 2 * 2048 });
        assert_eq!((start.segment.id, start.first.sequence, start.last), (1, 10, 19));
        let start = places.locate(24).unwrap();
        assert_eq!((start.segment.id, start.mark.sequence, start.last), (2, 24, 24));
        assert!(places.locate(9).is_none() && places.locate(25).is_none());
    }

    #[test]
    fn a_segment_is_below_a_sequence_only_as_a_whole() {
        let mut places = example();
        let ids = |places: &Places, sequence| places.below(sequence).iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!(ids(&places, 19), [0; 0]);
        assert_eq!(ids(&places, 20), [1]);
        assert_eq!(ids(&places, 25), [1, 2]);
        places.drop_oldest(1);
        assert_eq!((places.first_sequence(), places.next_sequence()), (20, 25));
    }

    #[test]
    fn an_end_that_moves_back_takes_the_segments_behind_it() {
        let mut places = example();
        places.move_end(20, None, 20);
        assert_eq!((places.first_sequence(), places.next_sequence(), places.moves()), (10, 20, 1));
        places.move_end(10, None, 10);
        assert_eq!((places.first_sequence(), places.next_sequence()), (10, 10));
        assert!(places.locate(10).is_none());
    }
}
