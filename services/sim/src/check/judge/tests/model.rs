//! A log by lot, and clients by lot that a flawless door serves: what they note must be judged clean.

use herald_protocol::{Cursor, Epoch, Position, SessionId};

use crate::{
    check::{
        judge::{Judgement, LIVE_MS, client},
        notes::{Kind, Note, Notes, Start},
        truth::{Life, SessionLog, Shown},
    },
    dice::Dice,
    frame::Control,
};

/// Between two events, ms: what is stored behind an opening is surely due.
pub(super) const APART_MS: u64 = LIVE_MS + 10;
const HOUR: u64 = 3_600_000;

pub(super) fn session() -> SessionId {
    SessionId::new("s").unwrap()
}

/// A life with these sequences; `topics` are given in turn, 0 for none.
pub(super) fn life(number: u32, seqs: &[u64], topics: &[u16]) -> Life {
    let mut life = Life::new(Epoch::new(number));
    let topics = topics.iter().cycle();
    for (place, (seq, topic)) in (1..).zip(seqs.iter().zip(topics)) {
        let ts_ms = u64::from(number) * HOUR + place * APART_MS;
        let hash = (u64::from(number) << 32) + seq * 7;
        life.shown.push(Shown { seq: *seq, ts_ms, hash, topic: topic.checked_sub(1) });
    }
    life.through = seqs.last().copied().unwrap_or(0) + 100;
    life
}

pub(super) fn log_of(lives: Vec<Life>) -> SessionLog {
    let mut log = SessionLog::new(session(), Epoch::new(1));
    log.lives = lives;
    log
}

/// The frame of an event as a flawless door sends it.
pub(super) fn frame(log: &SessionLog, life: usize, index: usize, kind: Kind, snapshot: bool) -> Note {
    let shown = &log.lives[life].shown;
    let event = shown[index];
    let before = index.checked_sub(1).map_or(0, |before| shown[before].seq);
    Note::Event {
        seq: event.seq,
        prev: (kind == Kind::V1 && !snapshot).then_some(before),
        hash: event.hash,
        snapshot: snapshot && kind == Kind::V1,
        at_ms: event.ts_ms + 5,
        ts: event.ts_ms,
    }
}

/// One client as it is served, over all of its connections.
pub(super) struct Served<'a> {
    pub(super) log: &'a SessionLog,
    kind: Kind,
    dice: Dice,
    /// The stream's life, and how many of its events are stored.
    life: usize,
    stored: usize,
    /// Where the client is: the life it knows of, and the number of events behind it.
    known: usize,
    place: usize,
    /// It has something to come back with.
    has_cursor: bool,
    notes: Vec<Note>,
}

impl<'a> Served<'a> {
    pub(super) fn play(log: &'a SessionLog, seed: u64) -> Notes {
        let mut dice = Dice::new(seed, "client");
        let kind = [Kind::Plain, Kind::V1, Kind::Sse][dice.index(3)];
        let mut served =
            Self { log, kind, dice, life: 0, stored: 0, known: 0, place: 0, has_cursor: false, notes: Vec::new() };
        for _ in 0..1 + served.dice.index(8) {
            served.connection(false);
        }
        (served.life, served.stored) = (log.lives.len() - 1, log.life().shown.len());
        served.connection(true);
        Notes { session: session(), kind, staying: false, notes: served.notes }
    }

