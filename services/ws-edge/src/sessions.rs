//! Which sessions have connections here, and their rings.
//!
//! The intake appends events in stream order from one task. A session nobody watches costs it one hash lookup. For a
//! watched one the event is encoded once per view, put into the view's ring, and offered at once to the connections
//! that are up to date; whoever does not take it is left out until its own task has caught up from the ring.
//!
//! A few events, and those that are traced, are followed from here to the first sockets they reach (`probes`).
//!
//! Locks are taken in the order registry, session, listener, held for moments, and never while frames are written to
//! sockets, except the one socket's own.

mod end;
mod look;
mod probes;
mod room;
mod seat;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use herald_protocol::{Epoch, SessionId, record::Purged};
use metrics::{Counter, Gauge, counter, gauge};

pub use end::LastWords;
use end::Opened;
use probes::Probes;
pub(crate) use probes::Way;
pub use seat::{Opening, Seat, SeatRead};

use crate::{
    event::Event,
    feed::Place,
    intake::{Life, Rings},
    log::{Batch, Budget, Frame, Log, Piece, RingLimits},
    planted::{Bug, planted},
    view::View,
};

/// How much the rings of a stream may hold, and for how long.
#[derive(Debug, Clone)]
pub struct SessionLimits {
    /// Of one ring.
    pub ring: RingLimits,
    /// Memory of all rings, shared with the other streams of the process.
    pub budget: Arc<Budget>,
    /// How long a ring is kept after its last connection has gone.
    pub linger: Duration,
}

/// Somebody who gets frames right after they were appended, as long as they are up to date.
pub trait Listener: Send + Sync {
    /// Takes the next frames, those of them that are behind its place. Returns how many, and whether it goes on: where it
    /// does not (blocked, or `token` is not the one it listens by now), it comes back when it has caught up.
    fn offer(&self, token: u64, batch: &Batch) -> (usize, Goes);
    /// Is no longer listening by `token`: something changed, look again.
    fn dismiss(&self, token: u64);
    /// Whether it still listens by `token`.
    fn is_current(&self, token: u64) -> bool;
    /// How far it is while it listens, where it takes frames by itself.
    fn place(&self) -> Option<Place> {
        None
    }
}

/// Whether a listener goes on listening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goes {
    /// It does.
    On,
    /// It does not.
    Away,
}

/// Who holds a ring open and does not listen.
struct Nobody;

impl Listener for Nobody {
    fn offer(&self, _: u64, _: &Batch) -> (usize, Goes) {
        (0, Goes::Away)
    }

    fn dismiss(&self, _: u64) {}

    fn is_current(&self, _: u64) -> bool {
        false
    }
}

/// The watched sessions of one stream.
pub struct Sessions {
    limits: SessionLimits,
    registry: Mutex<Registry>,
    /// Sessions with frames that those who listen have yet to be offered.
    fresh: Mutex<Vec<Arc<Session>>>,
    /// The event being appended: a ring opened now is complete behind it.
    position: AtomicU64,
    /// The event appended last: the rings have everything up to it.
    settled: AtomicU64,
    /// Counts the sessions that were removed from the stream: what was read before is not put into a ring after.
    purges: AtomicU64,
    /// Sessions of which it is not known whether they are over.
    opened: Opened,
    meters: Meters,
}

struct Registry {
    sessions: HashMap<SessionId, Arc<Session>>,
    now: Now,
    /// Sessions with a ring without connections, in the order they became so.
    idle: VecDeque<(Instant, Arc<Session>)>,
}

struct Meters {
    frames: Counter,
    deliveries: Counter,
    watched: Gauge,
    ring_bytes: Gauge,
    probes: Probes,
}

/// The life of the stream as it is served now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Now {
    /// Counts the lives this process has seen; 0: none yet.
    generation: u64,
    epoch: Epoch,
    /// Whether it is sure that the stream still lives this life.
    serving: bool,
}

struct Session {
    id: SessionId,
    state: Mutex<State>,
}

struct State {
    now: Now,
    rooms: Vec<Room>,
    /// Whether the session is in [`Registry::idle`].
    queued: bool,
    /// Whether it is in [`Sessions::fresh`].
    fresh: bool,
    /// Whether it is over, as far as known in this life.
    words: LastWords,
    /// Whether the stream was asked for that.
    asked: bool,
}

/// The connections of a session that share a view.
struct Room {
    log: Log,
    /// Frames that those who listen have yet to be offered.
    fresh: Vec<Frame>,
    listening: Vec<Entry>,
    /// An event came that connections are closed behind: those who listen are offered what came before, and read the event
    /// itself on their own, by which they know.
    stopped: bool,
    /// Entries of `listening` known to be left.
    left: usize,
    seats: usize,
    /// Of them, those that count as somebody watching.
    watchers: usize,
    empty_since: Option<Instant>,
}

