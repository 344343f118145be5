//! One client's connection.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU64, Ordering},
};

use mio::{Interest, Registry, Token, net::TcpStream};
use socket2::{Domain, Protocol as Ip, Socket, Type};

use super::{
    hearing::{Findings, Hearing, Moment, Todo},
    options::Protocol,
    payload::{Clock, Mark},
};
use crate::wire::{nats, websocket};

/// How connections are made.
#[derive(Debug)]
pub(super) struct Door {
    /// One, or several processes that serve the same.
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) protocol: Protocol,
    pub(super) v1: bool,
    pub(super) receive_buffer: Option<u32>,
    pub(super) sources: u8,
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) door: Door,
    /// Each session's id.
    pub(super) names: Vec<String>,
    /// What each session's payloads begin with.
    pub(super) marks: Vec<Mark>,
    /// Bytes of a payload.
    pub(super) size: usize,
    pub(super) clock: Clock,
    /// Latencies of what was published before are not kept.
    pub(super) measured_from: AtomicU64,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Not there: not yet, or not any more.
    Closed,
    /// The request can't be sent yet.
    Connecting,
    /// The answer is awaited.
    Asking,
    /// Frames come.
    Open,
}

/// What a turn of reading led to.
pub(super) enum Turn {
    /// It goes on.
    On,
    /// It has just opened, and goes on.
    Opened,
    /// It ended, and so.
    Ended(String),
}

pub(super) struct Link {
    /// Where it connects.
    address: SocketAddr,
    stream: Option<TcpStream>,
    pub(super) stage: Stage,
    /// It does not read for the time being.
    pub(super) stalled: bool,
    pub(super) hearing: Hearing,
    /// The start of a frame, or of the answer.
    carried: Vec<u8>,
}

impl Link {
    /// A client of that session at that address, which is to stall some time or not.
    pub(super) fn new(session: u32, address: SocketAddr, slow: bool) -> Self {
        let hearing = Hearing::new(session, slow);
        Self { address, stream: None, stage: Stage::Closed, stalled: false, hearing, carried: Vec::new() }
    }

    /// Begins to connect.
    pub(super) fn connect(&mut self, door: &Door, id: usize, registry: &Registry) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, Some(Ip::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if let Some(bytes) = door.receive_buffer {
            socket.set_recv_buffer_size(bytes as usize)?;
        }
        if door.sources > 1 {
            let last = 1 + (id % usize::from(door.sources)) as u8;
            socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), 0)).into())?;
        }
        match socket.connect(&self.address.into()) {
            Err(error) if error.raw_os_error().is_some_and(|code| IN_PROGRESS.contains(&code)) => {}
            connected => connected?,
        }
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, Token(id), Interest::READABLE | Interest::WRITABLE)?;
        self.stream = Some(stream);
        self.stage = Stage::Connecting;
        self.carried.clear();
        self.hearing.reopened();
        Ok(())
    }

    /// Closes without a word, as a browser that is gone.
    pub(super) fn close(&mut self) {
        self.stream = None;
        self.stage = Stage::Closed;
        self.stalled = false;
    }

    /// Sends the request, if the connection has come about.
    pub(super) fn ask(&mut self, ground: &Ground) -> io::Result<()> {
        let (door, session) = (&ground.door, &ground.names[self.hearing.session as usize]);
        let Some(stream) = &mut self.stream else { return Ok(()) };
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        let after = match (door.protocol, self.hearing.seq) {
            (Protocol::Herald, seq @ 1..) => format!("?after={seq}"),
            _ => String::new(),
        };
        let path = if door.protocol == Protocol::Nats { "/".into() } else { format!("/ws/{session}{after}") };
        let protocol = door.v1.then_some(herald_protocol::frame::SUB_PROTOCOL);
        stream.write_all(&websocket::request(&self.address.to_string(), &path, protocol))?;
        self.stage = Stage::Asking;
        Ok(())
    }

    /// Reads what there is, into a buffer that all share. A read that leaves room in it was the last one, unless the
    /// connection is known to have an end.
    pub(super) fn read(&mut self, ground: &Ground, buffer: &mut Vec<u8>, ended: bool, findings: &mut Findings) -> Turn {
        let mut turn = Turn::On;
        loop {
            let Some(stream) = &mut self.stream else { return turn };
            let carried = self.carried.len();
            if carried * 2 > buffer.len() {
                buffer.resize(carried * 4, 0);
            }
            let read = match stream.read(&mut buffer[carried..]) {
                Ok(0) => return Turn::Ended("ended without a close".into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return turn,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Turn::Ended(error.kind().to_string()),
            };
            let full = carried + read == buffer.len();
            buffer[..carried].copy_from_slice(&self.carried);
            self.carried.clear();
            match self.take(ground, &buffer[..carried + read], findings) {
                Ok(Turn::On) => {}
                Ok(Turn::Opened) => turn = Turn::Opened,
                Ok(ended) => return ended,
                Err(why) => return Turn::Ended(why),
            }
            if !full && !ended {
                return turn;
            }
        }
    }

    /// Takes what one read brought, and keeps what is not whole.
    fn take(&mut self, ground: &Ground, mut bytes: &[u8], findings: &mut Findings) -> Result<Turn, String> {
        let mut turn = Turn::On;
        let mut todo = Todo::default();
        if self.stage != Stage::Open {
            let Some(head) = websocket::http_head(bytes) else {
                self.carried.extend_from_slice(bytes);
                return Ok(turn);
            };
            check(&bytes[..head])?;
            bytes = &bytes[head..];
            self.stage = Stage::Open;
            turn = Turn::Opened;
            if ground.door.protocol == Protocol::Nats {
                let subject = format!("arena.{}.>", ground.names[self.hearing.session as usize]);
                let words = [nats::CONNECT, &nats::subscribe(&subject)].concat();
                websocket::client_frame(&mut todo.write, websocket::BINARY, &words);
            }
        }
        let moment = Moment {
            marks: &ground.marks,
            size: ground.size,
            now: ground.clock.now(),
            measured_from: ground.measured_from.load(Ordering::Relaxed),
        };
        let taken = self.hearing.frames(ground.door.protocol, bytes, &moment, findings, &mut todo)?;
        self.carried.extend_from_slice(&bytes[taken..]);
        if let Some(why) = todo.closed {
            if matches!(turn, Turn::Opened) {
                // Opened and closed in one breath: it was never open.
                self.stage = Stage::Asking;
            }
            return Ok(Turn::Ended(why));
        }
        if let (false, Some(stream)) = (todo.write.is_empty(), &mut self.stream) {
            // A few bytes now and then: they fit.
            stream.write_all(&todo.write).map_err(|error| error.kind().to_string())?;
        }
        Ok(turn)
    }
}

/// Whether the answer to the request opens the socket.
fn check(head: &[u8]) -> Result<(), String> {
    let head = String::from_utf8_lossy(head);
    let first = head.lines().next().unwrap_or_default();
    if !first.starts_with("HTTP/1.1 101 ") {
        return Err(format!("refused: {first}"));
    }
    if websocket::http_header(&head, "Sec-WebSocket-Accept") != Some(websocket::ACCEPT) {
        return Err("refused: another key was accepted".into());
    }
    Ok(())
}

/// `EINPROGRESS` on Linux and on macOS. What the other one calls so is nothing that `connect` says.
const IN_PROGRESS: [i32; 2] = [115, 36];
