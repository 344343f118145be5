//! The same log over plain HTTP: server-sent events.
//!
//! Here hyper owns the socket, so no frame is written from the append loop: the task is woken, and hands what the ring
//! has to the body of the response, as fast as that is taken.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use herald_protocol::{Close, frame::Control, record::AliasTarget};
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use metrics::counter;
use tokio::{
    sync::{
        Notify,
        mpsc::{self, error::TrySendError},
        watch,
    },
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    beat::Beat,
    connection::{
        Asking, ConnectionLimits, LAG_CHECK, answered, close_code, close_name, farewell, lag_bytes, next_target,
    },
    drain::Drain,
    feed::{Feed, Now, Out, Place, Setup, Step, StreamHub, Target},
    guests::{Stay, Word, notes::Doing},
    identity::Refusal,
    log::Batch,
    metrics::Counted,
    sessions::{Goes, Listener, Seat, Way},
    view::View,
};

/// Asks proxies not to hold back what they are given.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// A comment: proof of life, ignored by clients.
const COMMENT: Bytes = Bytes::from_static(b":\n\n");

/// The body of an event stream. Dropping it ends the connection's task.
#[derive(Debug)]
pub struct SseBody {
    chunks: mpsc::Receiver<Bytes>,
}

impl http_body::Body for SseBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        self.chunks.poll_recv(context).map(|chunk| chunk.map(|bytes| Ok(http_body::Frame::data(bytes))))
    }
}

/// The response to `GET /sse/{sid}` and what feeds it, to be spawned by the caller, who also reads `Last-Event-ID`.
/// `abort` must end the HTTP connection: a client that does not read keeps it blocked, where no response can be ended.
/// Every `comment` something is sent. The stream ends at `ends`, if that is given: its token is of no use any more.
pub fn respond(
    setup: Setup,
    ends: Option<Instant>,
    limits: Arc<ConnectionLimits>,
    comment: Duration,
    drain: Drain,
    abort: CancellationToken,
) -> (Response<SseBody>, impl Future<Output = ()> + Send + 'static) {
    // One chunk waits while another is being written; everything else waits in the ring.
    let (sender, chunks) = mpsc::channel(1);
    let mut response = Response::new(SseBody { chunks });
    set_headers(response.headers_mut());
    let feeding = async move {
        let mut events = Events::new(sender, setup, ends, limits, comment, drain);
        let end = events.run().await;
        events.end(end, &abort).await;
    };
    (response, feeding)
}

/// What an event stream's answer says of itself.
pub(crate) fn set_headers(headers: &mut HeaderMap) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
}

/// Wakes the task when there is something new.
#[derive(Default)]
struct Bell {
    /// The token it listens by; 0: it does not.
    token: AtomicU64,
    rung: Notify,
}

impl Bell {
    fn ring(&self, token: u64) {
        if self.token.compare_exchange(token, 0, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            self.rung.notify_one();
        }
    }
}

impl Listener for Bell {
    fn offer(&self, token: u64, _: &Batch) -> (usize, Goes) {
        self.ring(token);
        (0, Goes::Away)
    }

    fn dismiss(&self, token: u64) {
        self.ring(token);
    }

    fn is_current(&self, token: u64) -> bool {
        self.token.load(Ordering::Acquire) == token
    }
}

/// Why a stream ends.
enum End {
    Close(Close),
    /// Nothing is taken any more.
    TooSlow,
    /// The client is gone.
    Gone,
}

struct Events {
    sender: mpsc::Sender<Bytes>,
    bell: Arc<Bell>,
    hub: Arc<StreamHub>,
    view: Arc<View>,
    limits: Arc<ConnectionLimits>,
    comment: Duration,
    drain: Drain,
    alias: Option<watch::Receiver<Option<AliasTarget>>>,
    /// Its place among the guests.
    stay: Stay,
    beat: Option<Box<Beat>>,
    feed: Feed,
    asking: Option<Asking>,
    listening: bool,
    /// Counts the times of listening.
    token: u64,
    queue: VecDeque<Out>,
    /// How far everything was handed over.
    place: Place,
    comment_at: Instant,
    blocked_since: Option<Instant>,
    /// Counted among the blocked ones.
    blocked: Option<Counted>,
    leave_at: Option<Instant>,
    ends: Option<Instant>,
}

