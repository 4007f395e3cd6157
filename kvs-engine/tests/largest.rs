//! The largest configuration: values of 64 MiB, at the border and beyond it, in every form that a record has.

use kvs_engine::limits::{HIGHEST_MAX_VALUE_BYTES, MAX_KEY_BYTES};
use kvs_engine::{Error, KvStore, KvsEngine as _, Limits, Mutation, Options};

fn largest() -> Options {
    Options { limits: Limits { key_bytes: MAX_KEY_BYTES, value_bytes: HIGHEST_MAX_VALUE_BYTES }, ..Options::default() }
}

/// Text is written as it is, other bytes take four for three.
#[test]
fn the_longest_values_come_back_and_longer_ones_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = KvStore::open_with(folder.path(), largest()).unwrap();
    let key = vec![b'k'; MAX_KEY_BYTES];
    for byte in [b'v', 0xff] {
        let value = vec![byte; HIGHEST_MAX_VALUE_BYTES];
        store.set(key.clone(), value.clone()).unwrap();
        assert!(store.get(key.clone()).unwrap() == Some(value), "a value of bytes {byte} came back different");
    }

    let over = vec![b'v'; HIGHEST_MAX_VALUE_BYTES + 1];
    let refused = |error: Error| {
        assert!(
            matches!(error, Error::TooLarge { what: "value", bytes, limit_bytes }
                if (bytes, limit_bytes) == (HIGHEST_MAX_VALUE_BYTES + 1, HIGHEST_MAX_VALUE_BYTES)),
            "{error}"
        );
    };
    refused(store.set("over", over.clone()).unwrap_err());
    refused(store.write_batch(vec![Mutation::Set { key: b"over".to_vec(), value: over }]).unwrap_err());
    let error = store.set(vec![b'k'; MAX_KEY_BYTES + 1], "value").unwrap_err();
    assert!(matches!(error, Error::TooLarge { what: "key", .. }), "{error}");
    store.close().unwrap();
    drop(store);

    // What is there is read whatever the limit is now.
    let store = KvStore::open(folder.path()).unwrap();
    assert!(store.get(key).unwrap() == Some(vec![0xff; HIGHEST_MAX_VALUE_BYTES]));
    assert_eq!(store.get("over").unwrap(), None);
    store.close().unwrap();
}

#[test]
fn a_higher_limit_than_the_highest_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for limits in [
        Limits { value_bytes: HIGHEST_MAX_VALUE_BYTES + 1, ..Limits::default() },
        Limits { key_bytes: MAX_KEY_BYTES + 1, ..Limits::default() },
    ] {
        let error = KvStore::open_with(folder.path(), Options { limits, ..Options::default() }).unwrap_err();
        assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    }
}
