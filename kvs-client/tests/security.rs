//! TLS and tokens: from flags, from variables, and from the Secrets of a store; and nothing of them is ever shown.
#![expect(clippy::unwrap_used, reason = "a test that stops here shows where and what")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use support::cluster::{Cluster, STORE, store};
use support::{Server, client, fake, run, until};

/// A secret that must be found nowhere.
const CANARY: &str = "canary-token-of-a-writer";
const READER: &str = "token-of-a-reader-only";

/// An authority, a server's certificate and a client's, as files.
struct Certificates {
    folder: tempfile::TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("ca.crt"), authority.pem()).unwrap();
        for (name, hosts) in [("server", &["localhost", "127.0.0.1", "orders.shop.svc"][..]), ("client", &["somebody"])]
        {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(hosts).unwrap().signed_by(&key, &authority).unwrap();
            fs::write(folder.path().join(format!("{name}.crt")), certificate.pem()).unwrap();
            fs::write(folder.path().join(format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    /// A server with TLS, and with tokens or client certificates.
    fn server(&self, data: &Path, more: &[String]) -> Server {
        let flags = ["--tls-cert".into(), self.file("server.crt"), "--tls-key".into(), self.file("server.key")];
        Server::start_with(data, &[&flags, more].concat())
    }
}

/// The server's file of tokens.
fn tokens(folder: &Path) -> PathBuf {
    let file = folder.join("tokens.yaml");
    let writer = format!("{{name: w, role: write, token: {CANARY}}}");
    let reader = format!("{{name: r, role: read, token: {READER}}}");
    fs::write(&file, format!("tokens:\n- {reader}\n- {writer}\n")).unwrap();
    file
}

#[test]
fn a_token_and_tls_come_from_flags_and_variables() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--auth-tokens".to_owned(), tokens(folder.path()).to_str().unwrap().to_owned()];
    let server = certificates.server(&folder.path().join("data"), &flags);
    let (writer, reader) = (folder.path().join("writer"), folder.path().join("reader"));
    fs::write(&writer, format!("{CANARY}\n")).unwrap();
    fs::write(&reader, READER).unwrap();
    let ca = certificates.file("ca.crt");
    let tls = ["--tls-ca", &ca];
    let with_token =
        |file: &Path, arguments: &[&str]| run(server.client(arguments).args(tls).arg("--token-file").arg(file));

    with_token(&writer, &["set", "k", "v"]).assert_prints("");
    with_token(&reader, &["get", "k"]).assert_prints("v\n");
    run(server.client(["get", "k"]).env("KVS_TLS_CA", &ca).env("KVS_TOKEN_FILE", &writer)).assert_prints("v\n");

    let forbidden = with_token(&reader, &["set", "k", "w"]);
    assert!(forbidden.assert_fails(4).contains("(forbidden); it takes a token"), "{}", forbidden.errors);
    let unknown = run(server.client(["get", "k"]).args(tls));
    assert!(unknown.assert_fails(4).contains("--token-file FILE"), "{}", unknown.errors);
    let wrong = with_token(Path::new(&ca), &["get", "k"]);
    assert!(wrong.assert_fails(4).contains("more than"), "{}", wrong.errors);
    fs::write(&reader, "another-token-that-nobody-knows").unwrap();
    let wrong = with_token(&reader, &["get", "k"]);
    let line = wrong.assert_fails(4);
    assert!(line.contains("unauthenticated") && !line.contains("another-token"), "{line}");
    let missing = with_token(Path::new("/nonexistent"), &["get", "k"]);
    assert!(missing.assert_fails(4).contains("cannot read /nonexistent"), "{}", missing.errors);
}

/// Other users of a machine see a process' arguments, and its own user sees its environment.
#[test]
fn a_token_shows_nowhere_while_a_command_waits() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, format!("{CANARY}\n")).unwrap();
    // A server that takes the token and never answers.
    let (sender, streams) = std::sync::mpsc::channel();
    let addr = fake::listen(move |stream| sender.send(stream).unwrap()).to_string();
    let flags = [&["--token-file".as_ref(), token.as_os_str()][..], &[]];
    for flags in flags {
        let mut command = client(["get", "k", "--timeout", "2", "-o", "json", "--addr", &addr]);
        command.args(flags).stdout(Stdio::piped()).stderr(Stdio::piped());
        if flags.is_empty() {
            command.env("KVS_TOKEN_FILE", &token);
        }
        let child = command.spawn().unwrap();
        let stream = until("the client connects", || streams.try_recv().ok());
        let mut sent = String::new();
        BufReader::new(&stream).read_line(&mut sent).unwrap();
        assert!(sent.contains(CANARY), "what is looked for below is in use: {sent}");
        for name in ["environ", "cmdline"] {
            let shown = fs::read(format!("/proc/{}/{name}", child.id())).unwrap();
            let shown = String::from_utf8_lossy(&shown);
            assert!(shown.contains(if name == "environ" { "PATH=" } else { "get" }), "{name}: {shown}");
            assert!(!shown.contains(CANARY), "{name}: {shown}");
        }
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(5));
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("no answer from") && !said.contains(CANARY), "{said}");
    }
}

