//! Judging what a client saw against the log.
//!
//! A client is anything that keeps a place in the log and is told what follows it. Its place is all that counts: whatever
//! the log holds behind it must come next, once, unchanged, unless an announced gap says otherwise. What moves a place, and
//! what is due behind it:
//!
//! | seen | the place | due from there |
//! |---|---|---|
//! | a live start, no hello yet | when the connection was opened | what was stored later, [`LIVE_MS`] left out |
//! | hello of a live start | its `head` | everything behind; nothing stored after the opening may lie before it |
//! | `after=` | that sequence | everything behind |
//! | a snapshot | its cut | at the cut the last event of each topic, then everything behind |
//! | an event | its sequence | everything behind |
//! | a gap, a close 4410 | its end | everything behind; what it covers is excused, what it skips is not |
//! | hello of another life | none, until a gap is announced | everything that life holds behind the gap |
//! | `bye`, any other close | unmoved | its cursor must lie neither before the place nor behind what is still to come |
//!
//! An event is looked for in the log by sequence, hash and time. One that the log has not is *foreign*. One behind the next
//! due event leaves out others: if they come after all they are *reordered*, at the end they are *lost*. One before the
//! place was there already: *doubled*. A `prev` that is not the sequence of the log's shown event before (0 where that one
//! is kept no more), a cursor that skips, another life without a word, are silent *gaps*. What is due when a client ends is
//! lost too. A client that comes back without a cursor has chosen live: what it missed meanwhile is not lost, but within
//! each connection nothing may be missing.
//!
//! Pure: a log, notes, and what follows from them.

mod event;
mod farewell;
mod snapshot;

use std::{collections::BTreeSet, fmt};

use herald_protocol::{Cursor, Epoch, Position};

use self::{event::Came, snapshot::Taking};
use super::{
    findings::{Class, Findings},
    notes::{Kind, Note, Notes, Start},
    truth::{Life, SessionLog},
};
use crate::frame::Control;

/// The door has answered a little before the place of a live start is taken, and nobody can look between the two, ms.
pub const LIVE_MS: u64 = 1_000;

/// What became of one client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Events that came.
    pub deliveries: u64,
    /// Connections that the door took.
    pub connections: u64,
    /// Of them those that came back with a cursor.
    pub resumes: u64,
    /// Of them those that came back without one: what they missed is not lost.
    pub chosen_live: u64,
    /// Gaps that it was told of.
    pub announced: u64,
    /// Events in them.
    pub excused: u64,
    /// Gaps that it was told of although the log holds something in them.
    pub needless: u64,
    /// What is wrong.
    pub found: Findings,
}

/// Judges one client. The log must be known up to the last sequence that the client can have seen.
#[must_use]
pub fn client(log: &SessionLog, notes: &Notes) -> Judgement {
    let mut judge = Judge::new(log, notes);
    for note in &notes.notes {
        judge.take(note);
    }
    judge.finish()
}

/// A place in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// None yet: nothing is due.
    Nowhere,
    /// A live start of which nothing more is known: what was stored after this moment (ms since 1970) is due.
    Since(u64),
    /// Behind this sequence.
    Behind(u64),
}

/// What is known of the present connection.
#[derive(Debug)]
struct Connection {
    start: Start,
    opened_ms: u64,
    /// It said hello.
    greeted: bool,
    /// An event came before that, which was told already.
    ungreeted_told: bool,
    /// It is known in which life of the stream it is.
    certain: bool,
    /// It belongs to another life than its cursor: a gap has to be announced before the first event.
    owes_gap: bool,
    /// The end of a gap from the beginning that nothing has come behind: that of the life which is greeted next, or of
    /// this one.
    gap_ahead: Option<u64>,
    /// It was taken for that of the greeted life, which another one behind the greeting corrects.
    led: bool,
    /// It asked for what there is: what was trimmed is not among it.
    from_start: bool,
    /// The cursor it was sent away with.
    told: Option<Cursor>,
}