#[derive(Clone)]
struct Entry {
    listener: Weak<dyn Listener>,
    token: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in here panics halfway through a change; and an edge that stopped serving would be worse.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    /// No sessions of that stream, and no life of it known yet.
    #[must_use]
    pub fn new(stream: &str, limits: SessionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            registry: Mutex::new(Registry {
                sessions: HashMap::new(),
                now: Now { generation: 0, epoch: Epoch::new(0), serving: false },
                idle: VecDeque::new(),
            }),
            fresh: Mutex::new(Vec::new()),
            position: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            purges: AtomicU64::new(0),
            opened: Opened::default(),
            meters: Meters {
                frames: counter!("herald_frames_encoded_total"),
                deliveries: counter!("herald_frames_delivered_total", "way" => "direct"),
                watched: gauge!("herald_watched_sessions", "stream" => stream.to_owned()),
                ring_bytes: gauge!("herald_ring_bytes"),
                probes: Probes::new(),
            },
        })
    }

    /// Whether the stream is served now, and not in doubt.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        lock(&self.registry).now.serving
    }

    /// How many connections watch a session here.
    #[must_use]
    pub fn count(&self, session: &str) -> usize {
        let session = lock(&self.registry).sessions.get(session).cloned();
        session.map_or(0, |session| lock(&session.state).rooms.iter().map(|room| room.watchers).sum())
    }

    /// Takes a place in a session's ring of that view, opening it if needed. From now on the ring misses nothing; where
    /// to begin is the caller's: [`Seat::read`]. `watches`: whether the connection counts as somebody watching.
    #[must_use]
    pub fn attach(
        self: &Arc<Self>,
        session: &SessionId,
        view: &Arc<View>,
        listener: Weak<dyn Listener>,
        watches: bool,
    ) -> Seat {
        self.attach_behind(0, session, view, listener, watches)
    }

    /// The same; where the ring has to be opened, it knows nothing up to `behind`, however far the intake is. For a fork that
    /// somebody names before the intake has come to where it was made: what it begins with never comes by the intake.
    #[must_use]
    pub fn attach_behind(
        self: &Arc<Self>,
        behind: u64,
        session: &SessionId,
        view: &Arc<View>,
        listener: Weak<dyn Listener>,
        watches: bool,
    ) -> Seat {
        let mut registry = lock(&self.registry);
        let now = registry.now;
        let new = || {
            let words = LastWords::default();
            let state = State { now, rooms: Vec::new(), queued: false, fresh: false, words, asked: false };
            let session = Arc::new(Session { id: session.clone(), state: Mutex::new(state) });
            self.opened.add([&session]);
            session
        };
        let session = registry.sessions.entry(session.clone()).or_insert_with(new).clone();
        let mut state = lock(&session.state);
        // Read after the session is to be found: an event whose lookup missed it is at or below this position.
        let at = self.position.load(Ordering::Acquire).max(behind);
        let room = if let Some(room) = state.rooms.iter_mut().position(|room| Arc::ptr_eq(room.log.view(), view)) {
            &mut state.rooms[room]
        } else {
            let log = Log::new(view.clone(), self.limits.ring, self.limits.budget.clone(), at);
            state.rooms.push(Room::new(log));
            let last = state.rooms.len() - 1;
            &mut state.rooms[last]
        };
        room.seats += 1;
        room.watchers += usize::from(watches);
        room.empty_since = None;
        drop(state);
        self.meters.watched.set(registry.sessions.len() as f64);
        drop(registry);
        Seat::new(self.clone(), session, view.clone(), listener, watches)
    }

    /// Keeps a ring open without reading from it.
    #[must_use]
    pub fn hold(self: &Arc<Self>, session: &SessionId, view: &Arc<View>) -> Seat {
        self.attach(session, view, Weak::<Nobody>::new(), false)
    }

    /// Takes up a piece of a session's history into its ring of that view, if there is one, in the same life, that begins
    /// where the piece ends.
    pub fn fill(&self, session: &SessionId, view: &Arc<View>, piece: Piece) {
        if self.limits.budget.is_tight() {
            return;
        }
        let Some(session) = lock(&self.registry).sessions.get(session).cloned() else { return };
        let mut state = lock(&session.state);
        if state.now.serving
            && state.now.epoch == piece.epoch
            && self.purges() == piece.purges
            && let Some(room) = state.rooms.iter_mut().find(|room| Arc::ptr_eq(room.log.view(), view))
        {
            room.log.fill(piece);
        }
    }

    /// A connection's own task has written the event of that sequence.
    pub(crate) fn wrote(&self, seq: u64, way: Way) {
        self.meters.probes.wrote(seq, way);
    }

    /// The sequence up to which the rings have everything.
    pub(crate) fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// How many sessions were removed from the stream so far.
    pub(crate) fn purges(&self) -> u64 {
        self.purges.load(Ordering::Acquire)
    }

    /// Drops rings that nobody has read for the linger time; all that nobody reads, where memory is tight. To be called
    /// every now and then.
    pub fn sweep(&self, now: Instant) {
        let tight = self.limits.budget.is_tight();
        let due = |since: Instant| tight || now.saturating_duration_since(since) >= self.limits.linger;
        let mut registry = lock(&self.registry);
        let mut again = Vec::new();
        while registry.idle.front().is_some_and(|(since, _)| due(*since)) {
            let Some((_, session)) = registry.idle.pop_front() else { break };
            let mut state = lock(&session.state);
            state.queued = false;
            state.rooms.retain(|room| !room.empty_since.is_some_and(due));
            if state.rooms.is_empty() {
                registry.sessions.remove(&session.id);
            } else if let Some(since) = state.rooms.iter().filter_map(|room| room.empty_since).min() {
                // Left again while it was in the queue.
                state.queued = true;
                drop(state);
                again.push((since, session));
            }
        }
        registry.idle.extend(again);
        self.meters.watched.set(registry.sessions.len() as f64);
        self.meters.ring_bytes.set(self.limits.budget.used() as f64);
    }

    /// Keeps sweeping, for ever.
    pub async fn tend(&self) {
        // Often enough that a ring lives at most an eighth longer than it should.
        let period = (self.limits.linger / 8).clamp(Duration::from_millis(50), Duration::from_secs(5));
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.sweep(Instant::now());
        }
    }

    fn leave(&self, session: &Arc<Session>, view: &Arc<View>, watches: bool) {
        let mut registry = lock(&self.registry);
        let mut state = lock(&session.state);
        let Some(index) = state.rooms.iter().position(|room| Arc::ptr_eq(room.log.view(), view)) else { return };
        let room = &mut state.rooms[index];
        room.seats -= 1;
        room.watchers -= usize::from(watches);
        if room.seats > 0 {
            return;
        }
        if !room.log.is_chained() {
            // Nobody is left to ask for its beginning: what it holds back would only grow.
            state.rooms.swap_remove(index);
            if state.rooms.is_empty() && !state.queued {
                registry.sessions.remove(&session.id);
            }
            return;
        }
        let now = Instant::now();
        room.empty_since = Some(now);
        room.listening = Vec::new();
        room.fresh = Vec::new();
        (room.left, room.stopped) = (0, false);
        if !state.queued {
            state.queued = true;
            registry.idle.push_back((now, session.clone()));
        }
    }

    /// Changes the life of the stream and dismisses everybody who listens, in one step per session. With `at`, the rings
    /// forget everything up to there.
    fn change(&self, next: impl FnOnce(Now) -> Now, at: Option<u64>) {
        let mut registry = lock(&self.registry);
        registry.now = next(registry.now);
        let now = registry.now;
        if let Some(at) = at {
            self.position.store(at, Ordering::Release);
            // A rolled back stream is behind: nobody may begin where it has not been yet.
            self.settled.fetch_min(at, Ordering::AcqRel);
        }
        for session in registry.sessions.values() {
            let mut state = lock(&session.state);
            if state.now.generation != now.generation {
                state.words = LastWords::default();
            }
            state.asked &= at.is_none();
            state.now = now;
            for room in &mut state.rooms {
                if let Some(at) = at {
                    room.log.reset(at);
                }
                room.dismiss_all();
            }
        }
        if let Some(at) = at {
            // Not before all were dismissed: who still listened may have missed what lies before it.
            self.settled.store(at, Ordering::Release);
            // What was left out may have ended any of them.
            self.opened.add(registry.sessions.values());
        }
    }
}

