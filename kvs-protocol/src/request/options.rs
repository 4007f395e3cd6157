//! The objects after the verbs whose fields are mostly optional: `scan`, `info`, `auth`.
//!
//! What must hold: as in `decode`; here too nothing of what was sent is repeated at length.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use super::decode::{STRING, quoted};
use super::{Token, Verb};
use crate::limits::MAX_PAGE_ENTRIES;
use crate::text::Base64;

/// Which verb the object belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Options {
    Scan,
    Info,
    Auth,
}

/// What was read.
#[derive(Default)]
struct Found {
    prefix: Option<Vec<u8>>,
    cursor: Option<String>,
    limit: Option<u32>,
    values: Option<bool>,
    section: Option<String>,
    token: Option<Token>,
}

impl Options {
    /// The fields that may stand in the object.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Scan => &["prefix", "prefix64", "cursor", "limit", "values"],
            Self::Info => &["section"],
            Self::Auth => &["token", "token64"],
        }
    }

    fn verb<E: Error>(self, found: Found) -> Result<Verb, E> {
        let Found { prefix, cursor, limit, values, section, token } = found;
        Ok(match self {
            Self::Scan => Verb::Scan {
                prefix: prefix.unwrap_or_default(),
                cursor,
                limit,
                values: values.unwrap_or(true),
                numbered: false,
            },
            Self::Info => Verb::Info { section },
            Self::Auth => Verb::Auth { token: token.ok_or_else(|| E::missing_field("token"))? },
        })
    }
}

impl<'de> DeserializeSeed<'de> for Options {
    type Value = Verb;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Verb, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Options {
    type Value = Verb;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object with ")?;
        for (place, field) in self.fields().iter().enumerate() {
            write!(formatter, "{}`{field}`", if place > 0 { ", " } else { "" })?;
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Verb, E> {
        Err(E::invalid_type(STRING, &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Verb, A::Error> {
        let mut found = Found::default();
        while let Some(name) = map.next_key::<String>()? {
            let Some(field) = self.fields().iter().find(|field| **field == name) else {
                let message = format_args!("unknown field {}, expected {}", quoted(&name), Expected(self));
                return Err(Error::custom(message));
            };
            match *field {
                "prefix" => put(&mut found.prefix, map.next_value::<String>()?.into_bytes(), "prefix")?,
                "prefix64" => put(&mut found.prefix, map.next_value::<Base64>()?.0, "prefix")?,
                "cursor" => put(&mut found.cursor, map.next_value()?, "cursor")?,
                "limit" => put(&mut found.limit, map.next_value_seed(Limit)?, "limit")?,
                "values" => put(&mut found.values, map.next_value_seed(Flag("values"))?, "values")?,
                "section" => put(&mut found.section, map.next_value()?, "section")?,
                "token" => put(&mut found.token, Token::new(map.next_value::<String>()?), "token")?,
                _ => put(&mut found.token, Token::new(map.next_value::<Base64>()?.0), "token")?,
            }
        }
        self.verb(found)
    }
}

/// Takes a field that must not have been given before.
pub(super) fn put<T, E: Error>(place: &mut Option<T>, value: T, field: &'static str) -> Result<(), E> {
    if place.replace(value).is_some() { Err(E::duplicate_field(field)) } else { Ok(()) }
}

/// What [`Options`] expect, for an error.
struct Expected(Options);

impl fmt::Display for Expected {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(formatter)
    }
}

/// Reads how many entries are wanted.
struct Limit;

impl<'de> DeserializeSeed<'de> for Limit {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Limit {
    type Value = u32;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a whole number from 1 to {MAX_PAGE_ENTRIES}")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<u32, E> {
        let is_within = |limit: &u32| (1..=MAX_PAGE_ENTRIES).contains(limit);
        u32::try_from(number)
            .ok()
            .filter(is_within)
            .ok_or_else(|| E::custom(format_args!("`limit` is out of range: it is 1 to {MAX_PAGE_ENTRIES} entries")))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<u32, E> {
        Err(E::invalid_type(STRING, &self))
    }
}

/// Reads a field that is true or false.
pub(super) struct Flag(pub(super) &'static str);

impl<'de> DeserializeSeed<'de> for Flag {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Flag {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "true or false for `{}`", self.0)
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<bool, E> {
        Ok(flag)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<bool, E> {
        Err(E::invalid_type(STRING, &self))
    }
}
