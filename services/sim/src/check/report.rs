//! One table and a verdict.
//!
//! A report is a sum: sessions are added as they are judged, and two runs add up to one ([`Report::merge`]), also from
//! their JSON.

mod table;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    findings::Findings,
    judge::Judgement,
    marks::Faults,
    notes::{Kind, Notes},
    pauses::Pauses,
    source::{ArenaJudgement, GameJudgement},
};

/// Problems kept in words.
const PROBLEMS: usize = 20;

/// What became of the clients of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// How many.
    pub clients: u64,
    /// Events that came to them.
    pub deliveries: u64,
    /// Their connections beyond the first.
    pub reconnects: u64,
    /// Of them those with a cursor.
    pub resumes: u64,
    /// Of them those without one, although there was one.
    pub chosen_live: u64,
    /// Gaps they were told of.
    pub announced: u64,
    /// Events in them.
    pub excused: u64,
    /// Gaps they were told of although the log holds something in them.
    pub needless: u64,
}

/// What the sources brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// Events published on the arena path.
    pub arena_published: u64,
    /// Of them those the stream stored.
    pub arena_stored: u64,
    /// Of them those stored behind later ones.
    pub arena_late: u64,
    /// Events of the Game Masters.
    pub game_stored: u64,
    /// Actions.
    pub actions: u64,
    /// Calls to Game Masters.
    pub calls: u64,
    /// Of them those that came to their end.
    pub whole: u64,
    /// Actions that ended with `bridge lost`.
    pub bridge_lost: u64,
}

/// Everything that was judged.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What the run can be repeated by; of several runs the first one's.
    pub seed: u64,
    /// How long it took, ms; of several runs together.
    pub lasted_ms: u64,
    /// Sessions judged.
    pub sessions: u64,
    /// What became of the clients, by kind.
    pub clients: BTreeMap<String, Clients>,
    /// What the sources brought.
    pub sources: Sources,
    /// Arena events that the stream never stored, by the fault to blame, or `none`.
    pub unstored: BTreeMap<String, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// How long they silenced clients that stayed.
    pub pauses: Pauses,
    /// Lines of marks that could not be read.
    pub bad_marks: u64,
    /// What is wrong with Herald.
    pub found: Findings,
    /// What keeps the run from proving anything, in words.
    pub problems: Vec<String>,
    /// How many of those there were.
    pub problem_count: u64,
}

impl Report {
    /// An empty report.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Adds a client. `steady` is when its session had traffic, ms since 1970 (see [`Pauses::measure`]).
    pub fn add_client(&mut self, notes: &Notes, judgement: Judgement, steady: (u64, u64), faults: &Faults) {
        let of_kind = self.clients.entry(name(notes.kind).to_owned()).or_default();
        of_kind.clients += 1;
        of_kind.deliveries += judgement.deliveries;
        of_kind.reconnects += judgement.connections.saturating_sub(1);
        of_kind.resumes += judgement.resumes;
        of_kind.chosen_live += judgement.chosen_live;
        of_kind.announced += judgement.announced;
        of_kind.excused += judgement.excused;
        of_kind.needless += judgement.needless;
        if judgement.connections == 0 {
            self.problem(format!("{}: a {} client was never let in", notes.session, name(notes.kind)));
        }
        self.found.merge(judgement.found);
        self.pauses.measure(notes, steady, faults);
    }

    /// Adds a session's arena path.
    pub fn add_arena(&mut self, judgement: ArenaJudgement, faults: &Faults) {
        self.sources.arena_published += judgement.published;
        self.sources.arena_stored += judgement.stored;
        self.sources.arena_late += judgement.late;
        for at_ms in judgement.unstored {
            *self.unstored.entry(faults.blame(at_ms).to_owned()).or_default() += 1;
        }
        self.found.merge(judgement.found);
    }

    /// Adds a session's Game Master's path.
    pub fn add_game(&mut self, judgement: GameJudgement) {
        self.sources.game_stored += judgement.stored;
        self.sources.actions += judgement.actions;
        self.sources.calls += judgement.calls;
        self.sources.whole += judgement.whole;
        self.sources.bridge_lost += judgement.bridge_lost;
        self.found.merge(judgement.found);
    }

    /// Sets what the injector did: all of it, at the end.
    pub fn set_faults(&mut self, faults: &Faults) {
        self.faults.clear();
        for fault in &faults.all {
            *self.faults.entry(fault.kind.to_string()).or_default() += 1;
        }
        self.bad_marks = faults.bad_lines;
    }

    /// Something that keeps the run from proving anything: a session that could not be judged, a client never let in. The
    /// verdict is then `failed`.
    pub fn problem(&mut self, what: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS {
            self.problems.push(what);
        }
    }

    /// Adds another run.
    pub fn merge(&mut self, other: Self) {
        self.lasted_ms += other.lasted_ms;
        self.sessions += other.sessions;
        for (kind, clients) in other.clients {
            self.clients.entry(kind).or_default().add(&clients);
        }
        self.sources.add(&other.sources);
        add_counts(&mut self.unstored, other.unstored);
        add_counts(&mut self.faults, other.faults);
        self.pauses.merge(&other.pauses);
        self.bad_marks += other.bad_marks;
        self.found.merge(other.found);
        self.problem_count += other.problem_count;
        let room = PROBLEMS.saturating_sub(self.problems.len());
        self.problems.extend(other.problems.into_iter().take(room));
    }

