//! One round, written down as the lines that are published: four phases, a death, a clone, the new state.

use std::time::Duration;

use herald_protocol::record::Lang;
use serde::Serialize;
use serde_json::json;

use super::{
    game::{Agent, Game, hundredths},
    payload::{Clone, Death, End, Output, Phase, Ranking, Start, State, Status, Waiting},
    words::Words,
};
use crate::{dice::Dice, gm::words::fill};

/// One message and the pause before it, at speed 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Wait this long first.
    pub pause: Duration,
    /// The subject behind the session token.
    pub topic: String,
    /// The payload, JSON.
    pub payload: Vec<u8>,
}

/// How long a debater takes for its part of a phase, ms.
const PART: std::ops::RangeInclusive<u32> = 450..=2600;

/// `input.waiting`: the round waits for its news.
#[must_use]
pub fn waiting(game: &Game) -> Line {
    line("input.waiting", &Waiting { round: game.round, waiting: true })
}

/// `event.end`: the game is over.
#[must_use]
pub fn end(game: &Game) -> Line {
    let survivors = game.agents.iter().map(|agent| agent.name.as_str()).collect();
    line("event.end", &End { survivors, history: &game.history })
}

/// Plays a round: the lines to publish; the game is in its next round then.
#[must_use]
pub fn play(seed: u64, game: &mut Game, news: &str) -> Vec<Line> {
    let dice = Dice::new(seed, &format!("arena {} round {}", game.session, game.round));
    let words = Words::of(game.lang.unwrap_or(Lang::Fr));
    let title = news.lines().next().unwrap_or_default().chars().take(160).collect();
    let mut debate = Debate { words, dice, title, round: game.round, lines: Vec::new() };
    debate.begin(game, news);
    for phase in 1..=3 {
        debate.phase(game, phase);
    }
    let ballots = debate.vote(game);
    let verdict = game.judge(&ballots, &mut debate.dice);
    let Debate { mut lines, round, .. } = debate;
    let (dead, parent, child) = (&verdict.dead, &verdict.parent, &verdict.child);
    lines.push(line(
        "event.death",
        &Death { agent_id: dead.id, agent_name: &dead.name, round, cause: dead.death_cause.as_deref() },
    ));
    let clone =
        Clone { parent_id: parent.id, parent_name: &parent.name, child_id: child.id, child_name: &child.name, round };
    lines.push(line("event.clone", &clone));
    lines.push(line(
        "state.global",
        &State {
            session_id: &game.session,
            fake_news: news,
            round,
            phase: 4,
            lang: game.lang.map_or("", Lang::as_str),
            agents: &game.agents,
            graveyard: &game.graveyard,
            scores: &verdict.scores,
        },
    ));
    game.round += 1;
    lines
}

struct Debate {
    words: &'static Words,
    dice: Dice,
    title: String,
    round: u32,
    lines: Vec<Line>,
}

/// What one debater says in a phase.
struct Part {
    content: String,
    confidence: Option<u32>,
    rankings: Option<Vec<Ranking>>,
    new_color: Option<f64>,
}

impl Debate {
    fn begin(&mut self, game: &mut Game, news: &str) {
        game.begin_round();
        let gone = game.graveyard.iter().map(|agent| {
            let round = agent.died_at_round.unwrap_or_default().to_string();
            self.words.eliminated.replace("{name}", &agent.name).replace("{round}", &round)
        });
        let names: Vec<_> = game.agents.iter().map(|agent| agent.name.as_str()).collect();
        let present = self.words.present.replace("{names}", &names.join(", "));
        let context = gone.chain([present]).collect::<Vec<_>>().join("\n");
        self.lines.push(line("round.start", &Start { round: game.round, fake_news: news, context: &context }));
    }

    /// Phases 1 to 3: each debater says something.
    fn phase(&mut self, game: &mut Game, phase: usize) {
        let parts = (0..game.agents.len()).map(|at| {
            let name = game.agents[at].name.as_str();
            let other =
                game.agents[(at + 1 + self.dice.index(game.agents.len() - 1)) % game.agents.len()].name.as_str();
            let confidence = self.dice.roll(1..=5);
            let text = match phase {
                1 => self.dice.pick(self.words.thoughts).to_owned(),
                2 => self.words.speeches.map(|part| self.dice.pick(part)).join("\n\n"),
                _ => self.dice.pick(self.words.revisions).to_owned(),
            };
            let values =
                [("{name}", name), ("{other}", other), ("{title}", &self.title), ("{n}", &confidence.to_string())];
            let content = fill(&text, &mut self.dice, &values);
            Part { content, confidence: (phase != 2).then_some(confidence), rankings: None, new_color: None }
        });
        let parts: Vec<_> = parts.collect();
        for (agent, part) in game.agents.iter_mut().zip(&parts) {
            agent.confidence = part.confidence.unwrap_or(agent.confidence);
        }
        self.speak(game, phase, &parts);
    }

