//! Cases worth a name.

use herald_protocol::{Cursor, Epoch, Position};

use super::model::{APART_MS, frame, judged, life, log_of, session};
use crate::{
    check::{
        findings::Counts,
        judge::{Judgement, LIVE_MS},
        notes::{Kind, Note, Notes, Start},
        truth::SessionLog,
    },
    frame::Control,
};

const CLEAN: Counts = Counts { lost: 0, doubled: 0, reordered: 0, foreign: 0, gaps: 0 };

fn after(seq: u64) -> Start {
    Start::After(Position::Seq(seq))
}

fn cursor(epoch: u32, seq: u64) -> Cursor {
    Cursor { epoch: Epoch::new(epoch), seq }
}

fn at(epoch: u32, seq: u64) -> Start {
    Start::After(Position::Cursor(cursor(epoch, seq)))
}

/// A client that is told what it notes.
struct Told<'a> {
    log: &'a SessionLog,
    notes: Notes,
}

impl<'a> Told<'a> {
    fn new(log: &'a SessionLog, kind: Kind) -> Self {
        Self { log, notes: Notes { session: session(), kind, staying: true, notes: Vec::new() } }
    }

    fn note(mut self, note: Note) -> Self {
        self.notes.notes.push(note);
        self
    }

    fn says(self, control: Control) -> Self {
        self.note(Note::Control(control))
    }

    fn opened(self, at_ms: u64, start: Start) -> Self {
        self.note(Note::Opened { at_ms, start })
    }

    fn hello(self, epoch: u32, head: u64) -> Self {
        self.says(Control::Hello { epoch: Epoch::new(epoch), head, heartbeat_ms: 0 })
    }

    /// Events by their place in a life.
    fn events(mut self, life: usize, indexes: impl IntoIterator<Item = usize>) -> Self {
        for index in indexes {
            self.notes.notes.push(frame(self.log, life, index, self.notes.kind, false));
        }
        self
    }

    fn closed(self, code: Option<u16>, after: Option<Cursor>) -> Self {
        self.note(Note::Closed { at_ms: 0, code, after })
    }

    fn judged(&self) -> Judgement {
        judged(self.log, &self.notes)
    }

    fn counts(&self) -> Counts {
        self.judged().found.counts
    }
}

/// Ten events, 10, 20, ... 100, of topics 1, 2, none in turn.
fn log() -> SessionLog {
    let seqs: Vec<u64> = (1..=10).map(|number| number * 10).collect();
    log_of(vec![life(1, &seqs, &[1, 2, 0])])
}

/// When event `index` of a life was stored.
fn ts(log: &SessionLog, life: usize, index: usize) -> u64 {
    log.lives[life].shown[index].ts_ms
}

#[test]
fn a_plain_live_client_may_begin_early_but_not_late() {
    let log = log();
    let opened = ts(&log, 0, 4) + 1;
    let client = |first| Told::new(&log, Kind::Plain).opened(opened, Start::Live).events(0, first..10).counts();
    assert_eq!(client(5), CLEAN);
    assert_eq!(client(2), CLEAN, "its edge lags");
    assert_eq!(client(6), Counts { lost: 1, ..CLEAN });
    assert_eq!(client(10), Counts { lost: 5, ..CLEAN }, "nothing at all");
    let soon = Told::new(&log, Kind::Plain).opened(ts(&log, 0, 5) - LIVE_MS, Start::Live);
    assert_eq!(soon.events(0, 6..10).counts(), CLEAN, "the moment it was let in");
}

#[test]
fn what_a_live_client_missed_between_its_connections_is_not_lost() {
    let log = log();
    let told = Told::new(&log, Kind::V1).opened(ts(&log, 0, 1), Start::Live).hello(1, 20).events(0, 2..4);
    let told = told.closed(None, None).opened(ts(&log, 0, 7), Start::Live).hello(1, 80).events(0, 8..10);
    let judgement = told.judged();
    assert_eq!((judgement.found.counts, judgement.chosen_live, judgement.resumes), (CLEAN, 1, 0));
}

