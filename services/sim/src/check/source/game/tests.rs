use herald_protocol::{Epoch, SessionId};

use super::*;
use crate::check::{
    findings::Counts,
    played::Asked,
    truth::{CallName, GameEntry},
};

const CLEAN: Counts = Counts { lost: 0, doubled: 0, reordered: 0, foreign: 0, gaps: 0 };

/// A log as it is written: calls have three events each, unless an event says otherwise.
struct Log(SessionLog);

impl Log {
    fn new() -> Self {
        let mut log = SessionLog::new(SessionId::new("s").unwrap(), Epoch::new(1));
        log.calls = (0..9).map(|id| CallName { call: format!("c{id}").into(), g: "g".into() }).collect();
        Self(log)
    }

    fn add(mut self, step: Step, call: Option<Call>) -> Self {
        let game = &mut self.0.life_mut().game;
        let seq = game.last().map_or(1, |last| last.seq + 1);
        game.push(GameEntry { seq, step, call });
        self
    }

    fn action(self, n: u64, kind: ActionKind) -> Self {
        self.add(Step::Action { n, kind }, None)
    }

    fn propose(self, n: u64) -> Self {
        self.action(n, ActionKind::Propose)
    }

    fn call(self, id: u32, k: u32, of: u32, step: Step) -> Self {
        self.add(step, Some(Call { id, k, of, sound: true }))
    }

    /// Events of a call of three; the last one is its result.
    fn says(self, id: u32, numbers: &[u32]) -> Self {
        numbers.iter().fold(self, |log, k| log.call(id, *k, 3, if *k == 2 { Step::Result } else { Step::Word }))
    }

    fn error(self, ends: u64) -> Self {
        self.add(Step::Error { ends: Some(ends), why: Why::Other }, None)
    }

    fn lost(self, ends: u64) -> Self {
        self.add(Step::Error { ends: Some(ends), why: Why::Lost }, None)
    }

    fn done(self) -> Self {
        self.add(Step::Done, None)
    }

    fn judged(&self) -> GameJudgement {
        let of_kind = |entry: &GameEntry| match entry.step {
            Step::Action { kind: kind @ (ActionKind::Propose | ActionKind::Choose), .. } => Some(kind),
            _ => None,
        };
        let kinds = self.0.lives.iter().flat_map(|life| &life.game).filter_map(of_kind);
        self.asked(&kinds.map(|kind| (kind, Some(202))).collect::<Vec<_>>())
    }

    fn asked(&self, commands: &[(ActionKind, Option<u16>)]) -> GameJudgement {
        let asked = |(kind, status): &(ActionKind, Option<u16>)| Asked {
            kind: *kind,
            at_ms: 0,
            answered_ms: 0,
            status: *status,
        };
        let asked = commands.iter().map(asked).collect();
        let session = self.0.session.clone();
        game(&self.0, &Played { session, published: Vec::new(), end: None, asked, clients: Vec::new() })
    }

    fn counts(&self) -> Counts {
        let judgement = self.judged();
        println!("{:#?}", judgement.found.examples);
        judgement.found.counts
    }
}

#[test]
fn a_clean_story_is_clean() {
    let log = Log::new().action(1, ActionKind::Start).done().propose(2).says(0, &[0, 1, 2]);
    // Superseded in the middle of its call, before its call, and cancelled.
    let log = log.propose(3).says(1, &[0, 1]).propose(4).error(3).says(2, &[0, 1, 2]);
    let log =
        log.propose(5).action(6, ActionKind::Choose).error(5).says(3, &[0]).action(7, ActionKind::Cancel).error(7);
    let judgement = log.judged();
    assert_eq!(judgement.found.counts, CLEAN, "{:#?}", judgement.found.examples);
    assert_eq!((judgement.actions, judgement.calls, judgement.whole, judgement.stored), (7, 4, 2, 9));
    let cancel = Log::new().propose(1).says(0, &[0, 1, 2]).action(2, ActionKind::Cancel).done();
    assert_eq!(cancel.counts(), CLEAN);
    let failed = Log::new().propose(1).says(0, &[0, 1]).error(1).propose(2).says(1, &[0, 1, 2]);
    assert_eq!(failed.counts(), CLEAN);
    let taken = Log::new().propose(1).says(0, &[0, 1, 2]).action(2, ActionKind::Cancel);
    assert_eq!(taken.add(Step::Error { ends: Some(2), why: Why::TakenOver }, None).counts(), CLEAN);
    let own_error = Log::new().propose(1).call(0, 0, 1, Step::Error { ends: None, why: Why::Other });
    assert_eq!(own_error.judged().whole, 1);
    assert_eq!(own_error.counts(), CLEAN);
}

