//! The recent end of a session's log, in memory, as one view shows it.
//!
//! A ring knows everything its view shows behind its *floor*, and nothing of what is at or below it. So a cursor at or
//! above the floor is served from here, and one below it is read back from history up to the floor first: that is the
//! whole seam. What happens between the moment a ring is opened and the moment its `prev` is known is held back. What was
//! read back from history up to the floor is put in front of the ring while there is room: many who come back to a session
//! at once cost few reads.
//!
//! Where a route wants the newest alone, a ring keeps no more than that of each topic; and of events that close connections it
//! knows where they are, also of those that are not shown: it is read up to there and not beyond.

mod batch;
mod ring;

use std::{collections::VecDeque, sync::Arc};

use herald_protocol::{Epoch, frame::Tail};
use metrics::counter;

pub use batch::Batch;
#[cfg(test)]
pub(crate) use ring::FRAME_SLACK;
pub use ring::{Budget, Charge, Frame, Mark, Old, Read, Ring, RingLimits};

use crate::{
    dialect::Head,
    event::Event,
    planted::{Bug, planted},
    view::{Delivery, Stop, View, cursor},
};

/// Events that close connections, of which a log keeps that many beside its frames: what is before them is history's.
const MOST_STOPS: usize = 64;

/// A session's ring in one view.
#[derive(Debug)]
pub struct Log {
    view: Arc<View>,
    limits: RingLimits,
    budget: Arc<Budget>,
    ring: Ring,
    chain: Chain,
    /// The last event that was looked at, shown or not.
    seen: u64,
    /// The events behind the floor that connections are closed behind, shown or not.
    stops: VecDeque<Stop>,
}

/// All that a view shows of a session between two positions.
#[derive(Debug)]
pub struct Piece {
    /// In this life of the stream.
    pub epoch: Epoch,
    /// Behind this sequence,
    pub floor: u64,
    /// and up to this one.
    pub upto: u64,
    /// How many sessions had been removed from the stream when it was read.
    pub purges: u64,
    /// In order.
    pub frames: Vec<Old>,
    /// Events between the two that connections are closed behind, in order.
    pub stops: Vec<Stop>,
    /// The last shown event up to `upto`: of `frames`, or before them; 0 for none.
    pub last: u64,
}

/// Whether it is known which shown event came before the next one.
#[derive(Debug)]
enum Chain {
    /// Its sequence, 0 for none.
    Known(u64),
    /// Not yet: history is being asked. What comes meanwhile waits for its `prev`.
    Unknown { held: VecDeque<Held>, charge: Charge },
}

/// What an event that is held takes beyond its frame's bytes.
const HELD_OVERHEAD: usize = size_of::<Held>();

#[derive(Debug)]
struct Held {
    head: Head,
    seq: u64,
    ts_ms: u64,
}

impl Chain {
    fn fresh(view: &View, budget: &Arc<Budget>) -> Self {
        if view.is_chained() {
            Self::Unknown { held: VecDeque::new(), charge: Charge::new(budget.clone()) }
        } else {
            Self::Known(0)
        }
    }
}

impl Log {
    /// A log that knows nothing up to and including `at`.
    #[must_use]
    pub fn new(view: Arc<View>, limits: RingLimits, budget: Arc<Budget>, at: u64) -> Self {
        let chain = Chain::fresh(&view, &budget);
        let (ring, stops) = (Ring::new(limits, budget.clone(), at), VecDeque::new());
        Self { view, limits, ring, budget, chain, seen: at, stops }
    }

    /// The view it is encoded for.
    #[must_use]
    pub const fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The sequence behind which it is complete.
    #[must_use]
    pub const fn floor(&self) -> u64 {
        self.ring.floor()
    }

    /// The last event it was offered.
    #[must_use]
    pub const fn seen(&self) -> u64 {
        self.seen
    }

