//! `AuditLog`: who asked the API server for what.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::{OPERATOR_NAMESPACE, OPERATOR_RELEASE};
use crate::failure::Failure;
use crate::waiting::{NotYet, until};

/// Without a write for so long, the operator is done with what it was told.
const CALM: Duration = Duration::from_secs(2);
/// The longest wait for that.
const REST_LIMIT: Duration = Duration::from_secs(30);

/// The API server's audit log.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

/// A place in the log, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

impl AuditLog {
    /// The log in that file.
    #[must_use]
    pub const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the log ends now.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn end(&self) -> Result<Position, Failure> {
        let metadata = std::fs::metadata(&self.path).map_err(self.failure())?;
        Ok(Position(metadata.len()))
    }

    /// What the operator wrote in a namespace since that position, such as `patch services orders`, in order.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn operator_writes(&self, namespace: &str, since: Position) -> Result<Vec<String>, Failure> {
        let mut file = File::open(&self.path).map_err(self.failure())?;
        file.seek(SeekFrom::Start(since.0)).map_err(self.failure())?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(self.failure())?;
        let operator = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_RELEASE}");
        let text = String::from_utf8_lossy(&text);
        Ok(text.lines().filter_map(|line| write_of(line, &operator, namespace)).collect())
    }

    /// Waits until the operator has written nothing in a namespace for [`CALM`]: the last words of what came before may
    /// come a moment after it. Returns where the silence begins.
    ///
    /// # Errors
    /// When it goes on writing, with what it writes.
    pub async fn at_rest(&self, namespace: &str) -> Result<Position, Failure> {
        let mut silence = (self.end()?, Instant::now());
        let mut last = Vec::new();
        until(format!("the operator is at rest in {namespace}"), REST_LIMIT, async || {
            let news = self.operator_writes(namespace, silence.0)?;
            if !news.is_empty() {
                silence = (self.end()?, Instant::now());
                last = news;
            }
            if silence.1.elapsed() >= CALM { Ok(silence.0) } else { Err(NotYet(format!("it wrote {last:?}"))) }
        })
        .await
    }

    fn failure(&self) -> impl FnOnce(std::io::Error) -> Failure {
        Failure::io(format!("reading {}", self.path.display()))
    }
}

/// The write of a user in a namespace that a line tells of, if it does. A request is logged at several stages; only its
/// end counts. A line that is being written is no JSON yet.
fn write_of(line: &str, user: &str, namespace: &str) -> Option<String> {
    // Most lines are someone else's, and parsing is dear.
    if !line.contains(user) {
        return None;
    }
    let event: Value = serde_json::from_str(line).ok()?;
    let verb = event["verb"].as_str()?;
    let object = &event["objectRef"];
    let is_ours = event["user"]["username"] == user
        && object["namespace"] == namespace
        && event["stage"] == "ResponseComplete"
        && !matches!(verb, "get" | "list" | "watch");
    is_ours.then(|| {
        let word = |field: &str| object[field].as_str().unwrap_or_default().to_owned();
        let subresource = object["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
        format!("{verb} {}{subresource} {}", word("resource"), word("name"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(verb: &str, user: &str, namespace: &str, stage: &str) -> String {
        json!({
            "kind": "Event", "verb": verb, "stage": stage, "user": {"username": user},
            "objectRef": {"namespace": namespace, "resource": "kvsstores", "subresource": "status", "name": "orders"},
        })
        .to_string()
    }

    #[test]
    fn finished_writes_of_one_user_in_one_namespace_are_found() {
        let found = |line: &str| write_of(line, "operator", "shop");
        let write = line("patch", "operator", "shop", "ResponseComplete");
        assert_eq!(found(&write).as_deref(), Some("patch kvsstores/status orders"));
        assert_eq!(found(&write[..write.len() - 1]), None);
        for other in [
            line("watch", "operator", "shop", "ResponseComplete"),
            line("patch", "operator-2", "shop", "ResponseComplete"),
            line("patch", "operator", "other", "ResponseComplete"),
            line("patch", "operator", "shop", "RequestReceived"),
        ] {
            assert_eq!(found(&other), None, "{other}");
        }
    }
}
