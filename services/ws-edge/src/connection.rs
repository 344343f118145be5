//! One WebSocket: one socket, one task, one cursor.
//!
//! As long as a connection is up to date it *listens*: the append loop writes each frame straight to its socket, and the
//! task sleeps. The moment a frame can't be written, or anything else is to be done (begin, catch up, move, close), the
//! task takes over and writes from its cursor, as many frames at once as the socket takes, until it is up to date again.

mod beating;
mod clock;
mod closing;
#[cfg(feature = "echo")]
mod echo;
mod hearing;
mod heartbeat;
mod inflow;
mod lead;
mod socket;
mod upward;
mod writing;

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use herald_protocol::{Close, record::AliasTarget};
use metrics::{Counter, counter, histogram};
use rand::RngExt as _;
use tokio::{net::TcpStream, sync::watch, time::Instant};

use crate::{
    beat::Beat,
    drain::Drain,
    feed::{Answer, Feed, FeedLimits, Now, Out, Place, Setup, Step, StreamHub, Target},
    guests::{Stay, notes},
    history::HistoryError,
    identity::{Lease, token},
    log::Mark,
    metrics::Counted,
    replay::{Command, Malformed},
    sessions::Seat,
    view::View,
    websocket::Inbound,
};

pub(crate) use clock::{answered, next_target};
pub(crate) use closing::{code as close_code, farewell, name as close_name};
use heartbeat::Heartbeat;
use inflow::Inflow;
pub use inflow::InflowLimits;
use socket::Socket;
use upward::Upward;

/// Frames written with one system call at most.
const WRITE_AT_ONCE: usize = 64;
/// Batches after which a connection that could go on lets others run.
const BATCHES: usize = 8;
/// Bytes read from a client at once; it is not to send much, and what it sends is only counted.
pub(crate) const READ_AT_ONCE: usize = 2048;
/// How often a blocked connection looks how far it has fallen behind.
pub(crate) const LAG_CHECK: Duration = Duration::from_secs(1);

/// What a connection keeps that can't be written to, beside the frame that has begun; what is more is read again.
const HELD_WHILE_BLOCKED: usize = 64 << 10;

/// What a connection may take, and how long.
#[derive(Debug, Clone)]
pub struct ConnectionLimits {
    /// A connection to which nothing can be written for so long is closed (4408).
    pub unwritable: Duration,
    /// A connection more frames behind than this is closed (4408).
    pub lag_frames: u64,
    /// A connection more bytes behind than this is closed (4408).
    pub lag_bytes: u64,
    /// How long a read from history is tried again before the connection is closed (1013).
    pub history_patience: Duration,
    /// How often a ping is sent.
    pub heartbeat: Duration,
    /// A client from which nothing is heard for so long after a ping is gone.
    pub heartbeat_timeout: Duration,
    /// How long a close handshake may take.
    pub close_timeout: Duration,
    /// Largest message a client may send where it is ignored, in bytes (1009).
    pub inbound_message: u64,
    /// How much a client may send (1008).
    pub inflow: InflowLimits,
    /// Size of the kernel's send buffer, in bytes; set before anything else is known of a connection.
    pub send_buffer: usize,
}

impl ConnectionLimits {
    pub(crate) const fn of_feed(&self) -> FeedLimits {
        FeedLimits {
            lag: Mark { frames: self.lag_frames, bytes: self.lag_bytes },
            patience: self.history_patience,
            heartbeat: self.heartbeat,
            held: HELD_WHILE_BLOCKED,
        }
    }
}

/// A question to history on its way.
pub(crate) type Asking = Pin<Box<dyn Future<Output = Result<Answer, HistoryError>> + Send>>;

/// Serves an upgraded WebSocket until it is closed by either side. `leftover` is what the client sent behind its
/// handshake; `lease`: how long it may go on, where that is limited. Dropping the future drops the socket without a close frame: end it by [`Drain`] instead.
// No `async fn`: that would keep the arguments beside the connection made of them, for as long as it lives.
pub fn serve(
    tcp: TcpStream,
    leftover: Bytes,
    setup: Setup,
    lease: Option<Box<Lease>>,
    limits: Arc<ConnectionLimits>,
    drain: Drain,
) -> impl Future<Output = ()> + Send {
    let mut connection = Connection::new(tcp, setup, lease, limits, drain);
    let received = connection.receive(&leftover);
    // Even empty, it holds the buffer that the handshake was read into.
    drop(leftover);
    async move {
        let end = match received {
            Ok(()) => connection.run().await,
            Err(end) => end,
        };
        // On the heap, as it is needed only now.
        Box::pin(connection.end(end)).await;
    }
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// We close it. Cursors in it are those of the moment: they are set anew when it is said.
    Close(Close),
    /// The client's bytes make no sense any more: closed, and what it still sends is not looked at.
    Broken(Close),
    /// The client closes it.
    Asked,
    /// Nothing is heard of the client any more.
    Dead,
    /// The client is gone without a word.
    Gone,
}

