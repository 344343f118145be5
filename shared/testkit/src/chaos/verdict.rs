//! The one line that counts.

use std::{fmt, str::FromStr};

/// `VERDICT ok lost=0 doubled=0 reordered=0 foreign=0 gaps=0 unstored=N faults=N deliveries=N seed=N`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// `ok` or `failed`.
    pub ok: bool,
    /// Events that never came and were not announced.
    pub lost: u64,
    /// That came twice.
    pub doubled: u64,
    /// Out of order.
    pub reordered: u64,
    /// Of another session, or not of the log.
    pub foreign: u64,
    /// Gaps that were not announced.
    pub gaps: u64,
    /// Events without acknowledgement that the log never got.
    pub unstored: u64,
    /// Faults done.
    pub faults: u64,
    /// Events that came to clients.
    pub deliveries: u64,
    /// What the run can be repeated by.
    pub seed: u64,
}

impl Verdict {
    /// Both runs as one; the seed stays.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        Self {
            ok: self.ok && other.ok,
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            reordered: self.reordered + other.reordered,
            foreign: self.foreign + other.foreign,
            gaps: self.gaps + other.gaps,
            unstored: self.unstored + other.unstored,
            faults: self.faults + other.faults,
            deliveries: self.deliveries + other.deliveries,
            seed: self.seed,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ok, lost, doubled, reordered, foreign, gaps, unstored, faults, deliveries, seed } = self;
        let word = if *ok { "ok" } else { "failed" };
        write!(
            f,
            "VERDICT {word} lost={lost} doubled={doubled} reordered={reordered} foreign={foreign} gaps={gaps} \
             unstored={unstored} faults={faults} deliveries={deliveries} seed={seed}"
        )
    }
}

impl FromStr for Verdict {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let bad = || format!("no verdict: {line:?}");
        let mut words = line.split(' ');
        if words.next() != Some("VERDICT") {
            return Err(bad());
        }
        let ok = match words.next() {
            Some("ok") => true,
            Some("failed") => false,
            _ => return Err(bad()),
        };
        let mut verdict = Self { ok, ..Self::default() };
        let mut places = [
            ("lost", &mut verdict.lost),
            ("doubled", &mut verdict.doubled),
            ("reordered", &mut verdict.reordered),
            ("foreign", &mut verdict.foreign),
            ("gaps", &mut verdict.gaps),
            ("unstored", &mut verdict.unstored),
            ("faults", &mut verdict.faults),
            ("deliveries", &mut verdict.deliveries),
            ("seed", &mut verdict.seed),
        ];
        for (name, place) in &mut places {
            let value = words.next().and_then(|word| word.split_once('=')).filter(|(found, _)| found == name);
            **place = value.and_then(|(_, value)| value.parse().ok()).ok_or_else(bad)?;
        }
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "VERDICT ok lost=0 doubled=1 reordered=2 foreign=3 gaps=4 unstored=5 faults=6 deliveries=7 seed=8";

    #[test]
    fn it_reads_as_it_is_written_and_adds_up() {
        let verdict: Verdict = LINE.parse().unwrap();
        assert_eq!(verdict.to_string(), LINE);
        let failed: Verdict = LINE.replace("ok", "failed").parse().unwrap();
        let sum =
            "VERDICT failed lost=0 doubled=2 reordered=4 foreign=6 gaps=8 unstored=10 faults=12 deliveries=14 seed=8";
        assert_eq!(verdict.and(&failed).to_string(), sum);
    }

    #[test]
    fn what_is_cut_short_is_no_verdict() {
        for bad in
            ["", "VERDICT", "VERDICT fine lost=0", &LINE[..30], &LINE.replace("gaps=4 ", ""), &LINE.replace('7', "x")]
        {
            assert!(bad.parse::<Verdict>().unwrap_err().contains("no verdict"), "{bad}");
        }
    }
}