impl Events {
    fn new(
        sender: mpsc::Sender<Bytes>,
        setup: Setup,
        ends: Option<Instant>,
        limits: Arc<ConnectionLimits>,
        comment: Duration,
        drain: Drain,
    ) -> Self {
        // What its client says goes nowhere: it can't say anything.
        let Setup { hub, view, target, start, now, mut stay, uplink: _, beat, played } = setup;
        let bell = Arc::<Bell>::default();
        let weak: Weak<Bell> = Arc::downgrade(&bell);
        let opening = now.as_ref().map(Now::opening);
        let mut feed = Feed::new(hub.sessions.clone(), view.clone(), &target, start, opening, limits.of_feed(), weak);
        feed.noting(&stay.guest().notes);
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
        Self {
            sender,
            bell,
            hub,
            view,
            limits,
            comment,
            drain,
            alias,
            stay,
            beat,
            feed,
            asking: None,
            listening: false,
            token: 0,
            // The first comment carries the head of the response through proxies that wait for a body.
            queue: VecDeque::from([Out { bytes: COMMENT, place: Place::default() }]),
            place: Place::default(),
            comment_at: Instant::now() + comment,
            blocked_since: None,
            blocked: None,
            leave_at: None,
            ends,
        }
    }

    async fn run(&mut self) -> End {
        loop {
            if let Err(end) = self.go_on() {
                return end;
            }
            self.stay.guest().notes.at(self.place, self.doing());
            let wake_at = self.wake_at();
            tokio::select! {
                biased;
                () = self.drain.called(), if self.leave_at.is_none() => {
                    self.leave_at = Some(Instant::now() + self.drain.delay());
                }
                () = self.sender.closed() => return End::Gone,
                target = next_target(&mut self.alias) => {
                    self.listening = false;
                    if self.feed.follow(target) {
                        self.queue.clear();
                        self.asking = None;
                        self.stay.show(self.feed.seat().map(Seat::session));
                    }
                }
                () = self.stay.guest().rung() => {
                    // Where nothing is taken, what was said before waits; that it has to go does not.
                    if let (true, Some(close)) = (self.blocked_since.is_some(), self.stay.guest().told_to_go()) {
                        return End::Close(close);
                    }
                }
                () = self.bell.rung.notified() => self.listening = false,
                answer = answered(&mut self.asking) => {
                    self.asking = None;
                    self.feed.answer(answer);
                }
                room = has_room(&self.sender), if self.blocked_since.is_some() => match room {
                    true => (self.blocked_since, self.blocked) = (None, None),
                    false => return End::Gone,
                },
                () = sleep_until(wake_at) => {
                    if let Err(end) = self.look_at_the_clock() {
                        return end;
                    }
                }
            }
        }
    }

    fn doing(&self) -> Doing {
        if self.blocked_since.is_some() {
            Doing::Blocked
        } else if self.asking.is_some() {
            Doing::AsksHistory
        } else if self.feed.seat().is_none() {
            Doing::Waits
        } else {
            Doing::Listens
        }
    }

    fn wake_at(&self) -> Instant {
        let look = |since| Instant::min(since + self.limits.unwritable, Instant::now() + LAG_CHECK);
        let at = self.blocked_since.map_or(self.comment_at, look);
        let beat_at = self.beat.as_ref().map(|beat| beat.at());
        [self.leave_at, self.ends, beat_at, self.due_at()].into_iter().flatten().fold(at, Instant::min)
    }

    /// When what the feed holds is due, where nothing else is in the way of it.
    fn due_at(&self) -> Option<Instant> {
        self.feed.wakes_at().filter(|_| self.listening && self.blocked_since.is_none())
    }

    fn look_at_the_clock(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.leave_at.is_some_and(|at| now >= at) {
            // Who has got nothing yet comes back as it came.
            let after = self.place.cursor().filter(|cursor| cursor.seq > 0);
            return Err(End::Close(Close::Restart { after }));
        }
        if self.due_at().is_some_and(|at| now >= at) {
            self.listening = false;
        }
        if self.ends.is_some_and(|ends| now >= ends) {
            return Err(End::Close(Refusal::Outlived.close()));
        }
        if let Some(since) = self.blocked_since {
            if now >= since + self.limits.unwritable || self.feed.lags(self.place) {
                return Err(End::TooSlow);
            }
            if now >= since + LAG_CHECK && self.asking.is_none() {
                self.feed.let_go(&mut self.queue, false, self.place);
                lag_bytes("sse", self.feed.lag(self.place).bytes);
            }
        }
        if let Some(beat) = &mut self.beat
            && beat.is_due(now)
            && self.queue.is_empty()
        {
            let words = beat.text(self.feed.seat().map(Seat::session), self.hub.is_well());
            self.queue.push_back(Out { bytes: self.view.text(&words), place: self.place });
        }
        if self.queue.is_empty() && now >= self.comment_at {
            self.queue.push_back(Out { bytes: COMMENT, place: self.place });
        }
        Ok(())
    }

