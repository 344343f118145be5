//! Fuzzing target: an event, whatever stands in it, as every kind of client gets it.

use async_nats::Subject;
use bytes::Bytes;
use herald_fuzz::{Target, line};
use herald_protocol::{Cursor, Epoch};
use herald_testkit::traces;
use serde_json::{Map, Value, json, value::RawValue};

use super::*;
use crate::{
    event::Event,
    view::{Encoding, View, ViewOptions},
};

const TAIL: Tail = Tail { seq: 7, ts_ms: 1_767_225_600_000, prev: Some(5), snapshot: false };
const CURSOR: Cursor = Cursor { epoch: Epoch::new(0xab), seq: 7 };
const ENCODINGS: [Encoding; 3] = [Encoding::Plain, Encoding::V1, Encoding::Sse];

/// The subject on the first line, the payload behind it.
#[test]
fn dialects() {
    let avatars = Avatars::new("/static", ["vera.png", "pavel.png", "other.webp"]).map(Arc::new);
    let dialects = [Dialect::Event, Dialect::App(None), Dialect::App(avatars), Dialect::Gm, Dialect::Raw];
    let views: Vec<[View; 3]> = dialects
        .into_iter()
        .map(|dialect| {
            ENCODINGS.map(|encoding| View {
                roots: vec!["gm".into(), "arena".into(), "lobby".into()],
                hidden: vec!["arena.input.fakenews".parse().expect("topics")],
                snapshot: Vec::new(),
                dialect: dialect.clone(),
                encoding,
                veils: Vec::new(),
                options: ViewOptions::default(),
            })
        })
        .collect();
    // One of each kind of event, which are not too long.
    let recorded = traces::arena().into_iter().filter(|message| message.payload.len() < 1200).step_by(7);
    let of_gm = traces::text("gm-propose.turn1.sse");
    let of_gm =
        of_gm.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| data.len() < 1200).step_by(9);
    Target::new("dialects")
        .seeds(recorded.map(|message| format!("{}\n{}", message.subject, message.payload)))
        .seeds(of_gm.map(|data| format!("gm.s.some\n{data}")))
        .seeds([
            "gm.s.proposal\n{\"type\":\"proposal\",\"data\":{\"news\":[]}}",
            "gm.s.strategy\n{\"type\":\"strategy\",\"data\":{ }}",
            "gm.s.turn_update\n{\"data\":{\"type\":\"own\",\"x\":1e400},\"data\":{\"\\u0074ype\":1}}",
            "arena.s.agent.7.output\n{\"agent_name\":\"Vera\",\"content\":\"\\\"x\\\"\",\"content\":5}",
            "arena.s.agent.7.status\n{\"state\":\"thinking\"}",
            "arena.s.event.clone\n{\"parent_name\":\"Pavel\",\"child_name\":\"Vera\\u0020II\"}",
            "arena.s.event.end\n{\"survivors\":[\"Vera\",\"\\ud800\",{\"name\":\"x\"}],\"history\":[]}",
            "arena.s.state.global\n{\"agents\":[{\"name\":\"Vera\"},5,{\"name\":\"x\",\"avatar_url\":null}],\"graveyard\":[{\"name\":\"y\"}],\"scores\":{}}",
            "arena.s.input.fakenews\n{\"content\":\"secret\"}",
            "gm.s._action\n{\"n\":1}",
            "lobby.s.a\"b\\c\nNaN",
            "arena.s.x\n[{\"agent_name\":\"Vera\"},[],1.0,\"\\n\"]",
            "arena.s.x\n{\r\n \"a\" : 1 ,\r \"b\":\n2}\r\n",
        ])
        .tokens([
            "\n", "\r", "{", "}", "[", "]", ",", ":", "\"", "\\", "\\\"", "\"data\":", "\"type\":", "\"agent_name\":", "\"content\":", "\"agents\":", "\"survivors\":",
            "\"avatar_url\":", "\"parent_name\":", "\"name\":", "\"Vera\"", "\"\\u0056era\"", "null", "1e999", "\\ud800", "NaN", "gm.s.", "arena.s.agent.7.output",
            "._", ".", "\u{2028}", "\u{7f}", "[[[[[[[[", "{\"a\":", "é",
        ])
        .run(|input| {
            let (subject, payload) = line(input)?;
            let event = Event::parse(Subject::from(subject), TAIL.seq, TAIL.ts_ms, Bytes::copy_from_slice(payload))?;
            let parts = event.parts();
            assert_eq!(format!("{}.{}.{}", parts.root, parts.session, parts.topic), subject);
            let whole: Option<Value> = serde_json::from_slice(payload).ok();
            // JSON that this parser can't hold, such as half a surrogate pair: valid all the same, and not to be compared.
            let odd = whole.is_none() && serde_json::from_slice::<&RawValue>(payload).is_ok();
            let ways: Vec<_> = views.iter().map(|views| {
                // Each kind of way in its turn.
                let view = &views[payload.len() % 3];
                let shown = view.shows(&event);
                assert!(!shown || !parts.topic.starts_with('_') && subject_is_shown(parts.root, parts.topic), "{subject} is nobody's to see");
                let Some(head) = view.head(&event) else {
                    assert!(std::str::from_utf8(payload).is_err(), "text can be shown");
                    return (shown, false, 0);
                };
                let bytes = view.encode(&head, TAIL, Some(CURSOR));
                let text = carried(view.encoding, &bytes);
                assert!(text.len() <= head.longest());
                if view.dialect == Dialect::Raw {
                    let broken = |text: &[u8]| String::from_utf8_lossy(text).replace("\r\n", "\n").replace('\r', "\n");
                    let same = if view.encoding == Encoding::Sse { broken(&text) == broken(payload) } else { text == payload };
                    assert!(same, "a raw frame is the payload");
                    return (shown, true, 0);
                }
                let json: &RawValue = serde_json::from_slice(&text).expect("a frame is JSON");
                if let (false, Ok(frame)) = (odd, serde_json::from_str::<Value>(json.get())) {
                    compare(&view.dialect, view.encoding, parts.root, parts.topic, &frame, whole.as_ref(), payload);
                }
                (shown, true, text.len() - payload.len().min(text.len()))
            }).map(|(shown, text, more)| (shown, text, more.min(200) / 8)).collect();
            Some((parts.root.len().min(6), whole.is_some(), ways))
        });
}

