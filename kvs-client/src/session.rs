//! `Session`: one connection at a time to one target, made when it is needed and made again when it broke.
//!
//! What must hold: a request is sent again only if its first sending cannot have had an effect (the server refused it)
//! or if sending it twice has the effect of sending it once (every verb but `rm`, `take` and a `set` that depends on what
//! is there). A plain address is tried once: who names one wants to know at once that nobody listens there; only a
//! connection that was silent since its last answer, and may have been closed for it, is made again. A store is a promise
//! that somebody will listen: its pod is looked for until the time is over.

use std::future::Future;
use std::time::{Duration, Instant};

use kvs_protocol::{Answer, ClientError, ConnectOptions, ErrorCode, Request, Verb};

use crate::address::Address;
use crate::connection::Connection;
use crate::error::Error;
use crate::retry::Retry;
use crate::store::{Reached, Store, StoreError};

/// How long to wait for an answer through a forwarded port before looking for the pod again: a node that vanished
/// does not close its connections.
const FORWARDED_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may be silent before a removal goes over a new one: a server closes what is idle for minutes,
/// and a removal whose connection breaks is one of which nobody knows whether it was done.
const TRUSTED_SILENCE: Duration = Duration::from_secs(60);

/// Whom a command talks to.
#[derive(Clone)]
pub(crate) enum Target {
    Address { address: Address, options: Box<ConnectOptions> },
    Store(Box<Store>),
}

impl Target {
    /// Why a connection broke that has carried no answer: a server that speaks TLS closes one that does not, without a
    /// word that could be understood.
    fn with_hint(&self, error: Error) -> Error {
        match (error, self) {
            (Error::Broken { place, cause, advice }, Self::Address { options, .. }) if options.tls.is_none() => {
                Error::Broken { place, cause: format!("{cause} (if it speaks TLS, say --tls-ca FILE)"), advice }
            }
            (error, _) => error,
        }
    }
}

/// A target and the connection to it.
pub(crate) struct Session {
    target: Target,
    /// The time for one call, all attempts together.
    timeout: Duration,
    connection: Option<Connection>,
    /// When the connection last carried an answer.
    last_answer: Instant,
    /// Whether the connection has carried one at all.
    is_proven: bool,
    /// Whether a connection was made before: then what fails now is an interruption, not a wrong name.
    was_connected: bool,
    /// What kept the last attempt from connecting. An attempt that runs out of time knows less than the one before it.
    obstacle: Option<StoreError>,
}

impl Session {
    pub(crate) fn new(target: Target, timeout: Duration) -> Self {
        let last_answer = Instant::now();
        let (connection, obstacle) = (None, None);
        Self { target, timeout, connection, last_answer, is_proven: false, was_connected: false, obstacle }
    }

    /// Another session with the same target, for a connection of its own.
    pub(crate) fn another(&self) -> Self {
        Self::new(self.target.clone(), self.timeout)
    }

    /// The target answered something that the verb does not have.
    pub(crate) fn unexpected(&self, verb: &str) -> Error {
        Error::NotAServer { place: self.place(), cause: format!("`{verb}` was answered with something else") }
    }

    /// The target, as an error names it.
    pub(crate) fn place(&self) -> String {
        match &self.connection {
            Some(connection) => connection.place().to_owned(),
            None => self.target_name(),
        }
    }

    /// The target without the pod that stands for it at the moment.
    pub(crate) fn target_name(&self) -> String {
        match &self.target {
            Target::Address { address, .. } => address.to_string(),
            Target::Store(store) => format!("store {}", store.name()),
        }
    }

    /// A retry with the time of one call.
    pub(crate) fn retry(&self) -> Retry {
        Retry::new(self.timeout)
    }

    /// Sends one request and waits for its answer, again and again where that is safe and useful.
    pub(crate) async fn call(&mut self, verb: Verb) -> Result<Answer, Error> {
        let idempotent = !matches!(verb, Verb::Remove { .. } | Verb::Take { .. } | Verb::SetIf { .. });
        let request = Request::from(verb);
        let mut retry = self.retry();
        let mut known = None;
        loop {
            let is_short = retry.left() < FORWARDED_ANSWER_TIMEOUT;
            let was_silent = self.connection.is_some();
            let error = match self.attempt(&request, idempotent, &retry).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if was_silent && idempotent && matches!(error, Error::Broken { .. }) && self.connection.is_none() {
                // The server may have closed it meanwhile; the next one is new, so this happens once.
                continue;
            }
            if !self.is_worth_retrying(&error, idempotent) || !retry.pause().await {
                return Err(match known {
                    // The last attempt had little time and learned nothing; the one before it has something to tell.
                    // Of a removal the last one counts, because it may have had an effect.
                    Some(known) if is_short && idempotent && matches!(error, Error::Timeout { .. }) => known,
                    _ => error,
                });
            }
            known = Some(error);
        }
    }

