//! `Scan`: all keys with a prefix, page by page.
//!
//! What must hold: a key that is there during the whole scan comes exactly once. A cursor is the server's and ends with
//! the server's process: a scan whose server was started anew fails, and never skips.

use kvs_protocol::limits::MAX_PAGE_ENTRIES;
use kvs_protocol::{Answer, Entry, Page, Verb};

use crate::error::Error;
use crate::session::Session;

/// A scan under way.
pub(crate) struct Scan {
    prefix: Vec<u8>,
    values: bool,
    cursor: Option<String>,
    /// Whether the last page was read.
    is_complete: bool,
}

impl Scan {
    /// The keys with a prefix.
    pub(crate) fn keys(prefix: Vec<u8>) -> Self {
        Self { prefix, values: false, cursor: None, is_complete: false }
    }

    /// The keys with a prefix, and their values.
    pub(crate) fn entries(prefix: Vec<u8>) -> Self {
        Self { prefix, values: true, cursor: None, is_complete: false }
    }

    /// Goes on where another scan of the same keys stood.
    pub(crate) fn behind(self, cursor: Option<String>) -> Self {
        Self { cursor, ..self }
    }

    /// Where the next page begins; `None` before the first and behind the last.
    pub(crate) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    /// The next page, of no more than `most` keys; `None` behind the last. A page may be empty and not the last.
    pub(crate) async fn next_page(&mut self, session: &mut Session, most: u64) -> Result<Option<Vec<Entry>>, Error> {
        if self.is_complete {
            return Ok(None);
        }
        let limit = u32::try_from(most).unwrap_or(u32::MAX).clamp(1, MAX_PAGE_ENTRIES);
        let (prefix, cursor) = (self.prefix.clone(), self.cursor.clone());
        let verb = Verb::Scan { prefix, cursor, limit: Some(limit), values: self.values, numbered: false };
        let Answer::Page(Page { entries, cursor }) = session.call(verb).await? else {
            return Err(session.unexpected("scan"));
        };
        self.is_complete = cursor.is_none();
        self.cursor = cursor;
        Ok(Some(entries))
    }

    /// How many keys there are.
    pub(crate) async fn count(mut self, session: &mut Session) -> Result<u64, Error> {
        if self.prefix.is_empty() {
            return match session.call(Verb::Count).await? {
                Answer::Number(count) => Ok(count),
                _ => Err(session.unexpected("count")),
            };
        }
        let mut count = 0;
        while let Some(page) = self.next_page(session, u64::MAX).await? {
            count += u64::try_from(page.len()).expect("a length fits 64 bits");
        }
        Ok(count)
    }
}
