//! Who may do what: every verb in every role, over every transport, in both protocols, in every state of a connection.
//!
//! What must hold: the cells are generated, so that none can be forgotten; only a cell whose answer was judged counts.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use kvs_protocol::VerbName;
use kvs_server::limits::FAILED_AUTH_DELAY;
use rustix::process::Signal;
use rustls::ClientConfig;
use support::certificates::{Authority, Files};
use support::secure::{Talk, client_config};
use support::{Process, http_get, until};
use tempfile::tempdir;

const READER: &str = "reader-token-of-some-length";
const WRITER: &str = "writer-token-of-some-length";
/// Permits to write until it is revoked.
const REVOKED: &str = "a-writer-that-is-revoked";
/// Permits to write, and after a while only to read.
const LOWERED: &str = "a-writer-that-is-to-read";
const WRONG: &str = "a-wrong-token-of-some-length";

/// What a client has proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Role {
    None,
    Read,
    Write,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Plain,
    Tls,
    /// TLS with a certificate that bears the role.
    Certificate,
    /// TLS with a certificate that bears less, and a token that bears the role.
    CertificateAndToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Json,
    Resp,
}

/// How a connection came to its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It did nothing else.
    Straight,
    /// One attempt failed since.
    AfterFailure,
    /// It had more, until the file of tokens and names changed.
    AfterRevocation,
    /// The server is ending, and had not yet looked at the request when it began to end.
    Draining,
}

const TRANSPORTS: [Transport; 4] =
    [Transport::Plain, Transport::Tls, Transport::Certificate, Transport::CertificateAndToken];
const PROTOCOLS: [Protocol; 2] = [Protocol::Json, Protocol::Resp];
const ROLES: [Role; 3] = [Role::None, Role::Read, Role::Write];

/// One question: may this be done there?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cell {
    transport: Transport,
    protocol: Protocol,
    role: Role,
    state: State,
    verb: VerbName,
}

impl Cell {
    /// All of one state.
    fn all(state: State) -> Vec<Self> {
        let mut cells = Vec::new();
        for transport in TRANSPORTS {
            for protocol in PROTOCOLS {
                // Nobody had more than the highest role.
                for role in ROLES.into_iter().filter(|role| state != State::AfterRevocation || *role != Role::Write) {
                    let verbs = VerbName::ALL.iter().filter(|verb| request(**verb, protocol).is_some());
                    cells.extend(verbs.map(|verb| Self { transport, protocol, role, state, verb: *verb }));
                }
            }
        }
        cells
    }

    fn is_permitted(&self) -> bool {
        is_permitted(self.verb, self.role)
    }

    /// The name in the client's certificate, if it shows one.
    fn certificate(&self) -> Option<&'static str> {
        match (self.transport, self.state, self.role) {
            (Transport::Plain | Transport::Tls, _, _) => None,
            (Transport::Certificate, State::AfterRevocation, Role::None) => Some("revoked.example"),
            (Transport::Certificate, State::AfterRevocation, _) => Some("lowered.example"),
            (Transport::Certificate, _, Role::Write) => Some("spiffe://here/writer"),
            (Transport::Certificate, _, Role::Read) => Some("reader.example"),
            (Transport::CertificateAndToken, State::AfterRevocation, Role::Read) => Some("reader.example"),
            (Transport::CertificateAndToken, State::Straight | State::AfterFailure | State::Draining, Role::Write) => {
                Some("reader.example")
            }
            (Transport::Certificate | Transport::CertificateAndToken, _, _) => Some("nobody.example"),
        }
    }

    /// The token that the client gives, if it gives one.
    fn token(&self) -> Option<&'static str> {
        match (self.transport, self.state, self.role) {
            (Transport::Certificate, _, _) => None,
            // There the certificate is what is left.
            (Transport::CertificateAndToken, State::AfterRevocation, _) => Some(REVOKED),
            (_, State::AfterRevocation, Role::None) => Some(REVOKED),
            (_, State::AfterRevocation, _) => Some(LOWERED),
            (_, _, Role::None) => None,
            (_, _, Role::Read) => Some(READER),
            (_, _, Role::Write) => Some(WRITER),
        }
    }
}

/// What the server must do with a verb, said a second time, by hand.
fn is_permitted(verb: VerbName, role: Role) -> bool {
    match verb {
        VerbName::Ping | VerbName::Auth => true,
        VerbName::Get | VerbName::Exists | VerbName::Length | VerbName::Scan | VerbName::Count | VerbName::Info => {
            role != Role::None
        }
        VerbName::Set | VerbName::Take | VerbName::Remove | VerbName::Batch | VerbName::Clear | VerbName::Backup => {
            role == Role::Write
        }
    }
}

