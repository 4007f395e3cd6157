//! One GET over a stream, for the admin ports of server and operator.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::failure::Failure;
use crate::forward::Stream;

/// The longest wait for the whole answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Bytes of the longest answer that is read: metrics take some tens of kilobytes.
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// The body of the answer to a GET, which must be a success.
///
/// # Errors
/// When there is no answer, or it is no success.
pub async fn get(mut stream: Stream, path: &str) -> Result<String, Failure> {
    // HTTP/1.0, so that the server answers in one piece and then closes.
    let request = format!("GET {path} HTTP/1.0\r\nHost: admin\r\n\r\n");
    let mut answer = Vec::new();
    let exchange = async {
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        stream.take(MOST_BYTES).read_to_end(&mut answer).await
    };
    match timeout(ANSWER_LIMIT, exchange).await {
        Ok(result) => result.map_err(Failure::io(format!("GET {path}")))?,
        Err(_elapsed) => return Err(Failure::Unexpected(format!("GET {path}: no answer in time"))),
    };
    parse(&String::from_utf8_lossy(&answer)).map_err(|cause| Failure::Unexpected(format!("GET {path}: {cause}")))
}

/// The body of an answer, or why there is none.
fn parse(answer: &str) -> Result<String, String> {
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| format!("no HTTP answer: {answer:?}"))?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(format!("{status}: {}", body.trim()));
    }
    Ok(body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_success_has_a_body() {
        assert_eq!(parse("HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nok\n").as_deref(), Ok("ok\n"));
        let refusal = parse("HTTP/1.1 503 Service Unavailable\r\n\r\nstarting\n");
        assert_eq!(refusal, Err("HTTP/1.1 503 Service Unavailable: starting".into()));
        assert!(parse("").is_err());
    }
}
