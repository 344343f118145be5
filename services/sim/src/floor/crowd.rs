//! The clients, by session.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, IoSlice, Read as _, Write as _},
    rc::Rc,
};

use mio::{Interest, Registry, Token, net::TcpStream};
use tungstenite::handshake::derive_accept_key;

use crate::wire::websocket;

/// What may wait for one client, bytes; with more it is closed.
const MAX_WAITING: usize = 64 << 20;
/// Longest request that opens a socket.
const MAX_REQUEST: usize = 16 << 10;
/// Buffers of one vectored write: what the kernel takes at most is 1,024.
const SLICES: usize = 256;

/// All clients.
#[derive(Default)]
pub(super) struct Crowd {
    clients: Vec<Option<Client>>,
    free: Vec<usize>,
    names: HashMap<Box<[u8]>, usize>,
    sessions: Vec<Session>,
    /// Sessions with something in `out`.
    touched: Vec<usize>,
    gone: Vec<usize>,
    scratch: Vec<u8>,
}

#[derive(Default)]
struct Session {
    clients: Vec<usize>,
    /// What is to be written to each of them.
    out: Vec<u8>,
}

struct Client {
    stream: TcpStream,
    state: State,
}

enum State {
    /// Its request so far.
    Opening(Vec<u8>),
    /// In a session, at that place of it.
    Open { session: u32, place: u32, waiting: Option<Box<Waiting>> },
}

/// What a client could not take yet.
#[derive(Default)]
struct Waiting {
    buffers: VecDeque<Rc<[u8]>>,
    /// What of the first one is written.
    written: usize,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, buffer: Rc<[u8]>, written: usize) {
        self.bytes += buffer.len() - written;
        if self.buffers.is_empty() {
            self.written = written;
        }
        self.buffers.push_back(buffer);
    }

    /// Writes until nothing is left or nothing more is taken; whether nothing is left.
    fn flush(&mut self, stream: &TcpStream) -> io::Result<bool> {
        while !self.buffers.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let mut used = 0;
            for (slice, buffer) in slices.iter_mut().zip(&self.buffers) {
                *slice = IoSlice::new(if used == 0 { &buffer[self.written..] } else { buffer });
                used += 1;
            }
            let mut taken = match (&mut &*stream).write_vectored(&slices[..used]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                taken => taken?,
            };
            self.bytes -= taken;
            while let Some(first) = self.buffers.front() {
                let left = first.len() - self.written;
                if taken < left {
                    self.written += taken;
                    break;
                }
                taken -= left;
                self.written = 0;
                self.buffers.pop_front();
            }
        }
        Ok(true)
    }
}

