//! The yardstick: the least a server can do that takes events from NATS and writes them to WebSockets.
//!
//! One thread, not even another one that sleeps; one epoll; one `write` per event and client. With `--coalesce`, one `write`
//! per client for everything that one read from NATS brought for its session. No log, no cursor, no limits, no metrics, no
//! memory of anything: a client that can't take more gets what it missed later, from a bounded queue of shared buffers, so
//! that this loses nothing either. Its frames are, byte for byte, what ws-edge sends a plain client; their `seq` counts what
//! came from NATS.
//!
//! With `--stream`, events come from that JetStream stream, as ws-edge's do, instead of a core subscription: what this costs
//! beyond the other is the price of the way through the stream, which is no server's own. `seq` and `ts` are then the stream's.
//!
//! `intake` reads NATS, `stream` knows what is special of a stream, `frame` writes frames, `crowd` holds the clients.

mod crowd;
mod frame;
mod intake;
mod stream;

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use mio::{Events, Interest, Poll, Token, net::TcpListener};

use crowd::Crowd;
use frame::Frames;
use intake::{Arrived, Intake, Source};
use stream::Consumer;

/// Flags of `sim floor`.
#[derive(Debug, Clone, Args)]
pub struct FloorOptions {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8000")]
    pub listen: SocketAddr,
    /// The NATS server, `HOST:PORT`.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4222")]
    pub nats: String,
    /// What to subscribe to; the second token of a subject is its session.
    #[arg(long, value_name = "SUBJECT", default_value = "arena.>")]
    pub subject: String,
    /// Read this JetStream stream, by an ordered push consumer as ws-edge does, instead of subscribing to a subject.
    #[arg(long, value_name = "NAME", conflicts_with = "subject")]
    pub stream: Option<String>,
    /// One write per client for everything that one read from NATS brought, instead of one per event.
    #[arg(long)]
    pub coalesce: bool,
}

const LISTENER: Token = Token(usize::MAX);
const NATS: Token = Token(usize::MAX - 1);
/// Events of one wake-up.
const EVENTS: usize = 1024;

/// Serves until a signal ends the process: nothing waits for one, as nothing has to be finished, and as a second thread
/// would make each write dearer (the kernel counts who uses a socket as soon as two threads could).
///
/// # Errors
/// Where it can't listen, or NATS is not there or goes away.
#[allow(clippy::print_stdout, reason = "says where it listens to whoever started it")]
pub fn run(options: &FloorOptions) -> Result<ExitCode> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(options.listen).with_context(|| format!("listening on {}", options.listen))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let nats = options.nats.to_socket_addrs().ok().and_then(|mut found| found.next());
    let nats = nats.with_context(|| format!("{} is no address", options.nats))?;
    let source = match &options.stream {
        Some(name) => Source::Stream(Consumer::new(name)),
        None => Source::Subject(options.subject.clone()),
    };
    let mut intake = Intake::connect(nats, source).with_context(|| format!("NATS at {nats}"))?;
    poll.registry().register(intake.source(), NATS, Interest::READABLE)?;
    println!("listening on {}", listener.local_addr()?);

    let mut crowd = Crowd::default();
    let mut frames = Frames::default();
    let mut events = Events::with_capacity(EVENTS);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            match event.token() {
                LISTENER => accept(&listener, &poll, &mut crowd)?,
                NATS => loop {
                    let more = intake.read().context("NATS")?;
                    fan_out(&mut intake, &mut frames, &mut crowd, options.coalesce).context("NATS")?;
                    if !more {
                        break;
                    }
                },
                Token(client) => crowd.ready(client, event.is_readable(), event.is_writable()),
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, crowd: &mut Crowd) -> Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => crowd.enter(stream, poll.registry())?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => bail!("accepting: {error}"),
        }
    }
}

/// Everything that the last read from NATS brought.
fn fan_out(intake: &mut Intake, frames: &mut Frames, crowd: &mut Crowd, coalesce: bool) -> io::Result<()> {
    intake.drain(|Arrived { subject, payload, place }| {
        match place {
            Some(place) => frames.stored(place),
            None => frames.count(),
        }
        let Some((root, session, topic)) = frame::tokens(subject) else { return };
        let Some(session) = crowd.session(session) else { return };
        if coalesce {
            frames.append(crowd.waiting(session), root, topic, payload);
        } else {
            crowd.send(session, frames.alone(root, topic, payload));
        }
    })?;
    crowd.send_waiting();
    Ok(())
}
