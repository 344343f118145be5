//! The order in which things are said: the events of a propose and of a choose, with the pauses between them.

use std::time::Duration;

use herald_protocol::record::Lang;
use serde::Serialize;
use serde_json::json;

use super::{
    dashboard::AGENTS,
    event::{GmEvent, News, Proposal, Strategy},
    game::Game,
    memory::{Memory, TurnLog, TurnRecord},
    python,
    words::{Words, fill},
};
use crate::dice::Dice;

/// An event and the pause before it, at speed 1.
#[derive(Debug, Clone)]
pub struct Step {
    /// Wait this long first.
    pub pause: Duration,
    /// Then say this.
    pub event: GmEvent,
}

/// Until the first token of a model's answer, as recorded.
const FIRST_TOKEN: Duration = Duration::from_millis(700);
/// Per character of a token: pieces of 65 characters come every 160 ms in the recordings.
const PER_CHARACTER: Duration = Duration::from_micros(2500);
/// Drawing three posters.
pub const DRAWING: Duration = Duration::from_millis(2600);
/// Until the choice gets its first word.
pub const VERDICT: Duration = Duration::from_millis(700);

/// What a propose says before the proposal itself.
#[must_use]
pub fn propose(game: &Game, lang: Lang, proposal: &Proposal, tokens: Option<u32>) -> Vec<Step> {
    let words = Words::of(lang);
    let mut script = Script::new(game.dice("propose"), tokens);
    script.say(GmEvent::phase("generating_titles"));
    script.say(GmEvent::phase("reading_memory"));
    script.tool("read_game_memory", json!({}), python::json(&Memory::of(game)));
    script.read_visions(game, words);
    script.say(GmEvent::phase("memory_loaded"));
    script.wait(780);
    script.say(GmEvent::phase(words.titles_ready.replace("{n}", "9")));
    let tools = ["finetune_titles_real", "finetune_titles_fake", "finetune_titles_satirical"];
    for (tool, titles) in tools.into_iter().zip(game.titles(lang)) {
        script.say(GmEvent::ToolResult { tool, result: titles.join(" | ") });
    }
    script.say(GmEvent::phase("json_generation"));
    script.say(GmEvent::LlmCall { turn_idx: 0 });
    script.think(&model_answer(proposal));
    script.say(GmEvent::phase("done"));
    script.steps
}

/// What a choose says while the game master thinks about the turn, and what comes of it.
#[must_use]
pub fn strategise(game: &Game, lang: Lang, record: &TurnRecord, tokens: Option<u32>) -> Thoughts {
    let words = Words::of(lang);
    let mut script = Script::new(game.dice("strategise"), tokens);
    let turn = record.manipulation.turn;
    script.say(GmEvent::phase("strategize_start"));
    script.say(GmEvent::phase("tool_loop"));
    script.muse(words, 0);
    script.tool("read_game_memory", json!({}), pretty(&Memory::of(game), b"  "));
    script.muse(words, 1);
    script.read_visions(game, words);
    script.muse(words, 2);
    script.tool("read_turn_log", json!({ "turn": turn }), pretty(&TurnLog::of(record), b"  "));
    if script.dice.chance(0.15) {
        script.say(GmEvent::ToolError { tool: "update_agent_vision", error: words.tool_failed.into() });
    }
    script.muse(words, 3);
    let visions = AGENTS.map(|agent_id| {
        let content = vision(words, &mut script.dice, agent_id, turn);
        let size = content.chars().count().to_string();
        let saved = words.vision_saved.replace("{agent}", agent_id).replace("{n}", &size);
        script.tool("update_agent_vision", json!({ "agent_id": agent_id, "content": content }), saved);
        script.say(GmEvent::VisionUpdate { agent_id, content: content.clone() });
        content
    });
    script.muse(words, 4);
    script.say(GmEvent::Phase { phase: "tools_done".into(), turns: Some(5) });
    script.say(GmEvent::phase("json_generation"));
    let strategy = strategy(words, &mut script.dice, turn);
    script.think(&format!("```json\n{}\n```", pretty(&strategy, b"  ")));
    script.say(GmEvent::phase("done"));
    Thoughts { steps: script.steps, strategy, visions }
}

/// The outcome of thinking about a turn.
#[derive(Debug)]
pub struct Thoughts {
    /// What is said meanwhile.
    pub steps: Vec<Step>,
    /// What is made of it.
    pub strategy: Strategy,
    /// What is written down about each agent.
    pub visions: [String; 4],
}

fn strategy(words: &Words, dice: &mut Dice, turn: u32) -> Strategy {
    let mut agents = AGENTS;
    dice.shuffle(&mut agents);
    let weakness = |dice: &mut Dice, agent| fill(dice.pick(words.weaknesses), dice, &[("{agent}", agent)]);
    Strategy {
        analysis: fill(dice.pick(words.analyses), dice, &[("{turn}", &turn.to_string())]),
        threat_agents: agents[..2].to_vec(),
        weak_spots: vec![weakness(dice, agents[2]), weakness(dice, agents[3])],
        next_turn_plan: dice.pick(words.plans).to_owned(),
        long_term_goal: dice.pick(words.goals).to_owned(),
    }
}

