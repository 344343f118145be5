//! How long a fault silenced clients that stayed.
//!
//! Sessions have steady traffic, so that two events far apart mean that something was in between. For each fault and each
//! staying client the longest time between two consecutive events is taken that touches the fault: from its mark to a moment
//! behind its end. Where a pause touches several faults, each is blamed for the whole of it; those that touch a single one
//! are kept apart, too: only they tell what a fault does by itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    marks::{Fault, Faults},
    notes::{Note, Notes},
};

/// A pause that begins so long after the end of a fault may still be its doing, ms. Most begin with the fault itself.
const RECOVERY_MS: u64 = 1_000;
/// Longest pause told apart, ms.
const LONGEST_MS: u64 = 600_000;

/// Lengths of time, counted by millisecond, ever more roughly: below 200 ms exactly, below 2 s by 5, then by 50.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lengths(BTreeMap<u64, u64>);

impl Lengths {
    /// Counts one.
    pub fn note(&mut self, ms: u64) {
        let step = match ms {
            0..200 => 1,
            200..2000 => 5,
            _ => 50,
        };
        *self.0.entry(ms.min(LONGEST_MS).next_multiple_of(step)).or_default() += 1;
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// What this share (0 to 1) of all did not exceed, ms, rounded up to its step. `None` where there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (self.count() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.0.iter().find_map(|(ms, count)| {
            seen += count;
            (seen >= wanted).then_some(*ms)
        })
    }

    /// Takes all of another.
    pub fn merge(&mut self, other: &Self) {
        for (ms, count) in &other.0 {
            *self.0.entry(*ms).or_default() += count;
        }
    }
}

/// The pauses of one kind of fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindPauses {
    /// Of all faults and clients.
    pub all: Lengths,
    /// Of those pauses that touch no other fault.
    pub alone: Lengths,
}

/// The pauses of all faults, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Pauses(pub BTreeMap<String, KindPauses>);

impl Pauses {
    /// Measures one client, if it stayed. `steady` is when its session had traffic, ms since 1970: silence before or behind
    /// it means nothing.
    pub fn measure(&mut self, notes: &Notes, steady: (u64, u64), faults: &Faults) {
        if !notes.staying {
            return;
        }
        let times: Vec<u64> = notes.notes.iter().filter_map(arrival).collect();
        let gaps: Vec<(u64, u64)> = times
            .windows(2)
            .map(|pair| (pair[0].max(steady.0), pair[1].min(steady.1)))
            .filter(|(from, to)| from < to)
            .collect();
        let (Some(first), Some(last)) = (gaps.first(), gaps.last()) else { return };
        // A client that heard nothing before a fault, or whose traffic ends with it, can't tell.
        let seen = faults.all.iter().filter(|fault| first.0 <= fault.at_ms && fault.at_ms < last.1);
        for fault in seen {
            let touching = gaps.iter().filter(|gap| touches(**gap, fault));
            let Some(longest) = touching.max_by_key(|gap| gap.1 - gap.0) else { continue };
            let of_kind = self.0.entry(fault.kind.to_string()).or_default();
            of_kind.all.note(longest.1 - longest.0);
            if faults.all.iter().all(|other| other.id == fault.id || !touches(*longest, other)) {
                of_kind.alone.note(longest.1 - longest.0);
            }
        }
    }

    /// Takes all of another.
    pub fn merge(&mut self, other: &Self) {
        for (kind, pauses) in &other.0 {
            let own = self.0.entry(kind.clone()).or_default();
            own.all.merge(&pauses.all);
            own.alone.merge(&pauses.alone);
        }
    }
}

/// Whether something from one moment to another may be the fault's doing.
fn touches(gap: (u64, u64), fault: &Fault) -> bool {
    let end = fault.over_ms.map_or(u64::MAX, |over| over.saturating_add(RECOVERY_MS));
    gap.1 > fault.at_ms && gap.0 < end
}

