//! What no NATS library would send, as bytes on the wire.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{Nats, users};

/// A message with those headers, whatever they hold.
#[must_use]
pub fn hpub(subject: &str, headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let head = format!("HPUB {subject} {} {}\r\n", headers.len(), headers.len() + payload.len());
    [head.as_bytes(), headers, payload, b"\r\n"].concat()
}

/// Sends that as `user`, and waits until the server has taken it.
///
/// # Panics
/// If the server refuses it.
pub async fn send(server: &Nats, user: &str, bytes: &[u8]) {
    let mut tcp = TcpStream::connect(server.address()).await.expect("a connection");
    let hello = serde_json::json!({
        "verbose": false, "pedantic": false, "headers": true, "user": user, "pass": users::password(user)
    });
    let all = [format!("CONNECT {hello}\r\n").as_bytes(), bytes, b"PING\r\n"].concat();
    tcp.write_all(&all).await.expect("sent");
    let mut said = Vec::new();
    while !said.ends_with(b"PONG\r\n") {
        assert!(tcp.read_buf(&mut said).await.expect("an answer") > 0, "closed: {}", said.escape_ascii());
    }
    assert!(!said.windows(4).any(|four| four == b"-ERR"), "refused: {}", said.escape_ascii());
}
