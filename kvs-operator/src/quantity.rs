//! Kubernetes quantities such as `1Gi`, `500m` and `2`, compared by value and not by spelling.
//!
//! What must hold: the API server stores `1024Mi` as `1Gi`, so two spellings of one value must never look like a change.
//! The value is kept exactly, in billionths; what is finer is rounded up, as the API server does.

use std::fmt;

/// Billionths in one.
const NANOS: i128 = 1_000_000_000;

/// A text that is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no quantity; write a number with an optional suffix, such as 500m, 2, 64Mi or 1Gi")]
pub struct NotAQuantity(
    /// The text.
    pub String,
);

/// An amount of bytes, cores or anything else that a pod can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount {
    /// The value in billionths.
    nanos: i128,
}

impl Amount {
    /// Reads a quantity.
    ///
    /// # Errors
    /// When the text is no quantity, is negative or is larger than 2^63.
    pub fn parse(text: &str) -> Result<Self, NotAQuantity> {
        Self::parse_exactly(text).ok_or_else(|| NotAQuantity(text.to_owned()))
    }

    /// The value in whole units, rounded up; `u64::MAX` when it is larger.
    #[must_use]
    pub fn ceiling(self) -> u64 {
        u64::try_from((self.nanos + NANOS - 1) / NANOS).unwrap_or(u64::MAX)
    }

    fn parse_exactly(text: &str) -> Option<Self> {
        let number_bytes = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(number_bytes);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let multiplier = multiplier_nanos(suffix)?;
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let mut nanos = whole.checked_mul(multiplier)?;
        if !fraction.is_empty() {
            let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
            let parts = fraction.parse::<i128>().ok()?.checked_mul(multiplier)?;
            nanos = nanos.checked_add(parts.checked_add(scale - 1)? / scale)?;
        }
        (nanos <= i128::from(i64::MAX).checked_mul(NANOS)?).then_some(Self { nanos })
    }
}

/// What one of the suffix's unit is, in billionths of one.
fn multiplier_nanos(suffix: &str) -> Option<i128> {
    let decimal = |exponent: u32| 10_i128.checked_pow(exponent);
    let binary = |exponent: u32| NANOS.checked_mul(1 << (10 * exponent));
    match suffix {
        "n" => Some(1),
        "u" => decimal(3),
        "m" => decimal(6),
        "" => Some(NANOS),
        "k" => decimal(12),
        "M" => decimal(15),
        "G" => decimal(18),
        "T" => decimal(21),
        "P" => decimal(24),
        "E" => decimal(27),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        _ => decimal(9 + suffix.strip_prefix(['e', 'E'])?.trim_start_matches('+').parse::<u32>().ok()?),
    }
}

impl fmt::Display for Amount {
    /// The value in whole units, rounded up.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.ceiling())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_value_are_equal() {
        for (one, other) in
            [("1Gi", "1024Mi"), ("0.5Gi", "512Mi"), ("1", "1000m"), ("1.5", "1500m"), ("1k", "1e3"), (".5", "500m")]
        {
            assert_eq!(Amount::parse(one).unwrap(), Amount::parse(other).unwrap(), "{one} and {other}");
        }
        assert!(Amount::parse("1Gi").unwrap() > Amount::parse("1G").unwrap());
    }

    #[test]
    fn bytes_are_whole_and_rounded_up() {
        assert_eq!(Amount::parse("64Mi").unwrap().ceiling(), 64 << 20);
        assert_eq!(Amount::parse("1m").unwrap().ceiling(), 1);
        assert_eq!(Amount::parse("0").unwrap().ceiling(), 0);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "lots", "-1Gi", "1 Gi", "1gi", "1.2.3", ".", "Gi", "9999999Ei", "1e99", "1e-2"] {
            assert!(Amount::parse(text).is_err(), "{text}");
        }
    }
}
