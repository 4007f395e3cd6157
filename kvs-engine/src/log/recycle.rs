//! Files that a compaction has made useless, written again as the output of the next one: to give the space of a file
//! back and to take it again makes a device slow at once, where it is told which of its blocks are free.
//!
//! What must hold: a file is written again only when nobody can look into it: the manifest that is durable does not
//! list it, no reader, backup or mapping of this process has its segment, and it has no second name, which would be a
//! backup's. What a crash leaves, whatever name the file has by then, is a file that the manifest does not list.
//!
//! | crash after …                          | leaves …                                              | next open … |
//! |----------------------------------------|-------------------------------------------------------|-------------|
//! | an input is kept                       | a file that the manifest does not list                | removes it  |
//! | it is renamed, or is written again     | the same, under either name, with old and new content | removes it  |

use super::segment::{self, Segment};
use super::{Log, Waiter};
use crate::sync::{Arc, MutexGuard, PoisonError};
use crate::zoo;

impl<W: Waiter> Log<W> {
    /// As [`forget`](Self::forget), for the inputs of a compaction that another one may follow: keeps a file for its
    /// output, until [`drop_kept`](Self::drop_kept).
    pub(crate) fn forget_inputs(&self, segments: &[Arc<Segment>]) {
        let Some((kept, others)) = segments.split_last() else { return };
        self.forget(others);
        self.change_table(|table| table.remove(kept));
        let before = self.kept().replace(Arc::clone(kept));
        self.remove_files(before.as_slice());
    }

    /// Gives the space of what is kept back.
    pub(crate) fn drop_kept(&self) {
        let kept = self.kept().take();
        self.remove_files(kept.as_slice());
    }

    /// The file that is kept, under the name of a new segment; `None` where there is none that may be written.
    pub(super) fn recycle(&self, id: u64) -> Option<Segment> {
        let mut kept = self.kept().take()?;
        let is_read = Arc::get_mut(&mut kept).is_none() && !zoo::bug("recycled-while-read");
        let has_one_name = kept.file.links().is_ok_and(|links| links == 1) || zoo::bug("recycled-while-shared");
        if is_read || !has_one_name {
            self.remove_files(&[kept]);
            return None;
        }
        let renamed = self.storage.rename(&segment::name_of(kept.id), &segment::name_of(id));
        if let Err(error) = renamed {
            tracing::warn!(segment = kept.id, %error, "a file that is no longer needed could not be used again");
            self.remove_files(&[kept]);
            return None;
        }
        let file = Arc::clone(&kept.file);
        // With its mapping, which must not show bytes that change.
        drop(kept);
        match Segment::over(file, &self.id, id) {
            Ok(segment) => Some(segment),
            Err(error) => {
                tracing::warn!(segment = id, %error, "a file that is no longer needed could not be written again");
                let _ = self.storage.remove(&segment::name_of(id));
                None
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Arc<Segment>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
