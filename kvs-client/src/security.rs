//! `Security`: whom the client believes and who it says it is: TLS and a token, from files or from a store's Secrets.
//!
//! What must hold: a flag wins over a Secret; no error and no output holds a byte of a token or a key.

use std::path::{Path, PathBuf};

use clap::Args;
use kvs_protocol::{ClientTls, ConnectOptions, TlsError, Token};
use serde::Deserialize;

use crate::error::Error;

/// The longest token, in bytes: longer ones don't fit what a server reads before it knows who asks.
const MAX_TOKEN_BYTES: usize = 4 * 1024;

/// What the command line says of it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Security")]
pub(crate) struct Security {
    /// Speaks TLS, and believes servers whose certificate is of an authority in this file (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "KVS_TLS_CA")]
    tls_ca: Option<PathBuf>,

    /// The client's certificate (PEM), for servers that ask for one
    #[arg(long, global = true, value_name = "FILE", env = "KVS_TLS_CERT")]
    tls_cert: Option<PathBuf>,

    /// The private key of the client's certificate (PEM)
    #[arg(long, global = true, value_name = "FILE", env = "KVS_TLS_KEY")]
    tls_key: Option<PathBuf>,

    /// The name in the server's certificate; default: the host, of a store NAME.NAMESPACE.svc
    #[arg(long, global = true, value_name = "NAME", env = "KVS_TLS_SERVER_NAME")]
    tls_server_name: Option<String>,

    /// A file that holds the token by which the server knows the client
    #[arg(long, global = true, value_name = "FILE", env = "KVS_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// What a store's Secrets hold of it. A key is in memory no longer than the connection takes to be made.
#[derive(Default)]
pub(crate) struct Secrets {
    /// Absent when the store speaks plain TCP.
    pub(crate) tls: Option<TlsSecret>,
    /// Absent when the store asks for none.
    pub(crate) token: Option<Token>,
}

/// The parts of a Secret of a certificate.
pub(crate) struct TlsSecret {
    /// Authorities, as PEM.
    pub(crate) authorities: Vec<u8>,
    /// Certificate and key, as PEM, for a store that asks its clients for one.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Security {
    /// Whether a flag names authorities.
    pub(crate) fn has_authorities(&self) -> bool {
        self.tls_ca.is_some()
    }

    /// Whether a flag names a certificate of the client.
    pub(crate) fn has_identity(&self) -> bool {
        self.tls_cert.is_some()
    }

    /// Whether a flag names a token.
    pub(crate) fn has_token(&self) -> bool {
        self.token_file.is_some()
    }

    /// The options for a plain address: what the flags say and nothing else.
    pub(crate) fn options(&self) -> Result<ConnectOptions, Error> {
        self.options_with(Secrets::default(), None)
    }

    /// The options for a store whose server calls itself `host`: what the flags say, else what its Secrets hold.
    pub(crate) fn options_with(&self, secrets: Secrets, host: Option<&str>) -> Result<ConnectOptions, Error> {
        let Self { tls_ca, tls_cert, tls_key, tls_server_name, token_file } = self;
        let token = match token_file {
            Some(file) => Some(token_of(file)?),
            None => secrets.token,
        };
        let (authorities, identity) = match (tls_ca, secrets.tls) {
            (Some(file), None) => (read(file)?, None),
            (Some(file), Some(secret)) => (read(file)?, secret.identity),
            (None, Some(secret)) => (secret.authorities, secret.identity),
            (None, None) if tls_cert.is_some() || tls_key.is_some() || tls_server_name.is_some() => {
                return Err(Error::Usage("--tls-cert, --tls-key and --tls-server-name go with --tls-ca FILE".into()));
            }
            (None, None) => return Ok(ConnectOptions { tls: None, token }),
        };
        let identity = match (tls_cert, tls_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            (None, None) => identity,
            _ => return Err(Error::Usage("--tls-cert and --tls-key go together".into())),
        };
        let identity = identity.as_ref().map(|(certificate, key)| (certificate.as_slice(), key.as_slice()));
        let mut tls = ClientTls::from_pem(&authorities, identity).map_err(|error| unusable(&error))?;
        if let Some(name) = tls_server_name.as_deref().or(host) {
            tls = tls.with_server_name(name).map_err(|error| unusable(&error))?;
        }
        Ok(ConnectOptions { tls: Some(tls), token })
    }
}

/// A token as files and Secrets hold it: without the newline that an editor leaves.
pub(crate) fn token_of_bytes(bytes: &[u8]) -> Result<Token, &'static str> {
    let token = bytes.trim_ascii();
    match token.len() {
        0 => Err("holds no token"),
        1..=MAX_TOKEN_BYTES if !token.iter().any(|byte| byte.is_ascii_whitespace()) => Ok(Token::new(token)),
        1..=MAX_TOKEN_BYTES => Err("holds more than one word; want a token and nothing else"),
        _ => Err("holds more than a token"),
    }
}

