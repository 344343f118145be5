//! The three dialects on a recorded game, on odd payloads, and on whatever a property test thinks of.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::sync::Arc;

use herald_protocol::frame::Tail;
use proptest::prelude::*;
use serde_json::{Value, json, value::RawValue};
use ws_edge::dialect::{Avatars, Dialect, DialectName};

const ARENA: &str = include_str!("../../../shared/testkit/fixtures/traces/arena.ndjson");
const CLIENT: &str = include_str!("../../../shared/testkit/fixtures/traces/ws-client.ndjson");
const ODD: &str = include_str!("../../../shared/testkit/fixtures/traces/arena-edge-payloads.ndjson");
const BODIES: [&str; 4] = [
    include_str!("../../../shared/testkit/fixtures/traces/gm-propose.turn1.sse"),
    include_str!("../../../shared/testkit/fixtures/traces/gm-choose.turn1.sse"),
    include_str!("../../../shared/testkit/fixtures/traces/gm-propose.turn2.sse"),
    include_str!("../../../shared/testkit/fixtures/traces/gm-choose.turn2.sse"),
];
const PICTURES: [&str; 4] = ["natasha.png", "pavel.png", "zoya.png", "grigori.jpg"];

#[derive(serde::Deserialize)]
struct Recorded<'a> {
    subject: String,
    #[serde(borrow)]
    payload: &'a RawValue,
}

/// Topic and payload of every arena event of the recording.
fn arena_events() -> Vec<(String, &'static str)> {
    let events = ARENA.lines().map(|line| serde_json::from_str::<Recorded>(line).unwrap());
    events
        .filter_map(|event| {
            let topic = event.subject.splitn(3, '.').nth(2)?.to_owned();
            Some((topic, event.payload.get()))
        })
        .collect()
}

/// Type and text of every Game Master event of the recording, heartbeats aside.
fn gm_events() -> Vec<(String, &'static str)> {
    let lines = BODIES.iter().flat_map(|body| body.lines()).filter_map(|line| line.strip_prefix("data: "));
    lines
        .filter_map(|text| {
            let event: Value = serde_json::from_str(text).unwrap();
            let kind = event["type"].as_str().unwrap().to_owned();
            (kind != "heartbeat").then_some((kind, text))
        })
        .collect()
}

fn avatars() -> Arc<Avatars> {
    Arc::new(Avatars::new("/static/agent-skins", PICTURES).unwrap())
}

