//! Scans: all entries whose keys begin with a prefix, a page at a time, in no order that a caller may rely on.
//!
//! What the pages of one scan promise together, for every engine:
//! * a key that is there during the whole scan is returned exactly once, however much is written, compacted or grown
//!   meanwhile; one that is written meanwhile at most once, with a value that it had during the scan;
//! * a key that is set or removed during the scan may be returned or not;
//! * nothing is shown that is not durable, and no key is left out because of a removal that is not;
//! * the scan is no snapshot: two entries may come from different moments.
//!
//! [`Gathering`] applies the limits of a page, the same for every engine.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use crate::engine::KvsEngine;
use crate::error::{Error, Result};
use crate::limits::{self, DEFAULT_PAGE_BYTES, DEFAULT_PAGE_KEYS, MAX_PAGE_BYTES, MAX_PAGE_KEYS, MAX_PAGE_RECORDS};

/// What one page of a scan is to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scan {
    /// What the keys begin with; empty for every key.
    pub prefix: Vec<u8>,
    /// Where the page before ended; `None` begins the scan.
    pub after: Option<Cursor>,
    /// The most entries, at most [`MAX_PAGE_KEYS`]; 0 counts as 1.
    pub max_keys: usize,
    /// The most bytes of keys and values, at most [`MAX_PAGE_BYTES`]. One entry that is larger is a page of its own.
    pub max_bytes: usize,
    /// Whether the values are wanted as well.
    pub values: bool,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            prefix: Vec::new(),
            after: None,
            max_keys: DEFAULT_PAGE_KEYS,
            max_bytes: DEFAULT_PAGE_BYTES,
            values: true,
        }
    }
}

/// One key that a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Vec<u8>,
    /// Its value, if values were asked for.
    pub value: Option<Vec<u8>>,
}

/// A part of a scan. It may be empty and still not be the last one: a page looks at [`MAX_PAGE_RECORDS`] records at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The entries, in no order.
    pub entries: Vec<Entry>,
    /// Where the next page begins; `None` when the scan is complete.
    pub next: Option<Cursor>,
}

/// Where a scan goes on. Opaque: only the engine that gave it can read it, and only until the store is closed. As text
/// it holds nothing but letters, digits, `-` and `_`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(Vec<u8>);

/// The first byte of a cursor says what follows: a key, for engines whose keys are in order;
const AFTER_KEY: u8 = b'k';
/// or a place in the order of hashes, for `kvs`.
const AT_HASH: u8 = b'h';
/// or the same as a number.
const AT_NUMBER: u8 = b'n';
/// Bits of a number that are shard and hash; those above are of the mark.
const PLACE_BITS: u32 = 40;

impl Cursor {
    /// The cursor as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// A cursor from what [`as_bytes`](Self::as_bytes) gave. The scan checks it.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The cursor as a number other than zero, for protocols whose cursors are numbers: as much of the index's mark as
    /// there is room for, then shard and hash. `None` where a cursor holds a key.
    #[must_use]
    pub fn to_number(&self) -> Option<u64> {
        let (mark, shard, bits) = self.hash().ok()?;
        let place = u64::from(shard) << u32::BITS | u64::from(bits);
        (place >> PLACE_BITS == 0).then_some(u64::from(mark) << PLACE_BITS | place).filter(|number| *number != 0)
    }

    /// A cursor from what [`to_number`](Self::to_number) gave. The scan checks it.
    #[must_use]
    pub fn from_number(number: u64) -> Self {
        Self([&[AT_NUMBER][..], &number.to_be_bytes()].concat())
    }

    /// The cursor behind a key.
    fn after_key(key: &[u8]) -> Self {
        Self([&[AFTER_KEY], key].concat())
    }

    /// The key behind which the scan goes on.
    pub(crate) fn key(&self) -> Result<Vec<u8>> {
        self.0.strip_prefix(&[AFTER_KEY]).map(<[u8]>::to_vec).ok_or(Error::WrongCursor)
    }

    /// The cursor at a hash, with a mark of the index that made it.
    pub(crate) fn at_hash(mark: u32, shard: u16, bits: u32) -> Self {
        let shard = shard.to_be_bytes();
        Self([&[AT_HASH][..], &mark.to_be_bytes(), &shard, &bits.to_be_bytes()].concat())
    }