struct Judge<'a> {
    log: &'a SessionLog,
    notes: &'a Notes,
    /// Place of the life in the log that the client is in.
    life: usize,
    at: At,
    /// What was left out so far, by its place in the life.
    missing: BTreeSet<usize>,
    /// The end of the last announced gap.
    gap_to: u64,
    /// Cursors up to here were told to skip something.
    flagged: u64,
    connection: Connection,
    /// A snapshot that is being taken; of a plain client, which is not told where it ends, also what followed.
    taking: Option<Taking>,
    judgement: Judgement,
}

impl<'a> Judge<'a> {
    fn new(log: &'a SessionLog, notes: &'a Notes) -> Self {
        let connection = Connection {
            start: Start::Live,
            opened_ms: 0,
            greeted: false,
            ungreeted_told: false,
            certain: false,
            owes_gap: false,
            gap_ahead: None,
            led: false,
            from_start: false,
            told: None,
        };
        Self {
            log,
            notes,
            life: 0,
            at: At::Nowhere,
            missing: BTreeSet::new(),
            gap_to: 0,
            flagged: 0,
            connection,
            taking: None,
            judgement: Judgement::default(),
        }
    }

    fn take(&mut self, note: &Note) {
        match *note {
            Note::Opened { at_ms, start } => self.opened(at_ms, start),
            Note::Control(Control::Hello { epoch, head, .. }) => self.hello(epoch, head),
            Note::Control(Control::Gap { from, to }) => self.gap(from, to),
            Note::Control(Control::Live { after }) => self.live(after),
            Note::Control(Control::Bye { after, .. }) => self.told(after, None),
            Note::Event { seq, prev, hash, snapshot, at_ms, ts } => {
                self.event(&Came { seq, prev, hash, snapshot, at_ms, ts });
            }
            Note::Closed { code, after, .. } => {
                if let Some(after) = after {
                    self.told(after, code);
                }
            }
        }
    }

    fn opened(&mut self, at_ms: u64, start: Start) {
        self.drop_snapshot();
        let again = self.judgement.connections > 0;
        self.judgement.connections += 1;
        self.connection = Connection {
            start,
            opened_ms: at_ms,
            greeted: false,
            ungreeted_told: false,
            certain: matches!(start, Start::After(Position::Cursor(_))),
            owes_gap: false,
            gap_ahead: None,
            led: false,
            from_start: matches!(start, Start::After(Position::Seq(0))),
            told: None,
        };
        match start {
            Start::Live => {
                self.judgement.chosen_live += u64::from(again);
                self.lose_missing();
                self.at = At::Since(at_ms);
            }
            Start::Snapshot => {
                self.judgement.chosen_live += u64::from(again);
                self.lose_missing();
                (self.at, self.taking) = (At::Nowhere, Some(Taking::new(at_ms)));
            }
            Start::After(position) => {
                self.judgement.resumes += u64::from(again);
                let epoch = match position {
                    Position::Cursor(cursor) => Some(cursor.epoch),
                    Position::Seq(_) => None,
                };
                // A cursor of another life says nothing about this one: hello and gap will.
                if epoch.is_none_or(|epoch| epoch == self.life().epoch) {
                    self.resume(position.seq());
                }
            }
        }
    }

    /// It comes back behind `seq`, which must be no further than it was.
    fn resume(&mut self, seq: u64) {
        if seq > self.flagged
            && self.judgement.connections > 1
            && let Some(skipped) = self.skipped(seq)
        {
            self.wrong(Class::Gap, skipped, || format!("came back behind {seq}, but this never came"));
        }
        if matches!(self.at, At::Behind(at) if seq < at) {
            // Everything behind it is due again; what was left out before is lost all the same.
            self.lose_missing();
        }
        self.at = At::Behind(seq);
    }

    /// The first event up to `seq` that is due and has not come.
    fn skipped(&self, seq: u64) -> Option<u64> {
        let next = self.next()?;
        self.life().shown.get(next).map(|event| event.seq).filter(|first| *first <= seq)
    }

