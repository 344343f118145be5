//! How closely bursts follow each other.
//!
//! A burst costs a wake-up, a read and cold caches, whatever its size: at thousands of events a second that is more than
//! the events themselves. So where events come thick, bursts begin a little apart, each with all that has arrived by then,
//! as network cards moderate their interrupts. An event that comes alone is written at once, and nothing waits behind it.

use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

use tokio::task::yield_now;

thread_local! {
    /// When this thread woke from its last rest.
    static WOKE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// The pace of one intake.
#[derive(Debug)]
pub(super) struct Pace {
    apart: Duration,
    /// When the last burst was over, and the rest behind it.
    over: Option<Instant>,
}

impl Pace {
    /// Bursts that follow each other more closely than `apart` begin that far apart.
    pub(super) const fn new(apart: Duration) -> Self {
        Self { apart, over: None }
    }

    /// Rests behind a burst that began at `begun`, if it came close behind the one before.
    ///
    /// The thread itself sleeps: as long as its runtime waits for the socket, each event that arrives wakes it. It is to do
    /// nothing but this, for a handful of streams, which take their bursts one after the other and rest together.
    pub(super) async fn rest(&mut self, begun: Instant) {
        if self.until(begun, WOKE.get()).is_some() {
            // Others have something, too.
            yield_now().await;
        }
        if let Some(until) = self.until(begun, WOKE.get()) {
            #[allow(clippy::disallowed_methods, reason = "it is the thread that is to sleep")]
            thread::sleep(until.saturating_duration_since(Instant::now()));
            WOKE.set(Some(Instant::now()));
        }
        self.over = Some(Instant::now());
    }

    /// Until when to rest; not at all where the thread has rested since.
    fn until(&self, begun: Instant, woke: Option<Instant>) -> Option<Instant> {
        let close = self.over.is_some_and(|over| begun.saturating_duration_since(over) < self.apart);
        (close && woke.is_none_or(|woke| woke < begun)).then(|| begun + self.apart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const APART: Duration = Duration::from_millis(1);

    #[test]
    fn bursts_that_come_close_begin_a_little_apart() {
        let (over, mut pace) = (Instant::now(), Pace::new(APART));
        assert_eq!(pace.until(over, None), None, "the first one");
        pace.over = Some(over);
        assert_eq!(pace.until(over + APART, None), None, "one that comes alone");
        let begun = over + APART / 2;
        assert_eq!(pace.until(begun, None), Some(begun + APART));
        assert_eq!(pace.until(begun, Some(over)), Some(begun + APART));
        assert_eq!(pace.until(begun, Some(begun)), None, "another one has rested for it");
        assert_eq!(Pace { apart: Duration::ZERO, ..pace }.until(over, None), None, "not wanted");
    }

    #[tokio::test]
    async fn a_rest_lasts_as_long_as_it_should() {
        let (first, mut pace) = (Instant::now(), Pace::new(Duration::from_secs(3600)));
        pace.rest(first).await;
        assert!(WOKE.get().is_none(), "no rest behind the first");
        pace.apart = APART;
        // It came close, however long this took.
        let begun = Instant::now();
        pace.over = Some(begun);
        pace.rest(begun).await;
        assert!(WOKE.get().is_some_and(|woke| woke >= begun + APART) && pace.over >= WOKE.get());
    }
}