#[test]
fn a_server_is_believed_by_its_certificate_only() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let server = certificates.server(&folder.path().join("data"), &[]);
    let stranger = Certificates::new().file("ca.crt");
    let other = Certificates::new();
    for (ca, name) in [(other.file("ca.crt"), "localhost"), (certificates.file("ca.crt"), "another.example")] {
        let outcome = server.run(["get", "k", "--tls-ca", &ca, "--tls-server-name", name]);
        assert!(outcome.assert_fails(4).contains("no TLS with 127.0.0.1"), "{}", outcome.errors);
    }
    let outcome = server.run(["get", "k", "--tls-ca", &stranger]);
    assert!(outcome.assert_fails(4).contains("cannot read"), "its folder is gone: {}", outcome.errors);
    let ca = certificates.file("ca.crt");
    server.run(["get", "k", "--tls-ca", &ca, "--tls-server-name", "localhost"]).assert_prints("Key not found\n");
    // In plain TCP it answers nothing.
    let plain = server.run(["get", "k"]);
    assert!(plain.assert_fails(3).contains("if it speaks TLS, say --tls-ca FILE"), "{}", plain.errors);
    // And a server in plain TCP is none that speaks TLS.
    let plain = Server::start(&folder.path().join("plain"));
    let outcome = plain.run(["get", "k", "--tls-ca", &ca]);
    assert!(outcome.assert_fails(4).contains("whether that port speaks TLS"), "{}", outcome.errors);
}

#[test]
fn a_client_shows_its_certificate() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = certificates.file("ca.crt");
    let flags = ["--tls-client-ca".to_owned(), ca.clone()];
    let server = certificates.server(&folder.path().join("data"), &flags);
    let (certificate, key) = (certificates.file("client.crt"), certificates.file("client.key"));
    let shown = ["check", "--tls-ca", &ca, "--tls-cert", &certificate, "--tls-key", &key];
    assert_eq!(server.run(shown).code, Some(0));
    assert_ne!(server.run(["check", "--tls-ca", &ca]).code, Some(0));
    let outcome = server.run(["check", "--tls-ca", &ca, "--tls-cert", &certificate]);
    assert!(outcome.assert_fails(2).contains("go together"), "{}", outcome.errors);
}

/// A cluster with a store that says this of itself.
fn cluster(server: &Server, spec: Value, folder: &Path) -> Cluster {
    let cluster = Cluster::start(Some(server.addr));
    cluster.write_kubeconfig(&folder.join("kubeconfig"));
    let mut object = store("True", "AllReady", "all members are ready");
    object["spec"] = spec;
    cluster.state().store = Some(object);
    cluster
}

fn fields<const N: usize>(fields: [(&str, String); N]) -> BTreeMap<String, String> {
    fields.into_iter().map(|(name, text)| (name.to_owned(), text)).collect()
}

#[test]
fn a_store_says_itself_what_it_takes() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(folder.path());
    let flags = ["--auth-tokens".to_owned(), tokens.to_str().unwrap().to_owned()];
    let server = certificates.server(&folder.path().join("data"), &flags);
    let spec = json!({
        "tls": {"mode": "Server", "secretName": "orders-tls"},
        "auth": {"mode": "Token", "tokenSecretRef": {"name": "orders-auth", "key": "tokens.yaml"}},
    });
    let cluster = cluster(&server, spec, folder.path());
    let text = |name: &str| fs::read_to_string(certificates.file(name)).unwrap();
    let authority = fields([("ca.crt", text("ca.crt"))]);
    cluster.state().secrets.insert("orders-tls".into(), authority);
    let kubeconfig = folder.path().join("kubeconfig");
    let ask = |arguments: &[&str]| run(client(arguments).args(["--store", STORE, "--kubeconfig"]).arg(&kubeconfig));

    let missing = ask(&["get", "k"]);
    assert!(
        missing.assert_fails(8).contains("Secret orders-auth in namespace shop does not exist"),
        "{}",
        missing.errors
    );
    cluster.state().secrets.insert("orders-auth".into(), fields([("other", CANARY.to_owned())]));
    let missing = ask(&["get", "k"]);
    assert!(missing.assert_fails(8).contains("has no `tokens.yaml`"), "{}", missing.errors);
    // The Secret holds the server's own file, or a token alone.
    for secret in [fs::read_to_string(&tokens).unwrap(), format!("{CANARY}\n")] {
        cluster.state().secrets.insert("orders-auth".into(), fields([("tokens.yaml", secret)]));
        ask(&["set", "k", "v"]).assert_prints("");
        ask(&["get", "k"]).assert_prints("v\n");
    }
    cluster.state().secrets.insert("orders-auth".into(), fields([("tokens.yaml", format!("{CANARY} twice"))]));
    let wrong = ask(&["get", "k"]);
    assert!(!wrong.assert_fails(8).contains(CANARY), "{}", wrong.errors);
    cluster.state().forbidden = Some("/secrets/");
    let refused = ask(&["get", "k"]);
    assert!(refused.assert_fails(8).contains("may not read its Secrets"), "{}", refused.errors);
    // A flag stands in for a Secret that may not be read.
    let reader = folder.path().join("reader");
    fs::write(&reader, READER).unwrap();
    let (ca, reader) = (certificates.file("ca.crt"), reader.to_str().unwrap());
    ask(&["get", "k", "--tls-ca", &ca, "--token-file", reader]).assert_prints("v\n");
}