/// A request for each verb. Those that change something would change the key `k`.
fn request(verb: VerbName, protocol: Protocol) -> Option<String> {
    if protocol == Protocol::Resp {
        let words: &[&str] = match verb {
            VerbName::Ping => &["PING"],
            VerbName::Auth => &["AUTH", READER],
            VerbName::Get => &["GET", "k"],
            VerbName::Exists => &["EXISTS", "k"],
            VerbName::Length => &["STRLEN", "k"],
            VerbName::Set => &["SET", "k", "changed"],
            VerbName::Take => &["GETDEL", "k"],
            VerbName::Remove => &["DEL", "k"],
            VerbName::Batch => &["MSET", "k", "changed"],
            VerbName::Scan => &["SCAN", "0"],
            VerbName::Count => &["DBSIZE"],
            VerbName::Clear => &["FLUSHDB"],
            VerbName::Info => &["INFO"],
            VerbName::Backup => return None,
        };
        return Some(resp(words));
    }
    let line = match verb {
        VerbName::Ping => r#"{"ping":{}}"#.to_owned(),
        VerbName::Auth => format!(r#"{{"auth":{{"token":"{READER}"}}}}"#),
        VerbName::Get => r#"{"get":{"key":"k"}}"#.to_owned(),
        VerbName::Exists => r#"{"exists":{"key":"k"}}"#.to_owned(),
        VerbName::Length => r#"{"length":{"key":"k"}}"#.to_owned(),
        VerbName::Set => r#"{"set":{"key":"k","value":"changed"}}"#.to_owned(),
        VerbName::Take => r#"{"take":{"key":"k"}}"#.to_owned(),
        VerbName::Remove => r#"{"rm":{"key":"k"}}"#.to_owned(),
        VerbName::Batch => r#"{"batch":[{"set":{"key":"k","value":"changed"}}]}"#.to_owned(),
        VerbName::Scan => r#"{"scan":{}}"#.to_owned(),
        VerbName::Count => r#"{"count":{}}"#.to_owned(),
        VerbName::Clear => r#"{"clear":{}}"#.to_owned(),
        VerbName::Info => r#"{"info":{}}"#.to_owned(),
        VerbName::Backup => r#"{"backup":{}}"#.to_owned(),
    };
    Some(line + "\n")
}

fn resp(words: &[&str]) -> String {
    let mut text = format!("*{}\r\n", words.len());
    for word in words {
        text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    text
}

/// The file of tokens and names, before or after some of them lose what they had.
fn grants(is_before: bool) -> String {
    let (lowered, more) = match is_before {
        true => ("write", format!("- {{name: old, role: write, token: {REVOKED}}}\n")),
        false => ("read", String::new()),
    };
    let mut text = format!(
        "tokens:\n- {{name: reader, role: read, token: {READER}}}\n- {{name: writer, role: write, token: {WRITER}}}\n\
         - {{name: lowered, role: {lowered}, token: {LOWERED}}}\n{more}\
         certificates:\n- {{name: reader, role: read, dns: reader.example}}\n\
         - {{name: writer, role: write, uri: 'spiffe://here/writer'}}\n\
         - {{name: lowered, role: {lowered}, dns: lowered.example}}\n"
    );
    if is_before {
        text.push_str("- {name: old, role: write, dns: revoked.example}\n");
    }
    text
}

/// A plain and a TLS server with the same grants. Each does one request of a connection at a time, so that one can be
/// kept waiting behind another.
struct Servers {
    plain: Process,
    secure: Process,
    folders: [tempfile::TempDir; 2],
    /// How clients with these certificates connect.
    configs: HashMap<Option<&'static str>, Arc<ClientConfig>>,
}

impl Servers {
    fn start() -> Self {
        let authority = Authority::new();
        let folders = [tempdir().unwrap(), tempdir().unwrap()];
        for folder in &folders {
            std::fs::write(folder.path().join("grants"), grants(true)).unwrap();
        }
        // All cells are connected before the first is judged, which takes longer than strangers usually may stay.
        let patience = ["--limits-auth-deadline-ms", "600000"];
        let common = ["--auth-tokens", "grants", "--limits-pipeline-requests", "1", patience[0], patience[1]];
        let common = common.map(str::to_owned);
        let files = Files::write(folders[1].path(), &authority, &authority.server());
        let mut flags = files.mutual_flags("optional");
        flags.extend(common.clone());
        let start = |folder: &tempfile::TempDir, flags: &[String]| {
            Process::start(folder.path(), &flags.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let (plain, secure) = (start(&folders[0], &common), start(&folders[1], &flags));
        let names = ["nobody.example", "reader.example", "spiffe://here/writer", "revoked.example", "lowered.example"];
        let with_name = |name| (Some(name), client_config(&authority, Some(&authority.identity(&[name]))));
        let mut configs: HashMap<_, _> = names.into_iter().map(with_name).collect();
        configs.insert(None, client_config(&authority, None));
        Self { plain, secure, folders, configs }
    }

    fn both(&self) -> [&Process; 2] {
        [&self.plain, &self.secure]
    }

    /// A connection that has proved what its cell says it has, and nothing else.
    fn connect(&self, cell: &Cell) -> Talk {
        let mut client = match cell.transport {
            Transport::Plain => Talk::plain(self.plain.addr),
            _ => Talk::secure(self.secure.addr, &self.configs[&cell.certificate()]).unwrap(),
        };
        if let Some(token) = cell.token() {
            client.send(auth(cell.protocol, token));
            let answer = client.line().unwrap();
            assert!(answer == r#"{"ok":null}"# || answer == "+OK", "{cell:?}: {answer}");
        }
        client
    }

    /// Rewrites the files of grants and waits until the servers have taken them over.
    fn revoke(&self) {
        for (server, folder) in self.both().into_iter().zip(&self.folders) {
            std::fs::write(folder.path().join("grants"), grants(false)).unwrap();
            server.signal(Signal::HUP);
            until("the grants are read again", || server.log().contains("3 tokens and 3 names").then_some(()));
        }
    }

    /// Nobody has changed what was stored at first.
    fn assert_unchanged(&self) {
        for transport in [Transport::Plain, Transport::Tls] {
            let (protocol, role, state, verb) = (Protocol::Json, Role::Read, State::Straight, VerbName::Get);
            let mut client = self.connect(&Cell { transport, protocol, role, state, verb });
            assert_eq!(client.ask(r#"{"get":{"key":"k"}}"#).unwrap(), r#"{"ok":"v"}"#, "{transport:?}");
        }
    }
}

fn auth(protocol: Protocol, token: &str) -> String {
    match protocol {
        Protocol::Json => format!("{{\"auth\":{{\"token\":\"{token}\"}}}}\n"),
        Protocol::Resp => resp(&["AUTH", token]),
    }
}

fn is_failed_attempt(answer: &str) -> bool {
    answer.contains("\"unauthenticated\"") || answer.starts_with("-WRONGPASS")
}

/// Whether an answer says that its request was not permitted, by the code that fits the role.
fn is_refusal(answer: &str, role: Role) -> bool {
    let (json, redis) = match role {
        Role::None => ("\"unauthenticated\"", "-NOAUTH "),
        Role::Read | Role::Write => ("\"forbidden\"", "-NOPERM "),
    };
    let refused = answer.contains("\"unauthenticated\"") || answer.contains("\"forbidden\"");
    let refused = refused || answer.starts_with("-NOAUTH") || answer.starts_with("-NOPERM");
    assert!(!refused || answer.contains(json) || answer.starts_with(redis), "{role:?}: {answer}");
    refused
}

/// Judges an answer.
fn judge(cell: &Cell, answer: &str) {
    assert_eq!(!is_refusal(answer, cell.role), cell.is_permitted(), "{cell:?}: {answer}");
}

/// Asks in each cell, on a connection of its own: some answers are long.
fn judge_all(servers: &Servers, mut connections: Vec<(Cell, Talk)>) -> usize {
    // All failures at once: the answer to each takes half a second.
    for (cell, client) in connections.iter_mut().filter(|(cell, _)| cell.state == State::AfterFailure) {
        client.send(auth(cell.protocol, WRONG));
    }
    for (cell, client) in &mut connections {
        if cell.state == State::AfterFailure {
            let answer = client.line().unwrap();
            assert!(is_failed_attempt(&answer), "{cell:?}: {answer}");
        }
        client.send(request(cell.verb, cell.protocol).unwrap());
        let answer = client.line().unwrap_or_else(|| panic!("{cell:?}: closed: {}", servers.secure.log()));
        judge(cell, &answer);
    }
    connections.len()
}

/// Asks in each cell of servers that are ending: behind failed attempts, whose answers take so long that the servers begin
/// to end before they look at the request. Gives how many were answered, by their roles; `None` when that took so
/// long that they may have looked before.
fn judge_draining() -> Option<HashMap<Role, usize>> {
    const ATTEMPTS: u32 = 2;
    let servers = Servers::start();
    let cells = Cell::all(State::Draining);
    let mut clients: Vec<(Cell, Talk)> = cells.into_iter().map(|cell| (cell, servers.connect(&cell))).collect();
    let began = Instant::now();
    for (cell, client) in &mut clients {
        let attempts = auth(cell.protocol, WRONG).repeat(ATTEMPTS as usize);
        client.send(attempts + &request(cell.verb, cell.protocol).unwrap());
    }
    until("each has failed once", || {
        let failures = servers.both().map(|server| server.metric("kvs_auth_failures_total")).iter().sum::<f64>();
        (failures >= clients.len() as f64).then_some(())
    });
    for server in servers.both() {
        server.signal(Signal::TERM);
    }
    for server in servers.both() {
        let readiness = || http_get(server.admin_addr.unwrap(), "/readyz");
        until("it is ending", || (readiness() == (503, "draining\n".to_owned())).then_some(()));
    }
    let is_in_time = began.elapsed() < FAILED_AUTH_DELAY * ATTEMPTS;
    let mut answered = HashMap::new();
    for (cell, client) in &mut clients {
        for _ in 0..ATTEMPTS {
            let answer = client.line().unwrap_or_else(|| panic!("{cell:?}: closed"));
            assert!(is_failed_attempt(&answer), "{cell:?}: {answer}");
        }
        // Closed, or answered as ever.
        if let Some(answer) = client.line() {
            judge(cell, &answer);
            *answered.entry(cell.role).or_default() += 1;
        }
    }
    is_in_time.then_some(answered)
}

#[test]
fn every_verb_in_every_role_over_every_transport_in_every_state() {
    let servers = Servers::start();
    for transport in [Transport::Plain, Transport::Tls] {
        let (protocol, role, state, verb) = (Protocol::Json, Role::Write, State::Straight, VerbName::Set);
        let mut writer = servers.connect(&Cell { transport, protocol, role, state, verb });
        assert_eq!(writer.ask(r#"{"set":{"key":"k","value":"v"}}"#).unwrap(), r#"{"ok":null}"#);
    }

    // Connections that can write, until that is taken away.
    let connect = |cell: Cell| (cell, servers.connect(&cell));
    let mut revoked: Vec<(Cell, Talk)> = Cell::all(State::AfterRevocation).into_iter().map(connect).collect();
    for (cell, client) in &mut revoked {
        let answer = match cell.protocol {
            Protocol::Json => client.ask(r#"{"set":{"key":"k","value":"v"}}"#).unwrap(),
            Protocol::Resp => {
                client.send(resp(&["SET", "k", "v"]));
                client.line().unwrap()
            }
        };
        assert!(answer == r#"{"ok":null}"# || answer == "+OK", "{cell:?}: {answer}");
    }
    servers.revoke();

    // First all that must change nothing.
    let (permitted, refused): (Vec<_>, Vec<_>) = revoked.into_iter().partition(|(cell, _)| cell.is_permitted());
    let mut judged = judge_all(&servers, refused);
    let others = [State::Straight, State::AfterFailure].into_iter().flat_map(Cell::all);
    let (others_permitted, others_refused): (Vec<Cell>, Vec<Cell>) = others.partition(Cell::is_permitted);
    judged += judge_all(&servers, others_refused.into_iter().map(connect).collect());
    servers.assert_unchanged();

    // Then all that may be done.
    judged += judge_all(&servers, permitted);
    judged += judge_all(&servers, others_permitted.into_iter().map(connect).collect());

    // At last while servers end: what has no right gets none, and who has one is still served.
    let answered =
        (0..5).find_map(|_| judge_draining()).expect("the servers begin to end within a second, once in five");
    for role in ROLES {
        assert!(answered.get(&role).is_some_and(|count| *count > 0), "{role:?} was never answered: {answered:?}");
    }
    judged += answered.values().sum::<usize>();
    support::say(&format!("{judged} cells were judged, of servers that end {answered:?}"));
    assert!(judged >= 1_000, "{judged}");
}
