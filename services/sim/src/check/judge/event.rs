//! An event, as it came: where it stands in the log, and whether it was due.

use super::{At, Judge};
use crate::check::{findings::Class, notes::Kind};

/// An event as it came.
pub(super) struct Came {
    pub(super) seq: u64,
    pub(super) prev: Option<u64>,
    pub(super) hash: u64,
    pub(super) snapshot: bool,
    pub(super) at_ms: u64,
    pub(super) ts: u64,
}

impl Judge<'_> {
    pub(super) fn event(&mut self, came: &Came) {
        self.judgement.deliveries += 1;
        (self.connection.gap_ahead, self.connection.led) = (None, false);
        let greets = self.notes.kind != Kind::Plain;
        if greets && !self.connection.greeted && !std::mem::replace(&mut self.connection.ungreeted_told, true) {
            self.wrong(Class::Gap, came.seq, || "an event before the hello".into());
        }
        let Some((life, index, exact)) = self.find(came) else {
            if self.life + 1 < self.log.lives.len() && came.seq > self.life().through {
                // The log of a life that is over can't be read to its end any more: nothing can be said about it.
                self.at = At::Behind(came.seq);
                return;
            }
            self.wrong(Class::Foreign, came.seq, || "the session's log has no such event".into());
            return;
        };
        if life != self.life {
            self.in_another_life(life, came.seq);
        }
        self.connection.certain = true;
        if !exact {
            self.wrong(Class::Foreign, came.seq, || "payload or time are not what the log holds".into());
        }
        if std::mem::take(&mut self.connection.owes_gap) {
            self.wrong(Class::Gap, came.seq, || "another life than the cursor's, and no gap was announced".into());
        }
        let v1 = self.notes.kind == Kind::V1;
        if v1 && came.snapshot != self.taking.is_some() {
            let what = if came.snapshot { "marked as snapshot, but there is none" } else { "not marked as snapshot" };
            self.wrong(Class::Foreign, came.seq, || what.into());
        }
        if let Some(taking) = &mut self.taking {
            taking.add(index, came.at_ms);
            return;
        }
        self.place(index);
        if v1 {
            self.check_prev(index, came.prev);
        }
    }

    /// The event in the log: its life, its place there, and whether it is the same in all.
    fn find(&self, came: &Came) -> Option<(usize, usize, bool)> {
        let in_life = |life: usize| {
            let shown = &self.log.lives[life].shown;
            let index = shown.binary_search_by_key(&came.seq, |event| event.seq).ok()?;
            let exact = shown[index].hash == came.hash && (came.ts == 0 || came.ts == shown[index].ts_ms);
            Some((life, index, exact))
        };
        let here = in_life(self.life);
        if here.is_some_and(|(_, _, exact)| exact) {
            return here;
        }
        let elsewhere = (0..self.log.lives.len()).rev().filter(|life| *life != self.life).filter_map(in_life);
        elsewhere.into_iter().find(|(_, _, exact)| *exact).or(here)
    }

    fn in_another_life(&mut self, life: usize, seq: u64) {
        let at = self.at;
        if self.connection.certain {
            self.wrong(Class::Gap, seq, || "an event of another life of the stream, without a word".into());
            self.enter(life);
        } else {
            // A plain client that has no cursor with an epoch takes what it gets.
            self.enter(life);
            self.at = at;
        }
    }

    /// An event comes at the client's place.
    fn place(&mut self, index: usize) {
        let seq = self.life().shown[index].seq;
        let next = self.next().unwrap_or(index);
        let live = matches!(self.at, At::Since(_));
        if index >= next || live {
            let trimmed = if self.connection.from_start { self.life().trimmed } else { 0 };
            let left_out = (next..index).filter(|index| self.log.lives[self.life].shown[*index].seq > trimmed);
            self.missing.extend(left_out);
            self.at = At::Behind(seq);
            self.connection.from_start = false;
        } else if self.missing.remove(&index) {
            let at = self.at;
            self.wrong(Class::Reordered, seq, || format!("came when the client was {at}"));
        } else {
            let at = self.at;
            self.wrong(Class::Doubled, seq, || format!("came when the client was {at} already"));
        }
    }

    fn check_prev(&mut self, index: usize, prev: Option<u64>) {
        let shown = &self.life().shown;
        let (seq, before) = (shown[index].seq, index.checked_sub(1).map_or(0, |index| shown[index].seq));
        let kept_no_more = before <= self.life().trimmed.max(self.gap_to);
        match prev {
            Some(prev) if prev == before || (prev == 0 && kept_no_more) => {}
            Some(prev) => self.wrong(Class::Gap, seq, || format!("prev is {prev}, in the log it is {before}")),
            None => self.wrong(Class::Gap, seq, || "no prev".into()),
        }
    }
}