#[test]
fn a_lost_bridge_is_told_once_however_many_ends_die() {
    let lost = |log: Log, n| log.action(n, ActionKind::Lost);
    let begun = || Log::new().propose(1).says(0, &[0]);
    let told = lost(begun(), 2).lost(2);
    assert_eq!((told.counts(), told.judged().bridge_lost), (CLEAN, 1));
    // Its ender died before it spoke; behind it another one, or a new command.
    assert_eq!(lost(lost(begun(), 2), 3).lost(3).counts(), CLEAN);
    assert_eq!(lost(begun(), 2).propose(3).error(2).says(1, &[0, 1, 2]).counts(), CLEAN);
    // Each one that is open gets an end of its own, the oldest first; one that was only to end others needs none.
    assert_eq!(lost(begun(), 2).propose(3).error(1).says(1, &[0, 1, 2]).counts(), CLEAN);
    let three = || lost(begun().propose(2), 3).error(1);
    assert_eq!((three().lost(3).counts(), three().lost(3).judged().bridge_lost), (CLEAN, 1));
    assert_eq!(three().error(1).lost(3).counts(), Counts { doubled: 1, ..CLEAN });
    // It died behind its word.
    assert_eq!(lost(lost(begun(), 2).lost(2), 3).done().counts(), CLEAN);
    assert_eq!(lost(lost(begun(), 2).lost(2), 3).lost(3).counts(), Counts { doubled: 1, ..CLEAN });
    let whole = Log::new().propose(1).says(0, &[0, 1, 2]);
    assert_eq!(lost(whole, 2).lost(2).counts(), Counts { doubled: 1, ..CLEAN }, "it had ended by itself");
}

#[test]
fn an_action_that_never_ends_is_found_once() {
    assert_eq!(Log::new().propose(1).says(0, &[0, 1]).counts(), Counts { lost: 1, ..CLEAN });
    assert_eq!(Log::new().propose(1).action(2, ActionKind::Lost).counts(), Counts { lost: 1, ..CLEAN });
    let untold = Log::new().propose(1).says(0, &[0, 1]).propose(2).says(1, &[0, 1, 2]);
    assert_eq!(untold.counts(), Counts { lost: 1, ..CLEAN });
    let silent = Log::new().propose(1).says(0, &[0]).action(2, ActionKind::Cancel).done();
    assert_eq!(silent.counts(), Counts { lost: 1, ..CLEAN });
}

#[test]
fn a_call_comes_whole_and_in_order() {
    let call = |numbers: &[u32]| Log::new().propose(1).says(0, numbers).counts();
    assert_eq!(call(&[0, 1, 2]), CLEAN);
    assert_eq!(call(&[0, 2]), Counts { lost: 1, ..CLEAN });
    assert_eq!(call(&[1, 2]), Counts { lost: 1, ..CLEAN });
    assert_eq!(call(&[0, 0, 1, 2]), Counts { doubled: 1, ..CLEAN });
    assert_eq!(call(&[1, 0, 2]), Counts { reordered: 1, ..CLEAN });
    let short = Log::new().propose(1).says(0, &[0]).call(0, 1, 3, Step::Result).counts();
    assert_eq!(short, Counts { lost: 1, ..CLEAN }, "an end before the end");
    let failed = Log::new().propose(1).says(0, &[0]).call(0, 2, 4, Step::Word).error(1).counts();
    assert_eq!(failed, Counts { lost: 1, foreign: 1, ..CLEAN }, "a hole is a hole, also before a failure");
    let mut altered = Log::new().propose(1).says(0, &[0, 1, 2]);
    altered.0.life_mut().game[2].call.as_mut().unwrap().sound = false;
    assert_eq!(altered.counts(), Counts { foreign: 1, ..CLEAN });
}

