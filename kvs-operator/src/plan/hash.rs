//! A short hash of a text, to see whether what we want differs from what we applied last.
//!
//! What must hold: the same text gives the same hash in every version of the operator, or an upgrade would roll every
//! pod. So the algorithm is written out here: FNV-1a of 64 bits, by Fowler, Noll and Vo. It guards against accidents,
//! not against people: who can edit the object can edit the hash.

/// The hash of a text, as 16 hexadecimal digits.
pub(super) fn of_text(text: &str) -> String {
    const OFFSET_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let hash = text.bytes().fold(OFFSET_BASIS, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME));
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_values_come_out() {
        assert_eq!(of_text(""), "cbf29ce484222325");
        assert_eq!(of_text("a"), "af63dc4c8601ec8c");
        assert_eq!(of_text("foobar"), "85944171f73967e8");
    }
}
