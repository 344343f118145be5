//! One WebSocket: one socket, one task, one cursor.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::{drain::Drain, feed::Setup};

/// What a connection may take, and how long.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// A frame that can't be written for so long closes the connection (4408).
    pub unwritable: Duration,
    /// A connection more frames behind than this is closed (4408).
    pub lag_frames: u64,
    /// A connection more bytes behind than this is closed (4408).
    pub lag_bytes: u64,
    /// How long a read from history is tried again before the connection is closed (1013).
    pub history_patience: Duration,
    /// Every so often something is sent: a ping, or an SSE comment.
    pub heartbeat: Duration,
    /// A client from which nothing is heard for so long after a ping is gone.
    pub heartbeat_timeout: Duration,
    /// How long a close handshake may take.
    pub close_timeout: Duration,
    /// Largest message a client may send, in bytes (1009).
    pub inbound_message: u64,
    /// Size of the kernel's send buffer, in bytes.
    pub send_buffer: usize,
}

/// Serves an upgraded WebSocket until it is closed by either side. `leftover` is what the client sent behind its
/// handshake. Dropping the future drops the socket without a close frame: cancel by [`Drain`] instead.
pub async fn serve(tcp: TcpStream, leftover: Bytes, setup: Setup, limits: Arc<ConnectionLimits>, drain: Drain) {
    let _ = (tcp, leftover, setup, limits, drain);
}
