//! What the dashboard shows: its four agents, and the bodies of `/api/start` and `/api/state`.

use herald_protocol::{SessionId, record::Lang};
use serde::Serialize;

use super::{indices::Indices, words::Words};

/// Ids of the dashboard's four agents.
pub const AGENTS: [&str; 4] = ["agent_01", "agent_02", "agent_03", "agent_04"];

/// One of the dashboard's agents. The names are the wire format.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the names are the wire format, described in the contract")]
pub struct Agent {
    pub agent_id: &'static str,
    pub name: &'static str,
    pub personality: &'static str,
    pub country: &'static str,
    pub avatar: &'static str,
    pub stats: Stats,
    pub level: &'static str,
    pub status_text: String,
    pub is_neutralized: bool,
    pub turn: u32,
}

/// What an agent is made of.
#[derive(Debug, Clone, Copy, Serialize)]
#[allow(missing_docs, reason = "the names are the wire format, described in the contract")]
pub struct Stats {
    pub croyance: f64,
    pub confiance: f64,
    pub richesse: f64,
}

/// How one agent took a turn's news.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the names are the wire format, described in the contract")]
pub struct Reaction {
    pub agent_id: &'static str,
    pub turn: u32,
    pub action_id: &'static str,
    pub reaction_text: String,
    pub stat_changes: Empty,
    pub level_change: Option<String>,
    pub headline: String,
}

/// `{}`.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Empty {}

/// The body of `/api/start`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names are the wire format, described in the contract")]
pub struct StartBody {
    pub session_id: SessionId,
    pub turn: u32,
    pub max_turns: u32,
    pub indices: Indices,
    pub decerebration: f64,
    pub agents: Vec<Agent>,
    pub lang: Lang,
}

/// The body of `/api/state`.
#[derive(Debug, Serialize)]
#[allow(missing_docs, reason = "the names are the wire format, described in the contract")]
pub struct StateBody {
    pub turn: u32,
    pub max_turns: u32,
    pub indices: Indices,
    pub decerebration: f64,
    pub agents: Vec<Agent>,
    pub ended: bool,
}

/// The agents, in the words of a language.
#[must_use]
pub fn agents(lang: Lang) -> Vec<Agent> {
    const STATS: [(f64, f64, f64, &str); 4] = [
        (30.0, 80.0, 45.0, "actif"),
        (65.0, 35.0, 55.0, "passif"),
        (15.0, 90.0, 30.0, "leader"),
        (85.0, 20.0, 70.0, "actif"),
    ];
    let describe = |((agent_id, (name, personality, country)), (croyance, confiance, richesse, level))| Agent {
        agent_id,
        name,
        personality,
        country,
        avatar: "default",
        stats: Stats { croyance, confiance, richesse },
        level,
        status_text: String::new(),
        is_neutralized: false,
        turn: 0,
    };
    AGENTS.into_iter().zip(Words::of(lang).agents).zip(STATS).map(describe).collect()
}