impl Rings for Sessions {
    fn append(&self, event: &Event) {
        self.position.store(event.seq, Ordering::Release);
        let mut session = lock(&self.registry).sessions.get(event.session()).cloned();
        if planted(Bug::AnotherSession) && event.seq.is_multiple_of(61) {
            session = lock(&self.registry).sessions.values().next().cloned();
        }
        if let Some(session) = session {
            // Before anybody can write it.
            let _intake = self.meters.probes.follow(event, || session.awaits(event));
            if session.append(event, &self.meters) {
                lock(&self.fresh).push(session);
            }
        }
        self.settled.store(event.seq, Ordering::Release);
    }

    fn flush(&self) {
        let mut fresh = std::mem::take(&mut *lock(&self.fresh));
        fresh.drain(..).for_each(|session| session.fan_out(&self.meters));
        // Its room is used again.
        *lock(&self.fresh) = fresh;
    }

    fn advance(&self, seq: u64) {
        self.position.store(seq, Ordering::Release);
        self.settled.store(seq, Ordering::Release);
    }

    fn purged(&self, _: u64, purged: &Purged) {
        // Who is up to date gets the last of it all the same.
        self.flush();
        self.purges.fetch_add(1, Ordering::AcqRel);
        // A fork may begin with it; which one does nobody has told us.
        let may_show = |id: &SessionId| *id == purged.session || id.is_fork();
        let all = lock(&self.registry).sessions.values().filter(|it| may_show(&it.id)).cloned().collect::<Vec<_>>();
        for session in all {
            // Who is up to date stays so; who is not finds out in history that the rest is gone.
            lock(&session.state).rooms.iter_mut().for_each(|room| room.log.forget());
        }
    }

