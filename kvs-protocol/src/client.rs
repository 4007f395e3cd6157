//! `Client`: the contract, spoken. It works over anything that reads and writes: a TCP stream, a forwarded port.
//!
//! What must hold: the n-th response belongs to the n-th request; a client that failed in the middle of an exchange is
//! broken and says so, because it can't know any more which response is whose. The client sets no time limit: its
//! caller knows how long to wait (`tokio::time::timeout` around a call, then drop the client).

use std::io;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};

use crate::error_code::ErrorCode;
use crate::frame::{FrameBuffer, FrameTooLarge};
use crate::limits::HIGHEST_MAX_FRAME_BYTES;
use crate::request::{Change, Request, Token, Verb};
use crate::response::{Answer, Response, WireError};

/// How many encoded bytes a pipeline gathers before it writes them: one system call for many small requests.
const WRITE_BUFFER_BYTES: usize = 64 * 1024;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server did not do it and said why; the connection goes on unless the code closes it.
    #[error(transparent)]
    Refused(#[from] WireError),
    /// Reading or writing failed. Whether the request was done is unknown.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server closed the connection before it answered. Whether the request was done is unknown.
    #[error("the server closed the connection before it answered")]
    ConnectionClosed,
    /// What came back is no response: this is no Aryavarth KVS server, or one of another version.
    #[error("what answered is no Aryavarth KVS server: {0}")]
    NotAResponse(String),
    /// An earlier exchange on this connection failed in its middle; connect again.
    #[error("an earlier request on this connection failed in its middle; connect again")]
    Broken,
}

impl ClientError {
    /// The code that the server gave, if it answered.
    #[must_use]
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused(error) => Some(error.code),
            _ => None,
        }
    }
}

impl From<FrameTooLarge> for ClientError {
    fn from(error: FrameTooLarge) -> Self {
        Self::NotAResponse(error.to_string())
    }
}

/// Sends requests. Half of a [`Client`] that was taken apart.
#[derive(Debug)]
pub struct RequestSender<W> {
    writer: W,
    buffer: Vec<u8>,
}

impl<W: AsyncWrite + Unpin> RequestSender<W> {
    /// A sender over the writing half of a connection.
    pub fn new(writer: W) -> Self {
        Self { writer, buffer: Vec::new() }
    }

    /// Sends a request, at the latest with the next [`flush`](Self::flush).
    ///
    /// # Errors
    /// What the connection said.
    pub async fn send(&mut self, request: &Request) -> io::Result<()> {
        request.encode(&mut self.buffer);
        if self.buffer.len() >= WRITE_BUFFER_BYTES {
            self.write_buffer().await?;
        }
        Ok(())
    }

    /// Sends what is still held back.
    ///
    /// # Errors
    /// What the connection said.
    pub async fn flush(&mut self) -> io::Result<()> {
        self.write_buffer().await?;
        self.writer.flush().await
    }

    async fn write_buffer(&mut self) -> io::Result<()> {
        self.writer.write_all(&self.buffer).await?;
        self.buffer.clear();
        self.buffer.shrink_to(WRITE_BUFFER_BYTES);
        Ok(())
    }
}

/// Receives responses in the order of the requests. Half of a [`Client`] that was taken apart.
#[derive(Debug)]
pub struct ResponseReceiver<R> {
    reader: R,
    frames: FrameBuffer,
}

impl<R: AsyncRead + Unpin> ResponseReceiver<R> {
    /// A receiver over the reading half of a connection.
    pub fn new(reader: R) -> Self {
        Self { reader, frames: FrameBuffer::new(HIGHEST_MAX_FRAME_BYTES) }
    }

    /// Waits for the next response. Can be cancelled without losing bytes.
    ///
    /// # Errors
    /// All of [`ClientError`] but `Refused` and `Broken`.
    pub async fn receive(&mut self) -> Result<Response, ClientError> {
        loop {
            if let Some(line) = self.frames.next_line()? {
                return Response::decode(line).map_err(|error| ClientError::NotAResponse(error.to_string()));
            }
            if self.frames.fill_from(&mut self.reader).await? == 0 {
                return Err(ClientError::ConnectionClosed);
            }
        }
    }
}

/// One connection to a server.
#[derive(Debug)]
pub struct Client<S> {
    sender: RequestSender<WriteHalf<S>>,
    receiver: ResponseReceiver<ReadHalf<S>>,
    /// Whether every request that was sent has its response.
    in_step: bool,
}

