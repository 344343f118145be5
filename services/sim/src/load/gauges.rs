//! What the threads let each other know while a load runs.

use std::{
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread::Thread,
};

/// Of one reading thread.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    /// Connections that are open.
    pub(super) open: AtomicU64,
    /// Connections that heard a probe.
    pub(super) attached: AtomicU64,
    /// Events that came.
    pub(super) delivered: AtomicU64,
    /// When the last ones came.
    pub(super) last: AtomicU64,
    /// Connections that were made again.
    pub(super) reopened: AtomicU64,
    /// By session: how many events its slowest client of this thread has; kept with a window alone.
    pub(super) floors: Vec<AtomicU64>,
}

/// Of all.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) readers: Vec<Gauges>,
    /// Events that all clients of their session have, since the publisher last looked.
    freed: AtomicU64,
    /// With so many it is woken.
    enough: u64,
    publisher: OnceLock<Thread>,
    failure: Mutex<Option<String>>,
}

impl Board {
    /// With a window, `windowed` sessions have floors.
    pub(super) fn new(threads: u32, windowed: u32, window: u64) -> Self {
        let gauges =
            || Gauges { floors: (0..windowed).map(|_| AtomicU64::new(u64::MAX)).collect(), ..Gauges::default() };
        Self {
            readers: (0..threads).map(|_| gauges()).collect(),
            freed: AtomicU64::new(0),
            // Half of all that may be on its way: the other half keeps the server busy meanwhile.
            enough: (u64::from(windowed) * window).div_ceil(2).max(1),
            publisher: OnceLock::new(),
            failure: Mutex::new(None),
        }
    }

    pub(super) fn sum(&self, gauge: impl Fn(&Gauges) -> &AtomicU64) -> u64 {
        self.readers.iter().map(|reader| gauge(reader).load(Relaxed)).sum()
    }

    /// When the last event came.
    pub(super) fn last(&self) -> u64 {
        self.readers.iter().map(|reader| reader.last.load(Relaxed)).max().unwrap_or(0)
    }

    /// How many events the slowest client of a session has.
    pub(super) fn floor(&self, session: usize) -> u64 {
        let floors = self.readers.iter().filter_map(|reader| reader.floors.get(session));
        floors.map(|floor| floor.load(Relaxed)).min().unwrap_or(u64::MAX)
    }

    /// The thread that calls this is the publisher, and looks at all floors now.
    pub(super) fn look(&self) {
        self.publisher.get_or_init(std::thread::current);
        self.freed.store(0, Relaxed);
    }

    /// So many events more are had by all clients of their sessions.
    pub(super) fn free(&self, events: u64) {
        let before = self.freed.fetch_add(events, Relaxed);
        if before < self.enough && before + events >= self.enough {
            self.wake();
        }
    }

    /// Wakes the publisher.
    pub(super) fn wake(&self) {
        if let Some(publisher) = self.publisher.get() {
            publisher.unpark();
        }
    }

    /// Something went wrong that nothing helps against.
    pub(super) fn fail(&self, why: String) {
        self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).get_or_insert(why);
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}
