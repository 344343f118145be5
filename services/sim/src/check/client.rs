//! One client, over all of its connections: it comes and goes as its behaviour says, comes back whenever a connection
//! ends, and writes down what it sees.
//!
//! How a dead connection is noticed, where nothing but silence tells: `herald.v1` knows from its hello how often something
//! must be heard, and gives up a little later. A plain client pings, as libraries do that can (`KEEPALIVE`), and gives up
//! where neither the pong nor anything else comes. An event stream is silent for 15 s at most, unless the door is
//! configured otherwise, and given up a little later (`SILENCE`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use herald_protocol::SessionId;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    clients::{Behaviour, Phase},
    clock::now_ms,
    doors::{Backoff, Door},
    link::{Heard, Link, Manners, Refusal},
    notes::{Kind, Note, Notes, Start},
    place::Place,
};
use crate::dice::Dice;

/// Connecting and the handshake may take this long together.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// A plain client pings this often, and waits as long again for whatever comes.
const KEEPALIVE: Duration = Duration::from_secs(5);
/// An event stream may be silent for this long, and so may a `herald.v1` connection before its hello.
const SILENCE: Duration = Duration::from_secs(20);
/// Beside a quarter of it, so much later than promised a heartbeat may come: a busy machine is no dead one.
const GRACE: Duration = Duration::from_secs(1);
/// After a close that says "back off".
const BACK_OFF: Duration = Duration::from_secs(1);
/// A goodbye that nobody takes is not waited for.
const GOODBYE: Duration = Duration::from_millis(500);

/// What a client and those who wait for it share.
#[derive(Debug, Default)]
pub struct Status {
    /// Whether a connection is open.
    open: AtomicBool,
    /// The highest sequence seen.
    seen: AtomicU64,
    /// When the connection was opened that began live, ms since 1970; what was stored before is not its to have. 0: none.
    live_since: AtomicU64,
    /// Events seen.
    pub deliveries: AtomicU64,
    /// Connections opened.
    pub connections: AtomicU64,
    /// Refusals for good.
    pub refused: AtomicU64,
}

impl Status {
    /// Whether a connection is open.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The highest sequence seen.
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    /// Whether it has everything up to `seq`, which was stored at `ts_ms`.
    pub fn has(&self, seq: u64, ts_ms: u64) -> bool {
        self.seen() >= seq || self.live_since.load(Ordering::Acquire) > ts_ms
    }
}

/// What a client needs to know.
#[derive(Debug)]
pub struct Client {
    /// Who it watches.
    pub session: SessionId,
    /// How it speaks.
    pub kind: Kind,
    /// How it comes and goes.
    pub behaviour: Behaviour,
    /// All doors.
    pub doors: Arc<[Door]>,
    /// The one it tries next.
    pub door: usize,
    /// Its chance.
    pub dice: Dice,
    /// What the session is in.
    pub phase: watch::Receiver<Phase>,
    /// Handshakes at once.
    pub handshakes: Arc<Semaphore>,
    /// What others look at.
    pub status: Arc<Status>,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It was told to end for good.
    Over,
    /// It left of its own accord.
    Left,
    /// The door ended it, or the way to it.
    Closed,
    /// The door ended it, and wants it to stay away for a while.
    BackOff,
}

/// Why a client is away.
#[derive(Debug, Clone, Copy)]
enum Wait {
    /// It likes to be.
    Wished(Duration),
    /// It must not come back at once.
    Needed(Duration),
}

impl Client {
    /// Lives until the session is over; what it saw.
    pub async fn run(mut self) -> Notes {
        let mut notes = Vec::new();
        let mut place = Place::new(self.kind, self.behaviour.first());
        let mut backoff = Backoff::default();
        let mut wait = Wait::Wished(self.behaviour.comes_after(&mut self.dice));
        while self.away(wait).await {
            let start = place.start();
            let link = match self.open(start).await {
                Ok(link) => link,
                Err(refusal) => {
                    self.door += 1;
                    let told = match refusal {
                        Refusal::Away => None,
                        Refusal::Busy { retry } => retry,
                        Refusal::Never(why) => {
                            tracing::error!(session = %self.session, kind = ?self.kind, ?start, why, "refused");
                            self.status.refused.fetch_add(1, Ordering::Relaxed);
                            Some(BACK_OFF)
                        }
                    };
                    let told = told.or_else(|| place.take_retry());
                    wait = Wait::Needed(backoff.next(told, &mut self.dice));
                    continue;
                }
            };
            self.opened(start, &mut notes);
            place.opened(start);
            let end = self.connection(link, &mut place, &mut backoff, &mut notes).await;
            self.status.open.store(false, Ordering::Release);
            wait = match end {
                End::Over => break,
                End::Left => {
                    if !self.behaviour.keeps_place(&mut self.dice) {
                        place.forget();
                    }
                    // A balancer would send it anywhere.
                    self.door += self.dice.index(self.doors.len());
                    Wait::Wished(self.behaviour.stays_away(&mut self.dice))
                }
                End::Closed => {
                    self.door += 1;
                    Wait::Needed(backoff.next(place.take_retry(), &mut self.dice))
                }
                End::BackOff => {
                    self.door += 1;
                    Wait::Needed(backoff.next(place.take_retry().or(Some(BACK_OFF)), &mut self.dice))
                }
            };
        }
        let staying = self.behaviour == Behaviour::Staying;
        Notes { session: self.session, kind: self.kind, staying, notes }
    }

