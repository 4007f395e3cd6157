//! `status --slow`: the server's slow log, the last requests that took long and where the time of each went.
//!
//! ```text
//! 2 slow requests so far at 127.0.0.1:4000, the newest first
//! at (UTC)                     took     queue     index       log      sync    answer  request
//! 2026-03-01T12:00:07.123   81.2 ms   12.0 us    4.0 us  800.0 us   80.3 ms  100.0 us  set ok 7
//! ```
//!
//! What must hold: what a server says is a stranger's text, which can't command a terminal; an entry that a newer server
//! writes differently is shown as far as it is understood.

use std::fmt::Write as _;

use k8s_openapi::jiff::Timestamp;
use kvs_protocol::{Answer, Verb};
use serde_json::{Value, json};

use super::watch::time;
use crate::error::Error;
use crate::escape;
use crate::output::{Format, Output};
use crate::session::Session;

/// The section of `info` that has it.
const SECTION: &str = "slowlog";
/// Where the time of a request goes, as the server calls it and in the order in which it goes.
const TIMES: [&str; 6] = ["tookUs", "queueUs", "indexUs", "logUs", "syncUs", "answerUs"];

/// Prints the slow log.
pub(crate) async fn slow(session: &mut Session, output: Output) -> Result<(), Error> {
    let Answer::Info(info) = session.call(Verb::Info { section: Some(SECTION.to_owned()) }).await? else {
        return Err(session.unexpected("info"));
    };
    let field = |name: &str| info.get(SECTION, name).cloned().unwrap_or_default();
    let (total, requests) = (field("total"), field("requests"));
    let place = session.place();
    if output.format == Format::Json {
        return output.report("", &json!({"place": place, "total": total, "requests": requests}));
    }
    let requests = requests.as_array().map(Vec::as_slice).unwrap_or_default();
    output.report(&text(&place, total.as_u64().unwrap_or_default(), requests), &Value::Null)
}

/// The log for people: a line for each request.
fn text(place: &str, total: u64, requests: &[Value]) -> String {
    let place = escape::line(place);
    if total == 0 {
        return format!("no slow requests so far at {place}");
    }
    let mut text = format!(
        "{total} slow requests so far at {place}, the newest first\n\
         at (UTC)                     took     queue     index       log      sync    answer  request"
    );
    for request in requests {
        write!(text, "\n{:<23}", at(&request["atMs"])).expect(WRITES);
        for name in TIMES {
            write!(text, " {:>9}", time(request[name].as_f64().map(|microseconds| microseconds / 1e6))).expect(WRITES);
        }
        let words = ["op", "outcome", "id"].map(|name| match &request[name] {
            Value::Null => String::new(),
            Value::String(word) => format!(" {word}"),
            value => format!(" {value}"),
        });
        write!(text, " {}", escape::line(&words.concat())).expect(WRITES);
    }
    text
}

const WRITES: &str = "writing into a string can't fail";

/// A moment in milliseconds since 1970, as a date and a time of day.
fn at(milliseconds: &Value) -> String {
    let moment = milliseconds.as_i64().and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok());
    moment.map_or_else(|| "-".to_owned(), |moment| format!("{moment:.3}").trim_end_matches('Z').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_line_that_no_server_can_break() {
        let request = json!({
            "number": 3, "op": "set", "outcome": "ok\n\u{1b}[2J", "id": 7, "atMs": 1_772_366_407_123_u64,
            "tookUs": 81_200, "queueUs": 12, "indexUs": 4, "logUs": 800, "syncUs": 80_284,
            "answerUs": 100,
        });
        let found = text("here", 3, &[request, json!({"op": "get", "atMs": "then"})]);
        let lines: Vec<&str> = found.lines().collect();
        assert_eq!(
            lines[2],
            "2026-03-01T12:00:07.123   81.2 ms   12.0 us    4.0 us  800.0 us   80.3 ms  100.0 us  set ok\\n\\u{1b}[2J 7"
        );
        assert_eq!(
            lines[3],
            "-                               -         -         -         -         -         -  get"
        );
        assert_eq!(lines.len(), 4);
        assert_eq!(lines[1].find("request"), lines[2].find("set"));
    }

    #[test]
    fn nothing_slow_is_a_line_too() {
        assert_eq!(text("here", 0, &[]), "no slow requests so far at here");
    }
}