    /// Events that came to clients.
    #[must_use]
    pub fn deliveries(&self) -> u64 {
        self.clients.values().map(|clients| clients.deliveries).sum()
    }

    /// Whether everything holds, and something was seen.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.found.is_clean() && self.problem_count == 0 && self.deliveries() > 0
    }

    /// `VERDICT ok lost=0 doubled=0 reordered=0 foreign=0 gaps=0 unstored=N faults=N deliveries=N seed=N`, or
    /// `VERDICT failed ...`.
    #[must_use]
    pub fn verdict(&self) -> String {
        let word = if self.holds() { "ok" } else { "failed" };
        let counts = &self.found.counts;
        format!(
            "VERDICT {word} lost={} doubled={} reordered={} foreign={} gaps={} unstored={} faults={} deliveries={} seed={}",
            counts.lost,
            counts.doubled,
            counts.reordered,
            counts.foreign,
            counts.gaps,
            self.unstored.values().sum::<u64>(),
            self.faults.values().sum::<u64>(),
            self.deliveries(),
            self.seed
        )
    }
}

impl Clients {
    const fn add(&mut self, other: &Self) {
        self.clients += other.clients;
        self.deliveries += other.deliveries;
        self.reconnects += other.reconnects;
        self.resumes += other.resumes;
        self.chosen_live += other.chosen_live;
        self.announced += other.announced;
        self.excused += other.excused;
        self.needless += other.needless;
    }
}

impl Sources {
    const fn add(&mut self, other: &Self) {
        self.arena_published += other.arena_published;
        self.arena_stored += other.arena_stored;
        self.arena_late += other.arena_late;
        self.game_stored += other.game_stored;
        self.actions += other.actions;
        self.calls += other.calls;
        self.whole += other.whole;
        self.bridge_lost += other.bridge_lost;
    }
}

fn add_counts(into: &mut BTreeMap<String, u64>, from: BTreeMap<String, u64>) {
    for (key, count) in from {
        *into.entry(key).or_default() += count;
    }
}

/// A kind's name in tables.
#[must_use]
pub const fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Plain => "plain",
        Kind::V1 => "herald.v1",
        Kind::Sse => "sse",
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::SessionId;

    use super::*;
    use crate::check::{findings::Class, marks::Mark};

    fn client(kind: Kind) -> Notes {
        Notes { session: SessionId::new("s").unwrap(), kind, staying: true, notes: Vec::new() }
    }

    fn report() -> Report {
        let mut faults = Faults::default();
        faults.apply(Mark::Fault { id: 1, kind: "nats killed".into(), target: String::new(), at_ms: 1_000_000 });
        faults.apply(Mark::Over { id: 1, at_ms: 1_002_000 });
        let mut report = Report::new(42);
        report.sessions = 1;
        let judgement = Judgement { deliveries: 10, connections: 3, resumes: 2, ..Judgement::default() };
        for kind in [Kind::Plain, Kind::V1, Kind::Sse] {
            report.add_client(&client(kind), judgement.clone(), (0, 0), &faults);
        }
        let unstored = vec![1, 1_001_000];
        report.add_arena(ArenaJudgement { published: 12, stored: 10, unstored, ..ArenaJudgement::default() }, &faults);
        report.add_game(GameJudgement { calls: 3, whole: 2, ..GameJudgement::default() });
        report.set_faults(&faults);
        report
    }

    #[test]
    fn the_verdict_reads_to_the_letter() {
        let mut report = report();
        let ok = "VERDICT ok lost=0 doubled=0 reordered=0 foreign=0 gaps=0 unstored=2 faults=1 deliveries=30 seed=42";
        assert_eq!(report.verdict(), ok);
        let session = SessionId::new("s").unwrap();
        for (class, times) in (1..).zip(Class::ALL).map(|(times, class)| (class, times)) {
            (0..times).for_each(|_| report.found.add(class, &session, "client", 1, String::new));
        }
        let failed = ok.replace(
            "ok lost=0 doubled=0 reordered=0 foreign=0 gaps=0",
            "failed lost=1 doubled=2 reordered=3 foreign=4 gaps=5",
        );
        assert_eq!(report.verdict(), failed);
    }

    #[test]
    fn a_run_that_proves_nothing_fails() {
        assert!(Report::new(1).verdict().starts_with("VERDICT failed lost=0"));
        let mut report = report();
        report.add_client(&client(Kind::Sse), Judgement::default(), (0, 0), &Faults::default());
        assert!(!report.holds());
        assert_eq!(report.problems, ["s: a sse client was never let in"]);
    }

    #[test]
    fn two_runs_add_up_also_from_json() {
        let (one, mut other) = (report(), report());
        other.problem("no log".into());
        let text = serde_json::to_string(&other).unwrap();
        let mut sum = serde_json::from_str::<Report>(&text).unwrap();
        assert_eq!(sum, other);
        sum.merge(one);
        assert_eq!((sum.deliveries(), sum.sessions, sum.problem_count), (60, 2, 1));
        assert_eq!(sum.unstored, BTreeMap::from([("nats killed".into(), 2), ("none".into(), 2)]));
        assert_eq!(sum.faults, BTreeMap::from([("nats killed".into(), 2)]));
        assert!(sum.verdict().starts_with("VERDICT failed"));
        for _ in 0..100 {
            sum.problem("again".into());
        }
        assert_eq!((sum.problems.len(), sum.problem_count), (PROBLEMS, 101));
    }
}
