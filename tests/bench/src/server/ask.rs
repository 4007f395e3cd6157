//! One question to a server on a connection of its own, and one page of the admin port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use kvs_bench::Result;
use kvs_load::{Reply, Wire, keys};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Sets in one batch of a load.
const BATCH: u64 = 1_000;

fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Sends a request and gives what its answer says.
pub fn ask(addr: SocketAddr, wire: Wire, request: &[u8]) -> Result<Reply> {
    exchange(&mut connect(addr)?, wire, request)
}

fn exchange(stream: &mut TcpStream, wire: Wire, request: &[u8]) -> Result<Reply> {
    stream.write_all(request)?;
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        if let Some((reply, _)) = wire.answer(&answer)? {
            return Ok(reply);
        }
        match stream.read(&mut piece)? {
            0 => return Err("the server closed the connection".into()),
            count => answer.extend_from_slice(&piece[..count]),
        }
    }
}

/// Asks for a key.
pub fn get(addr: SocketAddr, wire: Wire, index: u64) -> Result<Reply> {
    let mut request = Vec::new();
    wire.get(&keys::key(index), &mut request);
    ask(addr, wire, &request)
}

/// Stores a range of keys in our server in its fastest durable way.
pub fn load_in_batches(addr: SocketAddr, from: u64, to: u64) -> Result<()> {
    let mut stream = connect(addr)?;
    let values = keys::Values::new(keys::VALUE_BYTES);
    let mut numbers = keys::Numbers::new(from);
    for first in (from..to).step_by(usize::try_from(BATCH)?) {
        let mut line = b"{\"batch\":[".to_vec();
        for index in first..(first + BATCH).min(to) {
            if index > first {
                line.push(b',');
            }
            Wire::JsonLines.set(&keys::key(index), values.value(numbers.number()), &mut line);
            // A change in a batch has no line of its own.
            line.pop();
        }
        line.extend_from_slice(b"]}\n");
        let reply = exchange(&mut stream, Wire::JsonLines, &line)?;
        if reply != Reply::Done {
            return Err(format!("a batch was answered {reply:?}").into());
        }
    }
    Ok(())
}

/// The metrics of an admin port, with the head of the answer.
pub fn metrics(admin: SocketAddr) -> Result<String> {
    let mut stream = connect(admin)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// How many series there are in metrics.
pub fn series(metrics: &str) -> usize {
    let body = metrics.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    body.lines().filter(|line| !line.starts_with('#')).count()
}

/// The value of a series on an admin port.
pub fn metric(admin: SocketAddr, series: &str) -> Result<f64> {
    let text = metrics(admin)?;
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    Ok(line.ok_or_else(|| format!("there is no metric {series}"))?.trim().parse()?)
}
