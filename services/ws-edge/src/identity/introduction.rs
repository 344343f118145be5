//! A socket that came without a token says who it is in its first frame.

use bytes::{Bytes, BytesMut};
use herald_protocol::Close;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    Refusal, Verifier,
    token::{self, MAX_FRAME, Token},
};
use crate::{
    connection::READ_AT_ONCE,
    websocket::{self, Inbound, Received},
};

/// Frames before a token, pings and fragments among them: browsers send none, other clients a ping or two.
const MOST_FRAMES: u32 = 32;
const TOO_MANY: Close = Close::Policy("too many frames before a token");

/// Why no token was heard.
#[derive(Debug)]
pub(crate) enum Unheard {
    /// It is to be closed for that.
    Close(Close),
    /// The client is gone.
    Gone,
}

/// Waits for the token of a socket, and for nothing else: until then it is shown nothing and costs nothing but its place. The
/// rest of what was read comes with it.
pub(crate) async fn hear(
    tcp: &mut TcpStream,
    leftover: Bytes,
    verifier: &Verifier,
    max_message: u64,
) -> Result<(Token, Bytes), Unheard> {
    let hearing = timeout(verifier.patience(), first_frame(tcp, leftover, max_message));
    hearing.await.unwrap_or_else(|_| Err(Unheard::Close(Refusal::Missing.close())))
}

async fn first_frame(tcp: &mut TcpStream, leftover: Bytes, max_message: u64) -> Result<(Token, Bytes), Unheard> {
    let mut inbound = Inbound::new(max_message).keeping(MAX_FRAME);
    let (mut read, mut frames) = (leftover, 0);
    loop {
        let mut input = &read[..];
        while let Some(received) = inbound.read(&mut input).map_err(Unheard::Close)? {
            frames += inbound.take_frames();
            if frames > MOST_FRAMES {
                return Err(Unheard::Close(TOO_MANY));
            }
            match received {
                Received::Message(_) => {
                    let token = inbound.take_text().and_then(|text| token::in_frame(&text));
                    let token = token.ok_or_else(|| Unheard::Close(Refusal::Missing.close()))?;
                    return Ok((token, read.slice(read.len() - input.len()..)));
                }
                Received::Ping(payload) => {
                    tcp.write_all(&websocket::pong_frame(&payload)).await.map_err(|_| Unheard::Gone)?;
                }
                Received::Pong => {}
                Received::Close(_) => return Err(Unheard::Close(Close::Normal)),
            }
        }
        // Fragments are no message yet.
        frames += inbound.take_frames();
        if frames > MOST_FRAMES {
            return Err(Unheard::Close(TOO_MANY));
        }
        let mut buffer = BytesMut::with_capacity(READ_AT_ONCE);
        match tcp.read_buf(&mut buffer).await {
            Ok(1..) => read = buffer.freeze(),
            Ok(0) | Err(_) => return Err(Unheard::Gone),
        }
    }
}
