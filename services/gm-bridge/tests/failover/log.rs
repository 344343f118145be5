//! What a session's log says of its actions, and what must hold of it whatever died meanwhile.

use std::collections::{BTreeMap, HashMap};

use herald_runtime::jetstream::Stored;
use serde_json::Value;

/// One event as the log holds it.
#[derive(Debug, Clone)]
pub(crate) struct Logged {
    pub(crate) topic: String,
    pub(crate) json: Value,
    pub(crate) sequence: u64,
    pub(crate) at_ms: u64,
    /// `Herald-Ends`, if it has one.
    pub(crate) ends: Option<u64>,
}

/// One action and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) kind: String,
    /// Events of the Game Master.
    pub(crate) events: u64,
    /// The details of its ends: `""` where it came to its own. Exactly one, once all is over.
    pub(crate) ends: Vec<String>,
    /// When it ended.
    pub(crate) ended_ms: u64,
}

impl Logged {
    pub(crate) fn read(stored: &Stored) -> Self {
        Self {
            topic: stored.subject.splitn(3, '.').nth(2).unwrap_or_default().to_owned(),
            json: serde_json::from_slice(&stored.payload).unwrap(),
            sequence: stored.sequence,
            at_ms: stored.time_ms(),
            ends: stored.headers.get("Herald-Ends").map(|ends| ends.as_str().parse().unwrap()),
        }
    }

    /// Whether a bridge says that the bridge of an action is gone.
    pub(crate) fn is_lost(&self) -> bool {
        self.topic == "error" && self.json["detail"] == "bridge lost"
    }
}

/// Whether the last action has ended.
pub(crate) fn has_ended(log: &[Logged]) -> bool {
    let Some(opened) = log.iter().rposition(|event| event.topic == "_action") else { return true };
    let n = log[opened].json["n"].as_u64().unwrap();
    log[opened + 1..].iter().any(|event| is_end(event, n))
}

fn is_end(event: &Logged, n: u64) -> bool {
    match event.topic.as_str() {
        "result" | "_done" | "_over" => true,
        "error" => event.ends.is_none_or(|ends| ends == n),
        _ => false,
    }
}

/// Reads the story of a session, and fails where it is none: actions are numbered without a hole; each says its ends before
/// it first, then its own events, and nothing behind its end; a call's events are contiguous, once each, in one action;
/// every action but the last ends exactly once, by itself or by a later one.
pub(crate) fn story(log: &[Logged]) -> BTreeMap<u64, Told> {
    let mut told: BTreeMap<u64, Told> = BTreeMap::new();
    let mut calls: HashMap<String, u64> = HashMap::new();
    let (mut current, mut over) = (0, true);
    for event in log {
        let context = || format!("{event:?} in {log:#?}");
        if event.topic == "_action" {
            let n = event.json["n"].as_u64().unwrap();
            assert!(current == 0 || n == current + 1, "numbers: {}", context());
            let kind = event.json["kind"].as_str().unwrap().to_owned();
            told.insert(n, Told { kind, ..Told::default() });
            (current, over) = (n, false);
            continue;
        }
        assert!(!over, "something follows the end: {}", context());
        let ender = matches!(told[&current].kind.as_str(), "lost" | "cancel");
        let detail = event.json["detail"].as_str().unwrap_or(if event.topic == "error" { "told" } else { "" });
        let mut end = |n: u64| {
            let action = told.get_mut(&n).unwrap_or_else(|| panic!("an end of nothing: {}", context()));
            action.ends.push(detail.to_owned());
            action.ended_ms = event.at_ms;
        };
        match (event.topic.as_str(), event.ends) {
            ("error", Some(of)) if of < current => end(of),
            // An ender ends itself with the last word that it has to say of another one.
            ("error", Some(of)) if ender => {
                let open = (1..of).rev().find(|n| {
                    told.get(n).is_some_and(|told| told.ends.is_empty() && !matches!(&*told.kind, "lost" | "cancel"))
                });
                let mut end = |n: u64| {
                    let action = told.get_mut(&n).unwrap();
                    action.ends.push(detail.to_owned());
                    action.ended_ms = event.at_ms;
                };
                match open {
                    Some(open) => end(open),
                    // A game that was taken over is told so, whatever ran.
                    None => assert_eq!(event.json["error"], "Game taken over", "nothing was open: {}", context()),
                }
                end(of);
                over = true;
            }
            ("result" | "_done" | "error", _) => {
                end(current);
                over = true;
            }
            _ => {}
        }
        if let Some(call) = event.json["call"].as_str() {
            let action = told.get_mut(&current).unwrap();
            assert_eq!(event.json["k"], action.events, "a hole or a double: {}", context());
            action.events += 1;
            let of = *calls.entry(call.to_owned()).or_insert(current);
            assert_eq!(of, current, "one call in two actions: {}", context());
        }
    }
    for (n, action) in &told {
        let ender = matches!(&*action.kind, "lost" | "cancel");
        if *n != current {
            // One that only was to end others may have died before its first word: then nothing is said of it.
            let right = action.ends.len() == 1 || (ender && action.ends.is_empty());
            assert!(right, "action {n} has {:?} for its end: {log:#?}", action.ends);
        }
    }
    told
}

/// How many requests to the Game Master the log accounts for: one for each propose and choose.
pub(crate) fn commands(told: &BTreeMap<u64, Told>) -> u64 {
    told.values().filter(|told| matches!(&*told.kind, "propose" | "choose")).count() as u64
}
