//! NATS, read in large pieces.

use std::{
    io::{self, Read as _, Write as _},
    net::{self, SocketAddr},
    time::Duration,
};

use mio::net::TcpStream;

use super::stream::{Consumer, Place};
use crate::wire::nats::{self, Said};

/// What one read takes at most. A message may be larger: then this grows.
const READ: usize = 256 << 10;
/// How long the server may take for each step until events come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where events come from.
#[derive(Debug)]
pub(super) enum Source {
    /// What is published on a subject, as it comes by.
    Subject(String),
    /// A stream.
    Stream(Consumer),
}

/// An event as it came.
pub(super) struct Arrived<'a> {
    pub(super) subject: &'a [u8],
    pub(super) payload: &'a [u8],
    /// Of those of a stream.
    pub(super) place: Option<Place>,
}

/// A subscription.
pub(super) struct Intake {
    stream: TcpStream,
    source: Source,
    buffer: Vec<u8>,
    /// What of the buffer is read and not parsed.
    from: usize,
    to: usize,
}

impl Intake {
    /// Connects, subscribes, and waits until the server has taken that in.
    pub(super) fn connect(address: SocketAddr, mut source: Source) -> io::Result<Self> {
        let mut stream = net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let words = match &source {
            Source::Subject(subject) => [nats::CONNECT, &nats::subscribe(subject), nats::PING].concat(),
            Source::Stream(consumer) => [nats::CONNECT, &consumer.create()].concat(),
        };
        stream.write_all(&words)?;
        let mut buffer = vec![0; READ];
        let (mut from, mut to) = (0, 0);
        loop {
            let Some((said, taken)) = nats::next(&buffer[from..to]).map_err(io::Error::other)? else {
                match stream.read(&mut buffer[to..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => to += read,
                }
                continue;
            };
            from += taken;
            match (said, &mut source) {
                (Said::Error(text), _) => return Err(refused(text)),
                (Said::Pong, Source::Subject(_)) => break,
                (Said::Message { subject, payload, .. }, Source::Stream(consumer)) if consumer.is_answer(subject) => {
                    if payload.windows(7).any(|window| window == b"\"error\"") {
                        return Err(refused(payload));
                    }
                    break;
                }
                // Events may come before that: they are nobody's, but a stream's are counted.
                (Said::Message { subject, reply, .. }, Source::Stream(consumer)) if !consumer.is_control(subject) => {
                    consumer.place(reply).ok_or_else(missing)?;
                }
                _ => {}
            }
        }
        stream.set_read_timeout(None)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream: TcpStream::from_std(stream), source, buffer, from, to })
    }

    pub(super) const fn source(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads once; whether there may be more.
    pub(super) fn read(&mut self) -> io::Result<bool> {
        if self.to == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        match self.stream.read(&mut self.buffer[self.to..]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                self.to += read;
                Ok(self.to == self.buffer.len())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Hands on every message that is all there, and answers the server's questions.
    ///
    /// # Errors
    /// Where the connection failed, or a stream's delivery is missing.
    pub(super) fn drain(&mut self, mut event: impl FnMut(Arrived<'_>)) -> io::Result<()> {
        while let Some((said, taken)) = nats::next(&self.buffer[self.from..self.to]).map_err(io::Error::other)? {
            self.from += taken;
            match said {
                Said::Message { subject, reply, payload } => match &mut self.source {
                    Source::Subject(_) => event(Arrived { subject, payload, place: None }),
                    Source::Stream(consumer) if consumer.is_control(subject) => {
                        // A sign of life asks nothing. An answer lets the server go on sending.
                        if let Some(question) = reply {
                            self.stream.write_all(&[b"PUB ", question, b" 0\r\n\r\n"].concat())?;
                        }
                    }
                    Source::Stream(consumer) => {
                        let place = consumer.place(reply).ok_or_else(missing)?;
                        event(Arrived { subject, payload, place: Some(place) });
                    }
                },
                Said::Error(text) => return Err(refused(text)),
                Said::Ping => self.stream.write_all(nats::PONG)?,
                Said::Pong | Said::Other => {}
            }
        }
        // What is left is the start of a message.
        self.buffer.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        Ok(())
    }
}

fn refused(text: &[u8]) -> io::Error {
    io::Error::other(String::from_utf8_lossy(text).into_owned())
}

/// Where ws-edge makes its consumer again, and reads on from where it was, this gives up: nothing may be missing here.
fn missing() -> io::Error {
    io::Error::other("a delivery of the stream is missing")
}