impl From<io::Error> for End {
    fn from(_: io::Error) -> Self {
        Self::Gone
    }
}

/// What a connection does while its task waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// Could go on at once.
    Going,
    /// Waits until the socket takes more.
    Blocked,
    /// Is up to date: the append loop writes.
    Listening,
    /// Waits until what it holds is due.
    Resting,
    /// Waits for history.
    Asking,
    /// Has no session to show.
    Nothing,
}

impl Doing {
    /// As whoever looks at the connection is told.
    const fn noted(self) -> notes::Doing {
        match self {
            // In its own time.
            Self::Going | Self::Resting => notes::Doing::CatchesUp,
            Self::Blocked => notes::Doing::Blocked,
            Self::Listening => notes::Doing::Listens,
            Self::Asking => notes::Doing::AsksHistory,
            Self::Nothing => notes::Doing::Waits,
        }
    }
}

struct Connection {
    socket: Arc<Socket>,
    hub: Arc<StreamHub>,
    view: Arc<View>,
    limits: Arc<ConnectionLimits>,
    drain: Drain,
    alias: Option<watch::Receiver<Option<AliasTarget>>>,
    lease: Option<Box<Lease>>,
    /// Its place among the guests.
    stay: Stay,
    /// Where what its client says goes, if that goes anywhere.
    upward: Option<Box<Upward>>,
    /// It was told to go, by somebody else than us.
    told: Option<Box<Close>>,
    beat: Option<Box<Beat>>,
    feed: Feed,
    doing: Doing,
    asking: Option<Asking>,
    /// What is to be written; of the first, `written` bytes already are.
    queue: VecDeque<Out>,
    written: usize,
    /// How far everything is written.
    place: Place,
    /// A pong or ping that waits for the end of a frame. One is enough: the latest. On the heap, as there seldom is one.
    control: Option<Box<Bytes>>,
    inbound: Inbound,
    inflow: Inflow,
    heartbeat: Heartbeat,
    blocked_since: Option<Instant>,
    /// Counted among the blocked ones.
    blocked: Option<Counted>,
    leave_at: Option<Instant>,
    delivered: Counter,
}