/// A token as a store's Secret holds it: alone, or in the form of the server's own file. There, one that may write counts
/// before one that may only read; one of which only the SHA-256 is known is of no use.
pub(crate) fn token_of_secret(bytes: &[u8]) -> Result<Token, &'static str> {
    #[derive(Deserialize)]
    struct File {
        tokens: Vec<Entry>,
    }
    #[derive(Deserialize)]
    struct Entry {
        role: String,
        token: Option<String>,
    }
    let alone = token_of_bytes(bytes);
    // The words of an error of YAML could be those of a token.
    let Ok(File { mut tokens }) = serde_yaml::from_slice(bytes) else { return alone };
    tokens.sort_by_key(|entry| entry.role != "write");
    let token = tokens.into_iter().find_map(|entry| entry.token).ok_or("holds no token that can be sent")?;
    token_of_bytes(token.as_bytes())
}

fn token_of(file: &Path) -> Result<Token, Error> {
    // As the server's own file too, which a Secret may hold.
    token_of_secret(&read(file)?).map_err(|cause| Error::Security(format!("{} {cause}", file.display())))
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|error| Error::Security(format!("cannot read {}: {error}", file.display())))
}

fn unusable(error: &TlsError) -> Error {
    Error::Security(format!("TLS: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word() {
        assert_eq!(token_of_bytes(b" secret\n"), Ok(Token::new("secret")));
        for wrong in [&b""[..], b"\n", b"two words", &[b'x'; MAX_TOKEN_BYTES + 1]] {
            let error = token_of_bytes(wrong).unwrap_err();
            assert!(!error.contains("two words"), "{error}");
        }
    }

    #[test]
    fn a_secret_holds_a_token_or_the_servers_file() {
        assert_eq!(token_of_secret(b"secret\n"), Ok(Token::new("secret")));
        let file = b"tokens:\n- {name: a, role: read, token: reader}\n- {name: b, role: write, sha256: 00}\n\
                     - {name: c, role: write, token: writer}\n";
        assert_eq!(token_of_secret(file), Ok(Token::new("writer")));
        assert!(token_of_secret(b"tokens: [{name: b, role: write, sha256: 00}]").is_err());
    }

    #[test]
    fn flags_that_miss_another_are_refused() {
        let file = Some(PathBuf::from("/nonexistent"));
        let alone = Security { tls_cert: file.clone(), ..Security::default() };
        assert!(alone.options().unwrap_err().to_string().contains("go with --tls-ca"));
        let missing = Security { tls_ca: file.clone(), ..Security::default() };
        assert!(missing.options().unwrap_err().to_string().contains("cannot read /nonexistent"));
        let missing = Security { token_file: file, ..Security::default() };
        assert!(matches!(missing.options(), Err(Error::Security(_))));
        assert!(Security::default().options().unwrap().tls.is_none());
    }
}
