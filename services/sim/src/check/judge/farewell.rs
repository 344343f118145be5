//! The cursor that a client is sent away with: who trusts it must neither miss nor see again anything.

use herald_protocol::Cursor;

use super::{At, Judge};
use crate::check::{findings::Class, notes::Kind};

/// "Events you have not seen can't be delivered any more."
const GAP_CLOSE: u16 = 4410;

impl Judge<'_> {
    /// Where the client is told to come back.
    pub(super) fn told(&mut self, after: Cursor, code: Option<u16>) {
        if self.connection.told.replace(after) == Some(after) {
            return;
        }
        let Some(life) = self.log.lives.iter().position(|life| life.epoch == after.epoch) else {
            self.wrong(Class::Gap, after.seq, || format!("sent away with {after}, a life that the stream never had"));
            return;
        };
        if code == Some(GAP_CLOSE) {
            return self.told_of_gap(life, after);
        }
        if life != self.life {
            let at = self.at;
            if self.connection.certain {
                self.wrong(Class::Gap, after.seq, || format!("sent away with {after}, another life, without a gap"));
                self.enter(life);
                self.flagged = after.seq;
                return;
            }
            self.enter(life);
            self.at = at;
        }
        if self.taking.is_some() {
            return self.told_in_snapshot(after);
        }
        if let Some(skipped) = self.skipped(after.seq) {
            self.wrong(Class::Gap, skipped, || format!("sent away with {after}, but this never came"));
            self.flagged = after.seq;
        } else if let At::Behind(at) = self.at {
            let shown = &self.life().shown;
            let again = shown.partition_point(|event| event.seq <= after.seq);
            if let Some(seq) = shown.get(again).map(|event| event.seq).filter(|seq| *seq <= at) {
                self.wrong(Class::Doubled, seq, || format!("sent away with {after}, but this has come already"));
            }
        }
    }

    fn told_of_gap(&mut self, life: usize, after: Cursor) {
        self.drop_snapshot();
        if life != self.life {
            self.enter(life);
        }
        let from = match self.at {
            At::Behind(at) => at + 1,
            At::Since(_) | At::Nowhere => 1,
        };
        self.gap(from, after.seq);
    }

    fn told_in_snapshot(&mut self, after: Cursor) {
        if self.notes.kind != Kind::Plain {
            self.wrong(Class::Gap, after.seq, || format!("sent away with {after} in the middle of a snapshot"));
            self.taking = None;
            (self.at, self.flagged) = (At::Behind(after.seq), after.seq);
            return;
        }
        let Some(taking) = self.taking.take() else { return };
        let mut outcome = taking.guess(self.life(), after.seq);
        if let Some(first) = outcome.behind.first().copied() {
            let seq = self.life().shown[first].seq;
            self.wrong(Class::Gap, seq, || format!("sent away with {after}, but this never came"));
        }
        outcome.behind.clear();
        self.note_snapshot(&outcome);
        (self.at, self.flagged) = (At::Behind(after.seq), after.seq);
    }
}
