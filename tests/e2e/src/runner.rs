//! The runner: stories in acts, each act's side by side, and a report.
//!
//! What must hold: one story's failure, a panic included, ends no other; what failed is told with its diagnosis as soon
//! as it failed, and its cause once more at the end.

use std::any::Any;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures::future::LocalBoxFuture;
use futures::{FutureExt as _, StreamExt as _, stream};
use tokio::time::timeout;

use crate::cluster::Cluster;
use crate::diagnosis;
use crate::failure::Failure;
use crate::namespace::Namespace;

/// The longest that a story may take unless it says otherwise: none takes half of it on the slowest machine seen.
const STORY_LIMIT: Duration = Duration::from_secs(360);

/// The longest that the diagnosis of a failed story may take.
const DIAGNOSIS_LIMIT: Duration = Duration::from_secs(60);

/// What a story returns.
pub type Told = Result<(), Failure>;

/// A story: what must hold on a real cluster.
pub struct Story {
    name: &'static str,
    /// The namespace that it makes and leaves; any other story gets one of its own that goes with it.
    lasting: Option<&'static str>,
    /// The longest that it may take.
    limit: Duration,
    tell: Box<dyn Fn(Namespace) -> LocalBoxFuture<'static, Told>>,
}

impl Story {
    /// A story with a name that says what must hold.
    pub fn new<F>(name: &'static str, tell: impl Fn(Namespace) -> F + 'static) -> Self
    where
        F: Future<Output = Told> + 'static,
    {
        Self { name, lasting: None, limit: STORY_LIMIT, tell: Box::new(move |namespace| tell(namespace).boxed_local()) }
    }

    /// Makes this story the one that makes a namespace which others need.
    #[must_use]
    pub fn leaves(self, namespace: &'static str) -> Self {
        Self { lasting: Some(namespace), ..self }
    }

    /// Gives this story another limit than the usual one.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// A story that does not hold.
#[derive(Debug)]
pub struct Failed {
    /// Its name.
    pub story: &'static str,
    /// What was expected and what was seen.
    pub cause: String,
}

/// How the stories went. It is printed in the words of the usual test program, for those who count.
#[derive(Debug, Default)]
pub struct Summary {
    /// Stories that hold.
    pub passed: usize,
    /// Those that do not, with the cause.
    pub failed: Vec<Failed>,
    /// Stories that nobody asked for.
    pub left_out: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, left_out } = self;
        for Failed { story, cause } in failed {
            writeln!(formatter, "{story}: {cause}\ntest {story} ... FAILED")?;
        }
        let verdict = if failed.is_empty() { "ok" } else { "FAILED" };
        let failed = failed.len();
        write!(
            formatter,
            "test result: {verdict}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {left_out} filtered out"
        )
    }
}

/// Tells the stories, at most `side_by_side` at a time.
pub async fn tell(cluster: &Rc<Cluster>, stories: Vec<Story>, side_by_side: usize, summary: &mut Summary) {
    let told = stream::iter(stories.into_iter().map(|story| tell_one(Rc::clone(cluster), story)));
    let mut told = told.buffer_unordered(side_by_side);
    while let Some(told) = told.next().await {
        match told {
            Ok(()) => summary.passed += 1,
            Err(failed) => summary.failed.push(failed),
        }
    }
}

async fn tell_one(cluster: Rc<Cluster>, story: Story) -> Result<(), Failed> {
    let begin = Instant::now();
    let name = story.name;
    let keep_failed = cluster.settings.keep_failed;
    let namespace = match story.lasting {
        None => Namespace::of_story(cluster, name).await,
        Some(lasting) => Namespace::create(cluster, lasting.to_owned()).await,
    };
    let namespace = match namespace {
        Ok(namespace) => namespace,
        Err(failure) => {
            eprintln!("FAIL          {name}: {failure}");
            return Err(Failed { story: name, cause: failure.to_string() });
        }
    };
    let told = timeout(story.limit, AssertUnwindSafe((story.tell)(namespace.clone())).catch_unwind()).await;
    let cause = match told {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(failure))) => Some(failure.to_string()),
        Ok(Err(panic)) => Some(panic_message(panic.as_ref())),
        Err(_elapsed) => Some(format!("it is not done after {} s", story.limit.as_secs())),
    };
    let seconds = begin.elapsed().as_secs_f32();
    if let Some(cause) = &cause {
        // One write, so that stories side by side do not mix their lines.
        let diagnosis = timeout(DIAGNOSIS_LIMIT, diagnosis::of_namespace(&namespace)).await;
        let diagnosis = diagnosis.unwrap_or_else(|_elapsed| "-- the diagnosis took too long\n".to_owned());
        eprintln!("FAIL {seconds:6.1} s  {name}: {cause}\n{diagnosis}---- end of {name}");
    } else {
        eprintln!("ok   {seconds:6.1} s  {name}");
    }
    if story.lasting.is_none()
        && (cause.is_none() || !keep_failed)
        && let Err(failure) = namespace.delete().await
    {
        eprintln!("warning: {failure}");
    }
    cause.map_or(Ok(()), |cause| Err(Failed { story: name, cause }))
}

thread_local! {
    /// Where the last panic was; the stories share one thread.
    static LAST_PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Remembers where a panic was instead of printing it: it is printed with its story.
pub fn remember_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
        LAST_PANIC_PLACE.with_borrow_mut(|last| *last = place);
    }));
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let place = LAST_PANIC_PLACE.with_borrow(Clone::clone);
    format!("{place}: {}", message.unwrap_or("a panic without words"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_is_read_by_those_who_count_tests() {
        let summary =
            Summary { passed: 3, failed: vec![Failed { story: "it_rains", cause: "wet".to_owned() }], left_out: 2 };
        assert_eq!(
            summary.to_string(),
            "it_rains: wet\ntest it_rains ... FAILED\ntest result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; 2 filtered out"
        );
    }
}