    /// The place in the life of the next event that is due.
    fn next(&self) -> Option<usize> {
        let shown = &self.life().shown;
        match self.at {
            At::Nowhere => None,
            // Of two leaders, the clocks may differ: no order in them is relied on.
            At::Since(at_ms) => shown.iter().position(|event| event.ts_ms > at_ms.saturating_add(LIVE_MS)),
            At::Behind(at) => Some(shown.partition_point(|event| event.seq <= at)),
        }
    }

    fn hello(&mut self, epoch: Epoch, head: u64) {
        let again = std::mem::replace(&mut self.connection.greeted, true);
        let ahead = self.connection.gap_ahead.take();
        let Some(life) = self.log.lives.iter().position(|life| life.epoch == epoch) else {
            self.wrong(Class::Gap, head, || format!("hello of {epoch}, a life that the stream never had"));
            return;
        };
        if again {
            if life != self.life {
                self.enter(life);
                // A snapshot that has not come yet is taken anew in that life.
                self.connection.owes_gap = self.taking.is_none();
                self.announced_ahead(ahead);
                if let Some(taking) = &mut self.taking {
                    *taking = Taking::new(self.connection.opened_ms);
                }
            }
            return;
        }
        self.connection.certain = true;
        match self.connection.start {
            Start::Live => {
                let opened_ms = self.connection.opened_ms;
                self.enter(life);
                self.at = At::Since(opened_ms);
                if let Some(skipped) = self.skipped(head) {
                    self.wrong(Class::Gap, skipped, || {
                        format!("stored after the connection was opened, but its hello begins behind {head}")
                    });
                }
                self.at = At::Behind(head);
            }
            Start::Snapshot => {
                self.enter(life);
                self.at = At::Nowhere;
            }
            Start::After(Position::Cursor(cursor)) if cursor.epoch != epoch => {
                self.enter(life);
                self.connection.owes_gap = true;
                self.announced_ahead(ahead);
            }
            Start::After(position) if life != self.life => {
                self.enter(life);
                self.at = At::Behind(position.seq());
            }
            Start::After(_) => {}
        }
    }

    /// The gap that leads into a life comes before its hello: who is cut off between the two is told again.
    fn announced_ahead(&mut self, gap_to: Option<u64>) {
        if let (Some(to), true) = (gap_to, self.connection.owes_gap) {
            (self.connection.owes_gap, self.connection.led) = (false, true);
            (self.gap_to, self.at) = (to, At::Behind(to));
        }
    }

    /// The client is in another life: what the former one still owed is gone with it, and of this one all is due.
    fn enter(&mut self, life: usize) {
        self.lose_missing();
        self.life = life;
        (self.at, self.gap_to, self.flagged) = (At::Behind(0), 0, 0);
    }

    /// What is announced as missing.
    fn gap(&mut self, from: u64, to: u64) {
        self.judgement.announced += 1;
        self.connection.owes_gap = false;
        // One that leads into another life begins at its beginning.
        self.connection.gap_ahead = (from <= 1).then_some(to);
        if std::mem::take(&mut self.connection.led) {
            (self.gap_to, self.at) = (0, At::Behind(0));
        }
        self.connection.from_start = false;
        self.gap_to = self.gap_to.max(to);
        if self.taking.is_some() {
            return;
        }
        let shown = &self.life().shown;
        let begin = shown.partition_point(|event| event.seq < from);
        let end = shown.partition_point(|event| event.seq <= to);
        let next = self.next().unwrap_or(begin);
        let excused = begin.max(next)..end.max(begin).max(next);
        let needless = excused.clone().any(|index| shown[index].seq > self.life().trimmed);
        // What was left out before the gap began nobody has said anything about.
        self.missing.extend(next..begin);
        self.judgement.excused += excused.len() as u64;
        self.judgement.needless += u64::from(needless);
        self.at = match self.at {
            At::Behind(at) => At::Behind(at.max(to)),
            At::Since(_) | At::Nowhere => At::Behind(to),
        };
    }

