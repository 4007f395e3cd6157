//! `status`: which server answers, how fast, and what it says of itself.

mod slow;
mod watch;

use std::fmt::Write as _;
use std::time::Instant;

use kvs_protocol::{Answer, Info, Verb};
use serde_json::{Value, json};

use crate::error::Error;
use crate::escape;
use crate::output::{Format, Output};
use crate::session::Session;

pub(crate) use slow::slow;
pub(crate) use watch::watch;

/// Asks the server and prints what it said.
pub(crate) async fn run(session: &mut Session, output: Output) -> Result<(), Error> {
    // The first request connects, and may look for a pod; the second shows the way alone.
    session.call(Verb::Ping).await?;
    let begin = Instant::now();
    session.call(Verb::Ping).await?;
    let milliseconds = begin.elapsed().as_secs_f64() * 1e3;
    let Answer::Info(info) = session.call(Verb::Info { section: None }).await? else {
        return Err(session.unexpected("info"));
    };
    let place = session.place();
    if output.format == Format::Json {
        let object = json!({"ok": true, "place": place, "milliseconds": milliseconds, "info": info});
        return output.report("", &object);
    }
    let mut text = format!("ok: {place} answers in {milliseconds:.1} ms");
    describe(&mut text, &info);
    output.report(&text, &Value::Null)
}

/// Appends a line for each section: `server: engine kvs, pool inline, ...`.
fn describe(text: &mut String, info: &Info) {
    for (section, fields) in &info.sections {
        let fields: Vec<String> = fields
            .iter()
            .map(|(name, value)| match value {
                Value::String(word) => format!("{name} {word}"),
                value => format!("{name} {value}"),
            })
            .collect();
        // What a server says of itself is a stranger's text.
        let line = escape::line(&format!("{section}: {}", fields.join(", ")));
        write!(text, "\n{line}").expect("writing into a string can't fail");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_lines_that_no_server_can_break() {
        let sections = json!({"server": {"engine": "kvs\n\u{1b}[2J", "uptimeSeconds": 7}, "store": {}});
        let info: Info = serde_json::from_value(sections).unwrap();
        let mut text = String::new();
        describe(&mut text, &info);
        assert_eq!(text, "\nserver: engine kvs\\n\\u{1b}[2J, uptimeSeconds 7\nstore: ");
    }
}
