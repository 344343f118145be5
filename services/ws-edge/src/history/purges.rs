//! Which sessions were removed from the stream, and how much of what is missing in it that explains.
//!
//! Whoever owns a root may remove a session, and leaves word of it in the stream before (`<root>._purged`): whose, up to where,
//! and how many messages at most. A removed session leaves holes all over the stream, of which the server says no more than how
//! many there are. As long as that word explains them, they are nobody else's: other sessions miss nothing. A client of the
//! removed one that has not seen all of it misses something, and is told.
//!
//! Word comes by the intake, and is read from the stream where more is missing than is explained.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use herald_protocol::{SessionId, record::Purged};

/// What is known of a stream's removed sessions, in its present life.
#[derive(Debug, Default)]
pub struct Purges {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the sequence of the word: up to where, and how many.
    words: BTreeMap<u64, (u64, u64)>,
    /// Up to where nothing of a session is left.
    sessions: HashMap<SessionId, u64>,
    /// All words up to here are known.
    read: u64,
}

impl Purges {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Another life: nothing is known of it.
    pub(crate) fn forget(&self) {
        *self.lock() = State::default();
    }

    /// A word at that place of the stream.
    pub(crate) fn note(&self, seq: u64, purged: &Purged) {
        let mut state = self.lock();
        state.words.insert(seq, (purged.upto, purged.events));
        let upto = state.sessions.entry(purged.session.clone()).or_default();
        *upto = purged.upto.max(*upto);
    }

    /// Where to read on for words that are not known.
    pub(super) fn unread(&self) -> u64 {
        self.lock().read + 1
    }

    /// Everything up to that place was read.
    pub(super) fn read(&self, seq: u64) {
        let mut state = self.lock();
        state.read = state.read.max(seq);
    }

    /// How many messages may be missing behind `first` for what was removed.
    pub(super) fn explained(&self, first: u64) -> u64 {
        let mut state = self.lock();
        // What lay before is no hole any more.
        state.words.retain(|_, (upto, _)| *upto >= first);
        state.sessions.retain(|_, upto| *upto >= first);
        state.words.values().map(|(_, events)| events).sum()
    }

    /// Up to where nothing of that session is left; 0: it was not removed, as far as known.
    pub(crate) fn of(&self, session: &SessionId) -> u64 {
        self.lock().sessions.get(session).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purged(session: &str, upto: u64, events: u64) -> Purged {
        Purged { session: session.parse().unwrap(), upto, events }
    }

    #[test]
    fn words_explain_what_is_missing_until_the_stream_begins_behind_it() {
        let (purges, s) = (Purges::default(), "s".parse().unwrap());
        assert_eq!((purges.explained(1), purges.of(&s), purges.unread()), (0, 0, 1));
        purges.note(50, &purged("s", 49, 10));
        purges.note(50, &purged("s", 49, 10));
        purges.note(80, &purged("s", 79, 5));
        purges.note(90, &purged("t", 60, 3));
        purges.read(90);
        assert_eq!((purges.explained(1), purges.of(&s), purges.unread()), (18, 79, 91), "each word counts once");
        assert_eq!((purges.explained(50), purges.of(&s)), (8, 79));
        assert_eq!((purges.explained(80), purges.of(&s)), (0, 0));
        purges.note(95, &purged("s", 94, 1));
        purges.forget();
        assert_eq!((purges.explained(1), purges.of(&s), purges.unread()), (0, 0, 1), "another life");
    }
}