/// What the model is said to have written: the proposal without its secret.
fn model_answer(proposal: &Proposal) -> String {
    #[derive(Serialize)]
    struct Answer<'a> {
        real: &'a News,
        fake: &'a News,
        satirical: &'a News,
        gm_commentary: &'a str,
    }
    let Proposal { real, fake, satirical, gm_commentary, .. } = proposal;
    pretty(&Answer { real, fake, satirical, gm_commentary }, b" ")
}

fn pretty(value: &impl Serialize, indent: &[u8]) -> String {
    let mut out = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    // Strings and numbers into a Vec: nothing in here can fail.
    let _ = value.serialize(&mut serde_json::Serializer::with_formatter(&mut out, formatter));
    String::from_utf8(out).unwrap_or_default()
}

struct Script {
    dice: Dice,
    tokens: Option<u32>,
    pause: Duration,
    steps: Vec<Step>,
}

impl Script {
    const fn new(dice: Dice, tokens: Option<u32>) -> Self {
        Self { dice, tokens, pause: Duration::ZERO, steps: Vec::new() }
    }

    fn say(&mut self, event: GmEvent) {
        self.steps.push(Step { pause: std::mem::take(&mut self.pause), event });
    }

    fn wait(&mut self, millis: u64) {
        self.pause += Duration::from_millis(millis);
    }

    fn tool(&mut self, tool: &'static str, args: serde_json::Value, result: String) {
        self.say(GmEvent::ToolCall { tool, args });
        self.say(GmEvent::ToolResult { tool, result });
    }

    fn read_visions(&mut self, game: &Game, words: &Words) {
        for (agent_id, vision) in AGENTS.into_iter().zip(&game.visions) {
            let result = vision.as_deref().unwrap_or(words.no_vision).to_owned();
            self.tool("read_agent_vision", json!({ "agent_id": agent_id }), result);
        }
    }

    /// A model's answer: the first token after a while, the others as fast as it writes.
    fn think(&mut self, text: &str) {
        self.pause += FIRST_TOKEN;
        for token in cut(text, &mut self.dice, self.tokens) {
            self.say(GmEvent::text(token));
            self.pause = PER_CHARACTER * token.chars().count() as u32;
        }
    }

    /// One round of the tool loop: a call and a thought.
    fn muse(&mut self, words: &Words, round: usize) {
        self.say(GmEvent::LlmCall { turn_idx: round });
        let agent = AGENTS[self.dice.index(AGENTS.len())];
        let thought = fill(self.dice.pick(words.musings[round]), &mut self.dice, &[("{agent}", agent)]);
        self.pause += FIRST_TOKEN;
        for token in cut(&thought, &mut self.dice, None) {
            self.say(GmEvent::text(token));
        }
    }
}

/// Cuts a text into tokens: about `count` of the same length, or pieces as a model's deltas come.
fn cut<'a>(text: &'a str, dice: &mut Dice, count: Option<u32>) -> Vec<&'a str> {
    let each = count.map(|count| (text.chars().count().div_ceil(count as usize)).max(1));
    let mut tokens = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        // Short pieces at the joints of the JSON, long ones inside the articles, as in the recordings.
        let length = each.unwrap_or_else(|| {
            let joint = dice.chance(0.3);
            dice.roll(if joint { 8..=24 } else { 45..=66 }) as usize
        });
        let at = rest.char_indices().nth(length).map_or(rest.len(), |(at, _)| at);
        let (token, behind) = rest.split_at(at);
        tokens.push(token);
        rest = behind;
    }
    tokens
}

/// What is written down about an agent in a turn.
fn vision(words: &Words, dice: &mut Dice, agent_id: &str, turn: u32) -> String {
    let note = dice.pick(words.visions);
    fill(&format!("# {agent_id}\n{note}\nT{turn}: {{n}} %"), dice, &[])
}

#[cfg(test)]
mod tests {
    use herald_protocol::SessionId;

    use super::*;
    use crate::gm::game::Rules;

    #[test]
    fn the_tokens_of_a_proposal_are_its_text() {
        let rules = Rules { seed: 5, turns: 10, article_bytes: 1000 };
        let game = Game::new(rules, SessionId::new("g").unwrap());
        let proposal = game.propose(Lang::Fr);
        for tokens in [None, Some(1), Some(7), Some(5000)] {
            let mut text = String::new();
            let mut count = 0;
            for step in propose(&game, Lang::Fr, &proposal, tokens) {
                if let GmEvent::LlmText { text: token, .. } = step.event {
                    text.push_str(&token);
                    count += 1;
                }
            }
            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer["fake"]["text"].as_str(), Some(proposal.fake.text.as_str()));
            assert!(answer.get("gm_secret").is_none());
            match tokens {
                None => assert!((60..160).contains(&count), "{count} tokens"),
                Some(wanted) => assert!(count <= wanted as usize && count > wanted as usize / 2, "{count} of {wanted}"),
            }
        }
    }
}
