//! What one caller at a time sees: set, get, remove, bytes and sizes.

use kvs_engine::limits::{DEFAULT_MAX_VALUE_BYTES, MAX_KEY_BYTES};
use kvs_engine::{Error, KvsEngine as _};

use crate::fixture::Fixture;

pub(crate) fn a_value_that_was_set_is_got<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    engine.set("key", "value").unwrap();
    assert_eq!(engine.get("key").unwrap(), Some(b"value".to_vec()));
}

pub(crate) fn a_missing_key_has_no_value<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    assert_eq!(engine.get("key").unwrap(), None);
    engine.set("another", "value").unwrap();
    assert_eq!(engine.get("key").unwrap(), None);
}

pub(crate) fn the_newest_value_wins<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    for value in ["a first value", "short", "", "a value that is longer than the first"] {
        engine.set("key", value).unwrap();
        assert_eq!(engine.get("key").unwrap(), Some(value.as_bytes().to_vec()));
    }
}

pub(crate) fn a_removed_key_is_gone_and_can_come_back<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    engine.set("key", "value").unwrap();
    engine.remove("key").unwrap();
    assert_eq!(engine.get("key").unwrap(), None);
    engine.set("key", "again").unwrap();
    assert_eq!(engine.get("key").unwrap(), Some(b"again".to_vec()));
}

pub(crate) fn removing_a_missing_key_is_an_error<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    assert!(matches!(engine.remove("key"), Err(Error::KeyNotFound)));
    engine.set("key", "value").unwrap();
    engine.remove("key").unwrap();
    assert!(matches!(engine.remove("key"), Err(Error::KeyNotFound)));
    assert_eq!(Error::KeyNotFound.to_string(), "Key not found", "the words that a user reads");
}

pub(crate) fn all_bytes_are_welcome_in_keys_and_values<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let all: Vec<u8> = (0..=255).collect();
    let texts = ["\n", "\r\n", "\0", "\"", "\\", "{\"set\":{\"key\":\"x\"}}", "ключ", "\u{1F511}", "\u{7f}\u{80}", " "];
    let mut keys: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    keys.extend((0..=255).map(|byte| vec![byte]));
    keys.extend([all.clone(), b"\xff\xfe not UTF-8 \xc3".to_vec(), b"cut \xf0\x9f\x94".to_vec()]);
    keys.sort();
    keys.dedup();
    for key in &keys {
        let mut value = key.clone();
        value.extend_from_slice(&all);
        engine.set(key.clone(), value).unwrap();
    }
    for key in &keys {
        let mut value = key.clone();
        value.extend_from_slice(&all);
        assert_eq!(engine.get(key.clone()).unwrap(), Some(value), "key {key:?}");
    }
}

pub(crate) fn keys_and_values_may_be_empty<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    assert_eq!(engine.get("").unwrap(), None);
    engine.set("", "value of the empty key").unwrap();
    engine.set("key", "").unwrap();
    assert_eq!(engine.get("").unwrap(), Some(b"value of the empty key".to_vec()));
    assert_eq!(engine.get("key").unwrap(), Some(Vec::new()), "an empty value is a value");
    engine.set("", "").unwrap();
    assert_eq!(engine.get("").unwrap(), Some(Vec::new()));
    engine.remove("").unwrap();
    assert_eq!(engine.get("").unwrap(), None);
    assert!(matches!(engine.remove(""), Err(Error::KeyNotFound)));
}

/// Keys that share beginnings, ends and lengths are still different keys.
pub(crate) fn a_key_is_found_by_all_its_bytes<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let keys = ["a", "aa", "aaa", "ab", "ba", "b", "a\0", "\0a", "A"];
    for key in keys {
        engine.set(key, format!("value of {key}")).unwrap();
    }
    engine.remove("aa").unwrap();
    for key in keys {
        let expected = (key != "aa").then(|| format!("value of {key}").into_bytes());
        assert_eq!(engine.get(key).unwrap(), expected, "key {key:?}");
    }
}

pub(crate) fn sizes_up_to_the_limits_are_accepted<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let key = vec![b'k'; MAX_KEY_BYTES];
    // The control character takes six bytes of JSON: the longest form of the longest value.
    for byte in [b'v', 1, 0xff] {
        let value = vec![byte; DEFAULT_MAX_VALUE_BYTES];
        engine.set(key.clone(), value.clone()).unwrap();
        assert!(engine.get(key.clone()).unwrap() == Some(value), "a value of bytes {byte} came back different");
    }
    engine.remove(key.clone()).unwrap();
    assert_eq!(engine.get(key).unwrap(), None);
}

pub(crate) fn sizes_over_the_limits_are_refused_by_name<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let long_key = vec![b'k'; MAX_KEY_BYTES + 1];
    let refused =
        [engine.set(long_key.clone(), "value"), engine.get(long_key.clone()).map(|_| ()), engine.remove(long_key)];
    for result in refused {
        let error = result.unwrap_err();
        assert!(
            matches!(error, Error::TooLarge { what: "key", bytes, limit_bytes }
                if limit_bytes == MAX_KEY_BYTES && bytes == MAX_KEY_BYTES + 1),
            "{error}"
        );
        assert_eq!(error.to_string(), "key of 65537 bytes is larger than the limit of 65536 bytes");
    }
    engine.set("key", "small").unwrap();
    let error = engine.set("key", vec![0; DEFAULT_MAX_VALUE_BYTES + 1]).unwrap_err();
    assert!(matches!(error, Error::TooLarge { what: "value", limit_bytes: DEFAULT_MAX_VALUE_BYTES, .. }), "{error}");
    assert_eq!(engine.get("key").unwrap(), Some(b"small".to_vec()), "a refused set changes nothing");
}