#[test]
fn without_the_fence_an_old_action_speaks_on() {
    let log = Log::new().propose(1).says(0, &[0]).propose(2).error(1).says(1, &[0]).call(0, 1, 3, Step::Word);
    assert_eq!(log.says(1, &[1, 2]).counts(), Counts { reordered: 1, ..CLEAN });
    let at_once = Log::new().propose(1).says(0, &[0]).propose(2).call(0, 1, 3, Step::Word).error(1).says(1, &[0, 1, 2]);
    assert!(at_once.counts().reordered >= 1, "before the first event of the next one");
    let behind_its_end =
        Log::new().propose(1).says(0, &[0]).action(2, ActionKind::Cancel).error(2).call(0, 1, 3, Step::Word);
    assert!(behind_its_end.counts().reordered >= 1);
    let foreign_end = Log::new().propose(1).says(0, &[0]).error(7).says(0, &[1, 2]);
    assert_eq!(foreign_end.counts(), Counts { reordered: 1, ..CLEAN });
    let twice = Log::new().propose(1).says(0, &[0]).error(1).error(1);
    assert_eq!(twice.counts(), Counts { doubled: 1, ..CLEAN });
}

#[test]
fn one_action_makes_one_call() {
    let two = Log::new().propose(1).says(0, &[0]).says(1, &[0, 1, 2]);
    assert_eq!(two.counts().doubled, 1);
    let by_start = Log::new().action(1, ActionKind::Start).says(0, &[0, 1, 2]);
    assert_eq!(by_start.counts(), Counts { reordered: 1, ..CLEAN });
    let numbers = Log::new().propose(2).says(0, &[0, 1, 2]).propose(2).says(1, &[0, 1, 2]);
    assert_eq!(numbers.counts(), Counts { reordered: 1, ..CLEAN });
    let nobody = Log::new().says(0, &[0]);
    assert_eq!(nobody.counts(), Counts { foreign: 1, ..CLEAN });
}

#[test]
fn every_command_has_its_action_and_every_action_its_command() {
    let log = || Log::new().propose(1).says(0, &[0, 1, 2]).action(2, ActionKind::Choose).says(1, &[0, 1, 2]);
    let (propose, choose) = (ActionKind::Propose, ActionKind::Choose);
    let counts = |asked: &[_]| log().asked(asked).found.counts;
    assert_eq!(counts(&[(propose, Some(202)), (choose, Some(202))]), CLEAN);
    assert_eq!(counts(&[(propose, None), (propose, Some(503)), (choose, Some(202))]), CLEAN, "its answer was lost");
    assert_eq!(counts(&[(propose, Some(202)), (propose, Some(202)), (choose, None)]), Counts { lost: 1, ..CLEAN });
    assert_eq!(counts(&[(choose, Some(202))]), Counts { doubled: 1, ..CLEAN });
}

#[test]
fn a_new_life_begins_in_the_middle() {
    let mut log = Log::new().propose(1).says(0, &[0]);
    log.0.begin(Epoch::new(2));
    let log = log.says(1, &[1, 2]).propose(2).says(0, &[1, 2]).propose(3).says(2, &[0, 1, 2]);
    assert_eq!(log.counts(), CLEAN, "what was open is gone with the stream");
    assert_eq!(log.judged().calls, 2);
}