    /// Whether an index with this mark gave the cursor.
    pub(crate) fn is_of(&self, mark: u32) -> Result<bool> {
        let (found, ..) = self.hash()?;
        let known_bits = if self.0[0] == AT_NUMBER { u64::BITS - PLACE_BITS } else { u32::BITS };
        Ok((found ^ mark) & (u32::MAX >> (u32::BITS - known_bits)) == 0)
    }

    /// The mark, the shard and the hash where the scan goes on.
    pub(crate) fn hash(&self) -> Result<(u32, u16, u32)> {
        match *self.0.as_slice() {
            [AT_NUMBER, a, b, c, d, e, f, g, h] => {
                Ok((u32::from_be_bytes([0, a, b, c]), u16::from(d), u32::from_be_bytes([e, f, g, h])))
            }
            [AT_HASH, a, b, c, d, e, f, g, h, i, j] => {
                Ok((u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f]), u32::from_be_bytes([g, h, i, j])))
            }
            _ => Err(Error::WrongCursor),
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&BASE64.encode(&self.0))
    }
}

impl FromStr for Cursor {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        BASE64.decode(text).map(Self).map_err(|_| Error::WrongCursor)
    }
}

impl Scan {
    /// Refuses a page that is too large; gives the cursor.
    pub(crate) fn checked(&self) -> Result<Option<&Cursor>> {
        limits::check("page keys", self.max_keys, MAX_PAGE_KEYS)?;
        limits::check("page", self.max_bytes, MAX_PAGE_BYTES)?;
        Ok(self.after.as_ref())
    }
}

/// A page that is being filled.
pub(crate) struct Gathering<'a> {
    scan: &'a Scan,
    entries: Vec<Entry>,
    bytes: usize,
    /// Records that were looked at.
    records: usize,
}

impl<'a> Gathering<'a> {
    pub(crate) fn new(scan: &'a Scan) -> Self {
        Self { scan, entries: Vec::new(), bytes: 0, records: 0 }
    }

    /// Takes entries that belong together, or none of them and says so: then the page ends before them.
    pub(crate) fn take(&mut self, records: usize, entries: Vec<Entry>) -> bool {
        let bytes_of = |entry: &Entry| entry.key.len() + entry.value.as_ref().map_or(0, Vec::len);
        let bytes = entries.iter().map(bytes_of).sum::<usize>();
        let fits = self.entries.len() + entries.len() <= self.scan.max_keys.max(1)
            && self.bytes + bytes <= self.scan.max_bytes
            || entries.is_empty();
        if self.records >= MAX_PAGE_RECORDS || !fits && !self.entries.is_empty() {
            return false;
        }
        self.records += records;
        self.bytes += bytes;
        self.entries.extend(entries);
        true
    }

    pub(crate) fn finish(self, next: Option<Cursor>) -> Page {
        Page { entries: self.entries, next }
    }

    /// The page of entries that come in the order of their keys, from the first one that it may hold.
    pub(crate) fn of_ordered<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        mut self,
        entries: impl Iterator<Item = Result<(K, V)>>,
    ) -> Result<Page> {
        let mut last: Option<Vec<u8>> = None;
        for entry in entries {
            let (key, value) = entry?;
            if !key.as_ref().starts_with(&self.scan.prefix) {
                break;
            }
            let (key, value) = (key.as_ref().to_vec(), self.scan.values.then(|| value.as_ref().to_vec()));
            if !self.take(1, vec![Entry { key: key.clone(), value }]) {
                return Ok(self.finish(last.map(|key| Cursor::after_key(&key))));
            }
            last = Some(key);
        }
        Ok(self.finish(None))
    }
}

/// All entries of a scan, page by page. Ends after the first error.
#[derive(Debug)]
pub struct Entries<E> {
    engine: E,
    scan: Scan,
    page: std::vec::IntoIter<Entry>,
    complete: bool,
}

impl<E: KvsEngine> Entries<E> {
    /// All entries from where `scan` begins.
    pub fn new(engine: E, scan: Scan) -> Self {
        Self { engine, scan, page: Vec::new().into_iter(), complete: false }
    }
}

impl<E: KvsEngine> Iterator for Entries<E> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            if let Some(entry) = self.page.next() {
                return Some(Ok(entry));
            }
            if self.complete {
                return None;
            }
            match self.engine.scan(&self.scan) {
                Ok(Page { entries, next }) => {
                    self.complete = next.is_none();
                    self.scan.after = next;
                    self.page = entries.into_iter();
                }
                Err(error) => {
                    self.complete = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
