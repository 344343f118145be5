//! Where a client stands, and with what it comes back: the rules of each kind, as a client of that kind can know them.

use std::time::Duration;

use herald_protocol::{Cursor, Epoch, Position};

use super::{
    link::Heard,
    notes::{Kind, Start},
};
use crate::frame::Control;

/// The longest that a client lets itself be told to wait: a wrong number must not keep it away for ever.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// A client's place over all of its connections.
#[derive(Debug, Clone)]
pub struct Place {
    kind: Kind,
    /// How it begins, and begins again while it has nothing to come back with.
    first: Start,
    /// Behind what it comes back.
    after: Option<Position>,
    /// The life of the stream that was named last.
    epoch: Option<Epoch>,
    /// A snapshot is being taken: what comes is no place to come back to.
    in_snapshot: bool,
    /// When it was told to come back.
    retry: Option<Duration>,
}

impl Place {
    /// A client that has not begun.
    #[must_use]
    pub const fn new(kind: Kind, first: Start) -> Self {
        Self { kind, first, after: None, epoch: None, in_snapshot: false, retry: None }
    }

    /// What the next connection asks for.
    #[must_use]
    pub fn start(&self) -> Start {
        self.after.map_or(self.first, Start::After)
    }

    /// Forgets its place: it comes back as it began.
    pub const fn forget(&mut self) {
        self.after = None;
    }

    /// How long it was told to wait, once.
    pub const fn take_retry(&mut self) -> Option<Duration> {
        self.retry.take()
    }

    /// It shall wait so long before it comes back.
    pub fn told_to_wait(&mut self, wait: Duration) {
        self.retry = Some(wait.min(LONGEST_RETRY));
    }

    /// A connection is open that asked for `start`.
    pub fn opened(&mut self, start: Start) {
        self.in_snapshot = start == Start::Snapshot;
    }

    /// Whether what comes now belongs to a snapshot. A plain client can't tell.
    #[must_use]
    pub fn takes_snapshot(&self) -> bool {
        self.in_snapshot && self.kind != Kind::Plain
    }

    /// Goes on by what it heard. `id` is what an event stream says beside it.
    pub fn hear(&mut self, heard: &Heard, id: Option<Position>) {
        if let Heard::Retry(wait) = heard {
            self.told_to_wait(*wait);
        }
        if self.kind == Kind::Sse {
            // An `EventSource` knows nothing but the last id.
            self.after = id.or(self.after);
            self.in_snapshot &= !matches!(heard, Heard::Control(Control::Live { .. }));
            return;
        }
        match *heard {
            Heard::Event { seq, .. } if !self.in_snapshot => self.move_to(seq),
            Heard::Control(Control::Hello { epoch, head, .. }) => {
                self.epoch = Some(epoch);
                // A live client that drops out before its first event comes back behind the head of the moment it began.
                // In another life it waits for the gap: cut before that, it has to be told again.
                if self.after.is_none() && self.first == Start::Live {
                    self.move_to(head);
                }
            }
            Heard::Control(Control::Gap { to, .. }) => self.move_to(to),
            Heard::Control(Control::Live { after }) => {
                self.in_snapshot = false;
                self.move_to(after);
            }
            Heard::Control(Control::Bye { after, retry_ms }) => {
                self.after = Some(Position::Cursor(after));
                self.told_to_wait(Duration::from_millis(retry_ms));
            }
            // Its reason is all that a plain client is told.
            Heard::Closed { after: Some(after), .. } => self.after = Some(Position::Cursor(after)),
            _ => {}
        }
    }

    fn move_to(&mut self, seq: u64) {
        self.after = Some(match (self.kind, self.epoch) {
            (Kind::V1, Some(epoch)) => Position::Cursor(Cursor { epoch, seq }),
            _ => Position::Seq(seq),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u64) -> Heard {
        Heard::Event { seq, prev: None, hash: 0, snapshot: false, ts: 0 }
    }

    fn hello(epoch: u32, head: u64) -> Heard {
        Heard::Control(Control::Hello { epoch: Epoch::new(epoch), head, heartbeat_ms: 0 })
    }

    fn at(epoch: u32, seq: u64) -> Start {
        Start::After(Position::Cursor(Cursor { epoch: Epoch::new(epoch), seq }))
    }

    #[test]
    fn a_plain_client_comes_back_by_bare_sequence_or_as_a_close_says() {
        let mut place = Place::new(Kind::Plain, Start::Live);
        place.opened(Start::Live);
        assert_eq!(place.start(), Start::Live);
        place.hear(&event(7), None);
        assert_eq!(place.start(), Start::After(Position::Seq(7)));
        let after = Cursor { epoch: Epoch::new(3), seq: 9 };
        place.hear(&Heard::Closed { code: Some(4410), after: Some(after) }, None);
        assert_eq!(place.start(), at(3, 9));
        place.forget();
        assert_eq!(place.start(), Start::Live);
        let mut snapshot = Place::new(Kind::Plain, Start::Snapshot);
        snapshot.opened(Start::Snapshot);
        snapshot.hear(&event(7), None);
        assert_eq!(snapshot.start(), Start::Snapshot, "it can't tell what belongs to it");
    }

    #[test]
    fn a_client_of_the_sub_protocol_comes_back_by_whole_cursor() {
        let mut place = Place::new(Kind::V1, Start::Live);
        place.opened(Start::Live);
        place.hear(&hello(1, 5), None);
        assert_eq!(place.start(), at(1, 5), "behind the head of the moment it began");
        place.hear(&event(7), None);
        place.hear(&hello(2, 3), None);
        assert_eq!(place.start(), at(1, 7), "another life: not before its gap");
        place.hear(&Heard::Control(Control::Gap { from: 1, to: 3 }), None);
        assert_eq!(place.start(), at(2, 3));
        let bye = Control::Bye { after: Cursor { epoch: Epoch::new(2), seq: 4 }, retry_ms: 3_600_000 };
        place.hear(&Heard::Control(bye), None);
        assert_eq!((place.start(), place.take_retry(), place.take_retry()), (at(2, 4), Some(LONGEST_RETRY), None));
        let mut snapshot = Place::new(Kind::V1, Start::Snapshot);
        snapshot.opened(Start::Snapshot);
        snapshot.hear(&hello(1, 90), None);
        snapshot.hear(&event(7), None);
        assert!(snapshot.start() == Start::Snapshot && snapshot.takes_snapshot());
        snapshot.hear(&Heard::Control(Control::Live { after: 9 }), None);
        assert!(snapshot.start() == at(1, 9) && !snapshot.takes_snapshot());
    }

    #[test]
    fn an_event_stream_comes_back_by_its_last_id_alone() {
        let mut place = Place::new(Kind::Sse, Start::Snapshot);
        place.opened(Start::Snapshot);
        place.hear(&hello(1, 90), None);
        place.hear(&event(7), None);
        assert!(place.start() == Start::Snapshot && place.takes_snapshot());
        let id = |seq| Some(Position::Cursor(Cursor { epoch: Epoch::new(1), seq }));
        place.hear(&Heard::Control(Control::Live { after: 90 }), id(90));
        assert!(place.start() == at(1, 90) && !place.takes_snapshot());
        place.hear(&event(91), id(91));
        place.hear(&Heard::Nothing, None);
        assert_eq!(place.start(), at(1, 91));
    }
}
