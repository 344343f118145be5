//! The wire between one bridge and its nats-server, and somebody on it who reads the protocol: he can stop the bridge at any
//! message that it sends, and decide whether it takes requests. So a bridge is killed at each step of what it does, not
//! after so many milliseconds.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
};

/// How the subscription begins by which a bridge takes requests.
const REQUESTS: &[u8] = b"SUB http.gm gm ";

/// Where the bridge is to be stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The message is not sent.
    Before,
    /// The message is sent, and no answer to it comes.
    Behind,
}

/// A wire. Cut when dropped.
pub(crate) struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    state: Mutex<State>,
    /// Whether anything passes.
    open: watch::Sender<bool>,
    /// The message at which the bridge was stopped.
    stopped: watch::Sender<Option<String>>,
    /// How often all connections were cut.
    cuts: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    hears: bool,
    /// The bridge's subscription to requests, and the way into the connection that has it.
    requests: Option<(Vec<u8>, mpsc::Sender<Vec<u8>>)>,
    trap: Option<Trap>,
}

/// Counts the messages that speak of something.
struct Trap {
    needle: Vec<u8>,
    left: usize,
    stop: Stop,
}

impl Wire {
    /// A wire to that server. The bridge at its other end takes no requests yet.
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            open: watch::Sender::new(true),
            stopped: watch::Sender::new(None),
            cuts: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(Arc::clone(&shared).accept(listener, server));
        Self { address, shared, accepting }
    }

    /// Its URL, of nobody in particular.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Whether the bridge takes requests from now on.
    pub(crate) async fn hear(&self, hears: bool) {
        let inject = {
            let mut state = self.shared.state();
            state.hears = hears;
            state.requests.clone()
        };
        let Some((subscription, way)) = inject else { return };
        let number = subscription.rsplit(|byte| *byte == b' ').next().unwrap().to_vec();
        let line = if hears { subscription } else { [b"UNSUB ", &number[..]].concat() };
        // A connection that has just ended takes nothing; the next one is told what holds by then.
        let _ = way.send(line).await;
    }

    /// Stops the bridge at the message behind `passed` further ones that speak of `needle`.
    pub(crate) fn stop_at(&self, needle: &str, passed: usize, stop: Stop) {
        self.shared.stopped.send_replace(None);
        self.shared.state().trap = Some(Trap { needle: needle.into(), left: passed, stop });
    }

    /// Waits until it was stopped. Its message, shortened; `None` if it was not within `bound`.
    pub(crate) async fn stopped(&self, bound: Duration) -> Option<String> {
        let mut stopped = self.shared.stopped.subscribe();
        let message = tokio::time::timeout(bound, stopped.wait_for(Option::is_some)).await.ok()?.unwrap();
        message.clone()
    }

    /// Cuts all connections; new ones are taken.
    pub(crate) fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Nothing passes any more, or everything again, what was kept back first.
    pub(crate) fn open(&self, open: bool) {
        self.shared.open.send_replace(open);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, server: SocketAddr) {
        let mut connections = JoinSet::new();
        loop {
            let (bridge, _) = listener.accept().await.unwrap();
            while connections.try_join_next().is_some() {}
            let shared = Arc::clone(&self);
            let mut cuts = self.cuts.subscribe();
            connections.spawn(async move {
                let Ok(server) = TcpStream::connect(server).await else { return };
                bridge.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let ((bridge_in, bridge_out), (server_in, server_out)) = (bridge.into_split(), server.into_split());
                tokio::select! {
                    () = shared.up(bridge_in, server_out) => {}
                    () = shared.down(server_in, bridge_out) => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    }

    /// From the bridge to the server, message by message.
    async fn up(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (way, mut injected) = mpsc::channel(8);
        let (mut buffer, mut open) = (Vec::new(), self.open.subscribe());
        loop {
            while let Some(length) = message_length(&buffer) {
                let message: Vec<u8> = buffer.drain(..length).collect();
                if !self.passes(&message, &way) {
                    continue;
                }
                let behind = self.counts(&message);
                while behind != Some(Stop::Behind) && !*open.borrow_and_update() {
                    // Whoever is stopped can be kept from taking requests all the same.
                    tokio::select! {
                        changed = open.changed() => if changed.is_err() { return },
                        Some(line) = injected.recv() => if to.write_all(&line).await.is_err() { return },
                    }
                }
                if to.write_all(&message).await.is_err() {
                    return;
                }
            }
            tokio::select! {
                read = from.read_buf(&mut buffer) => if !read.is_ok_and(|read| read > 0) { return },
                Some(line) = injected.recv() => if to.write_all(&line).await.is_err() { return },
            }
        }
    }

    async fn down(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let (mut buffer, mut open) = (vec![0; 64 << 10], self.open.subscribe());
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
            if open.wait_for(|open| *open).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    }

    /// Whether the server may see that: not the subscription to requests of a bridge that takes none.
    fn passes(&self, message: &[u8], way: &mpsc::Sender<Vec<u8>>) -> bool {
        if !message.starts_with(REQUESTS) {
            return true;
        }
        let mut state = self.state();
        state.requests = Some((message.to_vec(), way.clone()));
        state.hears
    }

    /// Counts a message; whether it is the one to stop at.
    fn counts(&self, message: &[u8]) -> Option<Stop> {
        let mut state = self.state();
        let trap = state.trap.as_mut()?;
        if !message.windows(trap.needle.len()).any(|window| window == trap.needle) {
            return None;
        }
        if trap.left > 0 {
            trap.left -= 1;
            return None;
        }
        let stop = trap.stop;
        state.trap = None;
        self.open.send_replace(false);
        let line = message.split(|byte| *byte == b'\r').next().unwrap_or_default();
        self.stopped.send_replace(Some(String::from_utf8_lossy(line).into_owned()));
        Some(stop)
    }
}

/// The length of the first whole message of the client protocol.
fn message_length(buffer: &[u8]) -> Option<usize> {
    let line = buffer.windows(2).position(|window| window == b"\r\n")? + 2;
    let text = std::str::from_utf8(&buffer[..line - 2]).unwrap();
    let payload = if text.starts_with("PUB ") || text.starts_with("HPUB ") {
        text.rsplit(' ').next().unwrap().parse::<usize>().unwrap() + 2
    } else {
        0
    };
    (buffer.len() >= line + payload).then_some(line + payload)
}
