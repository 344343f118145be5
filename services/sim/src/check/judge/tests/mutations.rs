//! One fault put into what a well-served client noted: it is found, and as what it is.

use std::collections::BTreeMap;

use super::model::{Served, judged, random_log};
use crate::{
    check::{
        findings::Counts,
        notes::{Kind, Note, Notes, Start},
        truth::SessionLog,
    },
    dice::Dice,
    frame::Control,
};

/// What is to be found: exactly that.
type Expected = Counts;

const fn lost(lost: u64) -> Expected {
    Counts { lost, doubled: 0, reordered: 0, foreign: 0, gaps: 0 }
}

const CLEAN: Expected = lost(0);

/// Everything about a place in the notes that a fault depends on.
struct Place<'a> {
    notes: &'a Notes,
    at: usize,
}

impl Place<'_> {
    fn note(&self, at: usize) -> Option<&Note> {
        self.notes.notes.get(at)
    }

    fn is_event(&self, at: usize) -> bool {
        matches!(self.note(at), Some(Note::Event { .. }))
    }

    /// The opening of the connection.
    fn opened(&self) -> Option<(usize, Start)> {
        (0..=self.at).rev().find_map(|at| match self.note(at) {
            Some(Note::Opened { start, .. }) => Some((at, *start)),
            _ => None,
        })
    }

    /// Whether a snapshot is being taken here, as far as that can be told.
    fn in_snapshot(&self) -> bool {
        let Some((opened, start)) = self.opened() else { return false };
        let live =
            self.notes.notes[opened..self.at].iter().any(|note| matches!(note, Note::Control(Control::Live { .. })));
        start == Start::Snapshot && !live
    }

    /// Whether the client's place before this event is known to the last event: where it begins live without hello, what
    /// comes first may be earlier than it had to be.
    fn is_exact(&self) -> bool {
        let begins = self.at.checked_sub(1).is_some_and(|before| self.is_event(before));
        !self.in_snapshot() && (self.notes.kind != Kind::Plain || begins)
    }
}

