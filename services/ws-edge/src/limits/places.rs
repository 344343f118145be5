//! The places of connections, and who loses one where they are scarce: whoever has asked for nothing for longest.
//!
//! A connection is *opening* until the head of its first request is there. That takes a client one way through the network,
//! and somebody who means ill for ever. So where too many are opening, the one that came first has to go, once it has had
//! its time (`grace`): with every connection that comes one goes, and however many come, those that say something
//! are let in. Only where all have come within `grace` the machine is overrun, and further ones are sent away.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

/// All places, by number.
#[derive(Debug)]
pub(super) struct Places {
    max: usize,
    max_opening: usize,
    grace: Duration,
    book: Mutex<Book>,
}

#[derive(Debug, Default)]
struct Book {
    taken: usize,
    next: u64,
    /// In the order in which they came.
    opening: BTreeMap<u64, Opening>,
}

#[derive(Debug)]
struct Opening {
    since: Instant,
    out: oneshot::Sender<()>,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// All are taken.
    Taken,
    /// Too many are opening.
    Opening,
}

impl Places {
    /// `max` in all, of which `max_opening` may be opening.
    pub(super) fn new(max: usize, max_opening: usize, grace: Duration) -> Self {
        Self { max, max_opening, grace, book: Mutex::default() }
    }

    /// Takes a place for a connection that is opening. What comes with it is told if the place goes to another one.
    pub(super) fn take(&self, now: Instant) -> Result<(u64, oneshot::Receiver<()>), Full> {
        let mut book = self.book();
        let full = match (book.taken >= self.max, book.opening.len() >= self.max_opening) {
            (true, _) => Some(Full::Taken),
            (_, true) => Some(Full::Opening),
            _ => None,
        };
        if let Some(full) = full {
            let oldest = book.opening.first_entry();
            let oldest = oldest.filter(|oldest| now.duration_since(oldest.get().since) >= self.grace);
            // One that is gone at this moment gives its place back by itself, and finds that it has none.
            let _gone = oldest.ok_or(full)?.remove().out.send(());
            book.taken -= 1;
        }
        let (out, told) = oneshot::channel();
        let number = book.next;
        book.next += 1;
        book.taken += 1;
        book.opening.insert(number, Opening { since: now, out });
        Ok((number, told))
    }

    /// A connection has said what it wants: its place is its own. Whoever has lost it in this very moment keeps one.
    pub(super) fn open(&self, number: u64) {
        let mut book = self.book();
        if book.opening.remove(&number).is_none() {
            book.taken += 1;
        }
    }

    /// A connection that has opened, or has not, is gone.
    pub(super) fn leave(&self, number: u64, opened: bool) {
        let mut book = self.book();
        let had_one = book.opening.remove(&number).is_some() || opened;
        book.taken -= usize::from(had_one);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(2);

    #[test]
    fn the_one_that_said_nothing_for_longest_gives_way() {
        let (places, begun) = (Places::new(10, 2, GRACE), Instant::now());
        let (_, mut first) = places.take(begun).unwrap();
        let (second, mut of_second) = places.take(begun).unwrap();
        assert_eq!(places.take(begun + GRACE / 2).unwrap_err(), Full::Opening, "both may still be on their way");
        let (third, _) = places.take(begun + GRACE).unwrap();
        assert!(first.try_recv().is_ok() && of_second.try_recv().is_err());
        places.open(third);
        // There is room again: nobody has to go.
        places.take(begun + GRACE).unwrap();
        assert!(of_second.try_recv().is_err());
        places.open(second);
        assert_eq!(places.book().taken, 3);
    }

    #[test]
    fn who_has_spoken_is_never_sent_away() {
        let (places, begun) = (Places::new(2, 5, GRACE), Instant::now());
        let (first, _told) = places.take(begun).unwrap();
        places.open(first);
        let (_second, mut told) = places.take(begun).unwrap();
        assert_eq!(places.take(begun).unwrap_err(), Full::Taken);
        let (third, _told) = places.take(begun + GRACE).unwrap();
        assert!(told.try_recv().is_ok());
        places.open(third);
        assert_eq!(places.take(begun + GRACE * 9).unwrap_err(), Full::Taken);
        places.leave(first, true);
        places.take(begun).unwrap();
    }

    #[test]
    fn who_speaks_while_it_is_sent_away_stays() {
        let (places, begun) = (Places::new(5, 1, GRACE), Instant::now());
        let (first, _) = places.take(begun).unwrap();
        let (second, _) = places.take(begun + GRACE).unwrap();
        places.open(first);
        assert_eq!(places.book().taken, 2);
        places.leave(first, true);
        places.leave(second, false);
        assert_eq!(places.book().taken, 0);
    }

    proptest! {
        /// 0: one comes, 1: one speaks, 2: one goes, 3: time passes.
        #[test]
        fn every_place_comes_back(steps in proptest::collection::vec((0_u8..4, any::<prop::sample::Index>()), 0..300)) {
            let places = Places::new(8, 4, GRACE);
            let mut now = Instant::now();
            // Number, what it is told by, whether it has spoken.
            let mut here: Vec<(u64, oneshot::Receiver<()>, bool)> = Vec::new();
            for (step, which) in steps {
                match (step, here.is_empty()) {
                    (0, _) => here.extend(places.take(now).ok().map(|(number, told)| (number, told, false))),
                    (1, false) => {
                        let one = which.get(&here).0;
                        let one = here.iter_mut().find(|other| other.0 == one).unwrap();
                        if !std::mem::replace(&mut one.2, true) {
                            places.open(one.0);
                        }
                    }
                    (2, false) => {
                        let (number, _, opened) = here.swap_remove(which.index(here.len()));
                        places.leave(number, opened);
                    }
                    _ => now += GRACE / 2,
                }
                let opening = places.book().opening.len();
                prop_assert!(opening <= 4);
                let open = here.iter().filter(|one| one.2).count();
                prop_assert_eq!(places.book().taken, open + opening);
            }
            for (number, _, opened) in here {
                places.leave(number, opened);
            }
            prop_assert_eq!(places.book().taken, 0);
        }
    }
}
