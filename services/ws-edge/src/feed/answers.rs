//! What a feed makes of history's answers: frames, gaps, or a place to begin at.

use herald_protocol::{
    Close,
    frame::{Control, Tail},
};
use metrics::counter;
use tokio::time::Instant;

use super::{Answer, Case, Failing, Feed, Life, Out, Stage, Start, is_foreign, past::Found};
use crate::{
    event::Event,
    guests::notes::Gap,
    history::{Extent, HistoryError, Holes, Page, Snapshot},
    planted::{Bug, planted},
    sessions::{Opening, Seat},
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
        let Answer { found, proof } = answer;
        if let Stage::Judge(case) = self.stage {
            if proof.epoch == Some(case.life.epoch) {
                self.judge(case, &proof.extent);
            } else {
                self.stage = Stage::Start(Start::After(case.at));
            }
            return;
        }
        if self.is_stale() || proof.epoch != self.life.map(|life| life.epoch) {
            // Read in a life that is over, or may be: the next step sees to it.
            return;
        }
        match found {
            Found::Extent => {}
            Found::Page { page, prev } => self.turn_page(&page, &proof.extent, prev),
            Found::Another => self.alone = true,
            Found::Snapshot(snapshot) if matches!(self.stage, Stage::Snapshot) => self.show_snapshot(&snapshot),
            Found::Snapshot(latest) => self.show_latest(&latest),
            Found::Before { seq, prev } => {
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
    fn judge(&mut self, case: Case, extent: &Extent) {
        let Case { at, life, looked } = case;
        let opening = self.seat.as_ref().and_then(Seat::opening);
        let Some(opening) = opening.filter(|opening| opening.generation == life.generation) else {
            self.stage = Stage::Start(Start::After(at));
            return;
        };
        let reason = if is_foreign(at, life.epoch) { "epoch" } else { "beyond" };
        if reason == "beyond" && at.seq() <= extent.last {
            self.begin_at(at.seq(), &opening, "ring", Start::After(at));
            return;
        }
        if reason == "beyond" && !looked {
            // A leader just elected may answer from behind: it is asked once more, a little later.
            self.stage = Stage::Judge(Case { looked: true, ..case });
            return;
        }
        if self.view.conflates() {
            // Whatever it has seen: what counts is the newest.
            self.begin_at(0, &opening, "latest", Start::After(at));
            return;
        }
        let to = extent.first.saturating_sub(1);
        if self.closes_at_gap(life, to, reason) {
            return;
        }
        self.move_to(to, &opening, "gap", Start::After(at));
        self.notes.missed(Gap { from: 1, to, reason });
        self.chain = Some(0);
        // Of the former life nothing can be said in sequences of this one: the gap is what this one no longer keeps. It
        // comes first: whoever is cut off behind a greeting would take its old sequence for one of this life, whoever is cut
        // off behind the gap has a place of no life, and is told again. Both in one piece, for those we close ourselves.
        let here = Some(cursor(life.epoch, to));
        let gap = self.view.control(&Control::Gap { from: 1, to, reason }, here);
        let hello = self.view.control(&self.hello(&opening), here);
        if let (Some(gap), Some(hello)) = (gap, hello) {
            self.ready.push(Out { bytes: [gap, hello].concat().into(), place: self.place });
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

    fn turn_page(&mut self, page: &Page, extent: &Extent, prev: u64) {
        let Some(life) = self.life else { return };
        let asked = self.place.seq;
        let in_ring = |opening: Opening| opening.floor <= asked;
        if !self.plays() && self.seat.as_ref().and_then(Seat::opening).is_some_and(in_ring) {
            // The ring has it by now, ready for everybody.
            return;
        }
        self.chain = Some(prev);
        let kept = extent.first.saturating_sub(1);
        let missing = self.missing_to(page, extent);
        if missing > asked {
            // What is missing may have been some of the session's; that can't be known any more.
            if self.closes_at_gap(life, missing, "trimmed") {
                return;
            }
            self.place.seq = missing;
            self.from_start = false;
            self.notes.missed(Gap { from: asked + 1, to: missing, reason: "trimmed" });
            let gap = Control::Gap { from: asked + 1, to: missing, reason: "trimmed" };
            self.control(&gap, Some(cursor(life.epoch, missing)));
            // Before a hole something is kept: what came before the next event is to be asked for.
            self.chain = (missing == kept).then_some(0);
            if self.chain.is_none() {
                return;
            }
        } else if self.from_start && asked == 0 {
            // Asked for what there is: what was trimmed while it was read is not among it, not even the part that was read.
            self.place.seq = kept.min(page.through);
        }
        let from = self.place.seq;
        for event in page.events.iter().filter(|event| event.seq > from) {
            self.show(event, life);
            if let Some(stop) = self.view.stop(event) {
                self.stop = Some(Box::new(stop));
                return;
            }
        }
        self.place.seq = self.place.seq.max(page.through);
        if planted(Bug::SeamReversed) {
            let past = self.ready.len();
            let _ = self.run(0);
            self.ready.rotate_left(past);
        }
    }

    /// The last sequence up to which a page can't be complete; 0 where it is. Who asked for what there is misses nothing of
    /// what was no longer there when it asked.
    fn missing_to(&self, page: &Page, extent: &Extent) -> u64 {
        if self.view.conflates() {
            // It asks for the newest of what there is.
            return 0;
        }
        let asked = self.place.seq;
        let trimmed = if self.from_start && asked == 0 { 0 } else { extent.first.saturating_sub(1) };
        let excused = self.from_start && !matches!(extent.holes, Holes::Beginning(_));
        let owed = if excused { asked.max(self.owed_from) } else { asked };
        let hole = extent.holes.last_in(owed, page.through).unwrap_or(0);
        trimmed.max(hole)
    }

    fn show(&mut self, event: &Event, life: Life) {
        if !self.view.shows(event) {
            return;
        }
        let Some(head) = self.view.head(event) else { return };
        let tail = Tail { prev: self.chain, ..Tail::plain(event.seq, event.ts_ms) };
        let bytes = self.view.encode(&head, tail, Some(cursor(life.epoch, event.seq)));
        let before = self.place.seq;
        if event.seq > self.owed_from {
            self.place.mark = self.place.mark.plus(bytes.len());
        }
        self.place.seq = event.seq;
        self.chain = Some(event.seq);
        let out = Out { bytes, place: self.place };
        match self.timed.as_mut().filter(|timed| timed.playing) {
            Some(timed) => timed.hold(event.ts_ms, out, before),
            None => self.ready.push(out),
        }
    }

    /// The newest of what is before the ring, as far as the client lacks it and up to where it is closed. Each has its cursor,
    /// as any other event.
    fn show_latest(&mut self, latest: &Snapshot) {
        let Some(life) = self.life else { return };
        self.leapt = true;
        let (view, after) = (self.view.clone(), self.place.seq);
        let behind = || latest.events.iter().filter(|event| event.seq > after);
        let stop = behind().find_map(|event| view.stop(event));
        let upto = stop.map_or(latest.cut, |stop| stop.seq);
        for event in behind().filter(|event| event.seq <= upto) {
            // Two patterns may have found the same.
            if event.seq > self.place.seq {
                self.show(event, life);
            }
        }
        self.stop = stop.map(Box::new);
        self.place.seq = self.place.seq.max(upto);
    }

    fn show_snapshot(&mut self, snapshot: &Snapshot) {
        let Some(life) = self.life else { return };
        for event in snapshot.events.iter().filter(|event| self.view.may_show(event)) {
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
