//! A door of a test's own: answers each call with 200 and says on the socket what the test wants said.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Mutex, broadcast, mpsc},
};
use tokio_tungstenite::tungstenite::{
    Message,
    handshake::server::{Request, Response},
    protocol::CloseFrame,
};

/// The door, shared with the tasks that serve it.
#[derive(Clone)]
pub(crate) struct Door {
    calls: mpsc::Sender<(String, Value)>,
    say: broadcast::Sender<Message>,
    /// Held by a test that wants an answer to wait.
    pub(crate) answers: Arc<Mutex<()>>,
}

impl Door {
    /// Its base URL, itself, and the calls it gets: path and body, `null` for a socket.
    pub(crate) async fn open() -> (String, Self, mpsc::Receiver<(String, Value)>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (calls, called) = mpsc::channel(64);
        let door = Self { calls, say: broadcast::Sender::new(64), answers: Arc::default() };
        let served = door.clone();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                tokio::spawn(served.clone().serve(tcp));
            }
        });
        (url, door, called)
    }

    /// Says something on every open socket; one that has closed meanwhile has heard enough.
    pub(crate) fn say(&self, text: impl Into<String>) {
        let _ = self.say.send(Message::text(text.into()));
    }

    /// Closes every open socket.
    pub(crate) fn close(&self, code: u16, reason: &str) {
        let close = CloseFrame { code: code.into(), reason: reason.to_owned().into() };
        self.say.send(Message::Close(Some(close))).unwrap();
    }

    async fn serve(self, mut tcp: TcpStream) {
        let mut request = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let head_lower = head.to_ascii_lowercase();
                let length =
                    head_lower.split("content-length: ").nth(1).map_or("0", |rest| rest.lines().next().unwrap());
                if body.len() == length.parse::<usize>().unwrap() {
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let body = serde_json::from_str(body).unwrap_or_default();
                    self.calls.send((path, body)).await.unwrap();
                    drop(self.answers.lock().await);
                    tcp.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await.unwrap();
                    request.clear();
                    continue;
                }
            }
            // A socket's handshake is left unread, for the library that speaks it.
            let mut head = [0; 512];
            let seen = tcp.peek(&mut head).await.unwrap_or(0);
            if request.is_empty() && head[..seen].windows(4).any(|bytes| bytes == b"/ws/") {
                return self.socket(tcp).await;
            }
            if tcp.read_buf(&mut request).await.unwrap_or(0) == 0 {
                return;
            }
        }
    }

    #[allow(clippy::result_large_err, reason = "the library's callback")]
    async fn socket(self, tcp: TcpStream) {
        let mut said = self.say.subscribe();
        let mut path = String::new();
        let accept = |request: &Request, mut response: Response| {
            path = request.uri().to_string();
            if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
                response.headers_mut().insert("sec-websocket-protocol", protocol.clone());
            }
            Ok(response)
        };
        let mut socket = tokio_tungstenite::accept_hdr_async(tcp, accept).await.unwrap();
        self.calls.send((path, Value::Null)).await.unwrap();
        while let Ok(message) = said.recv().await {
            let last = message.is_close();
            if socket.send(message).await.is_err() || last {
                break;
            }
        }
        while let Some(Ok(_)) = socket.next().await {}
    }
}
