//! Opening a WebSocket at Herald's door.

use herald_protocol::frame::SUB_PROTOCOL;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, client_async_with_config, connect_async_with_config,
    tungstenite::{
        Error, client::IntoClientRequest, handshake::client::Request, http::HeaderValue, protocol::WebSocketConfig,
    },
};

/// Larger than any frame: 1 MiB is the limit of an event.
const MAX_MESSAGE: usize = 16 << 20;

/// How a client speaks on its socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// The contract of the originals.
    Plain,
    /// The sub-protocol `herald.v1`.
    V1,
}

/// One handshake, without patience.
///
/// # Errors
/// Whatever it fails with.
pub async fn connect(url: &str, speech: Speech) -> Result<WebSocketStream<MaybeTlsStream<TcpStream>>, Error> {
    connect_async_with_config(request(url, speech)?, Some(config()), true).await.map(|(stream, _)| stream)
}

/// The same, on a connection that somebody else has made.
///
/// # Errors
/// Whatever it fails with.
pub async fn connect_on(tcp: TcpStream, url: &str, speech: Speech) -> Result<WebSocketStream<TcpStream>, Error> {
    client_async_with_config(request(url, speech)?, tcp, Some(config())).await.map(|(stream, _)| stream)
}

fn request(url: &str, speech: Speech) -> Result<Request, Error> {
    let mut request = url.into_client_request()?;
    if speech == Speech::V1 {
        request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUB_PROTOCOL));
    }
    Ok(request)
}

/// Small buffers: ten thousand of them stand in one process.
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 << 10)
        .write_buffer_size(0)
        .max_write_buffer_size(64 << 10)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}
