//! Scans: complete, once each, within the limits of a page, whatever is written meanwhile.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use kvs_engine::limits::{MAX_PAGE_BYTES, MAX_PAGE_KEYS};
use kvs_engine::{Cursor, Entry, Error, KvsEngine, Scan};

use crate::fixture::Fixture;
use crate::pipeline::{Pipeline, batch_remove, batch_set, set};

/// All entries of a scan, which must not hold a key twice.
fn all(engine: &impl KvsEngine, mut scan: Scan) -> BTreeMap<Vec<u8>, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    loop {
        let page = engine.scan(&scan).unwrap();
        for Entry { key, value } in page.entries {
            assert!(key.starts_with(&scan.prefix), "{key:?} does not begin with {:?}", scan.prefix);
            assert_eq!(found.insert(key.clone(), value), None, "{key:?} was found twice");
        }
        match page.next {
            Some(next) => scan.after = Some(next),
            None => return found,
        }
    }
}

pub(crate) fn a_scan_finds_every_key_with_its_prefix_once<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    assert!(all(&engine, Scan::default()).is_empty());
    let mut model = BTreeMap::new();
    let mut pipeline = Pipeline::new(&engine);
    for number in 0..3_000_u32 {
        let (key, value) = (format!("{}/{number}", ["user", "order", "us"][number as usize % 3]), format!("{number}"));
        pipeline.submit(set(key.as_str(), value.as_str()));
        model.insert(key.into_bytes(), value.into_bytes());
    }
    assert!(pipeline.finish().iter().all(Result::is_ok));
    for (key, value) in [(&b""[..], &b"under the empty key"[..]), (b"\xff\xff", b"\0\xff"), (b"use\"r\n", b"")] {
        engine.set(key, value).unwrap();
        model.insert(key.to_vec(), value.to_vec());
    }
    engine.remove("user/3").unwrap();
    model.remove(&b"user/3"[..]);
    engine.write_batch(vec![batch_set("user/a", "1"), batch_set("user/b", "2"), batch_remove("user/6")]).unwrap();
    model.extend([(b"user/a".to_vec(), b"1".to_vec()), (b"user/b".to_vec(), b"2".to_vec())]);
    model.remove(&b"user/6"[..]);

    for prefix in [&b""[..], b"us", b"user/", b"user/2999", b"\xff", b"nobody"] {
        for (max_keys, values) in [(1_000, true), (7, false), (10_000, true)] {
            let scan = Scan { prefix: prefix.to_vec(), max_keys, values, ..Scan::default() };
            let wanted: BTreeMap<_, _> = model
                .iter()
                .filter(|(key, _)| key.starts_with(prefix))
                .map(|(key, value)| (key.clone(), values.then(|| value.clone())))
                .collect();
            assert_eq!(all(&engine, scan), wanted, "{prefix:?}, {max_keys} a page");
        }
    }
    let entries: BTreeMap<_, _> =
        engine.entries("user/").map(|entry| entry.unwrap()).map(|entry| (entry.key, entry.value.unwrap())).collect();
    assert_eq!(entries.len(), 1_000, "1,000 of them, less two, and two more");
}

pub(crate) fn a_page_keeps_its_limits<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    for number in 0..50 {
        engine.set(format!("key-{number:02}"), vec![b'v'; 100]).unwrap();
    }
    engine.set("large", vec![b'v'; 10_000]).unwrap();
    let mut scan = Scan { max_bytes: 1_000, ..Scan::default() };
    let mut seen = 0;
    loop {
        let page = engine.scan(&scan).unwrap();
        let bytes: usize = page.entries.iter().map(|entry| entry.key.len() + entry.value.as_ref().unwrap().len()).sum();
        assert!(bytes <= 1_000 || page.entries.len() == 1, "{} entries of {bytes} bytes", page.entries.len());
        seen += page.entries.len();
        let Some(next) = page.next else { break };
        scan.after = Some(next);
    }
    assert_eq!(seen, 51, "what is larger than a page is a page");
    let page = engine.scan(&Scan { max_keys: 0, ..Scan::default() }).unwrap();
    assert_eq!(page.entries.len(), 1, "a scan always goes on");
    let page = engine.scan(&Scan { max_keys: 20, ..Scan::default() }).unwrap();
    assert_eq!((page.entries.len(), page.next.is_some()), (20, true));

    for (scan, limit) in [
        (Scan { max_keys: MAX_PAGE_KEYS + 1, ..Scan::default() }, "page keys"),
        (Scan { max_bytes: MAX_PAGE_BYTES + 1, ..Scan::default() }, "page"),
    ] {
        let error = engine.scan(&scan).unwrap_err();
        assert!(matches!(error, Error::TooLarge { what, .. } if what == limit), "{error}");
    }
    assert!(engine.scan(&Scan { max_keys: MAX_PAGE_KEYS, max_bytes: MAX_PAGE_BYTES, ..Scan::default() }).is_ok());
}

