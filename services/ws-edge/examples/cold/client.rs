//! A WebSocket client that looks at what it is sent just enough to know that it is right.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// A client that only reads.
pub(crate) struct Reader {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// What of it has been looked at.
    at: usize,
}

/// One frame.
pub(crate) enum Seen {
    /// An event.
    Event { seq: u64 },
    /// The end of a snapshot.
    Live,
    /// Another control frame.
    Control,
}

impl Reader {
    pub(crate) async fn open(address: SocketAddr, path: &str, v1: bool) -> Self {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let protocol = if v1 { "Sec-WebSocket-Protocol: herald.v1\r\n" } else { "" };
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{protocol}\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut reader = Self { socket, buffer: Vec::with_capacity(16 << 10), at: 0 };
        loop {
            if let Some(end) = reader.buffer.windows(4).position(|part| part == b"\r\n\r\n") {
                assert!(reader.buffer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&reader.buffer));
                reader.at = end + 4;
                return reader;
            }
            reader.fill().await;
        }
    }

    async fn fill(&mut self) {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        } else if self.at > 64 << 10 {
            self.buffer.drain(..self.at);
            self.at = 0;
        }
        self.buffer.reserve(16 << 10);
        let read = self.socket.read_buf(&mut self.buffer).await.unwrap();
        assert!(read > 0, "closed");
    }

    /// Where the next frame's payload begins and ends, if all of it is there; with its opcode.
    fn frame(&self) -> Option<(u8, usize, usize)> {
        let bytes = &self.buffer[self.at..];
        let (head, len) = match *bytes.get(1)? {
            126 => (4, usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
            127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)).ok()?),
            len => (2, usize::from(len)),
        };
        (bytes.len() >= head + len).then_some((bytes[0] & 15, self.at + head, self.at + head + len))
    }

    /// The next text.
    pub(crate) async fn next(&mut self) -> Seen {
        loop {
            let Some((opcode, from, to)) = self.frame() else {
                self.fill().await;
                continue;
            };
            self.at = to;
            let text = &self.buffer[from..to];
            match opcode {
                1 if text.starts_with(b"{\"event\":\"herald.") => {
                    assert!(!text.starts_with(b"{\"event\":\"herald.gap\""), "{}", String::from_utf8_lossy(text));
                    return if text.starts_with(b"{\"event\":\"herald.live\"") { Seen::Live } else { Seen::Control };
                }
                1 => return Seen::Event { seq: seq(text) },
                9 => {}
                _ => panic!("closed: {}", String::from_utf8_lossy(text.get(2..).unwrap_or_default())),
            }
        }
    }
}

/// The number behind the last `"seq":`.
fn seq(text: &[u8]) -> u64 {
    const KEY: &[u8] = b"\"seq\":";
    let at = text.windows(KEY.len()).rposition(|part| part == KEY).expect("a sequence") + KEY.len();
    text[at..].iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |seq, digit| seq * 10 + u64::from(digit - b'0'))
}