impl Crowd {
    /// A client came.
    pub(super) fn enter(&mut self, mut stream: TcpStream, registry: &Registry) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let id = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            self.clients.len() - 1
        });
        // Edges: a client that can be written to says so once, and again only after a write that was not taken whole.
        registry.register(&mut stream, Token(id), Interest::READABLE | Interest::WRITABLE)?;
        self.clients[id] = Some(Client { stream, state: State::Opening(Vec::new()) });
        Ok(())
    }

    /// The session of that name, if it ever had a client.
    pub(super) fn session(&self, name: &[u8]) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// What [`Crowd::send_waiting`] will write to each client of a session.
    pub(super) fn waiting(&mut self, session: usize) -> &mut Vec<u8> {
        let out = &mut self.sessions[session].out;
        if out.is_empty() {
            self.touched.push(session);
        }
        out
    }

    /// Writes what waits for whole sessions.
    pub(super) fn send_waiting(&mut self) {
        while let Some(session) = self.touched.pop() {
            let mut out = std::mem::take(&mut self.sessions[session].out);
            self.send(session, &out);
            out.clear();
            self.sessions[session].out = out;
        }
    }

    /// Writes to each client of a session.
    pub(super) fn send(&mut self, session: usize, bytes: &[u8]) {
        let mut shared: Option<Rc<[u8]>> = None;
        for id in &self.sessions[session].clients {
            let Some(Client { stream, state: State::Open { waiting, .. } }) = &mut self.clients[*id] else { continue };
            let written = match waiting {
                Some(_) => 0,
                None => match (&mut &*stream).write(bytes) {
                    Ok(written) if written == bytes.len() => continue,
                    Ok(written) => written,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                    Err(_) => {
                        self.gone.push(*id);
                        continue;
                    }
                },
            };
            let buffer = shared.get_or_insert_with(|| Rc::from(bytes));
            let waiting = waiting.get_or_insert_default();
            waiting.push(buffer.clone(), written);
            if waiting.bytes > MAX_WAITING {
                tracing::warn!("a client was closed that did not read");
                self.gone.push(*id);
            }
        }
        while let Some(id) = self.gone.pop() {
            self.leave(id);
        }
    }

    /// A client can be read from, or written to again.
    pub(super) fn ready(&mut self, id: usize, readable: bool, writable: bool) {
        let goes_on = (!readable || self.read(id).unwrap_or(false)) && (!writable || self.flush(id).is_ok());
        if !goes_on {
            self.leave(id);
        }
    }

    /// Reads what a client says: its request, and then nothing that matters, but its end. Whether it goes on.
    fn read(&mut self, id: usize) -> io::Result<bool> {
        let Some(Client { stream, state }) = self.clients.get_mut(id).and_then(Option::as_mut) else { return Ok(true) };
        self.scratch.resize(MAX_REQUEST, 0);
        loop {
            let read = match (&mut &*stream).read(&mut self.scratch) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            };
            match state {
                State::Opening(request) => {
                    request.extend_from_slice(&self.scratch[..read]);
                    if websocket::http_head(request).is_none() {
                        if request.len() > MAX_REQUEST {
                            return Ok(false);
                        }
                        continue;
                    }
                    let Some((answer, session)) = open(request) else {
                        (&mut &*stream).write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?;
                        return Ok(false);
                    };
                    (&mut &*stream).write_all(answer.as_bytes())?;
                    let session = *self.names.entry(session).or_insert_with(|| {
                        self.sessions.push(Session::default());
                        self.sessions.len() - 1
                    });
                    let clients = &mut self.sessions[session].clients;
                    let place = clients.len() as u32;
                    clients.push(id);
                    *state = State::Open { session: session as u32, place, waiting: None };
                }
                State::Open { .. } if self.scratch[0] & 0x0F == websocket::CLOSE => return Ok(false),
                State::Open { .. } => {}
            }
        }
    }

    fn flush(&mut self, id: usize) -> io::Result<()> {
        if let Some(Some(Client { stream, state: State::Open { waiting, .. } })) = self.clients.get_mut(id)
            && let Some(left) = waiting
            && left.flush(stream)?
        {
            *waiting = None;
        }
        Ok(())
    }

    /// A client is gone; dropping its socket takes it from the poll.
    fn leave(&mut self, id: usize) {
        let Some(client) = self.clients.get_mut(id).and_then(Option::take) else { return };
        self.free.push(id);
        if let State::Open { session, place, .. } = client.state {
            let clients = &mut self.sessions[session as usize].clients;
            clients.swap_remove(place as usize);
            if let Some(moved) = clients.get(place as usize)
                && let Some(Client { state: State::Open { place: of_moved, .. }, .. }) = &mut self.clients[*moved]
            {
                *of_moved = place;
            }
        }
    }
}

/// The answer to a request for `/ws/<session>`, and the session.
fn open(request: &[u8]) -> Option<(String, Box<[u8]>)> {
    let request = std::str::from_utf8(request).ok()?;
    let path = request.strip_prefix("GET /ws/")?.split(' ').next()?;
    let session = path.split('?').next()?;
    let accept = derive_accept_key(websocket::http_header(request, "Sec-WebSocket-Key")?.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    Some((answer, session.as_bytes().into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_as_the_standard_says() {
        let request = websocket::request("localhost", "/ws/abc?after=7", None);
        let (answer, session) = open(&request).unwrap();
        assert_eq!(&*session, b"abc");
        assert_eq!(websocket::http_header(&answer, "Sec-WebSocket-Accept"), Some(websocket::ACCEPT));
        assert!(open(b"GET /health HTTP/1.1\r\n\r\n").is_none());
        assert!(open(b"GET /ws/abc HTTP/1.1\r\n\r\n").is_none());
    }
}
