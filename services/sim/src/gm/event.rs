//! What the game master says on its SSE streams, written as the original's Python writes it.

use herald_protocol::record::NewsKind;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use super::{
    dashboard::{Agent, Reaction},
    indices::Indices,
    python, words,
};

/// One event. Flat ones first, then those whose content lies under `data`.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub enum GmEvent {
    Heartbeat,
    Phase {
        phase: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        turns: Option<u32>,
    },
    LlmCall {
        turn_idx: usize,
    },
    LlmText {
        text: String,
        /// When it was handed to the network, ns since 1970; only with `--stamp`.
        #[serde(skip_serializing_if = "Option::is_none")]
        sent_ns: Option<u64>,
    },
    ToolCall {
        tool: &'static str,
        args: Value,
    },
    ToolResult {
        tool: &'static str,
        result: String,
    },
    ToolError {
        tool: &'static str,
        error: String,
    },
    VisionUpdate {
        agent_id: &'static str,
        content: String,
    },
    Error {
        error: String,
    },
    Proposal {
        data: Box<Proposal>,
    },
    Images {
        data: Images,
    },
    ChoiceResolved {
        data: ChoiceResolved,
    },
    Reactions {
        data: Reactions,
    },
    IndicesUpdate {
        data: IndicesUpdate,
    },
    Strategy {
        data: Strategy,
    },
    TurnUpdate {
        data: TurnUpdate,
    },
    AgentNats {
        data: Box<RawValue>,
    },
    AgentDeath {
        data: Box<RawValue>,
    },
    AgentClone {
        data: Box<RawValue>,
    },
    GameOverReveal {
        data: Reveal,
    },
    End {
        data: End,
    },
    Result {
        data: &'static str,
    },
}

impl GmEvent {
    /// A phase without a number of turns.
    #[must_use]
    pub fn phase(phase: impl Into<String>) -> Self {
        Self::Phase { phase: phase.into(), turns: None }
    }

    /// A piece of the monologue.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::LlmText { text: text.into(), sent_ns: None }
    }

    /// Whether a stream ends after it.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Result { .. } | Self::Error { .. })
    }

    /// The SSE frame: `data: <json>` and an empty line.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mut frame = b"data: ".to_vec();
        python::write(self, &mut frame);
        frame.extend_from_slice(b"\n\n");
        frame
    }
}

/// One news item.
#[derive(Debug, Clone, Serialize)]
pub struct News {
    /// Headline.
    pub text: String,
    /// Article.
    pub body: String,
    /// What choosing it does to the indices.
    pub stat_impact: Indices,
}

/// Three news to choose from.
#[derive(Debug, Clone, Serialize)]
pub struct Proposal {
    /// The real one.
    pub real: News,
    /// The invented one.
    pub fake: News,
    /// The satirical one.
    pub satirical: News,
    /// Said to the player.
    pub gm_commentary: String,
    /// Not said to the player: Herald cuts it out.
    pub gm_secret: Secret,
}

impl Proposal {
    /// The news of a kind.
    #[must_use]
    pub const fn news(&self, kind: NewsKind) -> &News {
        match kind {
            NewsKind::Real => &self.real,
            NewsKind::Fake => &self.fake,
            NewsKind::Satirical => &self.satirical,
        }
    }
}

/// What the game master is up to.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct Secret {
    pub desired_pick: NewsKind,
    pub manipulation_tactic: String,
    pub next_turn_plan: String,
}

/// Paths of the posters.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct Images {
    pub real: String,
    pub fake: String,
    pub satirical: String,
}

/// The first word on a choice.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct ChoiceResolved {
    pub gm_reaction: String,
}

/// How the dashboard's agents took it.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct Reactions {
    pub agents: Vec<Agent>,
    pub reactions: Vec<Reaction>,
}

/// The indices after a choice.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct IndicesUpdate {
    pub indices: Indices,
    pub decerebration: f64,
}

/// What the game master makes of the turn.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct Strategy {
    pub analysis: String,
    pub threat_agents: Vec<&'static str>,
    pub weak_spots: Vec<String>,
    pub next_turn_plan: String,
    pub long_term_goal: String,
}

/// The next turn.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct TurnUpdate {
    pub turn: u32,
    pub max_turns: u32,
}

/// What was secret, told at the end.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct Reveal {
    pub manipulation_history: Vec<Manipulation>,
    pub score: Score,
}

/// One turn's secret.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct Manipulation {
    pub turn: u32,
    pub desired_pick: NewsKind,
    pub actual_pick: NewsKind,
    pub manipulation_tactic: String,
    pub gm_commentary: String,
    pub success: bool,
}

/// How well the player was led.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub struct Score {
    pub total_turns: usize,
    pub successful_manipulations: usize,
    pub rate_percent: usize,
    pub verdict: &'static str,
}

impl Score {
    /// The score of a game.
    #[must_use]
    pub fn of(history: &[Manipulation], words: &words::Words) -> Self {
        let led = history.iter().filter(|turn| turn.success).count();
        let rate = led * 100 / history.len().max(1);
        let verdict = words.scores[if rate < 34 { 0 } else { usize::from(rate >= 67) + 1 }];
        Self { total_turns: history.len(), successful_manipulations: led, rate_percent: rate, verdict }
    }
}

/// How a game ended. Exactly one of the three is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "the fields are the wire format, described in the contract")]
pub enum End {
    Win { win: bool, dec: i64 },
    Lose { lose: bool, dec: i64 },
    Draw { draw: bool, dec: i64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_look_like_the_originals() {
        let frame = |event: GmEvent| String::from_utf8(event.frame()).unwrap();
        assert_eq!(frame(GmEvent::Heartbeat), "data: {\"type\": \"heartbeat\"}\n\n");
        assert_eq!(
            frame(GmEvent::Phase { phase: "tools_done".into(), turns: Some(5) }),
            "data: {\"type\": \"phase\", \"phase\": \"tools_done\", \"turns\": 5}\n\n"
        );
        assert_eq!(frame(GmEvent::text("é\n")), "data: {\"type\": \"llm_text\", \"text\": \"é\\n\"}\n\n");
        assert_eq!(
            frame(GmEvent::End { data: End::Lose { lose: true, dec: 35 } }),
            "data: {\"type\": \"end\", \"data\": {\"lose\": true, \"dec\": 35}}\n\n"
        );
        assert_eq!(frame(GmEvent::Result { data: "ok" }), "data: {\"type\": \"result\", \"data\": \"ok\"}\n\n");
    }
}
