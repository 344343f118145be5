//! One session's game: who debates, who is gone, which round comes next.

use std::collections::BTreeMap;

use herald_protocol::{SessionId, record::Lang};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::words::NAMES;
use crate::dice::Dice;

/// Debaters at the table.
pub const TABLE: usize = 4;

/// A game, as it is saved between two rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Game {
    /// Whose it is.
    pub session: SessionId,
    /// In which language; nothing was said: French, as the original.
    pub lang: Option<Lang>,
    /// The round that comes next, from 1.
    pub round: u32,
    /// The debaters at the table.
    pub agents: Vec<Agent>,
    /// Those who left it.
    pub graveyard: Vec<Agent>,
    /// Rounds that were begun.
    pub history: Vec<u32>,
}

/// A debater. The names are the wire format of `state.global`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the wire format, described in the contract")]
pub struct Agent {
    pub id: Uuid,
    pub name: String,
    pub political_color: f64,
    pub temperature: f64,
    pub confidence: u32,
    pub alive: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_id: Option<Uuid>,
    pub born_at_round: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died_at_round: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub death_cause: Option<String>,
}

/// Who left and who came, after a vote.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Points of each debater.
    pub scores: BTreeMap<Uuid, u32>,
    /// The one with the fewest.
    pub dead: Agent,
    /// The one with the most.
    pub parent: Agent,
    /// Its clone, in the place of the dead.
    pub child: Agent,
}

impl Game {
    /// A new game: four debaters drawn for this session.
    #[must_use]
    pub fn new(seed: u64, session: SessionId, lang: Option<Lang>) -> Self {
        let mut dice = Dice::new(seed, &format!("arena {session}"));
        let mut names = NAMES;
        dice.shuffle(&mut names);
        names[..TABLE].sort_unstable();
        let agents = names[..TABLE].iter().map(|name| Agent {
            id: dice.uuid(),
            name: (*name).to_owned(),
            political_color: hundredths(&mut dice),
            temperature: if dice.chance(0.5) { 0.5 } else { 0.7 },
            confidence: 3,
            alive: true,
            parent_id: None,
            born_at_round: 1,
            died_at_round: None,
            death_cause: None,
        });
        Self { agents: agents.collect(), session, lang, round: 1, graveyard: Vec::new(), history: Vec::new() }
    }

    /// Notes that the round has begun; once, however often it is begun.
    pub fn begin_round(&mut self) {
        if self.history.last() != Some(&self.round) {
            self.history.push(self.round);
        }
    }

    /// Counts the points of a vote (`ballots`: the others in each one's order), lets the last one die and clones the
    /// first one in its place.
    pub fn judge(&mut self, ballots: &[Vec<usize>], dice: &mut Dice) -> Verdict {
        let mut points = vec![0_u32; self.agents.len()];
        for ballot in ballots {
            for (rank, at) in ballot.iter().enumerate() {
                points[*at] += (TABLE - 1 - rank) as u32;
            }
        }
        let places = || points.iter().enumerate();
        // Where two have as few, the one who sits later leaves; where two have as many, the one who sits first is cloned.
        let last = places().rev().min_by_key(|(_, points)| **points).map_or(0, |(at, _)| at);
        let first = places().rev().max_by_key(|(_, points)| **points).map_or(0, |(at, _)| at);
        let scores = self.agents.iter().map(|agent| agent.id).zip(points.iter().copied()).collect();
        let parent = self.agents[first].clone();
        let child = Agent {
            id: dice.uuid(),
            name: self.fresh_name(dice),
            temperature: 0.5,
            confidence: 3,
            parent_id: Some(parent.id),
            born_at_round: self.round + 1,
            ..parent.clone()
        };
        let mut dead = std::mem::replace(&mut self.agents[last], child.clone());
        dead.alive = false;
        dead.died_at_round = Some(self.round);
        dead.death_cause = Some(format!("eliminated_round_{}", self.round));
        self.graveyard.push(dead.clone());
        Verdict { scores, dead, parent, child }
    }

    fn fresh_name(&self, dice: &mut Dice) -> String {
        let taken = |name: &str| self.agents.iter().chain(&self.graveyard).any(|agent| agent.name == name);
        let free: Vec<_> = NAMES.into_iter().filter(|name| !taken(name)).collect();
        match dice.pick(&free) {
            "" => format!("{} {}", NAMES[dice.index(NAMES.len())], self.round),
            name => name.to_owned(),
        }
    }
}

/// A number from 0 to 1 with two decimals.
pub fn hundredths(dice: &mut Dice) -> f64 {
    f64::from(dice.roll(0..=100)) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_leaves_and_the_first_is_cloned_in_its_place() {
        let session = SessionId::new("5e551040-0000-4000-8000-000000000001").unwrap();
        let mut game = Game::new(1, session.clone(), None);
        assert_eq!(game, Game::new(1, session, None), "the same seed, the same debaters");
        let before = game.agents.clone();
        let ballots = [vec![2, 1, 3], vec![2, 0, 3], vec![1, 0, 3], vec![2, 1, 0]];
        let verdict = game.judge(&ballots, &mut Dice::new(1, "vote"));
        assert_eq!(verdict.dead.id, before[3].id);
        assert_eq!(verdict.parent.id, before[2].id);
        assert_eq!(verdict.scores[&before[2].id], 9);
        assert_eq!(game.agents[3], verdict.child);
        assert_eq!(game.agents[3].parent_id, Some(before[2].id));
        assert_eq!(game.graveyard.len(), 1);
        assert!(!game.graveyard[0].alive && before.iter().all(|agent| agent.name != verdict.child.name));
    }

    #[test]
    fn names_never_run_out() {
        let mut game = Game::new(1, SessionId::new("s").unwrap(), None);
        let mut dice = Dice::new(1, "names");
        for round in 1..=40 {
            game.round = round;
            game.judge(&[vec![0, 1, 2]], &mut dice);
            assert_eq!(game.agents.len(), TABLE);
            assert!(game.agents.iter().all(|agent| !agent.name.is_empty()));
        }
    }
}
