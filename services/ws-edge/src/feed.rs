//! What a connection is to be sent next: a cursor that moves along a log, through history and ring.
//!
//! A `Feed` decides and never waits: each `Step` says what is to be sent, or asked of history, or that there is
//! nothing to do until something changes. Its connection does that and comes back. So every way of a cursor (live,
//! resume, replay, snapshot, a gap, another life of the stream, falling off the ring) is one state machine, the same for
//! sockets and event streams, and can be tested without either.

mod answers;
mod past;
mod setup;
#[cfg(test)]
mod tests;
mod timed;

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use herald_protocol::{Close, Cursor, Epoch, Position, SessionId, frame::Control, record::AliasTarget};
use metrics::counter;
use rand::RngExt as _;
use tokio::time::Instant;

pub use past::Past;
pub(crate) use past::{Answer, Ask, Question};
pub use setup::{Now, Setup, Start, StreamHub, Target};
use timed::Timed;

use crate::{
    guests::notes::{Gap, Notes, Resume, now_ms},
    log::{Frame, Mark},
    planted::{Bug, planted},
    sessions::{Listener, Opening, Seat, SeatRead, Sessions},
    view::{Stop, View, cursor},
};

/// Frames and bytes of the ring that are written at once. Small enough that a slow client holds little of what the ring
/// has dropped since, large enough that a fast one is served in few system calls.
const BATCH: (usize, usize) = (64, 256 << 10);
/// First and longest pause between two tries to read history.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long it takes until a leader that was just elected and answers from behind knows better.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How far a feed may fall behind, and how long it tries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeedLimits {
    pub(crate) lag: Mark,
    pub(crate) patience: Duration,
    pub(crate) heartbeat: Duration,
    /// What a connection that can't be written to keeps beside the frame that has begun, in bytes.
    pub(crate) held: usize,
}

/// How far a cursor has come, and what the ring had taken by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// The life of the stream it belongs to; none before the beginning.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) seq: u64,
    pub(crate) mark: Mark,
}

impl Place {
    /// The place that is reached with that frame, in the same life.
    pub(crate) const fn at(self, frame: &Frame) -> Self {
        Self { epoch: self.epoch, seq: frame.seq, mark: frame.mark }
    }

    /// What a client comes back with from here.
    pub(crate) fn cursor(self) -> Option<Cursor> {
        self.epoch.map(|epoch| cursor(epoch, self.seq))
    }
}

/// Bytes to send, and the place that is reached with them.
#[derive(Debug, Clone)]
pub(crate) struct Out {
    pub(crate) bytes: Bytes,
    pub(crate) place: Place,
}

/// What is to be done next.
pub(crate) enum Step {
    /// Send this, in order.
    Send(Vec<Out>),
    /// Nothing: the listener gets what comes next, or is dismissed.
    Listen,
    /// Nothing: there is no session to show.
    Idle,
    /// Nothing until [`Feed::wakes_at`], or its client wants something else.
    Rest,
    /// Ask history and bring the answer.
    Ask(Question),
    /// Close.
    Close(Close),
}

/// The cursor of one connection.
pub(crate) struct Feed {
    sessions: Arc<Sessions>,
    view: Arc<View>,
    limits: FeedLimits,
    listener: Weak<dyn Listener>,
    follows: bool,
    start: Start,
    /// On the heap, as it is gone once it has begun.
    now: Option<Box<Opening>>,
    seat: Option<Seat>,
    stage: Stage,
    /// The life of the stream the place belongs to.
    life: Option<Life>,
    place: Place,
    /// Frames up to here do not count as lag: they were there when the connection began.
    owed_from: u64,
    /// The last shown event at or before the place, if known.
    chain: Option<u64>,
    /// The client began with what there is: at place 0 it misses nothing, whatever is no longer kept.
    from_start: bool,
    /// Where it was when it told such a client what is no longer kept.
    excused: Option<u64>,
    /// It has waited for the read of another one, and the ring did not have it then.
    alone: bool,
    /// It was shown the newest of what is before the ring, and lacks what came between that read and the ring at most.
    leapt: bool,
    /// It is closed once everything that was handed out is sent.
    stop: Option<Box<Stop>>,
    ready: Vec<Out>,
    /// How it plays the past again, where it does.
    timed: Option<Box<Timed>>,
    close: Option<Close>,
    failing: Option<Failing>,
    /// What its connection notes down.
    notes: Arc<Notes>,
}

