//! Whose calls are whose, over all sessions.

use std::collections::HashMap;

use herald_protocol::{Epoch, SessionId};

use crate::check::{
    findings::{Class, Findings},
    truth::SessionLog,
};

const WHO: &str = "Game Master's path";
/// Calls and spans remembered; beyond, the oldest are forgotten.
const MOST: usize = 200_000;

/// The calls of all sessions so far: none belongs to two, and no Game Master plays for two at a time.
#[derive(Debug, Default)]
pub struct Calls {
    owners: HashMap<Box<str>, SessionId>,
    spans: HashMap<Box<str>, Vec<Span>>,
    size: usize,
}

/// From the first to the last event of a Game Master between two starts of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    session: SessionId,
    life: Epoch,
    first: u64,
    last: u64,
}

impl Calls {
    /// Adds the calls of a session and says which of them can't be its own.
    pub fn add(&mut self, log: &SessionLog) -> Findings {
        let mut found = Findings::default();
        if self.size > MOST {
            *self = Self::default();
        }
        for name in &log.calls {
            self.size += 1;
            let owner = self.owners.entry(name.call.clone()).or_insert_with(|| log.session.clone());
            if *owner != log.session {
                found.add(Class::Foreign, &log.session, WHO, 0, || format!("call {} was made for {owner}", name.call));
            }
        }
        for (g, span) in spans(log) {
            self.size += 1;
            let spans = self.spans.entry(g.clone()).or_default();
            let crossed = spans.iter().find(|other| other.session != span.session && other.crosses(&span));
            if let Some(other) = crossed {
                let what = || format!("Game Master {g} played for {} at the same time", other.session);
                found.add(Class::Foreign, &log.session, WHO, span.first, what);
            }
            spans.push(span);
        }
        found
    }
}

impl Span {
    fn crosses(&self, other: &Self) -> bool {
        self.life == other.life && self.first < other.last && other.first < self.last
    }
}

/// The Game Masters that a session heard, and from where to where without a start between.
fn spans(log: &SessionLog) -> Vec<(Box<str>, Span)> {
    use crate::check::truth::Step;
    use herald_protocol::record::ActionKind;

    let mut all: Vec<(Box<str>, Span)> = Vec::new();
    for life in &log.lives {
        // Where those begin that go on.
        let mut open = all.len();
        for entry in &life.game {
            if matches!(entry.step, Step::Action { kind: ActionKind::Start, .. }) {
                open = all.len();
            }
            let Some(name) = entry.call.and_then(|call| log.calls.get(call.id as usize)) else { continue };
            match all[open..].iter_mut().find(|(g, _)| *g == name.g) {
                Some((_, span)) => span.last = entry.seq,
                None => {
                    let session = log.session.clone();
                    all.push((name.g.clone(), Span { session, life: life.epoch, first: entry.seq, last: entry.seq }));
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use herald_protocol::{Epoch, record::ActionKind};

    use super::*;
    use crate::check::truth::{Call, CallName, GameEntry, Step};

    /// Calls by name and Game Master, and which of them spoke where; `None` is a start.
    fn log(session: &str, calls: &[(&str, &str)], said: &[(u64, Option<u32>)]) -> SessionLog {
        let mut log = SessionLog::new(SessionId::new(session).unwrap(), Epoch::new(0));
        log.calls = calls.iter().map(|(call, g)| CallName { call: (*call).into(), g: (*g).into() }).collect();
        let entry = |(seq, id): &(u64, Option<u32>)| GameEntry {
            seq: *seq,
            step: if id.is_some() { Step::Word } else { Step::Action { n: 1, kind: ActionKind::Start } },
            call: id.map(|id| Call { id, k: 0, of: 1, sound: true }),
        };
        log.life_mut().game = said.iter().map(entry).collect();
        log
    }

    #[test]
    fn sessions_one_after_the_other_may_share_a_game_master() {
        let mut calls = Calls::default();
        let first = log("a", &[("c1", "g")], &[(1, None), (2, Some(0)), (5, Some(0)), (9, None)]);
        assert!(calls.add(&first).is_clean());
        let second = log("b", &[("c2", "g")], &[(6, None), (7, Some(0)), (8, Some(0))]);
        assert!(calls.add(&second).is_clean());
        // Two starts, another session between them.
        let third = log("c", &[("c3", "g"), ("c4", "g")], &[(10, Some(0)), (11, Some(0)), (20, None), (21, Some(1))]);
        assert!(calls.add(&third).is_clean());
        assert!(calls.add(&log("d", &[("c5", "g")], &[(12, Some(0)), (19, Some(0))])).is_clean());
    }

    #[test]
    fn a_call_of_another_session_is_found() {
        let mut calls = Calls::default();
        assert!(calls.add(&log("a", &[("c1", "g")], &[(1, Some(0))])).is_clean());
        assert_eq!(calls.add(&log("b", &[("c1", "g")], &[(9, Some(0))])).counts.foreign, 1);
        let crossing = log("c", &[("c2", "h")], &[(20, Some(0)), (30, Some(0))]);
        assert!(calls.add(&crossing).is_clean());
        assert_eq!(calls.add(&log("d", &[("c3", "h")], &[(25, Some(0)), (35, Some(0))])).counts.foreign, 1);
    }
}
