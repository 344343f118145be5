//! The arena stand-in says what the recorded engine said: the same topics in the same order, with the same keys.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that can't go on fails")]

#[path = "recorded/shapes.rs"]
mod recorded;

use std::collections::{BTreeMap, BTreeSet};

use herald_protocol::{EventSubject, SessionId};
use recorded::{Shape, fixture};
use serde_json::Value;
use sim::arena::{
    game::Game,
    round::{self, Line},
};

/// The topic without whose it is.
fn kind(topic: &str) -> String {
    let mut tokens: Vec<_> = topic.split('.').collect();
    if tokens[0] == "agent" {
        tokens[1] = "*";
    }
    tokens.join(".")
}

/// The engine's messages of the recorded game.
fn recorded_messages() -> Vec<(String, Value)> {
    let messages =
        fixture("arena.ndjson").lines().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>();
    let played = |message: &Value| {
        let subject = EventSubject::parse(message["subject"].as_str().unwrap())?;
        let own = subject.topic != "input.fakenews";
        own.then(|| (kind(subject.topic), message["payload"].clone()))
    };
    messages.iter().filter_map(played).collect()
}

fn our_messages() -> Vec<(String, Value)> {
    let mut game = Game::new(1, SessionId::new("5e551040-0000-4000-8000-000000000001").unwrap(), None);
    let mut lines = Vec::new();
    for _ in 0..3 {
        lines.push(round::waiting(&game));
        lines.extend(round::play(1, &mut game, "A title\n\nA body"));
    }
    lines.push(round::end(&game));
    let parse = |line: Line| (kind(&line.topic), serde_json::from_slice(&line.payload).unwrap());
    lines.into_iter().map(parse).collect()
}

#[test]
fn topics_come_in_the_recorded_order() {
    let order = |messages: Vec<(String, Value)>| {
        let mut order: Vec<String> = Vec::new();
        for (kind, _) in messages {
            // Debaters speak in any order.
            let name = if kind.starts_with("agent") { "agent".to_owned() } else { kind };
            if name != "event.end" && order.last() != Some(&name) {
                order.push(name);
            }
        }
        order
    };
    let ours = order(our_messages());
    let theirs = order(recorded_messages());
    let round = ours.iter().position(|name| name == "state.global").unwrap();
    assert!(theirs.windows(round + 1).any(|window| window == &ours[..=round]), "{ours:?}");
    assert_eq!(ours.iter().filter(|name| *name == "phase.start").count(), 12);
}

#[test]
fn every_message_has_recorded_keys() {
    let shapes = |messages: &[(String, Value)]| {
        let mut shapes: BTreeMap<String, BTreeSet<Shape>> = BTreeMap::new();
        for (kind, payload) in messages {
            // Debaters that died as clones have more keys than others: each stands for itself.
            for list in ["agents", "graveyard"] {
                for agent in payload[list].as_array().into_iter().flatten() {
                    shapes.entry(format!("{kind} {list}")).or_default().insert(Shape::of(agent));
                }
            }
            let mut rest = payload.clone();
            if rest.get("agents").is_some() {
                rest["agents"] = Value::Null;
                rest["graveyard"] = Value::Null;
            }
            shapes.entry(format!("{kind} {}", payload["phase"])).or_default().insert(Shape::of(&rest));
        }
        shapes
    };
    let (ours, theirs) = (shapes(&our_messages()), shapes(&recorded_messages()));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (kind, ours) in ours {
        assert!(ours.is_subset(&theirs[&kind]), "{kind}: {ours:?} {:?}", theirs[&kind]);
    }
}
