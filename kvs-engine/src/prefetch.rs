//! Asking the processor to bring memory nearer before it is needed, so that waits for memory overlap.
//!
//! Beside mapping files, the only unsafe code of the engine. Measured on a million records in the page cache, a third
//! of a get's time was waiting for the index's slot and then for the record; asked for some dozens of keys at a time,
//! most of that goes. Reading a byte instead would not do: the locks between two keys order reads, not prefetches.
//!
//! What must hold: it changes nothing but time; other processors than x86-64 do without.

/// Bytes that come nearer at once.
pub(crate) const LINE_BYTES: usize = 64;

/// Asks for the memory of an element; an index behind the end asks for nothing.
pub(crate) fn element<T>(slice: &[T], index: usize) {
    let Some(element) = slice.get(index) else { return };
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        #[expect(unsafe_code, reason = "see the head of this file")]
        // SAFETY: a prefetch is a hint; it reads nothing that the program sees and never faults, whatever the address.
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(element).cast());
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = element;
}