/// A fault: which places it fits, what it does there, and what is to be found.
type Fault = fn(&SessionLog, &Place<'_>, &mut Notes) -> Option<Expected>;

fn drop_one(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let fits = place.is_event(place.at) && place.is_event(place.at + 1) && place.is_exact();
    fits.then(|| {
        notes.notes.remove(place.at);
        lost(1)
    })
}

fn double(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    place.is_event(place.at).then(|| {
        notes.notes.insert(place.at, notes.notes[place.at]);
        Counts { doubled: 1, ..CLEAN }
    })
}

fn swap(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let fits = place.is_event(place.at) && place.is_event(place.at + 1) && place.is_exact();
    fits.then(|| {
        notes.notes.swap(place.at, place.at + 1);
        Counts { reordered: 1, ..CLEAN }
    })
}

fn late(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let fits = (0..5).all(|at| place.is_event(place.at + at)) && place.is_exact();
    fits.then(|| {
        let note = notes.notes.remove(place.at);
        notes.notes.insert(place.at + 4, note);
        Counts { reordered: 1, ..CLEAN }
    })
}

fn wrong_prev(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let Some(Note::Event { prev: Some(prev), seq, .. }) = notes.notes.get_mut(place.at) else { return None };
    *prev = if *prev + 1 == *seq { *prev - prev.min(&mut 1).to_owned() } else { *prev + 1 };
    // Where the log's event before is the first of all, one less may be 0, which an announced gap allows.
    (*prev > 0).then_some(Counts { gaps: 1, ..CLEAN })
}

fn no_prev(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    match notes.notes.get_mut(place.at) {
        Some(Note::Event { prev: prev @ Some(_), .. }) => {
            *prev = None;
            Some(Counts { gaps: 1, ..CLEAN })
        }
        _ => None,
    }
}

/// Whether it is known in which life of the stream the client is. A plain one that has just come back may be in any.
fn is_certain(log: &SessionLog, place: &Place<'_>) -> bool {
    let begins = place.at.checked_sub(1).is_none_or(|before| !place.is_event(before));
    log.lives.len() == 1 || place.notes.kind != Kind::Plain || !begins
}

fn altered(log: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    if !is_certain(log, place) {
        return None;
    }
    let Some(Note::Event { hash, .. }) = notes.notes.get_mut(place.at) else { return None };
    *hash ^= 1;
    Some(Counts { foreign: 1, ..CLEAN })
}

fn wrong_time(log: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    if !is_certain(log, place) {
        return None;
    }
    let Some(Note::Event { ts, .. }) = notes.notes.get_mut(place.at) else { return None };
    *ts += 1;
    Some(Counts { foreign: 1, ..CLEAN })
}

/// Another session's event beside the own ones.
fn intruder(log: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let Some(Note::Event { seq, prev, .. }) = notes.notes.get(place.at).copied() else { return None };
    let free = log.lives.iter().all(|life| life.shown.iter().all(|event| event.seq != seq + 1));
    free.then(|| {
        let other = Note::Event { seq: seq + 1, prev, hash: 1, snapshot: false, at_ms: 0, ts: 0 };
        notes.notes.insert(place.at + 1, other);
        Counts { foreign: 1, ..CLEAN }
    })
}

/// Another session's event in place of an own one.
fn changeling(log: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    if !place.is_event(place.at + 1) || !place.is_exact() {
        return None;
    }
    let Some(Note::Event { seq, hash, .. }) = notes.notes.get_mut(place.at) else { return None };
    *seq += 1;
    *hash = 1;
    let free = log.lives.iter().all(|life| life.shown.iter().all(|event| event.seq != *seq));
    free.then_some(Counts { foreign: 1, ..lost(1) })
}

/// The last events of all never come.
fn no_tail(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let last = notes.notes.iter().rposition(|note| matches!(note, Note::Event { .. }))?;
    let own = Place { notes: place.notes, at: last };
    // The connection goes on: nothing came behind them that a client would come back by.
    let silent = notes.notes[last..]
        .iter()
        .all(|note| !matches!(note, Note::Opened { .. } | Note::Control(Control::Bye { .. })));
    let told = notes.notes[last..].iter().any(|note| matches!(note, Note::Closed { after: Some(_), .. }));
    (silent && !told && own.is_exact() && place.at == last).then(|| {
        notes.notes.remove(last);
        lost(1)
    })
}

/// The first events after a resume never come.
fn no_head(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let Note::Opened { start: Start::After(_), .. } = place.note(place.at)? else { return None };
    let first = place.at + 1 + usize::from(place.notes.kind != Kind::Plain);
    (place.is_event(first) && place.is_event(first + 1) && place.is_event(first + 2)).then(|| {
        notes.notes.drain(first..first + 2);
        lost(2)
    })
}

/// A gap that covers less than is missing.
fn small_gap(log: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    if !place.is_event(place.at + 1) {
        return None;
    }
    let Some(Note::Control(Control::Gap { to, .. })) = notes.notes.get_mut(place.at) else { return None };
    let shown = log.lives.iter().any(|life| life.shown.iter().any(|event| event.seq == *to));
    (*to > 1 && shown).then(|| {
        *to -= 1;
        lost(1)
    })
}

/// A gap that begins too late.
fn late_gap(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let Some(Note::Control(Control::Gap { from, to })) = notes.notes.get_mut(place.at) else { return None };
    (*from < *to && place.is_event(place.at + 1)).then(|| {
        *from = *to;
        CLEAN
    })
}

/// Another life, and no word about the gap.
fn no_gap(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let Note::Control(Control::Gap { from: 1, to: 0 }) = place.note(place.at)? else { return None };
    let greeted = matches!(place.note(place.at + 1), Some(Note::Control(Control::Hello { .. })));
    place.is_event(place.at + 1 + usize::from(greeted)).then(|| {
        notes.notes.remove(place.at);
        Counts { gaps: 1, ..CLEAN }
    })
}

/// A cursor to come back with that skips the event before it.
fn skipping_cursor(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let told = matches!(
        place.note(place.at + 1)?,
        Note::Control(Control::Bye { .. }) | Note::Closed { after: Some(_), code: Some(1012), .. }
    );
    // Nobody who ends here comes back by it.
    let back = place.notes.notes[place.at..].iter().any(|note| matches!(note, Note::Opened { .. }));
    (place.is_event(place.at) && told && back && place.is_exact()).then(|| {
        notes.notes.remove(place.at);
        Counts { gaps: 1, ..CLEAN }
    })
}

/// A hello that claims a head which leaves out what was stored after the opening.
fn skipping_hello(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let Note::Opened { start: Start::Live, at_ms } = *place.note(place.at)? else { return None };
    let Note::Control(Control::Hello { epoch, .. }) = *place.note(place.at + 1)? else { return None };
    let Note::Event { seq, ts, .. } = *place.note(place.at + 2)? else { return None };
    (ts > at_ms + crate::check::judge::LIVE_MS).then(|| {
        notes.notes[place.at + 1] = Note::Control(Control::Hello { epoch, head: seq, heartbeat_ms: 0 });
        notes.notes.remove(place.at + 2);
        Counts { gaps: 1, ..CLEAN }
    })
}

/// A snapshot that lacks the last event of a topic.
fn poor_snapshot(_: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let marked = matches!(place.note(place.at)?, Note::Event { .. }) && place.in_snapshot() && has_end(place);
    (marked && place.notes.kind != Kind::Plain).then(|| {
        notes.notes.remove(place.at);
        lost(1)
    })
}

/// A snapshot with an older event of a topic.
fn stale_snapshot(log: &SessionLog, place: &Place<'_>, notes: &mut Notes) -> Option<Expected> {
    let first = !place.at.checked_sub(1).is_some_and(|before| place.is_event(before));
    if !first || !place.in_snapshot() || !has_end(place) || place.notes.kind == Kind::Plain {
        return None;
    }
    let Some(Note::Event { seq, hash, ts, .. }) = notes.notes.get_mut(place.at) else { return None };
    let life = log.lives.iter().find(|life| life.shown.iter().any(|event| event.hash == *hash))?;
    let topic = life.shown.iter().find(|event| event.seq == *seq)?.topic;
    let older = life.shown.iter().find(|event| event.topic == topic && event.seq < *seq)?;
    (*seq, *hash, *ts) = (older.seq, older.hash, older.ts_ms);
    Some(lost(1))
}

/// Whether the snapshot of this place came to its end.
fn has_end(place: &Place<'_>) -> bool {
    let rest = place.notes.notes[place.at..].iter();
    rest.take_while(|note| matches!(note, Note::Event { .. } | Note::Control(Control::Live { .. })))
        .any(|note| matches!(note, Note::Control(Control::Live { .. })))
}

const FAULTS: [(&str, Fault); 18] = [
    ("drop one", drop_one),
    ("double", double),
    ("swap", swap),
    ("late", late),
    ("wrong prev", wrong_prev),
    ("no prev", no_prev),
    ("altered", altered),
    ("wrong time", wrong_time),
    ("intruder", intruder),
    ("changeling", changeling),
    ("no tail", no_tail),
    ("no head", no_head),
    ("small gap", small_gap),
    ("no gap", no_gap),
    ("skipping cursor", skipping_cursor),
    ("skipping hello", skipping_hello),
    ("poor snapshot", poor_snapshot),
    ("stale snapshot", stale_snapshot),
];

#[test]
fn every_single_fault_is_found_as_what_it_is() {
    let mut tried: BTreeMap<&str, usize> = BTreeMap::new();
    for seed in 0..3_000 {
        let log = random_log(seed);
        let notes = Served::play(&log, seed);
        let mut dice = Dice::new(seed, "fault");
        for (name, fault) in FAULTS {
            for _ in 0..20 {
                let place = Place { notes: &notes, at: dice.index(notes.notes.len()) };
                let mut changed = notes.clone();
                let Some(expected) = fault(&log, &place, &mut changed) else { continue };
                let found = judged(&log, &changed).found;
                let context = || format!("{name}, seed {seed}, at {}: {:#?}\n{:#?}", place.at, found.examples, notes);
                assert_eq!(found.counts, expected, "{}", context());
                *tried.entry(name).or_default() += 1;
                break;
            }
        }
    }
    for (name, _) in FAULTS {
        assert!(tried.get(name).is_some_and(|times| *times > 40), "{name}: {tried:?}");
    }
}

#[test]
fn a_gap_that_begins_too_late_leaves_out_what_is_before_it() {
    let mut tried = 0;
    for seed in 0..3_000 {
        let log = random_log(seed);
        let notes = Served::play(&log, seed);
        for at in 0..notes.notes.len() {
            let place = Place { notes: &notes, at };
            let mut changed = notes.clone();
            if late_gap(&log, &place, &mut changed).is_none() {
                continue;
            }
            // How many events lie between depends on the log; more than none, only losses, and only where some do.
            let (Note::Control(Control::Gap { from, to }), found) = (notes.notes[at], judged(&log, &changed).found)
            else {
                continue;
            };
            let life = log.lives.iter().find(|life| life.shown.iter().any(|event| event.seq == to));
            let between = life
                .map_or(0, |life| life.shown.iter().filter(|event| from <= event.seq && event.seq < to).count() as u64);
            if log.lives.len() == 1 {
                assert_eq!(found.counts, lost(between), "seed {seed}, at {at}: {:#?}\n{notes:#?}", found.examples);
                tried += 1;
            }
        }
    }
    assert!(tried > 100, "{tried}");
}
