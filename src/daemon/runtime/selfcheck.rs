//! The daemon asks itself, as a client would: the watchdog is only fed while it answers.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// True if a listener of this address can be asked in the clear.
pub fn can_ask(address: &str) -> bool {
    address.starts_with('/') || address.parse::<std::net::SocketAddr>().is_ok()
}

/// Asks for a decision that needs no credential and changes nothing: an inbound call of no tenant.
///
/// # Errors
/// No answer in time, or not an allow.
pub async fn ask(address: &str) -> io::Result<()> {
    tokio::time::timeout(PATIENCE, exchange(address)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

async fn exchange(address: &str) -> io::Result<()> {
    let body = "tenant=-&session=selfcheck&kind=call&direction=inbound";
    let request = format!(
        "POST /v1/acquire HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = Vec::new();
    if address.starts_with('/') {
        let mut stream = UnixStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.take(4_096).read_to_end(&mut answer).await?;
    } else {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        stream.take(4_096).read_to_end(&mut answer).await?;
    }
    let answer = String::from_utf8_lossy(&answer);
    if answer.starts_with("HTTP/1.1 200") && answer.ends_with("allow.free inbound") {
        return Ok(());
    }
    Err(io::Error::other(format!("unexpected answer: {}", answer.lines().next().unwrap_or("nothing"))))
}
