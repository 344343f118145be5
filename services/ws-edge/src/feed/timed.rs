//! The past played again in its own time: a cursor that waits between events as long as there was between them, divided by a
//! speed, until it is where the session is now.
//!
//! It is read as any past is, a page at a time, and each page is held until its events are due. So the place of a feed is how far
//! it has read, and what was shown is behind it by what is held; whoever drops out comes back by what was shown.

use std::{collections::VecDeque, time::Duration};

use herald_protocol::{Epoch, Position, frame::Control};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::{Ask, BATCH, Feed, Out, Stage, Start, Step, is_foreign};
use crate::{
    replay::{Command, Pace, Played},
    sessions::Opening,
    view::cursor,
};

/// Who is further behind the time of its events than this does not hurry after it: it was halted, or can't be written to.
const LATE: Duration = Duration::from_secs(1);

/// What is played again.
pub(super) struct Timed {
    clock: Clock,
    /// Whether it is; else it has come to where the session is now.
    pub(super) playing: bool,
    /// Read and yet to be shown, with when they were stored.
    held: VecDeque<(u64, Out)>,
    /// How far it was shown, while something is held.
    shown: u64,
    /// How many sessions had been removed from the stream when that was asked for.
    purges: u64,
    /// Its client was moved elsewhere, and has yet to be sent word of that.
    unsaid: bool,
    /// Its place among those that are played at a time.
    _turn: OwnedSemaphorePermit,
}

/// When events are due.
#[derive(Debug)]
struct Clock {
    pace: Pace,
    /// When the last event was due, and when it was stored, ms; none before the first, which is due at once.
    last: Option<(Instant, u64)>,
    /// What has gone by since at other speeds.
    spent: Duration,
    paused: Option<Instant>,
}

impl Clock {
    /// When something that was stored then is due; `None`: it was paused.
    fn due(&self, ts_ms: u64, now: Instant) -> Option<Instant> {
        let due = self.last.map_or(now, |(at, was)| at + self.pace.pause(ts_ms.saturating_sub(was), self.spent));
        self.paused.is_none().then_some(due)
    }

    /// That was shown, now.
    fn showed(&mut self, ts_ms: u64, due: Instant, now: Instant) {
        let at = if now.saturating_duration_since(due) > LATE { now } else { due };
        (self.last, self.spent) = (Some((at, ts_ms)), Duration::ZERO);
    }

    /// What comes next is due at once.
    fn restart(&mut self) {
        (self.last, self.spent) = (None, Duration::ZERO);
    }

    fn pause(&mut self, now: Instant) {
        self.paused.get_or_insert(now);
    }

    fn resume(&mut self, now: Instant) {
        if let (Some(paused), Some((at, _))) = (self.paused.take(), &mut self.last) {
            *at += now.saturating_duration_since(paused);
        }
    }

    /// From now on at that pace: what has gone by of a pause counts at the one before.
    fn change(&mut self, pace: Pace, now: Instant) {
        let now = self.paused.unwrap_or(now);
        if let Some((at, was)) = &mut self.last {
            let gone = now.saturating_duration_since(*at);
            *was = was.saturating_add(self.pace.played(gone));
            self.spent = self.spent.saturating_add(gone);
            *at = (*at).max(now);
        }
        self.pace = pace;
    }
}

impl Timed {
    /// Keeps an event until it is due. `shown`: how far everything before it was shown, if that is all.
    pub(super) fn hold(&mut self, ts_ms: u64, out: Out, shown: u64) {
        if self.held.is_empty() {
            self.shown = shown;
        }
        self.held.push_back((ts_ms, out));
    }

    /// Forgets what is held.
    pub(super) fn drop_held(&mut self) {
        self.held = VecDeque::new();
    }
}

impl Feed {
    /// Plays what it begins with at that pace.
    pub(crate) fn at_pace(&mut self, Played { pace, turn }: Played) {
        let clock = Clock { pace, last: None, spent: Duration::ZERO, paused: None };
        let (held, shown, purges, unsaid) = (VecDeque::new(), 0, 0, false);
        self.timed = Some(Box::new(Timed { clock, playing: true, held, shown, purges, unsaid, _turn: turn }));
    }

    /// Whether it plays the past, or could.
    pub(crate) const fn is_timed(&self) -> bool {
        self.timed.is_some()
    }

    /// Everything that was handed out is sent.
    pub(super) fn was_sent(&mut self) {
        if let Some(timed) = &mut self.timed {
            timed.unsaid &= !self.ready.is_empty();
        }
    }

    /// Whether it has moved where its client does not know of yet.
    pub(super) fn has_moved_unsaid(&self) -> bool {
        self.timed.as_ref().is_some_and(|timed| timed.unsaid)
    }

    /// Whether it plays the past now.
    pub(super) fn plays(&self) -> bool {
        self.timed.as_ref().is_some_and(|timed| timed.playing)
    }

