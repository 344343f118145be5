//! Who listens to a session in one view.

use super::{Entry, Log, Room};

impl Room {
    pub(super) const fn new(log: Log) -> Self {
        Self {
            log,
            fresh: Vec::new(),
            listening: Vec::new(),
            stopped: false,
            left: 0,
            seats: 0,
            watchers: 0,
            empty_since: None,
        }
    }

    /// Whoever was dismissed reads again from its cursor: nothing is left to be offered.
    pub(super) fn dismiss_all(&mut self) {
        self.fresh.clear();
        std::mem::take(&mut self.listening).iter().for_each(Entry::dismiss);
        (self.left, self.stopped) = (0, false);
    }

    /// One entry is known to be left: once half of them are, they are cleared away.
    pub(super) fn one_left(&mut self) {
        self.left += 1;
        if self.left > 8 && self.left * 2 > self.listening.len() {
            self.listening.retain(Entry::is_current);
            self.left = 0;
        }
    }
}

impl Entry {
    pub(super) fn dismiss(&self) {
        if let Some(listener) = self.listener.upgrade() {
            listener.dismiss(self.token);
        }
    }

    pub(super) fn is_current(&self) -> bool {
        self.listener.upgrade().is_some_and(|listener| listener.is_current(self.token))
    }
}
