//! A place in a session's ring: what one connection reads from.

use std::sync::{Arc, Weak, atomic::Ordering};

use herald_protocol::{Epoch, SessionId};

use super::{Entry, Listener, Now, Room, Session, Sessions, State, lock};
use crate::{
    log::{Frame, Mark, Read},
    view::{Stop, View},
};

/// A place in a session's ring. The ring stays open as long as somebody has one.
pub struct Seat {
    sessions: Arc<Sessions>,
    session: Arc<Session>,
    view: Arc<View>,
    listener: Weak<dyn Listener>,
    watches: bool,
}

/// What a seat finds for its cursor.
#[derive(Debug, PartialEq, Eq)]
pub enum SeatRead {
    /// The next frames.
    Frames {
        /// At least one.
        frames: Vec<Frame>,
        /// What is in the ring, with them.
        mark: Mark,
        /// The event that connections are closed behind, if everything up to it is among them.
        stop: Option<Stop>,
    },
    /// Nothing new: from now on frames are offered to the listener.
    UpToDate,
    /// The ring begins behind `floor`: everything up to there is to be read from history.
    Behind {
        /// The sequence to read up to.
        floor: u64,
        /// What is in the ring.
        mark: Mark,
    },
    /// The ring does not know yet which shown event came before the first one behind `floor`: [`Seat::chain`].
    Unchained {
        /// The sequence behind which that is.
        floor: u64,
    },
    /// The stream's life is in doubt, or none is known yet. The listener is dismissed when that changes.
    Suspended,
    /// The stream lives another life than the one asked for.
    OtherLife,
    /// Everything up to an event that connections are closed behind was seen.
    Stop(Stop),
    /// Nothing new, and nothing to come: the session is over.
    Over {
        /// The sequence at which that was said: everything up to there was seen.
        at: u64,
    },
}

/// Where a connection that begins now finds the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// Which of the lives this process has seen.
    pub generation: u64,
    /// Its name.
    pub epoch: Epoch,
    /// Everything of the session up to here is in ring or history: the place to begin at for a live start.
    pub head: u64,
    /// What the ring has taken up to there.
    pub mark: Mark,
    /// The sequence behind which the ring is complete.
    pub floor: u64,
}

impl Seat {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        session: Arc<Session>,
        view: Arc<View>,
        listener: Weak<dyn Listener>,
        watches: bool,
    ) -> Self {
        Self { sessions, session, view, listener, watches }
    }

    /// The session.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.session.id
    }

    /// Where the ring stands, or `None` (and the listener listens by `token`, to be dismissed when that changes) while
    /// the stream is not served.
    #[must_use]
    pub fn open(&self, token: u64) -> Option<Opening> {
        self.with_room(|now, room| {
            if !now.serving {
                room.listening.push(self.entry(token));
            }
            self.opening_of(now, room)
        })
    }

    /// Where the ring stands, or `None` while the stream is not served.
    #[must_use]
    pub fn opening(&self) -> Option<Opening> {
        self.with_room(|now, room| self.opening_of(now, room))
    }

    /// The life the stream is served in, as [`Opening::generation`]; `None` while it is not served.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.with_room(|now, _| now.serving.then_some(now.generation))
    }

    /// What the ring has ever taken.
    #[must_use]
    pub fn mark(&self) -> Mark {
        self.with_room(|_, room| room.log.mark())
    }

    /// The last shown event the ring knows of, 0 where there is none or that is not known yet.
    #[must_use]
    pub fn last_shown(&self) -> u64 {
        self.with_room(|_, room| room.log.last_shown())
    }

    /// What comes behind `after`, in the life `generation`. Where that is nothing, the listener is from now on offered
    /// frames by `token`: it must be ready for them before it asks.
    #[must_use]
    pub fn read(&self, generation: u64, after: u64, frames: usize, bytes: usize, token: u64) -> SeatRead {
        let mut state = lock(&self.session.state);
        // Who follows an alias waits for another session.
        let over = Some(state.words.over).filter(|_| state.words.is_over() && self.watches);
        self.in_room(&mut state, |now, room| {
            if !now.serving {
                room.listening.push(self.entry(token));
                return SeatRead::Suspended;
            }
            if now.generation != generation {
                return SeatRead::OtherLife;
            }
            let mark = room.log.mark();
            let floor = room.log.floor();
            if after < floor {
                return SeatRead::Behind { floor, mark };
            }
            if !room.log.is_chained() {
                return SeatRead::Unchained { floor };
            }
            let (read, stop) = room.log.read(after, frames, bytes);
            match read {
                Read::Frames(frames) => SeatRead::Frames { frames, mark, stop },
                Read::Behind => SeatRead::Behind { floor, mark },
                Read::UpToDate => {
                    if let Some(stop) = stop {
                        return SeatRead::Stop(stop);
                    }
                    // That it is over may be known before what came before that is here.
                    if let Some(at) = over.filter(|at| *at <= room.log.seen().max(self.settled())) {
                        return SeatRead::Over { at };
                    }
                    room.listening.push(self.entry(token));
                    SeatRead::UpToDate
                }
            }
        })
    }

    /// Says which shown event came before the first one behind `floor`, in the life `generation`.
    pub fn chain(&self, generation: u64, floor: u64, prev: u64) {
        self.with_room(|now, room| {
            if now.generation == generation {
                room.log.chain(floor, prev, now.epoch);
            }
        });
    }

    /// Says that the listener has taken itself out before it was told to.
    pub fn stopped_listening(&self) {
        self.with_room(|_, room| room.one_left());
    }

    /// The sequence up to which the rings have everything.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.sessions.settled.load(Ordering::Acquire)
    }

    fn opening_of(&self, now: Now, room: &Room) -> Option<Opening> {
        let Now { generation, epoch, serving } = now;
        // Whatever is settled was in the ring before its session was locked for this.
        let (log, head) = (&room.log, room.log.seen().max(self.settled()));
        serving.then(|| Opening { generation, epoch, head, mark: log.mark(), floor: log.floor() })
    }

    fn entry(&self, token: u64) -> Entry {
        Entry { listener: self.listener.clone(), token }
    }

    fn with_room<T>(&self, run: impl FnOnce(Now, &mut Room) -> T) -> T {
        self.in_room(&mut lock(&self.session.state), run)
    }

    fn in_room<T>(&self, state: &mut State, run: impl FnOnce(Now, &mut Room) -> T) -> T {
        let State { now, rooms, .. } = state;
        let index = rooms.iter().position(|room| Arc::ptr_eq(room.log.view(), &self.view));
        // A room is kept while it has seats, so it is there.
        match index {
            Some(index) => run(*now, &mut rooms[index]),
            None => unreachable!("a room is kept while somebody has a seat in it"),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.sessions.leave(&self.session, &self.view, self.watches);
    }
}
