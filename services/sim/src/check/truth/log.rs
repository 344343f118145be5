//! One session as the stream holds it, as little of it as a judgement needs.
//!
//! What clients see of it is decided here once more, from the contract and not from the edge's code, so that a mistake
//! over there is not repeated here.

use std::{borrow::Cow, collections::HashMap};

use herald_protocol::{
    Epoch, SessionId,
    record::{ActionEvent, ActionKind},
};
use herald_runtime::jetstream::Stored;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::check::{
    notes::hash,
    numbered::{ArenaEvent, CallEvent},
};

/// The last event of each of these is a snapshot (`*` stands for one token).
const SNAPSHOT: [&str; 16] = [
    "gm.proposal",
    "gm.images",
    "gm.choice_resolved",
    "gm.reactions",
    "gm.indices_update",
    "gm.strategy",
    "gm.turn_update",
    "gm.game_over_reveal",
    "gm.end",
    "arena.input.waiting",
    "arena.round.start",
    "arena.phase.start",
    "arena.agent.*.status",
    "arena.agent.*.output",
    "arena.state.global",
    "arena.event.end",
];
/// News on its way to the engine: never shown.
const NEWS: &str = "arena.input.fakenews";
/// The number of the action that an error formed by a bridge ends.
const ENDS: &str = "Herald-Ends";

/// An event that clients must get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// Its sequence.
    pub seq: u64,
    /// When it was stored, ms since 1970.
    pub ts_ms: u64,
    /// [`hash`] of its payload as a frame carries it.
    pub hash: u64,
    /// Which of the session's topics it is, if it belongs to snapshots.
    pub topic: Option<u16>,
}

/// An event of the arena path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArenaEntry {
    /// Its sequence.
    pub seq: u64,
    /// Its number; `None` where it is not one of the checker's for this session, or not as it was published.
    pub n: Option<u32>,
}

/// What an error says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// `bridge lost`.
    Lost,
    /// The Game Master went to another session: said also where nothing ran.
    TakenOver,
    /// Anything else.
    Other,
}

/// What an event of the Game Master's path is to the running action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// `_action`: another action begins.
    Action {
        /// Its number.
        n: u64,
        /// What it is.
        kind: ActionKind,
    },
    /// `_done`: the end of one that has nothing to say.
    Done,
    /// `result`: its own end.
    Result,
    /// `error`.
    Error {
        /// The number of the action that it ends, where a bridge formed it.
        ends: Option<u64>,
        /// What it says.
        why: Why,
    },
    /// Anything else.
    Word,
}

/// A numbered event of a call to a Game Master.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Its place in [`SessionLog::calls`].
    pub id: u32,
    /// Which one of the call.
    pub k: u32,
    /// How many the call has.
    pub of: u32,
    /// Whether it came through unaltered.
    pub sound: bool,
}

/// An event of the Game Master's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GameEntry {
    /// Its sequence.
    pub seq: u64,
    /// What it is to the action.
    pub step: Step,
    /// Its number, if the Game Master numbered it.
    pub call: Option<Call>,
}

/// A call to a Game Master, by the names in its events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallName {
    /// Its own; no other has it.
    pub call: Box<str>,
    /// The Game Master's.
    pub g: Box<str>,
}

/// The session in one life of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Life {
    /// Its name.
    pub epoch: Epoch,
    /// What clients must get, by sequence.
    pub shown: Vec<Shown>,
    /// The arena path.
    pub arena: Vec<ArenaEntry>,
    /// The Game Master's path.
    pub game: Vec<GameEntry>,
    /// Everything up to here may be kept no more.
    pub trimmed: u64,
    /// Everything up to here is known.
    pub through: u64,
}

impl Life {
    /// A life of which nothing is known yet.
    #[must_use]
    pub const fn new(epoch: Epoch) -> Self {
        Self { epoch, shown: Vec::new(), arena: Vec::new(), game: Vec::new(), trimmed: 0, through: 0 }
    }

    /// The sequence of the last event that clients must get, 0 where there is none.
    #[must_use]
    pub fn last_shown(&self) -> u64 {
        self.shown.last().map_or(0, |event| event.seq)
    }
}

/// One session as the stream holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLog {
    /// Whose log.
    pub session: SessionId,
    /// The stream's lives since the session is followed, the present one last. Never empty.
    pub lives: Vec<Life>,
    /// The calls to Game Masters that were seen.
    pub calls: Vec<CallName>,
    /// Everything of the last life up to here has to have come; what is behind may have. `u64::MAX` unless set.
    pub due: u64,
    topics: HashMap<Box<str>, u16>,
    call_ids: HashMap<Box<str>, u32>,
}

impl SessionLog {
    /// An empty log in that life.
    #[must_use]
    pub fn new(session: SessionId, epoch: Epoch) -> Self {
        Self {
            session,
            lives: vec![Life::new(epoch)],
            calls: Vec::new(),
            due: u64::MAX,
            topics: HashMap::new(),
            call_ids: HashMap::new(),
        }
    }

    /// The present life.
    #[must_use]
    pub fn life(&self) -> &Life {
        &self.lives[self.lives.len() - 1]
    }

    /// The present life.
    pub fn life_mut(&mut self) -> &mut Life {
        let last = self.lives.len() - 1;
        &mut self.lives[last]
    }

