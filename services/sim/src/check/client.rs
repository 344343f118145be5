//! One client, over all of its connections: it comes and goes as its behaviour says, comes back whenever a connection
//! ends, and writes down what it sees.

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
    pulse::{Check, Pulse},
    rhythm::Rhythm,
};
use crate::dice::Dice;

/// Connecting and the handshake may take this long together.
const HANDSHAKE: Duration = Duration::from_secs(3);
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
    /// The same, but for what it asked anew with a snapshot since: that has to come again.
    kept: AtomicU64,
    /// When the latest of what was seen was stored, ms since 1970: in another life of the stream, sequences begin anew.
    stored_ms: AtomicU64,
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

    pub(super) fn note_opened(&self, start: Start, at_ms: u64) {
        self.live_since.store(if start == Start::Live { at_ms } else { 0 }, Ordering::Release);
        if start == Start::Snapshot {
            self.kept.store(0, Ordering::Release);
        }
        self.connections.fetch_add(1, Ordering::Relaxed);
        self.open.store(true, Ordering::Release);
    }

    pub(super) fn note_event(&self, seq: u64, ts_ms: u64) {
        self.deliveries.fetch_add(1, Ordering::Relaxed);
        self.stored_ms.fetch_max(ts_ms, Ordering::AcqRel);
        self.seen.fetch_max(seq, Ordering::AcqRel);
        self.kept.fetch_max(seq, Ordering::AcqRel);
    }

    /// Whether it is there and has everything up to `seq`, which was stored at `ts_ms`.
    pub fn has(&self, seq: u64, ts_ms: u64) -> bool {
        if !self.is_open() {
            return false;
        }
        let seen = self.kept.load(Ordering::Acquire) >= seq && self.stored_ms.load(Ordering::Acquire) >= ts_ms;
        seen || self.live_since.load(Ordering::Acquire) > ts_ms
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
        self.status.note_opened(start, at_ms);
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
                Phase::Calm => {
                    rhythm = Rhythm::STEADY;
                    pulse.hurry();
                }
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
                self.status.note_event(seq, ts);
                Note::Event { seq, prev, hash, snapshot: snapshot || place.takes_snapshot(), at_ms, ts }
            }
            Heard::Control(control) => Note::Control(control),
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
