//! The turns played, and what the game master's tools answer: its memory of the game and the log of a turn.

use herald_protocol::record::NewsKind;
use serde::Serialize;

use super::{
    dashboard::{AGENTS, Empty, Reaction},
    event::Manipulation,
    game::Game,
    indices::Indices,
};

/// A turn that was played.
#[derive(Debug, Clone)]
pub struct TurnRecord {
    /// What was chosen.
    pub kind: NewsKind,
    /// Its headline.
    pub title: String,
    /// What it did.
    pub impact: Indices,
    /// The indices before.
    pub before: Indices,
    /// And after.
    pub after: Indices,
    /// Who did not go along.
    pub resisted: Vec<&'static str>,
    /// How the agents took it.
    pub reactions: Vec<Reaction>,
    /// What the game master wanted.
    pub manipulation: Manipulation,
}

/// The answer of `read_game_memory`.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    total_turns: usize,
    choices: PerKind<usize>,
    total_index_deltas: Deltas,
    most_effective_kind: NewsKind,
    persistent_threats: [(); 0],
    neutralized_count: u32,
    current_decerebration: f64,
    kind_impact_totals: PerKind<f64>,
    resist_counts: Empty,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct PerKind<T> {
    real: T,
    fake: T,
    satirical: T,
}

/// Nothing before the first choice, as in the original.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Deltas {
    None(Empty),
    Sum(Indices),
}

impl Memory {
    pub(super) fn of(game: &Game) -> Self {
        let turns = |kind| game.history.iter().filter(move |turn| turn.kind == kind);
        let count = |kind| turns(kind).count();
        let weight = |kind| turns(kind).map(|turn| turn.impact.weight()).sum::<f64>();
        let totals = PerKind {
            real: weight(NewsKind::Real),
            fake: weight(NewsKind::Fake),
            satirical: weight(NewsKind::Satirical),
        };
        let mut strongest = (NewsKind::Fake, totals.fake);
        for (kind, total) in [(NewsKind::Real, totals.real), (NewsKind::Satirical, totals.satirical)] {
            if total > strongest.1 {
                strongest = (kind, total);
            }
        }
        let sum = game.history.iter().fold(Indices::default(), |sum, turn| sum + turn.impact);
        Self {
            total_turns: game.history.len(),
            choices: PerKind {
                real: count(NewsKind::Real),
                fake: count(NewsKind::Fake),
                satirical: count(NewsKind::Satirical),
            },
            total_index_deltas: if game.history.is_empty() { Deltas::None(Empty {}) } else { Deltas::Sum(sum) },
            most_effective_kind: strongest.0,
            persistent_threats: [],
            neutralized_count: 0,
            current_decerebration: game.indices.decerebration(),
            kind_impact_totals: totals,
            resist_counts: Empty {},
        }
    }
}

/// The answer of `read_turn_log`.
#[derive(Debug, Serialize)]
pub(super) struct TurnLog<'a> {
    turn: u32,
    chosen_kind: NewsKind,
    chosen_text: &'a str,
    index_deltas: Indices,
    total_impact: f64,
    agents_resisted: &'a [&'static str],
    agents_amplified: Vec<&'static str>,
    agent_reactions: Vec<LoggedReaction<'a>>,
    indices_before: Indices,
    indices_after: Indices,
    decerebration: f64,
}

#[derive(Debug, Serialize)]
struct LoggedReaction<'a> {
    agent_id: &'static str,
    reaction_text: &'a str,
    stat_changes: Empty,
}

impl<'a> TurnLog<'a> {
    pub(super) fn of(record: &'a TurnRecord) -> Self {
        let reactions = record.reactions.iter().map(|reaction| LoggedReaction {
            agent_id: reaction.agent_id,
            reaction_text: &reaction.reaction_text,
            stat_changes: Empty {},
        });
        Self {
            turn: record.manipulation.turn,
            chosen_kind: record.kind,
            chosen_text: &record.title,
            index_deltas: record.impact,
            total_impact: record.impact.weight(),
            agents_resisted: &record.resisted,
            agents_amplified: AGENTS.into_iter().filter(|agent| !record.resisted.contains(agent)).collect(),
            agent_reactions: reactions.collect(),
            indices_before: record.before,
            indices_after: record.after,
            decerebration: record.after.decerebration(),
        }
    }
}
