//! The clock of an open loop: hands requests to connections when they are due, whatever their answers do.

use std::rc::Rc;
use std::time::{Duration, Instant};

use super::lane::Lane;

/// The timer wakes up to a millisecond late; the last stretch is waited for awake.
const TIMER_GRAIN: Duration = Duration::from_millis(2);
/// The most requests of all connections that are due and not sent. Those beyond are counted and forgotten: the memory of
/// a machine that can't keep up is bounded, and its result says so.
const MAX_BACKLOG: usize = 1_000_000;

/// Hands out requests until the end; returns how many were due and found no room.
pub(super) async fn keep(rate: u64, begin: Instant, end: Instant, lanes: &[Rc<Lane>]) -> u64 {
    let due_at = |number: u64| {
        let nanoseconds = u128::from(number) * 1_000_000_000 / u128::from(rate);
        begin + Duration::from_nanos(u64::try_from(nanoseconds).expect("a benchmark lasts a day at most"))
    };
    let most = MAX_BACKLOG.div_ceil(lanes.len());
    let mut forgotten = 0;
    let mut turn = lanes.iter().cycle();
    for number in 0.. {
        let due = due_at(number);
        if due >= end {
            tokio::time::sleep_until(end.into()).await;
            break;
        }
        loop {
            let now = Instant::now();
            if now >= due {
                break;
            }
            if due - now > TIMER_GRAIN {
                tokio::time::sleep(due - now - TIMER_GRAIN / 2).await;
            } else {
                tokio::task::yield_now().await;
            }
        }
        let lane = turn.next().expect("there is a connection");
        if !lane.push_due(due, most) {
            forgotten += 1;
        }
        // A machine that is late must still let answers in.
        if number % 64 == 0 {
            tokio::task::yield_now().await;
        }
        if Instant::now() >= end {
            // A machine that was late to the end did not even come to these.
            let all = (number..).find(|number| due_at(number + 1) >= end).unwrap_or(number);
            forgotten += all - number;
            break;
        }
    }
    forgotten
}
