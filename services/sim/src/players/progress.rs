//! What a session has shown so far: what a player at the screen would know.

use std::collections::BTreeMap;

use herald_protocol::subject::{ARENA, GM};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Errors kept for the report; the rest are only counted.
const MOST_ERRORS: usize = 8;

/// Counts and marks. Only grows.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Frames per event, debaters counted together.
    pub counts: BTreeMap<String, u64>,
    /// The first `gm.error` texts.
    pub errors: Vec<String>,
    /// Whether the game is over.
    pub game_over: bool,
    /// Whether the arena has played its last round.
    pub arena_over: bool,
    /// Whether a proposal came with its secret.
    pub secret_shown: bool,
    /// Paths of the last posters.
    pub posters: Vec<String>,
    /// Whether the arena waits for news.
    pub waiting: bool,
    /// Debates with every phase, an output in each, and a final state.
    pub complete_debates: u64,
    /// Other debates that came to an end.
    pub broken_debates: u64,
    debate: Option<Debate>,
}

#[derive(Debug, Clone, Default)]
struct Debate {
    phases: [bool; 4],
    outputs: [bool; 4],
    state: bool,
}

#[derive(Deserialize)]
struct Marks {
    error: Option<String>,
    phase: Option<serde_json::Value>,
    #[serde(default)]
    data: Option<serde_json::Value>,
}

impl Progress {
    /// How often an event came.
    #[must_use]
    pub fn count(&self, event: &str) -> u64 {
        self.counts.get(event).copied().unwrap_or_default()
    }

    /// Actions that came to an end, well or badly.
    #[must_use]
    pub fn finished_actions(&self) -> u64 {
        self.count("gm.result") + self.count("gm.error")
    }

    /// Whether a debate goes on.
    #[must_use]
    pub const fn debating(&self) -> bool {
        self.debate.is_some()
    }

    /// Takes a frame in.
    pub fn note(&mut self, event: &str, data: &RawValue) {
        *self.counts.entry(kind(event)).or_default() += 1;
        match event.split_once('.') {
            Some((GM, name)) if matches!(name, "error" | "proposal" | "images" | "end") => self.note_gm(name, data),
            Some((ARENA, topic)) => self.note_arena(topic, data),
            _ => {}
        }
    }

    fn note_gm(&mut self, name: &str, data: &RawValue) {
        let Ok(Marks { error, data, .. }) = serde_json::from_str(data.get()) else { return };
        let data = data.unwrap_or_default();
        match name {
            "error" if self.errors.len() < MOST_ERRORS => self.errors.push(error.unwrap_or_default()),
            "proposal" => self.secret_shown |= data.get("gm_secret").is_some(),
            "images" => {
                let paths = data.as_object().into_iter().flat_map(|paths| paths.values());
                self.posters = paths.filter_map(|path| path.as_str().map(str::to_owned)).collect();
            }
            "end" => self.game_over = true,
            _ => {}
        }
    }

    fn note_arena(&mut self, topic: &str, data: &RawValue) {
        self.waiting = topic == "input.waiting";
        self.arena_over = topic == "event.end";
        if topic == "round.start" {
            self.debate = Some(Debate::default());
        }
        let Some(debate) = &mut self.debate else { return };
        let place = || {
            let marks: Marks = serde_json::from_str(data.get()).ok()?;
            marks.phase?.as_u64()?.checked_sub(1).map(|place| place as usize)
        };
        match topic {
            "phase.start" => set(&mut debate.phases, place()),
            "state.global" => debate.state = true,
            "input.waiting" | "event.end" => {
                let complete = debate.state && debate.phases == [true; 4] && debate.outputs == [true; 4];
                *(if complete { &mut self.complete_debates } else { &mut self.broken_debates }) += 1;
                self.debate = None;
            }
            _ if kind(topic) == "agent.*.output" => set(&mut debate.outputs, place()),
            _ => {}
        }
    }
}

fn set(places: &mut [bool; 4], at: Option<usize>) {
    if let Some(place) = at.and_then(|at| places.get_mut(at)) {
        *place = true;
    }
}

/// An event or topic with `*` for the debater's id.
fn kind(event: &str) -> String {
    let mut tokens: Vec<_> = event.split('.').collect();
    let agent = tokens.iter().position(|token| *token == "agent");
    if let Some(id) = agent.and_then(|at| tokens.get_mut(at + 1)) {
        *id = "*";
    }
    tokens.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(progress: &mut Progress, event: &str, data: serde_json::Value) {
        progress.note(event, &RawValue::from_string(data.to_string()).unwrap());
    }

    #[test]
    fn a_debate_is_complete_with_all_phases_an_output_in_each_and_a_state() {
        for missing in [None, Some("phase.start"), Some("agent.7.output"), Some("state.global")] {
            let mut progress = Progress::default();
            note(&mut progress, "arena.input.waiting", serde_json::json!({"round": 1}));
            assert!(progress.waiting && !progress.debating());
            note(&mut progress, "arena.round.start", serde_json::json!({"round": 1}));
            for phase in 1..=4 {
                for topic in ["phase.start", "agent.7.output"] {
                    if missing != Some(topic) || phase != 3 {
                        note(&mut progress, &format!("arena.{topic}"), serde_json::json!({"phase": phase}));
                    }
                }
            }
            if missing != Some("state.global") {
                note(&mut progress, "arena.state.global", serde_json::json!({"phase": 4}));
            }
            assert!(progress.debating());
            note(&mut progress, "arena.input.waiting", serde_json::json!({"round": 2}));
            let expected = u64::from(missing.is_none());
            assert_eq!((progress.complete_debates, progress.broken_debates), (expected, 1 - expected), "{missing:?}");
            assert_eq!(progress.count("arena.input.waiting"), 2);
        }
    }

    #[test]
    fn secrets_posters_errors_and_ends_are_marked() {
        let mut progress = Progress::default();
        note(&mut progress, "gm.proposal", serde_json::json!({"type": "proposal", "data": {"real": {}}}));
        assert!(!progress.secret_shown);
        note(&mut progress, "gm.proposal", serde_json::json!({"data": {"gm_secret": {}}}));
        note(&mut progress, "gm.images", serde_json::json!({"data": {"real": "/a.png", "fake": "/b.png"}}));
        note(&mut progress, "gm.error", serde_json::json!({"error": "no"}));
        note(&mut progress, "gm.end", serde_json::json!({"data": {"win": true}}));
        assert!(progress.secret_shown && progress.game_over);
        assert_eq!(progress.posters.len(), 2);
        assert_eq!((progress.errors.as_slice(), progress.finished_actions()), (["no".to_owned()].as_slice(), 1));
    }
}
