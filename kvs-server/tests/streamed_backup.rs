//! Backups over the wire: whole, checked, at the pace of who reads, and nobody else's burden.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kvs_engine::{KvStore, KvsEngine as _, Options, SyncPolicy};
use kvs_protocol::{Answer, BackupEnd, BackupPart, ErrorCode, Response};
use support::{Process, Wire, code_of, command, output, until};
use tempfile::tempdir;

/// Reads a backup into a folder, as a client would; gives its end.
fn receive(client: &mut Wire, folder: &Path) -> BackupEnd {
    let (mut files, mut bytes, mut checksum) = (0, 0, 0);
    let mut name = None;
    loop {
        let line = client.line().expect("a backup has an end");
        let response = Response::decode(line.as_bytes()).unwrap();
        match response.body.unwrap_or_else(|error| panic!("{error}")) {
            Answer::Part(BackupPart::File(next)) => {
                assert!(!next.contains('/'), "a name is no path");
                fs::write(folder.join(&next), b"").unwrap();
                files += 1;
                name = Some(next);
            }
            Answer::Part(BackupPart::Data(data)) => {
                let path = folder.join(name.as_ref().expect("data belongs to a file"));
                checksum = crc32c::crc32c_append(checksum, &data);
                bytes += data.len() as u64;
                let mut content = fs::read(&path).unwrap();
                content.extend(data);
                fs::write(&path, content).unwrap();
            }
            Answer::Part(BackupPart::End(end)) => {
                assert_eq!((end.files, end.bytes, end.crc32c), (files, bytes, checksum));
                return end;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Every entry of a store.
fn entries(folder: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let store = KvStore::open(folder).unwrap();
    let entries =
        store.entries("").map(|entry| entry.unwrap()).map(|entry| (entry.key, entry.value.unwrap())).collect();
    store.close().unwrap();
    entries
}

#[test]
fn a_backup_that_was_streamed_beside_writers_can_be_restored() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &[]);
    let mut client = Wire::connect(server.addr);
    // Some 20 MB in several segments, so that the stream is long.
    let value = "v".repeat(20_000);
    for number in 0..1_000 {
        client.send(format!("{{\"set\":{{\"key\":\"before-{number}\",\"value\":\"{value}\"}}}}\n"));
    }
    (0..1_000).for_each(|_| assert_eq!(client.line().unwrap(), r#"{"ok":null}"#));
    assert_eq!(client.ask(r#"{"rm":{"key":"before-7"}}"#), r#"{"ok":null}"#);

    let folder = here.path().join("backup");
    fs::create_dir(&folder).unwrap();
    let done = AtomicBool::new(false);
    let end = thread::scope(|scope| {
        let (done, addr) = (&done, server.addr);
        scope.spawn(move || {
            let mut writer = Wire::connect(addr);
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                writer.ask(&format!("{{\"set\":{{\"key\":\"during-{}\",\"value\":\"{number}\"}}}}", number % 100));
                number += 1;
            }
        });
        client.send("{\"backup\":{},\"id\":1}\n{\"get\":{\"key\":\"before-8\"},\"id\":2}\n");
        let end = receive(&mut client, &folder);
        done.store(true, Ordering::Relaxed);
        end
    });
    assert!(end.bytes > 15_000_000, "{end:?}");
    assert!(client.line().unwrap().ends_with("\"id\":2}"), "what came behind it is answered after it");
    server.stop();

    for arguments in
        [&["verify", "--data-dir", "backup"][..], &["restore", "--from", "backup", "--data-dir", "restored"]]
    {
        let (code, out, err) = output(command().current_dir(here.path()).args(arguments));
        assert_eq!(code, Some(0), "{arguments:?}: {out}{err}");
    }
    let restored = entries(&here.path().join("restored"));
    for number in 0..1_000 {
        let found = restored.get(format!("before-{number}").as_bytes());
        assert_eq!(found.is_some(), number != 7, "before-{number}");
    }
    // A byte that fell over on the way is found.
    let segment = folder.join("00000001.log");
    let mut bytes = fs::read(&segment).unwrap();
    let place = bytes.len() / 2;
    bytes[place] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let again = ["restore", "--from", "backup", "--data-dir", "again"];
    let (code, _, err) = output(command().current_dir(here.path()).args(again));
    assert_eq!(code, Some(65), "{err}");
}

#[test]
fn who_reads_no_backup_holds_up_nobody_and_little_memory() {
    const VALUE_BYTES: usize = 100_000;
    const VALUES: usize = 1_000;
    let here = tempdir().unwrap();
    // Filled by another process, as it were: memory that a server has used before would hide what it takes now.
    let options = Options { sync: SyncPolicy::Os, ..Options::default() };
    let store = KvStore::open_with(here.path().join("kvs"), options).unwrap();
    (0..VALUES).for_each(|number| store.set(format!("key-{number}"), vec![b'v'; VALUE_BYTES]).unwrap());
    store.close().unwrap();
    drop(store);
    let server = Process::start(here.path(), &["--sync", "os"]);
    let before = server.resident_bytes();
    let mut lazy = Wire::connect(server.addr);
    lazy.send("{\"backup\":{}}\n");
    assert!(lazy.line().unwrap().contains("\"file\""), "it has begun");
    let mut other = Wire::connect(server.addr);
    let (began, mut highest) = (Instant::now(), 0);
    // As long as a thread that nobody holds back would need several times over.
    while began.elapsed() < Duration::from_secs(2) {
        assert_eq!(other.ask(r#"{"set":{"key":"k","value":"v"}}"#), r#"{"ok":null}"#);
        highest = highest.max(server.resident_bytes());
    }
    assert_eq!(code_of(&other.ask(r#"{"backup":{}}"#)), "busy", "one at a time");
    let grown = highest.saturating_sub(before);
    assert!(
        grown < VALUE_BYTES * VALUES / 3,
        "100 MB are waiting to be read, and the server has grown by {grown} bytes"
    );
    drop(lazy);
    // Its thread ends with the part that it can't get rid of.
    until("another backup can be made", || {
        let mut client = Wire::connect(server.addr);
        client.send("{\"backup\":{}}\n");
        let line = client.line()?;
        (!line.contains(ErrorCode::Busy.as_str())).then_some(())
    });
    server.stop();
}

#[test]
fn an_engine_without_backups_says_what_to_do() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &["--engine", "sled"]);
    let line = Wire::connect(server.addr).ask(r#"{"backup":{},"id":"b"}"#);
    assert_eq!(code_of(&line), "not_supported");
    assert!(line.contains("scan it") && line.ends_with("\"id\":\"b\"}"), "{line}");
    server.stop();
}
