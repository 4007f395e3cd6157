//! When a certificate is valid: the one part of it that nothing we link tells us. The server makes a metric of it, the
//! operator a condition.
//!
//! What must hold: any bytes are survived; what is not understood is `None`, which costs a metric and nothing else.
//!
//! ```text
//! Certificate: SEQUENCE { TBSCertificate: SEQUENCE { [0] version?, INTEGER serial, SEQUENCE algorithm, Name issuer,
//!              SEQUENCE validity { Time notBefore, Time notAfter }, ... } ... }               (RFC 5280, section 4.1)
//! ```

const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate is valid, in seconds since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub not_before_s: i64,
    /// Its last second.
    pub not_after_s: i64,
}

/// When a certificate in DER is valid; `None` for bytes that are not understood.
#[must_use]
pub fn validity(der: &[u8]) -> Option<Validity> {
    let (certificate, _) = expect(der, SEQUENCE)?;
    let (mut fields, _) = expect(certificate, SEQUENCE)?;
    if let Some((_, rest)) = expect(fields, VERSION) {
        fields = rest;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (validity, _) = expect(fields, SEQUENCE)?;
    let (before_tag, before, after) = element(validity)?;
    let (after_tag, after, _) = element(after)?;
    Some(Validity { not_before_s: time(before_tag, before)?, not_after_s: time(after_tag, after)? })
}

/// A time's content in seconds since 1970.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    seconds(tag, std::str::from_utf8(text).ok()?)
}

/// Tag, content and what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        // The length stands in so many bytes; a certificate of more than 16 MiB is none.
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn expect(bytes: &[u8], wanted: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = element(bytes)?;
    (tag == wanted).then_some((content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ` in seconds since 1970.
fn seconds(tag: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME if digits.len() == 12 => {
            let short: i64 = digits[..2].parse().ok()?;
            (if short < 50 { 2000 + short } else { 1900 + short }, &digits[2..])
        }
        GENERALIZED_TIME if digits.len() == 14 => (digits[..4].parse().ok()?, &digits[4..]),
        _ => return None,
    };
    let number = |place: usize| rest[2 * place..2 * place + 2].parse::<i64>().ok();
    let (month, day, hour, minute, second) = (number(0)?, number(1)?, number(2)?, number(3)?, number(4)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second)
}

/// Days since 1970 in the Gregorian calendar: years begin in March, so that the leap day comes last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_month = (153 * month + 2) / 5;
    year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + days_before_month + day
        - 1
        - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_from_1970() {
        assert_eq!(seconds(UTC_TIME, "700101000000Z"), Some(0));
        assert_eq!(seconds(UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(seconds(GENERALIZED_TIME, "20240229120000Z"), Some(1_709_208_000));
        assert_eq!(seconds(GENERALIZED_TIME, "20500101000000Z"), Some(2_524_608_000));
        for wrong in ["", "Z", "7001010000Z", "70010100000xZ", "701301000000Z", "700101000000"] {
            assert_eq!(seconds(UTC_TIME, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        let mut bytes = vec![SEQUENCE, 0x82, 0x01, 0x00, SEQUENCE, 0x81, 0xff, VERSION, 0x03, 2, 1, 2, 2, 1, 1];
        for end in 0..bytes.len() {
            assert_eq!(validity(&bytes[..end]), None);
        }
        for place in 0..bytes.len() {
            for value in 0..=u8::MAX {
                let kept = std::mem::replace(&mut bytes[place], value);
                // Its answer is of no interest here, only that there is one.
                let _ = validity(&bytes);
                bytes[place] = kept;
            }
        }
    }
}