#[test]
fn coming_back_by_cursor_brings_exactly_what_is_behind() {
    let log = log();
    let first = || Told::new(&log, Kind::Sse).opened(0, after(0)).hello(1, 0).events(0, 0..4).closed(None, None);
    let back = |from| first().opened(0, at(1, 40)).hello(1, 100).events(0, from..10).counts();
    assert_eq!(back(4), CLEAN);
    assert_eq!(back(3), Counts { doubled: 1, ..CLEAN });
    assert_eq!(back(6), Counts { lost: 2, ..CLEAN });
    let judgement = first().opened(0, at(1, 40)).hello(1, 100).judged();
    assert_eq!((judgement.found.counts.lost, judgement.resumes), (6, 1), "nothing again is only fine where nothing is");
    let own_mistake = first().opened(0, at(1, 60)).hello(1, 100).events(0, 6..10).counts();
    assert_eq!(own_mistake, Counts { gaps: 1, ..CLEAN }, "a client of the checker that skips hides losses");
    let again = first().opened(0, after(0)).hello(1, 100).events(0, 0..10).counts();
    assert_eq!(again, CLEAN, "it asked for it again");
}

#[test]
fn what_comes_late_in_another_connection_is_out_of_order() {
    let log = log();
    let told = Told::new(&log, Kind::V1).opened(0, after(0)).hello(1, 0).events(0, [0, 1, 3]).closed(None, None);
    let told = told.opened(0, at(1, 40)).hello(1, 100).events(0, [2]).events(0, 4..10);
    assert_eq!(told.counts(), Counts { reordered: 1, ..CLEAN });
}

#[test]
fn the_cursor_of_a_bye_is_checked_once_and_both_ways() {
    let log = log();
    let told = |seq| {
        let told = Told::new(&log, Kind::V1).opened(0, after(0)).hello(1, 0).events(0, 0..4);
        told.says(Control::Bye { after: cursor(1, seq), retry_ms: 0 }).closed(Some(1012), Some(cursor(1, seq)))
    };
    let back = |seq: u64, from| told(seq).opened(0, at(1, seq)).hello(1, 100).events(0, from..10).counts();
    assert_eq!(back(40, 4), CLEAN);
    assert_eq!(back(49, 4), CLEAN, "nothing is between");
    assert_eq!(back(50, 5), Counts { gaps: 1, ..CLEAN });
    assert_eq!(back(35, 3), Counts { doubled: 1, ..CLEAN });
    let stubborn = told(50).opened(0, at(1, 40)).hello(1, 100).events(0, 4..10).counts();
    assert_eq!(stubborn, Counts { gaps: 1, ..CLEAN }, "whoever does not trust it, the next one would have");
}

#[test]
fn a_plain_client_that_saw_nothing_is_not_sent_past_what_it_should_have_seen() {
    let log = log();
    let told = |seq| {
        let told = Told::new(&log, Kind::Plain).opened(ts(&log, 0, 3), Start::Live);
        told.closed(Some(1012), Some(cursor(1, seq))).opened(0, at(1, seq))
    };
    assert_eq!(told(40).events(0, 4..10).counts(), CLEAN);
    assert_eq!(told(60).events(0, 6..10).counts(), Counts { gaps: 1, ..CLEAN });
}

#[test]
fn an_announced_gap_excuses_what_it_covers_and_is_shown() {
    let mut log = log();
    let gapped = |log: &SessionLog, from, to| {
        let told = Told::new(log, Kind::Sse).opened(0, after(0)).hello(1, 0).events(0, 0..2);
        told.says(Control::Gap { from, to }).events(0, 5..10).judged()
    };
    let judgement = gapped(&log, 21, 50);
    assert_eq!((judgement.found.counts, judgement.announced), (CLEAN, 1));
    assert_eq!((judgement.excused, judgement.needless), (3, 1));
    assert_eq!(gapped(&log, 21, 40).found.counts, Counts { lost: 1, ..CLEAN });
    assert_eq!(gapped(&log, 35, 50).found.counts, Counts { lost: 1, ..CLEAN });
    assert_eq!(gapped(&log, 21, 60).found.counts, Counts { doubled: 1, ..CLEAN }, "announced, and then it came");
    log.lives[0].trimmed = 50;
    assert_eq!(gapped(&log, 21, 50).needless, 0);
    let plain =
        Told::new(&log, Kind::Plain).opened(0, after(0)).events(0, 0..2).closed(Some(4410), Some(cursor(1, 50)));
    let judgement = plain.opened(0, at(1, 50)).events(0, 5..10).judged();
    assert_eq!((judgement.found.counts, judgement.announced, judgement.excused), (CLEAN, 1, 3));
}

