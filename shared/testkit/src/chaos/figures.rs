//! What the checker measured, as far as it is added up here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::Deserialize;

/// Lengths of time in ms, and how often each was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Lengths(pub BTreeMap<u64, u64>);

impl Lengths {
    /// What this share (0 to 1) of all did not exceed; `None` where there is none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (self.0.values().sum::<u64>() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        self.0.iter().find_map(|(ms, count)| {
            seen += count;
            (seen >= wanted).then_some(*ms)
        })
    }

    fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(ms, count)| *self.0.entry(*ms).or_default() += count);
    }
}

/// How long one kind of fault silenced clients that stayed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Pauses {
    /// Of all faults and clients.
    pub all: Lengths,
    /// Of faults that had no other beside them.
    pub alone: Lengths,
}

/// What the checker's JSON says of a run. What it says beside is not read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Faults by kind.
    pub faults: BTreeMap<String, u64>,
    /// Pauses by kind.
    pub pauses: BTreeMap<String, Pauses>,
    /// Unstored events by the kind of fault to blame.
    pub unstored: BTreeMap<String, u64>,
}

impl Figures {
    /// Both runs as one.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        for (own, others) in [(&mut self.faults, &other.faults), (&mut self.unstored, &other.unstored)] {
            others.iter().for_each(|(kind, count)| *own.entry(kind.clone()).or_default() += count);
        }
        for (kind, pauses) in &other.pauses {
            let own = self.pauses.entry(kind.clone()).or_default();
            own.all.add(&pauses.all);
            own.alone.add(&pauses.alone);
        }
        self
    }
}

/// A row for each kind of fault, for people.
impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = |f: &mut fmt::Formatter<'_>, name: &str, cells: [String; 6]| {
            write!(f, "{name:<18}")?;
            cells.iter().try_for_each(|cell| write!(f, " {cell:>12}"))?;
            writeln!(f)
        };
        let heads = ["count", "unstored", "pause p50 ms", "p99", "worst", "worst alone"];
        row(f, "fault", heads.map(str::to_owned))?;
        let kinds: BTreeSet<_> = self.faults.keys().chain(self.unstored.keys()).collect();
        for kind in kinds {
            let none = Pauses::default();
            let pauses = self.pauses.get(kind).unwrap_or(&none);
            let count = |counts: &BTreeMap<String, u64>| counts.get(kind).copied().unwrap_or_default().to_string();
            let at =
                |lengths: &Lengths, share| lengths.quantile(share).map_or_else(|| "-".to_owned(), |ms| ms.to_string());
            let (all, alone) = (&pauses.all, &pauses.alone);
            let cells =
                [count(&self.faults), count(&self.unstored), at(all, 0.5), at(all, 0.99), at(all, 1.0), at(alone, 1.0)];
            row(f, kind, cells)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_add_up_to_one_table() {
        let json = r#"{"seed":1,"faults":{"edge killed":2},"unstored":{"none":1},
            "pauses":{"edge killed":{"all":{"100":98,"2000":1,"3000":1},"alone":{"100":5}}},"clients":{"plain":{}}}"#;
        let one: Figures = serde_json::from_str(json).unwrap();
        let both = one.clone().and(&one).and(&Figures::default());
        assert_eq!(both.faults["edge killed"], 4);
        assert_eq!(both.pauses["edge killed"].all.quantile(0.99), Some(2000));
        let text = both.to_string();
        let cells: Vec<_> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(cells, ["edge", "killed", "4", "0", "100", "2000", "3000", "100"]);
        assert!(text.lines().nth(2).unwrap().starts_with("none"), "{text}");
    }
}
