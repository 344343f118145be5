//! A network that can be broken: TCP passed on until a test says otherwise.
//!
//! A stopped server is gone for everybody; a proxy in front of it takes it away from one process alone, in the ways that
//! networks fail. What it does can be switched at any moment, and holds for the connections there are and for new ones.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use crate::users;

mod pass;
#[cfg(test)]
mod tests;

/// How many connections may pass at a time; further ones are closed at once.
const CONNECTIONS: usize = 10_000;

/// What happens to bytes now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Everything is passed on.
    Works,
    /// Everything is passed on, in order, later by `by` and up to `jitter` more.
    Delayed {
        /// The least delay.
        by: Duration,
        /// What chance adds at most.
        jitter: Duration,
    },
    /// At most `bytes` are passed on `each` so long, either way.
    Trickling {
        /// Bytes that go together.
        bytes: usize,
        /// The pause behind them.
        each: Duration,
    },
    /// Nothing comes through in this direction, not even an end; the other one works.
    HalfOpen(Direction),
    /// Connections stay, are even accepted, and nothing comes through, either way; it does when the network works again.
    Silent,
    /// Connections are cut, and new ones too.
    Down,
}

/// Where bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From who connected to who listens.
    ToServer,
    /// Back.
    ToClient,
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// In order: both ends read an end of file (FIN).
    End,
    /// Both ends get an error (RST); what was on its way is lost.
    Reset,
    /// The other end is gone without a word, as with its power: what is sent goes nowhere, nothing ever comes, and
    /// neither end learns when the other one gives up.
    Vanish,
}

#[derive(Clone, Copy, Debug)]
struct State {
    network: Network,
    /// How often connections were cut, and how the last time: a connection is cut when the number is not that of its birth.
    cuts: u64,
    how: Cut,
}

/// A proxy in front of one address. Ends when dropped, with its connections.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepted: Arc<AtomicU64>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A proxy in front of `target`, which may not listen yet.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = watch::Sender::new(State { network: Network::Works, cuts: 0, how: Cut::End });
        let accepted = Arc::new(AtomicU64::new(0));
        let accepting = tokio::spawn(accept(listener, target, state.subscribe(), accepted.clone()));
        Self { address, state, accepted, accepting }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL as the `operator` has it, for a proxy in front of a nats-server.
    #[must_use]
    pub fn nats_url(&self) -> String {
        users::url_as(users::OPERATOR, &format!("nats://{}", self.address))
    }

    /// `http://ADDRESS`.
    #[must_use]
    pub fn http_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks or mends the network.
    pub fn set(&self, network: Network) {
        self.state.send_modify(|state| {
            state.network = network;
            if network == Network::Down {
                (state.cuts, state.how) = (state.cuts + 1, Cut::End);
            }
        });
    }

    /// Cuts all connections in order; new ones come through, if the network works.
    pub fn cut(&self) {
        self.cut_by(Cut::End);
    }

    /// Cuts all connections in that way; new ones come through, if the network works.
    pub fn cut_by(&self, how: Cut) {
        self.state.send_modify(|state| (state.cuts, state.how) = (state.cuts + 1, how));
    }

    /// How many connections were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, state: watch::Receiver<State>, accepted: Arc<AtomicU64>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, or a connection that died in the queue: neither is for ever.
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        accepted.fetch_add(1, Ordering::Relaxed);
        let now = *state.borrow();
        if now.network != Network::Down && connections.len() < CONNECTIONS {
            connections.spawn(pass::connection(stream, target, now.cuts, state.clone()));
        }
    }
}