#[test]
fn who_asks_for_what_there_is_gets_what_is_kept() {
    let mut log = log();
    log.lives[0].trimmed = 30;
    let plain = |from| Told::new(&log, Kind::Plain).opened(0, after(0)).events(0, from..10).counts();
    assert_eq!((plain(0), plain(3)), (CLEAN, CLEAN));
    assert_eq!(plain(4), Counts { lost: 1, ..CLEAN });
    let resumed = Told::new(&log, Kind::Plain).opened(0, after(10)).events(0, 3..10).counts();
    assert_eq!(resumed, Counts { lost: 2, ..CLEAN }, "a gap is announced");
    let v1 = |prev| {
        let mut told = Told::new(&log, Kind::V1).opened(0, after(0)).hello(1, 100).events(0, 3..10);
        if let Note::Event { prev: said, .. } = &mut told.notes.notes[2] {
            *said = Some(prev);
        }
        told.counts()
    };
    assert_eq!((v1(30), v1(0)), (CLEAN, CLEAN), "nothing before it is kept");
    assert_eq!(v1(20), Counts { gaps: 1, ..CLEAN });
}

#[test]
fn prev_is_exact_from_the_first_event_on() {
    let log = log();
    let v1 = |prev| {
        let mut told = Told::new(&log, Kind::V1).opened(ts(&log, 0, 4), Start::Live).hello(1, 55).events(0, 5..10);
        if let Note::Event { prev: said, .. } = &mut told.notes.notes[2] {
            *said = prev;
        }
        told.counts()
    };
    assert_eq!(v1(Some(50)), CLEAN);
    for wrong in [Some(0), Some(40), Some(55), Some(60), None] {
        assert_eq!(v1(wrong), Counts { gaps: 1, ..CLEAN }, "{wrong:?}");
    }
}

fn two_lives() -> SessionLog {
    // As after a rollback: what both have in common is in both.
    let mut log = log_of(vec![life(1, &[10, 20, 30, 40], &[1, 0]), life(2, &[10, 20, 25, 45], &[1, 0])]);
    let (common, next) = log.lives.split_at_mut(1);
    next[0].shown[..2].copy_from_slice(&common[0].shown[..2]);
    log
}

#[test]
fn another_life_is_announced_and_comes_whole() {
    let log = two_lives();
    let running = |gap: bool, from| {
        let told = Told::new(&log, Kind::V1).opened(0, after(0)).hello(1, 0).events(0, 0..3).hello(2, 45);
        let told = if gap { told.says(Control::Gap { from: 1, to: 0 }) } else { told };
        told.events(1, from..4).counts()
    };
    assert_eq!(running(true, 0), CLEAN, "what the former life still owed is gone with it");
    assert_eq!(running(true, 2), Counts { lost: 2, ..CLEAN });
    assert_eq!(running(false, 0), Counts { gaps: 1, ..CLEAN });
    let resumed = |gap: bool| {
        let told = Told::new(&log, Kind::Sse).opened(0, after(0)).hello(1, 0).events(0, 0..4).closed(None, None);
        let told = told.opened(0, at(1, 40)).hello(2, 45);
        let told = if gap { told.says(Control::Gap { from: 1, to: 0 }) } else { told };
        told.events(1, 0..4).counts()
    };
    // The other way round, as the door says it.
    let ahead = Told::new(&log, Kind::V1).opened(0, after(0)).hello(1, 0).events(0, 0..3);
    let ahead = ahead.says(Control::Gap { from: 1, to: 0 }).hello(2, 45).events(1, 0..4).counts();
    assert_eq!(ahead, CLEAN);
    let ahead = Told::new(&log, Kind::Sse).opened(0, at(1, 40)).says(Control::Gap { from: 1, to: 0 }).hello(2, 45);
    assert_eq!(ahead.events(1, 1..4).counts(), Counts { lost: 1, ..CLEAN });
    assert_eq!((resumed(true), resumed(false)), (CLEAN, Counts { gaps: 1, ..CLEAN }));
}