    async fn attempt(&mut self, request: &Request, idempotent: bool, retry: &Retry) -> Result<Answer, Error> {
        let answer_limit = self.answer_limit(retry, idempotent);
        if !idempotent && self.last_answer.elapsed() > TRUSTED_SILENCE {
            self.disconnect();
        }
        self.connection(retry).await?;
        // Out of its place until the exchange is over: a call that is dropped in the middle drops the connection too,
        // because nobody would know whose the next answer is.
        let mut connection = self.connection.take().expect("it has just been made");
        let place = connection.place().to_owned();
        let advice = if idempotent {
            "try again"
        } else {
            "whether the key was removed is not known: `get` it before trying again"
        };
        let exchange = connection.exchange(request);
        let result = match tokio::time::timeout(answer_limit, exchange).await {
            Ok(Ok(response)) => response.body.map_err(|error| Error::Refused { place, error }),
            Ok(Err(error)) if self.is_proven => Err(broken(place, &error, advice)),
            Ok(Err(error)) => Err(self.target.with_hint(broken(place, &error, advice))),
            Err(_) => Err(Error::Timeout { place, limit: retry.limit(), advice }),
        };
        self.is_proven |= result.is_ok();
        if matches!(&result, Ok(_) | Err(Error::Refused { .. })) && !is_closing(&result) {
            self.connection = Some(connection);
            self.last_answer = Instant::now();
        }
        result
    }

    /// How long to wait for one answer.
    pub(crate) fn answer_limit(&self, retry: &Retry, idempotent: bool) -> Duration {
        match self.target {
            Target::Store(_) if idempotent => retry.left().min(FORWARDED_ANSWER_TIMEOUT),
            _ => retry.left(),
        }
    }

    /// A connection for a caller that sends and receives by itself.
    pub(crate) async fn take_connection(&mut self, retry: &Retry) -> Result<Connection, Error> {
        self.connection(retry).await?;
        Ok(self.connection.take().expect("it has just been made"))
    }

    /// The connection, made now if there is none.
    async fn connection(&mut self, retry: &Retry) -> Result<&mut Connection, Error> {
        if self.connection.is_none() {
            let place = self.place();
            let connection = match &mut self.target {
                Target::Address { address, options } => {
                    let connecting = within(retry, &place, address.connect()).await?;
                    let stream = connecting.map_err(|cause| Error::Connect { place: place.clone(), cause })?;
                    let host = address.host();
                    let carrier = Box::pin(std::future::pending());
                    let opened = Connection::open(stream, &host, options, place.clone(), carrier);
                    let opened = within(retry, &place, opened).await?;
                    opened.map_err(|error| self.target.with_hint(error))?
                }
                Target::Store(store) => match within(retry, &place, store.reach()).await {
                    Ok(Ok(Reached { stream, host, place, failure, secrets })) => {
                        let options = store.security().options_with(secrets, Some(&host))?;
                        within(retry, &place, Connection::open(stream, &host, &options, place.clone(), failure))
                            .await??
                    }
                    Ok(Err(error)) => {
                        self.obstacle = Some(error.clone());
                        return Err(error.into());
                    }
                    Err(timeout) => return Err(self.obstacle.take().map_or(timeout, Error::Store)),
                },
            };
            self.obstacle = None;
            self.connection = Some(connection);
            self.is_proven = false;
            self.was_connected = true;
        }
        Ok(self.connection.as_mut().expect("it was there or has just been made"))
    }

    /// Forgets the connection; the next use makes another.
    pub(crate) fn disconnect(&mut self) {
        self.connection = None;
    }

    /// Whether another attempt is safe and can succeed.
    pub(crate) fn is_worth_retrying(&self, error: &Error, idempotent: bool) -> bool {
        let is_store = matches!(self.target, Target::Store(_));
        match error {
            Error::Refused { error, .. } => match error.code {
                ErrorCode::Busy => true,
                // Its successor is on the way; at a plain address there may be none.
                ErrorCode::ShuttingDown => is_store,
                _ => false,
            },
            Error::Broken { .. } | Error::Timeout { .. } => is_store && idempotent,
            Error::Store(error) => error.is_interruption() || (self.was_connected && error.can_pass()),
            _ => false,
        }
    }
}