    fn reset(&self, life: Life) {
        let next = |now: Now| Now { generation: now.generation + 1, epoch: life.epoch, serving: true };
        self.change(next, Some(life.head));
    }

    fn mark_broken(&self, head: u64) {
        self.change(|now| now, Some(head));
    }

    fn suspend(&self) {
        self.change(|now| Now { serving: false, ..now }, None);
    }

    fn resume(&self) {
        // Before the first life there is nothing to go on with.
        self.change(|now| Now { serving: now.generation > 0, ..now }, None);
    }
}

impl Session {
    /// Whether anybody is here to see the event.
    fn awaits(&self, event: &Event) -> bool {
        lock(&self.state).rooms.iter().any(|room| room.seats > 0 && room.log.view().shows(event))
    }

    /// Encodes the event once per view. Whether the session has become one with something to fan out.
    fn append(&self, event: &Event, meters: &Meters) -> bool {
        let mut state = lock(&self.state);
        let State { now, rooms, fresh, words, .. } = &mut *state;
        let was_fresh = *fresh;
        let mut shown = false;
        for room in &mut *rooms {
            let frame = room.log.append(event, now.epoch);
            // While the stream is in doubt, those who listen wait for that to end, not for frames.
            let offers = now.serving && !room.listening.is_empty() && !room.stopped;
            let stops = room.log.stops_at(event.seq);
            if offers && stops {
                (room.stopped, *fresh) = (true, true);
            }
            let Some(frame) = frame else { continue };
            shown = true;
            meters.frames.increment(1);
            if offers && !stops {
                room.fresh.push(frame);
                *fresh = true;
            }
        }
        if !shown && event.is_control() && words.hear(event) {
            // Once they have what came before, they are told.
            rooms.iter_mut().for_each(Room::dismiss_all);
        }
        *fresh && !was_fresh
    }

    /// Offers what was appended to those who listen. They are taken out of the room meanwhile: the session is not locked
    /// while frames are written, and those who come in then have read these frames from the ring.
    fn fan_out(&self, meters: &Meters) {
        let mut rounds = Vec::new();
        {
            let mut state = lock(&self.state);
            state.fresh = false;
            for room in &mut state.rooms {
                if room.fresh.is_empty() {
                    if room.stopped {
                        room.dismiss_all();
                    }
                    continue;
                }
                let (fresh, listening) = (std::mem::take(&mut room.fresh), std::mem::take(&mut room.listening));
                rounds.push((room.log.view().clone(), fresh, listening, room.stopped));
            }
        }
        for (view, frames, mut listening, stopped) in rounds {
            let batch = Batch::new(frames);
            let mut delivered = 0;
            listening.retain(|entry| {
                let Some(listener) = entry.listener.upgrade() else { return false };
                let (taken, goes) = listener.offer(entry.token, &batch);
                delivered += taken;
                goes == Goes::On
            });
            meters.deliveries.increment(delivered as u64);
            if delivered > 0 {
                meters.probes.fanned_out(batch.behind(0).0, delivered);
            }
            let mut state = lock(&self.state);
            // It was found to be over while they were out of the room.
            let over = state.words.is_over();
            match state.rooms.iter_mut().find(|room| Arc::ptr_eq(room.log.view(), &view)) {
                // Mostly nobody came in meanwhile: the list goes back as it is, as does the room for frames.
                Some(room) => {
                    if room.listening.is_empty() {
                        room.listening = listening;
                    } else {
                        room.listening.append(&mut listening);
                    }
                    if room.fresh.capacity() == 0 {
                        room.fresh = batch.into_room();
                    }
                    if over || stopped {
                        room.dismiss_all();
                    }
                }
                None => listening.iter().for_each(Entry::dismiss),
            }
        }
    }
}