#[test]
fn the_unread_end_of_a_life_that_is_over_is_not_judged() {
    let whole = two_lives();
    let mut log = whole.clone();
    log.lives[0].shown.truncate(2);
    log.lives[0].through = 25;
    let client = |from: usize| {
        let mut told = Told::new(&whole, Kind::Sse).opened(0, after(0)).hello(1, 0).events(0, from..4);
        told.log = &log;
        let told = told.says(Control::Gap { from: 1, to: 0 }).hello(2, 45);
        Told { log: &whole, notes: told.notes }.events(1, 0..4).notes
    };
    assert_eq!(judged(&log, &client(0)).found.counts, CLEAN);
    let stranger = Note::Event { seq: 24, prev: None, hash: 1, snapshot: false, at_ms: 0, ts: 0 };
    let mut notes = client(0);
    notes.notes.insert(4, stranger);
    assert_eq!(judged(&log, &notes).found.counts, Counts { foreign: 1, ..CLEAN }, "that part is known");
}

#[test]
fn an_epoch_that_is_ignored_is_found() {
    let log = two_lives();
    // The old cursor is taken for a place in the new life.
    for kind in [Kind::V1, Kind::Sse] {
        let told = Told::new(&log, kind).opened(0, after(0)).hello(1, 0).events(0, 0..4).closed(None, None);
        let misread = told.opened(0, at(1, 40)).hello(2, 45).events(1, 3..4).counts();
        assert_eq!((misread.gaps, misread.lost), (1, 3), "{kind:?}");
        let told = Told::new(&log, kind).opened(0, after(0)).hello(1, 0).events(0, 0..4);
        let silent = told.events(1, 2..4).counts();
        assert_eq!((silent.gaps, silent.lost), (1, 2), "{kind:?}, without a hello");
    }
    let plain = Told::new(&log, Kind::Plain).opened(0, after(0)).events(0, 0..4);
    assert_eq!(plain.events(1, 2..4).counts().gaps, 1, "a plain client has to be closed");
    let closed =
        Told::new(&log, Kind::Plain).opened(0, after(0)).events(0, 0..4).closed(Some(4410), Some(cursor(2, 0)));
    assert_eq!(closed.opened(0, at(2, 0)).events(1, 0..4).counts(), CLEAN);
    let unheard = Told::new(&log, Kind::V1).opened(0, after(0)).hello(1, 0).events(0, 0..4).counts();
    assert_eq!(unheard, Counts { lost: 4, ..CLEAN }, "the other life never came");
    let stranger = Told::new(&log, Kind::V1).opened(0, at(2, 0)).hello(9, 0).counts();
    assert_eq!((stranger.gaps, stranger.lost), (1, 4));
}

#[test]
fn a_snapshot_is_one_cut_and_what_follows() {
    let log = log();
    // At the cut 80: topic 1 at 70, topic 2 at 80.
    let snapshot = |state: &[usize], cut, from| {
        let mut told = Told::new(&log, Kind::V1).opened(ts(&log, 0, 7) + 1, Start::Snapshot).hello(1, 80);
        for index in state {
            told = told.note(frame(&log, 0, *index, Kind::V1, true));
        }
        told.says(Control::Live { after: cut }).events(0, from..10).counts()
    };
    assert_eq!(snapshot(&[6, 7], 80, 8), CLEAN);
    assert_eq!(snapshot(&[6, 7], 85, 8), CLEAN);
    assert_eq!(snapshot(&[6, 4], 75, 7), Counts { reordered: 1, ..CLEAN }, "by sequence");
    assert_eq!(snapshot(&[4, 6], 75, 7), CLEAN, "a replica from behind");
    assert_eq!(snapshot(&[4, 6], 80, 8), Counts { lost: 1, ..CLEAN }, "seam reversed: 80 is in neither");
    assert_eq!(snapshot(&[6, 7], 80, 9), Counts { lost: 1, ..CLEAN });
    assert_eq!(snapshot(&[6, 7], 70, 8), Counts { lost: 2, ..CLEAN }, "50 had its place there, and 80 behind the cut");
    assert_eq!(snapshot(&[6, 7, 8], 95, 9), Counts { foreign: 1, ..CLEAN }, "90 is of no topic");
    assert_eq!(snapshot(&[6, 7, 8], 85, 9), Counts { foreign: 1, lost: 1, ..CLEAN }, "nor was it before the cut");
    let unfinished = Told::new(&log, Kind::Sse).opened(0, Start::Snapshot).hello(1, 80).events(0, [6]).counts();
    assert_eq!(unfinished.lost, 1);
    let broken_off =
        Told::new(&log, Kind::Sse).opened(0, Start::Snapshot).hello(1, 80).events(0, [6]).closed(None, None);
    let again = broken_off.opened(0, Start::Snapshot).hello(1, 80).events(0, [6, 7]).says(Control::Live { after: 80 });
    assert_eq!(again.events(0, 8..10).counts(), CLEAN);
}

