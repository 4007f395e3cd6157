//! `Connection`: requests and responses over one stream, whoever carries it.
//!
//! What must hold: after an error the connection is of no use, because nobody knows which answer would come next.

use std::io;

use futures::future::BoxFuture;
use kvs_protocol::{ClientError, ConnectOptions, Request, RequestSender, Response, ResponseReceiver, Token, Verb};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};

use crate::error::Error;
use crate::session::broken;

/// A stream of bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Resolves when the carrier of a stream fails, with what it said if it said something.
pub(crate) type Failure = BoxFuture<'static, String>;

/// The sending half of a connection.
pub(crate) type Sender = RequestSender<WriteHalf<Box<dyn Stream>>>;
/// The receiving half of a connection.
pub(crate) type Receiver = ResponseReceiver<ReadHalf<Box<dyn Stream>>>;

/// A connection to a server.
pub(crate) struct Connection {
    sender: Sender,
    receiver: Receiver,
    failure: Failure,
    /// The other end, as an error names it.
    place: String,
}

impl Connection {
    /// A connection over a stream to this host: secured first, then authenticated, as far as the options say so. The
    /// carrier of the stream can fail without ending it.
    pub(crate) async fn open(
        stream: impl Stream + 'static,
        host: &str,
        options: &ConnectOptions,
        place: String,
        mut failure: Failure,
    ) -> Result<Self, Error> {
        let secured = tokio::select! {
            secured = options.secure(stream, host) => secured,
            cause = &mut failure => Err(io::Error::other(cause)),
        };
        let stream = secured.map_err(|cause| not_secured(&place, &cause))?;
        let (reader, writer) = tokio::io::split(Box::new(stream) as Box<dyn Stream>);
        let (sender, receiver) = (RequestSender::new(writer), ResponseReceiver::new(reader));
        let mut connection = Self { sender, receiver, failure, place };
        if let Some(token) = &options.token {
            connection.authenticate(token.clone()).await?;
        }
        Ok(connection)
    }

    async fn authenticate(&mut self, token: Token) -> Result<(), Error> {
        let exchange = self.exchange(&Verb::Auth { token }.into()).await;
        let response = exchange.map_err(|error| broken(self.place.clone(), &error, "try again"))?;
        response.body.map(|_| ()).map_err(|error| Error::Refused { place: self.place.clone(), error })
    }

    /// The other end, as an error names it.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Both halves, for loops that send and receive at once, and what resolves when the carrier fails.
    pub(crate) fn split(self) -> (Sender, Receiver, Failure) {
        (self.sender, self.receiver, self.failure)
    }

    /// Sends the one request under way and waits for its response. A server that reads no further has said why before
    /// it closed: where sending fails, that is there to be received.
    pub(crate) async fn exchange(&mut self, request: &Request) -> Result<Response, ClientError> {
        let Self { sender, receiver, failure, .. } = self;
        let exchange = async {
            let sent = match sender.send(request).await {
                Ok(()) => sender.flush().await,
                error => error,
            };
            match (receiver.receive().await, sent) {
                (Err(_), Err(error)) => Err(ClientError::Io(error)),
                (received, _) => received,
            }
        };
        tokio::select! {
            response = exchange => response,
            cause = failure => Err(failed(cause)),
        }
    }

    /// Sends a request, at the latest with the next flush.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        tokio::select! {
            sent = self.sender.send(request) => sent.map_err(ClientError::Io),
            cause = &mut self.failure => Err(failed(cause)),
        }
    }

    /// Sends what is still held back.
    pub(crate) async fn flush(&mut self) -> Result<(), ClientError> {
        tokio::select! {
            flushed = self.sender.flush() => flushed.map_err(ClientError::Io),
            cause = &mut self.failure => Err(failed(cause)),
        }
    }

    /// Waits for the next response.
    pub(crate) async fn receive(&mut self) -> Result<Response, ClientError> {
        tokio::select! {
            response = self.receiver.receive() => response,
            cause = &mut self.failure => Err(failed(cause)),
        }
    }
}

fn failed(cause: String) -> ClientError {
    ClientError::Io(io::Error::other(cause))
}

/// Why there is no TLS on a stream. What the other end's bytes or certificate are at fault for is told from a broken stream.
fn not_secured(place: &str, cause: &io::Error) -> Error {
    match cause.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Error::Security(format!(
            "no TLS with {place}: {cause}; check --tls-ca and --tls-server-name, and whether that port speaks TLS"
        )),
        _ => Error::Broken { place: place.to_owned(), cause: cause.to_string(), advice: "try again" },
    }
}
