//! A Prometheus of one's own, and the answers of any.
//!
//! What must hold: a Prometheus that was started here ends when its owner lets go of it, listens on loopback only, and keeps
//! its data in the owner's folder; a question has a deadline.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// How long a start may take on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not there. Whoever runs it must install it.
    #[error("{program} is missing; run tests/bin/tools test, which gets it")]
    Missing {
        /// Which.
        program: &'static str,
    },
    /// It did not begin to answer; what it logged says why.
    #[error("Prometheus does not answer: {log}")]
    Start {
        /// The end of its log.
        log: String,
    },
    /// The connection, or a file.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It refused the question, or said something else than expected.
    #[error("{question}: {answer}")]
    Answer {
        /// What was asked.
        question: String,
        /// What it said.
        answer: String,
    },
}

/// Where a tool is that tests/bin/tools gets, or the system has.
///
/// # Errors
/// [`Error::Missing`].
pub fn tool(program: &'static str) -> Result<PathBuf, Error> {
    let named = ["TOOLS", "KVS_TOOLS", "KVS_E2E_TOOLS"].into_iter().filter_map(std::env::var_os).map(PathBuf::from);
    let usual = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let usual = usual.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = named.chain(usual.map(|cache| cache.join("aryavarth-kvs/tools"))).chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(program)).find(|file| file.is_file()).ok_or(Error::Missing { program })
}

/// Something to scrape.
#[derive(Debug, Clone)]
pub struct Target {
    /// `kvs-server` or `kvs-operator`.
    pub job: &'static str,
    /// What the label `pod` says.
    pub pod: String,
    /// Where its metrics are.
    pub addr: SocketAddr,
}

/// A running Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    /// Where it answers.
    pub api: Api,
}

impl Prometheus {
    /// Starts one in a folder that scrapes these targets every half second, with these rules, and waits until each target
    /// was scraped.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Start`], [`Error::Io`].
    pub fn start(folder: &Path, targets: &[Target], rules: &str) -> Result<Self, Error> {
        fs::write(folder.join("rules.yaml"), rules)?;
        Self::start_with(folder, &configuration(targets))
    }

