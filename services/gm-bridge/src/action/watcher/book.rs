//! What a bridge has seen of all sessions' actions, and since when it has seen no sign of life. Pure: time is handed in.

use std::{collections::HashMap, time::Duration};

use herald_protocol::{SessionId, record::ActionRecord};
use tokio::time::Instant;

/// The last action of each session, as far as it may be open.
#[derive(Debug, Default)]
pub(super) struct Book {
    pages: HashMap<SessionId, Page>,
}

#[derive(Debug)]
struct Page {
    /// Number of the last action that was heard of: by its record, or by its `_action` in the log.
    n: u64,
    /// Its record, or that of an older one whose place it has taken without having written its own.
    record: Option<ActionRecord>,
    /// It is over; kept for a while, as its `_action` may be heard of later.
    over: bool,
    /// Since when a sign of life would have been seen.
    since: Instant,
}

impl Book {
    /// An `_action` stands in the log. Its record must follow.
    pub(super) fn opened(&mut self, session: SessionId, n: u64, now: Instant) {
        match self.pages.get_mut(&session) {
            Some(page) if page.n >= n => {}
            Some(page) => (page.n, page.over, page.since) = (n, false, now),
            None => drop(self.pages.insert(session, Page { n, record: None, over: false, since: now })),
        }
    }

    /// A record as it is now. True if that is a sign of life of the last action: its first record, or a new beat. A command
    /// that was left waiting is none, nor is anything of an action that another one has superseded.
    pub(super) fn written(&mut self, session: SessionId, record: ActionRecord, now: Instant) -> bool {
        let page = self.pages.entry(session).or_insert(Page { n: 0, record: None, over: false, since: now });
        let seen = page.record.as_ref().map(|seen| (seen.n, seen.beat));
        let alive = record.n >= page.n && seen != Some((record.n, record.beat));
        if alive {
            (page.n, page.over, page.since) = (record.n, false, now);
        }
        page.record = Some(record);
        alive
    }

    /// A record is gone: its action is over, unless the log has a newer one.
    pub(super) fn deleted(&mut self, session: &SessionId, now: Instant) {
        let Some(page) = self.pages.get_mut(session) else { return };
        if page.record.take().is_some_and(|record| record.n >= page.n) {
            (page.over, page.since) = (true, now);
        }
    }

    /// Nothing is open in that session.
    pub(super) fn closed(&mut self, session: &SessionId) {
        self.pages.remove(session);
    }

    /// Whether nothing is open, as far as known.
    pub(super) fn is_quiet(&self) -> bool {
        self.pages.values().all(|page| page.over)
    }

    /// How many records there are.
    pub(super) fn records(&self) -> usize {
        self.pages.values().filter(|page| page.record.is_some()).count()
    }

    /// Whether the session's last action gave no sign of life for `lapse`, or its bridge has left it to others.
    pub(super) fn is_due(&self, session: &SessionId, lapse: Duration, now: Instant) -> bool {
        self.pages.get(session).is_some_and(|page| page.is_due(lapse, now))
    }

    /// All of which that holds. What has been over for as long is forgotten.
    pub(super) fn due(&mut self, lapse: Duration, now: Instant) -> Vec<SessionId> {
        self.pages.retain(|_, page| !(page.over && now - page.since >= lapse));
        let due = self.pages.iter().filter(|(_, page)| page.is_due(lapse, now));
        due.map(|(session, _)| session.clone()).collect()
    }

    /// That one counts from now on.
    pub(super) fn count_anew(&mut self, session: &SessionId, now: Instant) {
        if let Some(page) = self.pages.get_mut(session) {
            page.since = now;
        }
    }

    /// All count from now on.
    pub(super) fn count_all_anew(&mut self, now: Instant) {
        self.pages.values_mut().for_each(|page| page.since = now);
    }
}

impl Page {
    fn is_due(&self, lapse: Duration, now: Instant) -> bool {
        let released = self.record.as_ref().is_some_and(|record| record.released);
        !self.over && (released || now - self.since >= lapse)
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::{InstanceId, record::ActionKind};

    use super::*;

    const LAPSE: Duration = Duration::from_secs(5);
    const SECOND: Duration = Duration::from_secs(1);

    fn id() -> SessionId {
        SessionId::new("s").unwrap()
    }

    fn record(n: u64, beat: u64) -> ActionRecord {
        let bridge = InstanceId::new("b").unwrap();
        ActionRecord {
            n,
            seq: n * 10,
            kind: ActionKind::Propose,
            bridge,
            next: None,
            beat,
            released: false,
            left: None,
        }
    }

    fn due(book: &mut Book, now: Instant) -> bool {
        let due = book.due(LAPSE, now);
        assert_eq!(due == [id()], book.is_due(&id(), LAPSE, now));
        !due.is_empty()
    }

    #[test]
    fn only_a_beat_is_a_sign_of_life() {
        let (mut book, begun) = (Book::default(), Instant::now());
        assert!(book.written(id(), record(1, 0), begun));
        assert!(!book.written(id(), record(1, 0), begun + SECOND * 3), "a command was left waiting");
        assert!(!due(&mut book, begun + LAPSE - SECOND) && due(&mut book, begun + LAPSE));
        assert!(book.written(id(), record(1, 1), begun + LAPSE));
        assert!(!due(&mut book, begun + LAPSE * 2 - SECOND) && due(&mut book, begun + LAPSE * 2));
        book.count_anew(&id(), begun + LAPSE * 2);
        assert!(!due(&mut book, begun + LAPSE * 2));
        assert!(!book.is_quiet() && book.records() == 1);
    }

    #[test]
    fn an_action_in_the_log_has_as_much_time_for_its_record_as_for_a_beat() {
        let (mut book, begun) = (Book::default(), Instant::now());
        book.opened(id(), 1, begun);
        book.opened(id(), 1, begun + SECOND);
        assert!(due(&mut book, begun + LAPSE) && book.records() == 0);
        assert!(book.written(id(), record(1, 0), begun + LAPSE));
        // The next one is claimed; the older one's runner has not noticed and renews its record.
        book.opened(id(), 2, begun + LAPSE);
        assert!(!book.written(id(), record(1, 1), begun + LAPSE + SECOND));
        assert!(due(&mut book, begun + LAPSE * 2), "that is no sign of life of the new one");
        // The older one's record goes: the new one is open all the same.
        book.deleted(&id(), begun + LAPSE * 2);
        assert!(due(&mut book, begun + LAPSE * 2));
    }

    #[test]
    fn what_is_over_is_not_opened_again_by_late_news() {
        let (mut book, begun) = (Book::default(), Instant::now());
        book.written(id(), record(3, 0), begun);
        book.deleted(&id(), begun + SECOND);
        book.opened(id(), 3, begun + SECOND * 2);
        assert!(book.is_quiet() && !due(&mut book, begun + SECOND * 5));
        book.opened(id(), 4, begun + SECOND * 5);
        assert!(!book.is_quiet() && due(&mut book, begun + SECOND * 10));
        book.closed(&id());
        assert!(book.is_quiet() && book.pages.is_empty());
        book.written(id(), record(5, 0), begun);
        book.deleted(&id(), begun);
        assert!(!due(&mut book, begun + LAPSE) && book.pages.is_empty(), "and is forgotten");
    }

    #[test]
    fn what_was_left_to_others_is_due_at_once() {
        let (mut book, begun) = (Book::default(), Instant::now());
        book.written(id(), ActionRecord { released: true, ..record(1, 0) }, begun);
        assert!(due(&mut book, begun));
    }
}