fn frame(dialect: &Dialect, root: &str, topic: &str, payload: &[u8]) -> Option<String> {
    dialect.shows(root, topic).then_some(())?;
    let text = dialect.head(root, topic, payload)?.finish(Tail::plain(7, 1_700_000_000_000));
    Some(String::from_utf8(text).unwrap())
}

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn the_event_dialect_passes_every_recorded_payload_byte_for_byte() {
    let arena = arena_events();
    let gm = gm_events();
    assert!(arena.len() > 170 && gm.len() > 300, "{} {}", arena.len(), gm.len());
    for (root, events) in [("arena", arena), ("gm", gm)] {
        for (topic, payload) in events {
            assert_eq!(
                frame(&Dialect::Event, root, &topic, payload.as_bytes()).unwrap(),
                format!(r#"{{"event":"{root}.{topic}","data":{payload},"seq":7,"ts":1700000000000}}"#)
            );
        }
    }
}

#[test]
fn the_event_dialect_says_what_the_original_relay_said_of_the_game_master() {
    let ours = gm_events()
        .into_iter()
        .map(|(topic, text)| value(&frame(&Dialect::Event, "gm", &topic, text.as_bytes()).unwrap()));
    let ours: Vec<_> = ours.map(|frame| json!({"event": frame["event"], "data": frame["data"]})).collect();
    let theirs: Vec<_> = CLIENT.lines().filter_map(|line| Some(value(value(line)["frame"].as_str()?))).collect();
    let theirs: Vec<_> =
        theirs.into_iter().filter(|frame| frame["event"].as_str().unwrap().starts_with("gm.")).collect();
    assert!(theirs.len() >= ours.len(), "the recording holds a third turn");
    assert_eq!(ours[..], theirs[..ours.len()]);
}

#[test]
fn the_app_dialect_unwraps_the_game_masters_objects_but_three() {
    let dialect = Dialect::new(DialectName::App, Some(&avatars()));
    let (mut unwrapped, mut kept) = (0, 0);
    for (topic, text) in gm_events() {
        let event = value(text);
        let mut expected = event.clone();
        if event["data"].is_object() && !["reactions", "proposal", "images"].contains(&topic.as_str()) {
            expected = event["data"].clone();
            expected.as_object_mut().unwrap().entry("type").or_insert_with(|| event["type"].clone());
            unwrapped += 1;
        } else if event["data"].is_object() {
            kept += 1;
        }
        let frame = value(&frame(&dialect, "gm", &topic, text.as_bytes()).unwrap());
        assert_eq!(
            frame,
            json!({"event": format!("gm.{topic}"), "data": expected, "seq": 7, "ts": 1_700_000_000_000_u64})
        );
    }
    assert!(unwrapped >= 8 && kept >= 6, "{unwrapped} {kept}");
}

#[test]
fn the_app_dialect_names_the_subject_and_shows_pictures_in_the_arena() {
    let avatars = avatars();
    let dialect = Dialect::new(DialectName::App, Some(&avatars));
    let mut pictures = 0;
    for (topic, payload) in arena_events() {
        let mut expected = value(payload);
        pictures += add_pictures(&mut expected, &avatars);
        let frame = value(&frame(&dialect, "arena", &topic, payload.as_bytes()).unwrap());
        let wanted = json!({
            "event": format!("arena.{topic}"), "subject": topic, "data": expected, "seq": 7, "ts": 1_700_000_000_000_u64
        });
        assert_eq!(frame, wanted);
    }
    assert!(pictures > 60, "{pictures}");
}

/// The rule of the contract, once more, on values instead of bytes.
fn add_pictures(data: &mut Value, avatars: &Avatars) -> usize {
    let mut added = 0;
    let mut beside = |object: &mut Value, name: &str, url: &str| {
        if let Some(picture) = object[name].as_str().map(|name| avatars.url(name).to_owned()) {
            object[url] = json!(picture);
            added += 1;
        }
    };
    beside(data, "agent_name", "avatar_url");
    beside(data, "parent_name", "parent_avatar_url");
    beside(data, "child_name", "child_avatar_url");
    for list in ["agents", "graveyard"] {
        for agent in data.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            beside(agent, "name", "avatar_url");
        }
    }
    for survivor in data.get_mut("survivors").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(name) = survivor.as_str().map(ToOwned::to_owned) {
            *survivor = json!({"name": name, "avatar_url": avatars.url(&name)});
            added += 1;
        }
    }
    added
}

