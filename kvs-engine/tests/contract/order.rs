//! What one thread may rely on when it submits without waiting.

use kvs_engine::{Error, KvsEngine as _, Operation, Outcome};

use crate::fixture::Fixture;
use crate::pipeline::{Pipeline, batch_remove, batch_set, get, remove, set};

pub(crate) fn submits_of_one_thread_take_effect_in_order<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let mut pipeline = Pipeline::new(&engine);
    for number in 0..2_000_u32 {
        pipeline.submit(set(format!("key {}", number % 7), number.to_string()));
    }
    for answer in pipeline.finish() {
        assert_eq!(answer.unwrap(), Outcome::Done);
    }
    for key in 0..7_u32 {
        let newest = (0..2_000_u32).rev().find(|number| number % 7 == key).expect("each key was written");
        assert_eq!(engine.get(format!("key {key}")).unwrap(), Some(newest.to_string().into_bytes()));
    }
}

pub(crate) fn a_pipeline_reads_its_own_writes<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let mut pipeline = Pipeline::new(&engine);
    for number in 0..500_u32 {
        pipeline.submit(set("key", number.to_string()));
        pipeline.submit(get("key"));
        pipeline.submit(Operation::Batch(vec![batch_remove("key"), batch_set("other", number.to_string())]));
        pipeline.submit(get("key"));
        pipeline.submit(get("other"));
    }
    let answers = pipeline.finish();
    for (number, answers) in answers.chunks(5).enumerate() {
        let value = Outcome::Value(Some(number.to_string().into_bytes()));
        let expected = [Outcome::Done, value.clone(), Outcome::Done, Outcome::Value(None), value];
        for (answer, expected) in answers.iter().zip(expected) {
            assert_eq!(*answer.as_ref().unwrap(), expected, "round {number}");
        }
    }
}

pub(crate) fn a_pipeline_decides_removals_in_order<F: Fixture>() {
    let fixture = F::new();
    let engine = fixture.open();
    let mut pipeline = Pipeline::new(&engine);
    for _ in 0..300 {
        pipeline.submit(set("key", "value"));
        pipeline.submit(remove("key"));
        pipeline.submit(remove("key"));
        pipeline.submit(get("key"));
    }
    for (round, answers) in pipeline.finish().chunks(4).enumerate() {
        assert!(matches!(answers[0], Ok(Outcome::Done)), "round {round}: set");
        assert!(matches!(answers[1], Ok(Outcome::Done)), "round {round}: first removal");
        assert!(matches!(answers[2], Err(Error::KeyNotFound)), "round {round}: second removal");
        assert!(matches!(answers[3], Ok(Outcome::Value(None))), "round {round}: get");
    }
}
