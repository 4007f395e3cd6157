//! `Pattern`: the patterns of `SCAN MATCH`: `*`, `?`, `[abc]`, `[a-z]`, `[^a]`, and `\` before what is meant literally.
//!
//! What must hold: matching calls no function from within itself, so that no pattern can exhaust the stack. One text
//! takes at most text times pattern steps; a page of many long ones takes one step a byte, whatever pattern and keys are,
//! because it is matched on threads that others wait for.

/// The longest pattern, in bytes: what is matched against many keys must be short.
pub const MAX_PATTERN_BYTES: usize = 128;

/// A pattern that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    elements: Vec<Element>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Element {
    /// `*`
    Any,
    /// `?`
    One,
    Byte(u8),
    /// `[..]`
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
}

impl Element {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Any | Self::One => true,
            Self::Byte(wanted) => *wanted == byte,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&byte)) != *negated
            }
        }
    }
}

impl Pattern {
    /// Understands a pattern; `None` when it is too long. Every other text is a pattern.
    #[must_use]
    pub fn new(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_PATTERN_BYTES {
            return None;
        }
        let mut elements = Vec::new();
        let mut rest = text;
        while let Some((&byte, after)) = rest.split_first() {
            rest = after;
            let element = match byte {
                b'*' if elements.last() == Some(&Element::Any) => continue,
                b'*' => Element::Any,
                b'?' => Element::One,
                b'[' => class(&mut rest),
                b'\\' => match rest.split_first() {
                    Some((&escaped, after)) => {
                        rest = after;
                        Element::Byte(escaped)
                    }
                    None => Element::Byte(b'\\'),
                },
                byte => Element::Byte(byte),
            };
            elements.push(element);
        }
        Some(Self { elements })
    }

    /// The memory that it takes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let class_bytes = |element: &Element| match element {
            Element::Class { ranges, .. } => size_of_val(&ranges[..]),
            _ => 0,
        };
        size_of_val(&self.elements[..]) + self.elements.iter().map(class_bytes).sum::<usize>()
    }

    /// What every text that matches begins with.
    #[must_use]
    pub fn prefix(&self) -> Vec<u8> {
        let literal = |element: &Element| match element {
            Element::Byte(byte) => Some(*byte),
            _ => None,
        };
        self.elements.iter().map_while(literal).collect()
    }

    /// What matches many texts.
    #[must_use]
    pub fn matcher(&self) -> Matcher<'_> {
        if !self.elements.contains(&Element::Any) {
            return Matcher::Plain(self);
        }
        let (mut taking, mut staying, mut places) = (vec![0; 256], 0, 0);
        for element in &self.elements {
            if *element == Element::Any {
                staying |= 1 << places;
                continue;
            }
            for byte in (0..=u8::MAX).filter(|byte| element.takes(*byte)) {
                taking[usize::from(byte)] |= 1 << places;
            }
            places += 1;
        }
        Matcher::Stars { taking, staying, end: 1 << places }
    }

    /// Whether a whole text matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        let (mut element, mut place) = (0, 0);
        // The last `*`, and how much of the text it has taken so far.
        let mut star: Option<(usize, usize)> = None;
        while place < text.len() {
            match self.elements.get(element) {
                Some(Element::Any) => {
                    star = Some((element, place));
                    element += 1;
                }
                Some(wanted) if wanted.takes(text[place]) => {
                    element += 1;
                    place += 1;
                }
                _ => {
                    let Some((at, taken)) = &mut star else { return false };
                    *taken += 1;
                    (element, place) = (*at + 1, *taken);
                }
            }
        }
        self.elements[element..].iter().all(|element| *element == Element::Any)
    }
}

/// A pattern that is prepared for many texts.
#[derive(Debug)]
pub enum Matcher<'a> {
    /// Without a `*` a text is left at the first byte that does not fit.
    Plain(&'a Pattern),
    /// All places of the pattern that a beginning of the text can have come to, one a bit. A `*` is no place of its own,
    /// so that those of the longest pattern that has one fit into 128 bits.
    Stars {
        /// For each byte, the places that are left by it for the next one.
        taking: Vec<u128>,
        /// Places where a `*` takes any byte.
        staying: u128,
        /// The place behind the last.
        end: u128,
    },
}

