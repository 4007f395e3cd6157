//! Kubernetes quantities such as `1Gi`, `500m` and `2`, compared by value and not by spelling.
//!
//! What must hold: the API server stores `1024Mi` as `1Gi`, so two spellings of one value must never look like a change.
//! The value is kept exactly, in billionths; what is finer is rounded up and what is beyond 2^63 is that, as the API server
//! does. What its rules accept (`isQuantity`) is accepted here.

use std::fmt;

/// Billionths in one.
const NANOS: i128 = 1_000_000_000;
/// The largest value, 2^63 - 1, in billionths.
const MOST_NANOS: i128 = i64::MAX as i128 * NANOS;
/// The largest exponent of ten that is told from a larger one: it takes a single unit beyond the largest value.
const LARGEST_EXPONENT: i32 = 28;

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
    /// When the text is no quantity, or is negative.
    pub fn parse(text: &str) -> Result<Self, NotAQuantity> {
        Self::parse_exactly(text).ok_or_else(|| NotAQuantity(text.to_owned()))
    }

    /// The value in whole units, rounded up; `u64::MAX` when it is larger.
    #[must_use]
    pub fn ceiling(self) -> u64 {
        u64::try_from((self.nanos + NANOS - 1) / NANOS).unwrap_or(u64::MAX)
    }

    fn parse_exactly(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let number_bytes = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
        let (number, suffix) = text.split_at(number_bytes);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (multiplier, divisor) = unit_nanos(suffix)?;
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        // The value is digits * multiplier / (divisor * 10^fraction): all of it exact, or beyond every bound.
        let scale = u32::try_from(fraction.len()).ok().and_then(|places| 10_i128.checked_pow(places));
        let divisor = scale.and_then(|scale| scale.checked_mul(divisor));
        let dividend = match digits {
            "" => Some(0),
            digits => digits.parse::<i128>().ok().and_then(|digits| digits.checked_mul(multiplier)),
        };
        let nanos = match (dividend, divisor) {
            (Some(dividend), Some(divisor)) => {
                dividend.checked_add(divisor - 1).map_or(MOST_NANOS, |sum| sum / divisor)
            }
            (None, Some(_)) => MOST_NANOS,
            // Finer than anything that is measured, unless it is nothing.
            (dividend, None) => i128::from(dividend != Some(0)),
        };
        Some(Self { nanos: nanos.min(MOST_NANOS) })
    }
}

/// What one of the suffix's unit is, in billionths of one, as a fraction.
fn unit_nanos(suffix: &str) -> Option<(i128, i128)> {
    let decimal = |exponent: u32| Some((10_i128.checked_pow(exponent)?, 1));
    let binary = |exponent: u32| Some((NANOS.checked_mul(1 << (10 * exponent))?, 1));
    match suffix {
        "n" => decimal(0),
        "u" => decimal(3),
        "m" => decimal(6),
        "" => decimal(9),
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
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
                return None;
            }
            // Beyond this every value is either the bound or nothing.
            let size = digits.parse::<i32>().unwrap_or(LARGEST_EXPONENT).min(LARGEST_EXPONENT);
            let exponent = 9 + if exponent.starts_with('-') { -size } else { size };
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
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
        for (one, other) in [
            ("1Gi", "1024Mi"),
            ("0.5Gi", "512Mi"),
            ("1", "1000m"),
            ("1.5", "1500m"),
            ("1k", "1e3"),
            (".5", "500m"),
            ("+1Gi", "1Gi"),
            ("1e-2", "10m"),
            ("1E+3", "1k"),
            ("0.1e-8", "1n"),
            ("0e99", "0"),
            ("9999999Ei", "8Ei"),
            ("1e99", "8Ei"),
            ("0.00000000000000000000000000000000000000000000001", "1n"),
        ] {
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
        for text in ["", "lots", "-1Gi", "1 Gi", "1gi", "1.2.3", ".", "Gi", "+", "++1", "1e", "1e+-3", "1e1.5"] {
            assert!(Amount::parse(text).is_err(), "{text}");
        }
    }
}