impl<S: AsyncRead + AsyncWrite> Client<S> {
    /// A client over a connection on which nothing has been sent.
    pub fn new(stream: S) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self { sender: RequestSender::new(writer), receiver: ResponseReceiver::new(reader), in_step: true }
    }

    /// Takes the client apart, for callers that send and receive in tasks of their own.
    pub fn into_halves(self) -> (RequestSender<WriteHalf<S>>, ResponseReceiver<ReadHalf<S>>) {
        (self.sender, self.receiver)
    }

    /// Sends one request and waits for its response.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub async fn call(&mut self, request: &Request) -> Result<Answer, ClientError> {
        self.begin()?;
        self.sender.send(request).await?;
        self.sender.flush().await?;
        let response = self.receiver.receive().await?;
        self.in_step = true;
        Ok(response.body?)
    }

    /// Sends all requests without waiting between them, receiving meanwhile, and gives their responses in order.
    ///
    /// # Errors
    /// Every [`ClientError`] but `Refused`, which stands in the one response that it belongs to.
    pub async fn pipeline(&mut self, requests: &[Request]) -> Result<Vec<Response>, ClientError> {
        self.begin()?;
        let Self { sender, receiver, .. } = self;
        let sending = async {
            for request in requests {
                sender.send(request).await?;
            }
            sender.flush().await.map_err(ClientError::Io)
        };
        // Receiving meanwhile: a server stops reading a client that does not read.
        let receiving = async {
            let mut responses = Vec::with_capacity(requests.len());
            for _ in requests {
                responses.push(receiver.receive().await?);
            }
            Ok::<_, ClientError>(responses)
        };
        let ((), responses) = tokio::try_join!(sending, receiving)?;
        self.in_step = true;
        Ok(responses)
    }

    /// Stores a value; when this returns, it is durable under the server's sync mode.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub async fn set(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Result<(), ClientError> {
        self.call(&Verb::Set { key: key.into(), value: value.into() }.into()).await.map(|_| ())
    }

    /// The value of a key, or `None`.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub async fn get(&mut self, key: impl Into<Vec<u8>>) -> Result<Option<Vec<u8>>, ClientError> {
        match self.call(&Verb::Get { key: key.into() }.into()).await? {
            Answer::Null => Ok(None),
            Answer::Bytes(value) => Ok(Some(value)),
            _ => Err(unexpected("get", "something that is no value")),
        }
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub async fn exists(&mut self, key: impl Into<Vec<u8>>) -> Result<bool, ClientError> {
        match self.call(&Verb::Exists { key: key.into() }.into()).await? {
            Answer::Bool(exists) => Ok(exists),
            _ => Err(unexpected("exists", "no truth value")),
        }
    }

    /// Removes a key that must be there.
    ///
    /// # Errors
    /// Every [`ClientError`]; a missing key is `Refused` with [`ErrorCode::KeyNotFound`].
    pub async fn remove(&mut self, key: impl Into<Vec<u8>>) -> Result<(), ClientError> {
        self.call(&Verb::Remove { key: key.into() }.into()).await.map(|_| ())
    }

    /// Applies all changes or, after a crash, none.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub async fn batch(&mut self, changes: Vec<Change>) -> Result<(), ClientError> {
        self.call(&Verb::Batch(changes).into()).await.map(|_| ())
    }

    /// Tells the server who asks from now on.
    ///
    /// # Errors
    /// Every [`ClientError`]; a token that the server does not know is `Refused` with [`ErrorCode::Unauthenticated`].
    pub async fn authenticate(&mut self, token: Token) -> Result<(), ClientError> {
        self.call(&Verb::Auth { token }.into()).await.map(|_| ())
    }

    /// Waits for the server to answer, no more.
    ///
    /// # Errors
    /// Every [`ClientError`].
    pub async fn ping(&mut self) -> Result<(), ClientError> {
        self.call(&Verb::Ping.into()).await.map(|_| ())
    }

    /// Marks the connection as out of step until the exchange that now begins has ended well.
    fn begin(&mut self) -> Result<(), ClientError> {
        if !std::mem::replace(&mut self.in_step, false) {
            return Err(ClientError::Broken);
        }
        Ok(())
    }
}

fn unexpected(verb: &str, what: &str) -> ClientError {
    ClientError::NotAResponse(format!("`{verb}` was answered with {what}"))
}