    /// Hands over what there is, until there is nothing more or nothing more is taken.
    fn go_on(&mut self) -> Result<(), End> {
        if self.blocked_since.is_some() {
            return Ok(());
        }
        loop {
            while !self.queue.is_empty() {
                match self.sender.try_reserve() {
                    Ok(room) => {
                        self.place = hand_over(room, &mut self.queue).unwrap_or(self.place);
                        self.hub.sessions.wrote(self.place.seq, Way::Sse);
                    }
                    Err(TrySendError::Closed(())) => return Err(End::Gone),
                    Err(TrySendError::Full(())) => {
                        self.blocked_since.get_or_insert_with(Instant::now);
                        self.blocked.get_or_insert_with(|| Counted::blocked("sse"));
                        if self.view.conflates() && self.asking.is_none() {
                            // As a socket's: a newer one may take its place.
                            self.feed.let_go(&mut self.queue, false, self.place);
                        }
                        return Ok(());
                    }
                }
                self.comment_at = Instant::now() + self.comment;
            }
            if self.words()? {
                return Ok(());
            }
            if self.listening || self.asking.is_some() {
                return Ok(());
            }
            self.place = self.feed.place().unwrap_or(self.place);
            self.token += 1;
            self.bell.token.store(self.token, Ordering::Release);
            match self.feed.step(self.token) {
                // Without a session, another target of the alias brings one.
                Step::Listen | Step::Idle | Step::Rest => self.listening = true,
                Step::Send(outs) => self.queue = outs.into(),
                Step::Close(close) => return Err(End::Close(close)),
                Step::Ask(question) => {
                    let hub = self.hub.clone();
                    self.asking = Some(Box::pin(async move { hub.past.answer(question).await }));
                }
            }
        }
    }

    /// Hands over what is for this client alone. Returns whether no more is taken for now.
    fn words(&mut self) -> Result<bool, End> {
        if self.place.epoch.is_none() && self.feed.seat().is_some() {
            // The hello comes first.
            return Ok(false);
        }
        while let Some(word) = self.stay.guest().next_word() {
            let frame = match word {
                Word::Ready(frame) => frame,
                Word::Close(close) => return Err(End::Close(close)),
            };
            match self.sender.try_send(frame) {
                Ok(()) => self.comment_at = Instant::now() + self.comment,
                Err(TrySendError::Closed(_)) => return Err(End::Gone),
                Err(TrySendError::Full(frame)) => {
                    self.stay.guest().not_said(frame);
                    self.blocked_since.get_or_insert_with(Instant::now);
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Ends the stream: the client is told to come back, and when; by its last id it finds its place. Or that there is nothing
    /// to come back for: an `EventSource` does all the same, and is answered 204, by which it stops.
    async fn end(mut self, end: End, abort: &CancellationToken) {
        let reason = match &end {
            End::Gone => "gone",
            End::TooSlow => "too_slow",
            End::Close(close) => close_name(close),
        };
        let code = match &end {
            End::Gone => "none",
            End::TooSlow => "4408",
            End::Close(close) => close_code(close),
        };
        counter!("herald_closed_connections_total", "transport" => "sse", "reason" => reason, "code" => code)
            .increment(1);
        tracing::debug!(reason, "ending an event stream");
        self.feed.leave();
        self.stay.end();
        match end {
            End::Gone => {}
            // It takes nothing, a farewell included.
            End::TooSlow => abort.cancel(),
            End::Close(close) => {
                let farewell = self.sender.send(self.farewell(&close));
                if !matches!(timeout(self.limits.close_timeout, farewell).await, Ok(Ok(()))) {
                    abort.cancel();
                }
            }
        }
    }

    fn farewell(&self, close: &Close) -> Bytes {
        if let Close::Told { .. } | Close::ByEvent { .. } = close {
            let closed = Control::Closed { code: close.code(), reason: close.reason() };
            // Who comes back all the same has been closed by that event.
            let cursor = if let Close::ByEvent { after, .. } = close { Some(*after) } else { None };
            return self.view.control(&closed, cursor).unwrap_or_default();
        }
        let retry = self.drain.retry();
        let again = !matches!(close, Close::Over { .. });
        let mut text = if again { format!("retry: {}\n", retry.as_millis()).into_bytes() } else { Vec::new() };
        // Who comes back all the same says by this that nothing is missing.
        let cursor = if let Close::Over { after } = close { Some(*after) } else { None };
        match farewell(close, retry).and_then(|bye| self.view.control(&bye, cursor)) {
            Some(bye) => text.extend_from_slice(&bye),
            None => text.push(b'\n'),
        }
        text.into()
    }
}

/// Waits until the body has taken something; false where nobody is left to take it. Nobody else sends, so the room stays.
async fn has_room(sender: &mpsc::Sender<Bytes>) -> bool {
    sender.reserve().await.is_ok()
}

/// Hands over the next of the queue, and says how far that brings the client.
fn hand_over(room: mpsc::Permit<'_, Bytes>, queue: &mut VecDeque<Out>) -> Option<Place> {
    let out = queue.pop_front()?;
    room.send(out.bytes);
    Some(out.place)
}
