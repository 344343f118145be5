//! Somebody between a client and the door who takes frames of sockets apart, and puts them together wrongly.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

/// What is done to one event of each socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meddling {
    /// Nothing.
    No,
    /// It is left out.
    Drop,
    /// It comes twice.
    Double,
    /// The next one comes before it.
    Swap,
    /// It says that another one came before it.
    Prev,
    /// Its payload is another one.
    Payload,
}

/// The event that it is done to, counted on each connection. Far enough from the end of a connection that more come.
const VICTIM: usize = 5;

/// Listens in front of a door; its address.
pub(crate) async fn listen(door: SocketAddr, meddling: Meddling) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client, door, meddling));
        }
    });
    address
}

async fn serve(client: TcpStream, door: SocketAddr, meddling: Meddling) {
    let Ok(server) = TcpStream::connect(door).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let up = async {
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        let _ = to_server.shutdown().await;
    };
    let down = async {
        down(&mut from_server, &mut to_client, meddling).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(up, down);
}

/// Passes on the head of the response, and then frames. `None` at the end.
async fn down(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, meddling: Meddling) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await.ok()?);
    }
    to.write_all(&head).await.ok()?;
    if !head.starts_with(b"HTTP/1.1 101") {
        tokio::io::copy(from, to).await.ok()?;
        return None;
    }
    let (mut seen, mut held) = (0, Vec::new());
    loop {
        let frame = frame(from).await?;
        let is_event = frame.windows(6).any(|bytes| bytes == b"\"seq\":");
        seen += usize::from(is_event);
        if !is_event || seen != VICTIM {
            to.write_all(&frame).await.ok()?;
            to.write_all(&std::mem::take(&mut held)).await.ok()?;
            continue;
        }
        match meddling {
            Meddling::No => to.write_all(&frame).await.ok()?,
            Meddling::Drop => {}
            Meddling::Double => to.write_all(&[frame.clone(), frame].concat()).await.ok()?,
            Meddling::Swap => held = frame,
            Meddling::Prev => to.write_all(&replace_digit(frame, b"\"prev\":")).await.ok()?,
            Meddling::Payload => to.write_all(&replace_digit(frame, b"\"data\":{")).await.ok()?,
        }
    }
}

/// One frame, with its header. A server masks nothing.
async fn frame(from: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut frame = vec![from.read_u8().await.ok()?, from.read_u8().await.ok()?];
    let length = match frame[1] {
        126 => {
            frame.extend(from.read_u16().await.ok()?.to_be_bytes());
            u16::from_be_bytes([frame[2], frame[3]]).into()
        }
        127 => {
            let length = from.read_u64().await.ok()?;
            frame.extend(length.to_be_bytes());
            usize::try_from(length).unwrap()
        }
        short => short.into(),
    };
    let header = frame.len();
    frame.resize(header + length, 0);
    from.read_exact(&mut frame[header..]).await.ok()?;
    Some(frame)
}

/// Another digit instead of the first one behind `behind`, where it stands.
fn replace_digit(mut frame: Vec<u8>, behind: &[u8]) -> Vec<u8> {
    let from = frame.windows(behind.len()).position(|bytes| bytes == behind);
    let digit = from.and_then(|from| frame[from..].iter().position(u8::is_ascii_digit).map(|at| from + at));
    if let Some(digit) = digit {
        frame[digit] = if frame[digit] == b'1' { b'2' } else { b'1' };
    }
    frame
}
