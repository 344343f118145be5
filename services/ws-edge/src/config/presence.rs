//! Who is there, over all edges.

use herald_runtime::config::{Fault, HumanDuration};
use serde::{Deserialize, Serialize};

use super::{ListenerConfig, RouteConfig};

/// The shortest time over which changes gather: each time costs a message to all edges.
const SHORTEST_BATCH: HumanDuration = HumanDuration::from_millis(5);
/// A longer one is no batch any more, and people wait for it.
const LONGEST_BATCH: HumanDuration = HumanDuration::from_secs(1);
/// Somebody who has been away for so long is not on a reload.
const LONGEST_GRACE: HumanDuration = HumanDuration::from_secs(300);

/// People in an answer: with the longest of names they still fit into a message.
const LARGEST_PAGE: usize = 4096;

/// What a route tells of who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PresenceMode {
    /// Nothing, and its connections count nowhere.
    #[default]
    Off,
    /// How many.
    Count,
    /// Who, and how many.
    List,
}

/// Who is there, on routes with `presence`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PresenceConfig {
    /// How long after their last connection somebody still is there: a reload is silent. Default 5s.
    pub grace: HumanDuration,
    /// How often an edge says to the others that it lives. Default 3s.
    pub beat: HumanDuration,
    /// How long after an edge was last heard of nobody is there by it any more; at least four times `beat`. Default 12s.
    pub timeout: HumanDuration,
    /// Over how long changes gather before other edges and clients are told of them. Default 50ms.
    pub batch: HumanDuration,
    /// Frames about who is there that each client of a session is sent in a second, and as many at once; where there is more to
    /// say, they are told how many are there. Default 10.
    pub frames: u32,
    /// Frames about who is there that all clients of a session by one edge are sent in a second: in large sessions each gets
    /// fewer. Default 10000.
    pub deliveries: u32,
    /// People of one session who are known one by one; further ones are only counted, in each edge they come by. Default 20000.
    pub max_persons: usize,
    /// People of all sessions and edges who are known one by one, likewise; and so many sessions at most that only other edges
    /// have clients of. Default 200000.
    pub max_total: usize,
    /// People in one answer at most. Default 1000.
    pub page: usize,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            grace: HumanDuration::from_secs(5),
            beat: HumanDuration::from_secs(3),
            timeout: HumanDuration::from_secs(12),
            batch: HumanDuration::from_millis(50),
            frames: 10,
            deliveries: 10_000,
            max_persons: 20_000,
            max_total: 200_000,
            page: 1000,
        }
    }
}

/// Everything wrong with these values.
pub(super) fn faults(config: &PresenceConfig) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut fault = |key: &str, text: String| faults.push(Fault::new(format!("presence.{key}"), text));
    for (key, zero) in [
        ("beat", config.beat.get().is_zero()),
        ("frames", config.frames == 0),
        ("deliveries", config.deliveries == 0),
        ("max_persons", config.max_persons == 0),
        ("max_total", config.max_total == 0),
        ("page", config.page == 0),
    ] {
        if zero {
            fault(key, "must be greater than zero".to_owned());
        }
    }
    if config.timeout.get() < config.beat.get() * 4 {
        fault("timeout", format!("must be at least four times presence.beat ({})", config.beat));
    }
    if config.page > LARGEST_PAGE {
        fault("page", format!("must be at most {LARGEST_PAGE}"));
    }
    if config.grace > LONGEST_GRACE {
        fault("grace", format!("must be at most {LONGEST_GRACE}"));
    }
    if !(SHORTEST_BATCH..=LONGEST_BATCH).contains(&config.batch) {
        fault("batch", format!("must be from {SHORTEST_BATCH} to {LONGEST_BATCH}"));
    }
    faults
}

impl RouteConfig {
    /// What it tells of who is there, on that listener.
    #[must_use]
    pub fn tells(&self, listener: &ListenerConfig) -> PresenceMode {
        // Who reads the past is nobody who is there.
        if self.transport.is_live() { self.presence.unwrap_or(listener.presence) } else { PresenceMode::Off }
    }

    /// Where that can be asked for, and how much is told; `None`: nowhere.
    pub(crate) fn presence_asked(&self, listener: &ListenerConfig) -> Option<(&str, PresenceMode)> {
        let mode = self.tells(listener);
        // An alias stands for a session that whoever may follow it need not be told of.
        let asked = mode != PresenceMode::Off && self.alias.is_none();
        asked.then_some((self.presence_path.as_str(), mode))
    }
}

/// Whether asking who is there on the one route is the same as on the other, on that listener.
pub(super) fn ask_the_same(one: &RouteConfig, other: &RouteConfig, listener: &ListenerConfig) -> bool {
    let question = |it: &RouteConfig| {
        let who = (it.admit.clone(), it.admit_query.clone(), it.door.clone(), it.session.clone());
        (it.roots.first().cloned(), it.tells(listener), who)
    };
    question(one) == question(other)
}
