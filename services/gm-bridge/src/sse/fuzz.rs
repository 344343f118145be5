//! Fuzzing target: what a Game Master sends, from bytes to what is published.

use std::sync::LazyLock;

use bytes::Bytes;
use herald_fuzz::{Target, cuts};
use herald_testkit::traces;
use serde_json::{Value, value::RawValue};

use super::{DATA, Reader, TooLarge};
use crate::{config::Config, game_master::GmEvent, redact::Redactor};

/// What a stream brings.
type Read = (Vec<Bytes>, Result<(), TooLarge>);

/// The rules that hold where nothing else is configured.
static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| {
    let rules = Config::default().redact;
    Redactor::new(&rules.iter().map(|rule| rule.parse().expect("a rule")).collect::<Vec<_>>())
});

fn read(pieces: &[&[u8]], limit: usize) -> (Read, Reader) {
    let (mut reader, mut events) = (Reader::new(limit), Vec::new());
    let fed = pieces.iter().try_for_each(|piece| reader.feed(piece, &mut events));
    ((events, fed), reader)
}

/// The same, as the standard says it, of a stream that is all there.
fn model(input: &[u8]) -> Vec<Vec<u8>> {
    let mut text = Vec::new();
    for (at, byte) in input.iter().enumerate() {
        match byte {
            b'\n' if at > 0 && input[at - 1] == b'\r' => {}
            b'\r' => text.push(b'\n'),
            byte => text.push(*byte),
        }
    }
    let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    // What no line end follows.
    lines.pop();
    if let Some(first) = lines.first_mut() {
        *first = first.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(first);
    }
    let (mut events, mut data) = (Vec::new(), Vec::new());
    for line in lines {
        if line.is_empty() {
            if !data.is_empty() {
                events.push(String::from_utf8_lossy(&data.join(&b'\n')).into_owned().into_bytes());
            }
            data.clear();
        } else if line == b"data" {
            data.push(&b""[..]);
        } else if let Some(value) = line.strip_prefix(b"data:") {
            data.push(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
    events
}

#[test]
fn streams() {
    let bodies = ["gm-propose.turn1.sse", "gm-choose.turn2.sse", "gm-error.propose-badjson.sse"].map(traces::read);
    // Some events each, so that one input is a short stream.
    let recorded = bodies.iter().flat_map(|body| body.chunks(1200).step_by(3));
    Target::new("streams")
        .seeds(recorded)
        .seeds([
            "\u{feff}: hi\r\ndata: {\"é\":\"🎲\"}\r\n\r\ndata:a\rdata: b\r\revent: x\nid: 1\nretry: 5\ndata:  c\n\n",
            "data: {\"type\":\"proposal\",\"data\":{\"gm_secret\":{\"plan\":\"x\"},\"news\":[1]}}\n\n",
            "data: {\"type\":\"heartbeat\"}\n\ndata: {\"type\":\"_action\",\"n\":1}\n\ndata: {\"type\":\"result\",\"data\":\"ok\"}\n\n",
            "data: a\n\ndata: 0123456789012345678901234567890123456789\n\n",
        ])
        .tokens([
            "data: ", "data:", "data", "\n\n", "\r\n\r\n", "\r", ": c\n", "event: x\n", "id: 1\n", "\u{feff}", "{\"type\":", "\"proposal\"",
            "\"gm_secret\":", "\"gm_\\u0073ecret\":1,", "\"data\":{", "}", "\"_action\"", "\"heartbeat\"", "\\ud800", "NaN", "\"a.b\"",
        ])
        .run(|input| {
            let limit = [40, 300, 1 << 20][input.len() % 3];
            let (whole, reader) = read(&[input], limit);
            assert!(reader.line.len() <= limit + DATA.len() && reader.data.as_ref().map_or(0, Vec::len) <= limit + DATA.len());
            for at in cuts(input) {
                let (front, back) = input.split_at(at);
                let (cut, its_reader) = read(&[front, b"", back], limit);
                assert_eq!(cut, whole, "cut at {at}");
                assert!(whole.1.is_err() || its_reader == reader, "cut at {at}");
            }
            let (bytewise, _) = read(&input.chunks(1).collect::<Vec<_>>(), limit);
            assert_eq!(bytewise, whole, "byte by byte");
            let (events, end) = whole;
            let expected = model(input);
            assert!(expected.len() >= events.len() && expected.iter().zip(&events).all(|(one, other)| one == other));
            assert!(end.is_err() || events.len() == expected.len());
            let published: Vec<_> = events.into_iter().map(|event| published(event, limit)).collect();
            (end.is_ok(), published.len().min(6), published.into_iter().take(4).collect::<Vec<_>>())
        });
}

/// What becomes of the data of an event.
fn published(data: Bytes, limit: usize) -> Option<(bool, bool, bool)> {
    assert!(data.len() <= limit, "an event of {} bytes where {limit} are allowed", data.len());
    let valid = serde_json::from_slice::<&RawValue>(&data).is_ok();
    let event = GmEvent::read(data.clone());
    assert_eq!(event.is_some(), valid);
    let event = event?;
    let name = event.event_type.as_str();
    assert!(!name.starts_with('_') && !name.contains(['.', '*', '>', ' ']));
    assert_eq!(event.json, data, "as received");
    let shown = REDACTOR.apply(&event.event_type, event.json.clone()).expect("JSON");
    assert!(serde_json::from_slice::<&RawValue>(&shown).is_ok() && shown.len() <= data.len());
    if let Ok(value) = serde_json::from_slice::<Value>(&data) {
        let kind = value.get("type").and_then(Value::as_str).unwrap_or_default();
        assert!(name == kind || name == "unknown", "{name} {kind}");
    }
    if let (Ok(shown), "proposal") = (serde_json::from_slice::<Value>(&shown), name) {
        assert_eq!(shown.pointer("/data/gm_secret"), None);
    }
    Some((event.is_last(), name == "unknown", shown.len() < data.len()))
}
