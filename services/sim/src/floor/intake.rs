//! NATS, read in large pieces.

use std::{
    io::{self, Read as _, Write as _},
    net::{self, SocketAddr},
};

use mio::net::TcpStream;

use crate::wire::nats::{self, Said};

/// What one read takes at most. A message may be larger: then this grows.
const READ: usize = 256 << 10;

/// A subscription.
pub(super) struct Intake {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// What of the buffer is read and not parsed.
    from: usize,
    to: usize,
}

impl Intake {
    /// Connects, subscribes, and waits until the server has taken that in.
    pub(super) fn connect(address: SocketAddr, subject: &str) -> io::Result<Self> {
        let mut stream = net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.write_all(&[nats::CONNECT, &nats::subscribe(subject), nats::PING].concat())?;
        let mut buffer = vec![0; READ];
        let (mut from, mut to) = (0, 0);
        loop {
            match nats::next(&buffer[from..to]).map_err(io::Error::other)? {
                Some((Said::Pong, taken)) => {
                    from += taken;
                    break;
                }
                Some((Said::Error(text), _)) => return Err(refused(text)),
                // Messages may come before the pong: they are nobody's.
                Some((_, taken)) => from += taken,
                None => match stream.read(&mut buffer[to..])? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    read => to += read,
                },
            }
        }
        stream.set_nonblocking(true)?;
        Ok(Self { stream: TcpStream::from_std(stream), buffer, from, to })
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

    /// Hands on every message that is all there: subject and payload.
    pub(super) fn drain(&mut self, mut message: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        while let Some((said, taken)) = nats::next(&self.buffer[self.from..self.to]).map_err(io::Error::other)? {
            self.from += taken;
            match said {
                Said::Message { subject, payload } => message(subject, payload),
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