impl Matcher<'_> {
    /// Whether a whole text matches.
    #[must_use]
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Plain(pattern) => pattern.matches(text),
            Self::Stars { taking, staying, end } => {
                let step = |places: u128, byte: &u8| (places & taking[usize::from(*byte)]) << 1 | (places & staying);
                text.iter().fold(1, step) & end != 0
            }
        }
    }
}

/// Reads what stands behind a `[`. A class that is not ended goes to the end of the pattern, as in Redis.
fn class(rest: &mut &[u8]) -> Element {
    let negated = rest.first() == Some(&b'^');
    let mut text = &rest[usize::from(negated)..];
    let mut ranges = Vec::new();
    loop {
        text = match text {
            [] => break,
            [b']', after @ ..] => {
                text = after;
                break;
            }
            [b'\\', byte, after @ ..] => {
                ranges.push((*byte, *byte));
                after
            }
            [first, b'-', last, after @ ..] => {
                ranges.push((*first.min(last), *first.max(last)));
                after
            }
            [byte, after @ ..] => {
                ranges.push((*byte, *byte));
                after
            }
        };
    }
    *rest = text;
    Element::Class { negated, ranges }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        let pattern = Pattern::new(pattern.as_bytes()).unwrap();
        let matches = pattern.matches(text.as_bytes());
        assert_eq!(pattern.matcher().matches(text.as_bytes()), matches, "{pattern:?} and {text}");
        matches
    }

    #[test]
    fn patterns_mean_what_they_mean_in_redis() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "anything"),
            ("user:*", "user:1"),
            ("user:*", "user:"),
            ("h?llo", "hello"),
            ("h[ae]llo", "hallo"),
            ("h[^e]llo", "hallo"),
            ("h[a-b]llo", "hbllo"),
            ("h[b-a]llo", "hallo"),
            ("*a*b", "xxaxxab"),
            ("**a", "bca"),
            ("\\*", "*"),
            ("[\\]]", "]"),
            ("tail\\", "tail\\"),
        ] {
            assert!(matches(pattern, text), "{pattern} and {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("user:*", "user"),
            ("h?llo", "hllo"),
            ("h[ae]llo", "hillo"),
            ("h[^e]llo", "hello"),
            ("*a*b", "xxbxxa"),
            ("\\*", "a"),
            ("a", "ab"),
        ] {
            assert!(!matches(pattern, text), "{pattern} and {text}");
        }
    }

    #[test]
    fn a_prefix_is_what_stands_before_the_first_choice() {
        for (pattern, prefix) in [("user:*", "user:"), ("*", ""), ("a\\*b?", "a*b"), ("abc", "abc"), ("[a]b", "")] {
            assert_eq!(Pattern::new(pattern.as_bytes()).unwrap().prefix(), prefix.as_bytes(), "{pattern}");
        }
    }

    #[test]
    fn one_text_and_many_are_matched_the_same_way() {
        const LETTERS: [u8; 6] = *b"*?ab[]";
        let mut number = 0_u64;
        let mut text = |letters: &[u8], longest: u64| {
            // A simple generator of numbers: the same in every run.
            let mut next = || {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                number >> 33
            };
            let length = next() % longest;
            let letter = |place: u64| letters[usize::try_from(place).unwrap() % letters.len()];
            String::from_utf8((0..length).map(|_| letter(next())).collect()).unwrap()
        };
        let found = (0..20_000).filter(|_| matches(&text(&LETTERS, 9), &text(b"ab", 7))).count();
        assert!((1_000..19_000).contains(&found), "{found}");
    }

    #[test]
    fn the_longest_patterns_have_room() {
        let stars = "*a".repeat(MAX_PATTERN_BYTES / 2);
        assert!(matches(&stars, &"ba".repeat(64)));
        let literal = "a".repeat(MAX_PATTERN_BYTES);
        assert!(matches(&literal, &literal));
        let with_star = format!("{}*", &literal[1..]);
        assert!(matches(&with_star, &literal) && !matches(&with_star, &literal[2..]));
    }

    #[test]
    fn a_hostile_pattern_ends() {
        let pattern = "*a".repeat(MAX_PATTERN_BYTES / 2);
        assert!(!matches(&pattern, &format!("{}b", "a".repeat(64 * 1024))));
        assert!(Pattern::new(&[b'*'; MAX_PATTERN_BYTES + 1]).is_none());
    }
}