#[test]
fn the_app_dialect_without_pictures_leaves_payloads_alone() {
    let dialect = Dialect::new(DialectName::App, None);
    for (topic, payload) in arena_events() {
        let frame = frame(&dialect, "arena", &topic, payload.as_bytes()).unwrap();
        assert!(frame.contains(&format!(r#","subject":"{topic}","data":{payload},"seq":7"#)), "{frame}");
    }
}

#[test]
fn the_gm_dialect_speaks_the_game_masters_envelope() {
    let dialect = Dialect::new(DialectName::Gm, None);
    let mut takes = 0;
    for (topic, payload) in arena_events() {
        let shown = frame(&dialect, "arena", &topic, payload.as_bytes());
        let Some(shown) = shown else {
            assert!(topic.starts_with("agent.") && topic.ends_with(".status"), "{topic}");
            continue;
        };
        if topic.starts_with("agent.") {
            let mut expected = value(payload);
            expected["take"] = expected["content"].clone();
            assert_eq!(value(&shown), json!({"subject": "agent.status", "data": expected}));
            takes += 1;
        } else {
            assert_eq!(shown, format!(r#"{{"subject":"{topic}","data":{payload}}}"#));
        }
    }
    assert!(takes > 40, "{takes}");
    for (topic, text) in gm_events() {
        assert_eq!(frame(&dialect, "gm", &topic, text.as_bytes()), None, "it does not hear itself");
    }
}

#[test]
fn a_herald_client_of_the_gm_dialect_gets_the_numbers_too() {
    let head = Dialect::Gm.head("arena", "phase.start", b"{\"phase\":1}").unwrap();
    let tail = Tail { prev: Some(3), ..Tail::plain(7, 9) };
    let mut out = Vec::new();
    head.write(tail, &mut out);
    assert_eq!(out, br#"{"subject":"phase.start","data":{"phase":1},"seq":7,"ts":9,"prev":3}"#);
    let tail = Tail { snapshot: true, ..Tail::plain(7, 9) };
    assert_eq!(head.finish(tail), br#"{"subject":"phase.start","data":{"phase":1},"seq":7,"ts":9,"snapshot":true}"#);
}

#[test]
fn odd_payloads_are_shown_turned_into_text_or_skipped() {
    #[derive(serde::Deserialize)]
    struct Odd {
        subject: String,
        payload_latin1: String,
    }
    let dialects =
        [DialectName::Event, DialectName::App, DialectName::Gm].map(|name| Dialect::new(name, Some(&avatars())));
    for line in ODD.lines() {
        let odd: Odd = serde_json::from_str(line).unwrap();
        let payload: Vec<u8> = odd.payload_latin1.chars().map(|byte| u8::try_from(byte).unwrap()).collect();
        let topic = odd.subject.strip_prefix("arena.edge-payloads.").unwrap();
        for dialect in &dialects {
            let Some(shown) = frame(dialect, "arena", topic, &payload) else {
                assert!(std::str::from_utf8(&payload).is_err(), "{line}");
                continue;
            };
            // Whatever it holds, it is one JSON object for every reader that takes JSON.
            assert!(serde_json::from_str::<std::collections::HashMap<String, &RawValue>>(&shown).is_ok(), "{shown}");
        }
    }
    let event = |topic, payload: &str| frame(&Dialect::Event, "arena", topic, payload.as_bytes()).unwrap();
    let end = r#","seq":7,"ts":1700000000000}"#;
    assert_eq!(event("x", "plain text"), format!(r#"{{"event":"arena.x","data":"plain text"{end}"#));
    assert_eq!(event("x", ""), format!(r#"{{"event":"arena.x","data":""{end}"#));
    assert_eq!(event("x", "{\"c\":NaN}"), format!(r#"{{"event":"arena.x","data":"{{\"c\":NaN}}"{end}"#));
    let kept = r#"{"b":1,"a":1e400,"b":12345678901234567890123,"c":1.0,"s":"\ud83d"}"#;
    assert_eq!(event("x", kept), format!(r#"{{"event":"arena.x","data":{kept}{end}"#));
    assert_eq!(event("agent.\"\\.status", "1"), format!(r#"{{"event":"arena.agent.\"\\.status","data":1{end}"#));
}

#[test]
fn splicing_alters_no_number_and_no_key() {
    let app = Dialect::new(DialectName::App, Some(&avatars()));
    let shown = |root, topic, payload: &str| frame(&app, root, topic, payload.as_bytes()).unwrap();
    let end = r#","seq":7,"ts":1700000000000}"#;
    assert_eq!(
        shown("gm", "turn_update", r#" { "data" : { "turn" : 1e400 , "turn":2.0 } , "type" : "turn_update" } "#),
        format!(r#"{{"event":"gm.turn_update","data":{{ "turn" : 1e400 , "turn":2.0,"type":"turn_update" }}{end}"#)
    );
    assert_eq!(
        shown("gm", "end", r#"{"type":"end","data":{}}"#),
        format!(r#"{{"event":"gm.end","data":{{"type":"end"}}{end}"#)
    );
    assert_eq!(
        shown("gm", "unknown", r#"{"data":{ }}"#),
        format!(r#"{{"event":"gm.unknown","data":{{"type":"unknown" }}{end}"#)
    );
    assert_eq!(
        shown("gm", "end", r#"{"type":"end","data":{"type":"own"}}"#),
        format!(r#"{{"event":"gm.end","data":{{"type":"own"}}{end}"#)
    );
    for payload in [r#"{"type":"result","data":"ok"}"#, "[1]", r#""text""#, "7", r#"{"data":[{}]}"#] {
        assert_eq!(shown("gm", "result", payload), format!(r#"{{"event":"gm.result","data":{payload}{end}"#));
    }
    let table = [
        (r#"{"agent_name":5}"#, r#"{"agent_name":5}"#),
        (r#"[{"agent_name":"Pavel"},3]"#, r#"[{"agent_name":"Pavel","avatar_url":"/static/agent-skins/pavel.png"},3]"#),
        (
            r#"{"agent\u005fname":"PAVEL","a":1e400}"#,
            r#"{"agent\u005fname":"PAVEL","avatar_url":"/static/agent-skins/pavel.png","a":1e400}"#,
        ),
        (
            r#"{"agent_name":"X","agent_name":"Zoya"}"#,
            r#"{"agent_name":"X","agent_name":"Zoya","avatar_url":"/static/agent-skins/zoya.png"}"#,
        ),
        (r#"{"agent_name":"Zoya","avatar_url":"own"}"#, r#"{"agent_name":"Zoya","avatar_url":"own"}"#),
        (r#"{"agent_name":"\ud83d"}"#, r#"{"agent_name":"\ud83d"}"#),
        (
            r#"{"survivors":["Pavel",{"name":"Q"},7],"history":[1,2]}"#,
            r#"{"survivors":[{"name":"Pavel","avatar_url":"/static/agent-skins/pavel.png"},{"name":"Q"},7],"history":[1,2]}"#,
        ),
        (
            r#"{"agents":[{"name":"Grigori"},{"id":1},null],"graveyard":null}"#,
            r#"{"agents":[{"name":"Grigori","avatar_url":"/static/agent-skins/grigori.jpg"},{"id":1},null],"graveyard":null}"#,
        ),
    ];
    for (payload, data) in table {
        let expected = format!(r#"{{"event":"arena.t","subject":"t","data":{data}{end}"#);
        assert_eq!(shown("arena", "t", payload), expected);
    }
}

#[test]
fn a_name_without_a_picture_always_gets_the_same_one() {
    let avatars = avatars();
    let url = avatars.url("Dmitri");
    assert_eq!(avatars.url("dmitri"), url);
    assert!(PICTURES.iter().any(|file| url.ends_with(file)));
    assert_eq!(avatars.url("Natasha"), "/static/agent-skins/natasha.png");
    assert!(Avatars::new("/static", []).is_none());
}

#[test]
fn control_events_are_never_shown() {
    for name in [DialectName::Event, DialectName::App, DialectName::Gm] {
        let dialect = Dialect::new(name, None);
        assert!(!dialect.shows("gm", "_action") && !dialect.shows("arena", "_x.y"), "{name}");
    }
}

/// JSON as engines might write it: any value, with repeated keys, odd numbers and white space.
fn json_text() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        prop_oneof![Just("1e400"), Just("-0.0"), Just("12345678901234567890123"), Just("1.50")].prop_map(str::to_owned),
        "[\\PC\n\"\\\\]{0,8}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        Just(r#""\ud83d""#.to_owned()),
    ];
    let key = prop_oneof![
        Just("agent_name"),
        Just("name"),
        Just("agents"),
        Just("survivors"),
        Just("data"),
        Just("type"),
        Just("content"),
        Just("x\\\"y"),
        Just("d\\u0061ta"),
        Just("avatar_url"),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        let member = (key.clone(), inner.clone(), "[ \n\t]{0,2}");
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(|elements| format!("[{}]", elements.join(" ,\n"))),
            prop::collection::vec(member, 0..5).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(key, value, space)| format!("{space}\"{key}\"{space}:{space}{value}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// Every number, string and literal of a JSON text, in order.
fn tokens(text: &str) -> Vec<String> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '"' => {
                let mut escaped = false;
                let end = rest[1..].find(|c| {
                    let done = c == '"' && !escaped;
                    escaped = c == '\\' && !escaped;
                    done
                });
                end.unwrap() + 2
            }
            c if c.is_ascii_alphanumeric() || c == '-' => {
                rest.find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c)).unwrap_or(rest.len())
            }
            c => {
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        tokens.push(rest[..len].to_owned());
        rest = &rest[len..];
    }
    tokens
}

/// Whether `part` is what remains of `whole` when some of it is left out.
fn within(part: &[String], whole: &[String]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|token| rest.any(|other| other == token))
}

proptest! {
    #[test]
    fn every_dialect_writes_json_and_keeps_every_token(
        payload in json_text(), root in prop_oneof![Just("gm"), Just("arena"), Just("lobby")],
        topic in prop_oneof![Just("end"), Just("agent.7.output"), Just("state.global"), Just("proposal")],
    ) {
        for name in [DialectName::Event, DialectName::App, DialectName::Gm] {
            let dialect = Dialect::new(name, Some(&avatars()));
            let Some(text) = frame(&dialect, root, topic, payload.as_bytes()) else { continue };
            prop_assert!(serde_json::from_str::<&RawValue>(&text).is_ok(), "{name}: {text}");
            let (before, after) = (tokens(&payload), tokens(&text));
            if name == DialectName::App && root == "gm" {
                // Unwrapping leaves out, and adds the type alone.
                prop_assert!(after.len() <= before.len() + 8);
            } else {
                prop_assert!(within(&before, &after), "{name}: {payload} -> {text}");
            }
        }
    }

    #[test]
    fn any_bytes_are_a_frame_or_not_utf8(payload in prop::collection::vec(any::<u8>(), 0..80), topic in "\\PC{1,12}") {
        for name in [DialectName::Event, DialectName::App, DialectName::Gm] {
            let dialect = Dialect::new(name, Some(&avatars()));
            for root in ["gm", "arena"] {
                match dialect.head(root, &topic, &payload) {
                    Some(head) => {
                        let text = head.finish(Tail::plain(u64::MAX, u64::MAX));
                        prop_assert!(serde_json::from_slice::<&RawValue>(&text).is_ok());
                    }
                    None => prop_assert!(std::str::from_utf8(&payload).is_err()),
                }
            }
        }
    }
}