const fn arrival(note: &Note) -> Option<u64> {
    match note {
        Note::Event { at_ms, snapshot: false, .. } => Some(*at_ms),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use herald_protocol::SessionId;

    use super::*;
    use crate::check::{marks::Mark, notes::Kind};

    fn client(times: &[u64]) -> Notes {
        let event = |at_ms: &u64| Note::Event { seq: 1, prev: None, hash: 0, snapshot: false, at_ms: *at_ms, ts: 0 };
        let notes = times.iter().map(event).collect();
        Notes { session: SessionId::new("s").unwrap(), kind: Kind::Plain, staying: true, notes }
    }

    fn faults(all: &[(&str, u64, Option<u64>)]) -> Faults {
        let mut faults = Faults::default();
        for (id, (kind, at_ms, over)) in (0..).zip(all) {
            faults.apply(Mark::Fault { id, kind: (*kind).into(), target: String::new(), at_ms: *at_ms });
            if let Some(at_ms) = *over {
                faults.apply(Mark::Over { id, at_ms });
            }
        }
        faults
    }

    /// Kind, how many, longest; and the same of those alone.
    fn measured(times: &[u64], steady: (u64, u64), of: &[(&str, u64, Option<u64>)]) -> Vec<(String, u64, u64, u64)> {
        let mut pauses = Pauses::default();
        pauses.measure(&client(times), steady, &faults(of));
        let row = |(kind, it): (&String, &KindPauses)| {
            (kind.clone(), it.all.count(), it.all.quantile(1.0).unwrap(), it.alone.count())
        };
        pauses.0.iter().map(row).collect()
    }

    const ALWAYS: (u64, u64) = (0, u64::MAX);

    #[test]
    fn the_longest_silence_that_touches_a_fault_counts() {
        let times = [1000, 1100, 1200, 4000, 4100, 9000, 9100, 20_000, 20_100];
        let row = |kind: &str, longest, alone| vec![(kind.to_owned(), 1, longest, alone)];
        assert_eq!(measured(&times, ALWAYS, &[("edge killed", 1150, Some(1500))]), row("edge killed", 2800, 1));
        assert_eq!(measured(&times, ALWAYS, &[("edge killed", 1250, Some(3200))]), row("edge killed", 4900, 1));
        // 4,100 to 9,000 begins only when all is over.
        assert_eq!(measured(&times, ALWAYS, &[("a", 1050, Some(3100))]), row("a", 2800, 1));
        assert_eq!(measured(&times, ALWAYS, &[("a", 9050, None)]), row("a", 10_900, 1));
        assert_eq!(measured(&times, ALWAYS, &[("early", 900, Some(950)), ("late", 20_100, None)]), vec![]);
    }

    #[test]
    fn silence_outside_of_the_traffic_means_nothing() {
        let times = [1000, 1100, 1200, 9000];
        assert_eq!(measured(&times, (0, 1300), &[("a", 1050, None)]), vec![("a".to_owned(), 1, 100, 1)]);
        assert_eq!(measured(&times, (0, 1300), &[("a", 1350, None)]), vec![]);
        assert_eq!(measured(&[1000], ALWAYS, &[("a", 1050, None)]), vec![]);
    }

    #[test]
    fn a_pause_that_touches_two_faults_belongs_to_neither_alone() {
        let times = [1000, 1100, 3000, 3100, 9000, 9100, 9200];
        let of = [("a", 1050, Some(1200)), ("b", 2900, Some(2950)), ("c", 8000, Some(8100)), ("d", 9150, None)];
        let row = |kind: &str, longest, alone| (kind.to_owned(), 1, longest, alone);
        // Both touch the first pause; b also the second one, as that begins soon after its end.
        let expected = [row("a", 1900, 0), row("b", 5900, 0), row("c", 5900, 0), row("d", 100, 1)];
        assert_eq!(measured(&times, ALWAYS, &of), expected);
    }

    #[test]
    fn clients_that_leave_tell_nothing() {
        let mut pauses = Pauses::default();
        let notes = Notes { staying: false, ..client(&[1000, 1100, 9000]) };
        pauses.measure(&notes, ALWAYS, &faults(&[("a", 1050, None)]));
        assert!(pauses.0.is_empty());
    }

    #[test]
    fn lengths_add_up_and_stay_few() {
        let mut lengths = Lengths::default();
        assert_eq!(lengths.quantile(0.5), None);
        for ms in 0..2_000_000 {
            lengths.note(ms);
        }
        assert!(lengths.0.len() < 13_000 && lengths.count() == 2_000_000);
        assert_eq!(lengths.quantile(1.0), Some(LONGEST_MS));
        let mut few = Lengths::default();
        for ms in [10, 20, 207, 5010] {
            few.note(ms);
        }
        assert_eq!([0.0, 0.5, 0.75, 1.0].map(|share| few.quantile(share).unwrap()), [10, 20, 210, 5050]);
        few.merge(&few.clone());
        assert_eq!((few.count(), few.quantile(0.5)), (8, Some(20)));
        let text = serde_json::to_string(&few).unwrap();
        assert_eq!(serde_json::from_str::<Lengths>(&text).unwrap(), few);
    }
}