    /// What it has ever taken.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        self.ring.mark()
    }

    /// What it holds now.
    #[must_use]
    pub fn held(&self) -> Mark {
        self.ring.held()
    }

    /// The last shown event, 0 where there is none or that is not known yet.
    #[must_use]
    pub fn last_shown(&self) -> u64 {
        match self.chain {
            // A view whose frames do not name the one before never asked which that was; history may have been put in front.
            Chain::Known(seq) => seq.max(self.ring.last()),
            Chain::Unknown { .. } => 0,
        }
    }

    /// Whether frames can be read: not before it is known which event came before the first.
    #[must_use]
    pub const fn is_chained(&self) -> bool {
        matches!(self.chain, Chain::Known(_))
    }

    /// Takes up an event, if the view shows it and it is new. The frame, once encoded, is for those who are up to date.
    pub fn append(&mut self, event: &Event, epoch: Epoch) -> Option<Frame> {
        if event.seq <= self.seen {
            return None;
        }
        self.seen = event.seq;
        let Some(stop) = self.view.stop(event) else { return self.append_shown(event, epoch) };
        self.stop(stop);
        let frame = self.append_shown(event, epoch);
        // Who is closed there gets what was the newest then.
        self.ring.seal();
        frame
    }

    fn append_shown(&mut self, event: &Event, epoch: Epoch) -> Option<Frame> {
        if !self.view.shows(event) {
            if let (true, Chain::Known(prev)) = (planted(Bug::PrevWrong), &mut self.chain) {
                *prev = event.seq;
            }
            return None;
        }
        let Some(head) = self.view.head(event) else {
            counter!("herald_skipped_events_total", "reason" => "not_utf8").increment(1);
            return None;
        };
        match &mut self.chain {
            Chain::Known(prev) => {
                let prev = std::mem::replace(prev, event.seq);
                let tail = Tail { prev: Some(prev), ..Tail::plain(event.seq, event.ts_ms) };
                let bytes = self.view.encode(&head, tail, Some(cursor(epoch, event.seq)));
                match self.view.options.delivery {
                    Delivery::All => self.ring.append(event.seq, prev, bytes),
                    Delivery::Latest => self.ring.append_newest(event.subject(), event.seq, bytes),
                }
            }
            Chain::Unknown { held, charge } => {
                let charged = charge.take(head.longest() + HELD_OVERHEAD);
                held.push_back(Held { head, seq: event.seq, ts_ms: event.ts_ms });
                if !charged || held.len() > self.limits.frames || charge.bytes() > self.limits.bytes {
                    // Too much to hold: what was held is history now, and its last event is the one before the next.
                    self.ring.reset(event.seq);
                    self.chain = Chain::Known(event.seq);
                }
                None
            }
        }
    }

    /// Says which shown event came before the first one behind `floor`. Ignored where that is known, or was asked for
    /// another floor.
    pub fn chain(&mut self, floor: u64, prev: u64, epoch: Epoch) {
        if floor != self.ring.floor() || self.is_chained() {
            return;
        }
        let Chain::Unknown { held, charge } = std::mem::replace(&mut self.chain, Chain::Known(prev)) else { return };
        // The frames made of them are charged themselves.
        drop(charge);
        let mut last = prev;
        for Held { head, seq, ts_ms } in held {
            let tail = Tail { prev: Some(last), ..Tail::plain(seq, ts_ms) };
            self.ring.append(seq, last, self.view.encode(&head, tail, Some(cursor(epoch, seq))));
            last = seq;
        }
        self.chain = Chain::Known(last);
    }

    /// Takes up a piece of history. Ignored where the ring no longer begins at its end.
    pub fn fill(&mut self, piece: Piece) {
        let Piece { epoch, floor, upto, frames, stops, last, .. } = piece;
        // Who lacks what is before a ring of newest frames reads the newest of it, not all.
        if upto != self.ring.floor() || self.view.conflates() {
            return;
        }
        self.chain(upto, last, epoch);
        // The frames of what was held cost more than holding it: the first of them may be gone already.
        if upto == self.ring.floor() {
            self.ring.fill(floor, frames);
            let floor = self.ring.floor();
            stops.into_iter().rev().filter(|stop| stop.seq > floor).for_each(|stop| self.stops.push_front(stop));
            self.trim_stops();
        }
    }

    fn stop(&mut self, stop: Stop) {
        self.stops.push_back(stop);
        if self.is_chained() {
            self.trim_stops();
        } else if self.stops.len() > MOST_STOPS {
            self.reset(stop.seq);
        }
    }

    fn trim_stops(&mut self) {
        while self.stops.len() > MOST_STOPS
            && let Some(first) = self.stops.pop_front()
        {
            self.ring.trim(first.seq);
        }
    }

    /// Whether connections are closed behind that event.
    #[must_use]
    pub fn stops_at(&self, seq: u64) -> bool {
        self.stops.back().is_some_and(|stop| stop.seq == seq)
    }

    /// Forgets all frames. Who has got the last of them is up to date all the same; the next one follows that.
    pub fn forget(&mut self) {
        if self.is_chained() {
            self.ring.forget();
        } else {
            self.reset(self.seen);
        }
    }

    /// Forgets everything up to and including `at`.
    pub fn reset(&mut self, at: u64) {
        self.ring.reset(at);
        self.chain = Chain::fresh(&self.view, &self.budget);
        self.seen = at;
        self.stops = VecDeque::new();
    }

    /// As [`Ring::read`], but nothing beyond the first event that connections are closed behind; with it, once everything up to
    /// it is read.
    #[must_use]
    pub fn read(&self, after: u64, frames: usize, bytes: usize) -> (Read, Option<Stop>) {
        let read = self.ring.read(after, frames, bytes);
        let Some(stop) = self.stops.iter().find(|stop| stop.seq > after).copied() else { return (read, None) };
        match read {
            Read::Behind => (Read::Behind, None),
            Read::UpToDate => (Read::UpToDate, Some(stop)),
            Read::Frames(mut frames) => {
                let all = frames.len();
                frames.truncate(frames.partition_point(|frame| frame.seq <= stop.seq));
                let reached = frames.len() < all || frames.last().is_some_and(|last| last.seq == stop.seq);
                let read = if frames.is_empty() { Read::UpToDate } else { Read::Frames(frames) };
                (read, reached.then_some(stop))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use async_nats::Subject;
    use bytes::Bytes;

    use super::*;
    use crate::{
        dialect::Dialect,
        view::{CloseOn, Encoding, ViewOptions},
    };

    #[test]
    fn a_log_that_forgets_serves_nothing_old_and_goes_on() {
        let (dialect, encoding) = (Dialect::Event, Encoding::V1);
        let (options, veils) = (ViewOptions::default(), vec![]);
        let view =
            View { roots: vec!["gm".into()], hidden: vec![], snapshot: vec![], dialect, encoding, veils, options };
        let (limits, epoch) = (RingLimits { frames: 100, bytes: 1 << 20 }, Epoch::new(1));
        let mut log = Log::new(Arc::new(view), limits, Budget::new(1 << 20), 10);
        let event = |seq| {
            let payload = Bytes::from_static(b"{\"n\":1}");
            Event::parse(Subject::from_static("gm.s.state"), seq, 1_000, payload).unwrap()
        };
        log.append(&event(11), epoch);
        log.forget();
        assert_eq!((log.is_chained(), log.floor()), (false, 11), "what was held is gone, too");
        log.chain(11, 0, epoch);
        for seq in 12..=14 {
            log.append(&event(seq), epoch).unwrap();
        }
        log.forget();
        assert_eq!((log.read(13, 9, 999).0, log.read(14, 9, 999).0), (Read::Behind, Read::UpToDate));
        assert_eq!(log.append(&event(20), epoch).unwrap().prev, 14, "for those who have it");
    }

    #[test]
    fn a_piece_of_history_never_hides_that_frames_were_dropped() {
        let (dialect, encoding) = (Dialect::Event, Encoding::V1);
        let (options, veils) = (ViewOptions::default(), vec![]);
        let view =
            View { roots: vec!["gm".into()], hidden: vec![], snapshot: vec![], dialect, encoding, veils, options };
        let (limits, epoch) = (RingLimits { frames: 100, bytes: 2_000 }, Epoch::new(1));
        let mut log = Log::new(Arc::new(view), limits, Budget::new(1 << 20), 10);
        // As many as can be held, and more than the ring has room for.
        for seq in 11..=20 {
            let payload = Bytes::from_static(b"{\"n\":1}");
            let event = Event::parse(Subject::from_static("gm.s.state"), seq, 1_000, payload).unwrap();
            assert_eq!(log.append(&event, epoch), None);
        }
        assert_eq!((log.is_chained(), log.floor()), (false, 10), "all of them are held");
        let old = Old { seq: 8, prev: 0, bytes: Bytes::from_static(b"8") };
        log.fill(Piece { epoch, floor: 5, upto: 10, purges: 0, frames: vec![old], stops: vec![], last: 8 });
        let floor = log.floor();
        assert!(log.is_chained() && floor > 10, "the first were dropped: {floor}");
        assert_eq!(log.read(8, 100, 1 << 20).0, Read::Behind);
        let Read::Frames(kept) = log.read(floor, 100, 1 << 20).0 else { panic!("the others are there") };
        assert_eq!(kept.iter().map(|frame| frame.seq).collect::<Vec<_>>(), (floor + 1..=20).collect::<Vec<_>>());
    }

    fn stopping(encoding: Encoding, limits: RingLimits) -> Log {
        let rules: [CloseOn; 2] = ["gm.over:4001", "gm._gone:1001"].map(|text| text.parse().unwrap());
        let options = ViewOptions { close_on: rules.into(), ..ViewOptions::default() };
        let (dialect, veils) = (Dialect::Event, vec![]);
        let view =
            View { roots: vec!["gm".into()], hidden: vec![], snapshot: vec![], dialect, encoding, veils, options };
        Log::new(Arc::new(view), limits, Budget::new(1 << 20), 10)
    }

    fn take(log: &mut Log, topic: &str, seq: u64) -> Option<Frame> {
        let event = Event::parse(Subject::from(format!("gm.s.{topic}")), seq, 1_000, Bytes::from_static(b"1")).unwrap();
        log.append(&event, Epoch::new(1))
    }

    fn read(log: &Log, after: u64, most: usize) -> (Vec<u64>, Option<Stop>) {
        let (read, stop) = log.read(after, most, 1 << 20);
        let seqs = |frames: Vec<Frame>| frames.iter().map(|frame| frame.seq).collect();
        (if let Read::Frames(frames) = read { seqs(frames) } else { vec![] }, stop)
    }

    #[test]
    fn a_log_is_read_up_to_the_event_that_closes_and_not_beyond() {
        let mut log = stopping(Encoding::Plain, RingLimits { frames: 100, bytes: 1 << 20 });
        for (topic, seq) in [("x", 11), ("over", 12), ("x", 13), ("_gone", 15), ("x", 16)] {
            assert_eq!(take(&mut log, topic, seq).is_some(), topic != "_gone");
            assert_eq!(log.stops_at(seq), topic != "x");
        }
        let (shown, unseen) = (Some(Stop { seq: 12, rule: 0 }), Some(Stop { seq: 15, rule: 1 }));
        assert_eq!(read(&log, 10, 9), (vec![11, 12], shown));
        assert_eq!(read(&log, 10, 1), (vec![11], None), "there is more before it");
        assert_eq!(read(&log, 11, 1), (vec![12], shown));
        assert_eq!(read(&log, 12, 9), (vec![13], unseen), "behind one it goes on to the next");
        assert_eq!((read(&log, 13, 9), read(&log, 14, 9)), ((vec![], unseen), (vec![], unseen)));
        assert_eq!(read(&log, 15, 9), (vec![16], None));
        log.reset(20);
        assert_eq!(read(&log, 20, 9), (vec![], None));
    }

    #[test]
    fn events_that_close_are_bounded_and_none_is_passed_unseen() {
        let limits = RingLimits { frames: 10_000, bytes: 10 << 20 };
        for encoding in [Encoding::Plain, Encoding::V1] {
            let mut log = stopping(encoding, limits);
            for seq in 11..1_011 {
                take(&mut log, if seq % 2 == 0 { "_gone" } else { "x" }, seq);
                if seq == 500 && !log.is_chained() {
                    log.chain(log.floor(), 0, Epoch::new(1));
                }
            }
            assert!(log.stops.len() <= MOST_STOPS && log.floor() > 800, "{}", log.floor());
            assert_eq!(log.read(log.floor() - 1, 9, 999).0, Read::Behind);
            let stop = read(&log, log.floor(), 9).1.unwrap().seq;
            assert!(stop <= log.floor() + 2, "{stop} behind {}", log.floor());
        }
    }

    #[test]
    fn a_piece_of_history_brings_what_closes_with_it() {
        let mut log = stopping(Encoding::V1, RingLimits { frames: 100, bytes: 1 << 20 });
        take(&mut log, "_gone", 12);
        let old = Old { seq: 9, prev: 0, bytes: Bytes::from_static(b"9") };
        let stops = [4, 7].map(|seq| Stop { seq, rule: 1 }).to_vec();
        log.fill(Piece { epoch: Epoch::new(1), floor: 5, upto: 10, purges: 0, frames: vec![old], stops, last: 9 });
        assert_eq!(read(&log, 5, 9), (vec![], Some(Stop { seq: 7, rule: 1 })));
        assert_eq!(read(&log, 7, 9), (vec![9], None));
        assert_eq!(read(&log, 9, 9), (vec![], Some(Stop { seq: 12, rule: 1 })));
    }
}