    /// Another life began.
    pub fn begin(&mut self, epoch: Epoch) {
        self.lives.push(Life::new(epoch));
    }

    /// Whether the last action in the log has ended, or there was none: nothing more comes by itself.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let mut open = None;
        for entry in &self.life().game {
            match entry.step {
                Step::Action { n, .. } => open = Some(n),
                Step::Done | Step::Result | Step::Error { ends: None, .. } => open = None,
                Step::Error { ends, .. } if ends == open => open = None,
                Step::Error { .. } | Step::Word => {}
            }
        }
        open.is_none()
    }

    /// Takes in the next message of the session, `root` and `topic` being the parts of its subject.
    pub fn take(&mut self, root: &str, topic: &str, message: &Stored) {
        let (seq, payload) = (message.sequence, &message.payload[..]);
        let event = format!("{root}.{topic}");
        if is_shown(root, topic)
            && let Some(hash) = shown_hash(payload)
        {
            let topic = SNAPSHOT.iter().any(|pattern| matches(pattern, &event)).then(|| self.topic(&event));
            self.life_mut().shown.push(Shown { seq, ts_ms: message.time_ms(), hash, topic });
        }
        match root {
            "arena" => {
                let numbered = serde_json::from_slice::<ArenaEvent<'_>>(payload).ok();
                let n = numbered.filter(|event| event.is_sound(&self.session)).map(|event| event.n);
                // News may be the checker's own as well; a bridge's have no number, and are nobody's fault.
                if n.is_some() || event != NEWS {
                    self.life_mut().arena.push(ArenaEntry { seq, n });
                }
            }
            "gm" => {
                let step = step(topic, message);
                let call = match step {
                    Step::Action { .. } | Step::Done => None,
                    _ => serde_json::from_slice::<CallEvent<'_>>(payload).ok().map(|event| self.call(&event)),
                };
                self.life_mut().game.push(GameEntry { seq, step, call });
            }
            _ => {}
        }
    }

    fn topic(&mut self, event: &str) -> u16 {
        if let Some(known) = self.topics.get(event) {
            return *known;
        }
        // A session of the checker has a handful.
        let next = u16::try_from(self.topics.len()).unwrap_or(u16::MAX);
        self.topics.insert(event.into(), next);
        next
    }

    fn call(&mut self, event: &CallEvent<'_>) -> Call {
        let id = match self.call_ids.get(&*event.call) {
            Some(known) => *known,
            None => {
                let next = u32::try_from(self.calls.len()).unwrap_or(u32::MAX);
                self.call_ids.insert((&*event.call).into(), next);
                self.calls.push(CallName { call: (&*event.call).into(), g: (&*event.g).into() });
                next
            }
        };
        let same_master = self.calls.get(id as usize).is_some_and(|name| *name.g == *event.g);
        Call { id, k: event.k, of: event.of, sound: same_master && event.is_sound() }
    }
}

/// Whether clients of the default door see such an event, as far as its subject tells.
fn is_shown(root: &str, topic: &str) -> bool {
    let control = topic.starts_with('_');
    matches!(root, "gm" | "arena") && !control && !(root == "arena" && topic == "input.fakenews")
}

/// [`hash`] of a payload as a frame carries it. JSON passes as it is, other text becomes a JSON string, nothing becomes
/// `""`. `None`: it is not UTF-8 and can't be shown.
fn shown_hash(payload: &[u8]) -> Option<u64> {
    if serde_json::from_slice::<&RawValue>(payload).is_ok() {
        return Some(hash(payload.trim_ascii()));
    }
    let text = std::str::from_utf8(payload).ok()?;
    serde_json::to_vec(text).ok().map(|quoted| hash(&quoted))
}

/// Whether `event` is one of the pattern's.
fn matches(pattern: &str, event: &str) -> bool {
    let (mut wanted, mut tokens) = (pattern.split('.'), event.split('.'));
    loop {
        match (wanted.next(), tokens.next()) {
            (None, None) => return true,
            (Some(wanted), Some(token)) if wanted == "*" || wanted == token => {}
            _ => return false,
        }
    }
}

fn step(topic: &str, message: &Stored) -> Step {
    #[derive(Deserialize)]
    struct Said<'a> {
        #[serde(borrow)]
        error: Option<Cow<'a, str>>,
        #[serde(borrow)]
        detail: Option<Cow<'a, str>>,
    }
    match topic {
        "_action" => {
            // One that can't be read opened something all the same.
            let unreadable = ActionEvent { n: 0, kind: ActionKind::Lost, before: None };
            let action = serde_json::from_slice(&message.payload).unwrap_or(unreadable);
            Step::Action { n: action.n, kind: action.kind }
        }
        "_done" => Step::Done,
        "result" => Step::Result,
        "error" => {
            let ends = message.headers.get(ENDS).and_then(|ends| ends.as_str().parse().ok());
            let why = match serde_json::from_slice::<Said<'_>>(&message.payload) {
                Ok(Said { detail: Some(detail), .. }) if detail == "bridge lost" => Why::Lost,
                Ok(Said { error: Some(error), .. }) if error == "Game taken over" => Why::TakenOver,
                _ => Why::Other,
            };
            Step::Error { ends, why }
        }
        _ => Step::Word,
    }
}

#[cfg(test)]
mod tests;