    fn opened(&self, start: Start, notes: &mut Vec<Note>) {
        let at_ms = now_ms();
        notes.push(Note::Opened { at_ms, start });
        let live_since = if start == Start::Live { at_ms } else { 0 };
        self.status.live_since.store(live_since, Ordering::Release);
        self.status.connections.fetch_add(1, Ordering::Relaxed);
        self.status.open.store(true, Ordering::Release);
    }

    /// Waits before the next connection. False where it is over.
    async fn away(&mut self, wait: Wait) -> bool {
        let (Wait::Wished(length) | Wait::Needed(length)) = wait;
        let until = Instant::now() + length;
        loop {
            let phase = *self.phase.borrow_and_update();
            match (phase, wait) {
                (Phase::Over, _) => return false,
                // Everybody is wanted now.
                (Phase::Calm, Wait::Wished(_)) => return true,
                _ => {}
            }
            tokio::select! {
                () = sleep_until(until) => return true,
                changed = self.phase.changed() => if changed.is_err() {
                    return false;
                }
            }
        }
    }

    async fn open(&mut self, start: Start) -> Result<Link, Refusal> {
        let Ok(_permit) = self.handshakes.acquire().await else { return Err(Refusal::Away) };
        let door = &self.doors[self.door % self.doors.len()];
        let manners = Manners {
            kind: self.kind,
            first: self.behaviour.first(),
            slow: self.behaviour == Behaviour::Slow,
            abrupt: self.behaviour == Behaviour::Abrupt,
        };
        timeout(HANDSHAKE, Link::open(door, &self.session, start, manners)).await.unwrap_or(Err(Refusal::Away))
    }

    async fn connection(
        &mut self,
        mut link: Link,
        place: &mut Place,
        backoff: &mut Backoff,
        notes: &mut Vec<Note>,
    ) -> End {
        let mut rhythm = Rhythm::new(self.behaviour, &mut self.dice);
        let mut pulse = Pulse::new(self.kind);
        loop {
            let phase = *self.phase.borrow_and_update();
            match phase {
                Phase::Over => {
                    self.leave(&mut link, notes).await;
                    return End::Over;
                }
                Phase::Calm => rhythm = Rhythm::STEADY,
                Phase::Free => {}
            }
            let wake_at = rhythm.next_at(pulse.next_at());
            tokio::select! {
                biased;
                changed = self.phase.changed() => if changed.is_err() {
                    return End::Over;
                },
                (heard, id) = link.next(), if rhythm.reads() => {
                    backoff.reset();
                    pulse.beat(&heard);
                    place.hear(&heard, id);
                    if let Some(end) = self.note(&heard, place, notes) {
                        return end;
                    }
                }
                () = sleep_until(wake_at) => {
                    if rhythm.is_over() {
                        self.leave(&mut link, notes).await;
                        return End::Left;
                    }
                    if rhythm.reads() {
                        match pulse.check() {
                            Check::Alive => {}
                            Check::Ping => drop(timeout(GOODBYE, link.ping()).await),
                            Check::Dead => {
                                notes.push(Note::Closed { at_ms: now_ms(), code: None, after: None });
                                return End::Closed;
                            }
                        }
                    }
                    if rhythm.turn(&mut self.dice) {
                        // Nothing was heard because nobody listened.
                        pulse.restart();
                    }
                }
            }
        }
    }

    /// Writes down what was heard; says so where it was the end.
    fn note(&self, heard: &Heard, place: &Place, notes: &mut Vec<Note>) -> Option<End> {
        let at_ms = now_ms();
        let note = match *heard {
            Heard::Event { seq, prev, hash, snapshot, ts } => {
                self.status.deliveries.fetch_add(1, Ordering::Relaxed);
                self.status.seen.fetch_max(seq, Ordering::AcqRel);
                Note::Event { seq, prev, hash, snapshot: snapshot || place.takes_snapshot(), at_ms, ts }
            }
            Heard::Hello { epoch, head, .. } => Note::Hello { epoch, head },
            Heard::Gap { from, to } => Note::Gap { from, to },
            Heard::Live { after } => Note::Live { after },
            Heard::Bye { after, .. } => Note::Bye { after },
            Heard::Closed { code, after } => {
                notes.push(Note::Closed { at_ms, code, after });
                let stay_away = matches!(code, Some(1008 | 1009 | 1013 | 4401 | 4403 | 4404));
                return Some(if stay_away { End::BackOff } else { End::Closed });
            }
            Heard::Retry(_) | Heard::Nothing => return None,
        };
        notes.push(note);
        None
    }