#[derive(Debug, Clone, Copy)]
struct Life {
    generation: u64,
    epoch: Epoch,
}

#[derive(Debug, Clone, Copy)]
struct Failing {
    since: Instant,
    times: u32,
}

/// A position that may be none of the stream.
#[derive(Debug, Clone, Copy)]
struct Case {
    at: Position,
    life: Life,
    /// It was beyond the stream's end already once.
    looked: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Has yet to begin.
    Start(Start),
    /// Waits to hear what the stream holds, to begin behind a position that may be none of it.
    Judge(Case),
    /// Waits for its snapshot.
    Snapshot,
    /// Moves along the log.
    Run,
}

impl Feed {
    /// `now`: the present that a live start begins with, if it was fixed before.
    pub(crate) fn new(
        sessions: Arc<Sessions>,
        view: Arc<View>,
        target: &Target,
        start: Start,
        now: Option<Opening>,
        limits: FeedLimits,
        listener: Weak<dyn Listener>,
    ) -> Self {
        // What waits may have a newer one in its place by then.
        let limits = if view.conflates() { FeedLimits { held: 0, ..limits } } else { limits };
        let mut feed = Self {
            sessions,
            view,
            limits,
            listener,
            follows: matches!(target, Target::Alias(_)),
            start,
            now: now.map(Box::new),
            seat: None,
            stage: Stage::Start(start),
            life: None,
            place: Place::default(),
            owed_from: 0,
            chain: None,
            from_start: false,
            excused: None,
            alone: false,
            leapt: false,
            stop: None,
            ready: Vec::new(),
            timed: None,
            close: None,
            failing: None,
            notes: Arc::default(),
        };
        if let Target::Session(session) = target {
            // Whoever let it in has seen to it that the intake has come to where the session begins.
            feed.sit(session, 0);
        }
        feed
    }

    /// Notes down from where it shows its session, and why.
    pub(crate) fn noting(&mut self, notes: &Arc<Notes>) {
        self.notes = notes.clone();
    }

    /// Takes a place in a session's ring, which somebody has named from behind `after`.
    fn sit(&mut self, session: &SessionId, after: u64) {
        let (listener, watches) = (self.listener.clone(), !self.follows);
        let behind = if session.is_fork() { after } else { 0 };
        self.seat = Some(self.sessions.attach_behind(behind, session, &self.view, listener, watches));
    }

    /// How far it has come, if everything handed out was sent. `None` while something has yet to be handed out, which
    /// brings its own place.
    pub(crate) fn place(&self) -> Option<Place> {
        (self.ready.is_empty() && !self.holds()).then_some(self.place)
    }

    /// The seat, if a session is shown.
    pub(crate) const fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// The listener was offered frames up to `place`, and the feed goes on from there.
    pub(crate) fn go_on_from(&mut self, place: Place) {
        if place.seq > self.place.seq {
            self.place = place;
            self.chain = Some(place.seq);
        }
    }

    /// A connection to which nothing can be written lets go of what it holds beyond a little: its cursor is enough to read
    /// that again. `sent`: how far everything is sent. Of the first in the queue a part may be: `begun`.
    pub(crate) fn let_go(&mut self, queue: &mut VecDeque<Out>, begun: bool, sent: Place) {
        let keep = usize::from(begun);
        let held: usize = queue.iter().skip(keep).map(|out| out.bytes.len()).sum();
        let back = queue.front().filter(|_| begun).map_or(sent, |first| first.place);
        // Before its first event a connection has no place to come back to, within a snapshot none, and where its client wanted to
        // be elsewhere another one.
        let has_place = matches!(self.stage, Stage::Run) && !self.has_moved_unsaid();
        let can_go_back = has_place && back.seq > 0 && back.epoch == self.place.epoch;
        if held <= self.limits.held || !can_go_back {
            return;
        }
        counter!("herald_blocked_bytes_dropped_total").increment(held as u64);
        queue.truncate(keep);
        queue.shrink_to_fit();
        (self.ready, self.stop, self.leapt) = (Vec::new(), None, false);
        self.forget_held();
        // What is let go may be the excuse for a trimmed past: it is told again.
        let excuse = self.excused.is_some_and(|at| back.seq <= at);
        (self.place, self.chain) = (back, excuse.then_some(0));
        self.say_live_again();
    }