    /// Starts one in a folder with a configuration, whose other files are there already, and waits until each target that it
    /// knows was scraped.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(folder: &Path, configuration: &str) -> Result<Self, Error> {
        let program = tool("prometheus")?;
        fs::write(folder.join("prometheus.yaml"), configuration)?;
        // Whoever takes the port in between makes the start fail, which its log says.
        let addr = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = folder.join("prometheus.log");
        let child = Command::new(program)
            .current_dir(folder)
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=warn"])
            // Otherwise it begins to scrape after five seconds.
            .arg("--scrape.discovery-reload-interval=100ms")
            .arg(format!("--web.listen-address={addr}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()?;
        let mut prometheus = Self { child, api: Api::new(addr) };
        let deadline = Instant::now() + START_LIMIT;
        // Until every target was scraped, alerts on what is absent mean nothing.
        while !prometheus.api.scrape_errors().is_ok_and(|errors| errors.is_empty()) {
            if Instant::now() > deadline || prometheus.child.try_wait()?.is_some() {
                let log = fs::read_to_string(&log).unwrap_or_default();
                return Err(Error::Start { log: log.lines().rev().take(5).collect::<Vec<_>>().join("; ") });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(prometheus)
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // Its data is the owner's, who throws it away.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(targets: &[Target]) -> String {
    let mut text = String::from(
        "global: {scrape_interval: 500ms, scrape_timeout: 500ms, evaluation_interval: 500ms}\nrule_files: [rules.yaml]\nscrape_configs:\n",
    );
    for job in ["kvs-server", "kvs-operator"] {
        let of_job: Vec<&Target> = targets.iter().filter(|target| target.job == job).collect();
        if of_job.is_empty() {
            continue;
        }
        text.push_str(&format!("- job_name: {job}\n  static_configs:\n"));
        for Target { pod, addr, .. } in of_job {
            text.push_str(&format!(
                "  - targets: ['{addr}']\n    labels: {{namespace: shop, kvsstore: '{pod}', pod: '{pod}-0'}}\n"
            ));
        }
    }
    text
}

/// The answers of a Prometheus.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    addr: SocketAddr,
}

/// A series: its labels, and its values with their times in seconds since 1970.
#[derive(Debug, Clone)]
pub struct Series {
    /// The labels, its name among them.
    pub labels: serde_json::Map<String, Value>,
    /// Time and value.
    pub points: Vec<(f64, f64)>,
}

impl Series {
    /// A label, or nothing.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).and_then(Value::as_str).unwrap_or_default()
    }
}

impl Api {
    /// The one at this address.
    #[must_use]
    pub const fn new(addr: SocketAddr) -> Self {
        Self { addr }
    }

    /// What an expression gives now.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Answer`].
    pub fn query(&self, expression: &str) -> Result<Vec<Series>, Error> {
        self.series(expression, &format!("/api/v1/query?query={}", encoded(expression)))
    }

    /// What an expression gives over time.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Answer`].
    pub fn query_range(&self, expression: &str, from_s: f64, to_s: f64, step_s: f64) -> Result<Vec<Series>, Error> {
        let question = encoded(expression);
        self.series(
            expression,
            &format!("/api/v1/query_range?query={question}&start={from_s:.3}&end={to_s:.3}&step={step_s:.3}"),
        )
    }

    /// The alerts that fire now: name and labels.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Answer`].
    pub fn firing(&self) -> Result<Vec<Series>, Error> {
        self.query("ALERTS{alertstate=\"firing\"}")
    }

    /// What went wrong with the last scrapes, in Prometheus' own words; nothing when all went well.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Answer`].
    pub fn scrape_errors(&self) -> Result<Vec<String>, Error> {
        let text = self.get("/api/v1/targets?state=active")?;
        let answer: Value = serde_json::from_str(&text)
            .map_err(|error| Error::Answer { question: "targets".to_owned(), answer: error.to_string() })?;
        let targets = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        if targets.is_empty() {
            return Ok(vec!["no target is known yet".to_owned()]);
        }
        let failed = targets.iter().filter(|target| target["health"] != "up");
        Ok(failed
            .map(|target| format!("{}: {} {}", target["scrapeUrl"], target["health"], target["lastError"]))
            .collect())
    }

    fn series(&self, question: &str, path: &str) -> Result<Vec<Series>, Error> {
        let refused = |answer: String| Error::Answer { question: question.to_owned(), answer };
        let text = self.get(path)?;
        let answer: Value = serde_json::from_str(&text).map_err(|error| refused(format!("{error}: {text}")))?;
        if answer["status"] != "success" {
            return Err(refused(answer["error"].to_string()));
        }
        let data = &answer["data"];
        let point = |point: &Value| Some((point[0].as_f64()?, point[1].as_str()?.parse().ok()?));
        if data["resultType"] == "scalar" {
            let points = point(&data["result"]).into_iter().collect();
            return Ok(vec![Series { labels: serde_json::Map::new(), points }]);
        }
        let result = data["result"].as_array().ok_or_else(|| refused(text.clone()))?;
        Ok(result
            .iter()
            .map(|one| {
                let points: Vec<(f64, f64)> = match one["values"].as_array() {
                    Some(values) => values.iter().filter_map(point).collect(),
                    None => point(&one["value"]).into_iter().collect(),
                };
                Series { labels: one["metric"].as_object().cloned().unwrap_or_default(), points }
            })
            .collect())
    }

    /// One answer's body.
    fn get(&self, path: &str) -> Result<String, Error> {
        let mut stream = TcpStream::connect_timeout(&self.addr, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        // HTTP/1.0, so that the body ends with the connection and comes in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.addr)?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let refused = |answer: &str| Error::Answer { question: path.to_owned(), answer: answer.to_owned() };
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| refused(&text))?;
        let code = head.split(' ').nth(1).unwrap_or_default();
        // A refused question has its words in a body of its own.
        if matches!(code, "200" | "400" | "422") { Ok(body.to_owned()) } else { Err(refused(head)) }
    }
}

/// A text as a part of an address.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}
