//! What inputs are made of: those to begin with, and those that led somewhere new.

use std::collections::HashSet;

/// Most inputs that are kept beside the seeds. A new one then takes the place of an old one.
const KEPT: usize = 4096;
/// Most outcomes that are remembered: a target that has more does not tell ways from each other.
const OUTCOMES: usize = 1 << 16;

pub(crate) struct Pool {
    inputs: Vec<Vec<u8>>,
    seeds: usize,
    outcomes: HashSet<u64>,
}

impl Pool {
    pub(crate) fn new(seeds: Vec<Vec<u8>>) -> Self {
        Self { seeds: seeds.len(), inputs: seeds, outcomes: HashSet::new() }
    }

    pub(crate) const fn seeds(&self) -> usize {
        self.seeds
    }

    pub(crate) fn seed(&self, at: usize) -> &[u8] {
        &self.inputs[at]
    }

    /// All there are.
    pub(crate) fn inputs(&self) -> &[Vec<u8>] {
        &self.inputs
    }

    pub(crate) fn outcomes(&self) -> usize {
        self.outcomes.len()
    }

    /// This became of that input, which is kept if nothing before became so.
    pub(crate) fn note(&mut self, outcome: u64, input: &[u8]) {
        if self.outcomes.len() >= OUTCOMES || !self.outcomes.insert(outcome) {
            return;
        }
        let kept = self.inputs.len() - self.seeds;
        if kept < KEPT {
            self.inputs.push(input.to_vec());
        } else {
            self.inputs[self.seeds + self.outcomes.len() % KEPT] = input.to_vec();
        }
    }
}