/// Whether clients may see such a thing at all.
fn subject_is_shown(root: &str, topic: &str) -> bool {
    ["gm", "arena", "lobby"].contains(&root) && (root, topic) != ("arena", "input.fakenews")
}

/// The text that travels in a frame or in an event of a stream, as a client unwraps it.
fn carried(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    if encoding == Encoding::Sse {
        let text = std::str::from_utf8(bytes).expect("text").strip_suffix("\n\n").expect("a whole event");
        assert!(!text.contains('\r') && !text.contains("\n\n"), "no event within an event");
        let mut lines = text.split('\n');
        assert_eq!(lines.next(), Some("id: 000000ab-7"));
        let lines: Vec<_> = lines.map(|line| line.strip_prefix("data: ").expect("nothing but data")).collect();
        return lines.join("\n").into_bytes();
    }
    let (length, rest) = match bytes[1] {
        126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), &bytes[4..]),
        127 => panic!("longer than any of these"),
        short => (usize::from(short), &bytes[2..]),
    };
    assert_eq!((bytes[0], length), (0x81, rest.len()));
    rest.to_vec()
}

/// Whether a frame says of an event what its dialect is to say.
fn compare(
    dialect: &Dialect,
    encoding: Encoding,
    root: &str,
    topic: &str,
    frame: &Value,
    whole: Option<&Value>,
    payload: &[u8],
) {
    let v1 = encoding == Encoding::V1;
    let numbered = v1 || *dialect != Dialect::Gm;
    assert_eq!(
        (frame["seq"].as_u64(), frame["ts"].as_u64()),
        if numbered { (Some(TAIL.seq), Some(TAIL.ts_ms)) } else { (None, None) }
    );
    assert_eq!(frame["prev"].as_u64(), TAIL.prev.filter(|_| v1));
    let text = || Value::String(std::str::from_utf8(payload).expect("text").to_owned());
    let data = whole.cloned().unwrap_or_else(text);
    let (name, data) = match dialect {
        Dialect::Event => (format!("{root}.{topic}"), data),
        Dialect::App(avatars) => (format!("{root}.{topic}"), for_app(root, topic, data, avatars.as_deref())),
        Dialect::Gm => for_gm(topic, data),
        Dialect::Raw => unreachable!("it has no envelope"),
    };
    if *dialect == Dialect::Gm {
        assert_eq!(frame["subject"], name);
    } else {
        assert_eq!(frame["event"], name);
        let subject = matches!(dialect, Dialect::App(_)) && root == "arena";
        assert_eq!(frame.get("subject").and_then(Value::as_str), subject.then_some(topic));
    }
    assert_eq!(frame["data"], data);
}

fn for_gm(topic: &str, mut data: Value) -> (String, Value) {
    let tokens: Vec<_> = topic.split('.').collect();
    match (tokens.as_slice(), data.as_object_mut()) {
        (["agent", id, "output"], members) if !id.is_empty() => {
            if let Some(members) = members
                && let Some(content) = members.get("content").cloned()
            {
                members.insert("take".to_owned(), content);
            }
            ("agent.status".to_owned(), data)
        }
        _ => (topic.to_owned(), data),
    }
}

fn for_app(root: &str, topic: &str, data: Value, avatars: Option<&Avatars>) -> Value {
    if root == "gm" && !["reactions", "proposal", "images"].contains(&topic) {
        let Some(inner) = data.get("data").and_then(Value::as_object) else { return data };
        let mut inner = inner.clone();
        inner.entry("type").or_insert_with(|| data.get("type").cloned().unwrap_or_else(|| json!(topic)));
        return Value::Object(inner);
    }
    let Some(avatars) = avatars.filter(|_| root == "arena") else { return data };
    let picture = |members: &mut Map<String, Value>, name: &str, url: &str| {
        if let (Some(agent), false) = (members.get(name).and_then(Value::as_str), members.contains_key(url)) {
            let picture = json!(avatars.url(agent));
            members.insert(url.to_owned(), picture);
        }
    };
    let mut data = data;
    match &mut data {
        Value::Object(members) => {
            picture(members, "agent_name", "avatar_url");
            picture(members, "parent_name", "parent_avatar_url");
            picture(members, "child_name", "child_avatar_url");
            for list in ["agents", "graveyard"] {
                for agent in members.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    if let Some(agent) = agent.as_object_mut() {
                        picture(agent, "name", "avatar_url");
                    }
                }
            }
            for survivor in members.get_mut("survivors").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(name) = survivor.as_str() {
                    *survivor = json!({ "name": name, "avatar_url": avatars.url(name) });
                }
            }
        }
        Value::Array(elements) => {
            for agent in elements.iter_mut().filter_map(Value::as_object_mut) {
                picture(agent, "agent_name", "avatar_url");
            }
        }
        _ => {}
    }
    data
}