    /// Whether it holds what is yet to be shown.
    pub(super) fn holds(&self) -> bool {
        self.timed.as_ref().is_some_and(|timed| !timed.held.is_empty())
    }

    /// When to look again at what it holds; `None`: when something else has happened.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        let timed = self.timed.as_ref().filter(|timed| timed.playing)?;
        timed.clock.due(timed.held.front()?.0, Instant::now())
    }

    /// How far everything was shown.
    pub(super) fn shown(&self) -> u64 {
        self.timed.as_ref().filter(|timed| !timed.held.is_empty()).map_or(self.place.seq, |timed| timed.shown)
    }

    /// One step of playing. `None`: something has changed, look again.
    pub(super) fn play(&mut self, token: u64) -> Option<Step> {
        let (Some(seat), Some(life)) = (&self.seat, self.life) else { return Some(Step::Idle) };
        let Some(opening) = seat.open(token) else {
            // While the whole stream is away, nobody runs out of patience.
            self.failing = None;
            return Some(Step::Listen);
        };
        if opening.generation != life.generation {
            let at = Position::Cursor(cursor(life.epoch, self.shown()));
            self.forget_held();
            self.stage = Stage::Start(Start::After(at));
            return None;
        }
        let (now, purges) = (Instant::now(), self.sessions.purges());
        if self.holds() && self.timed.as_ref().is_some_and(|timed| timed.purges != purges) {
            // What is held may be of a session that is no more: it is read again, and what is missing then is told, also to
            // who began with what there was, once they have seen something of it.
            self.from_start &= self.shown() == 0;
            self.forget_held();
            return None;
        }
        let timed = self.timed.as_mut()?;
        if let Some((ts_ms, _)) = timed.held.front() {
            if timed.clock.due(*ts_ms, now).is_none_or(|due| due > now) {
                return Some(Step::Rest);
            }
            while let Some((ts_ms, out)) = timed.held.pop_front() {
                match timed.clock.due(ts_ms, now) {
                    Some(due) if due <= now && self.ready.len() < BATCH.0 => {
                        timed.clock.showed(ts_ms, due, now);
                        timed.shown = out.place.seq;
                        self.ready.push(out);
                    }
                    _ => {
                        timed.held.push_front((ts_ms, out));
                        break;
                    }
                }
            }
            return None;
        }
        if timed.clock.paused.is_some() {
            return Some(Step::Rest);
        }
        // Where many sessions are busy the head is never where it was when it was read up to; what counts is this session.
        let has_all = self.place.seq >= opening.floor && seat.last_shown() <= self.place.seq;
        if self.place.seq < opening.head && !has_all {
            timed.purges = purges;
            let prev = if self.view.is_chained() { self.chain } else { Some(0) };
            let (epoch, after, upto) = (life.epoch, self.place.seq, opening.head);
            return Some(self.ask(Ask::Page { epoch, after, upto, prev, alone: true }));
        }
        self.go_live(&opening);
        None
    }

    /// From here on events are shown as they happen.
    fn go_live(&mut self, opening: &Opening) {
        if let Some(timed) = &mut self.timed {
            timed.clock.restart();
            (timed.playing, timed.clock.paused) = (false, None);
        }
        // What came meanwhile was no debt.
        (self.place.mark, self.owed_from) = (opening.mark, opening.head);
        let here = cursor(opening.epoch, self.place.seq);
        self.control(&Control::Live { after: here.seq }, Some(here));
    }

    pub(super) fn forget_held(&mut self) {
        let shown = self.shown();
        if let Some(timed) = self.timed.as_mut().filter(|timed| !timed.held.is_empty()) {
            timed.drop_held();
            (self.place.seq, self.chain) = (shown, None);
        }
    }

    /// Says that it shows what happens, where that may be among what was let go.
    pub(super) fn say_live_again(&mut self) {
        if let (Some(here), true, false) = (self.place.cursor(), self.is_timed(), self.plays()) {
            self.control(&Control::Live { after: here.seq }, Some(here));
        }
    }

    /// What its client wants of it. Returns whether it goes on elsewhere: then what was asked or to be sent before is of no
    /// interest. `greeted`: the life of the stream that its client knows of, with what was sent.
    pub(crate) fn command(&mut self, command: &Command, greeted: Option<Epoch>) -> bool {
        let opening = self.seat.as_ref().and_then(|seat| seat.opening());
        let (Some(opening), Stage::Run, Some(life)) = (opening, self.stage, self.life) else {
            self.refuse("busy");
            return false;
        };
        if opening.generation != life.generation || self.timed.is_none() {
            self.refuse("busy");
            return false;
        }
        // Who is there already goes nowhere.
        let to = command.place(opening.head).filter(|_| !command.live || self.plays());
        let to = match to {
            Some(at) if is_foreign(at, opening.epoch) => {
                self.refuse("epoch");
                return false;
            }
            Some(at) if at.seq() > opening.head => {
                self.refuse("beyond");
                return false;
            }
            to => to,
        };
        let now = Instant::now();
        if let Some(at) = to {
            self.ready.clear();
            self.move_to(at.seq(), &opening, "seek", Start::After(at));
            if at == Position::Seq(0) {
                (self.from_start, self.chain) = (true, Some(0));
            }
            if greeted != Some(opening.epoch) {
                // It would take what follows for a part of the life that it knows.
                self.control(&self.hello(&opening), Some(cursor(opening.epoch, at.seq())));
            }
        }
        if let Some(timed) = &mut self.timed {
            if to.is_some() {
                timed.drop_held();
                timed.clock.restart();
                (timed.playing, timed.unsaid) = (true, true);
            }
            if let Some(speed) = command.speed {
                timed.clock.change(timed.clock.pace.at(speed), now);
            }
            match command.pause {
                // What happens from now on is shown when it goes on.
                Some(true) => {
                    timed.playing = true;
                    timed.clock.pause(now);
                }
                Some(false) => timed.clock.resume(now),
                None => {}
            }
        }
        if command.live && to.is_some() {
            self.go_live(&opening);
        }
        self.tell();
        to.is_some()
    }

    /// Says that nothing of what its client wanted was done.
    pub(crate) fn refuse(&mut self, reason: &'static str) {
        if let Some(timed) = &self.timed {
            let speed = timed.clock.pace.speed();
            self.control(&Control::Replay { state: "refused", reason: Some(reason), speed, after: self.shown() }, None);
        }
    }

    /// Says how it plays, and from where.
    pub(super) fn tell(&mut self) {
        let Some(timed) = &self.timed else { return };
        let state = match (timed.playing, timed.clock.paused) {
            (false, _) => "live",
            (true, None) => "playing",
            (true, Some(_)) => "paused",
        };
        let speed = timed.clock.pace.speed();
        self.control(&Control::Replay { state, reason: None, speed, after: self.shown() }, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(speed: f64, now: Instant) -> Clock {
        let pace = Pace::parse(&speed.to_string()).unwrap();
        let clock = Clock { pace, last: None, spent: Duration::ZERO, paused: None };
        assert_eq!(clock.due(5_000, now), Some(now), "the first at once");
        clock
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn events_are_due_after_their_own_pauses_divided_by_the_speed() {
        let now = Instant::now();
        let mut clock = clock(4.0, now);
        clock.showed(1_000, now, now);
        assert_eq!(clock.due(3_000, now), Some(now + ms(500)));
        // A little late: the next is not later for it.
        clock.showed(3_000, now + ms(500), now + ms(520));
        assert_eq!(clock.due(3_400, now), Some(now + ms(600)));
        assert_eq!(clock.due(2_000, now), Some(now + ms(500)), "a clock that went back");
        // Very late: the next ones keep their distance.
        clock.showed(3_400, now + ms(600), now + ms(9_000));
        assert_eq!(clock.due(3_800, now), Some(now + ms(9_100)));
    }

    #[test]
    fn a_pause_takes_no_time() {
        let now = Instant::now();
        let mut clock = clock(1.0, now);
        clock.showed(0, now, now);
        clock.pause(now + ms(100));
        clock.pause(now + ms(200));
        assert_eq!(clock.due(1_000, now), None);
        clock.resume(now + ms(5_100));
        clock.resume(now + ms(6_000));
        assert_eq!(clock.due(1_000, now), Some(now + ms(6_000)));
    }

    #[test]
    fn a_pause_is_capped_however_often_the_speed_changes() {
        let now = Instant::now();
        let mut clock = clock(1.0, now);
        clock.pace = clock.pace.capped("2").unwrap();
        clock.showed(0, now, now);
        for tenths in 1..=19 {
            let speed = if tenths % 2 == 0 { "1" } else { "0.5" };
            clock.change(clock.pace.at(Pace::parse(speed).unwrap()), now + ms(tenths * 100));
        }
        assert_eq!(clock.due(3_600_000, now), Some(now + ms(2_000)));
        clock.showed(3_600_000, now + ms(2_000), now + ms(2_000));
        assert_eq!(clock.due(7_200_000, now), Some(now + ms(4_000)), "and the next one anew");
    }

    #[test]
    fn another_speed_holds_for_the_rest_of_a_pause() {
        let now = Instant::now();
        let mut clock = clock(1.0, now);
        clock.showed(0, now, now);
        clock.change(clock.pace.at(Pace::parse("10").unwrap()), now + ms(400));
        assert_eq!(clock.due(1_000, now), Some(now + ms(460)));
        clock.pause(now + ms(430));
        clock.change(clock.pace.at(Pace::parse("0.1").unwrap()), now + ms(9_999));
        clock.resume(now + ms(9_999));
        // 700 ms were played by then.
        assert_eq!(clock.due(1_000, now), Some(now + ms(9_999 + 3_000)));
    }
}