/// An error of a connection as one of ours.
pub(crate) fn broken(place: String, error: &ClientError, advice: &'static str) -> Error {
    match error {
        ClientError::NotAResponse(cause) => {
            Error::NotAServer { place, cause: format!("it answers something else ({cause})") }
        }
        ClientError::Io(cause) => Error::Broken { place, cause: cause.to_string(), advice },
        error => Error::Broken { place, cause: error.to_string(), advice },
    }
}

/// Whether the server said that it is going away or can't read us: the connection is about to end.
fn is_closing(result: &Result<Answer, Error>) -> bool {
    matches!(result, Err(Error::Refused { error, .. })
        if error.code == ErrorCode::ShuttingDown || error.code.closes_connection())
}

async fn within<T>(retry: &Retry, place: &str, connecting: impl Future<Output = T>) -> Result<T, Error> {
    tokio::time::timeout(retry.left(), connecting).await.map_err(|_| Error::Timeout {
        place: place.to_owned(),
        limit: retry.limit(),
        advice: "check the address and the network between",
    })
}

#[cfg(test)]
mod tests {
    use kvs_protocol::Token;
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers each request with its key, the first one late.
    async fn slow_at_first(listener: TcpListener) {
        let mut delay = Duration::from_millis(200);
        loop {
            let (stream, _) = listener.accept().await.expect("a listener accepts");
            let delay = std::mem::take(&mut delay);
            tokio::spawn(async move {
                let (reader, mut writer) = stream.into_split();
                let mut lines = BufReader::new(reader).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    tokio::time::sleep(delay).await;
                    let key = line.split('"').nth(5).unwrap_or_default();
                    let _ = writer.write_all(format!("{{\"ok\":\"{key}\"}}\n").as_bytes()).await;
                }
            });
        }
    }

    /// Says something after the first bytes, and closes without reading the rest.
    async fn refuses(listener: TcpListener, said: &'static [u8]) {
        let (mut stream, _) = listener.accept().await.expect("a listener accepts");
        stream.read_u8().await.expect("a first byte");
        stream.write_all(said).await.expect("the client is there");
    }

    /// Answers one request on each connection, and closes it.
    async fn answers_once(listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.expect("a listener accepts");
            let (reader, mut writer) = stream.into_split();
            if let Ok(Some(_)) = BufReader::new(reader).lines().next_line().await {
                let _ = writer.write_all(b"{\"ok\":null}\n").await;
            }
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_closed_in_silence_is_made_again_where_asking_twice_does_no_harm() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        tokio::spawn(answers_once(listener));
        let target = Target::Address { address, options: Box::default() };
        let mut session = Session::new(target, Duration::from_secs(10));
        for _ in 0..3 {
            session.call(Verb::Get { key: b"k".to_vec() }).await.unwrap();
        }
        let error = session.call(Verb::Remove { key: b"k".to_vec() }).await.unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{error}");
    }

    async fn refused(said: &'static [u8], token: Option<&str>) -> Error {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        tokio::spawn(refuses(listener, said));
        let options = ConnectOptions { token: token.map(Token::new), tls: None };
        let target = Target::Address { address, options: Box::new(options) };
        let mut session = Session::new(target, Duration::from_secs(60));
        let value = vec![b'v'; 32 * 1024 * 1024];
        session.call(Verb::Set { key: b"k".to_vec(), value }).await.unwrap_err()
    }

    #[tokio::test]
    async fn who_is_read_no_further_hears_why() {
        let error = refused(b"{\"error\":{\"code\":\"too_large\",\"message\":\"too long\"}}\n", None).await;
        assert!(matches!(&error, Error::Refused { error, .. } if error.message == "too long"), "{error}");
        for token in [None, Some("secret")] {
            let error = refused(b"", token).await;
            assert!(matches!(&error, Error::Broken { cause, .. } if cause.contains("--tls-ca")), "{error}");
        }
    }

    #[tokio::test]
    async fn a_call_that_was_given_up_leaves_no_answer_behind() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string().parse().unwrap();
        tokio::spawn(slow_at_first(listener));
        let target = Target::Address { address, options: Box::default() };
        let mut session = Session::new(target, Duration::from_secs(60));
        let get = |key: &str| Verb::Get { key: key.into() };
        let given_up = tokio::time::timeout(Duration::from_millis(50), session.call(get("first"))).await;
        assert!(given_up.is_err(), "the first answer is late");
        assert_eq!(session.call(get("second")).await.unwrap(), Answer::Bytes(b"second".to_vec()));
        assert_eq!(session.call(get("third")).await.unwrap(), Answer::Bytes(b"third".to_vec()));
    }
}
