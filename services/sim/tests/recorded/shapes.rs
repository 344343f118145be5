//! The recorded traffic, and how events are compared with it: by their order and by their keys, never by their texts.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Where a recorded file lies.
pub(crate) fn path(name: &str) -> String {
    format!("{}/../../shared/testkit/fixtures/traces/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A recorded file.
pub(crate) fn fixture(name: &str) -> String {
    let path = path(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The events of an SSE body.
pub(crate) fn sse_events(body: &str) -> Vec<Value> {
    let data = body.split("\n\n").filter_map(|frame| frame.strip_prefix("data: "));
    data.map(|json| serde_json::from_str(json).unwrap_or_else(|error| panic!("{json}: {error}"))).collect()
}

/// What a value is made of: keys and kinds, not contents.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Shape {
    Null,
    Bool,
    Number,
    Text,
    /// The shapes of its items, each once.
    List(BTreeSet<Shape>),
    Object(BTreeMap<String, Shape>),
}

impl Shape {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(items) => Self::List(items.iter().map(Self::of).collect()),
            Value::Object(fields) => {
                // Scores are keyed by id.
                let key = |key: &str| if uuid::Uuid::parse_str(key).is_ok() { "<id>".into() } else { key.to_owned() };
                Self::Object(fields.iter().map(|(name, value)| (key(name), Self::of(value))).collect())
            }
        }
    }
}

/// The order of event types. Repeated ones count once, and what comes and goes with chance or time is left out:
/// heartbeats, a tool that failed, what the arena said.
pub(crate) fn grammar(events: &[Value]) -> Vec<String> {
    let mut grammar: Vec<String> = Vec::new();
    for event in events {
        let kind = event["type"].as_str().unwrap();
        if ["heartbeat", "tool_error", "agent_nats", "agent_death", "agent_clone"].contains(&kind) {
            continue;
        }
        let name = match kind {
            "tool_call" | "tool_result" => format!("{kind} {}", event["tool"].as_str().unwrap()),
            other => other.to_owned(),
        };
        if grammar.last() != Some(&name) {
            grammar.push(name);
        }
    }
    grammar
}

/// Event types whose shapes are not among the recorded ones.
pub(crate) fn shapes(ours: &[Value], recorded: &[Value]) -> Vec<String> {
    let shapes = |events: &[Value]| {
        let mut shapes: BTreeMap<String, BTreeSet<Shape>> = BTreeMap::new();
        for event in events {
            let tool = event["tool"].as_str().unwrap_or_default();
            shapes.entry(format!("{} {tool}", event["type"].as_str().unwrap())).or_default().insert(Shape::of(event));
        }
        shapes
    };
    let (ours, recorded) = (shapes(ours), shapes(recorded));
    let unknown = ours.iter().filter(|(kind, _)| *kind != "tool_error update_agent_vision");
    unknown
        .filter(|(kind, shapes)| recorded.get(*kind) != Some(shapes))
        .map(|(kind, shapes)| format!("{kind}: {shapes:?}"))
        .collect()
}