    fn life(&self) -> &'a Life {
        &self.log.lives[self.life]
    }

    fn now_ms(&self) -> u64 {
        match self.stored.checked_sub(1) {
            Some(last) => self.life().shown[last].ts_ms + 1,
            None => u64::from(self.life as u32 + 1) * HOUR,
        }
    }

    /// Time passes: events are stored, or another life begins.
    fn pass(&mut self) {
        if self.life + 1 < self.log.lives.len() && self.dice.chance(0.1) {
            (self.life, self.stored) = (self.life + 1, 0);
        }
        let left = self.life().shown.len() - self.stored;
        self.stored += self.dice.index(left.min(9) + 1);
    }

    fn epoch(&self) -> Epoch {
        self.life().epoch
    }

    fn seq(&self, place: usize) -> u64 {
        place.checked_sub(1).map_or(0, |last| self.life().shown[last].seq)
    }

    fn cursor(&self) -> Cursor {
        Cursor { epoch: self.epoch(), seq: self.seq(self.place) }
    }

    fn has_control(&self) -> bool {
        self.kind != Kind::Plain
    }

    /// One connection from its opening to its end. The last one gets everything.
    fn connection(&mut self, last: bool) {
        if !last {
            self.pass();
        }
        let resumes = self.has_cursor && self.dice.chance(0.7);
        let start = if resumes {
            let place = &self.log.lives[self.known];
            let seq = self.place.checked_sub(1).map_or(0, |last| place.shown[last].seq);
            match self.kind {
                Kind::Plain => Start::After(Position::Seq(seq)),
                Kind::V1 | Kind::Sse => Start::After(Position::Cursor(Cursor { epoch: place.epoch, seq })),
            }
        } else {
            [Start::Live, Start::After(Position::Seq(0)), Start::Snapshot][self.dice.index(3)]
        };
        self.notes.push(Note::Opened { at_ms: self.now_ms(), start });
        let head = self.stored - self.dice.index(self.stored.min(3) + 1);
        let strange = self.known != self.life && matches!(start, Start::After(Position::Cursor(_)));
        if self.has_control() {
            let hello = Note::Control(Control::Hello { epoch: self.epoch(), head: self.seq(head), heartbeat_ms: 0 });
            if strange { self.announce(hello) } else { self.notes.push(hello) }
        }
        self.has_cursor |= self.has_control();
        match start {
            Start::Live => self.place = head,
            Start::Snapshot => {
                if !self.snapshot(head, last) {
                    return self.close(None, None);
                }
            }
            Start::After(Position::Seq(seq)) => {
                self.place = self.life().shown.partition_point(|event| event.seq <= seq);
                if self.place > self.stored {
                    // Beyond the head of the life that is there now: a plain client has to come back from its beginning.
                    (self.place, self.known) = (0, self.life);
                    let after = self.cursor();
                    return self.close(Some(4410), Some(after));
                }
            }
            Start::After(Position::Cursor(_)) if strange => self.place = 0,
            Start::After(Position::Cursor(_)) => {}
        }
        self.known = self.life;
        self.run(last);
    }

    /// Another life: the gap that leads into it, before or behind its greeting.
    fn announce(&mut self, hello: Note) {
        let mut both = [Note::Control(Control::Gap { from: 1, to: 0 }), hello];
        if self.dice.chance(0.5) {
            both.reverse();
        }
        self.notes.extend(both);
    }

    /// The state at a cut. False where the connection was broken off.
    fn snapshot(&mut self, cut: usize, last: bool) -> bool {
        let shown = &self.life().shown[..cut];
        let is_last = |index: usize| {
            let topic = shown[index].topic;
            topic.is_some() && shown[index + 1..].iter().all(|later| later.topic != topic)
        };
        let state: Vec<usize> = (0..cut).filter(|index| is_last(*index)).collect();
        let broken_off = !last && self.dice.chance(0.2);
        let sent = if broken_off { self.dice.index(state.len() + 1) } else { state.len() };
        let came_ms = self.now_ms();
        for index in &state[..sent] {
            let mut note = frame(self.log, self.life, *index, self.kind, true);
            if let Note::Event { at_ms, .. } = &mut note {
                *at_ms = came_ms;
            }
            self.notes.push(note);
        }
        if broken_off {
            self.has_cursor = false;
            return false;
        }
        self.place = cut;
        // A plain client can't tell where it is until something follows, so it takes another one.
        self.has_cursor = self.has_control();
        if self.has_control() {
            let after = self.seq(cut);
            self.notes.push(Note::Control(Control::Live { after }));
        }
        true
    }

    /// The live part of a connection.
    fn run(&mut self, last: bool) {
        let fresh_plain = !self.has_control();
        for _ in 0..self.dice.index(4) {
            if last {
                break;
            }
            let before = self.life;
            self.pass();
            if self.life != before {
                // Another life: who knows the word is told and goes on, the others have to come back.
                self.place = 0;
                self.known = self.life;
                let after = self.cursor();
                self.has_cursor = true;
                if fresh_plain {
                    return self.close(Some(4410), Some(after));
                }
                self.announce(Note::Control(Control::Hello { epoch: self.epoch(), head: 0, heartbeat_ms: 0 }));
            }
            if self.dice.chance(0.1) && self.place + 3 < self.stored {
                // Trimmed, as far as the door says.
                let to = self.place + 1 + self.dice.index(2);
                let (from, end) = (self.seq(self.place) + 1, self.seq(to));
                self.place = to;
                if fresh_plain {
                    let after = self.cursor();
                    self.has_cursor = true;
                    return self.close(Some(4410), Some(after));
                }
                self.notes.push(Note::Control(Control::Gap { from, to: end }));
            }
            let until = self.place + self.dice.index(self.stored - self.place + 1);
            self.deliver(until);
        }
        if last || self.dice.chance(0.5) {
            self.deliver(self.stored);
        }
        let known = self.has_cursor || self.has_control();
        if known && self.dice.chance(0.3) {
            let after = self.cursor();
            if self.has_control() {
                self.notes.push(Note::Control(Control::Bye { after, retry_ms: 0 }));
            }
            self.close((self.kind != Kind::Sse).then_some(1012), (self.kind != Kind::Sse).then_some(after));
        } else if self.dice.chance(0.8) {
            self.close(None, None);
        }
    }

    fn deliver(&mut self, until: usize) {
        for index in self.place..until {
            self.notes.push(frame(self.log, self.life, index, self.kind, false));
            self.has_cursor = true;
        }
        self.place = self.place.max(until);
    }

    fn close(&mut self, code: Option<u16>, after: Option<Cursor>) {
        self.notes.push(Note::Closed { at_ms: self.now_ms(), code, after });
    }
}

/// A log by lot: one or two lives of some dozen events.
pub(super) fn random_log(seed: u64) -> SessionLog {
    let mut dice = Dice::new(seed, "log");
    let lives = 1 + dice.index(2);
    let lives = (0..lives).map(|number| {
        let mut seq = 0;
        let seqs: Vec<u64> = (0..10 + dice.index(60))
            .map(|_| {
                seq += 1 + dice.index(4) as u64;
                seq
            })
            .collect();
        let topics: Vec<u16> = (0..7).map(|_| [0, 0, 0, 1, 2, 3][dice.index(6)]).collect();
        life(number as u32 + 1, &seqs, &topics)
    });
    log_of(lives.collect())
}

pub(super) fn judged(log: &SessionLog, notes: &Notes) -> Judgement {
    client(log, notes)
}

#[test]
fn whoever_is_served_without_fault_is_judged_clean() {
    let (mut deliveries, mut gaps, mut resumes) = (0, 0, 0);
    for seed in 0..6_000 {
        let log = random_log(seed);
        let notes = Served::play(&log, seed);
        let judgement = judged(&log, &notes);
        assert!(judgement.found.is_clean(), "seed {seed}: {:#?}\n{:#?}", judgement.found.examples, notes);
        deliveries += judgement.deliveries;
        gaps += judgement.announced;
        resumes += judgement.resumes;
    }
    assert!(deliveries > 120_000 && gaps > 600 && resumes > 6_000, "{deliveries} {gaps} {resumes}");
}
