//! What a feed makes of history's answers: frames, gaps, or a place to begin at.

use herald_protocol::{
    Close, Cursor, Position,
    frame::{Control, Tail},
};
use metrics::counter;
use tokio::time::Instant;

use super::{Answer, Failing, Feed, Life, Out, Stage, Start, is_foreign};
use crate::{
    event::Event,
    history::{Extent, HistoryError, Page, Snapshot},
    planted::{Bug, planted},
    sessions::Seat,
    view::cursor,
};

impl Feed {
    /// The answer to what [`Step::Ask`] asked.
    pub(crate) fn answer(&mut self, answer: Result<Answer, HistoryError>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return self.failed(&error),
        };
        self.failing = None;
        if let (Stage::Judge { at, life }, Answer::Extent(extent)) = (self.stage, &answer) {
            return self.judge(at, life, *extent);
        }
        if self.is_stale() {
            // An answer about a life that may be over: the next step sees to it.
            return;
        }
        match answer {
            Answer::Extent(_) => {}
            Answer::Page { page, extent, before } => self.turn_page(&page, extent, before),
            Answer::Snapshot(snapshot) => self.show_snapshot(&snapshot),
            Answer::Before { seq, prev } => {
                if let (Some(seat), Some(life)) = (&self.seat, self.life) {
                    seat.chain(life.generation, seq - 1, prev);
                }
            }
        }
    }

    fn failed(&mut self, error: &HistoryError) {
        let failing = self.failing.get_or_insert_with(|| Failing { since: Instant::now(), times: 0 });
        failing.times = failing.times.saturating_add(1);
        if failing.since.elapsed() >= self.limits.patience {
            tracing::debug!(error = %error, tries = failing.times, "history is not available: closing a connection");
            self.close = Some(Close::TryLater("history is not available"));
        }
    }

    /// Begins behind `at` if the stream's leader has come that far in the same life, else behind the gap.
    fn judge(&mut self, at: Position, life: Life, extent: Extent) {
        let opening = self.seat.as_ref().and_then(Seat::opening);
        let Some(opening) = opening.filter(|opening| opening.generation == life.generation) else {
            self.stage = Stage::Start(Start::After(at));
            return;
        };
        let reason = if is_foreign(at, life.epoch) { "epoch" } else { "beyond" };
        if reason == "beyond" && at.seq() <= extent.last {
            self.begin_at(at.seq(), &opening, "ring");
            return;
        }
        let to = extent.first.saturating_sub(1);
        if self.closes_at_gap(life, to, reason) {
            return;
        }
        self.move_to(to, &opening, "gap");
        self.chain = Some(0);
        // Of the former life nothing can be said in sequences of this one: the gap is what this one no longer keeps. Both
        // in one piece: who was greeted and then cut off would take its old sequence for one of this life.
        let hello = self.view.control(&self.hello(&opening), of_client(at));
        let gap = self.view.control(&Control::Gap { from: 1, to, reason }, Some(cursor(life.epoch, to)));
        if let (Some(hello), Some(gap)) = (hello, gap) {
            self.ready.push(Out { bytes: [hello, gap].concat().into(), place: self.place });
        }
    }

    /// Counts a gap; a client that has no word for it is closed with where to go on.
    fn closes_at_gap(&mut self, life: Life, to: u64, reason: &'static str) -> bool {
        counter!("herald_gaps_total", "reason" => reason).increment(1);
        if self.view.has_control() || self.follows {
            return false;
        }
        self.close = Some(Close::Gap { after: cursor(life.epoch, to) });
        true
    }

    fn turn_page(&mut self, page: &Page, extent: Extent, before: Option<u64>) {
        let Some(life) = self.life else { return };
        if let Some(before) = before {
            self.chain = Some(before);
        }
        let asked = self.place.seq;
        let kept = extent.first.saturating_sub(1);
        if self.from_start && asked == 0 {
            // Asked for what there is: what was trimmed while it was read is not among it, not even the part that was read.
            self.place.seq = kept.min(page.through);
        } else if kept > asked {
            // What was trimmed may have been some of the session's; that can't be known any more.
            if self.closes_at_gap(life, kept, "trimmed") {
                return;
            }
            self.place.seq = kept;
            (self.chain, self.from_start) = (Some(0), false);
            let gap = Control::Gap { from: asked + 1, to: kept, reason: "trimmed" };
            self.control(&gap, Some(cursor(life.epoch, kept)));
        }
        let from = self.place.seq;
        for event in page.events.iter().filter(|event| event.seq > from) {
            self.show(event, life);
        }
        self.place.seq = self.place.seq.max(page.through);
        if planted(Bug::SeamReversed) {
            let past = self.ready.len();
            let _ = self.run(0);
            self.ready.rotate_left(past);
        }
    }

    fn show(&mut self, event: &Event, life: Life) {
        if !self.view.shows(event) {
            return;
        }
        let Some(head) = self.view.head(event) else { return };
        let tail = Tail { prev: self.chain, ..Tail::plain(event.seq, event.ts_ms) };
        let bytes = self.view.encode(&head, tail, Some(cursor(life.epoch, event.seq)));
        if event.seq > self.owed_from {
            self.place.mark = self.place.mark.plus(bytes.len());
        }
        self.place.seq = event.seq;
        self.chain = Some(event.seq);
        self.ready.push(Out { bytes, place: self.place });
    }

    fn show_snapshot(&mut self, snapshot: &Snapshot) {
        let Some(life) = self.life else { return };
        for event in snapshot.events.iter().filter(|event| self.view.shows(event)) {
            let Some(head) = self.view.head(event) else { continue };
            let tail = Tail { snapshot: true, ..Tail::plain(event.seq, event.ts_ms) };
            // No cursor: who drops out in the middle of a snapshot takes it again.
            let bytes = self.view.encode(&head, tail, None);
            self.ready.push(Out { bytes, place: self.place });
        }
        self.place.seq = snapshot.cut;
        self.chain = None;
        self.stage = Stage::Run;
        self.control(&Control::Live { after: snapshot.cut }, Some(cursor(life.epoch, snapshot.cut)));
    }
}

/// The cursor a client came with, if it was a whole one.
const fn of_client(at: Position) -> Option<Cursor> {
    match at {
        Position::Cursor(cursor) => Some(cursor),
        Position::Seq(_) => None,
    }
}