    /// Shows nothing more.
    pub(crate) fn leave(&mut self) {
        self.seat = None;
    }

    /// The alias names another target: moves exactly there. `false`: it is there already. Otherwise what was asked or to
    /// be sent before is of no interest any more.
    pub(crate) fn follow(&mut self, target: Option<AliasTarget>) -> bool {
        let Some(AliasTarget { session, after }) = target else {
            (self.seat, self.stop) = (None, None);
            self.ready.clear();
            return true;
        };
        let here = self.seat.as_ref().is_some_and(|seat| *seat.session() == session);
        if here && matches!(self.stage, Stage::Run) {
            if after > self.place.seq {
                self.place.seq = after;
                (self.chain, self.stop) = (None, None);
                self.ready.clear();
                return true;
            }
            return false;
        }
        let start = match std::mem::replace(&mut self.start, Start::Live) {
            Start::Live => Start::After(Position::Seq(after)),
            Start::After(position) if position.seq() < after => Start::After(Position::Seq(after)),
            chosen => chosen,
        };
        self.stage = Stage::Start(start);
        (self.failing, self.stop) = (None, None);
        self.ready.clear();
        if !here {
            self.seat = None;
            self.sit(&session, after);
        }
        true
    }

    /// What to do next, everything that was handed out being sent. The listener must be ready to be offered frames by `token`,
    /// behind [`Feed::place`].
    pub(crate) fn step(&mut self, token: u64) -> Step {
        self.was_sent();
        loop {
            if let Some(close) = self.close.take() {
                return Step::Close(close);
            }
            if !self.ready.is_empty() {
                return Step::Send(std::mem::take(&mut self.ready));
            }
            if let Some(close) = self.stopped() {
                return Step::Close(close);
            }
            let Some(seat) = &self.seat else { return Step::Idle };
            match self.stage {
                Stage::Start(start) => {
                    let Some(opening) = seat.open(token) else { return Step::Listen };
                    self.begin(start, &opening);
                    // Also where there is nothing to say: its connection is to know the place before it leaves it.
                    return Step::Send(std::mem::take(&mut self.ready));
                }
                Stage::Judge(_) => return self.ask(Ask::Extent),
                Stage::Snapshot => {
                    if self.is_stale() {
                        self.stage = Stage::Start(Start::Snapshot);
                    } else {
                        return self.ask(Ask::Snapshot);
                    }
                }
                Stage::Run => {
                    if let Some(step) = self.run(token) {
                        return step;
                    }
                }
            }
        }
    }

    fn ask(&self, ask: Ask) -> Step {
        let Some(seat) = &self.seat else { return Step::Idle };
        // Doubling from the first pause to the longest, each with a random part, so that many do not ask at once.
        let again = matches!(self.stage, Stage::Judge(Case { looked: true, .. }));
        let delay = self.failing.map_or(if again { LOOK_AGAIN } else { Duration::ZERO }, |failing| {
            RETRY
                .0
                .saturating_mul(1 << failing.times.min(10))
                .min(RETRY.1)
                .mul_f64(0.5 + rand::rng().random::<f64>() / 2.0)
        });
        let (view, session) = (self.view.clone(), seat.session().clone());
        Step::Ask(Question { view, session, ask, delay })
    }

