//! `until`: the one way to wait.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::failure::Failure;

/// How often a condition is looked at: often enough to cost a story nothing, rarely enough to cost the cluster nothing.
const POLL: Duration = Duration::from_millis(100);

/// What is seen while the condition does not hold yet.
#[derive(Debug)]
pub struct NotYet(pub String);

impl From<Failure> for NotYet {
    /// A call that fails may succeed at the next look; when it does not, the deadline tells of it.
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

/// Looks again and again until the condition holds, and returns what it found.
///
/// # Errors
/// [`Failure::Deadline`] with what was last seen.
pub async fn until<T>(
    awaited: impl Into<String>,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, NotYet>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + limit;
    let mut seen = "nothing: the first look got no answer".to_owned();
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(NotYet(instead))) => seen = instead,
            Err(_elapsed) => return Err(Failure::Deadline { awaited: awaited.into(), seen, limit }),
        }
        if Instant::now() + POLL >= deadline {
            return Err(Failure::Deadline { awaited: awaited.into(), seen, limit });
        }
        sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_found_is_returned() {
        let mut looks = 0;
        let found = until("three looks", Duration::from_secs(60), async || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(NotYet(format!("{looks} looks"))) }
        });
        assert_eq!(found.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_deadline_tells_what_was_last_seen() {
        let never = until("the end of days", Duration::from_millis(250), async || Err::<(), _>(NotYet("a day".into())));
        let failure = never.await.unwrap_err().to_string();
        assert_eq!(failure, "not within 0 s: the end of days; last seen: a day");
    }

    #[tokio::test]
    async fn a_look_that_hangs_ends_at_the_deadline_too() {
        let hangs = until("an answer", Duration::from_millis(50), std::future::pending::<Result<(), NotYet>>);
        assert!(matches!(hangs.await, Err(Failure::Deadline { .. })));
    }
}