    /// Phase 4: each debater puts the others in an order.
    fn vote(&mut self, game: &mut Game) -> Vec<Vec<usize>> {
        let count = game.agents.len();
        let mut ballots = Vec::new();
        let mut parts = Vec::new();
        for at in 0..count {
            let mut others: Vec<_> = (0..count).filter(|other| *other != at).collect();
            self.dice.shuffle(&mut others);
            let new_color = hundredths(&mut self.dice);
            let rank = |(rank, other): (usize, &usize)| (&game.agents[*other], rank as u32 + 1);
            let ranked: Vec<_> = others.iter().enumerate().map(rank).collect();
            let named: Vec<_> =
                ranked.iter().map(|(agent, score)| json!({ "agent_id": agent.name, "score": score })).collect();
            parts.push(Part {
                content: json!({ "rankings": named, "new_color": new_color }).to_string(),
                confidence: None,
                rankings: Some(
                    ranked.iter().map(|(agent, score)| Ranking { agent_id: agent.id, score: *score }).collect(),
                ),
                new_color: Some(new_color),
            });
            ballots.push(others);
        }
        for (agent, part) in game.agents.iter_mut().zip(&parts) {
            agent.political_color = part.new_color.unwrap_or(agent.political_color);
        }
        self.speak(game, 4, &parts);
        ballots
    }

    /// A phase as it is heard: all think at once, each speaks when it has done.
    fn speak(&mut self, game: &Game, phase: usize, parts: &[Part]) {
        self.lines.push(line("phase.start", &Phase { round: self.round, phase }));
        let mut order: Vec<_> = game.agents.iter().zip(parts).map(|both| (self.dice.roll(PART), both)).collect();
        self.dice.shuffle(&mut order);
        for (_, (agent, _)) in &order {
            self.status(agent, "thinking", self.words.phases[phase - 1]);
        }
        order.sort_by_key(|(millis, _)| *millis);
        let mut now = 0;
        for (millis, (agent, part)) in order {
            self.status(agent, "done", &self.words.done.replace("{n}", &phase.to_string()));
            if let Some(last) = self.lines.last_mut() {
                last.pause = Duration::from_millis(u64::from(millis - now));
            }
            now = millis;
            let output = Output {
                agent_id: agent.id,
                agent_name: &agent.name,
                round: self.round,
                phase,
                content: &part.content,
                confidence: part.confidence,
                rankings: part.rankings.as_deref(),
                new_color: part.new_color,
            };
            self.lines.push(line(&format!("agent.{}.output", agent.id), &output));
        }
    }

    fn status(&mut self, agent: &Agent, state: &str, detail: &str) {
        self.lines.push(line(&format!("agent.{}.status", agent.id), &Status { state, detail }));
    }
}

fn line(topic: &str, payload: &impl Serialize) -> Line {
    // Strings and numbers: they can't fail to become JSON.
    Line { pause: Duration::ZERO, topic: topic.to_owned(), payload: serde_json::to_vec(payload).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use herald_protocol::SessionId;

    use super::*;

    fn game() -> Game {
        Game::new(7, SessionId::new("5e551040-0000-4000-8000-000000000001").unwrap(), Some(Lang::En))
    }

    #[test]
    fn a_round_is_complete_and_repeats_itself() {
        let (mut one, mut same) = (game(), game());
        let lines = play(7, &mut one, "Title\n\nBody");
        assert_eq!(lines, play(7, &mut same, "Title\n\nBody"));
        assert_ne!(lines, play(7, &mut same, "Title\n\nBody"), "the next round");
        // round.start, four phases of 1 + 4 + 4 + 4, death, clone, state.global; input.waiting comes with the next.
        assert_eq!(lines.len(), 56);
        let size: usize = lines.iter().map(|line| line.payload.len()).sum();
        assert!((8_000..20_000).contains(&size), "{size} bytes");
        assert_eq!(one.round, 2);
    }

    #[test]
    fn a_thought_comes_after_the_thinking_and_before_the_next_phase() {
        let lines = play(7, &mut game(), "Title");
        let mut thinking = 0;
        for line in &lines {
            let payload: serde_json::Value = serde_json::from_slice(&line.payload).unwrap();
            match payload["state"].as_str() {
                Some("thinking") => thinking += 1,
                Some("done") => thinking -= 1,
                _ if line.topic == "phase.start" => assert_eq!(thinking, 0),
                _ => {}
            }
        }
        assert_eq!(thinking, 0);
    }
}
