//! A whole store over segments of any bytes.
//!
//! | byte | meaning |
//! |---|---|
//! | 0 | bit 0: the first segment is sealed; 1: it is compacted; 2: lines are mended; 3: records are written as we do; |
//! |   | 4: no header is put before the first segment; 5: the process is killed between two openings; |
//! |   | 6: the manifest says that all lines are durable |
//! | 1 | how many 256ths of the rest the first segment takes; 0: all of it, and there is no second one |
//! | 2… | the segments' lines |
#![no_main]

use std::cell::Cell;

use kvs_engine::fuzzing;
use kvs_engine::storage::MemoryStorage;
use kvs_fuzz::folder::{PREFIX_BYTES, header, mend, put, put_manifest, segment_name, sequence_of};
use kvs_fuzz::store;
use libfuzzer_sys::fuzz_target;

/// Zeros behind the lines of a segment that takes appends: more than a sector.
const TAIL_BYTES: usize = 600;

fuzz_target!(|input: &[u8]| {
    let [flags, share, text @ ..] = input else { return };
    let is_set = |bit: u8| flags >> bit & 1 == 1;
    let (sealed, compacted, mended, canonical, headless) = (is_set(0), is_set(1), is_set(2), is_set(3), is_set(4));
    let (kill, durable) = (is_set(5), is_set(6));

    let cut = if *share == 0 { text.len() } else { text.len() * usize::from(*share) / 256 };
    let (first, second) = text.split_at(cut);
    let mut next = 1;
    let foreign = Cell::new(false);
    let mut body = |text: &[u8]| match mended {
        false => text.to_vec(),
        true => mend(text, &mut next, |payload| {
            let written = if canonical { fuzzing::canonical(payload) } else { None };
            // Announcements of groups are no records, and ours.
            foreign.set(foreign.get() || written.is_none() && !payload.starts_with(br#"{"group":{"lines":"#));
            written.unwrap_or(payload.to_vec())
        }),
    };
    let bodies = [body(first), body(second)];
    let count = if *share == 0 { 1 } else { 2 };

    let storage = MemoryStorage::new();
    let (mut entries, mut sealed_through, mut last) = (Vec::new(), None, 0);
    for (body, id) in bodies[..count].iter().zip(1..) {
        let sequences: Vec<u64> = sequences(body).collect();
        let lowest = sequences.iter().min().copied().unwrap_or(0);
        let highest = sequences.iter().max().copied().unwrap_or(0);
        last = last.max(highest);
        let mut bytes = if headless && id == 1 { Vec::new() } else { header(id) };
        bytes.extend(body);
        if sealed && id == 1 {
            let compacted = if compacted { format!(r#","compacted_at":{highest}"#) } else { String::new() };
            let (bytes, records) = (bytes.len(), sequences.len());
            entries.push(format!(
                r#"{{"id":1,"sealed":{{"bytes":{bytes},"records":{records},"first":{lowest},"last":{highest}{compacted}}}}}"#
            ));
        } else {
            bytes.resize(bytes.len() + TAIL_BYTES, 0);
            sealed_through = sealed_through.or(sequences.first().map(|first| first.saturating_sub(1)));
            entries.push(format!(r#"{{"id":{id}}}"#));
        }
        put(&storage, &segment_name(id), &bytes);
    }
    let sealed_through = sealed_through.unwrap_or(last);
    let durable = if durable { last } else { sealed_through };
    put_manifest(&storage, durable, sealed_through, &entries.join(","));

    if mended && !foreign.get() { store::check_canonical(&storage, kill) } else { store::check(&storage) }
});

/// The sequences that lines claim.
fn sequences(body: &[u8]) -> impl Iterator<Item = u64> {
    body.split(|byte| *byte == b'\n').filter(|line| line.len() >= PREFIX_BYTES).filter_map(sequence_of)
}
