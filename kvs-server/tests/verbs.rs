//! The verbs on the command line, with real processes: what they print, how they end, what they leave alone.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kvs_engine::{KvStore, KvsEngine as _, Mutation};
use serde_json::Value;
use support::{Process, Wire, command, output};
use tempfile::{TempDir, tempdir};

/// Runs a verb; gives exit code, standard output and standard error.
fn verb(here: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    output(command().current_dir(here).args(arguments))
}

/// Runs a verb that must end well; gives what it printed.
fn well(here: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = verb(here, arguments);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}: {out}");
    out
}

/// A folder with a closed store of some keys in `./kvs`.
fn with_store() -> TempDir {
    let here = tempdir().unwrap();
    let store = KvStore::open(here.path().join("kvs")).unwrap();
    for number in 0..20 {
        store.set(format!("key-{number:02}"), format!("value {number}")).unwrap();
    }
    store.set("key-00", "newer").unwrap();
    store.remove("key-01").unwrap();
    store.set(b"\xff\x00".to_vec(), b"\x80".to_vec()).unwrap();
    store.set("line\n\"quoted\"", "\u{1f600}\\").unwrap();
    store.write_batch(vec![Mutation::Set { key: "batch".into(), value: "1".into() }]).unwrap();
    store.close().unwrap();
    here
}

fn lines(text: &str) -> BTreeMap<String, Value> {
    text.lines().map(|line| (line.to_owned(), serde_json::from_str(line).unwrap())).collect()
}

/// Flips the bit of a byte in the one segment behind a text.
fn damage(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("00000001.log");
    let mut bytes = fs::read(&path).unwrap();
    let place = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    bytes[place + text.len()] ^= 1;
    fs::write(&path, bytes).unwrap();
    path
}

/// Every file of a folder with its bytes.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

