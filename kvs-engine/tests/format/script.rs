//! The script of FORMAT.md, in another language, agrees with the engine about real segments: so the document is right.
//! Needs `python3`, which Debian has in the package of that name.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::fixture;
use crate::upgrade::folder_of;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/format/verify.py");

/// Flips every bit of a segment in turn, in one process, and counts how many the script refuses.
const FLIP_EVERY_BIT: &str = r#"
import sys
source = open(sys.argv[2]).read().rsplit("\n", 2)[0]
exec(source)
data = bytearray(open(sys.argv[1], "rb").read())
verify(bytes(data), False)
refused = 0
for bit in range(len(data) * 8):
    data[bit // 8] ^= 1 << bit % 8
    try:
        verify(bytes(data), False)
        print("bit", bit, "was accepted")
    except AssertionError:
        refused += 1
    data[bit // 8] ^= 1 << bit % 8
print(refused, "of", len(data) * 8)
"#;

fn python(arguments: &[&str]) -> Output {
    Command::new("python3").args(arguments).output().expect("python3 is installed (apt-get install python3)")
}

fn accepts(segment: &Path, compacted: bool) -> Result<(), String> {
    let output = python(&[SCRIPT, segment.to_str().expect("text"), if compacted { "compacted" } else { "appended" }]);
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
fn the_document_shows_the_script_word_for_word() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../FORMAT.md")).expect("FORMAT.md");
    let script = fs::read_to_string(SCRIPT).expect("the script");
    assert!(document.contains(&format!("```python\n{script}```\n")), "FORMAT.md shows another script than {SCRIPT}");
    assert_eq!(script.lines().count(), 20);
}

/// Segments of a store that was killed: compacted, sealed, and with zeros behind its records.
#[test]
fn the_script_accepts_what_the_engine_wrote() {
    let (disk, _) = fixture::write();
    let written = tempfile::tempdir().expect("a temporary folder");
    for name in kvs_engine::storage::Storage::list(&disk).expect("in memory") {
        fs::write(written.path().join(&name), fixture::content_of(&disk, &name)).expect("a writable folder");
    }
    for folder in [written.path(), &folder_of("format-1"), &folder_of("format-2")] {
        let manifest = fs::read(folder.join("MANIFEST")).expect("a manifest");
        let manifest: serde_json::Value = serde_json::from_slice(&manifest[40..]).expect("JSON");
        let segments = manifest["manifest"]["segments"].as_array().expect("a list");
        assert!(segments.len() >= 4, "{} segments", segments.len());
        for entry in segments {
            let path = folder.join(format!("{:08}.log", entry["id"].as_u64().expect("a number")));
            accepts(&path, entry["sealed"]["compacted_at"].is_u64())
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
    }
}

#[test]
fn the_script_refuses_every_flipped_bit_and_every_missing_record() {
    let (disk, _) = fixture::write();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("00000001.log");
    let manifest = fixture::manifest_of(&disk);
    let entries = manifest["segments"].as_array().expect("a list");
    // The last one with records: the header, a few records, and zeros, which I shorten to keep the test short.
    let open = entries.iter().find(|entry| entry.get("sealed").is_none()).expect("one takes appends");
    let bytes = fixture::content_of(&disk, &format!("{:08}.log", open["id"].as_u64().expect("a number")));
    let ends: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place] == b'\n').map(|place| place + 1).collect();
    assert!(ends.len() > 4, "only {} lines", ends.len());
    let used = *ends.last().expect("there are lines");
    let keep = ends[0]..ends[ends.len() - 5];
    let short = [&bytes[..keep.start], &bytes[keep.end..used], &[0; 64]].concat();
    fs::write(&path, &short).expect("a writable folder");
    let output = python(&["-c", FLIP_EVERY_BIT, path.to_str().expect("text"), SCRIPT]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let all = short.len() * 8;
    assert_eq!(said, format!("{all} of {all}\n"), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(all > 4_000, "only {all} bits");

    accepts(&path, false).expect("as it was written");
    let without_one = [&bytes[..ends[1]], &bytes[ends[2]..used]].concat();
    fs::write(&path, without_one).expect("a writable folder");
    assert!(accepts(&path, false).expect_err("a record is missing").contains("a record is missing"));
    accepts(&path, true).expect("a compaction leaves gaps");
}