    async fn leave(&self, link: &mut Link, notes: &mut Vec<Note>) {
        let abrupt = self.behaviour == Behaviour::Abrupt;
        if !abrupt {
            let _unheard = timeout(GOODBYE, link.close()).await;
        }
        notes.push(Note::Closed { at_ms: now_ms(), code: (!abrupt).then_some(1000), after: None });
    }
}

/// When a connection is read, and when it is left.
#[derive(Debug, Clone, Copy)]
struct Rhythm {
    leaves_at: Option<Instant>,
    /// For those who read slowly: until when they read, or do not.
    turns_at: Option<Instant>,
    reads: bool,
}

impl Rhythm {
    /// Reads all the time and stays.
    const STEADY: Self = Self { leaves_at: None, turns_at: None, reads: true };

    fn new(behaviour: Behaviour, dice: &mut Dice) -> Self {
        let now = Instant::now();
        let leaves_at = behaviour.leaves_after(dice).map(|after| now + after);
        let turns_at = (behaviour == Behaviour::Slow).then(|| now + Behaviour::reads_for(dice));
        Self { leaves_at, turns_at, reads: true }
    }

    const fn reads(self) -> bool {
        self.reads
    }

    fn next_at(self, pulse: Instant) -> Instant {
        let pulse = if self.reads { Some(pulse) } else { None };
        // A rhythm that does not read turns at some time.
        [pulse, self.leaves_at, self.turns_at].into_iter().flatten().min().unwrap_or_else(Instant::now)
    }

    fn is_over(self) -> bool {
        self.leaves_at.is_some_and(|at| at <= Instant::now())
    }

    /// Begins or ends a pause where it is time; true where it reads again.
    fn turn(&mut self, dice: &mut Dice) -> bool {
        let now = Instant::now();
        if self.turns_at.is_none_or(|at| at > now) {
            return false;
        }
        self.reads = !self.reads;
        let next = if self.reads { Behaviour::reads_for(dice) } else { Behaviour::pauses_for(dice) };
        self.turns_at = Some(now + next);
        self.reads
    }
}

/// Whether the other side still lives.
#[derive(Debug)]
struct Pulse {
    kind: Kind,
    silence: Duration,
    last: Instant,
    pinged: bool,
}

/// What silence means.
#[derive(Debug, PartialEq, Eq)]
enum Check {
    Alive,
    Ping,
    Dead,
}

impl Pulse {
    fn new(kind: Kind) -> Self {
        let silence = if kind == Kind::Plain { KEEPALIVE } else { SILENCE };
        Self { kind, silence, last: Instant::now(), pinged: false }
    }

    fn beat(&mut self, heard: &Heard) {
        if let (Kind::V1, Heard::Hello { heartbeat: Some(heartbeat), .. }) = (self.kind, heard) {
            self.silence = *heartbeat + *heartbeat / 4 + GRACE;
        }
        self.restart();
    }

    fn restart(&mut self) {
        (self.last, self.pinged) = (Instant::now(), false);
    }

    fn next_at(&self) -> Instant {
        self.last + if self.pinged { self.silence * 2 } else { self.silence }
    }

    fn check(&mut self) -> Check {
        if Instant::now() < self.next_at() {
            return Check::Alive;
        }
        if self.kind == Kind::Plain && !self.pinged {
            self.pinged = true;
            return Check::Ping;
        }
        Check::Dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_as_each_kind_can() {
        let pass = tokio::time::advance;
        let mut plain = Pulse::new(Kind::Plain);
        pass(KEEPALIVE).await;
        assert_eq!(plain.check(), Check::Ping);
        assert_eq!(plain.check(), Check::Alive);
        pass(KEEPALIVE).await;
        assert_eq!(plain.check(), Check::Dead);
        plain.beat(&Heard::Nothing);
        assert_eq!(plain.check(), Check::Alive);
        let mut v1 = Pulse::new(Kind::V1);
        let epoch = herald_protocol::Epoch::new(1);
        v1.beat(&Heard::Hello { epoch, head: 0, heartbeat: Some(Duration::from_secs(4)) });
        pass(Duration::from_secs(5)).await;
        assert_eq!(v1.check(), Check::Alive);
        pass(Duration::from_secs(1)).await;
        assert_eq!(v1.check(), Check::Dead);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_reads_and_pauses_in_turn() {
        let mut dice = Dice::new(1, "slow");
        let mut rhythm = Rhythm::new(Behaviour::Slow, &mut dice);
        assert!(rhythm.reads());
        let mut turns = Vec::new();
        for _ in 0..6 {
            let at = rhythm.turns_at.unwrap();
            tokio::time::advance(at - Instant::now()).await;
            turns.push(rhythm.turn(&mut dice));
        }
        assert_eq!(turns, [false, true, false, true, false, true]);
        assert!(Rhythm::STEADY.reads() && !Rhythm::STEADY.is_over());
    }
}