#[test]
fn help_names_every_verb_and_each_has_its_own() {
    let here = tempdir().unwrap();
    let help = well(here.path(), &["--help"]);
    for name in ["verify", "repair", "backup", "restore", "dump", "scan", "stats", "flush"] {
        assert!(help.contains(&format!("\n  {name}")), "{name} is missing in {help}");
        assert!(well(here.path(), &[name, "--help"]).contains("--data-dir"), "{name}");
    }
    let (code, out, err) = verb(here.path(), &["verify", "--frob"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.starts_with("kvs-server: unexpected argument '--frob'") && err.lines().count() == 1, "{err}");
}

#[test]
fn a_sound_store_is_verified_and_left_as_it_is() {
    let here = with_store();
    let before = contents(&here.path().join("kvs"));
    let out = well(here.path(), &["verify"]);
    assert!(out.starts_with("sound: ") && out.contains("25 intact records"), "{out}");
    let report: Value = serde_json::from_str(&well(here.path(), &["verify", "--json", "--data-dir", "kvs"])).unwrap();
    assert_eq!((&report["sound"], &report["records"]), (&true.into(), &25.into()));
    let out = well(here.path(), &["repair", "--dry-run"]);
    assert!(out.starts_with("would save: 22 keys, from 25 intact records; nothing was written"), "{out}");
    assert_eq!(contents(&here.path().join("kvs")), before, "nothing was written");
}

#[test]
fn damage_is_found_said_and_repaired_into_a_new_folder() {
    let here = with_store();
    // An old value that was overwritten, the value of a key that was removed, and the removal.
    for text in [r#""key-00","value":"value 0"#, r#""key-01","value":"value 1"#, r#"{"rm":{"key":"key-01""#] {
        damage(&here.path().join("kvs"), text);
    }
    let before = contents(&here.path().join("kvs"));
    let (code, out, err) = verb(here.path(), &["verify"]);
    assert_eq!((code, err.as_str()), (Some(65), ""));
    // The two sets stand side by side: one damaged place.
    assert_eq!(out.lines().filter(|line| line.starts_with("damaged: ./kvs/00000001.log at byte")).count(), 2, "{out}");
    assert!(out.contains("restore a backup"), "{out}");
    let report: Value = serde_json::from_str(&verb(here.path(), &["verify", "--json"]).1).unwrap();
    assert_eq!(report["findings"].as_array().unwrap().len(), 2);

    let (code, out, _) = verb(here.path(), &["repair"]);
    assert_eq!(code, Some(65));
    for said in [
        r#"a value of "key-00": a newer record is intact, nothing is lost"#,
        r#"a value of "key-01": the key will be missing"#,
        r#"a removal of "key-01": "#,
        "nothing was written, --to DIR saves them",
    ] {
        assert!(out.contains(said), "{said} is missing in {out}");
    }
    let (code, out, _) = verb(here.path(), &["repair", "--to", "saved", "--json"]);
    assert_eq!(code, Some(65), "something is lost");
    let repaired: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&repaired["repaired"]["keys"], &repaired["savedKeys"]), (&22.into(), &22.into()));
    assert_eq!(contents(&here.path().join("kvs")), before, "the damaged folder is left as it is");

    assert!(well(here.path(), &["verify", "--data-dir", "saved"]).starts_with("sound: "));
    let dump = well(here.path(), &["dump", "--data-dir", "saved"]);
    assert!(dump.contains(r#"{"key":"key-00","value":"newer"}"#) && !dump.contains("key-01"), "{dump}");
    let (code, salvaged, _) = verb(here.path(), &["dump", "--salvage"]);
    assert_eq!((code, lines(&salvaged)), (Some(65), lines(&dump)), "the same without a new folder");
    let (code, _, err) = verb(here.path(), &["repair", "--to", "saved"]);
    assert!(code == Some(1) && err.contains("is not empty"), "{err}");
}

#[test]
fn a_repairs_report_fits_where_kubernetes_keeps_it() {
    let here = with_store();
    let report = here.path().join("report");
    let repair =
        |folder: &str| verb(here.path(), &["repair", "--dry-run", "--data-dir", folder, "--termination-log", "report"]);
    assert_eq!(repair("kvs").0, Some(0));
    let said: Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!((&said["savedKeys"], &said["losses"]), (&22.into(), &serde_json::json!([])));

    // Every second one, so that each is a place of its own.
    for number in (0..20).step_by(2) {
        damage(&here.path().join("kvs"), &format!(r#""key-{number:02}","value":"value {number}"#));
    }
    assert_eq!(repair("kvs").0, Some(65));
    let text = fs::read_to_string(&report).unwrap();
    let said: Value = serde_json::from_str(&text).unwrap();
    let (listed, left_out) = (said["losses"].as_array().unwrap().len(), said["lossesLeftOut"].as_u64().unwrap_or(0));
    assert!(text.len() <= 4096 && listed > 0, "{} bytes", text.len());
    let all: Value = serde_json::from_str(&verb(here.path(), &["repair", "--json"]).1).unwrap();
    assert_eq!(
        u64::try_from(listed).unwrap() + left_out,
        u64::try_from(all["losses"].as_array().unwrap().len()).unwrap()
    );

    assert_eq!(repair("nobody").0, Some(2));
    assert!(fs::read_to_string(&report).unwrap().starts_with("configuration: nobody is no folder"));
}

#[test]
fn a_backup_is_made_verified_restored_and_guarded() {
    let here = with_store();
    let out = well(here.path(), &["backup", "--to", "backup"]);
    assert!(out.starts_with("backed up to backup: 25 records up to sequence 25"), "{out}");
    assert!(well(here.path(), &["verify", "--data-dir", "backup"]).starts_with("sound: "));
    let out = well(here.path(), &["restore", "--from", "backup", "--data-dir", "restored"]);
    assert!(out.starts_with("restored into restored: 25 records up to sequence 25"), "{out}");
    let dump = |folder: &str| lines(&well(here.path(), &["dump", "--data-dir", folder]));
    assert_eq!(dump("restored"), dump("kvs"));

    let (code, _, err) = verb(here.path(), &["restore", "--from", "backup", "--data-dir", "kvs"]);
    assert!(code == Some(1) && err.contains("is not empty"), "{err}");
    damage(&here.path().join("backup"), r#"value":"value 7"#);
    assert_eq!(verb(here.path(), &["verify", "--data-dir", "backup"]).0, Some(65));
    let (code, _, err) = verb(here.path(), &["restore", "--from", "backup", "--data-dir", "again"]);
    assert!(code == Some(65) && err.contains("backup/00000001.log"), "{code:?} {err}");
    let (code, _, err) = verb(here.path(), &["restore", "--from", "kvs", "--data-dir", "again"]);
    assert!(code == Some(1) && err.contains("holds no backup"), "{err}");
    assert!(!here.path().join("again").exists() && !here.path().join("again.restoring").exists(), "nothing is left");
}

#[test]
fn a_repaired_store_takes_the_place_of_the_damaged_one() {
    let here = with_store();
    let (kvs, damaged) = (here.path().join("kvs"), here.path().join("kvs.damaged"));
    assert!(well(here.path(), &["repair", "--replace"]).contains("nothing was written"), "it is sound");
    damage(&kvs, r#""key-05","value":"value 5"#);
    fs::write(kvs.join("identity.json"), IDENTITY).unwrap();
    let before = contents(&kvs);
    // What a killed run left.
    fs::create_dir(here.path().join("kvs.repairing")).unwrap();
    fs::write(here.path().join("kvs.repairing/00000001.log"), "half").unwrap();
    let (code, out, err) = verb(here.path(), &["repair", "--replace"]);
    assert_eq!(code, Some(65), "something is lost: {err}");
    assert!(out.contains("key-05") && out.contains("saved: 21 keys into ./kvs"), "{out}");
    let kept = contents(&damaged);
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| {
        files.iter().map(|(path, bytes)| (path.file_name().unwrap().to_owned(), bytes.clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&kept), names(&before), "the damaged data is whole");
    assert!(well(here.path(), &["verify"]).starts_with("sound: "));
    assert_eq!(fs::read_to_string(kvs.join("identity.json")).unwrap(), IDENTITY, "the store is who it was");

    // Killed between the two names: the next run finishes it.
    fs::rename(&damaged, here.path().join("kvs.repairing")).unwrap();
    well(here.path(), &["repair", "--replace"]);
    assert_eq!(contents(&damaged).len(), before.len());
    damage(&kvs, r#""key-06","value":"value 6"#);
    let (code, _, err) = verb(here.path(), &["repair", "--replace"]);
    assert!(code == Some(2) && err.contains("kvs.damaged") && err.contains("earlier repair"), "{err}");
}

const IDENTITY: &str = "{\"version\":1,\"engine\":\"kvs\",\"storeId\":\"00\",\"nodeId\":\"01\"}";

#[test]
fn a_restore_that_was_cut_off_begins_anew_and_one_that_ended_is_known_again() {
    let here = with_store();
    let restore = ["restore", "--from", "backup", "--data-dir", "volume/data", "--store", "shop/copy"];
    well(here.path(), &["backup", "--to", "backup"]);
    // What a killed restore leaves: everything but the last step.
    fs::create_dir_all(here.path().join("volume/data.restoring")).unwrap();
    fs::write(here.path().join("volume/data.restoring/00000001.log"), "half").unwrap();
    assert!(well(here.path(), &restore).starts_with("restored into volume/data: 25 records"));
    let identity = fs::read_to_string(here.path().join("volume/data/identity.json")).unwrap();
    assert!(identity.contains(r#""store":"shop/copy""#), "{identity}");
    assert_eq!(fs::read_dir(here.path().join("volume")).unwrap().count(), 1);

    let store = KvStore::open(here.path().join("volume/data")).unwrap();
    store.set("since", "then").unwrap();
    store.close().unwrap();
    assert!(well(here.path(), &restore).starts_with("nothing was done: this backup made volume/data before"));
    assert!(well(here.path(), &["dump", "--data-dir", "volume/data"]).contains("since"));
    assert!(well(here.path(), &["verify", "--data-dir", "volume/data"]).starts_with("sound: "), "the note is known");

    // Another backup is another one, also of the same store.
    well(here.path(), &["backup", "--data-dir", "volume/data", "--to", "other"]);
    let (code, _, err) = verb(here.path(), &["restore", "--from", "other", "--data-dir", "volume/data"]);
    assert!(code == Some(1) && err.contains("is not empty"), "{err}");
}

/// The checksums beside a backup, and the sum of these, which somebody else keeps.
#[test]
fn a_backup_whose_checksums_do_not_fit_is_not_restored() {
    let here = with_store();
    well(here.path(), &["backup", "--to", "backup"]);
    let shell = |script: &str| {
        let output = std::process::Command::new("sh").arg("-c").arg(script).current_dir(here.path()).output().unwrap();
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    shell("sha256sum backup/* | grep -v LOCK > backup.sha256");
    let sum = shell("sha256sum backup.sha256")[..64].to_owned();
    let restore = ["restore", "--from", "backup", "--data-dir", "data", "--sha256", &sum, "--termination-log", "end"];
    let refused = |what: &str| {
        let (code, out, err) = verb(here.path(), &restore);
        assert_eq!((code, out.as_str()), (Some(65), ""), "{err}");
        assert!(err.contains(what) && err.contains("nothing was restored"), "{what}: {err}");
        assert!(!here.path().join("data").exists());
        assert!(fs::read_to_string(here.path().join("end")).unwrap().starts_with("backupDamaged: "));
    };
    shell("mv backup.sha256 elsewhere");
    refused("the checksums of the backup are missing");
    shell("sed s/00000001.log/00000002.log/ elsewhere > backup.sha256");
    refused("want ");
    shell("cp elsewhere backup.sha256; cp backup/BACKUP list; echo >> backup/BACKUP");
    refused("backup/BACKUP: it has SHA-256");
    shell("mv list backup/BACKUP");
    well(here.path(), &restore);
    shell("rm -r backup backup.sha256");
    assert!(
        well(here.path(), &restore).starts_with("nothing was done"),
        "whoever has the sum needs no backup any more"
    );
    let (code, _, err) = verb(here.path(), &["restore", "--from", "b", "--data-dir", "d", "--sha256", "ABC"]);
    assert!(code == Some(2) && err.contains("64 lower-case"), "{err}");
}

#[test]
fn a_damaged_identity_is_damage() {
    let here = with_store();
    fs::write(here.path().join("kvs/identity.json"), "{\"version\":1").unwrap();
    let (code, _, err) = verb(here.path(), &["verify"]);
    assert!(code == Some(65) && err.contains("identity.json"), "{code:?} {err}");
}

/// The identity goes with the backup: a restored store is the same one.
#[test]
fn a_server_serves_what_was_restored() {
    let here = tempdir().unwrap();
    let server = Process::start(here.path(), &["--store", "default/a"]);
    let mut client = Wire::connect(server.addr);
    assert_eq!(client.ask(r#"{"set":{"key":"k","value":"v"}}"#), r#"{"ok":null}"#);
    for arguments in
        [&["verify"][..], &["repair"], &["backup", "--to", "b"], &["dump"], &["scan"], &["stats"], &["flush"]]
    {
        let (code, out, err) = verb(here.path(), arguments);
        assert_eq!((code, out.as_str()), (Some(1), ""), "{arguments:?}");
        assert!(err.contains("in use by another process; stop it"), "{arguments:?}: {err}");
    }
    assert_eq!(client.ask(r#"{"get":{"key":"k"}}"#), r#"{"ok":"v"}"#, "the server goes on");
    drop(client);
    server.stop();
    well(here.path(), &["backup", "--to", "b"]);
    well(here.path(), &["restore", "--from", "b", "--data-dir", "r"]);
    let identity = |folder: &str| fs::read_to_string(here.path().join(folder).join("identity.json")).unwrap();
    assert_eq!(identity("r"), identity("kvs"));
    let server = Process::start(here.path(), &["--store", "default/a", "--data-dir", "r"]);
    assert_eq!(Wire::connect(server.addr).ask(r#"{"get":{"key":"k"}}"#), r#"{"ok":"v"}"#);
}

#[test]
fn dump_scan_stats_and_flush_work_on_both_engines() {
    for engine in ["kvs", "sled"] {
        let here = tempdir().unwrap();
        let server = Process::start(here.path(), &["--engine", engine]);
        let mut client = Wire::connect(server.addr);
        for (key, value) in [("a", "1"), ("b", "\\u00e9"), ("ab", "\\n")] {
            client.ask(&format!(r#"{{"set":{{"key":"{key}","value":"{value}"}}}}"#));
        }
        client.ask(r#"{"set":{"key64":"/w==","value64":"gA=="}}"#);
        drop(client);
        server.stop();
        let dump: Vec<String> = lines(&well(here.path(), &["dump"])).into_keys().collect();
        let all = [
            r#"{"key":"a","value":"1"}"#,
            r#"{"key":"ab","value":"\n"}"#,
            "{\"key\":\"b\",\"value\":\"\u{e9}\"}",
            r#"{"key64":"/w==","value64":"gA=="}"#,
        ];
        assert_eq!(dump, all, "{engine}");
        assert_eq!(lines(&well(here.path(), &["dump", "--prefix", "a"])).len(), 2);
        assert_eq!(well(here.path(), &["scan", "--prefix", "ab"]), "{\"key\":\"ab\"}\n");
        assert_eq!(well(here.path(), &["scan", "--values", "--limit", "3"]).lines().count(), 3);
        assert!(well(here.path(), &["flush"]).starts_with("durable; 0 bytes"));
        let stats: Value = serde_json::from_str(&well(here.path(), &["stats", "--json"])).unwrap();
        assert_eq!(stats["keys"], if engine == "kvs" { 4 } else { 0 }, "{engine}");
        assert!(well(here.path(), &["stats"]).contains("diskBytes: "));
        assert_eq!(verb(here.path(), &["verify"]).0, Some(0), "{engine}");
    }
}

/// As with `kvs-server dump | head -1`.
#[test]
fn who_reads_no_further_is_no_failure() {
    let here = with_store();
    let mut child = command()
        .current_dir(here.path())
        .arg("dump")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_folder_without_a_store_is_named_and_nothing_is_made() {
    let here = tempdir().unwrap();
    fs::create_dir(here.path().join("empty")).unwrap();
    for name in ["verify", "repair", "dump", "scan", "stats", "flush"] {
        for folder in ["missing", "empty"] {
            let (code, out, err) = verb(here.path(), &[name, "--data-dir", folder]);
            assert!(code.is_some_and(|code| code == 1 || code == 2) && out.is_empty(), "{name} {folder}: {code:?}");
            assert!(err.contains(folder) && err.contains("--data-dir"), "{name} {folder}: {err}");
        }
    }
    assert!(!here.path().join("missing").exists());
    assert_eq!(
        fs::read_dir(here.path().join("empty"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() != "LOCK")
            .count(),
        0
    );
}

/// A variable that is meant for the server does no harm to a verb, and names its folder too.
#[test]
fn variables_of_the_server_count_for_verbs() {
    let here = with_store();
    let mut command = command();
    command.current_dir(here.path()).envs([("KVS_DATA_DIR", "kvs"), ("KVS_POOL", "rayon")]).arg("verify");
    let (code, out, err) = output(&mut command);
    assert!(code == Some(0) && out.starts_with("sound: "), "{out}{err}");
}
