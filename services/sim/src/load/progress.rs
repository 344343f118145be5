//! How far the slowest client of each session is, at a cost that does not grow with clients.

use std::sync::atomic::Ordering::Relaxed;

use super::gauges::Gauges;

/// One session's clients by the number they expect next.
struct Field {
    /// How many expect which number, modulo the length.
    at: Vec<u32>,
    slowest: u64,
}

/// The sessions of one thread.
pub(super) struct Progress {
    fields: Vec<Field>,
    freed: u64,
}

impl Progress {
    /// For sessions with so many clients each, whose numbers differ by `window` at most.
    pub(super) fn new(clients: &[u32], window: u64, gauges: &Gauges) -> Self {
        // A window is a million at most.
        let length = (window as usize + 2).next_power_of_two();
        let field = |clients: &u32| {
            let mut at = vec![0; length];
            at[1] = *clients;
            Field { at, slowest: 1 }
        };
        for (floor, clients) in gauges.floors.iter().zip(clients) {
            floor.store(if *clients == 0 { u64::MAX } else { 0 }, Relaxed);
        }
        Self { fields: clients.iter().map(field).collect(), freed: 0 }
    }

    /// A client of that session got on.
    pub(super) fn moved(&mut self, session: u32, from: u64, to: u64, gauges: &Gauges) {
        let Some(Field { at, slowest }) = self.fields.get_mut(session as usize) else { return };
        let last = at.len() as u64 - 1;
        at[(from & last) as usize] -= 1;
        at[(to & last) as usize] += 1;
        let before = *slowest;
        // There is at least this client, so that an end is found.
        while at[(*slowest & last) as usize] == 0 {
            *slowest += 1;
        }
        if *slowest > before {
            gauges.floors[session as usize].store(*slowest - 1, Relaxed);
            self.freed += *slowest - before;
        }
    }

    /// What all clients of their session have since the last call, events.
    pub(super) const fn freed(&mut self) -> u64 {
        std::mem::replace(&mut self.freed, 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn the_slowest_client_says_how_far_a_session_is() {
        let gauges = Gauges { floors: (0..2).map(|_| AtomicU64::new(u64::MAX)).collect(), ..Gauges::default() };
        let mut progress = Progress::new(&[3, 0], 6, &gauges);
        let floor = |session: usize| gauges.floors[session].load(Relaxed);
        assert_eq!((floor(0), floor(1)), (0, u64::MAX));
        progress.moved(0, 1, 5, &gauges);
        progress.moved(0, 1, 3, &gauges);
        assert_eq!((floor(0), progress.freed()), (0, 0));
        progress.moved(0, 1, 2, &gauges);
        assert_eq!((floor(0), progress.freed()), (1, 1));
        progress.moved(0, 2, 7, &gauges);
        assert_eq!((floor(0), progress.freed()), (2, 1));
        progress.moved(0, 3, 9, &gauges);
        assert_eq!((floor(0), progress.freed()), (4, 2));
        for (from, to) in [(5, 10), (7, 11), (9, 12)] {
            progress.moved(0, from, to, &gauges);
        }
        assert_eq!((floor(0), progress.freed()), (9, 5));
    }
}
