//! When a client listens to its connection, and when it leaves it.

use tokio::time::Instant;

use super::clients::Behaviour;
use crate::dice::Dice;

/// When a connection is read, and when it is left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rhythm {
    leaves_at: Option<Instant>,
    /// For those who read slowly: until when they read, or do not.
    turns_at: Option<Instant>,
    reads: bool,
}

impl Rhythm {
    /// Reads all the time and stays.
    pub(super) const STEADY: Self = Self { leaves_at: None, turns_at: None, reads: true };

    pub(super) fn new(behaviour: Behaviour, dice: &mut Dice) -> Self {
        let now = Instant::now();
        let leaves_at = behaviour.leaves_after(dice).map(|after| now + after);
        let turns_at = (behaviour == Behaviour::Slow).then(|| now + Behaviour::reads_for(dice));
        Self { leaves_at, turns_at, reads: true }
    }

    pub(super) const fn reads(self) -> bool {
        self.reads
    }

    pub(super) fn next_at(self, pulse: Instant) -> Instant {
        let pulse = if self.reads { Some(pulse) } else { None };
        // A rhythm that does not read turns at some time.
        [pulse, self.leaves_at, self.turns_at].into_iter().flatten().min().unwrap_or_else(Instant::now)
    }

    pub(super) fn is_over(self) -> bool {
        self.leaves_at.is_some_and(|at| at <= Instant::now())
    }

    /// Begins or ends a pause where it is time; true where it reads again.
    pub(super) fn turn(&mut self, dice: &mut Dice) -> bool {
        let now = Instant::now();
        if self.turns_at.is_none_or(|at| at > now) {
            return false;
        }
        self.reads = !self.reads;
        let next = if self.reads { Behaviour::reads_for(dice) } else { Behaviour::pauses_for(dice) };
        self.turns_at = Some(now + next);
        self.reads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_slow_client_reads_and_pauses_in_turn() {
        let mut dice = Dice::new(1, "slow");
        let mut rhythm = Rhythm::new(Behaviour::Slow, &mut dice);
        assert!(rhythm.reads());
        let mut turns = Vec::new();
        for _ in 0..6 {
            let at = rhythm.turns_at.unwrap();
            tokio::time::advance(at - Instant::now()).await;
            turns.push(rhythm.turn(&mut dice));
        }
        assert_eq!(turns, [false, true, false, true, false, true]);
        assert!(Rhythm::STEADY.reads() && !Rhythm::STEADY.is_over());
    }
}
