//! The client against a server of a few lines, over a stream in memory.
#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected ends")]

use kvs_protocol::{Answer, Client, ClientError, ErrorCode, FrameBuffer, Request, Response, Verb, WireError};
use tokio::io::{AsyncWriteExt as _, DuplexStream};

/// Answers each get with its key, each ping with null and refuses every set; ends after `requests` of them.
async fn echo(mut stream: DuplexStream, requests: usize) {
    let mut frames = FrameBuffer::new(1_000_000);
    for _ in 0..requests {
        let request = loop {
            if let Some(line) = frames.next_line().unwrap() {
                break Request::decode(line).unwrap();
            }
            assert_ne!(frames.fill_from(&mut stream).await.unwrap(), 0, "the client went away");
        };
        let body = match request.verb {
            Verb::Get { key } => Ok(Answer::Bytes(key)),
            Verb::Set { .. } => Err(WireError::new(ErrorCode::NoSpace, "full")),
            _ => Ok(Answer::Null),
        };
        let mut out = Vec::new();
        Response { body, id: request.id }.encode(&mut out);
        stream.write_all(&out).await.unwrap();
    }
}

fn get(number: usize) -> Request {
    Verb::Get { key: number.to_string().into_bytes() }.into()
}

#[tokio::test]
async fn a_pipeline_larger_than_every_buffer_does_not_block_itself() {
    // 64 bytes of room each way: a client that only sent, and read later, would wait for ever.
    let (ours, theirs) = tokio::io::duplex(64);
    let server = tokio::spawn(echo(theirs, 10_001));
    let mut client = Client::new(ours);
    let requests: Vec<Request> = (0..10_000).map(get).collect();
    let responses = client.pipeline(&requests).await.unwrap();
    assert_eq!(responses.len(), 10_000);
    for (number, response) in responses.into_iter().enumerate() {
        assert_eq!(response.body.unwrap(), Answer::Bytes(number.to_string().into_bytes()));
    }
    assert_eq!(client.get("after").await.unwrap(), Some(b"after".to_vec()));
    server.await.unwrap();
}

#[tokio::test]
async fn a_refusal_is_typed_and_the_connection_goes_on() {
    let (ours, theirs) = tokio::io::duplex(1024);
    tokio::spawn(echo(theirs, 2));
    let mut client = Client::new(ours);
    let error = client.set("k", "v").await.unwrap_err();
    assert_eq!((error.code(), error.to_string().as_str()), (Some(ErrorCode::NoSpace), "full"));
    client.ping().await.unwrap();
}

#[tokio::test]
async fn after_a_lost_connection_the_client_says_that_it_is_broken() {
    let (ours, theirs) = tokio::io::duplex(1024);
    tokio::spawn(echo(theirs, 1));
    let mut client = Client::new(ours);
    client.ping().await.unwrap();
    let error = client.ping().await.unwrap_err();
    assert!(matches!(error, ClientError::ConnectionClosed | ClientError::Io(_)), "{error}");
    assert!(matches!(client.ping().await.unwrap_err(), ClientError::Broken));
}

#[tokio::test]
async fn an_abandoned_call_never_gives_its_answer_to_the_next_one() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    let mut client = Client::new(ours);
    tokio::select! {
        biased;
        answer = client.get("first") => panic!("nobody answered yet, but: {answer:?}"),
        () = tokio::task::yield_now() => {}
    }
    theirs.write_all(b"{\"ok\":\"first\"}\n").await.unwrap();
    assert!(matches!(client.get("second").await.unwrap_err(), ClientError::Broken));
}

#[tokio::test]
async fn another_kind_of_server_is_named_as_such() {
    let (ours, mut theirs) = tokio::io::duplex(1024);
    theirs.write_all(b"-ERR unknown command\r\n").await.unwrap();
    let error = Client::new(ours).ping().await.unwrap_err().to_string();
    assert!(error.starts_with("what answered is no Aryavarth KVS server"), "{error}");
}