#[test]
fn a_plain_snapshot_is_explained_by_some_cut() {
    let log = log();
    let opened = ts(&log, 0, 7) + 1;
    let snapshot = |indexes: &[usize]| {
        let mut told = Told::new(&log, Kind::Plain).opened(opened, Start::Snapshot).events(0, indexes.iter().copied());
        for note in &mut told.notes.notes {
            if let Note::Event { at_ms, .. } = note {
                *at_ms = (*at_ms).max(opened + APART_MS);
            }
        }
        told
    };
    assert_eq!(snapshot(&[6, 7, 8, 9]).counts(), CLEAN);
    assert_eq!(snapshot(&[4, 6, 7, 8, 9]).counts(), CLEAN, "a replica from behind");
    assert_eq!(snapshot(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]).counts(), CLEAN, "cut at nothing");
    assert_eq!(snapshot(&[7, 8, 9]).counts(), Counts { lost: 1, ..CLEAN });
    assert_eq!(snapshot(&[6, 7, 8]).counts(), Counts { lost: 1, ..CLEAN });
    assert_eq!(snapshot(&[6, 7, 8, 8, 9]).counts(), Counts { doubled: 1, ..CLEAN });
    assert_eq!(snapshot(&[6, 7, 9, 8]).counts(), Counts { reordered: 1, ..CLEAN });
    assert_eq!(snapshot(&[]).counts().lost, 2, "two topics at least");
    let sent_away = |seq| snapshot(&[6, 7, 8]).closed(Some(1012), Some(cursor(1, seq))).opened(0, at(1, seq));
    assert_eq!(sent_away(90).events(0, 9..10).counts(), CLEAN);
    assert_eq!(sent_away(100).counts(), Counts { gaps: 1, ..CLEAN });
    let broken_off = snapshot(&[6]).closed(None, None).opened(ts(&log, 0, 9), Start::Live).counts();
    assert_eq!(broken_off, CLEAN);
}

#[test]
fn hidden_or_unknown_events_are_foreign() {
    let log = log();
    let note = Note::Event { seq: 15, prev: Some(10), hash: 3, snapshot: false, at_ms: 0, ts: 0 };
    let told = Told::new(&log, Kind::V1).opened(0, after(0)).hello(1, 0).events(0, 0..1).note(note).events(0, 1..10);
    assert_eq!(told.counts(), Counts { foreign: 1, ..CLEAN });
    let mut untimed = Told::new(&log, Kind::Plain).opened(0, after(0)).events(0, 0..10);
    for note in &mut untimed.notes.notes {
        if let Note::Event { ts, .. } = note {
            *ts = 0;
        }
    }
    assert_eq!(untimed.counts(), CLEAN, "a frame without a time is not compared by it");
}

#[test]
fn events_before_the_hello_are_told_once() {
    let log = log();
    let told = Told::new(&log, Kind::V1).opened(0, after(0)).events(0, 0..10);
    assert_eq!(told.counts(), Counts { gaps: 1, ..CLEAN });
}

#[test]
fn only_what_was_due_is_lost() {
    let mut log = log();
    log.due = 70;
    let client = |end| Told::new(&log, Kind::Sse).opened(0, after(0)).hello(1, 0).events(0, 0..end).counts();
    assert_eq!((client(7), client(10)), (CLEAN, CLEAN));
    assert_eq!(client(6), Counts { lost: 1, ..CLEAN });
    let never = Told::new(&log, Kind::Sse).judged();
    assert_eq!((never.found.counts, never.connections), (CLEAN, 0));
}