impl Connection {
    fn new(
        tcp: TcpStream,
        setup: Setup,
        lease: Option<Box<Lease>>,
        limits: Arc<ConnectionLimits>,
        drain: Drain,
    ) -> Self {
        let Setup { hub, view, target, start, now, mut stay, uplink, beat, played } = setup;
        let socket = Arc::new(Socket::new(tcp));
        let weak: Weak<Socket> = Arc::downgrade(&socket);
        let notes = &stay.guest().notes;
        notes.ask(weak.clone());
        let opening = now.as_ref().map(Now::opening);
        let mut feed = Feed::new(hub.sessions.clone(), view.clone(), &target, start, opening, limits.of_feed(), weak);
        feed.noting(notes);
        let hears = played.is_some() && view.is_chained();
        if let Some(played) = played {
            feed.at_pace(played);
        }
        let alias = match target {
            Target::Session(_) => None,
            Target::Alias(mut alias) => {
                feed.follow(alias.borrow_and_update().clone());
                Some(alias)
            }
        };
        stay.show(feed.seat().map(Seat::session));
        let upward = Upward::of(stay.guest(), uplink);
        // Who has no token to renew, nothing to play, and nobody to hear it, says nothing of interest.
        let keep = lease.as_ref().map_or(0, |_| token::MAX_FRAME).max(if hears { Command::MAX_FRAME } else { 0 });
        let mut inbound = Inbound::new(limits.inbound_message).keeping(keep);
        if let Some(upward) = &upward {
            // A fresh token may be longer than what goes up.
            let longest = upward.longest().max(lease.as_ref().map_or(0, |_| token::MAX_FRAME as u64));
            inbound = Inbound::new(longest).keeping_all();
        }
        let heartbeat =
            Heartbeat::new(limits.heartbeat, limits.heartbeat_timeout, rand::rng().random(), Instant::now());
        Self {
            socket,
            hub,
            view,
            inbound,
            inflow: Inflow::new(Instant::now()),
            limits,
            drain,
            alias,
            lease,
            stay,
            upward,
            told: None,
            beat,
            feed,
            doing: Doing::Going,
            asking: None,
            queue: VecDeque::new(),
            written: 0,
            place: Place::default(),
            control: None,
            heartbeat,
            blocked_since: None,
            blocked: None,
            leave_at: None,
            delivered: counter!("herald_frames_delivered_total", "way" => "task"),
        }
    }

    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.go_on() {
                return end;
            }
            if let Err(end) = self.wait().await {
                return end;
            }
            if let Err(end) = self.look_at_the_clock() {
                return end;
            }
        }
    }

    /// Goes on as far as it goes without waiting.
    fn go_on(&mut self) -> Result<(), End> {
        for _ in 0..BATCHES {
            if matches!(self.doing, Doing::Listening | Doing::Blocked) {
                return Ok(());
            }
            let all = self.write()?;
            if let Some(told) = self.told.take() {
                return Err(End::Close(*told));
            }
            if !all {
                self.doing = Doing::Blocked;
                if self.view.conflates() && self.asking.is_none() {
                    // What it has not begun to get may have a newer one in its place by then.
                    self.feed.let_go(&mut self.queue, self.written > 0, self.place);
                }
                return Ok(());
            }
            if self.doing != Doing::Going {
                return Ok(());
            }
            self.place = self.feed.place().unwrap_or(self.place);
            let token = self.socket.listen(self.place);
            let step = self.feed.step(token);
            if matches!(step, Step::Listen) {
                // The queue is not needed for as long as the append loop writes.
                self.queue = VecDeque::new();
                self.doing = Doing::Listening;
                return Ok(());
            }
            self.socket.stop();
            match step {
                Step::Listen => {}
                Step::Idle => self.doing = Doing::Nothing,
                Step::Rest => self.doing = Doing::Resting,
                Step::Send(outs) => self.queue = outs.into(),
                Step::Close(close) => return Err(End::Close(close)),
                Step::Ask(question) => {
                    let hub = self.hub.clone();
                    self.asking = Some(Box::pin(async move { hub.past.answer(question).await }));
                    self.doing = Doing::Asking;
                }
            }
        }
        Ok(())
    }

    /// Takes the socket back from the append loop, if it has it.
    fn take_over(&mut self) {
        if self.doing != Doing::Listening {
            return;
        }
        let heard = self.socket.stop();
        if let (true, Some(seat)) = (heard.left, self.feed.seat()) {
            seat.stopped_listening();
        }
        self.place = heard.place;
        self.feed.go_on_from(heard.begun.as_ref().map_or(heard.place, |(begun, _)| begun.place));
        if let Some((begun, written)) = heard.begun {
            self.queue.push_front(begun);
            self.written = written;
        }
        self.doing = Doing::Going;
    }

    /// The alias names another target: what was to be sent of the old one is not sent, but for a frame that has begun.
    fn follow(&mut self, target: Option<AliasTarget>) {
        self.take_over();
        if self.feed.follow(target) {
            self.asking = None;
            self.queue.truncate(usize::from(self.written > 0));
            self.doing = Doing::Going;
            self.stay.show(self.feed.seat().map(Seat::session));
        }
    }

    /// Its client wants the past to be played otherwise.
    fn replay(&mut self, command: Result<Command, Malformed>) {
        self.take_over();
        let moved = match command {
            Ok(command) => {
                let begun = self.queue.front().filter(|_| self.written > 0);
                let greeted = begun.map_or(self.place, |begun| begun.place).epoch;
                self.feed.command(&command, greeted)
            }
            Err(Malformed) => {
                self.feed.refuse("malformed");
                false
            }
        };
        if moved {
            self.asking = None;
            self.queue.truncate(usize::from(self.written > 0));
        }
        if self.asking.is_none() && self.doing != Doing::Blocked {
            self.doing = Doing::Going;
        }
    }
}

/// A connection that can't be written to is so far behind.
pub(crate) fn lag_bytes(transport: &'static str, bytes: u64) {
    histogram!("herald_blocked_lag_bytes", "transport" => transport).record(bytes as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the task of `serve` keeps while it waits.
    const fn kept<A, B, C, D, E, F, G: Future>(_: fn(A, B, C, D, E, F) -> G) -> usize {
        size_of::<G>()
    }

    #[test]
    fn a_connection_that_has_nothing_to_do_takes_little() {
        // With the socket, its buffers in the kernel aside, 10,000 of them are to fit 40 MB.
        let (task, socket) = (kept(serve), size_of::<Socket>());
        assert!(task <= 2048 && socket <= 256, "{task} + {socket}");
    }
}
