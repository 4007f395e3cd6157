//! Which segment is in which slot, and a view of that for readers.
//!
//! What must hold: a slot that the index names holds the segment that it held when the index was told; who looks at a
//! view needs no lock.

use super::segment::Segment;
use crate::sync::{Arc, StdArc};

/// Slots below this number are not used again before all of them were used once: an index entry that a reader still
/// remembers then never names another segment.
const MIN_SLOTS: usize = 1024;

/// Every segment by its slot. A slot is a small number that the index stores instead of the segment's own.
#[derive(Debug, Default)]
pub(super) struct SegmentTable {
    slots: Vec<Option<Arc<Segment>>>,
    /// Where the search for a free slot goes on.
    next: usize,
}

/// The segments of one moment, by slot. Whoever holds it can read them, also those whose files' names are gone; it is
/// held for one read, since it keeps their space from being given back.
pub(crate) struct View(pub(super) arc_swap::Guard<StdArc<Slots>>);

/// What a view shows.
pub(super) type Slots = Vec<Option<Arc<Segment>>>;

impl View {
    /// The segment in a slot. A slot that the index names is never empty.
    pub(crate) fn segment(&self, slot: u32) -> &Arc<Segment> {
        self.0[slot as usize].as_ref().expect("the index names segments that exist")
    }
}

impl SegmentTable {
    /// What there is now.
    pub(super) fn view(&self) -> StdArc<Slots> {
        StdArc::new(self.slots.clone())
    }

    /// Gives a segment a slot that has been free for as long as possible.
    pub(super) fn insert(&mut self, segment: Arc<Segment>) {
        let count = self.slots.len();
        let used = self.iter().count();
        let free = if count < MIN_SLOTS || used * 2 > count {
            None
        } else {
            (0..count).map(|step| (self.next + step) % count).find(|slot| self.slots[*slot].is_none())
        };
        let slot = free.unwrap_or_else(|| {
            self.slots.push(None);
            count
        });
        self.next = slot + 1;
        segment.set_slot(slot);
        self.slots[slot] = Some(segment);
    }

    /// Gives a segment the slot that it had before. Before any other segment gets one.
    pub(super) fn insert_at(&mut self, slot: u32, segment: Arc<Segment>) {
        let slot = slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, None);
        }
        segment.set_slot(slot);
        self.slots[slot] = Some(segment);
    }

    /// Puts a segment in the place of the one with the same number.
    pub(super) fn replace(&mut self, segment: Segment) -> Arc<Segment> {
        let slot = self
            .slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|old| old.id == segment.id))
            .expect("a segment that is reopened was read before");
        segment.set_slot(slot);
        let segment = Arc::new(segment);
        self.slots[slot] = Some(Arc::clone(&segment));
        segment
    }

    /// Frees a segment's slot.
    pub(super) fn remove(&mut self, segment: &Segment) {
        self.slots[segment.slot() as usize] = None;
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.slots.iter().flatten()
    }
}