    /// Begins at `start`, if it is a place in the log as the ring knows it.
    fn begin(&mut self, start: Start, opening: &Opening) {
        let life = Life { generation: opening.generation, epoch: opening.epoch };
        match start {
            Start::Live => {
                let now = self.now.take().filter(|now| now.generation == opening.generation);
                let opening = now.map_or(*opening, |now| Opening { head: now.head, ..*opening });
                self.begin_at(opening.head, &opening, "live", start);
            }
            Start::Snapshot => {
                self.begin_at(0, opening, "snapshot", start);
                self.stage = Stage::Snapshot;
            }
            Start::After(Position::Seq(0)) => {
                self.begin_at(0, opening, "replay", start);
                (self.from_start, self.chain) = (true, Some(0));
            }
            Start::After(at) => {
                if is_foreign(at, opening.epoch) || at.seq() > opening.head {
                    // Another life's, or beyond what this process has seen: what the stream's leader says decides.
                    self.stage = Stage::Judge(Case { at, life, looked: false });
                } else {
                    let way = if at.seq() < opening.floor { "history" } else { "ring" };
                    let mut seq = at.seq();
                    if planted(Bug::ResumeOffByOne) {
                        seq += 1;
                    }
                    if planted(Bug::DuplicateAfterReconnect) && way == "ring" {
                        seq -= 1;
                    }
                    self.begin_at(seq, opening, way, start);
                }
            }
        }
    }

    fn begin_at(&mut self, seq: u64, opening: &Opening, way: &'static str, asked: Start) {
        self.move_to(seq, opening, way, asked);
        // A client that drops out before its first frame comes back to where it began; one that asked for the whole, or
        // for a snapshot, asks again.
        let cursor = (seq > 0 || opening.head == 0).then(|| cursor(opening.epoch, seq));
        self.control(&self.hello(opening), cursor);
        if self.plays() {
            self.tell();
        }
    }

    fn move_to(&mut self, seq: u64, opening: &Opening, way: &'static str, asked: Start) {
        counter!("herald_feed_starts_total", "from" => way).increment(1);
        let Opening { epoch, floor, head, .. } = *opening;
        self.notes.resumed(Resume { at_ms: now_ms(), asked, got: way, behind: seq, epoch, floor, head, gap: None });
        self.life = Some(Life { generation: opening.generation, epoch: opening.epoch });
        self.place = Place { epoch: Some(opening.epoch), seq, mark: opening.mark };
        self.owed_from = opening.head;
        (self.chain, self.from_start, self.excused, self.leapt) = (None, false, None, false);
        self.stage = Stage::Run;
    }

    fn hello(&self, opening: &Opening) -> Control {
        let heartbeat_ms = u64::try_from(self.limits.heartbeat.as_millis()).unwrap_or(u64::MAX);
        Control::Hello { epoch: opening.epoch, head: opening.head, heartbeat_ms }
    }

    fn control(&mut self, control: &Control, cursor: Option<Cursor>) {
        if let Some(bytes) = self.view.control(control, cursor) {
            // What was read and is held until it is due is not sent before it.
            self.ready.push(Out { bytes, place: Place { seq: self.shown(), ..self.place } });
        }
    }

    /// Whether the stream is not served, or lives another life than the place belongs to.
    fn is_stale(&self) -> bool {
        let current = self.seat.as_ref().and_then(Seat::generation);
        current.is_none() || current != self.life.map(|life| life.generation)
    }