    fn live(&mut self, after: u64) {
        if let Some(taking) = self.taking.take() {
            let outcome = taking.at_cut(self.life(), after);
            self.note_snapshot(&outcome);
        } else if let Some(skipped) = self.skipped(after) {
            self.wrong(Class::Gap, skipped, || format!("said to be live behind {after}, but this never came"));
        }
        if !matches!(self.at, At::Behind(at) if at > after) {
            self.at = At::Behind(after);
        }
    }

    /// A snapshot was broken off by the end of its connection.
    fn drop_snapshot(&mut self) {
        let Some(taking) = self.taking.take() else { return };
        if self.notes.kind == Kind::Plain {
            let outcome = taking.guess(self.life(), 0);
            self.note_snapshot(&outcome);
            self.at = taking.last(self.life()).map_or(At::Nowhere, At::Behind);
        } else {
            let outcome = taking.broken_off(self.life());
            self.note_snapshot(&outcome);
        }
    }

    fn note_snapshot(&mut self, outcome: &snapshot::Outcome) {
        let seq = |judge: &Self, index: usize| judge.life().shown[index].seq;
        for (class, indexes, what) in [
            (Class::Lost, &outcome.missing, "not in the snapshot, or left out behind it"),
            (Class::Lost, &outcome.behind, "never came behind the snapshot"),
            (Class::Doubled, &outcome.doubled, "twice in a snapshot"),
            (Class::Reordered, &outcome.reordered, "behind later ones in a snapshot"),
            (Class::Foreign, &outcome.stale, "has no place in the snapshot"),
        ] {
            for index in indexes {
                self.wrong(class, seq(self, *index), || what.into());
            }
        }
    }

    /// The end: what is still due never came.
    fn finish(mut self) -> Judgement {
        let due = self.log.due;
        let present = self.log.lives.len() - 1;
        if self.life != present {
            let at = self.at;
            self.enter(present);
            if !self.connection.certain {
                self.at = at;
            }
        }
        if let Some(taking) = self.taking.take() {
            if self.notes.kind == Kind::Plain {
                let outcome = taking.guess(self.life(), due);
                self.note_snapshot(&outcome);
            } else {
                let outcome = taking.broken_off(self.life());
                self.note_snapshot(&outcome);
                let owed = self.life().shown.first().map(|event| event.seq).filter(|first| *first <= due);
                if let Some(seq) = owed {
                    self.wrong(Class::Lost, seq, || "the snapshot never came to its end".into());
                }
            }
            self.at = At::Nowhere;
        }
        if self.judgement.connections > 0
            && let Some(next) = self.next()
        {
            let end = self.life().shown.partition_point(|event| event.seq <= due);
            self.missing.extend(next..end);
        }
        self.lose_missing();
        self.judgement
    }

    fn lose_missing(&mut self) {
        for index in std::mem::take(&mut self.missing) {
            let seq = self.life().shown[index].seq;
            self.wrong(Class::Lost, seq, || "never came".into());
        }
    }

    fn life(&self) -> &'a Life {
        &self.log.lives[self.life]
    }

    fn wrong(&mut self, class: Class, seq: u64, what: impl FnOnce() -> String) {
        let who = Who { kind: self.notes.kind, staying: self.notes.staying, connection: self.judgement.connections };
        self.judgement.found.add(class, &self.log.session, &who, seq, what);
    }
}

/// A client, for people.
struct Who {
    kind: Kind,
    staying: bool,
    connection: u64,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let staying = if self.staying { " staying" } else { "" };
        write!(f, "{}{staying} client, connection {}", super::report::name(self.kind), self.connection)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => f.write_str("nowhere"),
            Self::Since(at_ms) => write!(f, "live since {at_ms}"),
            Self::Behind(seq) => write!(f, "behind {seq}"),
        }
    }
}

#[cfg(test)]
mod tests;
