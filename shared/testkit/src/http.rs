//! HTTP in one line: plain requests, and raw bytes where a proper client would refuse to send them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Method, Request, Response, Uri, body::Incoming};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

/// How long any request may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One answer.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// What was asked, for messages.
    request: String,
}

impl Reply {
    /// The same, if it has that status.
    ///
    /// # Panics
    /// If it has another.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}: {}", self.request, self.text());
        self
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        let json = serde_json::from_slice(&self.body);
        json.unwrap_or_else(|error| panic!("{}: no JSON: {error}: {}", self.request, self.text()))
    }

    /// The text of `{"error": "<text>"}`, empty if it is something else.
    #[must_use]
    pub fn error(&self) -> String {
        let json: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        json["error"].as_str().unwrap_or_default().to_owned()
    }

    /// A header; empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// `GET`.
pub async fn get(url: &str) -> Reply {
    send(Method::GET, url, &[], Bytes::new()).await
}

/// `POST` without a body.
pub async fn post(url: &str) -> Reply {
    send(Method::POST, url, &[], Bytes::new()).await
}

/// `POST` of JSON.
pub async fn post_json(url: &str, body: &Value) -> Reply {
    send(Method::POST, url, &[("content-type", "application/json")], body.to_string()).await
}

/// Any request, over a connection of its own. Redirects are answers like others.
///
/// # Panics
/// If there is no answer within a minute.
pub async fn send(method: Method, url: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Reply {
    try_send(method, url, headers, body).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}

/// Any request, over a connection of its own.
///
/// # Errors
/// In words, if there is no whole answer within a minute.
pub async fn try_send(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Reply, String> {
    let request = format!("{method} {url}");
    let exchange = async {
        let response = open(method, url, headers, body).await?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| format!("body: {error}"))?.to_bytes();
        Ok(Reply { status: head.status.as_u16(), headers: head.headers, body, request })
    };
    tokio::time::timeout(LIMIT, exchange).await.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")))
}

/// Any request, up to the head of its answer; the body is read as the caller likes, and dropping it ends the connection.
///
/// # Errors
/// In words, if there is no answer.
///
/// # Panics
/// If URL or headers are none.
pub async fn open(
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Result<Response<Incoming>, String> {
    let uri: Uri = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
    let authority = uri.authority().unwrap_or_else(|| panic!("{url}: no host")).to_string();
    let target = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder().method(method).uri(target).header("host", &authority);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).expect("headers are valid");
    let stream = TcpStream::connect(&authority).await.map_err(|error| format!("{authority}: {error}"))?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| error.to_string())?;
    // Ends with the answer's body; a failure of it is one of the answer.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(|error| error.to_string())
}

/// A bare TCP connection, for requests that no client would write.
#[derive(Debug)]
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// Connects.
    ///
    /// # Panics
    /// If nobody listens.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).expect("a TCP option");
        Self { stream }
    }

    /// Connects from an address of this machine: all of 127.0.0.0/8 are.
    ///
    /// # Panics
    /// If nobody listens, or the address is none of ours.
    pub async fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = if source.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.expect("a socket");
        socket.bind((source, 0).into()).unwrap_or_else(|error| panic!("{source}: {error}"));
        let stream = socket.connect(address).await.unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_nodelay(true).expect("a TCP option");
        Self { stream }
    }

    /// Writes bytes as they are. False if the other side has gone.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// Says that nothing more will be written.
    pub async fn finish(&mut self) {
        let _gone = self.stream.shutdown().await;
    }

    /// Reads until `end` has come, the other side ends the connection, or the bound is over; returns all of it.
    pub async fn read_until(&mut self, end: &[u8], bound: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        let reading = async {
            while self.stream.read_buf(&mut bytes).await.is_ok_and(|read| read > 0) {
                if !end.is_empty() && bytes.windows(end.len()).any(|window| window == end) {
                    break;
                }
            }
        };
        let _bounded = tokio::time::timeout(bound, reading).await;
        bytes
    }

    /// Reads until the other side ends the connection.
    ///
    /// # Panics
    /// If it does not within `bound`.
    pub async fn read_to_end(&mut self, bound: Duration) -> Vec<u8> {
        let mut bytes = Vec::new();
        match tokio::time::timeout(bound, self.stream.read_to_end(&mut bytes)).await {
            // A reset is an end too.
            Ok(_) => bytes,
            Err(_) => panic!("not ended within {bound:?}, so far: {:?}", String::from_utf8_lossy(&bytes)),
        }
    }

    /// The connection itself.
    #[must_use]
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }
}

/// Writes a request as it is and returns the answer as it is, read until the other side ends the connection.
///
/// # Panics
/// If nobody listens, or the connection is not ended within `bound`.
pub async fn raw(address: SocketAddr, request: impl AsRef<[u8]>, bound: Duration) -> String {
    let mut connection = Raw::connect(address).await;
    connection.write(request).await;
    String::from_utf8_lossy(&connection.read_to_end(bound).await).into_owned()
}
