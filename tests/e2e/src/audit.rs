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
const REST_LIMIT: Duration = Duration::from_secs(60);

/// The API server's audit log.
#[derive(Debug, Clone)]
pub struct AuditLog {
    path: PathBuf,
}

/// A place in the log, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

/// One request of the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// What was asked, such as `patch kvsstores/status orders`.
    pub deed: String,
    /// Where; empty when it was about all namespaces.
    pub namespace: String,
    /// Whether it was meant to change something.
    pub is_write: bool,
    /// Whether its rights let it.
    pub is_allowed: bool,
    /// The rights that it took, such as `patch apps/statefulsets`.
    pub rights: Vec<String>,
}

/// One write of anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Who made it.
    pub user: String,
    /// When it was received, in RFC 3339 with microseconds, so that texts compare as times do.
    pub at: String,
    /// What was asked.
    pub deed: String,
}

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
        let requests = self.operator_requests(since)?.into_iter();
        Ok(requests
            .filter(|request| request.is_write && request.namespace == namespace)
            .map(|done| done.deed)
            .collect())
    }

    /// Everything that the operator asked for since that position, in order.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn operator_requests(&self, since: Position) -> Result<Vec<Request>, Failure> {
        let operator = format!("system:serviceaccount:{OPERATOR_NAMESPACE}:{OPERATOR_RELEASE}");
        Ok(self.text(since)?.lines().filter_map(|line| Request::parse(line, &operator)).collect())
    }

    /// The log since that position.
    fn text(&self, since: Position) -> Result<String, Failure> {
        let mut file = File::open(&self.path).map_err(self.failure())?;
        file.seek(SeekFrom::Start(since.0)).map_err(self.failure())?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(self.failure())?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// What the accounts of a namespace wrote in it since that position, Leases left out, in the order of their receipt.
    ///
    /// # Errors
    /// When the log can't be read.
    pub fn writes_of_accounts(&self, namespace: &str, since: Position) -> Result<Vec<Write>, Failure> {
        let accounts = format!("system:serviceaccount:{namespace}:");
        let text = self.text(since)?;
        let mut writes: Vec<Write> = text.lines().filter_map(|line| Write::parse(line, namespace, &accounts)).collect();
        writes.sort_by(|one, other| one.at.cmp(&other.at));
        Ok(writes)
    }

    /// Waits until the operator has written nothing in a namespace for two seconds: the last words of what came before may
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

impl Write {
    /// The successful write of one of these accounts in that namespace that a line tells of, if it does.
    fn parse(line: &str, namespace: &str, accounts: &str) -> Option<Self> {
        if !line.contains(accounts) {
            return None;
        }
        let event: Value = serde_json::from_str(line).ok()?;
        let user = event["user"]["username"].as_str()?.strip_prefix(accounts)?.to_owned();
        let request = Request::parse(line, event["user"]["username"].as_str()?)?;
        let is_done = event["responseStatus"]["code"].as_u64().is_some_and(|code| code < 300);
        if !request.is_write || !is_done || request.namespace != namespace || request.deed.contains(" leases") {
            return None;
        }
        Some(Self { user, at: event["requestReceivedTimestamp"].as_str()?.to_owned(), deed: request.deed })
    }
}

impl Request {
    /// The request of a user that a line tells of, if it does. A watch is logged at its begin and, minutes later, at
    /// its end; both are taken. Of anything else the end counts. A line that is being written is no JSON yet.
    fn parse(line: &str, user: &str) -> Option<Self> {
        // Most lines are someone else's, and parsing is dear.
        if !line.contains(user) {
            return None;
        }
        let event: Value = serde_json::from_str(line).ok()?;
        let verb = event["verb"].as_str()?;
        let is_answered =
            event["stage"] == "ResponseComplete" || (verb == "watch" && event["stage"] == "ResponseStarted");
        if event["user"]["username"] != user || !is_answered {
            return None;
        }
        let word = |field: &str| event["objectRef"][field].as_str().unwrap_or_default();
        let subresource = if word("subresource").is_empty() { "" } else { "/" };
        let resource = format!("{}{subresource}{}", word("resource"), word("subresource"));
        let group = if word("apiGroup").is_empty() { "core" } else { word("apiGroup") };
        // What the API server tells of itself, such as the kinds it knows, is about no object and every account's right.
        let is_about_objects = !word("resource").is_empty();
        let mut rights = if is_about_objects { vec![format!("{verb} {group}/{resource}")] } else { Vec::new() };
        // An apply is a patch, and a create too where the object was not there.
        if verb == "patch" && event["responseStatus"]["code"] == 201 {
            rights.push(format!("create {group}/{resource}"));
        }
        Some(Self {
            deed: format!("{verb} {resource} {}", word("name")),
            namespace: word("namespace").to_owned(),
            is_write: !matches!(verb, "get" | "list" | "watch"),
            is_allowed: event["annotations"]["authorization.k8s.io/decision"] == "allow",
            rights,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn line(verb: &str, user: &str, stage: &str, decision: &str) -> String {
        json!({
            "kind": "Event", "verb": verb, "stage": stage, "user": {"username": user},
            "objectRef": {"apiGroup": "kvs.aryavarth.io", "namespace": "shop", "resource": "kvsstores", "subresource": "status", "name": "orders"},
            "annotations": {"authorization.k8s.io/decision": decision},
        })
        .to_string()
    }

    #[test]
    fn finished_requests_of_one_user_are_found() {
        let parse = |line: &str| Request::parse(line, "operator");
        let write = line("patch", "operator", "ResponseComplete", "allow");
        let deed = "patch kvsstores/status orders".to_owned();
        let rights = vec!["patch kvs.aryavarth.io/kvsstores/status".to_owned()];
        let expected = Request { deed, namespace: "shop".into(), is_write: true, is_allowed: true, rights };
        assert_eq!(parse(&write), Some(expected));
        assert_eq!(parse(&write[..write.len() - 1]), None);
        assert_eq!(parse(&line("patch", "operator-2", "ResponseComplete", "allow")), None);
        assert_eq!(parse(&line("patch", "operator", "RequestReceived", "allow")), None);
        assert!(!parse(&line("watch", "operator", "ResponseComplete", "allow")).unwrap().is_write);
        assert!(parse(&line("watch", "operator", "ResponseStarted", "allow")).is_some(), "a watch has begun");
        assert!(!parse(&line("patch", "operator", "ResponseComplete", "forbid")).unwrap().is_allowed);
    }

    #[test]
    fn asking_which_kinds_there_are_needs_no_right_of_a_role() {
        let line = json!({
            "kind": "Event", "verb": "get", "stage": "ResponseComplete", "user": {"username": "operator"},
            "requestURI": "/apis/cert-manager.io/v1", "annotations": {"authorization.k8s.io/decision": "allow"},
        });
        let request = Request::parse(&line.to_string(), "operator").unwrap();
        assert!(request.rights.is_empty() && request.is_allowed && !request.is_write, "{request:?}");
    }
}
