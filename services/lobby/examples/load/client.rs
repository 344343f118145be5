//! Clients that cost little: what is not spent here is left for those that are measured.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

async fn connect(to: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(to).await.unwrap();
    stream.set_nodelay(true).unwrap();
    BufReader::with_capacity(2048, stream)
}

/// The lines of an answer's head; the first is its status.
async fn head(stream: &mut BufReader<TcpStream>) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        match line.trim_end() {
            "" => return lines,
            line => lines.push(line.to_ascii_lowercase()),
        }
    }
}

/// A connection on which one request follows the other.
pub(crate) struct Line {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Line {
    pub(crate) async fn open(to: SocketAddr) -> Self {
        Self { stream: connect(to).await, body: Vec::new() }
    }

    /// Asks, and waits for all of the answer, which is 200 or the end.
    pub(crate) async fn ask(&mut self, method: &str, path: &str, body: &str) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: lobby\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut self.stream).await;
        let field = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
        self.body.clear();
        if let Some(length) = field("content-length: ") {
            self.read(length.parse().unwrap()).await;
        } else {
            assert_eq!(field("transfer-encoding: "), Some("chunked"), "{head:?}");
            loop {
                let mut line = String::new();
                self.stream.read_line(&mut line).await.unwrap();
                let length = usize::from_str_radix(line.trim_end(), 16).unwrap();
                self.read(length).await;
                self.stream.read_line(&mut line).await.unwrap();
                if length == 0 {
                    break;
                }
            }
        }
        assert!(head[0].contains(" 200"), "{method} {path} {body}: {head:?} {}", String::from_utf8_lossy(&self.body));
    }

    async fn read(&mut self, length: usize) {
        let before = self.body.len();
        self.body.resize(before + length, 0);
        self.stream.read_exact(&mut self.body[before..]).await.unwrap();
    }

    pub(crate) async fn timed(&mut self, method: &str, path: &str, body: &str) -> Duration {
        let begun = Instant::now();
        self.ask(method, path, body).await;
        begun.elapsed()
    }
}

/// Who watches a session.
pub(crate) struct Viewer {
    stream: BufReader<TcpStream>,
}

impl Viewer {
    pub(crate) async fn open(to: SocketAddr, session: &str) -> Self {
        let mut stream = connect(to).await;
        let request = format!(
            "GET /ws/{session} HTTP/1.1\r\nhost: lobby\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = head(&mut stream).await;
        assert!(head[0].contains(" 101"), "{head:?}");
        Self { stream }
    }

    /// When the next status had come.
    pub(crate) async fn next(&mut self) -> Instant {
        loop {
            let (kind, length) = (self.stream.read_u8().await.unwrap() & 15, self.stream.read_u8().await.unwrap());
            let length = match length {
                126 => self.stream.read_u16().await.unwrap().into(),
                length => usize::from(length),
            };
            let mut payload = vec![0; length];
            self.stream.read_exact(&mut payload).await.unwrap();
            match kind {
                1 => return Instant::now(),
                // A ping; its echo is masked with zeros.
                9 => {
                    let mut pong = vec![0x8a, 0x80 | u8::try_from(length).unwrap(), 0, 0, 0, 0];
                    pong.extend(payload);
                    self.stream.write_all(&pong).await.unwrap();
                }
                other => panic!("a frame of kind {other}: {}", String::from_utf8_lossy(&payload)),
            }
        }
    }
}
