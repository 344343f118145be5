//! Judging a snapshot: the last event of each of its topics at one cut, then everything behind the cut.
//!
//! `herald.v1` and event streams are told the cut. A plain client is not: for it the cut is looked for that explains best
//! what came. It can't be later than the first event came, as that was sent behind the cut.
//!
//! A topic of which the cut's last event was trimmed may be absent.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::truth::Life;

/// A snapshot of which nothing came within this time, ms, is cut by then.
const SLOWEST_MS: u64 = 10_000;

/// A snapshot that is being taken.
#[derive(Debug, Clone)]
pub(super) struct Taking {
    opened_ms: u64,
    first_ms: Option<u64>,
    /// What came, by place in the life.
    came: Vec<usize>,
}

/// What is wrong with a snapshot, by place in the life.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Part of it, or behind it and before others that came, and not there.
    pub(super) missing: Vec<usize>,
    /// Behind all that came, and not there.
    pub(super) behind: Vec<usize>,
    /// There more than once.
    pub(super) doubled: Vec<usize>,
    /// Behind later ones.
    pub(super) reordered: Vec<usize>,
    /// Not part of it.
    pub(super) stale: Vec<usize>,
}

impl Taking {
    pub(super) const fn new(opened_ms: u64) -> Self {
        Self { opened_ms, first_ms: None, came: Vec::new() }
    }

    pub(super) fn add(&mut self, index: usize, at_ms: u64) {
        self.first_ms.get_or_insert(at_ms);
        self.came.push(index);
    }

    /// The highest sequence that came.
    pub(super) fn last(&self, life: &Life) -> Option<u64> {
        self.came.iter().max().map(|index| life.shown[*index].seq)
    }

    /// What came was the snapshot, whole, and this is its cut.
    pub(super) fn at_cut(&self, life: &Life, cut: u64) -> Outcome {
        let (came, outcome) = self.in_order();
        let cut = life.shown.partition_point(|event| event.seq <= cut);
        compare(life, cut, &came, outcome)
    }

    /// What came was part of a snapshot whose cut is not known.
    pub(super) fn broken_off(&self, life: &Life) -> Outcome {
        let (came, mut outcome) = self.in_order();
        outcome.stale.extend(came.into_iter().filter(|index| life.shown[*index].topic.is_none()));
        outcome
    }

    /// What came was a snapshot and what followed it; everything up to `through` has to be there.
    pub(super) fn guess(&self, life: &Life, through: u64) -> Outcome {
        let (came, outcome) = self.in_order();
        let latest = self.latest_cut(life);
        let mut costs = Costs::new(life, &came, through);
        let (mut best, mut lowest) = (0, costs.here());
        for cut in 1..=latest {
            costs.step();
            let cost = costs.here();
            if cost < lowest {
                (best, lowest) = (cut, cost);
            }
        }
        if through == 0 && lowest > 0 && self.is_beginning(life, &came, latest) {
            // Broken off before it was whole.
            return outcome;
        }
        let (before, behind): (BTreeSet<usize>, BTreeSet<usize>) = came.iter().partition(|index| **index < best);
        let mut outcome = compare(life, best, &before, outcome);
        let end = behind.last().map_or(best, |last| last + 1);
        outcome.missing.extend((best..end).filter(|index| !behind.contains(index)));
        let due = life.shown.partition_point(|event| event.seq <= through);
        outcome.behind.extend(end..due.max(end));
        outcome
    }

    /// What came in order and once, and what did not.
    fn in_order(&self) -> (BTreeSet<usize>, Outcome) {
        let (mut came, mut outcome) = (BTreeSet::new(), Outcome::default());
        for index in &self.came {
            let late = came.last().is_some_and(|last| last > index);
            if !came.insert(*index) {
                outcome.doubled.push(*index);
            } else if late {
                outcome.reordered.push(*index);
            }
        }
        (came, outcome)
    }

    /// How many shown events the latest possible cut may lie behind.
    fn latest_cut(&self, life: &Life) -> usize {
        let latest_ms = self.first_ms.unwrap_or(self.opened_ms + SLOWEST_MS);
        life.shown.iter().position(|event| event.ts_ms > latest_ms).unwrap_or(life.shown.len())
    }

    /// Whether what came is how some snapshot begins.
    fn is_beginning(&self, life: &Life, came: &BTreeSet<usize>, latest: usize) -> bool {
        let Some(last) = came.last() else { return true };
        let mut state = BTreeMap::new();
        (0..=latest).any(|cut| {
            if let Some((index, topic)) = cut.checked_sub(1).and_then(|at| Some((at, life.shown[at].topic?))) {
                state.insert(topic, index);
            }
            let begins: BTreeSet<usize> = state.values().copied().filter(|index| index <= last).collect();
            begins == *came
        })
    }
}

/// Compares what came as a snapshot with what it had to be.
fn compare(life: &Life, cut: usize, came: &BTreeSet<usize>, mut outcome: Outcome) -> Outcome {
    let state = state(life, cut);
    let kept = |index: &usize| life.shown[*index].seq > life.trimmed;
    outcome.missing = state.difference(came).copied().filter(kept).collect();
    // An older event in the place of the last one of its topic is one fault, not two.
    let instead: BTreeSet<u16> = outcome.missing.iter().filter_map(|index| life.shown[*index].topic).collect();
    let stale = came.difference(&state).copied();
    outcome.stale.extend(stale.filter(|index| life.shown[*index].topic.is_none_or(|topic| !instead.contains(&topic))));
    outcome
}

/// The last event of each snapshot topic among the first `cut` shown events.
fn state(life: &Life, cut: usize) -> BTreeSet<usize> {
    let last: BTreeMap<u16, usize> =
        life.shown[..cut].iter().enumerate().filter_map(|(index, event)| Some((event.topic?, index))).collect();
    last.into_values().collect()
}

/// How badly each cut explains what came: the number of events that would be wrong.
struct Costs<'a> {
    life: &'a Life,
    came: &'a BTreeSet<usize>,
    through: usize,
    cut: usize,
    /// The last event of each topic, and whether it came.
    state: BTreeMap<u16, usize>,
    /// How many of them came, and how many are absent that are kept.
    there: usize,
    absent: usize,
    /// What came of what lies before the cut.
    before: usize,
}

impl<'a> Costs<'a> {
    fn new(life: &'a Life, came: &'a BTreeSet<usize>, through: u64) -> Self {
        let through = life.shown.partition_point(|event| event.seq <= through);
        Self { life, came, through, cut: 0, state: BTreeMap::new(), there: 0, absent: 0, before: 0 }
    }

    /// The next event lies before the cut, too.
    fn step(&mut self) {
        let index = self.cut;
        self.cut += 1;
        let came = self.came.contains(&index);
        self.before += usize::from(came);
        let Some(topic) = self.life.shown[index].topic else { return };
        if let Some(former) = self.state.insert(topic, index) {
            self.count(former, |count| count - 1);
        }
        self.count(index, |count| count + 1);
    }

    fn count(&mut self, index: usize, change: impl Fn(usize) -> usize) {
        if self.came.contains(&index) {
            self.there = change(self.there);
        } else if self.life.shown[index].seq > self.life.trimmed {
            self.absent = change(self.absent);
        }
    }

    fn here(&self) -> usize {
        let end = self.came.last().map_or(self.cut, |last| (last + 1).max(self.cut));
        let holes = (end - self.cut) - (self.came.len() - self.before);
        let stale = self.before - self.there;
        self.absent + stale + holes + self.through.saturating_sub(end)
    }
}
