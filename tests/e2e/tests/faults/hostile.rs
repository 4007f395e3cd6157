//! An API server that refuses, loses, repeats and delays; and watches that come late, break off, or are too old.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kvs_e2e::namespace::Namespace;
use kvs_e2e::proxy::{Asked, Verdict};
use kvs_e2e::runner::Told;

use crate::ground::Ground;
use crate::is_torture;
use crate::lifetime::Undisturbed;

/// Lives in the short form.
const FEW: u64 = 2;
/// Lives in the long form, unless `KVS_SEEDS` says another number.
const MANY: u64 = 60;
/// Lives side by side.
const LIVES: usize = 4;

/// Whatever the API server does, every step ends as it does without. `KVS_SEED` repeats one life.
pub(super) async fn converges(namespace: Namespace) -> Told {
    let undisturbed = Undisturbed::get(&namespace).await?;
    let number = |variable: &str| std::env::var(variable).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("KVS_SEED") {
        Some(seed) => seed..seed + 1,
        None => 1..1 + number("KVS_SEEDS").unwrap_or(if is_torture() { MANY } else { FEW }),
    };
    let count = seeds.end - seeds.start;
    let told = stream::iter(seeds.map(|seed| {
        let namespace = &namespace;
        async move {
            let ground = Ground::new(namespace, &format!("hostile-s{seed}")).await?;
            let faults = Arc::new(AtomicU64::new(0));
            let dice = Dice { seed, asked: AtomicU64::new(0), faults: Arc::clone(&faults) };
            ground.proxy.judge(move |asked| dice.judge(asked));
            let told = undisturbed.again(&ground, || {}).await;
            if told.is_err() {
                eprintln!("    repeat it with KVS_SEED={seed}");
            }
            told?;
            let faults = faults.load(Ordering::Relaxed);
            assert!(faults >= 10, "seed {seed}: {faults} faults only");
            eprintln!("    seed {seed}: {faults} faults in {} requests", ground.proxy.asked().len());
            ground.leave().await
        }
    }));
    told.buffer_unordered(LIVES).try_collect::<Vec<()>>().await?;
    eprintln!("    {count} hostile lives");
    Ok(())
}

/// What is done to the n-th request follows from the seed alone.
struct Dice {
    seed: u64,
    asked: AtomicU64,
    faults: Arc<AtomicU64>,
}

impl Dice {
    fn judge(&self, asked: &Asked) -> Verdict {
        let number = self.asked.fetch_add(1, Ordering::Relaxed);
        let dice = mixed(self.seed.wrapping_mul(1_000_003).wrapping_add(number));
        let (throw, more) = (dice % 100, dice >> 32);
        let verdict = if asked.is_watch() {
            match throw {
                0..30 => Verdict::Watch {
                    delay: Duration::from_millis(more % 400),
                    end: Duration::from_millis(500 + more % 3000),
                },
                30..37 => Verdict::Gone,
                37..40 => Verdict::Refuse(500),
                40..43 => Verdict::LoseRequest,
                _ => Verdict::Pass,
            }
        } else if asked.is_write() {
            match throw {
                0..4 => Verdict::Refuse(409),
                4..7 => Verdict::Refuse(429),
                7..10 => Verdict::Refuse(500),
                10..14 => Verdict::LoseAnswer,
                14..17 => Verdict::Misreport(504),
                17..21 => Verdict::Twice,
                21..24 => Verdict::LoseRequest,
                24..27 if !asked.is_lease() => Verdict::KillAfter,
                _ => Verdict::Pass,
            }
        } else {
            match throw {
                0..4 => Verdict::Refuse(500),
                4..7 => Verdict::Refuse(429),
                7..10 => Verdict::LoseAnswer,
                _ => Verdict::Pass,
            }
        };
        if !matches!(verdict, Verdict::Pass) {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }
}

/// splitmix64 of Steele, Lea and Flood.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
