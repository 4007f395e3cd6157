//! `Session`: one connection at a time to one target, made when it is needed and made again when it broke.
//!
//! What must hold: a request is sent again only if its first sending cannot have had an effect (the server refused it)
//! or if sending it twice has the effect of sending it once (every verb but `rm`). A plain address is tried once: who
//! names one wants to know at once that nobody listens there. A store is a promise that somebody will: its pod is
//! looked for until the time is over.

use std::future::Future;
use std::time::Duration;

use kvs_protocol::{Answer, ClientError, ErrorCode, Request, Verb};

use crate::address::Address;
use crate::connection::Connection;
use crate::error::Error;
use crate::retry::Retry;
use crate::store::{Store, StoreError};

/// How long to wait for an answer through a forwarded port before looking for the pod again: a node that vanished
/// does not close its connections.
const FORWARDED_ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Whom a command talks to.
pub(crate) enum Target {
    Address(Address),
    Store(Box<Store>),
}

/// A target and the connection to it.
pub(crate) struct Session {
    target: Target,
    /// The time for one call, all attempts together.
    timeout: Duration,
    connection: Option<Connection>,
    /// Whether a connection was made before: then what fails now is an interruption, not a wrong name.
    was_connected: bool,
    /// What kept the last attempt from connecting. An attempt that runs out of time knows less than the one before it.
    obstacle: Option<StoreError>,
}

impl Session {
    pub(crate) fn new(target: Target, timeout: Duration) -> Self {
        Self { target, timeout, connection: None, was_connected: false, obstacle: None }
    }

    /// The target, as an error names it.
    pub(crate) fn place(&self) -> String {
        match (&self.connection, &self.target) {
            (Some(connection), _) => connection.place().to_owned(),
            (None, Target::Address(address)) => address.to_string(),
            (None, Target::Store(store)) => format!("store {}", store.name()),
        }
    }

    /// A retry with the time of one call.
    pub(crate) fn retry(&self) -> Retry {
        Retry::new(self.timeout)
    }

    /// Sends one request and waits for its answer, again and again where that is safe and useful.
    pub(crate) async fn call(&mut self, verb: Verb) -> Result<Answer, Error> {
        let idempotent = !matches!(verb, Verb::Remove { .. });
        let request = Request::from(verb);
        let mut retry = self.retry();
        let mut known = None;
        loop {
            let is_short = retry.left() < FORWARDED_ANSWER_TIMEOUT;
            let error = match self.attempt(&request, idempotent, &retry).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
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
        let connection = self.connection(retry).await?;
        let place = connection.place().to_owned();
        let advice = if idempotent {
            "try again"
        } else {
            "whether the key was removed is not known: `get` it before trying again"
        };
        let exchange = async {
            connection.send(request).await?;
            connection.flush().await?;
            connection.receive().await
        };
        let result = match tokio::time::timeout(answer_limit, exchange).await {
            Ok(Ok(response)) => response.body.map_err(|error| Error::Refused { place, error }),
            Ok(Err(error)) => Err(broken(place, &error, advice)),
            Err(_) => Err(Error::Timeout { place, limit: retry.limit(), advice }),
        };
        if !matches!(&result, Ok(_) | Err(Error::Refused { .. })) || is_closing(&result) {
            self.disconnect();
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
                Target::Address(address) => {
                    let connecting = within(retry, &place, address.connect()).await?;
                    let stream = connecting.map_err(|cause| Error::Connect { place: place.clone(), cause })?;
                    Connection::new(stream, place)
                }
                Target::Store(store) => match within(retry, &place, store.connect()).await {
                    Ok(Ok(connection)) => connection,
                    Ok(Err(error)) => {
                        self.obstacle = Some(error.clone());
                        return Err(error.into());
                    }
                    Err(timeout) => return Err(self.obstacle.take().map_or(timeout, Error::Store)),
                },
            };
            self.obstacle = None;
            self.connection = Some(connection);
            self.was_connected = true;
        }
        Ok(self.connection.as_mut().expect("it was there or has just been made"))
    }

    /// Forgets the connection; the next use makes another.
    fn disconnect(&mut self) {
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
        ClientError::NotAResponse(cause) => Error::NotAServer { place, cause: cause.clone() },
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
