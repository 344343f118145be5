//! The arena path.

use crate::check::{
    findings::{Class, Findings},
    played::Played,
    truth::SessionLog,
};

const WHO: &str = "arena path";

/// What became of what was published on the arena path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ArenaJudgement {
    /// Events published.
    pub published: u64,
    /// Events stored.
    pub stored: u64,
    /// When those were published that are not in the log, ms since 1970.
    pub unstored: Vec<u64>,
    /// Events stored behind later ones. Nothing but NATS lies between, so it is told and not held against anybody.
    pub late: u64,
    /// What is wrong.
    pub found: Findings,
}

/// Judges the arena path of a session.
#[must_use]
pub fn arena(log: &SessionLog, played: &Played) -> ArenaJudgement {
    let mut judgement = ArenaJudgement { published: played.published.len() as u64, ..ArenaJudgement::default() };
    let mut stored = vec![false; played.published.len()];
    for life in &log.lives {
        // What two lives have in common is there in each.
        let mut here = vec![false; stored.len()];
        let mut highest = None;
        for entry in &life.arena {
            let mut wrong = |class, what: String| judgement.found.add(class, &log.session, WHO, entry.seq, || what);
            let Some(n) = entry.n else {
                wrong(Class::Foreign, "not one of this session's numbers, or altered".into());
                continue;
            };
            let Some(known) = here.get_mut(n as usize) else {
                wrong(Class::Foreign, format!("number {n} was never published"));
                continue;
            };
            if std::mem::replace(known, true) {
                wrong(Class::Doubled, format!("number {n} is stored twice"));
                continue;
            }
            judgement.late += u64::from(highest.is_some_and(|highest| n < highest));
            highest = highest.max(Some(n));
        }
        stored.iter_mut().zip(here).for_each(|(stored, here)| *stored |= here);
    }
    judgement.stored = stored.iter().filter(|stored| **stored).count() as u64;
    let missing = stored.iter().zip(&played.published).filter(|(stored, _)| !**stored);
    judgement.unstored = missing.map(|(_, at_ms)| *at_ms).collect();
    judgement
}

#[cfg(test)]
mod tests {
    use herald_protocol::{Epoch, SessionId};

    use super::*;
    use crate::check::{findings::Counts, truth::ArenaEntry};

    fn session() -> SessionId {
        SessionId::new("s").unwrap()
    }

    fn judged(lives: &[&[Option<u32>]]) -> ArenaJudgement {
        let mut log = SessionLog::new(session(), Epoch::new(0));
        for (epoch, numbers) in (0..).zip(lives) {
            if epoch > 0 {
                log.begin(Epoch::new(epoch));
            }
            log.life_mut().arena = (1..).zip(*numbers).map(|(seq, n)| ArenaEntry { seq, n: *n }).collect();
        }
        let published = vec![100, 200, 300, 400];
        arena(&log, &Played { session: session(), published, end: None, asked: Vec::new(), clients: Vec::new() })
    }

    #[test]
    fn what_is_not_stored_is_told_by_its_time_and_no_fault() {
        let all = judged(&[&[Some(0), Some(1), Some(2), Some(3)]]);
        assert_eq!((all.published, all.stored, all.unstored.len(), all.late), (4, 4, 0, 0));
        let some = judged(&[&[Some(3), Some(1)]]);
        assert_eq!((some.stored, some.unstored, some.late), (2, vec![100, 300], 1));
        assert!(some.found.is_clean());
    }

    #[test]
    fn doubled_and_foreign_events_are_found() {
        let found = judged(&[&[Some(0), None, Some(0), Some(9), Some(1), Some(0)]]).found;
        assert_eq!(found.counts, Counts { doubled: 2, foreign: 2, ..Counts::default() });
    }

    #[test]
    fn what_two_lives_have_in_common_is_not_doubled() {
        let judgement = judged(&[&[Some(0), Some(1)], &[Some(0), Some(2)]]);
        assert_eq!((judgement.stored, judgement.unstored.len()), (3, 1));
        assert!(judgement.found.is_clean());
    }
}
