//! `Connection`: requests and responses over one stream, whoever carries it.
//!
//! What must hold: after an error the connection is of no use, because nobody knows which answer would come next.

use futures::future::BoxFuture;
use kvs_protocol::{ClientError, Request, RequestSender, Response, ResponseReceiver};
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf};

/// A stream of bytes in both directions.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Resolves when the carrier of a stream fails, with what it said if it said something.
pub(crate) type Failure = BoxFuture<'static, String>;

/// A connection to a server.
pub(crate) struct Connection {
    sender: RequestSender<WriteHalf<Box<dyn Stream>>>,
    receiver: ResponseReceiver<ReadHalf<Box<dyn Stream>>>,
    failure: Failure,
    /// The other end, as an error names it.
    place: String,
}

impl Connection {
    /// A connection over a stream that fails only by itself.
    pub(crate) fn new(stream: impl Stream + 'static, place: String) -> Self {
        Self::with_failure(stream, place, Box::pin(std::future::pending()))
    }

    /// A connection over a stream whose carrier can fail without ending the stream.
    pub(crate) fn with_failure(stream: impl Stream + 'static, place: String, failure: Failure) -> Self {
        let (reader, writer) = tokio::io::split(Box::new(stream) as Box<dyn Stream>);
        Self { sender: RequestSender::new(writer), receiver: ResponseReceiver::new(reader), failure, place }
    }

    /// The other end, as an error names it.
    pub(crate) fn place(&self) -> &str {
        &self.place
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
    ClientError::Io(std::io::Error::other(cause))
}
