//! What the stories do to a store, and what they expect of it.

use kvs_engine::{KvStore, KvsEngine, Mutation};

use super::{Model, Random};

/// A key and its new value; `None` removes it.
pub(crate) type Change = (String, Option<String>);

/// Keys of one writer: few, so that they meet again.
pub(crate) const KEYS: u64 = 6;

/// The keys of a writer.
pub(crate) fn keys_of(writer: usize) -> impl Iterator<Item = String> {
    (0..KEYS).map(move |number| format!("{writer}/{number}"))
}

/// What a writer, whose keys nobody else changes, asks for next: a set, a removal of what is there, or a batch.
pub(crate) fn changes(writer: usize, random: &mut Random, model: &Model) -> Vec<Change> {
    let key = |random: &mut Random| format!("{writer}/{}", random.below(KEYS));
    let set = |random: &mut Random| (key(random), Some(format!("{} {}", random.next(), random.text(500))));
    match random.below(10) {
        0..=5 => vec![set(random)],
        6 | 7 => {
            let key = key(random);
            if model.contains_key(&key) { vec![(key, None)] } else { vec![set(random)] }
        }
        _ => {
            let mut changes = vec![set(random), set(random)];
            let removed = key(random);
            if changes.iter().all(|(key, _)| *key != removed) {
                changes.push((removed, None));
            }
            changes
        }
    }
}

/// Asks a store for changes: several are a batch.
pub(crate) fn ask(store: &KvStore, changes: &[Change]) -> kvs_engine::Result<()> {
    match changes {
        [(key, Some(value))] => store.set(key.as_str(), value.as_str()),
        [(key, None)] => store.remove(key.as_str()),
        _ => store.write_batch(changes.iter().map(mutation).collect()),
    }
}

fn mutation((key, value): &Change) -> Mutation {
    match value {
        Some(value) => Mutation::Set { key: key.clone().into(), value: value.clone().into() },
        None => Mutation::Remove { key: key.clone().into() },
    }
}

/// Does to a model what [`ask`] does to a store.
pub(crate) fn apply(model: &mut Model, changes: &[Change]) {
    for (key, value) in changes {
        match value {
            Some(value) => drop(model.insert(key.clone(), value.clone())),
            None => drop(model.remove(key)),
        }
    }
}

/// Everything that a store holds, of which the keys belong to so many writers.
pub(crate) fn contents(store: &KvStore, writers: usize) -> kvs_engine::Result<Model> {
    let mut found = Model::new();
    for key in (0..writers).flat_map(keys_of) {
        if let Some(value) = store.get(key.as_str())? {
            found.insert(key, String::from_utf8(value).expect("stories write text"));
        }
    }
    assert_eq!(store.stats().keys, found.len() as u64, "keys that no story has written");
    Ok(found)
}
