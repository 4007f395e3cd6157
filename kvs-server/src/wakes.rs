//! Wake-ups of connections, held back while the engine answers a group: a connection that sleeps until the last of its
//! answers is there takes them all in one turn, and the thread that answers is not interrupted by those that it wakes.
//!
//! What must hold: a wake-up that was held back happens when the group is answered, on the same thread.

use std::cell::RefCell;
use std::task::Waker;

thread_local! {
    /// Wake-ups of the group that this thread is answering; `None` while there is no such group.
    static HELD: RefCell<Option<Vec<Waker>>> = const { RefCell::new(None) };
}

/// Holds wake-ups of this thread back from now on.
pub(crate) fn hold() {
    HELD.with_borrow_mut(|held| {
        held.get_or_insert_default();
    });
}

/// Wakes, now or with the others of the group.
pub(crate) fn wake(waker: Waker) {
    let now = HELD.with_borrow_mut(|held| match held {
        Some(held) => {
            held.push(waker);
            None
        }
        None => Some(waker),
    });
    if let Some(waker) = now {
        waker.wake();
    }
}

/// Wakes all that were held back.
pub(crate) fn release() {
    // Not under the borrow: whoever is woken may be run by this very thread.
    let held = HELD.with_borrow_mut(Option::take);
    held.into_iter().flatten().for_each(Waker::wake);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    struct Counting(AtomicUsize);

    impl Wake for Counting {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn wake_ups_of_a_group_come_when_it_is_answered() {
        let counting = Arc::new(Counting(AtomicUsize::new(0)));
        let seen = || counting.0.load(Ordering::SeqCst);
        wake(Arc::clone(&counting).into());
        assert_eq!(seen(), 1, "outside a group at once");
        hold();
        wake(Arc::clone(&counting).into());
        wake(Arc::clone(&counting).into());
        assert_eq!(seen(), 1, "inside a group not yet");
        release();
        assert_eq!(seen(), 3);
        wake(Arc::clone(&counting).into());
        assert_eq!(seen(), 4);
    }
}