    /// One step along the log. `None`: something has changed, look again.
    fn run(&mut self, token: u64) -> Option<Step> {
        if self.plays() {
            return self.play(token);
        }
        let (Some(seat), Some(life)) = (&self.seat, self.life) else { return Some(Step::Idle) };
        let last = if self.from_start && self.chain == Some(0) { seat.last_shown() } else { 0 };
        if last > 0 && last <= self.place.seq && self.view.is_chained() {
            // What it is offered next says that something was before: it is excused before it listens.
            self.excuse(last, life);
            self.chain = Some(last);
            return None;
        }
        match seat.read(life.generation, self.place.seq, BATCH.0, BATCH.1, token) {
            SeatRead::UpToDate | SeatRead::Suspended => {
                // While the whole stream is away, nobody runs out of patience.
                self.failing = None;
                self.leapt = false;
                Some(Step::Listen)
            }
            SeatRead::Stop(stop) => {
                self.stop = Some(Box::new(stop));
                None
            }
            SeatRead::Over { at } => {
                let after = cursor(life.epoch, at.max(self.place.seq));
                Some(Step::Close(Close::Over { after }))
            }
            SeatRead::OtherLife => {
                let at = Position::Cursor(cursor(life.epoch, self.place.seq));
                self.stage = Stage::Start(Start::After(at));
                None
            }
            SeatRead::Frames { frames, mark, stop } => {
                self.check_lag(mark)?;
                self.excuse(frames[0].prev, life);
                (self.leapt, self.stop) = (false, stop.map(Box::new));
                for frame in frames {
                    if self.view.conflates() {
                        let passed = frame.mark.since(self.place.mark).frames.saturating_sub(1);
                        counter!("herald_conflated_frames_total").increment(passed);
                    }
                    // Frames that were there from the beginning are no debt, so the mark never goes back.
                    let mark = if frame.mark.frames > self.place.mark.frames { frame.mark } else { self.place.mark };
                    self.place = Place { seq: frame.seq, mark, ..self.place };
                    self.chain = Some(frame.seq);
                    self.ready.push(Out { bytes: frame.bytes, place: self.place });
                }
                None
            }
            SeatRead::Behind { floor, mark } => {
                self.check_lag(mark)?;
                if self.view.conflates() && !self.leapt {
                    return Some(self.ask(Ask::Latest));
                }
                let prev = if self.view.is_chained() { self.chain } else { Some(0) };
                let alone = std::mem::take(&mut self.alone);
                Some(self.ask(Ask::Page { epoch: life.epoch, after: self.place.seq, upto: floor, prev, alone }))
            }
            SeatRead::Unchained { floor } => match self.chain {
                Some(prev) if self.place.seq == floor => {
                    seat.chain(life.generation, floor, prev);
                    None
                }
                _ => Some(self.ask(Ask::Before { seq: floor + 1 })),
            },
        }
    }

    /// A client that began with what there is finds in the ring's first frame that something was before it, which is kept
    /// no more: it could not tell that from a loss.
    fn excuse(&mut self, prev: u64, life: Life) {
        if self.from_start && self.chain == Some(0) && prev > 0 && self.view.is_chained() {
            counter!("herald_gaps_total", "reason" => "trimmed").increment(1);
            self.excused = Some(self.place.seq);
            self.notes.missed(Gap { from: 1, to: prev, reason: "trimmed" });
            let gap = Control::Gap { from: 1, to: prev, reason: "trimmed" };
            self.control(&gap, Some(cursor(life.epoch, prev)));
        }
    }

    fn check_lag(&mut self, mark: Mark) -> Option<()> {
        if !self.is_beyond(mark.since(self.place.mark)) {
            return Some(());
        }
        self.close = self.place.cursor().map(|after| Close::TooSlow { after });
        None
    }

    /// How far a connection is behind that can't be written to at the moment.
    pub(crate) fn lag(&self, place: Place) -> Mark {
        // Nor does who plays the past owe what happens meanwhile.
        let on_the_way = self.seat.as_ref().filter(|_| matches!(self.stage, Stage::Run) && !self.plays());
        // Before it has begun, its marks are of another ring or none.
        let mark = on_the_way.map_or(place.mark, Seat::mark);
        mark.since(place.mark)
    }

    /// Whether that is further than it may be.
    pub(crate) fn lags(&self, place: Place) -> bool {
        self.is_beyond(self.lag(place))
    }

    /// Whether that is more than somebody may be behind who is to get all of it.
    fn is_beyond(&self, lag: Mark) -> bool {
        !self.view.conflates() && (lag.frames > self.limits.lag.frames || lag.bytes > self.limits.lag.bytes)
    }

    /// The close of who has got everything up to an event that connections are closed behind.
    fn stopped(&mut self) -> Option<Close> {
        let (stop, life) = self.stop.take().zip(self.life)?;
        let rule = self.view.options.close_on.get(usize::from(stop.rule))?;
        Some(rule.close(cursor(life.epoch, stop.seq)))
    }
}

/// Whether a position belongs to another life of the stream.
pub(crate) fn is_foreign(at: Position, epoch: Epoch) -> bool {
    matches!(at, Position::Cursor(cursor) if cursor.epoch != epoch) && !planted(Bug::EpochIgnored)
}