pub(crate) fn a_cursor_travels_as_text_and_a_foreign_one_is_refused<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    for key in ["a", "b", "\u{1f600}"] {
        engine.set(key, "value").unwrap();
    }
    let first = engine.scan(&Scan { max_keys: 1, ..Scan::default() }).unwrap();
    let cursor = first.next.expect("there are more");
    let text = cursor.to_string();
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{text}");
    assert_eq!(text.parse::<Cursor>().unwrap(), cursor);
    assert_eq!(Cursor::from_bytes(cursor.as_bytes()), cursor);
    let mut cursors = vec![text.parse().unwrap()];
    // Where cursors can be numbers, those mean the same.
    if let Some(number) = cursor.to_number() {
        assert_ne!(number, 0, "zero begins a scan in protocols that have numbers");
        cursors.push(Cursor::from_number(number));
        let foreign = Scan { after: Some(Cursor::from_number(number ^ 1 << 50)), ..Scan::default() };
        assert!(matches!(engine.scan(&foreign), Err(Error::WrongCursor)));
    }
    for after in cursors {
        let rest = all(&engine, Scan { after: Some(after), ..Scan::default() });
        assert_eq!(rest.len(), 2);
        assert!(!rest.contains_key(&first.entries[0].key));
    }

    for bytes in [&b""[..], b"x", b"\0\0\0\0", b"h12345", b"hxxxxyyzzzzz"] {
        let scan = Scan { after: Some(Cursor::from_bytes(bytes)), ..Scan::default() };
        assert!(matches!(engine.scan(&scan), Err(Error::WrongCursor)), "{bytes:?}");
    }
    assert!(matches!("not base64!".parse::<Cursor>(), Err(Error::WrongCursor)));
}

/// Some keys stay as they are, while others come, go and change so fast that the store grows and compacts.
pub(crate) fn keys_that_stay_are_found_exactly_once_among_writers<F: Fixture>() {
    const STAY: usize = 400;
    let fixture = F::new();
    let engine = fixture.open();
    let mut pipeline = Pipeline::new(&engine);
    for number in 0..STAY {
        pipeline.submit(set(format!("stays/{number}"), format!("value {number}")));
    }
    assert!(pipeline.finish().iter().all(Result::is_ok));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..2_u32 {
            let (engine, done) = (engine.clone(), &done);
            scope.spawn(move || {
                for round in 0..10_000_u32 {
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                    let batch = (0..60).map(|number| match (number + round) % 3 {
                        0 => batch_remove(format!("goes/{writer}/{number}")),
                        1 => batch_set(format!("goes/{writer}/{number}"), format!("{round}")),
                        _ => batch_set(format!("comes/{writer}/{}", round * 60 + number), "value"),
                    });
                    engine.write_batch(batch.collect()).unwrap();
                }
            });
        }
        for max_keys in [1_000, 100, 37, 10_000, 500] {
            let found = all(&engine, Scan { max_keys, ..Scan::default() });
            for number in 0..STAY {
                let value = found.get(format!("stays/{number}").as_bytes());
                assert_eq!(value, Some(&Some(format!("value {number}").into_bytes())), "stays/{number}");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// A scan shows of each key a value that it had while the scan ran: never an older one, and never half of one.
pub(crate) fn a_scan_shows_whole_values_of_the_newest_kind<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    for round in 0..4_u8 {
        let mut pipeline = Pipeline::new(&engine);
        for number in 0..200_u32 {
            pipeline.submit(set(format!("key-{number}"), vec![round; 700]));
        }
        assert!(pipeline.finish().iter().all(Result::is_ok));
        let found = all(&engine, Scan { prefix: b"key-".to_vec(), ..Scan::default() });
        assert_eq!(found.len(), 200);
        assert!(found.into_values().all(|value| value == Some(vec![round; 700])), "round {round}");
    }
}
